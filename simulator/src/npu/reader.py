"""Reading program bytes strictly: whatever a writer of this version would not have written is refused.

A program may come from a stranger's image, so nothing is believed: sizes are checked before memory is taken,
geometry and order of execution before anything runs.
"""

import hashlib
import struct
from typing import NoReturn

import numpy as np

from npu import program as layout
from npu.bfp import PRESETS, Accumulation, Preset, Rounding
from npu.chain import (
    EXPANDER_CHANNELS,
    EXPANDER_KERNEL,
    MAX_KERNEL,
    MAX_NUMBERS,
    MAX_SIDE,
    NATIVE_DIM,
    Chain,
    Files,
    Kind,
    Need,
    Stage,
    Tensor,
    blocks,
)
from npu.errors import ProgramError
from npu.program import Program, WeightRange, weight_ranges
from npu.registers import contradiction, need_of

__all__ = ["read"]

MAX_NAME = 4_096
MAX_CHAINS = 2_048


def read(data: bytes) -> Program:
    """Return the program that `data` spells, or raise ProgramError."""
    sections = _sections(bytes(data))
    preset, rounding = _form(sections[b"FORM"])
    names = _names(sections[b"NAME"])
    tensors = tuple(
        _tensor(index, raw) for index, raw in enumerate(_records(sections, b"TENS", layout.TENSOR))
    )
    raw_chains = _records(sections, b"CHNS", layout.CHAIN)
    chains = tuple(_chain(index, raw, len(tensors), preset) for index, raw in enumerate(raw_chains))
    if len(chains) > MAX_CHAINS or len(names) != 2 + len(chains):
        _refuse(f"{len(chains)} chains and {len(names)} names do not go together")
    _check_order(chains, tensors)
    for index, chain in enumerate(chains):
        _check_geometry(index, chain, tensors)
    ranges = tuple(weight_ranges(chains, tensors, preset))
    for index, (raw, part) in enumerate(zip(raw_chains, ranges, strict=True)):
        if raw[-3:] != (part.mantissas.start, part.exponents.start, part.vectors.start):
            _refuse(f"chain {index}: its weights are not where they belong")
    _check_sizes(sections, ranges[-1])
    program = Program(
        name=names[0],
        sku=names[1],
        preset=preset,
        rounding=rounding,
        tensors=tensors,
        chains=chains,
        chain_names=names[2:],
        mantissas=np.frombuffer(sections[b"WMAN"], np.int8),
        exponents=np.frombuffer(sections[b"WEXP"], np.int8),
        vectors=np.frombuffer(sections[b"VECS"], "<f2").astype(np.float16),
        need=_need(sections[b"NEED"]),
    )
    _check_numbers(program)
    _check_need(program)
    return program


def _refuse(what: str) -> NoReturn:
    raise ProgramError(f"not a valid program: {what}; compile the model again")


def _sections(data: bytes) -> dict[bytes, bytes]:
    if len(data) < layout.HEADER.size or data[:8] != layout.MAGIC:
        _refuse("it does not start with a program's header")
    _, version, header_size, count, total, digest = layout.HEADER.unpack_from(data)
    if version != layout.VERSION:
        raise ProgramError(
            f"program version {version} is unknown here (this reader knows version {layout.VERSION}); "
            "compile the model again, or update the device"
        )
    if header_size != layout.HEADER.size or data[56:64] != bytes(8) or count != len(layout.SECTIONS):
        _refuse("its header is damaged")
    if total != len(data):
        _refuse(f"it has {len(data)} bytes and its header says {total}")
    if hashlib.sha256(data[layout.HEADER.size :]).digest() != digest:
        _refuse("its digest does not match its bytes")
    expected = layout.HEADER.size + layout.SECTION.size * count
    if expected > len(data):
        _refuse("its section table is cut off")
    sections: dict[bytes, bytes] = {}
    for index, tag in enumerate(layout.SECTIONS):
        at = layout.HEADER.size + layout.SECTION.size * index
        found, offset, size = layout.SECTION.unpack_from(data, at)
        gap = -expected % layout.ALIGNMENT
        if found != tag or data[at + 4 : at + 8] != bytes(4) or offset != expected + gap:
            _refuse(f"section {index} is not {tag.decode()} at its place")
        if offset + size > len(data) or data[expected:offset] != bytes(gap):
            _refuse(f"section {tag.decode()} is out of bounds")
        sections[tag] = data[offset : offset + size]
        expected = offset + size
    if expected != len(data):
        _refuse("bytes follow its last section")
    return sections


