"""From the region's nodes to layers: fusion into the float16 stage, padding, order of execution.

A layer is one chain before it has registers and bytes. Its operators always run in the order scale, bias,
residual, ReLU; whatever does not fit behind the last layer that way opens an identity pass.
"""

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from npu.chain import EXPANDER_KERNEL, Kind
from npu.compiler.geometry import Pads, Window, layouts, pads_of_pad, picture_shape, windows
from npu.compiler.graph import Graph, attributes
from npu.compiler.operators import Role, Verdict, expands, per_channel, real_readers
from npu.compiler.partition import Region

__all__ = ["INPUT", "Layer", "lower"]

INPUT = -1  # the region's input among layers
Float64 = NDArray[np.float64]
POINT = Window((1, 1), (1, 1), (1, 1), (0, 0, 0, 0))


@dataclass
class Layer:
    """`source` and `residual` are indices of layers or INPUT; `weights` is float32 [out, ky, kx, in]."""

    name: str
    kind: Kind
    source: int
    shape: tuple[int, int, int]
    window: Window = POINT
    weights: NDArray[np.float32] | None = None
    scale: Float64 | None = None
    bias: Float64 | None = None
    residual: int | None = None
    residual_stride: tuple[int, int] = (1, 1)
    relu: bool = False
    tensor: str = ""  # what the graph calls its result; empty where the graph has no such tensor

    @property
    def takes_affine(self) -> bool:
        """Whether a scale, bias or residual may still follow in the float16 stage's order."""
        return self.kind is not Kind.MAX_POOL and self.residual is None and not self.relu

    def apply(self, scale: Float64 | None, bias: Float64 | None) -> None:
        """Compose y -> y * scale + bias with what the layer does already."""
        if scale is not None:
            self.scale = scale if self.scale is None else self.scale * scale
            self.bias = None if self.bias is None else self.bias * scale
        if bias is not None:
            self.bias = bias if self.bias is None else self.bias + bias


@dataclass(frozen=True)
class _Value:
    """Which layer makes a tensor, and the zeros that views put around it (top, left, bottom, right).

    `skipping` is the index of a 1 x 1 pool with a stride behind the layer: a short cut reads around it.
    """

    layer: int
    pads: Pads = (0, 0, 0, 0)
    skipping: int | None = None


def lower(graph: Graph, verdicts: list[Verdict], region: Region) -> list[Layer]:
    """Return the region's layers in the order of execution; the last one makes the region's output."""
    lowering = _Lowering(graph, verdicts, region)
    for index in region.nodes:
        lowering.node(index)
    for layer, tensor in lowering.results.items():
        lowering.layers[layer].tensor = tensor
    return _ordered(lowering.layers, lowering.last(region.output))


