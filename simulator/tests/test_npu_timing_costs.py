"""What each kind of chain asks of the engines, counted by hand."""

import dataclasses

import pytest
from npu.bfp import PRESETS, Accumulation
from npu.chain import Chain, Files, Kind, Stage, Tensor
from npu.sku import load_sku, sku_names
from npu.timing.costs import cost, tile_bytes

SKU = load_sku()
SEQ, TAPS = Accumulation.FP32_SEQ, Accumulation.FP16_TAPS
BN, RELU, ADD = Stage.SCALE | Stage.BIAS, Stage.RELU, Stage.RESIDUAL
M, F = Files.MATRIX, Files.FLOAT16


def chain(kind=Kind.CONV, stage=BN | RELU, kernel=1, stride=1, *, sums=SEQ, **more) -> Chain:
    return Chain(kind, sums, stage, (kernel,) * 2, (stride,) * 2, (1, 1), (0, 0), 0, 1, **more)


def tensor(side, channels, files=M, **more) -> Tensor:
    return Tensor(side, side, channels, files, **more)


CASES = {
    # name: (chain, source, target, by rows) -> cycles of the matrix unit, instructions
    "1x1, 256 to 64: two tiles per position": (chain(), tensor(28, 256), tensor(28, 64), False, 784 * 2, 6),
    "3x3, 256 to 512: read, multiply, scale, bias, ReLU, write, four times": (
        chain(kernel=3), tensor(14, 256), tensor(14, 512), False, 196 * 9 * 2 * 4, 24,
    ),
    "a result written to both files costs one write more": (
        chain(), tensor(14, 128), tensor(14, 128, M | F), False, 196, 7,
    ),
    "an output's write is one": (chain(stage=Stage.BIAS), tensor(7, 128), tensor(7, 128, Files.NONE), False, 49, 4),
    "V: res3d_2c is 56 chains of 14 positions": (
        chain(stage=BN | ADD | RELU, residual=2, residual_stride=(2, 2)),
        tensor(14, 128), tensor(14, 512, M | F), False, 784, 56 * 8,
    ),
    "row by row: instructions per row": (chain(), tensor(28, 64), tensor(28, 64), True, 784, 28 * 6),
    "expander: two tiles per output tile": (
        chain(Kind.EXPAND, kernel=7, stride=2), tensor(224, 3), tensor(112, 64), False, 112 * 112 * 2, 6,
    ),
    "identity": (chain(Kind.IDENTITY), tensor(14, 256), tensor(14, 256), False, 196 * 2, 12),
    "3x3/2 max pool: three passes over the rows, two over the columns": (
        chain(Kind.MAX_POOL, Stage.NONE, 3, 2), tensor(13, 128), tensor(6, 128), False,
        13 * 6 * 3 + 36 * 2, 4 * 5,
    ),
    "2x2/2 max pool, row by row": (
        chain(Kind.MAX_POOL, Stage.NONE, 2, 2), tensor(8, 128), tensor(4, 128), True,
        8 * 4 * 2 + 16, 4 * (2 * 8 + 1 * 4),
    ),
    "2x2/2 average pool: three additions on two vector units": (
        chain(Kind.AVERAGE_POOL, Stage.SCALE, 2, 2), tensor(8, 256), tensor(4, 256), False, 16 * 2 * 2, 2 * 7,
    ),
    "concatenation that copies": (
        chain(Kind.CONCAT, ADD, residual=2), tensor(6, 256), tensor(6, 288), False, 36 * 3, 3 * 4,
    ),
    "concatenation in place touches the vectors that change": (
        chain(Kind.CONCAT, ADD, residual=2),
        tensor(6, 256, pitch=8, matrix_address=16), tensor(6, 288, pitch=8, matrix_address=16), False, 36, 4,
    ),
    "concatenation in place within a vector": (
        chain(Kind.CONCAT, ADD, residual=2),
        tensor(6, 160, pitch=8), tensor(6, 192, pitch=8), False, 36, 4,
    ),
    "concatenation into other registers": (
        chain(Kind.CONCAT, ADD, residual=2),
        tensor(6, 256, pitch=8), tensor(6, 288, pitch=8, matrix_address=512), False, 36 * 3, 12,
    ),
    "float16 taps: per tap read, multiply, add, write; bias and ReLU in the last": (
        chain(stage=Stage.BIAS | RELU, kernel=3, sums=TAPS), tensor(56, 256), tensor(56, 256), False,
        56 * 56 * 9 * 4, 56 * 2 * (9 * 4 - 1 + 2),
    ),
}  # fmt: skip


@pytest.mark.parametrize(
    ("given", "source", "target", "by_rows", "mvm", "instructions"), CASES.values(), ids=CASES
)
def test_cost(given, source, target, by_rows, mvm, instructions):
    found = cost(given, source, target, PRESETS["msfp-a10"], SKU, by_rows=by_rows)
    assert (found.mvm, found.issue // SKU.issue_cycles) == (mvm, instructions)
    assert found.weight_bytes == 12_368 * given.tiles(source, target)


def test_positions_are_rounded_up_to_the_granularity():
    coarse = dataclasses.replace(SKU, channels=8)
    whole = cost(chain(), tensor(7, 128), tensor(7, 128), PRESETS["msfp-a10"], coarse, by_rows=False)
    rows = cost(chain(), tensor(7, 128), tensor(7, 128), PRESETS["msfp-a10"], coarse, by_rows=True)
    assert (whole.mvm, rows.mvm) == (56, 7 * 8)
    assert (
        cost(chain(), tensor(9, 128), tensor(9, 128), PRESETS["msfp-a10"], coarse, by_rows=True).mvm == 9 * 16
    )


def test_another_native_dimension():
    s10 = load_sku("bw-s10")
    wide = dataclasses.replace(tensor(14, 512), native_dim=400)
    found = cost(chain(), wide, wide, PRESETS["ms-fp8"].on(400), s10, by_rows=False)
    assert found.tiles == 4
    assert found.mvm == -(-196 * 4 * 400**2 // 96_000)
    assert found.weight_bytes == 4 * 400 * (400 * 3 + 5) // 8


def test_bytes_that_a_layer_moves_in_the_vector_files():
    narrow, wide = -(-(128 * 6 + 5) // 8), 256
    plain = cost(chain(), tensor(4, 256), tensor(4, 128), PRESETS["msfp-a10"], SKU, by_rows=False)
    assert plain.activation_bytes == 16 * (2 * narrow + narrow)
    joined = chain(stage=BN | ADD, residual=2)
    both = cost(joined, tensor(4, 128), tensor(4, 128, M | F), PRESETS["msfp-a10"], SKU, by_rows=False)
    assert both.activation_bytes == 16 * (narrow + wide + narrow + wide)


def test_a_tile_takes_the_bytes_of_its_format():
    assert {name: tile_bytes(form) for name, form in PRESETS.items()} == {
        "msfp-a10": 12_368,
        "ms-fp9": 8_272,
        "ms-fp8": 6_224,
        "msfp12": 9_216,
        "msfp16": 17_408,
    }


def test_the_machines_reach_the_published_peaks():
    peaks = {name: 2e-12 * load_sku(name).macs * load_sku(name).clock_hz for name in sku_names()}
    assert peaks == pytest.approx({"bw-a10": 9.8, "bw-cnn-a10": 9.8, "bw-s10": 48.0, "bw-s5": 2.4}, rel=0.01)