def _records(sections: dict[bytes, bytes], tag: bytes, record: struct.Struct) -> list[tuple[int, ...]]:
    content = sections[tag]
    if not content or len(content) % record.size:
        _refuse(f"section {tag.decode()} does not hold whole records")
    rows = list(record.iter_unpack(content))
    if b"".join(record.pack(*row) for row in rows) != content:  # catches bytes that must be zero
        _refuse(f"section {tag.decode()} has numbers in reserved places")
    return rows


def _form(content: bytes) -> tuple[Preset, Rounding]:
    if len(content) != layout.FORM.size:
        _refuse("section FORM has a wrong size")
    native, box, exponent_bits, mantissa_bits, rounding, accumulation = layout.FORM.unpack(content)
    if content != layout.FORM.pack(native, box, exponent_bits, mantissa_bits, rounding, accumulation):
        _refuse("section FORM has numbers in reserved places")
    if native != NATIVE_DIM or rounding not in {mode.value for mode in Rounding}:
        _refuse(f"native dimension {native} or rounding {rounding} is unknown")
    for preset in PRESETS.values():
        if (box, exponent_bits, mantissa_bits, accumulation) == (
            preset.box,
            preset.exponent_bits,
            preset.mantissa_bits,
            preset.accumulation.value,
        ):
            return preset, Rounding(rounding)
    _refuse(f"box {box}, {exponent_bits}e, {mantissa_bits}m, accumulation {accumulation} is not in the table")


def _names(content: bytes) -> tuple[str, ...]:
    names: list[str] = []
    at = 4
    try:
        (count,) = struct.unpack_from("<I", content)
        while at < len(content):
            (length,) = struct.unpack_from("<I", content, at)
            if length > MAX_NAME or at + 4 + length > len(content):
                _refuse("a name is out of bounds")
            names.append(content[at + 4 : at + 4 + length].decode())
            at += 4 + length
    except (struct.error, UnicodeDecodeError):
        _refuse("section NAME is damaged")
    if len(names) != count or count < 2:
        _refuse("section NAME is cut off")
    return tuple(names)


def _tensor(index: int, raw: tuple[int, ...]) -> Tensor:
    height, width, channels, files, matrix, float16 = raw
    if not (0 < height <= MAX_SIDE and 0 < width <= MAX_SIDE and 0 < channels <= MAX_SIDE):
        _refuse(f"tensor {index} has the shape {height}x{width}x{channels}")
    if height * width * channels > MAX_NUMBERS or files > 7:
        _refuse(f"tensor {index} is larger than any device, or its files are unknown")
    return Tensor(height, width, channels, Files(files), matrix, float16)


def _chain(index: int, raw: tuple[int, ...], tensors: int, preset: Preset) -> Chain:
    kind, accumulation, stage, group, kh, kw, sh, sw, dh, dw, top, left, rh, rw, source, residual, target = (
        raw[:17]
    )
    if kind not in {known.value for known in Kind} or stage > 15:
        _refuse(f"chain {index} is of an unknown kind")
    if accumulation != preset.accumulation.value:
        _refuse(f"chain {index}: accumulation {accumulation} is not allowed with {preset.name}")
    if not (0 < kh <= MAX_KERNEL and 0 < kw <= MAX_KERNEL and min(sh, sw, dh, dw, rh, rw) > 0):
        _refuse(f"chain {index} has the kernel {kh}x{kw}, stride {sh}x{sw}, dilation {dh}x{dw}")
    other = None if residual == layout.NO_TENSOR else residual
    if max(source, target, other or 0) >= tensors or (other is None) == (Stage.RESIDUAL in Stage(stage)):
        _refuse(f"chain {index} names a tensor that does not exist")
    return Chain(
        Kind(kind),
        Accumulation(accumulation),
        Stage(stage),
        (kh, kw),
        (sh, sw),
        (dh, dw),
        (top, left),
        source,
        target,
        other,
        (rh, rw),
        group,
    )


