"""A network as an ONNX model: float32, NCHW, any batch, batch normalisations left as they are."""

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray
from onnx import ModelProto, TensorProto, helper

from accel_zoo.network import PICTURE, Kind, Layer, Network
from accel_zoo.weights import blank_weights, random_weights

__all__ = ["OPSET", "build_onnx"]

OPSET = 17
IR_VERSION = 8
Float32 = NDArray[np.float32]


def build_onnx(
    network: Network,
    *,
    seed: int = 0,
    classes: int | None = None,
    calibrated: bool = True,
    image: int | None = None,
    weights: Mapping[str, Float32] | None = None,
) -> ModelProto:
    """Build the model of a table; its input `image` is [N, 3, height, width], prepared as the table says.

    `weights` are variables by their checkpoint names. Without them they are random: calibrated on seeded pictures
    (seconds), or zeros and ones where only the structure matters. `image` and `classes` change the table.
    """
    network = network if image is None else network.resized(image)
    network = network if classes is None else network.with_classes(classes)
    if weights is None:
        weights = random_weights(network, seed) if calibrated else blank_weights(network)
    return _Builder(network, weights).model()


class _Builder:
    """Writes straight into the model: a network's weights are copied once and not held twice."""

    def __init__(self, network: Network, weights: Mapping[str, Float32]) -> None:
        self.network, self.weights = network, weights
        self.shapes = network.shapes()
        self.made = ModelProto(
            ir_version=IR_VERSION, producer_name="accel_zoo", opset_import=[helper.make_opsetid("", OPSET)]
        )
        self.graph = self.made.graph
        self.flat: set[str] = set()  # tensors [N, channels]

    def model(self) -> ModelProto:
        """Translate all layers."""
        self.graph.name = self.network.name
        for layer in self.network.layers:
            self._layer(layer)
        height, width, channels = self.network.picture
        dims = ["N", channels, height, width]
        self.graph.input.append(helper.make_tensor_value_info(PICTURE, TensorProto.FLOAT, dims))
        for name in self.network.outputs:
            info = helper.make_tensor_value_info(name, TensorProto.FLOAT, self._dims(name))
            self.graph.output.append(info)
        return self.made

    def _dims(self, name: str) -> list[Any]:
        layer = self.network.layer(name)
        height, width, channels = self.shapes[name]
        if layer.kind is Kind.BOXES:
            return ["N", height, width, channels // layer.kernel[1], layer.kernel[1]]
        if name in self.flat:
            return ["N", channels]
        return ["N", channels, height, width]

    def _layer(self, layer: Layer) -> None:
        window = {
            "kernel_shape": list(layer.kernel),
            "strides": list(layer.stride),
            "pads": list(layer.pads),
        }
        match layer.kind:
            case Kind.CONV:
                weights = self._variable(layer, "weights", (3, 2, 0, 1))
                inputs = [*layer.inputs, weights, *self._bias(layer)]
                self._node(layer, "Conv", *inputs, dilations=list(layer.dilation), **window)
            case Kind.BATCH_NORM:
                parts = ("gamma", "beta", "moving_mean", "moving_variance")
                names = [self._variable(layer, part) for part in parts]
                self._node(layer, "BatchNormalization", *layer.inputs, *names, epsilon=layer.epsilon)
            case Kind.MAX_POOL:
                self._node(layer, "MaxPool", *layer.inputs, **window)
            case Kind.AVERAGE_POOL:
                self._node(layer, "AveragePool", *layer.inputs, **window)
            case Kind.RELU:
                self._node(layer, "Relu", *layer.inputs)
                self.flat |= {layer.name} if layer.inputs[0] in self.flat else set()
            case Kind.ADD:
                self._node(layer, "Add", *layer.inputs)
            case Kind.CONCAT:
                self._node(layer, "Concat", *layer.inputs, axis=1)
            case Kind.GLOBAL_AVERAGE:
                self._node(layer, "GlobalAveragePool", *layer.inputs)
            case Kind.SOFTMAX:
                self._node(layer, "Softmax", *layer.inputs, axis=1)
                self.flat.add(layer.name)
            case Kind.DENSE:
                self._dense(layer)
            case Kind.L2_NORM:
                self._l2_norm(layer)
            case Kind.BOXES:
                self._boxes(layer)

    def _dense(self, layer: Layer) -> None:
        x = layer.inputs[0]
        if x not in self.flat:
            x = self._part(layer, "flat", "Flatten", x)
        self.flat.add(layer.name)
        self._node(layer, "Gemm", x, self._variable(layer, "weights", (2, 0, 1, 3)), *self._bias(layer))

    def _l2_norm(self, layer: Layer) -> None:
        """As TensorFlow's l2_normalize: the sum of squares is kept from being zero."""
        squares = self._part(layer, "squares", "ReduceSumSquare", *layer.inputs, axes=[1], keepdims=1)
        least = self._constant(f"{layer.name}/epsilon", np.float32(layer.epsilon))
        bounded = self._part(layer, "bounded", "Max", squares, least)
        length = self._part(layer, "length", "Sqrt", bounded)
        unit = self._part(layer, "unit", "Div", *layer.inputs, length)
        gamma = self.weights[f"{layer.variable}/gamma"].reshape(1, -1, 1, 1)
        self._node(layer, "Mul", unit, self._constant(f"{layer.variable}/gamma", gamma))

    def _boxes(self, layer: Layer) -> None:
        height, width, channels = self.shapes[layer.name]
        nhwc = self._part(layer, "nhwc", "Transpose", *layer.inputs, perm=[0, 2, 3, 1])
        shape = np.asarray([0, height, width, channels // layer.kernel[1], layer.kernel[1]], np.int64)
        self._node(layer, "Reshape", nhwc, self._constant(f"{layer.name}/shape", shape))

    def _bias(self, layer: Layer) -> list[str]:
        return [self._variable(layer, "biases")] if layer.bias else []

    def _variable(self, layer: Layer, part: str, axes: tuple[int, ...] = ()) -> str:
        name = f"{layer.variable}/{part}"
        value = np.asarray(self.weights[name], np.float32)
        if axes:
            value = value.transpose(axes)
        if layer.kind is Kind.DENSE and part == "weights":
            value = value.reshape(-1, value.shape[-1])  # height, width and channels as ONNX flattens them
        return self._constant(name, value)

    def _constant(self, name: str, value: NDArray[Any] | np.float32) -> str:
        array = np.asarray(value)
        tensor = self.graph.initializer.add()
        tensor.name, tensor.data_type = name, helper.np_dtype_to_tensor_dtype(array.dtype)
        tensor.dims.extend(array.shape)
        blank = array.size > 1 and not any(array.strides) and not array.flat[0]
        tensor.raw_data = bytes(array.nbytes) if blank else array.tobytes()  # a repeated zero: in no time
        return name

    def _part(self, layer: Layer, suffix: str, op: str, *inputs: str, **attributes: Any) -> str:
        name = f"{layer.name}/{suffix}"
        self.graph.node.append(helper.make_node(op, list(inputs), [name], name=name, **attributes))
        return name

    def _node(self, layer: Layer, op: str, *inputs: str, **attributes: Any) -> None:
        node = helper.make_node(op, list(inputs), [layer.name], name=layer.name, **attributes)
        self.graph.node.append(node)
