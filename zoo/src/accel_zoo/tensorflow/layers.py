"""A convolution that trains as the device computes: its inputs and weights go through the quantiser.

Keras layers for a network's *twin*: same weights, same names, so that weights move between the twin and the network
that is served. Batch normalisation, ReLU and additions happen in float16 on the device, whose rounding is far below
the quantiser's; the twin leaves them, and the requantisation of pools, in float32.
"""

from typing import Any

import keras
import tensorflow as tf

from accel_zoo.tensorflow.quantiser import LARGEST, Form, fake_quantise, fake_quantise_weights

__all__ = ["QuantisedConv2D", "twin"]

WINDOW = 7  # the Expander's, whatever the kernel's size
CHANNELS = 3  # at most, in pictures for the Expander


class QuantisedConv2D(keras.layers.Conv2D):  # type: ignore[misc]  # Keras ships no types
    """Conv2D [N, height, width, channels] in a number format; `form` None computes in float32.

    `expander=True` is for the picture itself (at most 3 channels, kernel at most 7 x 7): there the device quantises
    whole 7 x 7 windows, with the kernel in their middle.
    """

    def __init__(
        self,
        filters: int,
        kernel_size: int | tuple[int, int],
        *,
        form: Form | None = None,
        truncate: bool = False,
        expander: bool = False,
        **options: Any,
    ) -> None:
        super().__init__(filters, kernel_size, **options)
        if self.data_format != "channels_last" or self.groups != 1:
            raise ValueError(f"{self.name}: the device has no groups, and its twin wants channels_last")
        self.form, self.truncate, self.expander = form, truncate, expander

    def call(self, inputs: Any) -> Any:
        """Convolve a batch."""
        if self.form is None:
            return super().call(inputs)
        x = _half(inputs)
        result = (self._windows if self.expander else self._convolved)(x, self.form)
        result = result + self.bias if self.use_bias else result
        return result if self.activation is None else self.activation(result)

    def _convolved(self, x: Any, form: Form) -> Any:
        kernel = fake_quantise_weights(self.kernel, form, truncate=self.truncate)
        return tf.nn.conv2d(
            fake_quantise(x, form, truncate=self.truncate),
            kernel,
            self.strides,
            self.padding.upper(),
            dilations=self.dilation_rate,
        )

    def _windows(self, x: Any, form: Form) -> Any:
        pads = [[0, 0]]
        for axis in (0, 1):
            size, kernel, stride = x.shape[1 + axis], self.kernel_size[axis], self.strides[axis]
            count = -(-size // stride) if self.padding == "same" else (size - kernel) // stride + 1
            both = max((count - 1) * stride + kernel - size, 0) if self.padding == "same" else 0
            before = both // 2 + (WINDOW - kernel) // 2
            pads.append([before, max((count - 1) * stride + WINDOW - size - before, 0)])
        padded = tf.pad(x, [*pads, [0, 0]])
        sizes, strides = [1, WINDOW, WINDOW, 1], [1, *self.strides, 1]
        windows = tf.image.extract_patches(padded, sizes, strides, [1, 1, 1, 1], "VALID")
        margins = [[(WINDOW - k) // 2, WINDOW - k - (WINDOW - k) // 2] for k in self.kernel_size]
        centred = tf.pad(self.kernel, [*margins, [0, 0], [0, 0]])
        matrix = tf.reshape(centred, [-1, self.filters])
        return tf.tensordot(
            fake_quantise(windows, form, truncate=self.truncate),
            fake_quantise_weights(matrix, form, truncate=self.truncate, axis=0),
            1,
        )


def twin(network: Any, form: Form, *, truncate: bool = False) -> Any:
    """The same functional Keras network, with copies of its weights, whose convolutions compute in `form`.

    After training, `network.set_weights(twin.get_weights())` brings the result back.
    """

    def clone(layer: Any) -> Any:
        if type(layer) is not keras.layers.Conv2D:
            return layer.__class__.from_config(layer.get_config())
        made = QuantisedConv2D.from_config(layer.get_config())
        made.form, made.truncate = form, truncate
        on_picture = (
            any(layer.input is given for given in network.inputs) and layer.input.shape[-1] <= CHANNELS
        )
        made.expander = on_picture and max(layer.kernel_size) <= WINDOW and max(layer.dilation_rate) == 1
        return made

    made = keras.models.clone_model(network, clone_function=clone)
    made.set_weights(network.get_weights())
    return made


@tf.custom_gradient  # type: ignore[untyped-decorator]
def _half(x: Any) -> Any:
    """Round to float16 (saturating), as every tensor between chains is; the gradient passes."""
    rounded = tf.cast(tf.cast(tf.clip_by_value(x, -LARGEST, LARGEST), tf.float16), tf.float32)
    return rounded, lambda upstream: upstream