def _check_order(chains: tuple[Chain, ...], tensors: tuple[Tensor, ...]) -> None:
    written = {0}
    for index, chain in enumerate(chains):
        if chain.source not in written or chain.residual not in written | {None}:
            _refuse(f"chain {index} reads what no earlier chain has written")
        if chain.target in written:
            _refuse(f"chain {index} writes tensor {chain.target} a second time")
        written.add(chain.target)
    if len(written) != len(tensors):
        _refuse("it has tensors that nobody writes")


def _check_geometry(index: int, chain: Chain, tensors: tuple[Tensor, ...]) -> None:
    source, target = tensors[chain.source], tensors[chain.target]
    after = chain.pad_after(source, target)
    for axis in (0, 1):
        if max(chain.pad[axis], after[axis]) >= chain.extent[axis] or after[axis] <= -chain.stride[axis]:
            _refuse(f"chain {index}: {source.shape} does not become {target.shape}")
    other = target if chain.residual is None else tensors[chain.residual]
    rows, columns = (blocks(s, step) for s, step in zip(other.shape[:2], chain.residual_stride, strict=True))
    if (rows, columns, other.channels) != target.shape:
        _refuse(f"chain {index} adds a tensor of another shape")
    if chain.kind in (Kind.IDENTITY, Kind.MAX_POOL) and source.channels != target.channels:
        _refuse(f"chain {index} changes the number of channels without weights")
    if chain.kind is Kind.IDENTITY and (source.shape != target.shape or chain.extent != (1, 1)):
        _refuse(f"chain {index} is an identity with a window")
    if chain.kind is Kind.MAX_POOL and (chain.stage or chain.dilation != (1, 1)):
        _refuse(f"chain {index} is a pool with a float16 stage or dilation")
    if chain.kind is Kind.EXPAND and (
        chain.source != 0
        or source.channels > EXPANDER_CHANNELS
        or max(chain.kernel) > EXPANDER_KERNEL
        or chain.dilation != (1, 1)
    ):
        _refuse(f"chain {index} is not what the Expander can do")
    if chain.kind in (Kind.CONV, Kind.EXPAND) and Stage.BIAS not in chain.stage:
        _refuse(f"chain {index} has no bias")


def _check_sizes(sections: dict[bytes, bytes], last: WeightRange) -> None:
    expected = {b"WMAN": last.mantissas.stop, b"WEXP": last.exponents.stop, b"VECS": 2 * last.vectors.stop}
    for tag, size in expected.items():
        if len(sections[tag]) != size:
            _refuse(f"section {tag.decode()} has {len(sections[tag])} bytes, its chains need {size}")


def _check_numbers(program: Program) -> None:
    preset = program.preset
    if program.mantissas.size and (
        int(program.mantissas.max()) > preset.mantissa_max
        or int(program.mantissas.min()) < -preset.mantissa_max
    ):
        _refuse(f"mantissas beyond {preset.mantissa_bits} bits")
    if program.exponents.size and (
        int(program.exponents.max()) > preset.exponent_max
        or int(program.exponents.min()) < preset.exponent_min
    ):
        _refuse(f"exponents beyond {preset.exponent_bits} bits")
    if not np.isfinite(program.vectors).all():
        _refuse("scales or biases that are not finite")


def _need(content: bytes) -> Need:
    if len(content) != layout.NEED.size or content[-4:] != bytes(4):
        _refuse("section NEED is damaged")
    return Need(*layout.NEED.unpack(content))


def _check_need(program: Program) -> None:
    wrong = contradiction(program.chains, program.tensors)
    if wrong is not None:
        _refuse(wrong)
    if program.need != need_of(program.chains, program.tensors):
        _refuse("it does not need what it says it needs")
