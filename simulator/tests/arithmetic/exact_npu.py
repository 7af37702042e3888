"""The second implementation of ARITHMETIC.md: whole programs, number by number, on exact rationals.

It shares nothing with the oracle but the program's tables. Every rule is a method of its own, so that a test
can break one (`mutants.py`).
"""

from collections.abc import Iterator
from fractions import Fraction

from exact_numbers import (
    FLOAT16,
    FLOAT32,
    FLOAT64,
    Block,
    Picture,
    Quantiser,
    Vector,
    add16,
    multiply16,
    power_of_two,
    rounded,
)
from npu.bfp import Accumulation
from npu.chain import Chain, Kind, Stage
from npu.program import Program

EXPANDER = 7


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
