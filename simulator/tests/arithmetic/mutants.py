"""The mistakes an implementation may make, each one a machine that differs from the exact one in one rule.

A mutant that no drawn layer and no golden vector tells from the exact machine would be a mistake that the
tests of an implementation could not find.
"""

import math
from fractions import Fraction

from exact_npu import Machine
from exact_numbers import (
    FLOAT16,
    FLOAT32,
    Block,
    Picture,
    Quantiser,
    Vector,
    add16,
    floor_log2,
    multiply16,
    rounded,
)
from npu.bfp import Accumulation
from npu.chain import Chain, Kind, Stage


class TapOrder(Machine):
    """Taps in the order kx, ky."""

    def order(self, chain: Chain) -> list[int]:
        height, width = chain.kernel
        return [ky * width + kx for kx in range(width) for ky in range(height)]


class DepthOrder(Machine):
    """Blocks of a tap from the last channel to the first."""

    def products(self, seen: list[Block], weights: list[Block]) -> list[Fraction]:
        return super().products(seen[::-1], weights[::-1])


class ExactSums(Machine):
    """Block sums added without rounding in between."""

    def accumulated(self, terms: list[Fraction], mode: Accumulation) -> Fraction:
        return sum(terms, Fraction(0))


class AlwaysWide(Machine):
    """Float64 sums in every mode."""

    def accumulated(self, terms: list[Fraction], mode: Accumulation) -> Fraction:
        return super().accumulated(terms, Accumulation.WIDE)


class NeverWide(Machine):
    """Float32 sums in every mode."""

    def accumulated(self, terms: list[Fraction], mode: Accumulation) -> Fraction:
        return super().accumulated(terms, Accumulation.FP32_SEQ)


class StraightToFloat16(Machine):
    """The accumulator rounded to float16 at once."""

    def narrowed(self, total: Fraction, chain: Chain) -> float:
        return rounded(total, FLOAT16)


class NoRoundingBeforeScale(Machine):
    """The float32 sum scaled before it is rounded to float16: one rounding less."""

    def narrowed(self, total: Fraction, chain: Chain) -> float:
        if Stage.SCALE in chain.stage:
            return rounded(total, FLOAT32)
        return super().narrowed(total, chain)


class NotQuantised(Machine):
    """Activations go into the matrix unit as they are."""

    class quantiser(Quantiser):  # noqa: N801 (the machine's slot)
        def blocks(self, numbers: Vector) -> list[Block]:
            box, unit = self.form.box, self.form.mantissa_bits - 1
            fractions = [Fraction(x) for x in numbers]
            return [Block(fractions[start : start + box], unit) for start in range(0, len(numbers), box)]


class PassNotQuantised(Machine):
    """Pools and concatenation without the quantisation of the left operand."""

    def through_identity(self, vector: Vector) -> Vector:
        return vector


class QuantisedOnceInPool(Machine):
    """A max pool that does not quantise again on its way down."""

    def max_pool(self, chain: Chain, x: Picture, row: int, column: int) -> Vector:
        seen = dict(self.vectors(chain, x, row, column))
        across = [
            self.largest([seen[ky, kx] for kx in range(chain.kernel[1])]) for ky in range(chain.kernel[0])
        ]
        result = across[0]
        for other in across[1:]:
            result = [self.maximum(a, b) for a, b in zip(result, other, strict=True)]
        return result


class ColumnMajorMaxPool(Machine):
    """Down, then across."""

    def max_pool(self, chain: Chain, x: Picture, row: int, column: int) -> Vector:
        seen = dict(self.vectors(chain, x, row, column))
        down = [
            self.largest([seen[ky, kx] for ky in range(chain.kernel[0])]) for kx in range(chain.kernel[1])
        ]
        return self.largest(down)


class ColumnMajorAveragePool(Machine):
    """The window's vectors added column by column."""

    def pooling_order(
        self, taps: list[tuple[tuple[int, int], Vector]]
    ) -> list[tuple[tuple[int, int], Vector]]:
        return sorted(taps, key=lambda tap: tap[0][::-1])


class AverageQuantisesRight(Machine):
    """An average pool that quantises every vector of its window."""

    def average_pool(self, chain: Chain, x: Picture, row: int, column: int) -> Vector:
        total, *others = (self.through_identity(v) for _, v in self.vectors(chain, x, row, column))
        for vector in others:
            total = [add16(t, v) for t, v in zip(total, vector, strict=True)]
        return total


class AverageDivides(Machine):
    """An average pool that divides by the count instead of multiplying by float16(1 / count)."""

    def stage(self, index: int, chain: Chain, vector: Vector, other: Vector | None) -> Vector:
        if chain.kind is Kind.AVERAGE_POOL:
            count = chain.kernel[0] * chain.kernel[1]
            return [rounded(Fraction(x) / count, FLOAT16) for x in vector]
        return super().stage(index, chain, vector, other)


class ConcatQuantisesNew(Machine):
    """A concatenation that quantises the new operand, too."""

    def concat(self, old: Vector, new: Vector) -> Vector:
        return super().concat(old, self.through_identity(new))


class ConcatKeepsOld(Machine):
    """A concatenation that copies the old operand."""

    def concat(self, old: Vector, new: Vector) -> Vector:
        return old + super().concat(old, new)[len(old) :]


class TapsInFloat32(Machine):
    """`fp16-taps` computed as `fp32-seq`."""

    def adds_bias_in_taps(self, chain: Chain) -> bool:
        return False


