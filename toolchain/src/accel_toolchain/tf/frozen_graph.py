"""A frozen GraphDef (`.pb`) becomes float32 ONNX by the tensors that the user names; it has no signature of its own."""

import difflib
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

import tensorflow as tf
from google.protobuf.message import DecodeError

from accel_toolchain.conditions import Terminal, listed
from accel_toolchain.jobs import Conversion
from accel_toolchain.model import FloatModel
from accel_toolchain.tf.freezing import Original
from accel_toolchain.tf.graphs import GraphDef, by_name, data_inputs, node_name
from accel_toolchain.tf.saved_model import answer_and_convert
from accel_toolchain.tf.screening import screen
from accel_toolchain.tf.signature import Port, Signature

_INPUTS: Final = frozenset({"Placeholder", "PlaceholderWithDefault", "PlaceholderV2"})
_SILENT: Final = frozenset({"Const", "NoOp", "Assert", "Placeholder"})  # never what a model answers


def read_frozen_graph(
    path: Path, conversion: Conversion, count: int, say: Callable[[str], None]
) -> FloatModel:
    """Convert the GraphDef in a file; `count` samples are answered by the original first.

    Raises:
        Terminal: InvalidModel (not a GraphDef, nodes missing), UnknownTensor, ForbiddenOperator, and what conversions
        of SavedModels raise.
    """
    graph = _load(path)
    signature = _signature(graph, conversion)
    meta_graph = tf.compat.v1.MetaGraphDef(
        graph_def=graph
    )  # a frozen graph has no saver: none of its operators may be
    screen(meta_graph, [port.name for port in signature.outputs])
    original = Original.of_graph(graph, signature)
    say(f"TensorFlow {tf.__version__} imported the graph: {len(graph.node)} nodes")
    return answer_and_convert(original, signature, count, say)


def _load(path: Path) -> GraphDef:
    graph = tf.compat.v1.GraphDef()
    try:
        graph.ParseFromString(path.read_bytes())
    except DecodeError as error:
        raise Terminal(
            "InvalidModel",
            f"spec.source: {path.name} is no frozen graph (a GraphDef; truncated?). Push it again.",
        ) from error
    if not graph.node:
        raise Terminal("InvalidModel", f"spec.source: {path.name} holds no graph. Push it again.")
    names = by_name(graph)
    missing = sorted({node_name(i) for node in graph.node for i in node.input if node_name(i) not in names})
    if missing:
        raise Terminal(
            "InvalidModel",
            f"spec.source: nodes of {path.name} read from nodes that are not in it: {listed(missing)}. Freeze the "
            "graph again with all that its outputs need.",
        )
    return graph


def _signature(graph: GraphDef, conversion: Conversion) -> Signature:
    inputs = [node.name for node in graph.node if node.op in _INPUTS]
    read = {node_name(tensor) for node in graph.node for tensor in data_inputs(node)}
    ends = [node.name for node in graph.node if node.name not in read and node.op not in _SILENT]
    for field, names, existing in (
        ("inputs", conversion.inputs, inputs),
        ("outputs", conversion.outputs, ends),
    ):
        if not names:
            raise Terminal(
                "InvalidModel",
                f"spec.conversion.{field}: a frozen graph has no signature, so its tensors must be named. It has the "
                f"inputs {_tensors(inputs)} and ends in {_tensors(ends)}.",
            )
        for name in names:
            _check(f"spec.conversion.{field}", name, existing, graph)
    return Signature("", _ports(conversion.inputs), _ports(conversion.outputs))


def _check(field: str, name: str, existing: list[str], graph: GraphDef) -> None:
    node, _, place = name.partition(":")
    names = by_name(graph)
    if node in names and (place or "0").isdigit():
        return
    close = difflib.get_close_matches(node, list(names), n=3, cutoff=0.7)
    hint = f" Similar in the graph: {_tensors(close)}." if close else ""
    raise Terminal(
        "UnknownTensor", f"{field}: the graph has no tensor '{name}'. It has {_tensors(existing)}.{hint}"
    )


def _tensors(nodes: list[str]) -> str:
    return listed([f"{node}:0" for node in nodes]) or "none"


def _ports(names: tuple[str, ...]) -> tuple[Port, ...]:
    tensors: list[Any] = [name if ":" in name else f"{name}:0" for name in names]
    return tuple(Port(name, name.removesuffix(":0")) for name in dict.fromkeys(tensors))
