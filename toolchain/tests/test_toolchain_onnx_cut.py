"""Tensors inside an ONNX graph as inputs and outputs: what is left computes what the whole computed there."""

import json
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
from accel_toolchain import conversion, jobs
from accel_toolchain.conditions import Terminal
from accel_toolchain.jobs import Conversion
from accel_toolchain.onnx_cut import cut
from accel_toolchain.workspace import Workspace, write_note
from onnx import TensorProto, helper, numpy_helper

Make = Callable[..., str]
RANDOM = np.random.default_rng(11)


def value(name: str, *shape: Any) -> Any:
    return helper.make_tensor_value_info(name, TensorProto.FLOAT, shape)


def model(nodes: list[Any], inputs: list[Any], outputs: list[Any]) -> onnx.ModelProto:
    """A model of the nodes, with the weights w and u of two convolutions, 4 channels to 4."""
    weights = [
        numpy_helper.from_array(RANDOM.normal(0, 0.3, (4, 4, 3, 3)).astype(np.float32), name) for name in "wu"
    ]
    graph = helper.make_graph(nodes, "m", inputs, outputs, weights)
    imports = [helper.make_opsetid("", 18), helper.make_opsetid("acme", 1)]
    return helper.make_model(graph, opset_imports=imports, ir_version=8)


def chain() -> onnx.ModelProto:
    """x, Conv c0, Relu r0, MaxPool p0, Conv c1, Relu y."""
    nodes = [
        helper.make_node("Conv", ["x", "w"], ["c0"], pads=[1, 1, 1, 1]),
        helper.make_node("Relu", ["c0"], ["r0"]),
        helper.make_node("MaxPool", ["r0"], ["p0"], kernel_shape=[2, 2], strides=[2, 2]),
        helper.make_node("Conv", ["p0", "u"], ["c1"], pads=[1, 1, 1, 1]),
        helper.make_node("Relu", ["c1"], ["y"]),
    ]
    return model(nodes, [value("x", "N", 4, 8, 8)], [value("y", "N", 4, 4, 4)])


def with_bad_node() -> onnx.ModelProto:
    """x, Conv n0, the unknown Svd n1, Conv y."""
    nodes = [
        helper.make_node("Conv", ["x", "w"], ["n0"], pads=[1, 1, 1, 1]),
        helper.make_node("Svd", ["n0"], ["n1"], domain="acme"),
        helper.make_node("Conv", ["n1", "u"], ["y"], pads=[1, 1, 1, 1]),
    ]
    return model(nodes, [value("x", "N", 4, 8, 8)], [value("y", "N", 4, 8, 8)])


def two_inputs() -> onnx.ModelProto:
    """y = x + Split(z)[0] - Split(z)[1]."""
    nodes = [
        helper.make_node("Split", ["z"], ["s0", "s1"], axis=1, num_outputs=2),
        helper.make_node("Add", ["x", "s0"], ["a"]),
        helper.make_node("Sub", ["a", "s1"], ["y"]),
    ]
    return model(nodes, [value("x", "N", 4), value("z", "N", 8)], [value("y", "N", 4)])


def branching() -> onnx.ModelProto:
    """An If whose branches read r of the graph around them."""
    branches = {
        f"{name}_branch": helper.make_graph(
            [helper.make_node(op, ["r"], [name])], name, [], [value(name, "N", 4)]
        )
        for name, op in (("then", "Sin"), ("else", "Cos"))
    }
    nodes = [
        helper.make_node("Relu", ["x"], ["r"]),
        helper.make_node("Constant", [], ["t"], value=numpy_helper.from_array(np.array(True))),
        helper.make_node("If", ["t"], ["i"], **branches),
        helper.make_node("Exp", ["i"], ["y"]),
    ]
    return model(nodes, [value("x", "N", 4)], [value("y", "N", 4)])


def answers(proto: onnx.ModelProto, wanted: list[str], fed: dict[str, Any]) -> list[Any]:
    session = onnxruntime.InferenceSession(proto.SerializeToString(), providers=["CPUExecutionProvider"])
    return list(session.run(wanted, fed))


def opened(proto: onnx.ModelProto, *names: str) -> onnx.ModelProto:
    """The whole model, with inner tensors as outputs beside its own."""
    inferred = onnx.shape_inference.infer_shapes(proto)
    inferred.graph.output.extend(v for v in proto.graph.value_info if v.name in names)
    inferred.graph.output.extend(v for v in inferred.graph.value_info if v.name in names)
    return inferred


CUTS: dict[str, tuple[Callable[[], onnx.ModelProto], list[str], list[str], list[str], list[str]]] = {
    # name: (model, inputs, outputs, operators left, inputs left)
    "an inner output": (chain, [], ["p0"], ["Conv", "Relu", "MaxPool"], ["x"]),
    "an inner input": (chain, ["p0"], [], ["Conv", "Relu"], ["p0"]),
    "both inside": (chain, ["r0"], ["c1"], ["MaxPool", "Conv"], ["r0"]),
    "inner and own outputs": (chain, ["p0"], ["c1", "y"], ["Conv", "Relu"], ["p0"]),
    "one of two inputs is enough": (two_inputs, [], ["s1"], ["Split"], ["z"]),
    "an own and inner inputs": (two_inputs, ["x", "s0"], ["a"], ["Add"], ["x", "s0"]),
    "read by the graphs of an If": (branching, ["r"], ["i"], ["Constant", "If"], ["r"]),
}


