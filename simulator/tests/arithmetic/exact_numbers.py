"""Numbers of the second implementation: rounding, and block floating point, on exact rationals.

No numpy arithmetic, no float arithmetic. Between operations numbers are Python floats, which hold float16,
float32 and float64 numbers and the sign of zero; each operation turns them into fractions, computes exactly,
and rounds once.
"""

import math
from fractions import Fraction
from functools import cache
from typing import NamedTuple

from npu.bfp import Preset, Rounding

Vector = list[float]
Picture = list[list[Vector]]  # rows of positions of channels
EXPONENTS = {5: (-16, 15), 8: (-126, 127)}


class Binary(NamedTuple):
    """A floating-point format: binary digits, exponent of the smallest normal number, largest number."""

    digits: int
    least: int
    largest: float | None


FLOAT16 = Binary(11, -14, 65504.0)
FLOAT32 = Binary(24, -126, None)  # beyond float32's range everything saturates in float16 anyway
FLOAT64 = Binary(53, -1022, None)


class Block(NamedTuple):
    """Whole mantissas that share an exponent."""

    mantissas: list[int]
    exponent: int


@cache
def power_of_two(exponent: int) -> Fraction:
    return Fraction(1 << exponent) if exponent >= 0 else Fraction(1, 1 << -exponent)


def floor_log2(x: Fraction) -> int:
    """For x > 0, by comparing whole numbers."""
    above, below = x.numerator, x.denominator
    found = above.bit_length() - below.bit_length()
    reached = above >= below << found if found >= 0 else above << -found >= below
    return found if reached else found - 1


def negative(x: float) -> bool:
    """Also true for -0."""
    return math.copysign(1.0, x) < 0


def rounded(x: Fraction, form: Binary) -> float:
    """The nearest number of the format, ties to even; a negative number that rounds to zero gives -0."""
    if x == 0:
        return 0.0
    unit = max(floor_log2(abs(x)), form.least) - form.digits + 1
    result = math.ldexp(round(x * power_of_two(-unit)), unit)  # exact: puts the exponent to the whole number
    if form.largest is not None:
        result = min(max(result, -form.largest), form.largest)
    return -abs(result) if x < 0 else result


def add16(a: float, b: float) -> float:
    if a == 0 and b == 0:
        return -0.0 if negative(a) and negative(b) else 0.0
    return rounded(Fraction(a) + Fraction(b), FLOAT16)


def multiply16(a: float, b: float) -> float:
    if a == 0 or b == 0:
        return -0.0 if negative(a) != negative(b) else 0.0
    return rounded(Fraction(a) * Fraction(b), FLOAT16)


class Quantiser:
    """Section 1: numbers to blocks and back."""

    def __init__(self, form: Preset, rounding: Rounding) -> None:
        self.form, self.rounding = form, rounding
        self.least, self.greatest = EXPONENTS[form.exponent_bits]

    def exponent(self, largest: Fraction) -> int:
        return floor_log2(largest)

    def mantissa(self, x: Fraction) -> int:
        whole = round(x) if self.rounding is Rounding.NEAREST_EVEN else int(x)
        limit = 2**self.form.mantissa_bits - 1
        return min(max(whole, -limit), limit)

    def block(self, numbers: Vector) -> Block:
        fractions = [Fraction(x) for x in numbers]
        largest = max(map(abs, fractions))
        exponent = self.least
        if largest:
            exponent = min(max(self.exponent(largest), self.least), self.greatest)
        scale = power_of_two(self.form.mantissa_bits - 1 - exponent)
        return Block([self.mantissa(x * scale) for x in fractions], exponent)

    def blocks(self, numbers: Vector) -> list[Block]:
        box = self.form.box
        return [self.block(numbers[start : start + box]) for start in range(0, len(numbers), box)]

    def values(self, blocks: list[Block]) -> Vector:
        unit = 1 - self.form.mantissa_bits
        return [math.ldexp(q, block.exponent + unit) for block in blocks for q in block.mantissas]
