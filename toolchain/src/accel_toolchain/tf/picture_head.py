"""Cutting a graph behind the decoding of its pictures.

Neither ONNX Runtime nor an FPGA decodes JPEG. The model server does, as `decode` in model.json tells it; the
graph then begins at the batch of decoded pictures. Arithmetic that was done per picture is done on the batch:
that is ordinary ONNX.
"""

from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import tensorflow as tf
from accel_runtime.decode import Decode, decode_pictures
from accel_runtime.errors import InvalidInput

from accel_toolchain.conditions import Terminal
from accel_toolchain.samples import PICTURE_SIZES, encoded, picture
from accel_toolchain.tf.graphs import (
    GraphDef,
    ancestors,
    constant,
    data_inputs,
    node_name,
    placeholder,
    rewire,
    run,
    subgraph,
)
from accel_toolchain.tf.picture_body import Body, TailOp, read_body, unsupported
from accel_toolchain.tf.picture_map import DECODERS, PictureMap, find_map

DECODED: Final = "decoded_images"


@dataclass(frozen=True)
class Head:
    """The graph behind the cut, what the server does before it, and how sure that is."""

    graph: GraphDef
    decode: dict[str, Any]
    notes: tuple[str, ...]


def cut_head(graph: GraphDef, strings: str, wire_name: str, outputs: list[str]) -> Head:
    """Cut a graph whose input `strings` is a batch of encoded pictures.

    Raises:
        Terminal: UnsupportedOperator, naming what is done to the pictures that the server does not know.
    """
    found = find_map(graph, strings)
    if found is None:
        decoders = sorted({node.op for node in graph.node if node.op in DECODERS})
        why = (
            "outside of a tf.map_fn over the input"
            if decoders
            else "and no decode_jpeg, decode_png or decode_image"
        )
        raise unsupported(decoders[0] if decoders else "a string input", why)
    body = read_body(found.body, found.value)
    decode = {
        "input": wire_name,
        "tensor": f"{DECODED}:0",
        "channels": body.channels,
        "dtype": body.dtype,
        "steps": body.steps,
    }
    result, joint = _cut(graph, found, body, strings, outputs)
    notes = _compare(graph, found, strings, result, joint, decode)
    return Head(subgraph(result, outputs), decode, notes)


def _cut(
    graph: GraphDef, found: PictureMap, body: Body, strings: str, outputs: list[str]
) -> tuple[GraphDef, str]:
    """Return the graph with a placeholder for decoded pictures, and what replaces the loop's result."""
    result = tf.compat.v1.GraphDef()
    result.CopyFrom(graph)
    height, width = next(
        ((step["height"], step["width"]) for step in reversed(body.steps) if step["op"] != "resizeSmallest"),
        (None, None),
    )
    result.node.append(placeholder(DECODED, body.dtype, (None, height, width, body.channels)))
    joint = f"{DECODED}:0"
    for place, operation in enumerate(body.tail):
        joint = _append(result, f"{DECODED}/{place}_{operation.op}", operation, joint)
    rewire(result, {found.stacked: joint})
    _replace_batch_size(result, strings)
    _drop_order(result, strings)
    left = ancestors(result, outputs)
    if any(node.name == node_name(strings) for node in left):
        raise unsupported("the encoded strings", "which the model reads for more than one tf.map_fn")
    return subgraph(result, [*outputs, joint]), joint


def _append(graph: GraphDef, name: str, operation: TailOp, source: str) -> str:
    """Add one operation on the batch and return its tensor."""
    node = tf.compat.v1.NodeDef(name=name, op=operation.op)
    if operation.op == "Cast":
        node.attr["SrcT"].type = tf.uint8.as_datatype_enum
        node.attr["DstT"].type = tf.float32.as_datatype_enum
        node.input.append(source)
    elif operation.op == "Reverse":
        node.op = "ReverseV2"
        graph.node.append(constant(f"{name}/axis", np.array([3], np.int32)))
        node.attr["T"].type = tf.float32.as_datatype_enum
        node.attr["Tidx"].type = tf.int32.as_datatype_enum
        node.input.extend([source, f"{name}/axis:0"])
    else:
        assert operation.operand is not None
        graph.node.append(constant(f"{name}/operand", operation.operand))
        node.attr["T"].type = tf.float32.as_datatype_enum
        operands = [source, f"{name}/operand:0"]
        node.input.extend(operands[::-1] if operation.first else operands)
    graph.node.append(node)
    return f"{name}:0"


