"""Finding the loop that makes arrays of a batch of encoded pictures: `tf.map_fn(decode, strings)`.

TensorFlow 2 writes it as a While operator whose body is a function, TensorFlow 1 as a cycle of Enter, Merge,
Switch, Exit and NextIteration. Both come out of here as the same thing: a flat graph of one picture.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

import tensorflow as tf

from accel_toolchain.tf.graphs import (
    GraphDef,
    ancestors,
    by_name,
    data_inputs,
    node_name,
    placeholder,
    rewire,
    tensor_name,
)

DECODERS: Final = frozenset(
    {"DecodeJpeg", "DecodePng", "DecodeImage", "DecodeAndCropJpeg", "DecodeBmp", "DecodeGif"}
)
_CALLS: Final = frozenset({"PartitionedCall", "StatefulPartitionedCall"})
_FORWARDING: Final = frozenset({"Identity", "Enter", "RefEnter", "Exit", "StopGradient", "EnsureShape"})
_ELEMENT: Final = "accel_element"


@dataclass(frozen=True)
class PictureMap:
    """One picture's graph, and where its results are stacked in the outer graph."""

    body: GraphDef
    element: str
    """Tensor of the body: the encoded picture."""
    value: str
    """Tensor of the body: what becomes of it."""
    stacked: str
    """Tensor of the outer graph: all values, batch first."""


def find_map(graph: GraphDef, strings: str) -> PictureMap | None:
    """Return the loop over the tensor `strings`, or None if there is none that decodes pictures."""
    return _find_function_map(graph, strings) or _find_frame_map(graph, strings)


def resolve(nodes: Mapping[str, Any], reference: str) -> str:
    """Follow a reference back through operators that hand on their input."""
    tensor = tensor_name(reference)
    while (node := nodes.get(node_name(tensor))) is not None and node.op in _FORWARDING:
        tensor = data_inputs(node)[0]
    return tensor


# TensorFlow 2: a While operator


def _find_function_map(graph: GraphDef, strings: str) -> PictureMap | None:
    nodes = by_name(graph)
    functions = {function.signature.name: function for function in graph.library.function}
    for loop in graph.node:
        if loop.op not in ("While", "StatelessWhile"):
            continue
        body, arguments, results = flatten(functions, loop.attr["body"].func.name)
        if not any(node.op in DECODERS for node in body.node):
            continue
        inside = by_name(body)
        outer = dict(zip(arguments, data_inputs(loop), strict=True))
        element = _list_element(inside, nodes, outer, strings)
        if element is None:
            continue
        for place, result in enumerate(results):
            item = inside.get(node_name(resolve(inside, result)))
            if item is None or item.op != "TensorListSetItem":
                continue
            stacked = _stack(graph, nodes, f"{loop.name}:{place}")
            if stacked is not None:
                _take_element(body, element)
                _bind_constants(body, nodes, outer)
                value = resolve(by_name(body), data_inputs(item)[2])
                return PictureMap(_trimmed(body, value, graph), f"{_ELEMENT}:0", value, stacked)
    return None


def flatten(functions: Mapping[str, Any], name: str, depth: int = 0) -> tuple[GraphDef, list[str], list[str]]:
    """Return a function with its calls inlined: the graph, its argument nodes, its result tensors."""
    from tensorflow.python.framework.function_def_to_graph import function_def_to_graph_def

    definition = functions[name]
    graph, tensors = function_def_to_graph_def(definition)
    arguments = [argument.name for argument in definition.signature.input_arg]
    results = [
        tensor_name(tensors.get(definition.ret[result.name], definition.ret[result.name]))
        for result in definition.signature.output_arg
    ]
    if depth > 16:
        return graph, arguments, results
    for call in [node for node in graph.node if node.op in _CALLS]:
        callee = call.attr["f"].func.name
        if callee not in functions:
            continue
        inner, parameters, returned = flatten(functions, callee, depth + 1)
        given = dict(zip(parameters, data_inputs(call), strict=True))
        prefix = f"{call.name}/"
        moved = {f"{parameter}:0": source for parameter, source in given.items()}
        for node in inner.node:
            if node.name in given:
                continue
            copy = graph.node.add()
            copy.CopyFrom(node)
            copy.name = prefix + node.name
            del copy.input[:]
            copy.input.extend(moved.get(source, prefix + source) for source in data_inputs(node))
        replaced = {
            f"{call.name}:{place}": moved.get(tensor, prefix + tensor)
            for place, tensor in enumerate(returned)
        }
        rewire(graph, replaced)
        results = [replaced.get(result, result) for result in results]
    return graph, arguments, results


