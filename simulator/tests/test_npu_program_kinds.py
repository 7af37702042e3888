"""The reader on programs of every kind: what version 2 says, it reads; what contradicts itself, it refuses."""

import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from npu import program as layout
from npu.errors import ProgramError
from npu.program import Program
from program_mutations import cut, join, poke, sealed
from program_samples import samples

CHAIN, TENSOR = layout.CHAIN.size, layout.TENSOR.size


def last_vector(data: bytearray) -> bytes:
    data[-2:] = np.float16(0.5).tobytes()
    return sealed(data)


def without(data: bytearray, tag: bytes) -> bytes:
    return join([(found, b"" if found == tag else content) for found, content in cut(bytes(data))])


OF_OTHER_KINDS = {
    # sample, damage, message
    "taps in float16 at the Expander": (
        "every kind",
        poke(b"CHNS", 1, "<B", 2),
        "chain 0 adds taps in float16",
    ),
    "taps in float16 without a kernel": (
        "every kind",
        poke(b"CHNS", 8 * CHAIN + 1, "<B", 2),
        "chain 8 adds taps",
    ),
    "taps in float16 in a wide format": (
        "wide",
        poke(b"CHNS", CHAIN + 1, "<B", 2),
        "not allowed with msfp12",
    ),
    "concatenation with ReLU": (
        "every kind",
        poke(b"CHNS", 6 * CHAIN + 2, "<B", 12),
        "chain 6 is a concatenation",
    ),
    "concatenation with a stride": ("every kind", poke(b"CHNS", 6 * CHAIN + 22, "<H", 3), "another shape"),
    "concatenation of nothing": (
        "every kind",
        poke(b"CHNS", 6 * CHAIN + 32, "<I", layout.NO_TENSOR),
        "residual",
    ),
    "concatenation loses a channel": (
        "every kind",
        poke(b"TENS", 7 * TENSOR + 8, "<I", 137),
        "another shape",
    ),
    "average pool with a bias": (
        "every kind",
        poke(b"CHNS", 9 * CHAIN + 2, "<B", 3),
        "chain 9 is a pool with",
    ),
    "average pool without a scale": (
        "every kind",
        poke(b"CHNS", 9 * CHAIN + 2, "<B", 0),
        "chain 9 is a pool with",
    ),
    "average pool that does not average": (
        "every kind",
        last_vector,
        "scales by something else than 0.25",
    ),
    "pitch of fewer vectors than channels": (
        "every kind",
        poke(b"TENS", 7 * TENSOR + 24, "<I", 1),
        "the pitch 1; .* 2",
    ),
    "pitch without a family": ("every kind", poke(b"TENS", 4 * TENSOR + 24, "<I", 2), "pitch"),
    "identity with a stride": (
        "every kind",
        poke(b"CHNS", 8 * CHAIN + 10, "<H", 3),
        r"does not become|identity with",
    ),
    "pool with dilation": (
        "every kind",
        poke(b"CHNS", 9 * CHAIN + 14, "<H", 2),
        r"only convolutions have|not become",
    ),
    "concatenation with dilation": (
        "every kind",
        poke(b"CHNS", 6 * CHAIN + 14, "<H", 2),
        "only convolutions have",
    ),
    "an address in no file": ("every kind", poke(b"TENS", 10 * TENSOR + 16, "<I", 1), "an address in a file"),
    "an output twice": ("every kind", poke(b"OUTS", 4, "<I", 10), "named twice"),
    "an output less": ("every kind", poke(b"OUTS", 0, "<I", 9), "tensor 10 is neither read nor an output"),
    "no output": ("every kind", lambda d: without(d, b"OUTS"), "OUTS does not hold"),
    "a load of another tile": (
        "loads",
        poke(b"LODS", 16 + 4, "<I", 63),
        "load 1 is not of chain 0 from tile 64",
    ),
    "a load into a third buffer": ("loads", poke(b"LODS", 12, "<I", 2), "load 0 .* neither 0 nor 1"),
    "a load into the busy buffer": (
        "loads",
        poke(b"LODS", 32 + 12, "<I", 1),
        "buffer that chain 0 computes from",
    ),
    "a load too large": ("loads", poke(b"LODS", 8, "<I", 65), "load 0 has 65 tiles"),
    "no loads": ("loads", lambda d: without(d, b"LODS"), "loaded nowhere"),
    "native dimension of another SKU": (
        "timed only",
        poke(b"FORM", 0, "<I", 128),
        "128 is not the 400 of its SKU",
    ),
    "box of another native dimension": ("timed only", poke(b"FORM", 4, "<H", 128), "not in the table"),
}


@pytest.mark.parametrize(("sample", "damage", "message"), OF_OTHER_KINDS.values(), ids=OF_OTHER_KINDS)
def test_the_reader_refuses_of_every_kind(drawn, sample, damage, message):
    with pytest.raises(ProgramError, match=message):
        Program.from_bytes(damage(bytearray(drawn[sample].to_bytes())))


@pytest.fixture(scope="module")
def drawn():
    return samples()


@pytest.mark.parametrize("sample", ["every kind", "loads", "streamed", "wide", "timed only"])
def test_round_trip_of_every_kind(drawn, sample):
    program = drawn[sample]
    again = Program.from_bytes(program.to_bytes())
    assert again.to_bytes() == program.to_bytes()
    for field in ("tensors", "chains", "output_tensors", "loads", "need", "preset", "rounding", "native_dim"):
        assert getattr(again, field) == getattr(program, field), field


@pytest.mark.parametrize("sample", ["every kind", "wide"])
def test_version_1_cannot_say_what_is_new(drawn, sample):
    with pytest.raises(ProgramError, match=r"unknown kind|accumulation|pitch"):
        Program.from_bytes(replace(drawn[sample], version=1).to_bytes())


def test_the_loads_of_version_1_are_planned_on_reading(drawn):
    program = replace(drawn["loads"], version=1)
    again = Program.from_bytes(program.to_bytes())
    assert again.loads == program.loads != ()


def test_the_page_about_the_bytes_tells_the_same_sections_and_sizes():
    page = (Path(__file__).parent.parent / "PROGRAM.md").read_text()
    told = re.findall(r"^\| ([A-Z]{4}) \|.*\| ([^|]*) \|$", page, re.MULTILINE)
    assert tuple(tag.encode() for tag, _ in told) == layout.SECTIONS
    sizes = {tag.encode(): int(found[1]) for tag, text in told if (found := re.search(r"(\d+) bytes", text))}
    records = {b"FORM": layout.FORM, b"NEED": layout.NEED, b"TENS": layout.TENSOR, b"CHNS": layout.CHAIN}
    assert sizes == {tag: record.size for tag, record in (records | {b"LODS": layout.LOAD}).items()}
    assert f"size of this header: {layout.HEADER.size} " in page
    assert f"number of sections: {len(layout.SECTIONS)} " in page
