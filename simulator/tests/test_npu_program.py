"""The program's bytes: one spelling, a round trip, and a reader that refuses everything else."""

import base64
import hashlib
import json
import struct
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from npu import oracle
from npu import program as layout
from npu.bfp import PRESETS, Rounding
from npu.chain import Chain, Files, Kind, Stage, Tensor
from npu.compiler import compile_model
from npu.errors import ProgramError, SkuError
from npu.program import Program
from npu.registers import need_of
from npu.sku import check_fits, load_sku, sku_names
from program_mutations import poke, sealed


@pytest.fixture
def program(small_residual):
    return compile_model(small_residual, name="small").program


def test_round_trip(program):
    data = program.to_bytes()
    again = Program.from_bytes(data)
    assert again.to_bytes() == data
    assert again.digest == program.digest == "sha256:" + hashlib.sha256(data).hexdigest()
    assert (again.name, again.sku, again.input_shape, again.output_shape) == (
        "small",
        "bw-cnn-a10",
        (12, 12, 3),
        (6, 6, 16),
    )
    assert again.need == program.need
    x = np.random.default_rng(0).normal(0, 1, (12, 12, 3)).astype(np.float32)
    assert oracle.run(again, x).tobytes() == oracle.run(program, x).tobytes()


CHAIN, TENSOR = layout.CHAIN.size, layout.TENSOR.size
DAMAGE = {
    "empty": (lambda d: b"", "header"),
    "another file": (lambda d: b"\x89PNG" + bytes(d[4:]), "header"),
    "cut off": (lambda d: bytes(d[:-1]), "its header says"),
    "one bit flipped": (lambda d: bytes(d[:-1]) + bytes([d[-1] ^ 1]), "digest"),
    "a newer version": (lambda d: bytes(d[:8]) + b"\x03\0" + bytes(d[10:]), "version 3 .* knows 1 to 2"),
    "bytes behind the end": (lambda d: sealed(d + b"more"), "follow"),
    "a section out of bounds": (lambda d: poke_table(d, 9), "out of bounds"),
    "unknown format": (poke(b"FORM", 6, "<B", 6), "not in the table"),
    "another native dimension": (poke(b"FORM", 0, "<I", 64), "native dimension 64"),
    "unknown kind": (poke(b"CHNS", 0, "<B", 9), "unknown kind"),
    "unknown accumulation": (poke(b"CHNS", 1, "<B", 3), "accumulation 3 is not allowed"),
    "stride zero": (poke(b"CHNS", 10, "<H", 0), "stride"),
    "reserved bytes": (poke(b"CHNS", CHAIN - 1, "<B", 1), "reserved"),
    "reads what is not there": (poke(b"CHNS", 28, "<I", 99), "does not exist"),
    "reads what comes later": (poke(b"CHNS", CHAIN + 28, "<I", 4), "no earlier chain"),
    "writes twice": (poke(b"CHNS", CHAIN + 36, "<I", 1), "second time"),
    "padding beyond the window": (poke(b"CHNS", 18, "<H", 40), "does not become"),
    "group": (poke(b"CHNS", CHAIN + 4, "<H", 0), "grouped"),
    "weights elsewhere": (poke(b"CHNS", 40, "<Q", 1), "not where they belong"),
    "taps in float16 with a scale": (poke(b"CHNS", 1, "<B", 2), "without scale"),
    "pitch below its depth": (poke(b"TENS", TENSOR + 24, "<I", 1 << 20), "has the pitch"),
    "output that nobody writes": (poke(b"OUTS", 0, "<I", 9), "output 0 is tensor 9"),
    "the input as output": (poke(b"OUTS", 0, "<I", 0), "output 0 is tensor 0"),
    "another output": (poke(b"OUTS", 0, "<I", 1), "neither read nor an output"),
    "an unknown SKU": (
        lambda d: sealed(bytearray(d.replace(b"bw-cnn-a10", b"bw-cnn-a11"))),
        "unknown; choose",
    ),
    "no pixels": (poke(b"TENS", 0, "<I", 0), "has the shape 0x12x3"),
    "gigantic": (poke(b"TENS", 0, "<I", 1 << 31), "has the shape"),
    "other channels": (poke(b"TENS", TENSOR + 8, "<I", 17), "without weights|not where|shape"),
    "files": (poke(b"TENS", TENSOR + 12, "<I", 0), "not in the files"),
    "shared registers": (poke(b"TENS", 2 * TENSOR + 16, "<I", 0), "share registers"),
    "mantissa beyond the format": (poke(b"WMAN", 0, "<b", 32), "mantissas beyond 5 bits"),
    "exponent beyond the format": (poke(b"WEXP", 0, "<b", 16), "exponents beyond 5 bits"),
    "bias not finite": (poke(b"VECS", 0, "<H", 0x7C00), "not finite"),
    "need": (poke(b"NEED", 0, "<I", 1), "does not need"),
    "name not UTF-8": (poke(b"NAME", 8, "<B", 0xFF), "NAME"),
    "name too long": (poke(b"NAME", 4, "<I", 1 << 30), "out of bounds"),
}