class TapsBiasLast(Machine):
    """`fp16-taps` with the bias added behind the partial sum."""

    def taps_in_float16(self, taps: Vector, bias: float) -> float:
        total = taps[0]
        for tap in taps[1:]:
            total = add16(tap, total)
        return add16(total, bias)


class TapsBiasFirst(Machine):
    """`fp16-taps` that starts from the bias."""

    def taps_in_float16(self, taps: Vector, bias: float) -> float:
        total = bias
        for tap in taps:
            total = add16(tap, total)
        return total


class FoldedNormalisation(Machine):
    """The scale multiplied into the weights, which are quantised again."""

    def __init__(self, program):
        super().__init__(program)
        for index, (scale, bias) in enumerate(self.affine):
            if scale is not None and self.weights[index]:
                self.weights[index] = [
                    [self.unit.blocks([multiply16(w, s) for w in self.unit.values(tap)]) for tap in taps]
                    for taps, s in zip(self.weights[index], scale, strict=True)
                ]
                self.affine[index] = None, bias


class FusedNormalisation(Machine):
    """Scale and bias with one rounding."""

    def stage(self, index: int, chain: Chain, vector: Vector, other: Vector | None) -> Vector:
        scale, bias = self.affine[index]
        if scale is None or bias is None:
            return super().stage(index, chain, vector, other)
        vector = [
            rounded(Fraction(x) * Fraction(s) + Fraction(b), FLOAT16)
            for x, s, b in zip(vector, scale, bias, strict=True)
        ]
        if other is not None:
            vector = [add16(x, o) for x, o in zip(vector, other, strict=True)]
        return [self.relu(x) for x in vector] if Stage.RELU in chain.stage else vector


class ResidualQuantised(Machine):
    """The other branch read as the matrix unit would."""

    def other(self, chain: Chain, tensors: dict[int, Picture], row: int, column: int) -> Vector | None:
        vector = super().other(chain, tensors, row, column)
        return vector if vector is None or chain.kind is Kind.CONCAT else self.through_identity(vector)


class ReluKeepsMinusZero(Machine):
    """ReLU as x < 0 ? 0 : x."""

    def relu(self, x: float) -> float:
        return 0.0 if x < 0 else x


class MaximumRightOnTies(Machine):
    """The right operand on ties, so another sign of zero."""

    def maximum(self, left: float, right: float) -> float:
        return left if left > right else right  # noqa: FURB136 (the other tie)


class EdgeKeepsMinusZero(Machine):
    """-0 in the input stays -0."""

    def edge(self, x: float) -> float:
        return math.copysign(abs(super().edge(x)), x)


class ConcatKeepsMinusZero(Machine):
    """The new numbers of a concatenation copied instead of added to zeros."""

    def concat(self, old: Vector, new: Vector) -> Vector:
        return self.through_identity(old) + new


class MinusZeroFlushed(Machine):
    """What rounds to zero in the matrix unit loses its sign."""

    def narrowed(self, total: Fraction, chain: Chain) -> float:
        return super().narrowed(total, chain) + 0.0


class SubnormalsFlushed(Machine):
    """Float16 subnormals of the matrix unit become zeros."""

    def narrowed(self, total: Fraction, chain: Chain) -> float:
        result = super().narrowed(total, chain)
        return result if abs(result) >= 2.0**-14 else 0.0


class ExponentByLogarithm(Machine):
    """The exponent from a logarithm in float16: numbers just below a power of two reach it."""

    class quantiser(Quantiser):  # noqa: N801 (the machine's slot)
        def exponent(self, largest: Fraction) -> int:
            return math.floor(rounded(Fraction(math.log2(largest)), FLOAT16))


class ExponentRoundsUp(Machine):
    """The exponent of the rounded maximum, so that no mantissa is ever clamped."""

    class quantiser(Quantiser):  # noqa: N801 (the machine's slot)
        def exponent(self, largest: Fraction) -> int:
            found = floor_log2(largest)
            limit = Fraction(2) ** (found + 1) - Fraction(2) ** (found - self.form.mantissa_bits)
            return found + (largest >= limit)


class TiesAwayFromZero(Machine):
    """Mantissas rounded half away from zero."""

    class quantiser(Quantiser):  # noqa: N801 (the machine's slot)
        def mantissa(self, x: Fraction) -> int:
            away = math.floor(abs(x) + Fraction(1, 2))
            return super().mantissa(Fraction(away if x > 0 else -away))


class TruncationFloors(Machine):
    """Truncation towards minus infinity."""

    class quantiser(Quantiser):  # noqa: N801 (the machine's slot)
        def mantissa(self, x: Fraction) -> int:
            return super().mantissa(Fraction(math.floor(x)) if self.truncates else x)

        @property
        def truncates(self) -> bool:
            return self.rounding.name == "TRUNCATE"


class ExpanderCropped(Machine):
    """An Expander that shows zeros beside a smaller kernel, so that other pixels decide the exponent."""

    def expander(self, chain: Chain, x: Picture, row: int, column: int):
        margins = [(7 - k) // 2 for k in chain.kernel]
        for (ky, kx), vector in super().expander(chain, x, row, column):
            inside = all(m <= at < m + k for at, m, k in zip((ky, kx), margins, chain.kernel, strict=True))
            yield (ky, kx), vector if inside else [0.0] * len(vector)


MUTANTS: dict[str, type[Machine]] = {
    machine.__name__: machine
    for machine in list(vars().values())
    if isinstance(machine, type) and issubclass(machine, Machine) and machine is not Machine
}