@pytest.mark.parametrize(("make", "inputs", "outputs", "left", "ends"), CUTS.values(), ids=CUTS)
def test_what_is_left_of_a_graph_computes_the_same(
    make: Callable[[], onnx.ModelProto],
    inputs: list[str],
    outputs: list[str],
    left: list[str],
    ends: list[str],
) -> None:
    whole = make()
    fed = {
        tensor.name: RANDOM.normal(size=[d.dim_value or 1 for d in tensor.type.tensor_type.shape.dim]).astype(
            np.float32
        )
        for tensor in whole.graph.input
    }
    part = onnx.ModelProto.FromString(whole.SerializeToString())
    cut(part, Conversion(inputs=tuple(inputs), outputs=tuple(outputs)))
    wanted = outputs or ["y"]
    assert [node.op_type for node in part.graph.node] == left
    assert [tensor.name for tensor in part.graph.input] == ends
    assert [tensor.name for tensor in part.graph.output] == wanted
    assert {w.name for w in part.graph.initializer} == {n for node in part.graph.node for n in node.input} & {
        "w",
        "u",
    }
    onnx.checker.check_model(part, full_check=True)
    whole = opened(whole, *ends, *wanted)
    inner = [name for name in ends if name not in fed]
    between = dict(zip(inner, answers(whole, inner, fed), strict=True)) if inner else {}
    expected = answers(whole, wanted, fed)
    found = answers(part, wanted, {name: (fed | between)[name] for name in ends})
    for here, there in zip(found, expected, strict=True):
        np.testing.assert_allclose(here, there, rtol=1e-5, atol=1e-6)


def convert(proto: onnx.ModelProto, work: Workspace, text: str) -> dict[str, Any]:
    work.source.mkdir()
    (work.source / "model.onnx").write_bytes(proto.SerializeToString())
    write_note(work.source_note, {"sha256": "5" * 64, "known": False})
    return conversion.run(jobs.parse_convert(text), work)


def test_outputs_before_an_unknown_operator_make_the_model_convertible(
    convert_job: Make, work: Workspace
) -> None:
    convert(with_bad_node(), work, convert_job(outputs=["n0"]))
    document = json.loads((work.artifact / "model.json").read_text())
    assert document["outputs"] == [{"name": "n0", "alias": "n0", "dtype": "float32", "shape": [-1, 4, 8, 8]}]


def test_inputs_behind_an_unknown_operator_need_a_shape_in_the_file(
    convert_job: Make, work: Workspace
) -> None:
    told = with_bad_node()
    told.graph.value_info.append(value("n1", "N", 4, 8, 8))
    report = convert(told, work, convert_job(inputs=["n1"]))
    assert report["inputs"] == [{"name": "n1", "alias": "n1", "dtype": "float32", "shape": [-1, 4, 8, 8]}]


def test_a_program_of_the_middle_of_a_graph(convert_job: Make, work: Workspace) -> None:
    report = convert(chain(), work, convert_job(inputs=["r0"], outputs=["c1"]))
    assert [tensor["name"] for tensor in (*report["inputs"], *report["outputs"])] == ["r0", "c1"]
    assert report["device"]["offloadedOps"] >= 1
    assert report["floatParity"]["maxAbs"] == 0


def wide() -> onnx.ModelProto:
    names = ["x", *(f"t{number}" for number in range(40)), "y"]
    nodes = [helper.make_node("Sin", [a], [b]) for a, b in pairwise(names)]
    return model(nodes, [value("x", "N", 4)], [value("y", "N", 4)])


REFUSED: dict[str, tuple[Callable[[], onnx.ModelProto], dict[str, Any], str, list[str]]] = {
    # name: (model, options, reason, what the message says)
    "unknown input": (
        chain, {"inputs": ["nope"]}, "UnknownTensor", ["spec.conversion.inputs", "the input x. Inside, it has c0, r0"],
    ),
    "unknown output": (
        chain, {"outputs": ["nope"]}, "UnknownTensor",
        ["spec.conversion.outputs", "the output y. Inside, it has c0, r0"],
    ),
    "a slip": (chain, {"outputs": ["pp0"]}, "UnknownTensor", ["Similar in the graph: p0"]),
    "of many": (wide, {"outputs": ["nope"]}, "UnknownTensor", ["the output y.", "t11 and 28 more"]),
    "a weight": (chain, {"inputs": ["w"]}, "UnknownTensor", ["no input or inner tensor 'w'"]),
    "no shape": (with_bad_node, {"inputs": ["n1"]}, "UnknownTensor", ["type and shape of 'n1'"]),
    "behind the outputs": (chain, {"inputs": ["x", "p0"], "outputs": ["r0"]}, "UnknownTensor", ["p0 leads to none"]),
    "an input that is left out": (two_inputs, {"inputs": ["x"]}, "InvalidModel", ["model's input z as well"]),
    "input and output": (chain, {"inputs": ["r0"], "outputs": ["r0"]}, "UnknownTensor", ["r0 is an output as well"]),
    "half of an operator's results": (
        two_inputs, {"inputs": ["x", "s0", "z"]}, "InvalidModel", ["the operator that computes s0"],
    ),
    "no input at all": (branching, {"outputs": ["t"]}, "UnknownTensor", ["depend on no input"]),
    "behind an unknown operator": (
        with_bad_node, {"outputs": ["n1"]}, "UnsupportedOperator", ["acme.Svd", "cut them off"],
    ),
}  # fmt: skip


@pytest.mark.parametrize(("make", "options", "reason", "words"), REFUSED.values(), ids=REFUSED)
def test_a_cut_that_cannot_be(
    make: Callable[[], onnx.ModelProto],
    options: dict[str, Any],
    reason: str,
    words: list[str],
    convert_job: Make,
    tmp_path: Path,
) -> None:
    work = Workspace(tmp_path / "w")
    work.root.mkdir()
    with pytest.raises(Terminal) as raised:
        convert(make(), work, convert_job(**options))
    assert raised.value.reason == reason, raised.value.message
    for word in words:
        assert word in raised.value.message
