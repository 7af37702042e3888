"""Reading program bytes strictly: whatever a writer of their version would not have written is refused.

A program may come from a stranger's image, so nothing is believed: sizes are checked before memory is taken,
geometry and order of execution (`npu.checks`) before anything runs. Reading takes memory in proportion to the
bytes given, whatever they say.
"""

import hashlib
import struct
from collections.abc import Iterator
from contextlib import suppress

import numpy as np

from npu import program as layout
from npu.bfp import PRESETS, Accumulation, Preset, Rounding
from npu.chain import MAX_KERNEL, MAX_NUMBERS, MAX_SIDE, Chain, Files, Kind, Load, Need, Stage, Tensor
from npu.checks import check_meaning, check_numbers, refuse
from npu.errors import CompileError, ProgramError
from npu.program import Program, weight_ranges
from npu.schedule import plan_loads
from npu.sku import load_sku

__all__ = ["read"]

MAX_NAME = 4_096
MAX_CHAINS = 2_048
MAX_RECORDS = {b"TENS": MAX_CHAINS + 1, b"CHNS": MAX_CHAINS, b"OUTS": MAX_CHAINS, b"LODS": 1 << 16}
MAY_BE_EMPTY = frozenset({b"LODS"})  # all weights stay in the matrix registers
OLD_KINDS = 3  # version 1 knew the kinds up to MAX_POOL


def read(data: bytes) -> Program:
    """Return the program that `data` spells; ProgramError says what is off, SkuError that its SKU is unknown."""
    version, sections = _sections(data)
    names = _names(sections[b"NAME"])
    sku = load_sku(names[1])
    native_dim = sku.native_dim
    preset, rounding = _form(sections[b"FORM"], native_dim)
    tensors = tuple(
        _tensor(index, raw, native_dim, version)
        for index, raw in enumerate(_records(sections, b"TENS", layout.TENSOR))
    )
    raw_chains = _records(sections, b"CHNS", layout.CHAIN)
    chains = tuple(_chain(index, raw, len(tensors), preset, version) for index, raw in enumerate(raw_chains))
    if len(names) != 2 + len(chains):
        refuse(f"{len(chains)} chains and {len(names) - 2} names of chains do not go together")
    named = _records(sections, b"OUTS", layout.OUTPUT) if version > 1 else [(chains[-1].target,)]
    outputs = tuple(row[0] for row in named)
    loads = tuple(Load(*raw) for raw in _records(sections, b"LODS", layout.LOAD)) if version > 1 else None
    need = _need(sections[b"NEED"])
    check_meaning(chains, tensors, outputs, loads, need, version)
    ranges = tuple(weight_ranges(chains, tensors, preset))
    for index, (raw, part) in enumerate(zip(raw_chains, ranges, strict=True)):
        if raw[-3:] != (part.mantissas.start, part.exponents.start, part.vectors.start):
            refuse(f"chain {index}: its weights are not where they belong")
    last = ranges[-1]
    for tag, size in (
        (b"WMAN", last.mantissas.stop),
        (b"WEXP", last.exponents.stop),
        (b"VECS", 2 * last.vectors.stop),
    ):
        if len(sections[tag]) != size:
            refuse(f"section {tag.decode()} has {len(sections[tag])} bytes, its chains need {size}")
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
        need=need,
        native_dim=native_dim,
        outputs=outputs,
        loads=plan_loads(chains, tensors, sku) if loads is None else loads,
        version=version,
    )
    check_numbers(program)
    return program


def _sections(data: bytes) -> tuple[int, dict[bytes, memoryview]]:
    """The version, and each section's bytes; the frame around them is as a writer would have made it."""
    view = memoryview(bytes(data))
    if len(view) < layout.HEADER.size or view[:8] != layout.MAGIC:
        refuse("it does not start with a program's header")
    _, version, header_size, count, total, digest = layout.HEADER.unpack_from(view)
    if version not in layout.VERSIONS:
        raise ProgramError(
            f"program version {version} is unknown here (this reader knows {layout.VERSIONS[0]} to "
            f"{layout.VERSION}); compile the model again, or update the device"
        )
    tags = layout.sections_of(version)
    if header_size != layout.HEADER.size or view[56:64] != bytes(8) or count != len(tags):
        refuse("its header is damaged")
    if total != len(view):
        refuse(f"it has {len(view)} bytes and its header says {total}")
    if hashlib.sha256(view[layout.HEADER.size :]).digest() != digest:
        refuse("its digest does not match its bytes")
    expected = layout.HEADER.size + layout.SECTION.size * count
    if expected > len(view):
        refuse("its section table is cut off")
    sections: dict[bytes, memoryview] = {}
    for index, tag in enumerate(tags):
        at = layout.HEADER.size + layout.SECTION.size * index
        found, offset, size = layout.SECTION.unpack_from(view, at)
        gap = -expected % layout.ALIGNMENT
        if found != tag or view[at + 4 : at + 8] != bytes(4) or offset != expected + gap:
            refuse(f"section {index} is not {tag.decode()} at its place")
        if offset + size > len(view) or view[expected:offset] != bytes(gap):
            refuse(f"section {tag.decode()} is out of bounds")
        sections[tag] = view[offset : offset + size]
        expected = offset + size
    if expected != len(view):
        refuse("bytes follow its last section")
    return version, sections