def _list_element(
    inside: Mapping[str, Any], nodes: Mapping[str, Any], outer: Mapping[str, str], strings: str
) -> Any:
    """Return the node of the body that takes one string out of the list made of `strings`."""
    for node in inside.values():
        if node.op != "TensorListGetItem":
            continue
        source = outer.get(node_name(resolve(inside, node.input[0])))
        made = nodes.get(node_name(resolve(nodes, source))) if source else None
        if (
            made is not None
            and made.op == "TensorListFromTensor"
            and resolve(nodes, made.input[0]) == strings
        ):
            return node
    return None


def _stack(graph: GraphDef, nodes: Mapping[str, Any], listed: str) -> str | None:
    for node in graph.node:
        if node.op == "TensorListStack" and resolve(nodes, node.input[0]) == listed:
            return f"{node.name}:0"
    return None


def _bind_constants(body: GraphDef, nodes: Mapping[str, Any], outer: Mapping[str, str]) -> None:
    """Give arguments of the body that are constants outside their values."""
    for node in body.node:
        if node.op == "Placeholder" and node.name in outer:
            source = nodes.get(node_name(resolve(nodes, outer[node.name])))
            if source is not None and source.op == "Const":
                name = node.name
                node.CopyFrom(source)
                node.name = name
                del node.input[:]


# TensorFlow 1: a frame of control-flow operators


def _find_frame_map(graph: GraphDef, strings: str) -> PictureMap | None:
    nodes = by_name(graph)
    for gather in graph.node:
        if gather.op not in ("TensorArrayGatherV3", "TensorArrayGatherV2"):
            continue
        array = resolve(nodes, gather.input[0])
        write = next(
            (
                n
                for n in graph.node
                if n.op.startswith("TensorArrayWrite") and resolve(nodes, n.input[0]) == array
            ),
            None,
        )
        if write is None:
            continue
        reads = [node.name for node in graph.node if node.op.startswith("TensorArrayRead")]
        inside = ancestors(graph, [write.input[2]], stop=reads)
        if not any(node.op in DECODERS for node in inside):
            continue
        read = next((n for n in inside if n.name in reads and _scattered(graph, nodes, n) == strings), None)
        if read is None:
            continue
        body = tf.compat.v1.GraphDef(versions=graph.versions)
        body.node.extend(inside)
        for node in body.node:
            if node.op in ("Enter", "RefEnter"):
                node.op = "Identity"
                for attribute in ("frame_name", "is_constant", "parallel_iterations"):
                    node.attr.pop(attribute, None)
        _take_element(body, read)
        value = resolve(by_name(body), write.input[2])
        return PictureMap(_trimmed(body, value, graph), f"{_ELEMENT}:0", value, f"{gather.name}:0")
    return None


def _scattered(graph: GraphDef, nodes: Mapping[str, Any], read: Any) -> str | None:
    """Return the tensor that was spread over the array which a node reads."""
    array = resolve(nodes, read.input[0])
    for node in graph.node:
        if (
            node.op in ("TensorArrayScatterV3", "TensorArrayUnpackV3")
            and resolve(nodes, node.input[0]) == array
        ):
            return resolve(nodes, node.input[2])
    return None


# Both


def _take_element(body: GraphDef, reader: Any) -> None:
    """Put a placeholder where the body takes its string."""
    body.node.append(placeholder(_ELEMENT, tf.string, ()))
    rewire(body, {f"{reader.name}:0": f"{_ELEMENT}:0"})


def _trimmed(body: GraphDef, value: str, outer: GraphDef) -> GraphDef:
    """Return what the value needs, without control dependencies (assertions, and the loop's own)."""
    for node in body.node:
        kept = [reference for reference in node.input if not reference.startswith("^")]
        del node.input[:]
        node.input.extend(kept)
    result = tf.compat.v1.GraphDef(versions=outer.versions)
    result.node.extend(ancestors(body, [value]))
    result.library.CopyFrom(outer.library)
    return result
