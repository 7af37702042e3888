"""The network: five 3 x 3 convolutions with batch normalisation, one of them a residual unit, about 43,000
weights.

It has the parts that the accelerator knows (Conv, BatchNormalization, Relu, MaxPool, Add), so that an FPGA
computes everything between the decoded picture and the last feature map; pooling, classifier and softmax stay
on the host.
"""

from pathlib import Path
from typing import Any

import keras
import tensorflow as tf
from keras import layers

from examples.digits.pictures import SIDE

CLASSES = 10


def conv_bn(x: Any, filters: int, name: str, *, relu: bool = True) -> Any:
    """Convolve 3 x 3, normalise and, where asked, rectify."""
    x = layers.Conv2D(filters, 3, padding="same", use_bias=False, name=f"{name}_conv")(x)
    x = layers.BatchNormalization(name=f"{name}_bn", momentum=0.9)(x)
    return layers.ReLU(name=f"{name}_relu")(x) if relu else x


def build() -> keras.Model:
    """Return the untrained network: [N, 32, 32, 3] scaled pictures to [N, 10] probabilities."""
    pictures = layers.Input((SIDE, SIDE, 3), name="pictures")
    x = conv_bn(pictures, 16, "stem")
    x = layers.MaxPooling2D(2, name="pool1")(x)
    x = shortcut = conv_bn(x, 32, "widen")
    x = conv_bn(x, 32, "unit_a")
    x = conv_bn(x, 32, "unit_b", relu=False)
    x = layers.Add(name="unit_add")([shortcut, x])
    x = layers.ReLU(name="unit_relu")(x)
    x = layers.MaxPooling2D(2, name="pool2")(x)
    x = conv_bn(x, 64, "top")
    x = layers.GlobalAveragePooling2D(name="mean")(x)
    x = layers.Dense(CLASSES, name="classifier")(x)
    return keras.Model(pictures, layers.Softmax(name="softmax")(x), name="digits")


def scale(pixels: Any) -> Any:
    """Bring pixels (0 to 255) to -1 to 1; for numpy arrays and for TensorFlow's tensors."""
    return (pixels - 127.5) * (1.0 / 127.5)


class Served(tf.Module):  # type: ignore[misc]  # TensorFlow ships no types
    """What is exported: encoded pictures in, probabilities out, preprocessing included."""

    def __init__(self, network: keras.Model) -> None:
        super().__init__()
        self.network = network

    @tf.function(input_signature=[tf.TensorSpec([None], tf.string, name="images")])  # type: ignore[untyped-decorator]
    def serve(self, images: Any) -> dict[str, Any]:
        """Answer pictures of any size, encoded as JPEG strings."""

        def decode(encoded: Any) -> Any:
            picture = tf.image.decode_jpeg(encoded, channels=3)
            return tf.cast(tf.image.resize(picture, [SIDE, SIDE]), tf.float32)

        pixels = tf.map_fn(decode, images, fn_output_signature=tf.TensorSpec([SIDE, SIDE, 3], tf.float32))
        return {"output_alias": self.network(scale(pixels), training=False)}


def export(network: keras.Model, folder: str) -> None:
    """Write `network` with its preprocessing as a SavedModel with one signature, `serving_default`."""
    served = Served(network)
    tf.saved_model.save(served, folder, signatures={"serving_default": served.serve})
    # A random number; without it, equal weights are equal bytes.
    (Path(folder) / "fingerprint.pb").unlink()
