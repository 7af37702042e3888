"""Float32 results of a network, layer by layer, with numpy: the reference that needs nothing else.

Tensors are [pictures, height, width, channels]; variables are as TensorFlow keeps them.
"""

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from accel_zoo.network import PICTURE, Kind, Layer, Network

__all__ = ["apply", "forward", "walk"]

Float32 = NDArray[np.float32]
COPIED = 1 << 24  # numbers of a convolution's windows that are laid out at a time: 64 MB


def forward(network: Network, variables: Mapping[str, Float32], x: Float32) -> dict[str, Float32]:
    """Return the outputs for pictures [n, height, width, channels]."""
    return walk(network, x, lambda layer, inputs: apply(layer, inputs, variables))


def walk(
    network: Network, x: Float32, compute: Callable[[Layer, list[Float32]], Float32]
) -> dict[str, Float32]:
    """Call `compute` on every layer in order, and keep each result as long as somebody needs it."""
    last = {name: at for at, layer in enumerate(network.layers) for name in layer.inputs}
    alive: dict[str, Float32] = {PICTURE: x}
    for at, layer in enumerate(network.layers):
        alive[layer.name] = compute(layer, [alive[name] for name in layer.inputs])
        for name in layer.inputs:
            if last[name] == at and name not in network.outputs:
                alive.pop(name, None)
    return {name: alive[name] for name in network.outputs}


def apply(layer: Layer, inputs: list[Float32], variables: Mapping[str, Float32]) -> Float32:
    """Compute one layer."""
    return np.asarray(_compute(layer, inputs, variables), np.float32)


def _compute(layer: Layer, inputs: list[Float32], variables: Mapping[str, Float32]) -> Any:
    x = inputs[0]
    match layer.kind:
        case Kind.CONV:
            x = _convolve(layer, x, variables[f"{layer.variable}/weights"])
        case Kind.DENSE:
            weights = variables[f"{layer.variable}/weights"]
            x = (x.reshape(len(x), -1) @ weights.reshape(-1, weights.shape[-1])).reshape(len(x), 1, 1, -1)
        case Kind.BATCH_NORM:
            gamma, beta, mean, variance = (
                variables[f"{layer.variable}/{part}"]
                for part in ("gamma", "beta", "moving_mean", "moving_variance")
            )
            scale = gamma / np.sqrt(variance + np.float32(layer.epsilon))
            return x * scale + (beta - mean * scale)
        case Kind.RELU:
            return np.maximum(x, np.float32(0))
        case Kind.ADD:
            return x + inputs[1]
        case Kind.CONCAT:
            return np.concatenate(inputs, axis=3)
        case Kind.MAX_POOL:
            return _pool(layer, x, np.maximum, -np.inf)
        case Kind.AVERAGE_POOL:
            return _pool(layer, x, np.add, 0.0) / np.float32(layer.kernel[0] * layer.kernel[1])
        case Kind.L2_NORM:
            length = np.sqrt(np.maximum((x * x).sum(axis=3, keepdims=True), np.float32(layer.epsilon)))
            return x / length * variables[f"{layer.variable}/gamma"]
        case Kind.GLOBAL_AVERAGE:
            return x.mean(axis=(1, 2), keepdims=True)
        case Kind.SOFTMAX:
            powers = np.exp(x - x.max(axis=3, keepdims=True))
            return powers / powers.sum(axis=3, keepdims=True)
        case Kind.BOXES:
            return x.reshape(*x.shape[:3], -1, layer.kernel[1])
    return x + variables[f"{layer.variable}/biases"] if layer.bias else x


def _padded(layer: Layer, x: Float32, value: float) -> Float32:
    if not any(layer.pads):
        return x
    top, left, bottom, right = layer.pads
    return np.pad(x, ((0, 0), (top, bottom), (left, right), (0, 0)), constant_values=value)


def _windows(layer: Layer, x: Float32, value: float) -> NDArray[np.float32]:
    """Views [n, height, width, ky, kx, channels] of what each output position sees."""
    padded = _padded(layer, x, value)
    found = np.lib.stride_tricks.sliding_window_view(padded, layer.extent, axis=(1, 2))
    found = found[:, :: layer.stride[0], :: layer.stride[1], :, :: layer.dilation[0], :: layer.dilation[1]]
    return found.transpose(0, 1, 2, 4, 5, 3)


def _convolve(layer: Layer, x: Float32, weights: Float32) -> Float32:
    matrix = weights.reshape(-1, weights.shape[-1])
    windows = _windows(layer, x, 0.0)
    count, height, width = windows.shape[:3]
    result = np.empty((count, height, width, matrix.shape[1]), np.float32)
    rows = max(1, COPIED // (width * len(matrix)))
    for picture in range(count):
        for top in range(0, height, rows):
            part = windows[picture, top : top + rows].reshape(-1, len(matrix))
            np.matmul(part, matrix, out=result[picture, top : top + rows].reshape(-1, matrix.shape[1]))
    return result


def _pool(layer: Layer, x: Float32, combine: np.ufunc, value: float) -> Float32:
    windows = _windows(layer, x, value)
    result = windows[:, :, :, 0, 0].copy()
    for ky in range(layer.kernel[0]):
        for kx in range(layer.kernel[1]):
            if (ky, kx) != (0, 0):
                combine(result, windows[:, :, :, ky, kx], out=result)
    return result
