"""Computes a program in pieces, as hardware and fast kernels do: any area and any output channels of a
chain, and chains that run row by row with only the lines under one window.
"""

from collections.abc import Callable
from dataclasses import replace

import numpy as np
from npu.chain import EXPANDER_KERNEL, Chain, Kind, Tensor
from npu.oracle import Oracle
from npu.program import Program

Read = Callable[[int, range, range], np.ndarray]  # tensor, rows, columns -> [rows, columns, channels]


def under(program: Program, chain: Chain, axis: int, wanted: range) -> tuple[range, int]:
    """Rows (axis 0) or columns (1) of the source that these of the target look at, and how many in front of
    them are padding.
    """
    reach, before = chain.extent[axis], chain.pad[axis]
    if chain.kind is Kind.EXPAND:
        reach, before = EXPANDER_KERNEL, before + (EXPANDER_KERNEL - chain.kernel[axis]) // 2
    first = wanted.start * chain.stride[axis] - before
    last = (wanted.stop - 1) * chain.stride[axis] - before + reach
    length = program.tensors[chain.source].shape[axis]
    return range(max(first, 0), max(min(last, length), 0)), max(-first, 0)


def cut_out(
    program: Program, index: int, area: tuple[range, range], channels: range, read: Read
) -> tuple[Program, dict[int, np.ndarray]]:
    """A program of one chain for these rows, columns and output channels of chain `index`, and its tensors: 0
    the source, 1 the residual. It knows nothing of the rest; without weights it has all channels.
    """
    chain = program.chains[index]
    (lines, above), (columns, left) = (under(program, chain, axis, area[axis]) for axis in (0, 1))
    kernel = chain.kernel
    if chain.kind is Kind.EXPAND:  # the whole window is the kernel: what was cut off is no margin
        kernel = (EXPANDER_KERNEL, EXPANDER_KERNEL)
    tensors = {0: read(chain.source, lines, columns)}
    if chain.residual is not None:
        across = [
            range(wanted.start * step, (wanted.stop - 1) * step + 1)
            for wanted, step in zip(area, chain.residual_stride, strict=True)
        ]
        seen = read(chain.residual, *across)
        tensors[1] = seen if chain.kind is Kind.CONCAT else seen[..., channels.start : channels.stop]
    small = replace(
        chain,
        kernel=kernel,
        pad=(above, left),
        source=0,
        residual=None if chain.residual is None else 1,
        target=2,
    )
    result = (len(area[0]), len(area[1]), len(channels))
    mantissas, exponents = program.weights(index)
    chosen = slice(channels.start, channels.stop)
    vectors = [numbers[chosen] for numbers in program.scale_and_bias(index) if numbers is not None]
    part = replace(
        program,
        tensors=tuple(Tensor(*shape) for shape in (tensors[0].shape, tensors[max(tensors)].shape, result)),
        chains=(small,),
        chain_names=("piece",),
        mantissas=mantissas[chosen].ravel(),
        exponents=exponents[chosen].ravel(),
        vectors=np.concatenate([np.zeros(0, np.float16), *vectors]),
        outputs=(),
    )
    return part, tensors


def piece(program: Program, index: int, area: tuple[range, range], channels: range, read: Read) -> np.ndarray:
    """What the oracle makes of that one-chain program: [rows, columns, channels]."""
    part, tensors = cut_out(program, index, area, channels, read)
    return Oracle(part)._chain(0, part.chains[0], tensors)


class Streamed:
    """Rows on demand: a tensor with one reader keeps only the lines that the reader may still look at."""

    def __init__(self, program: Program, edge: np.ndarray) -> None:
        self.program = program
        self.lines: list[dict[int, np.ndarray]] = [{} for _ in program.tensors]
        self.lines[0] = dict(enumerate(edge))
        self.next = [0] * len(program.tensors)
        self.writer = {chain.target: index for index, chain in enumerate(program.chains)}
        reads = [t for chain in program.chains for t in (chain.source, chain.residual)]
        kept = {0, *program.output_tensors}
        self.streamed = {t for t in self.writer if reads.count(t) == 1 and t not in kept}
        self.most = dict.fromkeys(self.streamed, 0)

    def read(self, tensor: int, rows: range, columns: range) -> np.ndarray:
        for row in rows:
            if row not in self.lines[tensor]:
                self.compute(tensor, row)
        return np.stack([self.lines[tensor][row][columns.start : columns.stop] for row in rows])

    def compute(self, tensor: int, row: int) -> None:
        index = self.writer[tensor]
        chain, target = self.program.chains[index], self.program.tensors[tensor]
        assert row >= self.next[tensor], "a line that was let go is wanted again"
        self.next[tensor] = row + 1
        area = range(row, row + 1), range(target.width)
        line = piece(self.program, index, area, range(target.channels), self.read)
        self.lines[tensor][row] = line[0]
        if tensor in self.most:
            self.most[tensor] = max(self.most[tensor], len(self.lines[tensor]))
        if chain.source in self.streamed and row + 1 < target.height:
            needed, _ = under(self.program, chain, 0, range(row + 1, row + 2))
            for old in [line for line in self.lines[chain.source] if line < needed.start]:
                del self.lines[chain.source][old]

    def tensor(self, index: int) -> np.ndarray:
        height, width, _ = self.program.tensors[index].shape
        return self.read(index, range(height), range(width))
