"""Block floating point: numbers that share one exponent, as ARITHMETIC.md section 1 defines them.

A block of `box` numbers has the exponent E; each number is q * 2**(E - (m - 1)) with a whole q, |q| <= 2**m -
1. Nothing here knows of channels or layers: the last axis is cut into blocks, a short last block counts as
padded by zeros.
"""

from dataclasses import dataclass, replace
from enum import Enum
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from npu.errors import CompileError

__all__ = ["DEFAULT", "PRESETS", "Accumulation", "Preset", "Quantised", "Rounding", "preset", "quantise"]

Float32 = NDArray[np.float32]
Int8 = NDArray[np.int8]
WHOLE_VECTOR = 128  # a box of this size means one native vector, however long the machine's are


class Rounding(Enum):
    """How a number becomes a whole mantissa. Truncation is towards zero."""

    NEAREST_EVEN = 0
    TRUNCATE = 1


class Accumulation(Enum):
    """How block sums are added. An attribute of each chain, never a consequence of scheduling."""

    FP32_SEQ = 0  # one float32 addition per block, in the order ky, kx, depth
    WIDE = 1  # the same order in float64
    FP16_TAPS = 2  # as FP32_SEQ within a kernel tap; the taps' sums are added in float16


@dataclass(frozen=True)
class Preset:
    """A number format with everything that decides its bits."""

    name: str
    box: int
    exponent_bits: int
    mantissa_bits: int
    accumulation: Accumulation

    @property
    def exponent_min(self) -> int:
        """Blocks of smaller numbers denormalise."""
        return -16 if self.exponent_bits == 5 else -126

    @property
    def exponent_max(self) -> int:
        """Blocks of larger numbers clamp their mantissas."""
        return 15 if self.exponent_bits == 5 else 127

    @property
    def mantissa_max(self) -> int:
        """The largest whole mantissa; the smallest is its negative."""
        return int(2**self.mantissa_bits) - 1

    @property
    def accumulations(self) -> frozenset[Accumulation]:
        """What its chains may have; 8-bit exponents reach beyond what float32 and float16 sums can hold."""
        return frozenset(Accumulation) if self.exponent_bits == 5 else frozenset({Accumulation.WIDE})

    def on(self, native_dim: int) -> "Preset":
        """The preset on a machine with such vectors: a box of 128 stands for one native vector, 16 stays.

        Raises CompileError where boxes of 16 do not fill a native vector.
        """
        if self.box == WHOLE_VECTOR:
            return replace(self, box=native_dim)
        if native_dim % self.box:
            raise CompileError(
                f"{self.name} has boxes of {self.box} numbers, which do not fill vectors of {native_dim}; "
                "choose a preset with 5-bit exponents, or another SKU"
            )
        return self

    def bits(self, numbers: int) -> int:
        """Bits that `numbers` numbers take in memory: sign and mantissa each, one exponent per box."""
        return numbers * (1 + self.mantissa_bits) + -(-numbers // self.box) * self.exponent_bits


# 8-bit exponents reach beyond what float32 sums can hold, hence `wide` there.
PRESETS = {
    preset.name: preset
    for preset in (
        Preset("msfp-a10", 128, 5, 5, Accumulation.FP32_SEQ),
        Preset("ms-fp9", 128, 5, 3, Accumulation.FP32_SEQ),
        Preset("ms-fp8", 128, 5, 2, Accumulation.FP32_SEQ),
        Preset("msfp12", 16, 8, 3, Accumulation.WIDE),
        Preset("msfp16", 16, 8, 7, Accumulation.WIDE),
    )
}
DEFAULT = "msfp-a10"


def preset(name: str) -> Preset:
    """Return the preset of that name, or raise CompileError that lists those that exist."""
    try:
        return PRESETS[name]
    except KeyError:
        raise CompileError(f"precision {name!r} is unknown; choose one of {', '.join(PRESETS)}") from None


class Quantised(NamedTuple):
    """Mantissas shaped as the input (whole numbers in float32), one exponent per block of its last axis."""

    mantissas: Float32
    exponents: NDArray[np.int32]

    def values(self, form: Preset) -> Float32:
        """The numbers that the blocks stand for; exact in float32, also below its normal range."""
        scale = _spread(_power_of_two(self.exponents), form.box, self.mantissas.shape[-1])
        return self.mantissas * np.float32(2.0 ** (1 - form.mantissa_bits)) * scale


def quantise(x: Float32, form: Preset, rounding: Rounding = Rounding.NEAREST_EVEN) -> Quantised:
    """Cut the last axis of `x` (finite float32) into blocks of `form.box` and quantise each."""
    starts = np.arange(0, x.shape[-1], form.box)
    largest = np.maximum.reduceat(np.abs(x), starts, axis=-1) if x.shape[-1] > form.box else None
    if largest is None:
        largest = np.abs(x).max(axis=-1, keepdims=True)
    # floor(log2) is the exponent field; a zero or subnormal maximum reads as -127 and is clamped.
    exponents = (np.ascontiguousarray(largest).view(np.int32) >> 23) - 127
    exponents = np.clip(exponents, form.exponent_min, form.exponent_max)
    # Two exact multiplications: 2**(m - 1 - E) alone would leave float32's range at E = -126.
    scaled = x * _spread(_power_of_two(-exponents), form.box, x.shape[-1])
    scaled *= np.float32(2.0 ** (form.mantissa_bits - 1))
    whole = np.rint(scaled, out=scaled) if rounding is Rounding.NEAREST_EVEN else np.trunc(scaled, out=scaled)
    np.clip(whole, -form.mantissa_max, form.mantissa_max, out=whole)
    whole += np.float32(0.0)  # -0 becomes +0
    return Quantised(whole, exponents)


def _power_of_two(exponents: NDArray[np.int32]) -> Float32:
    """2.0**exponents, built from the bits, for exponents from -126 to 127, and the subnormal 2**-127."""
    normal = np.maximum(exponents, -126)
    power = ((normal + 127) << 23).astype(np.int32).view(np.float32)
    return np.where(exponents < -126, np.float32(2.0**-127), power)


def _spread(per_block: Float32, box: int, length: int) -> Float32:
    """Repeat one number per block over the numbers of its block; no copy where one block covers all."""
    if per_block.shape[-1] == 1:
        return per_block
    return np.repeat(per_block, box, axis=-1)[..., :length]