class _Lowering:
    def __init__(self, graph: Graph, verdicts: list[Verdict], region: Region) -> None:
        self.graph, self.verdicts = graph, verdicts
        self.layouts = layouts(graph)
        self.layers: list[Layer] = []
        self.results: dict[int, str] = {}  # each layer's latest result, as the graph calls it
        self.values = {region.input: _Value(INPUT)}

    def node(self, index: int) -> None:
        """Translate one node, whose inputs have been translated."""
        node = self.graph.nodes[index]
        value = self.values[self.graph.inputs_of(index)[0]]
        if self.verdicts[index].role is Role.VIEW:
            value = self._pooled(value) if node.op_type == "Pad" else value
            if node.op_type == "Pad":
                more = pads_of_pad(self.graph, index, self.layouts[node.input[0]])
                assert more is not None
                value = _Value(value.layer, _sum_pads(value.pads, more))
            self.values[node.output[0]] = value
            return
        if node.op_type == "MaxPool" and windows(self.graph, index).kernel == (1, 1) and not any(value.pads):
            self.values[node.output[0]] = replace(self._pooled(value), skipping=index)
            return
        if node.op_type != "Add":
            value = self._pooled(value)
        match node.op_type:
            case "Conv":
                layer = self._conv(index, value)
            case "MaxPool":
                layer = self._max_pool(index, value)
            case "BatchNormalization":
                layer = self._affine(index, value, *_batch_norm(self.graph, index))
            case "Relu":
                layer = value.layer if self._fuses(index, 0) else self._identity(index, value.layer)
                self.layers[layer].relu = True
            case "Add" if len(self.graph.inputs_of(index)) == 2:
                layer = self._residual(index)
            case _:
                value = self._pooled(value)
                constant = per_channel(self.graph, index, self.layouts[node.output[0]])
                pair = (constant, None) if node.op_type == "Mul" else (None, constant)
                layer = self._affine(index, value, *pair)
        self.values[node.output[0]] = _Value(layer)
        self.results[layer] = node.output[0]

    def last(self, tensor: str) -> int:
        """The layer that makes a tensor."""
        return self._pooled(self.values[tensor]).layer

    def _conv(self, index: int, value: _Value) -> int:
        node = self.graph.nodes[index]
        window = _padded(windows(self.graph, index), value.pads)
        weights = self.graph.constant(node.input[1]).astype(np.float32).transpose(0, 2, 3, 1)
        channels = weights.shape[3]
        kind = expands(value.layer == INPUT, channels, window.kernel, window.dilation)
        layer = Layer(_name(node), kind, value.layer, self._shape(index), window, weights)
        if kind is Kind.EXPAND:
            layer.weights = _centred(weights)
        if len(node.input) > 2 and node.input[2]:
            layer.bias = self.graph.constant(node.input[2]).astype(np.float64)
        return self._add_layer(layer)

    def _affine(self, index: int, value: _Value, scale: Float64 | None, bias: Float64 | None) -> int:
        fuses = self._fuses(index, 0) and self.layers[value.layer].takes_affine
        layer = value.layer if fuses else self._identity(index, value.layer)
        self.layers[layer].apply(scale, bias)
        return layer

    def _residual(self, index: int) -> int:
        """Add behind the operand whose layer takes it; of two, the later one, so a short cut runs first."""
        values = [self.values[name] for name in self.graph.nodes[index].input]
        hosts = [i for i in (0, 1) if self._fuses(index, i) and self.layers[values[i].layer].takes_affine]
        skipping = values[1 - hosts[0]].skipping if len(hosts) == 1 else None
        operands = [v.layer if skipping is not None else self._pooled(v).layer for v in values]
        if hosts:
            host = max(hosts, key=lambda i: (_depth(self.layers, operands[i]), i))
            layer = operands[host]
        else:
            host = 0
            layer = self._identity(index, operands[0])
        self.layers[layer].residual = operands[1 - host]
        if skipping is not None:
            self.layers[layer].residual_stride = windows(self.graph, skipping).stride
        return layer

    def _fuses(self, index: int, operand: int) -> bool:
        """Whether the operand's layer may take this node: nobody else reads its result."""
        value = self.values[self.graph.inputs_of(index)[operand]]
        layer = value.layer
        if layer == INPUT or value.skipping is not None or self.layers[layer].kind is Kind.MAX_POOL:
            return False
        return len(real_readers(self.graph, self.verdicts, self.results[layer])) == 1

    def _max_pool(self, index: int, value: _Value) -> int:
        window = _padded(windows(self.graph, index), value.pads)
        name = _name(self.graph.nodes[index])
        return self._add_layer(Layer(name, Kind.MAX_POOL, value.layer, self._shape(index), window))

    def _pooled(self, value: _Value) -> _Value:
        """The value with a pool that no short cut reads around made a layer of its own."""
        if value.skipping is None:
            return value
        return _Value(self._max_pool(value.skipping, replace(value, skipping=None)))

    def _identity(self, index: int, source: int) -> int:
        node = self.graph.nodes[index]
        return self._add_layer(Layer(_name(node), Kind.IDENTITY, source, self._shape(index)))

    def _add_layer(self, layer: Layer) -> int:
        self.layers.append(layer)
        return len(self.layers) - 1

    def _shape(self, index: int) -> tuple[int, int, int]:
        name = self.graph.nodes[index].output[0]
        return picture_shape(self.graph, name, self.layouts[name])


def _batch_norm(graph: Graph, index: int) -> tuple[Float64, Float64]:
    """Scale and bias of a batch normalisation, in float64."""
    node = graph.nodes[index]
    gamma, beta, mean, variance = (graph.constant(name).astype(np.float64) for name in node.input[1:5])
    with np.errstate(invalid="ignore", divide="ignore"):  # refused later, with the layer's name
        scale = gamma / np.sqrt(variance + np.float64(attributes(node).get("epsilon", 1e-5)))
    return scale, beta - mean * scale


def _centred(weights: NDArray[np.float32]) -> NDArray[np.float32]:
    """A kernel in the middle of the Expander's window, as one row [out, 1, 1, 7 * 7 * in]."""
    out, height, width, channels = weights.shape
    top, left = (EXPANDER_KERNEL - height) // 2, (EXPANDER_KERNEL - width) // 2
    window = np.zeros((out, EXPANDER_KERNEL, EXPANDER_KERNEL, channels), np.float32)
    window[:, top : top + height, left : left + width] = weights
    return window.reshape(out, 1, 1, -1)


def _padded(window: Window, more: Pads) -> Window:
    return replace(window, pads=_sum_pads(window.pads, more))


def _sum_pads(one: Pads, other: Pads) -> Pads:
    return one[0] + other[0], one[1] + other[1], one[2] + other[2], one[3] + other[3]


def _name(node: Any) -> str:
    return str(node.name or node.output[0])


def _depth(layers: list[Layer], index: int) -> int:
    """How many layers lie between the input and this one, on the matrix unit's path."""
    count = 0
    while index != INPUT:
        index, count = layers[index].source, count + 1
    return count


def _ordered(layers: list[Layer], last: int) -> list[Layer]:
    """Renumber the layers in the order of execution: what is added first, so that it waits in float16."""
    order: list[int] = []
    stack = [(last, False)]
    while stack:
        index, ready = stack.pop()
        if index == INPUT or index in order:
            continue
        if ready:
            order.append(index)
            continue
        residual = layers[index].residual
        stack.append((index, True))
        stack.append((layers[index].source, False))
        if residual is not None:
            stack.append((residual, False))  # on top of the stack: comes first
    place = {INPUT: INPUT} | {index: position for position, index in enumerate(order)}
    return [
        replace(
            layers[index],
            source=place[layers[index].source],
            residual=None if (other := layers[index].residual) is None else place[other],
        )
        for index in order
    ]
