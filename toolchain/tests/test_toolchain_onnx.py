"""ONNX as a source: without TensorFlow, from a file to an artifact that the model server's code runs."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from accel_toolchain import conversion, jobs
from accel_toolchain.conditions import Terminal
from accel_toolchain.offload import with_decoder
from accel_toolchain.workspace import Workspace, write_note
from onnx import TensorProto, helper, numpy_helper

Make = Callable[..., str]
RANDOM = np.random.default_rng(7)


def value(name: str, shape: list[Any], kind: int = TensorProto.FLOAT) -> Any:
    return helper.make_tensor_value_info(name, kind, shape)


def network(
    opset: int = 18, picture: list[Any] | None = None, nodes: list[Any] | None = None, gain: float = 1
) -> onnx.ModelProto:
    """A convolution, a normalisation, a ReLU, then `nodes` or a mean over the picture."""
    weights = {
        "w": RANDOM.normal(0, 0.3 * gain, (8, 3, 3, 3)),
        "scale": RANDOM.uniform(0.5, 2, 8),
        "bias": RANDOM.normal(0, 1, 8),
        "mean": RANDOM.normal(0, 1, 8),
        "var": RANDOM.uniform(0.5, 2, 8),
    }
    graph = helper.make_graph(
        [
            helper.make_node("Conv", ["x", "w"], ["c"], pads=[1, 1, 1, 1]),
            helper.make_node("BatchNormalization", ["c", "scale", "bias", "mean", "var"], ["b"]),
            helper.make_node("Relu", ["b"], ["r"]),
            *(
                nodes
                or [
                    helper.make_node("GlobalAveragePool", ["r"], ["p"]),
                    helper.make_node("Flatten", ["p"], ["y"]),
                ]
            ),
        ],
        "network",
        [value("x", picture or ["N", 3, 16, 16])],
        [value("y", ["N", 8])],
        [numpy_helper.from_array(array.astype(np.float32), name) for name, array in weights.items()],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=8)


def small(*nodes: Any, opset: int = 18, domain: str = "") -> onnx.ModelProto:
    """A graph of the given nodes from x to y, both [N, 4]."""
    imports = [helper.make_opsetid("", opset)] + ([helper.make_opsetid(domain, 1)] if domain else [])
    graph = helper.make_graph(list(nodes), "small", [value("x", ["N", 4])], [value("y", ["N", 4])])
    return helper.make_model(graph, opset_imports=imports, ir_version=8)


def convert(model: onnx.ModelProto | bytes, work: Workspace, text: str) -> dict[str, Any]:
    work.source.mkdir(exist_ok=True)
    content = model if isinstance(model, bytes) else model.SerializeToString()
    (work.source / "model.onnx").write_bytes(content)
    write_note(work.source_note, {"sha256": "5" * 64, "known": False})
    return conversion.run(jobs.parse_convert(text), work)


def test_a_network_becomes_a_program_between_host_graphs(convert_job: Make, work: Workspace) -> None:
    report = convert(network(), work, convert_job())
    document = json.loads((work.artifact / "model.json").read_text())
    assert document["schema"] == "accel.dev/artifact/v1"
    assert document["inputs"] == [{"name": "x", "alias": "x", "dtype": "float32", "shape": [-1, 3, 16, 16]}]
    assert document["outputs"] == [{"name": "y", "alias": "y", "dtype": "float32", "shape": [-1, 8]}]
    assert document["sourceSha256"] == "5" * 64
    assert set(document["files"]) == {p.name for p in work.artifact.iterdir()} - {"model.json"}
    assert report["device"]["fits"] is True
    assert report["device"]["offloadedOps"] >= 2
    assert 0 < report["parity"]["maxRel"] < 0.1, "the device's numbers are coarser, not equal and not wrong"
    assert report["floatParity"]["maxAbs"] == 0


def test_a_model_that_overflows_on_the_device_is_not_taken_for_a_good_one(
    convert_job: Make, work: Workspace, tmp_path: Path
) -> None:
    hot = network(gain=1e6)
    with pytest.raises(Terminal, match="reached float16's largest, 65504") as raised:
        convert(hot, work, convert_job())
    assert raised.value.reason == "ToleranceExceeded"
    assert "more than 0.5, the default" in raised.value.message
    assert "raise spec.verification.tolerance above" in raised.value.message
    other = Workspace(tmp_path / "other")
    other.root.mkdir()
    assert convert(hot, other, convert_job(tolerance=2))["parity"]["saturated"] > 0.1


def test_a_model_within_the_range_saturates_nowhere(convert_job: Make, work: Workspace) -> None:
    assert convert(network(), work, convert_job())["parity"]["saturated"] == 0


def test_equal_input_gives_equal_bytes(convert_job: Make, work: Workspace, tmp_path: Path) -> None:
    model = network()
    convert(model, work, convert_job())
    other = Workspace(tmp_path / "other")
    other.root.mkdir()
    convert(model, other, convert_job())
    for path in work.artifact.iterdir():
        assert path.read_bytes() == (other.artifact / path.name).read_bytes(), path.name


def test_without_an_fpga_the_host_computes_all(convert_job: Make, work: Workspace) -> None:
    report = convert(small(helper.make_node("Sin", ["x"], ["y"])), work, convert_job(requireFpga=False))
    document = json.loads((work.artifact / "model.json").read_text())
    assert document["graph"] == {
        "pre": "host_pre.onnx",
        "program": None,
        "post": None,
        "deviceInput": "",
        "deviceOutput": "",
    }
    assert report["device"] == {
        "offloadedOps": 0,
        "hostOps": 1,
        "hostReasons": [{"operator": "Sin", "count": 1, "reason": "the device has no such operator"}],
    }
    assert report["parity"]["maxAbs"] == 0


def external(location: str) -> onnx.ModelProto:
    model = network()
    tensor = model.graph.initializer[0]
    tensor.ClearField("raw_data")
    tensor.data_location = TensorProto.EXTERNAL
    entry = tensor.external_data.add()
    entry.key, entry.value = "location", location
    return model


REFUSED: dict[str, tuple[Callable[[], onnx.ModelProto | bytes], dict[str, Any], str, str]] = {
    # name: (model, options, reason, what the message says)
    "no ONNX": (lambda: b"\x00\x01\x02", {}, "InvalidModel", "no ONNX file"),
    "empty file": (lambda: b"", {}, "InvalidModel", "holds no graph"),
    "truncated": (lambda: network().SerializeToString()[:-99], {}, "InvalidModel", "truncated"),
    "unknown operator": (
        lambda: small(helper.make_node("Svd", ["x"], ["y"])),
        {},
        "UnsupportedOperator",
        "Svd",
    ),
    "unknown domain": (
        lambda: small(helper.make_node("Magic", ["x"], ["y"], domain="acme"), domain="acme"),
        {},
        "UnsupportedOperator",
        "acme.Magic",
    ),
    "unknown operator inside an If": (
        lambda: small(
            helper.make_node(
                "If",
                ["x"],
                ["y"],
                then_branch=helper.make_graph(
                    [helper.make_node("Svd", ["x"], ["t"])], "t", [], [value("t", [4])]
                ),
                else_branch=helper.make_graph(
                    [helper.make_node("Sin", ["x"], ["e"])], "e", [], [value("e", [4])]
                ),
            )
        ),
        {},
        "UnsupportedOperator",
        "Svd",
    ),
    "nothing to offload": (
        lambda: small(helper.make_node("Sin", ["x"], ["y"])),
        {},
        "NothingToOffload",
        "Set requireFpga to false",
    ),
    "old opset": (lambda: network(opset=7), {}, "InvalidModel", "opset 7"),
    "open picture size": (
        lambda: network(picture=["N", 3, "H", "W"]),
        {},
        "InvalidModel",
        "fixed picture size",
    ),
    "graph that ONNX Runtime refuses": (
        lambda: small(helper.make_node("Sin", ["absent"], ["y"])),
        {},
        "InvalidModel",
        "ONNX Runtime",
    ),
    "external data elsewhere": (lambda: external("/etc/hostname"), {}, "InvalidModel", "not in the source"),
    "external data upwards": (lambda: external("../source.json"), {}, "InvalidModel", "not in the source"),
    "tolerance exceeded": (network, {"tolerance": 1e-9}, "ToleranceExceeded", "spec.verification.tolerance"),
    "wrong format": (network, {"format": "SavedModel"}, "NotASavedModel", "model.onnx"),
    "unknown precision": (network, {"precision": "fp4"}, "UnsupportedOperator", "fp4"),
}


@pytest.mark.parametrize(("make", "options", "reason", "message"), REFUSED.values(), ids=REFUSED)
def test_refused(
    make: Callable[[], onnx.ModelProto | bytes],
    options: dict[str, Any],
    reason: str,
    message: str,
    convert_job: Make,
    work: Workspace,
) -> None:
    with pytest.raises(Terminal) as raised:
        convert(make(), work, convert_job(**options))
    assert (raised.value.reason, message in raised.value.message) == (reason, True), raised.value.message


FOLDERS = {
    # name: (files, format, what the message says)
    "nothing": ((), "Auto", "it holds nothing"),
    "a Keras file": (("model.keras",), "Auto", "model.keras"),
    "of any kind": (
        ("README.md",),
        "Auto",
        "neither a saved_model.pb nor an .onnx file nor a frozen graph's .pb",
    ),
    "two models": (("a.onnx", "b.onnx"), "Auto", "several .onnx files"),
    "too deep": (("a/b/saved_model.pb",), "Auto", "no model at its root or one folder down"),
    "other format": (("saved_model.pb",), "Onnx", "no .onnx file"),
}


@pytest.mark.parametrize(("files", "wanted", "message"), FOLDERS.values(), ids=FOLDERS)
def test_a_source_without_a_model(
    files: tuple[str, ...], wanted: str, message: str, convert_job: Make, work: Workspace
) -> None:
    work.source.mkdir()
    for name in files:
        (work.source / name).parent.mkdir(parents=True, exist_ok=True)
        (work.source / name).write_bytes(b"x")
    write_note(work.source_note, {"sha256": "5" * 64, "known": False})
    with pytest.raises(Terminal, match=message):
        conversion.run(jobs.parse_convert(convert_job(format=wanted)), work)


def test_the_cure_of_nothing_to_offload_is_said_once(convert_job: Make, work: Workspace) -> None:
    with pytest.raises(Terminal) as raised:
        convert(small(helper.make_node("Sin", ["x"], ["y"])), work, convert_job())
    assert raised.value.reason == "NothingToOffload"
    assert raised.value.message.lower().count("requirefpga to false") == 1
    assert "without an FPGA" not in raised.value.message
    assert "1 Sin: the device has no such operator" in raised.value.message


def test_the_interchange_graph_begins_with_the_decoder() -> None:
    decode = {
        "input": "images:0",
        "tensor": "x",
        "channels": 3,
        "dtype": "float32",
        "steps": [{"op": "resize", "height": 16, "width": 16, "method": "bilinear"}],
    }
    composed = with_decoder(network(), decode)
    head = composed.graph.node[0]
    assert (head.domain, head.op_type, list(head.input), list(head.output)) == (
        "accel",
        "DecodeImage",
        ["images:0"],
        ["x"],
    )
    assert {a.name: helper.get_attribute_value(a) for a in head.attribute}["steps"] == [
        b"resize height=16 method=bilinear width=16"
    ]
    assert [i.name for i in composed.graph.input] == ["images:0"]
    assert composed.graph.input[0].type.tensor_type.elem_type == TensorProto.STRING
    assert {entry.domain: entry.version for entry in composed.opset_import} == {"": 18, "accel": 1}
