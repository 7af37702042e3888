"""Batch normalisations that an exporter wrote out as arithmetic become one operator again.

Keras 3 writes x · γ/√(σ²+ε) + (β − μ · γ/√(σ²+ε)). The accelerator has a unit for that and must not see it
fused into the convolution before (that would change almost every mantissa), so the converter counts them: as
many out as in.
"""

from collections import Counter
from collections.abc import Mapping
from typing import Any, Final

import numpy as np
import tensorflow as tf

from accel_toolchain.tf.graphs import GraphDef, by_name, const_value, constant, data_inputs, node_name, shapes

_ADD: Final = frozenset({"Add", "AddV2"})
_CONVOLUTIONS: Final = frozenset({"Conv2D", "DepthwiseConv2dNative"})


def recover(graph: GraphDef, history: Mapping[str, frozenset[str]]) -> None:
    """Replace Add(Mul(x, c), d) by FusedBatchNormV3 in place, where it was a batch normalisation.

    It was one if √ went into c (see `fold_constants`), or if x comes from a convolution; otherwise a scale
    and a shift, such as those of picture preprocessing, stay what they are.
    """
    nodes = by_name(graph)
    readers = Counter(reference for node in graph.node for reference in data_inputs(node))
    candidates = []
    for node in graph.node:
        if node.op not in _ADD:
            continue
        product, shift = _split(node, nodes, lambda other: other.op == "Mul")
        if product is None or shift is None or readers[f"{product.name}:0"] != 1:
            continue
        scale, source = _operands(product, nodes)
        if scale is None or source is None:
            continue
        if "Rsqrt" in history.get(scale.name, ()) or _from_convolution(source, nodes):
            candidates.append((node, source, scale, shift))
    if not candidates:
        return
    ranks = shapes(graph, {source for _, source, _, _ in candidates})
    for node, source, scale, shift in candidates:
        channels = _channels(ranks[source], const_value(scale), const_value(shift))
        if channels is not None:
            _replace(graph, node, source, const_value(scale), const_value(shift), channels)


def count(graph: GraphDef) -> int:
    """Return how many batch normalisations a GraphDef holds."""
    return sum(node.op.startswith("FusedBatchNorm") for node in graph.node)


def _split(node: Any, nodes: Mapping[str, Any], wanted: Any) -> tuple[Any, Any]:
    """Return an Add's product and its constant, in either order."""
    inputs = [nodes[node_name(reference)] for reference in data_inputs(node)]
    for one, other in (inputs, inputs[::-1]):
        if wanted(one) and other.op == "Const":
            return one, other
    return None, None


def _operands(product: Any, nodes: Mapping[str, Any]) -> tuple[Any, str | None]:
    """Return a Mul's constant and the name of its other operand."""
    one, other = data_inputs(product)
    for factor, source in ((one, other), (other, one)):
        if nodes[node_name(factor)].op == "Const" and nodes[node_name(source)].op != "Const":
            return nodes[node_name(factor)], source
    return None, None


def _from_convolution(source: str, nodes: Mapping[str, Any]) -> bool:
    node = nodes[node_name(source)]
    if node.op == "BiasAdd":
        node = nodes[node_name(node.input[0])]
    return node.op in _CONVOLUTIONS


def _channels(shape: tuple[int | None, ...] | None, scale: Any, shift: Any) -> int | None:
    """Return the number of channels if the operands are per-channel vectors of an NHWC picture."""
    if shape is None or len(shape) != 4 or shape[3] is None:
        return None
    channels = shape[3]
    for value in (scale, shift):
        if value.dtype != np.float32 or value.size != channels or value.shape[-1:] != (channels,):
            return None
    return channels


def _replace(graph: GraphDef, add: Any, source: str, scale: Any, shift: Any, channels: int) -> None:
    """Turn the Add node itself into the normalisation, so that its readers need no change."""
    values = {
        "scale": scale.reshape(channels),
        "offset": shift.reshape(channels),
        "mean": np.zeros(channels, np.float32),
        "variance": np.ones(channels, np.float32),
    }
    name = add.name
    names = []
    for key, value in values.items():
        graph.node.append(constant(f"{name}/bn_{key}", value))
        names.append(f"{name}/bn_{key}:0")
    add.Clear()
    add.name, add.op = name, "FusedBatchNormV3"
    add.input.extend([source, *names])
    for key in ("T", "U"):
        add.attr[key].type = tf.float32.as_datatype_enum
    add.attr["epsilon"].f = 0.0  # variance 1 and epsilon 0: scale and shift are applied as they are
    add.attr["data_format"].s = b"NHWC"
    add.attr["is_training"].b = False
