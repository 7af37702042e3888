"""The two networks: the digits example's, and a small residual network with strides and projections.

Both take scaled pictures [N, 32, 32, 3] and give [N, 10] probabilities.
"""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import keras
import tensorflow as tf
from keras import layers

from examples.digits import network as digits
from examples.digits.pictures import SIDE

__all__ = ["NETWORKS", "export"]


def residual() -> keras.Model:
    """Seven 3 x 3 convolutions in three residual units, each with batch normalisation: a ResNet v1 for 32 pixels."""
    pictures = layers.Input((SIDE, SIDE, 3), name="pictures")
    x = _conv_bn(pictures, 16, 3, 2, "stem")
    x = layers.ReLU(name="stem_relu")(x)
    for number, (filters, stride) in enumerate(((16, 1), (32, 2), (64, 2)), 1):
        name = f"unit{number}"
        shortcut = x if stride == 1 else _conv_bn(x, filters, 1, stride, f"{name}_shortcut")
        x = layers.ReLU(name=f"{name}_relu1")(_conv_bn(x, filters, 3, stride, f"{name}_a"))
        x = layers.Add(name=f"{name}_add")([shortcut, _conv_bn(x, filters, 3, 1, f"{name}_b")])
        x = layers.ReLU(name=f"{name}_relu2")(x)
    x = layers.GlobalAveragePooling2D(name="mean")(x)
    x = layers.Dense(digits.CLASSES, name="classifier")(x)
    return keras.Model(pictures, layers.Softmax(name="softmax")(x), name="residual")


NETWORKS: dict[str, Callable[[], keras.Model]] = {"digits": digits.build, "residual": residual}


class _Served(tf.Module):  # type: ignore[misc]  # TensorFlow ships no types
    """Pixels in, probabilities out; scaling included, as in the digits example."""

    def __init__(self, network: keras.Model) -> None:
        super().__init__()
        self.network = network

    @tf.function(input_signature=[tf.TensorSpec([None, SIDE, SIDE, 3], tf.float32, name="pixels")])  # type: ignore[untyped-decorator]
    def serve(self, pixels: Any) -> dict[str, Any]:
        """Answer decoded pictures, 0 to 255."""
        return {"probabilities": self.network(digits.scale(pixels), training=False)}


def export(network: keras.Model, folder: Path) -> None:
    """Write the network as a SavedModel."""
    served = _Served(network)
    tf.saved_model.save(served, str(folder), signatures={"serving_default": served.serve})


def _conv_bn(x: Any, filters: int, kernel: int, stride: int, name: str) -> Any:
    x = layers.Conv2D(filters, kernel, stride, padding="same", use_bias=False, name=f"{name}_conv")(x)
    return layers.BatchNormalization(name=f"{name}_bn", momentum=0.9)(x)