def _records(sections: dict[bytes, memoryview], tag: bytes, record: struct.Struct) -> list[tuple[int, ...]]:
    content = sections[tag]
    if len(content) % record.size or (not content and tag not in MAY_BE_EMPTY):
        refuse(f"section {tag.decode()} does not hold whole records")
    if len(content) > MAX_RECORDS[tag] * record.size:
        refuse(
            f"section {tag.decode()} has {len(content) // record.size} records, {MAX_RECORDS[tag]} at most"
        )
    rows = list(record.iter_unpack(content))
    if b"".join(record.pack(*row) for row in rows) != content:  # catches bytes that must be zero
        refuse(f"section {tag.decode()} has numbers in reserved places")
    return rows


def _form(content: memoryview, native_dim: int) -> tuple[Preset, Rounding]:
    if len(content) != layout.FORM.size:
        refuse("section FORM has a wrong size")
    native, box, exponent_bits, mantissa_bits, rounding, accumulation = layout.FORM.unpack(content)
    if content != layout.FORM.pack(native, box, exponent_bits, mantissa_bits, rounding, accumulation):
        refuse("section FORM has numbers in reserved places")
    if native != native_dim:
        refuse(f"native dimension {native} is not the {native_dim} of its SKU")
    if rounding not in {mode.value for mode in Rounding}:
        refuse(f"rounding {rounding} is unknown")
    table = {_spelt(preset): preset for preset in _presets_on(native_dim)}
    preset = table.get((box, exponent_bits, mantissa_bits, accumulation))
    if preset is None:
        refuse(
            f"box {box}, {exponent_bits}e, {mantissa_bits}m, accumulation {accumulation} is not in the table"
        )
    return preset, Rounding(rounding)


def _spelt(preset: Preset) -> tuple[int, int, int, int]:
    return preset.box, preset.exponent_bits, preset.mantissa_bits, preset.accumulation.value


def _presets_on(native_dim: int) -> Iterator[Preset]:
    for preset in PRESETS.values():
        with suppress(CompileError):  # its boxes do not fill such vectors
            yield preset.on(native_dim)


def _names(view: memoryview) -> tuple[str, ...]:
    content = view.tobytes()
    names: list[str] = []
    at = 4
    try:
        (count,) = struct.unpack_from("<I", content)
        if count > 2 + MAX_CHAINS:
            refuse(f"section NAME says {count} names, {2 + MAX_CHAINS} at most")
        while at < len(content) and len(names) < count:
            (length,) = struct.unpack_from("<I", content, at)
            if length > MAX_NAME or at + 4 + length > len(content):
                refuse("a name is out of bounds")
            names.append(content[at + 4 : at + 4 + length].decode())
            at += 4 + length
    except (struct.error, UnicodeDecodeError):
        refuse("section NAME is damaged")
    if len(names) != count or at != len(content) or count < 2:
        refuse("section NAME is cut off, or longer than its names")
    return tuple(names)


def _tensor(index: int, raw: tuple[int, ...], native_dim: int, version: int) -> Tensor:
    height, width, channels, files, matrix, float16, pitch = raw
    if not (0 < height <= MAX_SIDE and 0 < width <= MAX_SIDE and 0 < channels <= MAX_SIDE):
        refuse(f"tensor {index} has the shape {height}x{width}x{channels}")
    if height * width * channels > MAX_NUMBERS or files > 7:
        refuse(f"tensor {index} is larger than any device, or its files are unknown")
    tensor = Tensor(height, width, channels, Files(files), matrix, float16, pitch, native_dim)
    if (matrix and Files.MATRIX not in tensor.files) or (float16 and Files.FLOAT16 not in tensor.files):
        refuse(f"tensor {index} has an address in a file that it is not in")
    if pitch and (version == 1 or not tensor.depth <= pitch <= MAX_SIDE):
        refuse(f"tensor {index} has the pitch {pitch}; its {channels} channels fill {tensor.depth} vectors")
    return tensor


def _chain(index: int, raw: tuple[int, ...], tensors: int, preset: Preset, version: int) -> Chain:
    kind, accumulation, stage, group, kh, kw, sh, sw, dh, dw, top, left, rh, rw, source, residual, target = (
        raw[:17]
    )
    if kind > (OLD_KINDS if version == 1 else max(known.value for known in Kind)) or stage > 15:
        refuse(f"chain {index} is of an unknown kind")
    allowed = {mode.value for mode in preset.accumulations}
    if accumulation not in ({preset.accumulation.value} if version == 1 else allowed):
        refuse(f"chain {index}: accumulation {accumulation} is not allowed with {preset.name}")
    if not (0 < kh <= MAX_KERNEL and 0 < kw <= MAX_KERNEL and min(sh, sw, dh, dw, rh, rw) > 0):
        refuse(f"chain {index} has the kernel {kh}x{kw}, stride {sh}x{sw}, dilation {dh}x{dw}")
    other = None if residual == layout.NO_TENSOR else residual
    if max(source, target, other or 0) >= tensors:
        refuse(f"chain {index} names a tensor that does not exist")
    if (other is None) == (Stage.RESIDUAL in Stage(stage)):
        refuse(f"chain {index} has a residual that it does not add, or adds one that it does not have")
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


def _need(content: memoryview) -> Need:
    if len(content) != layout.NEED.size or content[-4:] != bytes(4):
        refuse("section NEED is damaged")
    return Need(*layout.NEED.unpack(content))
