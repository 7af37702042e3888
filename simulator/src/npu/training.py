"""The quantiser for training: what the matrix unit reads, as numbers, and the gradient that training uses.

A network that is trained with these in front of its convolutions (its *twin*) learns weights that the device's
rounding hurts less. Forward, the numbers equal the oracle's bit for bit. Backward, rounding is a staircase without
a useful slope, so the gradient passes *straight through*, clipped: 1 where the mantissa is in range, 0 where it is
clamped to ±(2**m - 1), because there a larger number changes nothing. That is a number of magnitude at least
(2**m - 1/2) * 2**(E - (m - 1)) under nearest-even and 2**(E + 1) under truncation, E being its block's exponent.
The exponent itself counts as constant: a block's largest number moves it, and the gradient does not know.
"""

import numpy as np
from numpy.typing import NDArray

from npu.bfp import Float32, Preset, Rounding, quantise
from npu.float16 import LARGEST, round16

__all__ = ["fake_quantise", "fake_quantise_weights", "in_range", "straight_through", "weights_in_range"]


def fake_quantise(
    x: Float32, form: Preset, rounding: Rounding = Rounding.NEAREST_EVEN, axis: int = -1
) -> Float32:
    """`x` (finite float32, any shape) through block floating point and back, blocks along `axis`.

    `axis` is the channels' axis of an activation: its blocks begin at multiples of the box.
    """
    lanes = np.ascontiguousarray(np.moveaxis(np.asarray(x, np.float32), axis, -1))
    return np.moveaxis(quantise(lanes, form, rounding).values(form), -1, axis)


def fake_quantise_weights(
    weights: Float32, form: Preset, rounding: Rounding = Rounding.NEAREST_EVEN, axis: int = -2
) -> Float32:
    """As the compiler stores weights: float32, then float16 (saturating), then blocks.

    `axis` is the input channels'; the default is that of kernels [ky, kx, in, out] (TensorFlow's).
    """
    return fake_quantise(round16(np.asarray(weights, np.float32)), form, rounding, axis)


def in_range(
    x: Float32, form: Preset, rounding: Rounding = Rounding.NEAREST_EVEN, axis: int = -1
) -> NDArray[np.bool_]:
    """Where `fake_quantise` does not clamp the mantissa."""
    lanes = np.ascontiguousarray(np.moveaxis(np.asarray(x, np.float32), axis, -1))
    exponents = quantise(lanes, form, rounding).exponents
    half = 0.5 if rounding is Rounding.NEAREST_EVEN else 0.0
    # float64 holds 2**(E + 1) for every E; one exponent per block, spread over its numbers.
    limits = np.ldexp(2.0**form.mantissa_bits - half, exponents - (form.mantissa_bits - 1))
    spread = np.repeat(limits, form.box, axis=-1)[..., : lanes.shape[-1]]
    return np.moveaxis(np.abs(lanes) < spread, -1, axis)


def weights_in_range(
    weights: Float32, form: Preset, rounding: Rounding = Rounding.NEAREST_EVEN, axis: int = -2
) -> NDArray[np.bool_]:
    """Where `fake_quantise_weights` clamps neither to float16's largest, 65504, nor the mantissa."""
    single = np.asarray(weights, np.float32)
    return (np.abs(single) <= LARGEST) & in_range(round16(single), form, rounding, axis)


def straight_through(upstream: Float32, within: NDArray[np.bool_]) -> Float32:
    """The gradient at the quantiser's input for the one at its output: the same within range, 0 outside."""
    return np.where(within, upstream, np.float32(0.0))
