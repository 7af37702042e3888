"""One random program in the making: its numbers are drawn so that mistakes show: exponents log-uniform over 22 bits,
many numbers at, or next to, ties of the format's mantissas and of float16, next to powers of two, zeros of
both signs, subnormals, and the end of float16's range.

Everything comes from Python's own generator, so that a name and a seed give the same bits for ever.
"""

import random
from fractions import Fraction

import numpy as np
from exact_numbers import FLOAT16, FLOAT32, Picture, Quantiser, Vector, power_of_two, rounded
from npu.bfp import PRESETS, Accumulation, Rounding
from npu.chain import EXPANDER_KERNEL, Chain, Kind, Need, Stage, Tensor
from npu.program import Program

COMBINATIONS = [
    (form, accumulation, rounding)
    for form in PRESETS.values()
    for accumulation in (
        Accumulation if form.exponent_bits == 5 else [Accumulation.WIDE]  # ARITHMETIC.md section 7
    )
    for rounding in Rounding
]
ONE = (1, 1)
NONE = (0, 0)
AFFINE = Stage.SCALE | Stage.BIAS


class Draw:
    """One random program in the making."""

    def __init__(self, name: str, seed: int) -> None:
        self.name = f"{name}-{seed}"
        self.source = random.Random(self.name)
        self.form, self.accumulation, self.rounding = COMBINATIONS[seed % len(COMBINATIONS)]
        self.tensors: list[Tensor] = []
        self.chains: list[Chain] = []
        self.filters: list[list[list[Vector]]] = []  # per chain: [out][tap][in], float16 numbers
        self.vectors: list[Vector] = []
        self.outputs: tuple[int, ...] = ()
        self.exponents_of_weights: tuple[int, int] | None = None  # drawn from these, instead of quantised

    def below(self, count: int) -> int:
        return int(self.source.random() * count)

    def choose(self, *values):
        return values[self.below(len(values))]

    def chance(self, probability: float) -> bool:
        return self.source.random() < probability

    def number(self, base: int) -> float:
        """A float16 number, most often within a few bits of 2**base."""
        sign = self.choose(-1, 1)
        digits, luck = self.form.mantissa_bits, self.source.random()
        if luck < 0.3:  # half way between two mantissas of a block with the exponent `base`, or just beside
            tie = Fraction(2 * self.below(2**digits) + 1) * power_of_two(base - digits)
            near = self.choose(0, 0, 1, -1) * power_of_two(base - 10)
            return rounded(sign * (tie + near), FLOAT16)
        if luck < 0.4:
            return rounded(sign * (2 - power_of_two(-10)) * power_of_two(base - self.below(2)), FLOAT16)
        if luck < 0.47:
            return sign * self.choose(0.0, 0.0, 0.0, 2.0**-24, 3 * 2.0**-24, 1023 * 2.0**-24)
        exponent = base - self.below(3) if luck < 0.75 else self.below(22) - 12
        return rounded(sign * Fraction(1 + self.source.random()) * power_of_two(exponent), FLOAT16)

    def vector(self, length: int, spread: int = 22, centre: int = 0) -> Vector:
        base = centre + self.below(spread) - spread // 2
        return [self.number(base) for _ in range(length)]

    def edge_number(self, x: float) -> float:
        """A float32 number that the program's edge rounds: near ties of float16, and beyond its range."""
        luck = self.source.random()
        if luck < 0.02:
            return self.choose(-1, 1) * self.choose(65519.99, 65520.0, 7e4, 3e38, 2.0**-25, 2.0**-26)
        if luck < 0.3 and x:
            nudge = self.choose(0, 1, -1) * power_of_two(-20)
            return rounded(Fraction(x) * (1 + power_of_two(-11) + nudge), FLOAT32)
        return x

    def picture(self) -> Picture:
        first = self.tensors[0]
        return [
            [
                [rounded(Fraction(self.edge_number(x)), FLOAT32) for x in self.vector(first.channels)]
                for _ in range(first.width)
            ]
            for _ in range(first.height)
        ]

    def input(self, height: int, width: int, channels: int) -> int:
        self.tensors.append(Tensor(height, width, channels))
        return 0

    def add(
        self,
        kind: Kind,
        source: int,
        out: int = 0,
        *,
        stage: Stage = Stage.NONE,
        kernel: tuple[int, int] = ONE,
        stride: tuple[int, int] = ONE,
        dilation: tuple[int, int] = ONE,
        pad: tuple[int, int] = NONE,
        after: tuple[int, int] | None = None,
        residual: int | None = None,
        residual_stride: tuple[int, int] = ONE,
    ) -> int:
        """Append a chain; returns its target. `after` is the padding at the bottom and the right."""
        seen = self.tensors[source]
        after = pad if after is None else after
        size = [
            (length + before + behind - (k - 1) * d - 1) // step + 1
            for length, before, behind, k, d, step in zip(
                seen.shape[:2], pad, after, kernel, dilation, stride, strict=True
            )
        ]
        channels = out or seen.channels
        if kind is Kind.CONCAT:
            assert residual is not None
            channels = seen.channels + self.tensors[residual].channels
        accumulation = self.form.accumulation
        if kind in (Kind.CONV, Kind.EXPAND):
            accumulation = self.accumulation
            if accumulation is Accumulation.FP16_TAPS and (kind is Kind.EXPAND or Stage.SCALE in stage):
                accumulation = Accumulation.FP32_SEQ
        self.tensors.append(Tensor(*size, channels))
        target = len(self.tensors) - 1
        self.chains.append(
            Chain(
                kind,
                accumulation,
                stage | (Stage.NONE if residual is None else Stage.RESIDUAL),
                kernel,
                stride,
                dilation,
                pad,
                source,
                target,
                residual,
                residual_stride,
            )
        )
        self.filters.append(self.filter(self.chains[-1], seen, self.tensors[target]))
        self.vectors.append(self.affine(self.chains[-1], channels))
        return target

    def filter(self, chain: Chain, source: Tensor, target: Tensor) -> list[list[Vector]]:
        """Weights [out][tap][in]; each tap has a magnitude of its own, or sums would all agree."""
        if chain.kind is Kind.CONV:
            taps = chain.kernel[0] * chain.kernel[1]
            return [
                [self.vector(source.channels, centre=-6) for _ in range(taps)] for _ in range(target.channels)
            ]
        if chain.kind is Kind.EXPAND:
            return [[self.centred(chain, source)] for _ in range(target.channels)]
        return []

    def centred(self, chain: Chain, source: Tensor) -> Vector:
        top, left = ((EXPANDER_KERNEL - k) // 2 for k in chain.kernel)
        window: Vector = []
        for ky in range(EXPANDER_KERNEL):
            for kx in range(EXPANDER_KERNEL):
                inside = 0 <= ky - top < chain.kernel[0] and 0 <= kx - left < chain.kernel[1]
                window += self.vector(source.channels, 8) if inside else [0.0] * source.channels
        return window

    def affine(self, chain: Chain, channels: int) -> Vector:
        """Scales, then biases, as the program holds them."""
        if chain.kind is Kind.AVERAGE_POOL:
            part = Fraction(1, chain.kernel[0] * chain.kernel[1])
            return [rounded(part, FLOAT16)] * channels
        count = (Stage.SCALE in chain.stage) + (Stage.BIAS in chain.stage)
        return [number for _ in range(count) for number in self.vector(channels, 6)]

    def program(self) -> Program:
        quantiser = Quantiser(self.form, self.rounding)
        blocks = [
            block
            for filters in self.filters
            for taps in filters
            for tap in taps
            for block in quantiser.blocks(tap)
        ]
        if self.exponents_of_weights is not None:
            least, greatest = self.exponents_of_weights
            blocks = [block._replace(exponent=least + self.below(greatest - least + 1)) for block in blocks]
        return Program(
            name=self.name,
            sku="bw-cnn-a10",
            preset=self.form,
            rounding=self.rounding,
            tensors=tuple(self.tensors),
            chains=tuple(self.chains),
            chain_names=tuple(f"{chain.kind.name.lower()} {i}" for i, chain in enumerate(self.chains)),
            mantissas=np.array([q for block in blocks for q in block.mantissas], np.int8),
            exponents=np.array([block.exponent for block in blocks], np.int8),
            vectors=np.array([number for numbers in self.vectors for number in numbers], np.float16),
            need=Need(0, 0, 0, 0, 0, 0, 0),
            outputs=self.outputs,
        )

    # Parts that several programs have.

    def stage(self) -> Stage:
        return self.choose(Stage.BIAS, AFFINE) | self.choose(Stage.NONE, Stage.RELU)

    def window(self, side: int, *, dilated: bool = False) -> dict:
        """A kernel that fits a square of `side`, with stride, dilation and padding on either side."""
        result = {name: [] for name in ("kernel", "stride", "dilation", "pad", "after")}
        for _ in range(2):
            step = self.choose(1, 1, 2) if dilated else 1
            k = 1 + self.below(min(3, (side - 1) // step + 1))
            reach = (k - 1) * step
            result["kernel"].append(k)
            result["dilation"].append(step)
            result["stride"].append(self.choose(1, 1, 2, 3))
            result["pad"].append(self.below(min(reach, 2) + 1))
            result["after"].append(self.below(min(reach, 2) + 1))
        return {name: tuple(pair) for name, pair in result.items()}