def _replace_batch_size(graph: GraphDef, strings: str) -> None:
    """Let readers of the strings' shape read the decoded pictures' batch instead."""
    readers = [node for node in graph.node if node.op == "Shape" and data_inputs(node) == [strings]]
    for reader in readers:
        kind = reader.attr["out_type"].type or tf.int32.as_datatype_enum
        shape = tf.compat.v1.NodeDef(name=f"{reader.name}/decoded", op="Shape", input=[f"{DECODED}:0"])
        shape.attr["T"].type = next(n for n in graph.node if n.name == DECODED).attr["dtype"].type
        shape.attr["out_type"].type = kind
        batch = tf.compat.v1.NodeDef(name=f"{reader.name}/batch", op="Slice")
        for part, value in (("begin", 0), ("size", 1)):
            graph.node.append(constant(f"{batch.name}/{part}", np.array([value], np.int32)))
            batch.input.append(f"{batch.name}/{part}:0")
        batch.input.insert(0, f"{shape.name}:0")
        batch.attr["T"].type, batch.attr["Index"].type = kind, tf.int32.as_datatype_enum
        graph.node.extend([shape, batch])
        rewire(graph, {f"{reader.name}:0": f"{batch.name}:0"})


def _drop_order(graph: GraphDef, strings: str) -> None:
    """Let nothing wait for what still depends on the strings, such as assertions in the loop."""
    readers: dict[str, list[str]] = {}
    for node in graph.node:
        for reference in node.input:
            readers.setdefault(node_name(reference), []).append(node.name)
    waiting, dependent = [node_name(strings)], set()
    while waiting:
        name = waiting.pop()
        if name not in dependent:
            dependent.add(name)
            waiting += readers.get(name, ())
    for node in graph.node:
        kept = [r for r in node.input if not (r.startswith("^") and node_name(r) in dependent)]
        if len(kept) != len(node.input):
            del node.input[:]
            node.input.extend(kept)


def _compare(
    graph: GraphDef, found: PictureMap, strings: str, cut: GraphDef, joint: str, decode: dict[str, Any]
) -> tuple[str, ...]:
    """Run both heads on the same lossless pictures of several sizes; raises Terminal where they differ."""
    head = Decode.parse(decode)
    before, after = subgraph(graph, [found.stacked]), subgraph(cut, [joint])
    differing = []
    for number, size in enumerate(PICTURE_SIZES):
        data = np.array([encoded(picture(number, int(decode["channels"])), "PNG")], dtype=object)
        try:
            decoded = decode_pictures(head, data)
        except InvalidInput as error:
            raise Terminal(
                "UnsupportedOperator", f"spec.source: a sample picture is refused: {error}"
            ) from error
        (wanted,) = run(before, {strings: data}, [found.stacked])
        (got,) = run(after, {f"{DECODED}:0": decoded}, [joint])
        scale = float(np.abs(wanted).max()) or 1.0
        if got.shape != wanted.shape or not np.allclose(got, wanted, rtol=1e-5, atol=1e-5 * scale):
            differing.append(f"{size[0]}×{size[1]}")
    if not differing:
        return ()
    # A float's rounding of the longer side shifts a central crop by a pixel: told, not refused.
    if any(step["op"] == "resizeSmallest" for step in decode["steps"]) and 2 * len(differing) <= len(
        PICTURE_SIZES
    ):
        return (
            f"The resize of pictures of {', '.join(differing)} differs from TensorFlow's by its rounding.",
        )
    raise unsupported(
        "an operation", f"whose result on pictures of {', '.join(differing)} could not be reproduced"
    )
