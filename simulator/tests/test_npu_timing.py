"""Time and structure against what the firmware and the literature say of ResNet-50 and ResNet-152."""

import dataclasses
import json

import numpy as np
import pytest
from npu import cli, report
from npu.bfp import PRESETS, Accumulation, Rounding
from npu.chain import Chain, Kind, Need, Stage, Tensor
from npu.compiler import compile_model
from npu.errors import SkuError
from npu.program import Program
from npu.registers import allocate, need_of
from npu.sku import load_sku
from npu.timing import estimate

AFFINE, RELU, ADD = Stage.SCALE | Stage.BIAS, Stage.RELU, Stage.RESIDUAL


class Layers:
    """A program without weights: structure and time need none."""

    def __init__(self) -> None:
        self.tensors, self.chains, self.names = [Tensor(224, 224, 3)], [], []

    def add(self, kind, source, side, channels, kernel=1, stride=1, pad=0, stage=AFFINE | RELU, **more):
        self.tensors.append(Tensor(side, side, channels))
        target = len(self.tensors) - 1
        shape = ((kernel,) * 2, (stride,) * 2, (1, 1), (pad,) * 2)
        self.chains.append(Chain(kind, Accumulation.FP32_SEQ, stage, *shape, source, target, **more))
        self.names.append(f"layer{target}")
        return target

    def program(self) -> Program:
        sku = load_sku()
        chains, tensors = allocate(self.chains, self.tensors, self.names, sku)
        none = np.zeros(0, np.int8)
        need = need_of(chains, tensors)
        form, names = PRESETS["msfp-a10"], tuple(self.names)
        return Program(
            "resnet", sku.name, form, Rounding.NEAREST_EVEN, tensors, chains, names, none, none,
            none.astype(np.float16), need,
        )  # fmt: skip