def poke_table(data: bytearray, index: int) -> bytes:
    struct.pack_into("<Q", data, layout.HEADER.size + index * layout.SECTION.size + 16, 1 << 40)
    return sealed(data)


@pytest.mark.parametrize(("damage", "message"), DAMAGE.values(), ids=DAMAGE)
def test_the_reader_refuses(program, damage, message):
    with pytest.raises((ProgramError, SkuError), match=message):
        Program.from_bytes(damage(bytearray(program.to_bytes())))


PINNED = {
    1: "sha256:3b71d29ed9dde12d88a043d5f4f0434e8185cfe9d2727d36d73ea3b1a97a969a",
    2: "sha256:cacb010b8b8b050d2d3ba148b9bb71cbf361d119a9776629b849005c5fb5313f",
}


@pytest.mark.parametrize("version", layout.VERSIONS)
def test_the_bytes_are_pinned(version):
    """A change of the format needs a new version: programs in users' images must stay readable."""
    form = PRESETS["msfp-a10"]
    chain = Chain(
        Kind.CONV,
        form.accumulation,
        Stage.BIAS | Stage.RELU,
        kernel=(2, 1),
        stride=(1, 2),
        dilation=(1, 1),
        pad=(1, 0),
        source=0,
        target=1,
    )
    tensors = (Tensor(2, 3, 4, Files.MATRIX), Tensor(2, 2, 2))
    program = Program(
        name="pinned",
        sku="bw-cnn-a10",
        preset=form,
        rounding=Rounding.NEAREST_EVEN,
        tensors=tensors,
        chains=(chain,),
        chain_names=("one",),
        mantissas=np.arange(-8, 8, dtype=np.int8),
        exponents=np.array([-16, 0, 1, 15], np.int8),
        vectors=np.array([0.5, -2], np.float16),
        need=need_of((chain,), tensors),
        version=version,
    )
    again = Program.from_bytes(program.to_bytes())
    assert again.chains == (chain,)
    assert again.version == version
    assert again.digest == program.digest == PINNED[version]


def test_a_program_of_version_1_gives_the_same_numbers():
    """Written by the commit before version 2 (`version_1.json` in tests/data): read, same digest, same result."""
    golden = json.loads((Path(__file__).parent / "data" / "version_1.json").read_text())
    data, picture, expected = (
        base64.b64decode("".join(golden[key])) for key in ("program", "input", "output")
    )
    program = Program.from_bytes(data)
    assert (program.version, program.digest) == (1, golden["digest"])
    assert program.to_bytes() == data
    assert replace(program, version=layout.VERSION).digest != golden["digest"]
    x = np.frombuffer(picture, "<f2").astype(np.float32).reshape(program.input_shape)
    assert oracle.run(program, x).astype("<f2").tobytes() == expected
    again = Program.from_bytes(replace(program, version=layout.VERSION).to_bytes())
    assert oracle.run(again, x).astype("<f2").tobytes() == expected


def test_skus_carry_a_source_for_every_number():
    for name in sku_names():
        sku = load_sku(name)
        assert {tag for _, tag in sku.tags} <= {"V", "V2", "M", "D"}
    sku = load_sku()
    # The vector and matrix files must fit the device's block memory: BFP for two of them, float16 for the
    # rest.
    vector, tile = (128 * 6 + 5) / 8, 128 * (128 * 6 + 5) / 8
    used = (sku.initial_vrf * vector) + sku.matrix_rf * tile
    used += (sku.addsub_vrf_0 + sku.addsub_vrf_1 + sku.multiply_vrf) * 256
    assert used <= sku.on_chip_bytes


def test_a_program_that_does_not_fit_names_the_memory(program):
    with pytest.raises(SkuError, match=r"initial_vrf \d+ > 10"):
        check_fits(program.need, replace(load_sku(), initial_vrf=10))
    with pytest.raises(SkuError, match="unknown; choose one of bw-a10, bw-cnn-a10"):
        load_sku("gpu")
