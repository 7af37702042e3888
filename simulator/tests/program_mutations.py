"""Ways to damage a program's bytes, most of them with the frame made right again, so that the deeper checks
are reached.
"""

import hashlib
import struct
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace

import numpy as np
from npu import program as layout
from npu.bfp import Accumulation, Rounding
from npu.chain import Files, Kind, Stage
from npu.checks import check_chains
from npu.errors import ProgramError
from npu.program import Program
from npu.registers import contradiction, need_of

Rng = np.random.Generator
NUMBERS = (
    0,
    1,
    2,
    3,
    7,
    8,
    15,
    16,
    31,
    64,
    127,
    128,
    129,
    255,
    256,
    4096,
    65535,
    1 << 16,
    1 << 31,
    (1 << 32) - 1,
)
RECORDS = {
    b"TENS": layout.TENSOR,
    b"CHNS": layout.CHAIN,
    b"OUTS": layout.OUTPUT,
    b"LODS": layout.LOAD,
    b"NEED": layout.NEED,
    b"FORM": layout.FORM,
}


def cut(data: bytes) -> list[tuple[bytes, bytes]]:
    """Tag and content of every section of a good program."""
    count = layout.HEADER.unpack_from(data)[3]
    table = [
        layout.SECTION.unpack_from(data, layout.HEADER.size + index * layout.SECTION.size)
        for index in range(count)
    ]
    return [(tag, data[offset : offset + size]) for tag, offset, size in table]


def join(sections: list[tuple[bytes, bytes]], version: int = layout.VERSION) -> bytes:
    """A file around these sections whose frame is right: places, sizes, digest."""
    at = layout.HEADER.size + layout.SECTION.size * len(sections)
    table = body = b""
    for tag, content in sections:
        gap = -at % layout.ALIGNMENT
        table += layout.SECTION.pack(tag, at + gap, len(content))
        body += bytes(gap) + content
        at += gap + len(content)
    digest = hashlib.sha256(table + body).digest()
    return (
        layout.HEADER.pack(layout.MAGIC, version, layout.HEADER.size, len(sections), at, digest)
        + table
        + body
    )


def sealed(data: bytes) -> bytes:
    """Put the right size and digest back."""
    if len(data) < layout.HEADER.size:
        return data
    out = bytearray(data)
    struct.pack_into("<Q", out, 16, len(out))
    out[24:56] = hashlib.sha256(bytes(out[layout.HEADER.size :])).digest()
    return bytes(out)


def poke(tag: bytes, at: int, form: str, value: int) -> Callable[[bytes], bytes]:
    """Write one number at a place of a section, and seal the rest."""

    def change(data: bytes) -> bytes:
        sections = cut(data)
        (index,) = [index for index, (found, _) in enumerate(sections) if found == tag]
        content = bytearray(sections[index][1])
        struct.pack_into(form, content, at, value)
        sections[index] = (tag, bytes(content))
        return join(sections, data[8])

    return change


