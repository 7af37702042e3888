"""The matrix unit: quantised vectors times a matrix, and how the block products are added.

Results are float16 numbers in float32 arrays, as everywhere behind it. ARITHMETIC.md section 4 is the text
that this file translates.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from npu import float16
from npu.bfp import Accumulation, Float32, Preset, Rounding, quantise
from npu.chain import NATIVE_DIM

__all__ = ["Matrix", "MatrixUnit"]

Floats = NDArray[np.float32] | NDArray[np.float64]


@dataclass(frozen=True)
class Matrix:
    """One chain's weights as numbers [ky, kx, in, out], of the type in which their products are exact."""

    values: Floats
    accumulation: Accumulation

    @classmethod
    def of(
        cls,
        mantissas: NDArray[np.int8],
        exponents: NDArray[np.int8],
        form: Preset,
        accumulation: Accumulation,
    ) -> "Matrix":
        """Mantissas [out, ky, kx, in] and exponents [out, ky, kx, block] as the program holds them."""
        powers = np.repeat(exponents.astype(np.int32), form.box, axis=-1)[..., : mantissas.shape[-1]]
        values = np.ldexp(mantissas.astype(np.float64), powers - (form.mantissa_bits - 1))
        ordered: Floats = np.ascontiguousarray(values.transpose(1, 2, 3, 0))
        return cls(ordered if accumulation is Accumulation.WIDE else ordered.astype(np.float32), accumulation)


@dataclass(frozen=True)
class MatrixUnit:
    """The unit as one program configures it."""

    form: Preset
    rounding: Rounding

    def quantised(self, x: Float32) -> Float32:
        """What the unit sees of float16 numbers: quantised along the last axis.

        The identity matrix hands on the same: every quantised float16 number is a float16 number again.
        """
        return quantise(x, self.form, self.rounding).values(self.form)

    def multiply(self, seen: Float32, matrix: Matrix) -> Float32:
        """Products of quantised numbers [ky, kx, height, width, in] -> [height, width, out]: all blocks added
        in the order ky, kx, depth, then rounded to float32, then to float16.
        """
        kernel_height, kernel_width, height, width, _ = seen.shape
        total = np.zeros((height * width, matrix.values.shape[3]), matrix.values.dtype)
        for ky in range(kernel_height):
            for kx in range(kernel_width):
                self._accumulate(total, seen[ky, kx], matrix.values[ky, kx])
        return float16.narrow(total).reshape(height, width, -1)

    def multiply_by_taps(self, seen: Float32, matrix: Matrix, bias: Float32) -> Float32:
        """`fp16-taps`: each tap is a product of its own, rounded to float16; they are added in float16. In the
        last tap the bias comes before the sum of the others.
        """
        *others, last = (
            self.multiply(seen[ky : ky + 1, kx : kx + 1], _tap(matrix, ky, kx))
            for ky in range(seen.shape[0])
            for kx in range(seen.shape[1])
        )
        result = float16.add(last, bias)
        if not others:
            return result
        partial = others[0]
        for tap in others[1:]:
            partial = float16.add(tap, partial)
        return float16.add(result, partial)

    def _accumulate(self, total: Floats, vectors: Float32, weights: Floats) -> None:
        """Add one tap's block sums [height * width, out] to the accumulator, one by one along the depth.

        A block's products are whole multiples of one power of two and sum up to less than 2**24 of those:
        within a block a float32 product is exact in whatever order it adds (float64 where exponents have 8
        bits and would leave float32's range). The additions *between* blocks are not, and happen here.
        """
        vectors = vectors.reshape(total.shape[0], -1)
        block = np.empty_like(total)
        step = min(self.form.box, NATIVE_DIM)
        for start in range(0, vectors.shape[1], step):
            lanes = slice(start, start + step)
            total += np.matmul(vectors[:, lanes], weights[lanes], out=block, dtype=total.dtype)


def _tap(matrix: Matrix, ky: int, kx: int) -> Matrix:
    return Matrix(matrix.values[ky : ky + 1, kx : kx + 1], matrix.accumulation)
