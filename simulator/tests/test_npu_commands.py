"""`npu run` and `npu compare`: the whole model on this machine, and float32 against every format."""

import json
import sys
from collections.abc import Callable
from math import inf
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from npu import bfp
from npu.cli import main
from npu.commands.models import ACCUMULATIONS, ROUNDINGS
from npu.compare import compare
from npu.compiler import compile_model
from npu.compiler.options import ACCUMULATIONS as COMPILERS_ACCUMULATIONS
from npu.compiler.options import ROUNDINGS as COMPILERS_ROUNDINGS
from npu.errors import TensorError
from npu.execute import Execution, HostGraph, batches, inputs_of
from npu.oracle import Oracle
from PIL import Image


@pytest.fixture
def pictures() -> np.ndarray:
    return np.random.default_rng(7).normal(size=(3, 3, 12, 12)).astype(np.float32)


@pytest.fixture
def folder(tmp_path: Path, small_residual: Any, pictures: np.ndarray) -> Path:
    onnx.save(small_residual, tmp_path / "m.onnx")
    np.save(tmp_path / "x.npy", pictures)
    return tmp_path


def test_run_is_host_graph_oracle_host_graph(folder: Path, small_residual: Any, pictures: Any) -> None:
    assert main(["run", f"{folder}/m.onnx", "--input", f"{folder}/x.npy", "--output", f"{folder}/y.npy"]) == 0
    compiled = compile_model(small_residual)
    features = np.stack([Oracle(compiled.program).run(p.transpose(1, 2, 0)) for p in pictures])
    logits = features.mean(axis=(1, 2), dtype=np.float64)
    expected = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    np.testing.assert_allclose(np.load(folder / "y.npy"), expected, rtol=1e-5)


def test_run_of_a_program_is_the_oracle_alone(
    folder: Path, small_residual: Any, pictures: Any, capsys: Any
) -> None:
    program = compile_model(small_residual, precision="msfp12").program
    (folder / "d.npu").write_bytes(program.to_bytes())
    np.savez(folder / "x.npz", whatever=pictures.transpose(0, 2, 3, 1).astype(np.float64))
    assert main(["run", f"{folder}/d.npu", "--input", f"{folder}/x.npz", "--output", f"{folder}/y.npz"]) == 0
    got = np.load(folder / "y.npz")["output"]
    np.testing.assert_array_equal(got[2], Oracle(program).run(pictures[2].transpose(1, 2, 0)))
    said = capsys.readouterr().out
    assert "output: [3, 6, 6, 16] float32" in said
    assert "msfp12 on bw-cnn-a10" in said
    assert "ms a picture, simulated" in said


def test_rounding_and_accumulation_are_the_compilers(
    folder: Path, small_residual: Any, pictures: Any
) -> None:
    command = ["run", f"{folder}/m.onnx", "--input", f"{folder}/x.npy", "--output", f"{folder}/y.npy"]
    assert main([*command, "--rounding", "truncate", "--accumulation", "wide"]) == 0
    compiled = compile_model(small_residual, rounding="truncate", accumulation="wide")
    np.testing.assert_array_equal(
        np.load(folder / "y.npy"), *Execution(compiled).run({"x": pictures}).values()
    )
    with pytest.raises(SystemExit):
        main([*command, "--rounding", "up"])
    assert tuple(COMPILERS_ROUNDINGS) == ROUNDINGS
    assert COMPILERS_ACCUMULATIONS == ACCUMULATIONS


def test_pictures_are_resized_and_keep_their_values(folder: Path, small_residual: Any) -> None:
    for name, value in (("a.png", 0), ("b.jpg", 255)):
        Image.fromarray(np.full((20, 30, 3), value, np.uint8)).save(folder / name)
    files = [f"{folder}/a.png", f"{folder}/b.jpg"]
    assert main(["run", f"{folder}/m.onnx", "--input", *files, "--output", f"{folder}/y.npy"]) == 0
    given = np.stack([np.zeros((3, 12, 12), np.float32), np.full((3, 12, 12), 255, np.float32)])
    wanted = Execution(compile_model(small_residual)).run({"x": given})
    np.testing.assert_array_equal(np.load(folder / "y.npy"), *wanted.values())


