"""The second implementation of ARITHMETIC.md: number by number, on exact rationals.

It shares nothing with the oracle but the program's tables: no numpy arithmetic, no float arithmetic. Numbers
between operations are Python floats, which hold float16, float32 and float64 numbers and the sign of zero;
each operation turns them into fractions, computes exactly, and rounds once. Every rule is a method of its
own, so that a test can break one (`mutants.py`).
"""

import math
from collections.abc import Iterator
from fractions import Fraction
from functools import cache
from typing import NamedTuple

from npu.bfp import Accumulation, Preset, Rounding
from npu.chain import Chain, Kind, Stage
from npu.program import Program

Vector = list[float]
Picture = list[list[Vector]]  # rows of positions of channels
EXPONENTS = {5: (-16, 15), 8: (-126, 127)}
EXPANDER = 7


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


class Machine:
    """One program, computed literally."""

    quantiser = Quantiser

    def __init__(self, program: Program) -> None:
        self.program = program
        self.unit = self.quantiser(program.preset, program.rounding)
        self.weights = [self.matrix(index) for index in range(len(program.chains))]
        self.affine = [self.scale_and_bias(index) for index in range(len(program.chains))]

    # The program's tables.

    def matrix(self, index: int) -> list[list[list[Block]]]:
        """Blocks [output channel][tap][block]; the taps row by row."""
        box = self.program.preset.box
        mantissas, exponents = (numbers.tolist() for numbers in self.program.weights(index))
        return [
            [
                [Block(q[b * box : (b + 1) * box], exponent) for b, exponent in enumerate(e)]
                for row_q, row_e in zip(filter_q, filter_e, strict=True)
                for q, e in zip(row_q, row_e, strict=True)
            ]
            for filter_q, filter_e in zip(mantissas, exponents, strict=True)
        ]

    def scale_and_bias(self, index: int) -> tuple[Vector | None, Vector | None]:
        scale, bias = self.program.scale_and_bias(index)
        return None if scale is None else scale.tolist(), None if bias is None else bias.tolist()

    # Section 2: the edge.

    def edge(self, x: float) -> float:
        return rounded(Fraction(x), FLOAT16) + 0.0  # -0 becomes +0

    # Sections 3 to 6.

    def run(self, x: Picture) -> dict[int, Picture]:
        """Every tensor of the program."""
        tensors = {0: [[[self.edge(number) for number in vector] for vector in row] for row in x]}
        for index, chain in enumerate(self.program.chains):
            tensors[chain.target] = self.chain(index, chain, tensors)
        return tensors

    def queue(self, x: Picture) -> Vector:
        """The numbers in the output queue."""
        tensors = self.run(x)
        return [
            number
            for index in self.program.output_tensors
            for row in tensors[index]
            for vector in row
            for number in vector
        ]

    def chain(self, index: int, chain: Chain, tensors: dict[int, Picture]) -> Picture:
        source = tensors[chain.source]
        target = self.program.tensors[chain.target]
        seen = [[self.unit.blocks(vector) for vector in row] for row in source]
        result: Picture = []
        for row in range(target.height):
            result.append([])
            for column in range(target.width):
                other = self.other(chain, tensors, row, column)
                match chain.kind:
                    case Kind.MAX_POOL:
                        vector = self.max_pool(chain, source, row, column)
                    case Kind.AVERAGE_POOL:
                        vector = self.average_pool(chain, source, row, column)
                    case Kind.CONCAT:
                        assert other is not None
                        result[-1].append(self.concat(source[row][column], other))
                        continue
                    case Kind.IDENTITY:
                        vector = self.unit.values(seen[row][column])
                    case Kind.EXPAND:
                        window = [
                            n for _, vector in self.expander(chain, source, row, column) for n in vector
                        ]
                        vector = self.multiply(index, chain, [self.unit.blocks(window)])
                    case _:
                        taps = [
                            seen[y][z] if inside else None
                            for y, z, inside in self.window(chain, source, row, column)
                        ]
                        nothing = [Block([0] * len(block.mantissas), block.exponent) for block in seen[0][0]]
                        vector = self.multiply(
                            index, chain, [nothing if tap is None else tap for tap in taps]
                        )
                result[-1].append(self.stage(index, chain, vector, other))
        return result

    def other(self, chain: Chain, tensors: dict[int, Picture], row: int, column: int) -> Vector | None:
        if chain.residual is None:
            return None
        down, right = chain.residual_stride
        return tensors[chain.residual][row * down][column * right]

    def stage(self, index: int, chain: Chain, vector: Vector, other: Vector | None) -> Vector:
        """The float16 stage of one position."""
        scale, bias = self.affine[index]
        if scale is not None:
            vector = [multiply16(x, s) for x, s in zip(vector, scale, strict=True)]
        if bias is not None and not self.adds_bias_in_taps(chain):
            vector = [add16(x, b) for x, b in zip(vector, bias, strict=True)]
        if other is not None:
            vector = [add16(x, o) for x, o in zip(vector, other, strict=True)]
        return [self.relu(x) for x in vector] if Stage.RELU in chain.stage else vector

    def adds_bias_in_taps(self, chain: Chain) -> bool:
        return chain.kind is Kind.CONV and chain.accumulation is Accumulation.FP16_TAPS

    def relu(self, x: float) -> float:
        return x if x > 0 else 0.0

    def maximum(self, left: float, right: float) -> float:
        return max(left, right)  # Python's gives the left one on ties, as the rule wants

    # Windows.

    def window(self, chain: Chain, x: Picture, row: int, column: int) -> Iterator[tuple[int, int, bool]]:
        """Row, column, and whether they are in the picture, of every tap."""
        for ky in range(chain.kernel[0]):
            for kx in range(chain.kernel[1]):
                y = row * chain.stride[0] - chain.pad[0] + ky * chain.dilation[0]
                z = column * chain.stride[1] - chain.pad[1] + kx * chain.dilation[1]
                yield y, z, 0 <= y < len(x) and 0 <= z < len(x[0])

    def vectors(
        self, chain: Chain, x: Picture, row: int, column: int
    ) -> Iterator[tuple[tuple[int, int], Vector]]:
        """Every tap's offset and unquantised vector."""
        zeros = [0.0] * len(x[0][0])
        for number, (y, z, inside) in enumerate(self.window(chain, x, row, column)):
            yield divmod(number, chain.kernel[1]), x[y][z] if inside else zeros

    def expander(
        self, chain: Chain, x: Picture, row: int, column: int
    ) -> Iterator[tuple[tuple[int, int], Vector]]:
        """The 7 x 7 window in whose middle the kernel sits."""
        zeros = [0.0] * len(x[0][0])
        top, left = ((EXPANDER - k) // 2 + p for k, p in zip(chain.kernel, chain.pad, strict=True))
        for ky in range(EXPANDER):
            for kx in range(EXPANDER):
                y, z = row * chain.stride[0] - top + ky, column * chain.stride[1] - left + kx
                inside = 0 <= y < len(x) and 0 <= z < len(x[0])
                yield (ky, kx), x[y][z] if inside else zeros

    # The matrix unit.

    def multiply(self, index: int, chain: Chain, taps: list[list[Block]]) -> Vector:
        """One position: a number per output channel."""
        if self.adds_bias_in_taps(chain):
            _, bias = self.affine[index]
            assert bias is not None
            return [
                self.taps_in_float16(
                    [
                        self.narrowed(self.accumulated(self.products(*pair), Accumulation.FP32_SEQ), chain)
                        for pair in ((taps[tap], weights[tap]) for tap in self.order(chain))
                    ],
                    bias[out],
                )
                for out, weights in enumerate(self.weights[index])
            ]
        order = self.order(chain) if chain.kind is Kind.CONV else [0]
        return [
            self.narrowed(
                self.accumulated(
                    [term for tap in order for term in self.products(taps[tap], weights[tap])],
                    chain.accumulation,
                ),
                chain,
            )
            for weights in self.weights[index]
        ]

    def order(self, chain: Chain) -> list[int]:
        """The taps, ky outermost."""
        return list(range(chain.kernel[0] * chain.kernel[1]))

    def products(self, seen: list[Block], weights: list[Block]) -> list[Fraction]:
        """The exact products of one tap's blocks, in the order of the depth."""
        two_units = 2 * (1 - self.program.preset.mantissa_bits)
        return [
            sum(q * w for q, w in zip(a.mantissas, b.mantissas, strict=True))
            * power_of_two(a.exponent + b.exponent + two_units)
            for a, b in zip(seen, weights, strict=True)
        ]

    def accumulated(self, terms: list[Fraction], mode: Accumulation) -> Fraction:
        form = FLOAT64 if mode is Accumulation.WIDE else FLOAT32
        total = Fraction(0)
        for term in terms:
            total = Fraction(rounded(total + term, form))
        return total

    def narrowed(self, total: Fraction, chain: Chain) -> float:
        """To float32, then to float16; a total that float32 loses keeps its sign."""
        single = rounded(total, FLOAT32)
        if single == 0:
            return single
        return rounded(Fraction(single), FLOAT16)

    def taps_in_float16(self, taps: Vector, bias: float) -> float:
        """The sums of the taps row by row; in the last one the bias comes before the others' sum."""
        last = add16(taps[-1], bias)
        if len(taps) == 1:
            return last
        partial = taps[0]
        for tap in taps[1:-1]:
            partial = add16(tap, partial)
        return add16(last, partial)

    # Identity passes.

    def through_identity(self, vector: Vector) -> Vector:
        return self.unit.values(self.unit.blocks(vector))

    def largest(self, vectors: list[Vector]) -> Vector:
        result = self.through_identity(vectors[0])
        for vector in vectors[1:]:
            result = [self.maximum(a, b) for a, b in zip(result, vector, strict=True)]
        return result

    def max_pool(self, chain: Chain, x: Picture, row: int, column: int) -> Vector:
        """Across, then down."""
        seen = dict(self.vectors(chain, x, row, column))
        across = [
            self.largest([seen[ky, kx] for kx in range(chain.kernel[1])]) for ky in range(chain.kernel[0])
        ]
        return self.largest(across)

    def average_pool(self, chain: Chain, x: Picture, row: int, column: int) -> Vector:
        """The sum; the scale makes it the average."""
        (_, first), *others = self.pooling_order(list(self.vectors(chain, x, row, column)))
        total = self.through_identity(first)
        for _, vector in others:
            total = [add16(t, v) for t, v in zip(total, self.right_operand(vector), strict=True)]
        return total

    def pooling_order(
        self, taps: list[tuple[tuple[int, int], Vector]]
    ) -> list[tuple[tuple[int, int], Vector]]:
        return taps

    def right_operand(self, vector: Vector) -> Vector:
        return vector

    def concat(self, old: Vector, new: Vector) -> Vector:
        return self.through_identity(old) + [add16(0.0, x) for x in self.right_operand(new)]