def slim_resnet(units) -> Program:
    """ResNet v1 of TensorFlow slim: stride in a block's last 3 x 3, first pool without padding (55 x 55)."""
    n = Layers()
    side = 55
    x = n.add(Kind.EXPAND, 0, 112, 64, 7, 2, 3)
    x = n.add(Kind.MAX_POOL, x, side, 64, 3, 2, 0, Stage.NONE)
    for block, count in enumerate(units):
        base = 64 << block
        for unit in range(count):
            stride = 2 if unit == count - 1 and block < 3 else 1
            small = -(-side // stride)
            short = n.add(Kind.CONV, x, side, 4 * base, stage=AFFINE) if unit == 0 else x
            y = n.add(Kind.CONV, x, side, base)
            y = n.add(Kind.CONV, y, small, base, 3, stride, 1)
            stage, skip = AFFINE | ADD | RELU, (stride, stride)
            x = n.add(Kind.CONV, y, small, 4 * base, stage=stage, residual=short, residual_stride=skip)
            side = small
    return n.program()


def keras_resnet50() -> Program:
    """Keras' own: zero-padded pool (56 x 56), stride in a block's first 1 x 1."""
    n = Layers()
    side = 56
    x = n.add(Kind.EXPAND, 0, 112, 64, 7, 2, 3)
    x = n.add(Kind.MAX_POOL, x, side, 64, 3, 2, 1, Stage.NONE)
    for block, count in enumerate((3, 4, 6, 3)):
        base = 64 << block
        for unit in range(count):
            stride = 2 if unit == 0 and block > 0 else 1
            side = side // stride
            short = n.add(Kind.CONV, x, side, 4 * base, 1, stride, stage=AFFINE) if unit == 0 else x
            y = n.add(Kind.CONV, x, side, base, 1, stride)
            y = n.add(Kind.CONV, y, side, base, 3, 1, 1)
            x = n.add(Kind.CONV, y, side, 4 * base, stage=AFFINE | ADD | RELU, residual=short)
    return n.program()


# The minimum SKU that the public firmware demands: matrix and float16 vectors, weight tiles, vectors in DRAM.
GOLDEN = {
    "ResNet-50": ((3, 4, 6, 3), Need(9075, 16, 12100, 16, 128, 1461, 422)),
    "ResNet-152": ((3, 8, 36, 3), Need(9075, 16, 12100, 16, 128, 3569, 1190)),
}


@pytest.mark.parametrize(("units", "need"), GOLDEN.values(), ids=GOLDEN)
def test_structure_equals_the_firmware(units, need):
    assert slim_resnet(units).need == need


def test_keras_resnet50_fits_at_56_pixels():
    assert keras_resnet50().need == Need(9408, 16, 12544, 16, 128, 1461, 422)


TIMES = {
    # network -> (tile operations, compute ms, DRAM ms, device ms without issue and pipeline, GMAC)
    "ResNet-50": ((3, 4, 6, 3), 318_055, 1.06, 1.13, 1.77, 3.46),
    "ResNet-152": ((3, 8, 36, 3), 771_207, 2.57, 2.76, 3.86, 10.89),
}


@pytest.mark.parametrize(
    ("units", "operations", "compute", "dram", "device", "gmac"), TIMES.values(), ids=TIMES
)
def test_time_equals_the_published_calibration(units, operations, compute, dram, device, gmac):
    bare = dataclasses.replace(load_sku(), issue_cycles=0, pipeline_cycles=0)
    found = estimate(slim_resnet(units), bare)
    assert sum(layer.mvm_cycles for layer in found.layers) == operations
    assert found.compute_ms == pytest.approx(compute, abs=0.005)
    assert found.dram_ms == pytest.approx(dram, abs=0.005)
    assert found.device_ms == pytest.approx(device, abs=0.01)
    assert found.macs / 1e9 == pytest.approx(gmac, abs=0.005)


def test_resnet50_is_within_five_percent_of_the_published_latency():
    found = estimate(slim_resnet((3, 4, 6, 3)))
    assert found.latency_ms == pytest.approx(1.8, rel=0.05)
    assert found.inferences_per_second == pytest.approx(559, rel=0.02)
    assert found.bound_by == "dram"
    assert {layer.bound_by for layer in found.layers[-9:]} == {"dram"}  # res5
    assert {layer.bound_by for layer in found.layers[:6]} == {"compute"}
    assert keras_resnet50_latency() == pytest.approx(1.992, abs=0.001)  # ours, at 56 x 56: pinned


def keras_resnet50_latency() -> float:
    return estimate(keras_resnet50()).latency_ms


def test_time_moves_with_the_machine():
    program, sku = slim_resnet((3, 4, 6, 3)), load_sku()
    base = estimate(program, sku).latency_ms
    assert estimate(program, dataclasses.replace(sku, dram_bytes_per_second=25_000_000_000)).latency_ms < base
    assert estimate(program, dataclasses.replace(sku, clock_hz=250_000_000)).latency_ms > base
    assert estimate(program, dataclasses.replace(sku, macs=8192)).bound_by == "compute"
    with pytest.raises(SkuError, match="matrix_rf"):
        estimate(program, dataclasses.replace(sku, matrix_rf=64))


def test_small_networks_keep_their_weights_on_the_chip(small_residual):
    found = estimate(compile_model(small_residual).program)
    assert found.dram_ms == 0
    assert found.tiles == 2 + 1 + 9 + 9


@pytest.fixture
def model_file(tmp_path, small_residual):
    path = tmp_path / "small.onnx"
    path.write_bytes(small_residual.SerializeToString())
    return path


def test_estimate_on_the_command_line(model_file, capsys):
    assert cli.main(["estimate", str(model_file), "--sku", "bw-cnn-a10", "--format", "json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert {"tiles", "vectors", "macs", "latency_ms", "inferences_per_second", "layers"} <= set(found)
    assert (found["tiles"], found["vectors"], len(found["layers"])) == (21, 6, 4)
    assert cli.main(["estimate", str(model_file), "--format", "csv"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].startswith("name,kind,output,tiles")
    assert len(lines) == 5
    assert cli.main(["estimate", str(model_file)]) == 0
    assert "ms a picture" in capsys.readouterr().out


def test_compile_and_list_on_the_command_line(model_file, tmp_path, capsys):
    assert cli.main(["compile", str(model_file), "--output", str(tmp_path / "out")]) == 0
    summary = json.loads(capsys.readouterr().out)
    assert {p.name for p in (tmp_path / "out").iterdir()} == {
        "device.npu",
        "host_pre.onnx",
        "host_post.onnx",
        "model.onnx",
    }
    assert cli.main(["list", str(tmp_path / "out" / "device.npu")]) == 0
    listed = capsys.readouterr().out
    assert summary["program"] in listed
    assert "max_pool" in listed
    assert cli.main(["estimate", str(tmp_path / "out" / "device.npu"), "--format", "csv"]) == 0


def test_errors_on_the_command_line(tmp_path, capsys):
    path = tmp_path / "broken"
    path.write_bytes(b"\xff\xff no model")
    for command in ("estimate", "list", "compile"):
        assert cli.main([command, str(path)]) == 1
        assert capsys.readouterr().err.startswith("npu: ")
    assert cli.main(["list", str(tmp_path / "absent")]) == 1
    assert report.FORMATS == ("table", "csv", "json")