def flip_bits(rng: Rng, program: Program) -> bytes:
    out = bytearray(program.to_bytes())
    for at in rng.integers(8 * len(out), size=rng.integers(1, 9)):
        out[at // 8] ^= 1 << (at % 8)
    return sealed(bytes(out)) if rng.random() < 0.8 else bytes(out)


def set_bytes(rng: Rng, program: Program) -> bytes:
    out = bytearray(program.to_bytes())
    for at in rng.integers(len(out), size=rng.integers(1, 4)):
        out[at] = int(rng.integers(256))
    return sealed(bytes(out))


def truncate(rng: Rng, program: Program) -> bytes:
    data = program.to_bytes()
    at = int(rng.integers(len(data)))
    return [data[:at], sealed(data[:at]), sealed(data + data[:at]), sealed(data + bytes(at))][rng.integers(4)]


def shuffle_sections(rng: Rng, program: Program) -> bytes:
    sections = cut(program.to_bytes())
    one, two = rng.integers(len(sections), size=2)
    match int(rng.integers(5)):
        case 0:
            sections[one], sections[two] = sections[two], sections[one]
        case 1:  # the contents only
            (tag, content), (other, swapped) = sections[one], sections[two]
            sections[one], sections[two] = (tag, swapped), (other, content)
        case 2:
            sections.insert(one, sections[two])
        case 3:
            del sections[one]
        case _:
            return join(sections, int(rng.integers(4)))
    return join(sections, program.version)


def resize_section(rng: Rng, program: Program) -> bytes:
    sections = cut(program.to_bytes())
    one = rng.integers(len(sections))
    tag, content = sections[one]
    at = int(rng.integers(len(content) + 1))
    record = RECORDS[tag].size if tag in RECORDS else 1
    at -= at % record
    changed = [content[:at], content + content[:at], content[at:], content * int(rng.integers(2, 50))]
    sections[one] = (tag, changed[rng.integers(4)])
    return join(sections, program.version)


def edit_fields(rng: Rng, program: Program) -> bytes:
    """One to three numbers of records, the reserved places left alone."""
    sections = dict(cut(program.to_bytes()))
    for _ in range(rng.integers(1, 4)):
        tag = [*RECORDS][rng.integers(len(RECORDS))]
        record, content = RECORDS[tag], bytearray(sections.get(tag, b""))
        if not content:
            continue
        at = int(rng.integers(len(content) // record.size)) * record.size
        fields = list(record.unpack_from(content, at))
        place = rng.integers(len(fields))
        near = int(fields[place]) + int(rng.integers(-2, 3))
        other = int(fields[rng.integers(len(fields))])
        fields[place] = [near, other, NUMBERS[rng.integers(len(NUMBERS))]][rng.integers(3)]
        try:
            record.pack_into(content, at, *fields)
        except struct.error:  # more than the field holds
            continue
        sections[tag] = bytes(content)
    return join([*sections.items()], program.version)


def spoil_numbers(rng: Rng, program: Program) -> bytes:
    """Any weights and vectors: some of them not of the format."""
    sections = dict(cut(program.to_bytes()))
    tag = (b"WMAN", b"WEXP", b"VECS")[rng.integers(3)]
    content = bytearray(sections[tag])
    for at in rng.integers(len(content), size=rng.integers(1, 20)):
        content[at] = int(rng.integers(256))
    return join([*(sections | {tag: bytes(content)}).items()], program.version)


def redesign(rng: Rng, program: Program) -> bytes:
    """Change what the program says and make everything else agree again: needs, and as many weights as asked."""
    chains, tensors = list(program.chains), list(program.tensors)
    for _ in range(rng.integers(1, 4)):
        if rng.random() < 0.5:
            at = rng.integers(len(tensors))
            tensors[at] = _other_tensor(rng, tensors[at])
        else:
            at = rng.integers(len(chains))
            chains[at] = _other_chain(rng, chains[at], len(tensors))
    outputs = program.output_tensors
    if rng.random() < 0.2:
        outputs = tuple(rng.integers(len(tensors) + 1, size=rng.integers(1, 4)).tolist())
    changed = replace(program, chains=tuple(chains), tensors=tuple(tensors), outputs=outputs)
    if rng.random() < 0.1:
        changed = replace(changed, rounding=Rounding(int(rng.integers(2))))
    last = changed.ranges[-1]
    if last.mantissas.stop > 1 << 20:
        return changed.to_bytes()
    most = program.preset.mantissa_max
    vectors = [np.float16(1 / (c.kernel[0] * c.kernel[1])) if c.kernel != (0, 0) else 0 for c in chains]
    numbers = np.zeros(last.vectors.stop, np.float16)
    for part, share in zip(changed.ranges, vectors, strict=True):
        numbers[part.vectors] = share
    changed = replace(
        changed,
        mantissas=rng.integers(-most, most + 1, last.mantissas.stop, np.int8),
        exponents=rng.integers(-16, 16, last.exponents.stop, np.int8),
        vectors=numbers,
    )
    with suppress(ProgramError):  # nonsense has no need: the reader finds that out before it asks
        check_chains(chains, tensors)
        if contradiction(chains, tensors) is None:
            changed = replace(changed, need=need_of(chains, tensors))
    return changed.to_bytes()


def _other_tensor(rng: Rng, tensor):
    field = ("height", "width", "channels", "matrix_address", "float16_address", "pitch")[rng.integers(6)]
    now = getattr(tensor, field)
    value = [max(0, now + int(rng.integers(-2, 3))), 2 * now, int(rng.integers(1, 40))][rng.integers(3)]
    files = Files(int(rng.integers(8))) if rng.random() < 0.2 else tensor.files
    return replace(tensor, files=files, **{field: value})


def _other_chain(rng: Rng, chain, tensors: int):
    pair = (int(rng.integers(1, 4)), int(rng.integers(1, 4)))
    tensor = int(rng.integers(tensors))
    change = [
        {"kind": Kind(int(rng.integers(len(Kind))))},
        {"accumulation": Accumulation(int(rng.integers(len(Accumulation))))},
        {"stage": Stage(int(rng.integers(16)))},
        {"kernel": pair},
        {"stride": pair},
        {"dilation": pair},
        {"pad": pair},
        {"source": tensor},
        {"target": tensor},
        {"residual": tensor, "stage": chain.stage | Stage.RESIDUAL},
        {"residual": None, "stage": chain.stage & ~Stage.RESIDUAL},
        {"residual_stride": pair},
        {"group": int(rng.integers(8))},
    ]
    return replace(chain, **change[rng.integers(len(change))])


MUTATIONS: tuple[Callable[[Rng, Program], bytes], ...] = (
    flip_bits,
    set_bytes,
    truncate,
    shuffle_sections,
    resize_section,
    edit_fields,
    edit_fields,
    spoil_numbers,
    redesign,
    redesign,
    redesign,
)