REFUSED = {
    "another shape": (["run", "m.onnx", "--input", "bad.npy"], "--input", "[3, 5]", "x [N,3,12,12] float32"),
    "no such file": (["run", "m.onnx", "--input", "none.npy"], "--input", "none.npy"),
    "two arrays": (["run", "m.onnx", "--input", "x.npy", "x.npy"], "--input", "numpy.save"),
    "a text file": (["run", "m.onnx", "--input", "m.onnx"], "--input", "numpy.save"),
    "wrong names": (["run", "m.onnx", "--input", "two.npz"], "--input", "['a', 'b']", "numpy.savez"),
    "no picture": (["run", "m.onnx", "--input", "text.png"], "--input", "Give a JPEG or PNG"),
    "output's name": (["run", "m.onnx", "--input", "x.npy", "--output", "y.txt"], "--output", ".npy or .npz"),
    "no numbers": (["run", "m.onnx", "--input", "nan.npy"], "not finite"),
    "labels alone": (["compare", "m.onnx", "--labels", "y.npy"], "--labels", "--inputs"),
    "labels' length": (
        ["compare", "m.onnx", "--inputs", "x.npy", "--labels", "y.npy"],
        "--labels",
        "3 pictures",
    ),
    "no samples": (["compare", "m.onnx", "--samples", "0"], "--samples", "at least 1"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_errors_name_the_argument_and_the_cure(name: str, folder: Path, capsys: Any) -> None:
    np.save(folder / "bad.npy", np.zeros((3, 5)))
    np.save(folder / "nan.npy", np.full((1, 3, 12, 12), np.nan))
    np.save(folder / "y.npy", np.zeros(4))
    np.savez(folder / "two.npz", a=np.zeros(1), b=np.zeros(1))
    (folder / "text.png").write_text("no picture")
    arguments, *said = REFUSED[name]
    assert main([str(folder / a) if "." in a else a for a in arguments]) == 1
    complaint = capsys.readouterr().err
    assert complaint.startswith("npu: ")
    assert all(mark in complaint for mark in said), complaint


def test_compare_says_how_far_each_format_is_from_float32(folder: Path, capsys: Any) -> None:
    np.save(folder / "y.npy", np.array([14, 14, 0]))
    arguments = ["compare", f"{folder}/m.onnx", "--inputs", f"{folder}/x.npy", "--labels", f"{folder}/y.npy"]
    assert main([*arguments, "--format", "json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["samples"] == 3
    by_name = {preset["precision"]: preset for preset in found["presets"]}
    assert list(by_name) == list(bfp.PRESETS)
    error = {name: preset["relative_l2"] for name, preset in by_name.items()}
    assert error["msfp16"] < error["msfp-a10"] < error["ms-fp9"]
    snr = {name: min(layer["snr_db"] for layer in preset["layers"]) for name, preset in by_name.items()}
    # A bit of mantissa is worth 6 dB.
    assert 8 < snr["msfp-a10"] - snr["ms-fp9"] < 16
    assert 3 < snr["ms-fp9"] - snr["ms-fp8"] < 9
    assert [layer["tensor"] for layer in by_name["ms-fp8"]["layers"]] == [
        "relu2",
        "maxpool3",
        "relu6",
        "relu10",
    ]
    for form, marks in (
        ("table", ("worst layers in ms-fp8", " dB", "accuracy")),
        ("csv", ("snr_db", "relu10")),
    ):
        assert main([*arguments, "--format", form, "--precision", "ms-fp8"]) == 0
        said = capsys.readouterr().out
        assert all(mark in said for mark in marks), said


def test_a_layer_that_loses_nothing_is_exact_and_one_that_overflows_is_seen(net: Callable[..., Any]) -> None:
    n = net(("N", 4, 2, 2))
    x = n.conv("x", 4, (1, 1), weights=np.eye(4).reshape(4, 4, 1, 1))
    y = n.conv(x, 4, (1, 1), weights=2.0**14 * np.eye(4).reshape(4, 4, 1, 1))
    powers = 2.0 ** np.arange(16).reshape(1, 4, 2, 2).astype(np.float32) % 32
    found = compare(n.model(y), {"x": powers.astype(np.float32)}, ["msfp-a10"]).presets[0]
    first, second = found.layers
    assert (first.snr_db, first.saturated) == (inf, 0)
    assert second.saturated > 0
    assert second.snr_db < 30
    assert found.saturated == second.saturated / 2


def test_worst_layers_are_explained(net: Callable[..., Any]) -> None:
    """A difference of two tensors that are nearly the same: the signal goes, the errors stay."""
    rng = np.random.default_rng(0)
    n = net(("N", 8, 4, 4))
    twice = np.concatenate([np.eye(8), np.eye(8)]).reshape(16, 8, 1, 1) * rng.uniform(1, 1.2, (16, 8, 1, 1))
    minus = np.concatenate([np.eye(8), -np.eye(8)], axis=1).reshape(8, 16, 1, 1)
    y = n.conv(n.conv("x", 16, (1, 1), weights=twice), 8, (1, 1), weights=minus)
    given = rng.normal(size=(4, 8, 4, 4)).astype(np.float32)
    first, difference = (
        compare(n.model(n.conv(y, 8, (1, 1))), {"x": given}, ["msfp-a10"]).presets[0].layers[:2]
    )
    assert first.cause == "the picture and its weights in blocks"
    assert difference.cause.startswith("its sums cancel")
    assert difference.parts_db > difference.snr_db + 3


def test_every_output_every_kind_of_chain_has_its_error(net: Callable[..., Any]) -> None:
    n = net(("N", 3, 12, 12))
    x = n.relu(n.bn(n.conv("x", 16, pads=[1] * 4)))
    x = n.op("Concat", x, n.conv(n.relu(n.bn(x)), 8, pads=[1] * 4), axis=1, channels=24)
    x = n.op("AveragePool", n.conv(n.relu(n.bn(x)), 16, (1, 1)), kernel_shape=[2, 2], strides=[2, 2])
    model = n.model(n.conv(x, 8, pads=[1] * 4), n.conv(n.relu(n.conv(x, 8)), 12))
    found = compare(model, {"x": np.random.default_rng(0).normal(size=(2, 3, 12, 12)).astype(np.float32)})
    kinds = {layer.kind for layer in found.presets[0].layers}
    assert kinds == {"expand", "identity", "conv", "concat", "average_pool"}
    assert found.presets[0].relative_l2 < 0.1
    for preset in found.presets:
        assert len(preset.layers) == 10
        assert all(0 < layer.snr_db < 60 and layer.cause for layer in preset.layers), preset


def test_formats_under_study_need_no_name(small_residual: Any, pictures: Any) -> None:
    """Mantissa bits one by one: each is worth about 6 dB."""
    forms = [bfp.Preset(f"m={m}", 128, 5, m, bfp.Accumulation.FP32_SEQ) for m in (1, 4, 7)]
    one, four, seven = compare(small_residual, {"x": pictures}, forms).presets
    assert one.relative_l2 > four.relative_l2 > seven.relative_l2
    assert 15 < four.layers[0].snr_db - one.layers[0].snr_db < 21
    assert 15 < seven.layers[0].snr_db - four.layers[0].snr_db < 21


def test_a_fixed_batch_is_filled_as_often_as_there_are_pictures(
    net: Callable[..., Any], pictures: Any
) -> None:
    n = net((1, 3, 12, 12))
    fixed = n.model(n.relu(n.conv("x", 8)))
    parts = list(batches({"x": pictures}, inputs_of(fixed), 16))
    assert [part["x"].shape[0] for part in parts] == [1, 1, 1]
    assert compare(fixed, {"x": pictures}, ["msfp16"]).samples == 3


def test_without_onnx_runtime_onnx_itself_computes_the_host_part(
    small_residual: Any, pictures: Any, monkeypatch: Any
) -> None:
    monkeypatch.setitem(sys.modules, "onnxruntime", None)  # as if it were not installed
    assert "ReferenceEvaluator" in str(HostGraph(small_residual)._run)
    slow = Execution(compile_model(small_residual)).run({"x": pictures})
    monkeypatch.undo()
    fast = Execution(compile_model(small_residual)).run({"x": pictures})
    for name, array in slow.items():
        np.testing.assert_allclose(array, fast[name], rtol=1e-5)


def test_a_missing_input_is_named(small_residual: Any) -> None:
    with pytest.raises(TensorError, match="'x' is not given"):
        HostGraph(small_residual).run({})
