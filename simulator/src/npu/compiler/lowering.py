"""From the region's nodes to layers: fusion into the float16 stage, padding, order of execution.

A layer's operators always run in the order scale, bias, residual, ReLU; whatever does not fit behind the last
layer that way opens an identity pass.
"""

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from npu.chain import EXPANDER_CHANNELS, EXPANDER_KERNEL, Kind
from npu.compiler.geometry import Pads, Window, layouts, padded, pads_of_pad, picture_shape, windows
from npu.compiler.graph import Graph, attributes
from npu.compiler.layers import INPUT, Float64, Layer, depth, ordered
from npu.compiler.partition import Region
from npu.compiler.pointwise import affine_of
from npu.compiler.verdicts import Role, Verdict, real_readers

__all__ = ["lower"]

NO_PADS = (0, 0, 0, 0)


@dataclass(frozen=True)
class _Value:
    """Which layer makes a tensor, and the zeros that a Pad puts around it (top, left, bottom, right).

    `skipping` is the index of a 1 x 1 pool with a stride behind the layer: a short cut reads around it.
    """

    layer: int
    pads: Pads = NO_PADS
    skipping: int | None = None


def lower(graph: Graph, verdicts: list[Verdict], region: Region) -> tuple[list[Layer], list[int]]:
    """Return the region's layers in the order of execution, and those that make the region's outputs."""
    lowering = _Lowering(graph, verdicts, region)
    for index in region.nodes:
        lowering.node(index)
    outputs = [lowering.pooled(lowering.values[tensor]).layer for tensor in region.outputs]
    for layer, tensor in lowering.results.items():
        lowering.layers[layer].tensor = tensor
    return ordered(lowering.layers, outputs)


