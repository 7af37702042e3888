"""A table as a TensorFlow 1 graph, as slim writes it: NHWC, checkpoint names for variables, fused normalisations.

Only the forward pass for inference; `restore` fills the variables from a public checkpoint or from arrays.
"""

from collections.abc import Mapping
from typing import Any

import numpy as np
import tensorflow as tf
from numpy.typing import NDArray

from accel_zoo.network import PICTURE, Kind, Layer, Network, Pads, Shape

__all__ = ["assign", "build_graph", "restore"]


def build_graph(network: Network, pictures: Any) -> dict[str, Any]:
    """Add the network behind `pictures` [N, height, width, channels] to the default graph; tensors by layer name."""
    shapes = network.shapes()
    tensors = {PICTURE: pictures}
    for layer in network.layers:
        inputs = [tensors[name] for name in layer.inputs]
        made = _layer(layer, inputs, shapes[layer.inputs[0]], shapes[layer.name])
        tensors[layer.name] = tf.identity(made, name=layer.name.replace("/", "_") + "_result")
    return tensors


def assign(session: Any, network: Network, weights: Mapping[str, NDArray[np.float32]]) -> None:
    """Give the graph's variables the arrays of the same names."""
    variables = _variables(network)
    values = {v.initializer.inputs[1]: weights[name] for name, v in variables.items()}
    session.run([v.initializer for v in variables.values()], values)


def restore(session: Any, network: Network, checkpoint: str) -> None:
    """Fill the variables from a checkpoint file; TensorFlow's error names those that it lacks."""
    tf.compat.v1.train.Saver(_variables(network)).restore(session, checkpoint)


def _variables(network: Network) -> dict[str, Any]:
    """The network's variables in the default graph, by name."""
    wanted = {name for name, _ in network.variables()}
    named = {v.name.partition(":")[0]: v for v in tf.compat.v1.global_variables()}
    return {name: variable for name, variable in named.items() if name in wanted}


def _layer(layer: Layer, inputs: list[Any], given: Shape, made: Shape) -> Any:
    x = inputs[0]
    match layer.kind:
        case Kind.CONV:
            weights = _variable(layer, "weights", (*layer.kernel, given[2], made[2]))
            x, padding = _padded(layer, x, given)
            x = tf.nn.conv2d(x, weights, list(layer.stride), padding, dilations=list(layer.dilation))
            return tf.nn.bias_add(x, _variable(layer, "biases", made[2:])) if layer.bias else x
        case Kind.DENSE:
            weights = _variable(layer, "weights", (*given, made[2]))
            x = tf.reshape(x, [-1, int(np.prod(given))]) @ tf.reshape(weights, [-1, made[2]])
            return tf.nn.bias_add(x, _variable(layer, "biases", made[2:]))
        case Kind.BATCH_NORM:
            parts = ("gamma", "beta", "moving_mean", "moving_variance")
            gamma, beta, mean, variance = (_variable(layer, part, made[2:]) for part in parts)
            return tf.compat.v1.nn.fused_batch_norm(
                x, gamma, beta, mean, variance, epsilon=layer.epsilon, is_training=False
            )[0]
        case Kind.MAX_POOL | Kind.AVERAGE_POOL:
            x, padding = _padded(layer, x, given)
            pool = tf.nn.max_pool2d if layer.kind is Kind.MAX_POOL else tf.nn.avg_pool2d
            return pool(x, list(layer.kernel), list(layer.stride), padding)
        case Kind.RELU:
            return tf.nn.relu(x)
        case Kind.ADD:
            return x + inputs[1]
        case Kind.CONCAT:
            return tf.concat(inputs, axis=3)
        case Kind.GLOBAL_AVERAGE:
            return tf.reduce_mean(x, [1, 2], keepdims=True)
        case Kind.SOFTMAX:
            return tf.nn.softmax(x)
        case Kind.L2_NORM:
            unit = tf.nn.l2_normalize(x, -1, epsilon=layer.epsilon)
            return unit * _variable(layer, "gamma", made[2:])
        case Kind.BOXES:
            return tf.reshape(x, [-1, *made[:2], made[2] // layer.kernel[1], layer.kernel[1]])


def _variable(layer: Layer, part: str, shape: tuple[int, ...]) -> Any:
    v1 = tf.compat.v1
    start = v1.ones_initializer() if part in ("gamma", "moving_variance") else v1.zeros_initializer()
    return v1.get_variable(f"{layer.variable}/{part}", shape, tf.float32, initializer=start, trainable=False)


def _padded(layer: Layer, x: Any, given: Shape) -> tuple[Any, str]:
    """TensorFlow's own padding where it is the table's, else zeros around the picture."""
    if not any(layer.pads):
        return x, "VALID"
    if layer.pads == _same(layer, given):
        return x, "SAME"
    if layer.kind is not Kind.CONV:
        raise ValueError(f"{layer.name}: TensorFlow has no pool with the pads {layer.pads}")
    top, left, bottom, right = layer.pads
    return tf.pad(x, [[0, 0], [top, bottom], [left, right], [0, 0]]), "VALID"


def _same(layer: Layer, given: Shape) -> Pads:
    before, after = [], []
    for size, stride, extent in zip(given[:2], layer.stride, layer.extent, strict=True):
        total = max((-(-size // stride) - 1) * stride + extent - size, 0)
        before.append(total // 2)
        after.append(total - total // 2)
    return before[0], before[1], after[0], after[1]
