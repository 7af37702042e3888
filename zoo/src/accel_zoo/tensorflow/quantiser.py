"""Block floating point in the forward pass, a clipped straight-through gradient in the backward pass.

Bit for bit what the device reads, as `npu.training` says it with numpy; a `npu.bfp.Preset` is a Form. All of it is
integer arithmetic on the numbers' bits, because TensorFlow's threads flush subnormal float32 numbers to zero and the
formats with 8-bit exponents do not.
"""

from collections.abc import Callable
from typing import Any, Protocol

import tensorflow as tf

__all__ = ["LARGEST", "Form", "fake_quantise", "fake_quantise_weights"]

Tensor = Any  # TensorFlow ships no types

LARGEST = 65504.0  # of float16

FRACTION_BITS = 23  # of float32
HIDDEN_BIT = 1 << FRACTION_BITS
MAGNITUDE = 0x7FFFFFFF
INFINITY = 0x7F800000
BIAS = 127


class Form(Protocol):
    """A block format: `box` numbers share an exponent of that range; mantissas have a sign and so many bits."""

    @property
    def box(self) -> int:
        """Numbers in a block."""

    @property
    def exponent_min(self) -> int:
        """The least exponent of a block."""

    @property
    def exponent_max(self) -> int:
        """The largest exponent of a block."""

    @property
    def mantissa_bits(self) -> int:
        """Bits of a mantissa without its sign."""


def fake_quantise(x: Tensor, form: Form, *, truncate: bool = False, axis: int = -1) -> Tensor:
    """`x` (float32, its `axis` of known length) through block floating point and back, blocks along `axis`.

    The gradient passes where `npu.training.in_range` is true and is 0 elsewhere. Infinities and NaN stay what they
    are, so that a training that diverges shows it. Raises ValueError where the length is not known.
    """

    def quantised(given: Tensor) -> tuple[Tensor, Tensor]:
        return _quantise(given, form, truncate, axis)

    return _straight_through(quantised)(tf.convert_to_tensor(x, tf.float32))


def fake_quantise_weights(weights: Tensor, form: Form, *, truncate: bool = False, axis: int = -2) -> Tensor:
    """As the compiler stores weights: float32, then float16 (saturating), then blocks along `axis`.

    The default axis is the input channels' of TensorFlow's kernels [ky, kx, in, out]. The gradient is also 0 beyond
    float16's largest, 65504.
    """

    def quantised(given: Tensor) -> tuple[Tensor, Tensor]:
        half = tf.cast(tf.cast(tf.clip_by_value(given, -LARGEST, LARGEST), tf.float16), tf.float32)
        values, within = _quantise(half, form, truncate, axis)
        return values, tf.logical_and(within, tf.abs(given) <= LARGEST)

    return _straight_through(quantised)(tf.convert_to_tensor(weights, tf.float32))


def _straight_through(quantised: Callable[[Tensor], tuple[Tensor, Tensor]]) -> Callable[[Tensor], Tensor]:
    @tf.custom_gradient  # type: ignore[untyped-decorator]
    def through(x: Tensor) -> tuple[Tensor, Callable[[Tensor], Tensor]]:
        values, within = quantised(x)
        return values, lambda upstream: tf.where(within, upstream, tf.zeros_like(upstream))

    return through  # type: ignore[no-any-return]


def _quantise(x: Tensor, form: Form, truncate: bool, axis: int) -> tuple[Tensor, Tensor]:
    """Values, and where the mantissa is in range. Mantissas are the numbers' own bits, shifted to the block's."""
    bits = tf.bitcast(x, tf.int32)
    sign, magnitude = tf.bitwise.bitwise_and(bits, ~MAGNITUDE), tf.bitwise.bitwise_and(bits, MAGNITUDE)
    exponents = _block_exponents(magnitude, form, axis)

    field = tf.bitwise.right_shift(magnitude, FRACTION_BITS)
    fraction = tf.bitwise.bitwise_and(magnitude, HIDDEN_BIT - 1)
    whole = tf.where(field > 0, fraction + HIDDEN_BIT, fraction)
    distance = exponents - (tf.maximum(field, 1) - BIAS)
    beyond = distance < 0  # only where the block's exponent is clamped
    # 25 and more shift everything out; a mantissa always has fewer bits than float32's, so 1 is the least.
    shift = tf.clip_by_value(distance + (FRACTION_BITS + 1 - form.mantissa_bits), 1, 30)
    mantissa = tf.bitwise.right_shift(whole, shift)
    if not truncate:
        half = tf.bitwise.left_shift(tf.ones_like(shift), shift - 1)
        odd = tf.bitwise.bitwise_and(mantissa, 1)
        mantissa = tf.bitwise.right_shift(whole + half - 1 + odd, shift)
    largest = 2**form.mantissa_bits - 1
    within = tf.logical_and(mantissa <= largest, tf.logical_not(beyond))
    mantissa = tf.where(within, mantissa, largest)

    power = exponents - (form.mantissa_bits - 1)
    normal = tf.bitcast(tf.cast(mantissa, tf.float32), tf.int32)
    is_normal = tf.bitwise.right_shift(normal, FRACTION_BITS) + power >= 1
    subnormal = tf.bitwise.left_shift(mantissa, tf.clip_by_value(power + (BIAS - 1 + FRACTION_BITS), 0, 23))
    value = tf.where(is_normal, normal + power * HIDDEN_BIT, subnormal)
    value = tf.where(mantissa > 0, tf.bitwise.bitwise_or(value, sign), 0)  # there is no -0
    return tf.bitcast(tf.where(magnitude < INFINITY, value, bits), tf.float32), within


def _block_exponents(magnitude: Tensor, form: Form, axis: int) -> Tensor:
    """Each number's block's exponent; one that all share keeps the axis with length 1."""
    length = magnitude.shape[axis]
    if length is None:
        raise ValueError(
            f"axis {axis} of {magnitude.shape} must have a known length: blocks are cut along it"
        )
    if length <= form.box:
        largest = tf.reduce_max(
            magnitude, axis=axis, keepdims=True
        )  # bits of magnitudes sort as the numbers do
        return _exponent(largest, form)
    rank, place = magnitude.shape.rank, axis % magnitude.shape.rank
    count = -(-length // form.box)
    filled = tf.pad(magnitude, [[0, count * form.box - length if a == place else 0] for a in range(rank)])
    shape = tf.shape(filled)
    blocks = tf.reshape(filled, tf.concat([shape[:place], [count, form.box], shape[place + 1 :]], 0))
    largest = tf.reduce_max(blocks, axis=place + 1)
    spread = tf.repeat(_exponent(largest, form), form.box, axis=place)
    return tf.gather(spread, tf.range(length), axis=place)


def _exponent(magnitude: Tensor, form: Form) -> Tensor:
    return tf.clip_by_value(
        tf.bitwise.right_shift(magnitude, FRACTION_BITS) - BIAS, form.exponent_min, form.exponent_max
    )
