"""The float16 stage behind the matrix unit: every operation rounds once, to nearest even, subnormals kept.

Arrays are float32 and hold float16 numbers. That is exact: float32 has more than twice float16's bits plus
two, so computing in float32 and rounding to float16 equals rounding the true result once, for products and
for sums.
"""

import numpy as np
from numpy.typing import NDArray

__all__ = ["LARGEST", "add", "maximum", "multiply", "narrow", "relu", "round16"]

Float32 = NDArray[np.float32]

LARGEST = np.float32(65504.0)  # overflow saturates here; the stage never makes an infinity


def round16(x: Float32) -> Float32:
    """Round float32 to float16 (nearest even), saturating; returned as float32."""
    return np.clip(x, -LARGEST, LARGEST).astype(np.float16).astype(np.float32)


def narrow(total: NDArray[np.float32] | NDArray[np.float64]) -> Float32:
    """Round an accumulator to float32 and then to float16: both steps, which once in 10**5 differ from one."""
    with np.errstate(over="ignore"):  # float64 sums may leave float32's range; infinities saturate
        return round16(total.astype(np.float32))


def multiply(x: Float32, y: Float32) -> Float32:
    """X * y, rounded once."""
    return round16(x * y)


def add(x: Float32, y: Float32) -> Float32:
    """X + y, rounded once."""
    return round16(x + y)


def relu(x: Float32) -> Float32:
    """X where x > 0, else +0. Written as the rule: numpy's maximum(-0, 0) is not the same in all types."""
    return np.where(x > 0, x, np.float32(0.0))


def maximum(left: Float32, right: Float32) -> Float32:
    """The larger one; the left operand on ties (which only shows in the sign of zero)."""
    return np.where(right > left, right, left)