class _Lowering:
    def __init__(self, graph: Graph, verdicts: list[Verdict], region: Region) -> None:
        self.graph, self.verdicts = graph, verdicts
        self.layouts = layouts(graph)
        self.layers: list[Layer] = []
        self.results: dict[int, str] = {}  # each layer's latest result, as the graph calls it
        self.weights: dict[str, NDArray[np.float32]] = {}  # layers may share a constant
        self.pools: dict[int, int] = {}  # layers of 1 x 1 pools that more than a short cut reads
        self.values = {region.input: _Value(INPUT)}

    def node(self, index: int) -> None:
        """Translate one node, whose inputs have been translated."""
        node = self.graph.nodes[index]
        value = self.values[self.graph.inputs_of(index)[0]]
        if self.verdicts[index].role is Role.VIEW:
            if node.op_type == "Pad":
                more = pads_of_pad(self.graph, index, self.layouts[node.input[0]])
                value = replace(self.pooled(value), pads=more or NO_PADS)
            self.values[node.output[0]] = value
            return
        if node.op_type == "MaxPool" and windows(self.graph, index).kernel == (1, 1) and not any(value.pads):
            self.values[node.output[0]] = _Value(self.pooled(value).layer, skipping=index)
            return
        layer = self._work(index, value)
        self.values[node.output[0]] = _Value(layer)
        self.results[layer] = node.output[0]

    def pooled(self, value: _Value) -> _Value:
        """The value with a pool that no short cut reads around made a layer of its own."""
        if value.skipping is None:
            return value
        if value.skipping not in self.pools:
            self.pools[value.skipping] = self._window(value.skipping, _Value(value.layer), Kind.MAX_POOL)
            self.results[self.pools[value.skipping]] = self.graph.nodes[value.skipping].output[0]
        return _Value(self.pools[value.skipping])

    def _work(self, index: int, value: _Value) -> int:
        node = self.graph.nodes[index]
        varying = self.graph.inputs_of(index)
        if len(varying) == 2 and node.op_type in ("Add", "Sum"):
            return self._residual(index)
        value = self.pooled(value)
        match node.op_type:
            case "Conv":
                return self._conv(index, value)
            case "MaxPool":
                return self._window(index, value, Kind.MAX_POOL)
            case "AveragePool":
                return self._window(index, value, Kind.AVERAGE_POOL)
            case "Concat":
                return self._concat(index)
            case "BatchNormalization":
                return self._affine(index, value, *_batch_norm(self.graph, index))
            case "Relu" | "Clip":
                layer = value.layer if self._fuses(index, 0) else self._identity(index, value.layer)
                self.layers[layer].relu = True
                return layer
        pair = affine_of(self.graph, index, self.layouts[node.output[0]])
        assert pair is not None
        return self._affine(index, value, *pair)

    def _conv(self, index: int, value: _Value) -> int:
        node = self.graph.nodes[index]
        window = padded(windows(self.graph, index), value.pads)
        if node.input[1] not in self.weights:
            self.weights[node.input[1]] = self.graph.constant(node.input[1])
        weights = self.weights[node.input[1]].transpose(0, 2, 3, 1)
        kind = _expander_or_conv(value.layer, weights.shape[3], window)
        if kind is Kind.EXPAND:
            weights = _centred(weights)
        layer = Layer(_name(node), kind, value.layer, self._shape(index), window, weights)
        if len(node.input) > 2 and node.input[2]:
            layer.bias = self.graph.constant(node.input[2]).astype(np.float64)
        return self._add_layer(layer)

    def _window(self, index: int, value: _Value, kind: Kind) -> int:
        window = padded(windows(self.graph, index), value.pads)
        layer = Layer(_name(self.graph.nodes[index]), kind, value.layer, self._shape(index), window)
        if kind is Kind.AVERAGE_POOL:  # float16(1 / places), rounded once
            share = np.float16(1 / (window.kernel[0] * window.kernel[1]))
            layer.scale = np.full(layer.shape[2], share, np.float64)
        return self._add_layer(layer)

    def _concat(self, index: int) -> int:
        """From left to right: each operand goes behind the channels of those before it."""
        node = self.graph.nodes[index]
        layer, *others = [self.pooled(self.values[name]).layer for name in node.input]
        height, width, _ = self._shape(index)
        axis = self.layouts[node.output[0]].channel_axis
        channels = self.graph.shapes[node.input[0]][axis] or 0
        for place, (name, other) in enumerate(zip(node.input[1:], others, strict=True), start=1):
            channels += self.graph.shapes[name][axis] or 0
            part = _name(node) if place == len(others) else f"{_name(node)}/{place}"
            layer = self._add_layer(
                Layer(part, Kind.CONCAT, layer, (height, width, channels), residual=other)
            )
        return layer

    def _affine(self, index: int, value: _Value, scale: Float64 | None, bias: Float64 | None) -> int:
        fuses = self._fuses(index, 0) and self.layers[value.layer].takes_affine
        layer = value.layer if fuses else self._identity(index, value.layer)
        self.layers[layer].apply(scale, bias)
        return layer

    def _residual(self, index: int) -> int:
        """Add behind the operand whose layer takes it; of two, the later one, so a short cut runs first."""
        values = [self.values[name] for name in self.graph.inputs_of(index)]
        hosts = [i for i in (0, 1) if self._fuses(index, i) and self.layers[values[i].layer].takes_affine]
        skipping = values[1 - hosts[0]].skipping if len(hosts) == 1 else None
        operands = [v.layer if skipping is not None else self.pooled(v).layer for v in values]
        if hosts:
            host = max(hosts, key=lambda i: (depth(self.layers, operands[i]), i))
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
        if layer == INPUT or value.skipping is not None or not self.layers[layer].has_stage:
            return False
        return len(real_readers(self.graph, self.verdicts, self.results[layer])) == 1

    def _identity(self, index: int, source: int) -> int:
        node = self.graph.nodes[index]
        return self._add_layer(Layer(_name(node), Kind.IDENTITY, source, self._shape(index)))

    def _add_layer(self, layer: Layer) -> int:
        self.layers.append(layer)
        return len(self.layers) - 1

    def _shape(self, index: int) -> tuple[int, int, int]:
        name = self.graph.nodes[index].output[0]
        return picture_shape(self.graph, name, self.layouts[name])


def _expander_or_conv(source: int, channels: int, window: Window) -> Kind:
    """The Expander takes the program's input if that is an image and the kernel fits its windows."""
    fits = max(window.kernel) <= EXPANDER_KERNEL and window.dilation == (1, 1)
    return Kind.EXPAND if source == INPUT and channels <= EXPANDER_CHANNELS and fits else Kind.CONV


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


def _name(node: Any) -> str:
    return str(node.name or node.output[0])
