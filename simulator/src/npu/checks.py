"""What a program must say so that it can be run at all: order, geometry, registers, needs, numbers.

The reader applies these to a stranger's bytes; nothing here knows how they are spelt.
"""

from collections.abc import Sequence
from typing import NoReturn

import numpy as np

from npu.bfp import Accumulation
from npu.chain import (
    EXPANDER_CHANNELS,
    EXPANDER_KERNEL,
    MAX_NUMBERS,
    Chain,
    Kind,
    Load,
    Need,
    Stage,
    Tensor,
    blocks,
)
from npu.errors import ProgramError
from npu.program import Program
from npu.registers import contradiction, need_of
from npu.schedule import load_contradiction

__all__ = ["check_chains", "check_meaning", "check_numbers", "refuse"]

ALONE = (1, 1)
POOLS = (Kind.MAX_POOL, Kind.AVERAGE_POOL)
MATRICES = (Kind.CONV, Kind.EXPAND)


def refuse(what: str) -> NoReturn:
    """Raise the ProgramError that says so, with the cure."""
    raise ProgramError(f"not a valid program: {what}; compile the model again")


def check_meaning(
    chains: Sequence[Chain],
    tensors: Sequence[Tensor],
    outputs: Sequence[int],
    loads: Sequence[Load] | None,
    need: Need,
    version: int,
) -> None:
    """Refuse chains that cannot be executed in this order on these tensors, or that need another machine.

    Version 1 says no `loads`. They need not be what today's planner would choose: any plan that feeds every
    chain in time is one.
    """
    check_chains(chains, tensors)
    _check_outputs(chains, tensors, outputs, version)
    wrong = contradiction(chains, tensors)
    if wrong is None and loads is not None:
        wrong = load_contradiction(chains, tensors, loads)
    if wrong is not None:
        refuse(wrong)
    if need != need_of(chains, tensors):
        refuse("it does not need what it says it needs")


def check_chains(chains: Sequence[Chain], tensors: Sequence[Tensor]) -> None:
    """Refuse chains whose order or geometry is impossible. Whoever asks for registers, needs or loads does this
    first: those take time and memory in proportion to what the chains say.
    """
    _check_order(chains, tensors)
    for index, chain in enumerate(chains):
        _check_window(index, chain, tensors)
        _check_residual(index, chain, tensors)
        _check_kind(index, chain, tensors)


def check_numbers(program: Program) -> None:
    """Refuse weights that the format cannot hold, vectors that are not finite, and other means than means."""
    preset = program.preset
    for name, numbers, least, most in (
        ("mantissas", program.mantissas, -preset.mantissa_max, preset.mantissa_max),
        ("exponents", program.exponents, preset.exponent_min, preset.exponent_max),
    ):
        if numbers.size and (int(numbers.min()) < least or int(numbers.max()) > most):
            bits = preset.mantissa_bits if name == "mantissas" else preset.exponent_bits
            refuse(f"{name} beyond {bits} bits")
    if not np.isfinite(program.vectors).all():
        refuse("scales or biases that are not finite")
    for index, chain in enumerate(program.chains):
        if chain.kind is Kind.AVERAGE_POOL:
            share = np.float16(1 / (chain.kernel[0] * chain.kernel[1]))
            if (program.vectors[program.ranges[index].vectors] != share).any():
                refuse(f"chain {index} is an average pool that scales by something else than {share}")


def _check_order(chains: Sequence[Chain], tensors: Sequence[Tensor]) -> None:
    written = {0}
    for index, chain in enumerate(chains):
        if chain.source not in written or chain.residual not in written | {None}:
            refuse(f"chain {index} reads what no earlier chain has written")
        if chain.target in written:
            refuse(f"chain {index} writes tensor {chain.target} a second time")
        written.add(chain.target)
    if len(written) != len(tensors):
        refuse("it has tensors that nobody writes")


def _check_outputs(
    chains: Sequence[Chain], tensors: Sequence[Tensor], outputs: Sequence[int], version: int
) -> None:
    for place, tensor in enumerate(outputs):
        if not 0 < tensor < len(tensors):
            refuse(f"output {place} is tensor {tensor}, which no chain writes")
    if len(set(outputs)) != len(outputs):
        refuse("an output is named twice")
    used = {0, *outputs, *(t for chain in chains for t in (chain.source, chain.residual) if t is not None)}
    if version > 1 and len(used) != len(tensors):  # version 1 could say it, and computed for nothing
        refuse(f"tensor {min(set(range(len(tensors))) - used)} is neither read nor an output")


def _check_window(index: int, chain: Chain, tensors: Sequence[Tensor]) -> None:
    source, target = tensors[chain.source], tensors[chain.target]
    after = chain.pad_after(source, target)
    for axis in (0, 1):
        if max(chain.pad[axis], after[axis]) >= chain.extent[axis] or after[axis] <= -chain.stride[axis]:
            refuse(f"chain {index}: {source.shape} does not become {target.shape}")
    if (numbers := chain.workspace(source, target)) > MAX_NUMBERS:
        refuse(f"chain {index} needs an array of {numbers} numbers, more than any device has")


def _check_residual(index: int, chain: Chain, tensors: Sequence[Tensor]) -> None:
    """What is added has the target's shape; what is concatenated fills the channels behind the source's."""
    if chain.residual is None:
        if chain.residual_stride != ALONE:
            refuse(f"chain {index} has a stride for a residual, and none")
        return
    target, other = tensors[chain.target], tensors[chain.residual]
    rows, columns = (blocks(s, step) for s, step in zip(other.shape[:2], chain.residual_stride, strict=True))
    before = tensors[chain.source].channels if chain.kind is Kind.CONCAT else 0
    if (rows, columns, before + other.channels) != target.shape:
        refuse(f"chain {index} adds a tensor of another shape")


def _check_kind(index: int, chain: Chain, tensors: Sequence[Tensor]) -> None:
    source, target, kind = tensors[chain.source], tensors[chain.target], chain.kind
    if kind in (Kind.IDENTITY, *POOLS) and source.channels != target.channels:
        refuse(f"chain {index} changes the number of channels without weights")
    if kind is Kind.IDENTITY and not (source.shape == target.shape and chain.kernel == chain.stride == ALONE):
        refuse(f"chain {index} is an identity with a window or a stride")
    if kind is not Kind.CONV and chain.dilation != ALONE:
        refuse(f"chain {index} has a dilation, which only convolutions have")
    if kind in POOLS and chain.stage != (Stage.NONE if kind is Kind.MAX_POOL else Stage.SCALE):
        refuse(f"chain {index} is a pool with another float16 stage than its own")
    if kind is Kind.CONCAT and (
        chain.stage != Stage.RESIDUAL
        or source.shape[:2] != target.shape[:2]
        or not (chain.kernel == chain.stride == chain.residual_stride == ALONE)
    ):
        refuse(f"chain {index} is a concatenation with a window, a stride or a float16 stage")
    if kind is Kind.EXPAND and (
        chain.source != 0 or source.channels > EXPANDER_CHANNELS or max(chain.kernel) > EXPANDER_KERNEL
    ):
        refuse(f"chain {index} is not what the Expander can do")
    if kind in MATRICES and Stage.BIAS not in chain.stage:
        refuse(f"chain {index} has no bias")
    if chain.accumulation is Accumulation.FP16_TAPS and (kind is not Kind.CONV or Stage.SCALE in chain.stage):
        refuse(f"chain {index} adds taps in float16, which only convolutions without scale do")
