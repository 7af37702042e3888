"""Time against what the literature says of ResNet-50 and ResNet-152; the command line."""

import dataclasses
import json

import pytest
from npu import cli, report
from npu.compiler import compile_model
from npu.errors import SkuError
from npu.sku import load_sku
from npu.timing import estimate
from npu_layers import keras_resnet50, slim_resnet

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
    found = estimate(slim_resnet(units).program(), bare)
    assert sum(layer.mvm_cycles for layer in found.layers) == operations
    assert found.compute_ms == pytest.approx(compute, abs=0.005)
    assert found.dram_ms == pytest.approx(dram, abs=0.005)
    assert found.device_ms == pytest.approx(device, abs=0.01)
    assert found.macs / 1e9 == pytest.approx(gmac, abs=0.005)


def test_resnet50_is_within_five_percent_of_the_published_latency():
    found = estimate(slim_resnet((3, 4, 6, 3)).program())
    assert found.latency_ms == pytest.approx(1.8, rel=0.05)
    assert found.inferences_per_second == pytest.approx(559, rel=0.02)
    assert found.bound_by == "dram"
    assert {layer.bound_by for layer in found.layers[-9:]} == {"dram"}  # res5
    assert {layer.bound_by for layer in found.layers[:6]} == {"compute"}
    assert keras_resnet50_latency() == pytest.approx(1.992, abs=0.001)  # ours, at 56 x 56: pinned


def keras_resnet50_latency() -> float:
    return estimate(keras_resnet50().program()).latency_ms


def test_time_moves_with_the_machine():
    program, sku = slim_resnet((3, 4, 6, 3)).program(), load_sku()
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
