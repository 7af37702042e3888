"""Chains whose matrix is the identity: pools and concatenation.

They have one rule in common: the operand that goes through the matrix unit is quantised, the other one, which
comes from the float16 file, is not. ARITHMETIC.md section 5.
"""

import numpy as np

from npu import float16
from npu.bfp import Float32
from npu.chain import Chain, Tensor
from npu.matrix_unit import MatrixUnit
from npu.windows import pooling_lines, taps

__all__ = ["average_pool", "concat", "max_pool"]


def max_pool(unit: MatrixUnit, x: Float32, chain: Chain, source: Tensor, target: Tensor) -> Float32:
    """Across, then down: (Q(x0) max x1) max x2."""
    for axis in (1, 0):
        first, *others = pooling_lines(x, chain, source, target, axis)
        largest = unit.quantised(first)
        for other in others:
            largest = float16.maximum(largest, other)
        x = np.moveaxis(largest, 0, axis)
    return np.ascontiguousarray(x)


def average_pool(unit: MatrixUnit, x: Float32, chain: Chain, source: Tensor, target: Tensor) -> Float32:
    """The window's sum, row by row: (Q(x0) + x1) + x2 ... The division is the chain's scale."""
    windows = taps(x, chain, source, target)
    first, *others = (windows[ky, kx] for ky in range(chain.kernel[0]) for kx in range(chain.kernel[1]))
    total = unit.quantised(first)
    for other in others:
        total = float16.add(total, other)
    return total


def concat(unit: MatrixUnit, old: Float32, new: Float32) -> Float32:
    """Q(old), and behind its channels the new ones, which the float16 stage adds to zeros."""
    return np.concatenate([unit.quantised(old), float16.add(new, np.zeros_like(new))], axis=-1)
