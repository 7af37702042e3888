"""The reference: computes a program literally, chain by chain, with numpy. Every other implementation must
equal it.

Tensors between chains are float32 arrays [height, width, channels] of float16 numbers, as the float16 file
holds them; quantising on reading is the same as on writing, because it depends on the numbers of one position
only.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from npu import float16
from npu.bfp import Accumulation, Float32, Quantised, quantise
from npu.chain import EXPANDER_KERNEL, NATIVE_DIM, Chain, Kind, Stage, Tensor
from npu.errors import TensorError
from npu.program import Program

__all__ = ["Oracle", "run"]

Watcher = Callable[[int, Float32], None]


@dataclass(frozen=True)
class _Weights:
    """One chain's numbers as values: matrix [ky, kx, in, out], scale and bias [out] (None where there is
    none).
    """

    matrix: Float32 | None
    scale: Float32 | None
    bias: Float32 | None


class Oracle:
    """A program with its weights as numbers. `run` may be called any number of times."""

    def __init__(self, program: Program) -> None:
        self.program = program
        self._weights = [_prepare(program, index) for index in range(len(program.chains))]

    def run(self, x: NDArray[np.floating], watch: Watcher | None = None) -> Float32:
        """Compute one picture [height, width, channels]; returns float16 numbers as float32.

        `watch` is called with each chain's index and result. Raises TensorError for a wrong shape or numbers
        that are not finite.
        """
        program = self.program
        tensors: dict[int, Float32] = {0: check_input(x, program.input_shape)}
        last_use = {
            t: i for i, c in enumerate(program.chains) for t in (c.source, c.residual) if t is not None
        }
        for index, chain in enumerate(program.chains):
            result = self._chain(index, chain, tensors)
            if watch is not None:
                watch(index, result)
            tensors[chain.target] = result
            for dead in [tensor for tensor in tensors if last_use.get(tensor, index + 1) == index]:
                del tensors[dead]
        return tensors[program.chains[-1].target]

    def _chain(self, index: int, chain: Chain, tensors: dict[int, Float32]) -> Float32:
        x, weights = tensors[chain.source], self._weights[index]
        source, target = self.program.tensors[chain.source], self.program.tensors[chain.target]
        if chain.kind is Kind.MAX_POOL:
            return self._max_pool(x, chain, source, target)
        if chain.kind is Kind.IDENTITY:
            result = self._through_identity(x)
        else:
            assert weights.matrix is not None
            result = self._multiply(x, weights.matrix, chain, source, target)
        if weights.scale is not None:
            result = float16.multiply(result, weights.scale)
        if weights.bias is not None:
            result = float16.add(result, weights.bias)
        if chain.residual is not None:
            down, right = chain.residual_stride
            result = float16.add(result, tensors[chain.residual][::down, ::right])
        return float16.relu(result) if Stage.RELU in chain.stage else result

    def _quantise(self, x: Float32) -> Quantised:
        return quantise(x, self.program.preset, self.program.rounding)

    def _through_identity(self, x: Float32) -> Float32:
        """What comes out of the identity matrix: the quantised numbers, all of which float16 holds."""
        return float16.round16(self._quantise(x).values(self.program.preset))

    def _multiply(self, x: Float32, matrix: Float32, chain: Chain, source: Tensor, target: Tensor) -> Float32:
        """The matrix unit: block products exactly, added in the order ky, kx, depth, then float32, then
        float16.

        A block's numbers are whole multiples of one power of two, and their products sum up to less than
        2**24 of those: a float32 matrix product over the block is exact in whatever order it adds. The
        additions *between* blocks are not, and happen here one by one.
        """
        preset = self.program.preset
        if chain.kind is Kind.EXPAND:
            windows = _expand(x, chain, source, target)
            vectors = self._quantise(windows).values(preset)[np.newaxis, np.newaxis]
        else:
            vectors = _taps(self._quantise(x).values(preset), chain, source, target)
        wide = chain.accumulation is Accumulation.WIDE
        total = np.zeros((target.positions, target.channels), np.float64 if wide else np.float32)
        block = np.empty((target.positions, target.channels), np.float32)
        step = min(preset.box, NATIVE_DIM)
        for ky in range(matrix.shape[0]):
            for kx in range(matrix.shape[1]):
                tap = vectors[ky, kx].reshape(target.positions, -1)
                for start in range(0, tap.shape[1], step):
                    lanes = slice(start, start + step)
                    total += np.matmul(tap[:, lanes], matrix[ky, kx, lanes], out=block)
        with np.errstate(over="ignore"):  # `wide` may leave float32's range; round16 saturates infinities
            result = total.astype(np.float32)
        return float16.round16(result).reshape(target.shape)

    def _max_pool(self, x: Float32, chain: Chain, source: Tensor, target: Tensor) -> Float32:
        """Horizontally, then vertically: (Q(x0) max x1) max x2, the left operand through the matrix unit."""
        after = chain.pad_after(source, target)
        for axis, count in ((1, target.width), (0, target.height)):
            before = chain.pad[axis]
            padding = [(0, 0), (0, 0), (0, 0)]
            padding[axis] = (before, max(after[axis], 0))
            lines = np.moveaxis(np.pad(x, padding), axis, 0)
            step = chain.stride[axis]
            stop = (count - 1) * step + 1
            largest = self._through_identity(lines[:stop:step])
            for offset in range(1, chain.kernel[axis]):
                largest = float16.maximum(largest, lines[offset : offset + stop : step])
            x = np.moveaxis(largest, 0, axis)
        return np.ascontiguousarray(x)


def run(program: Program, x: NDArray[np.floating]) -> Float32:
    """Compute one picture [height, width, channels] -> [height, width, channels], float16 numbers in float32.

    The weights of the programs used last stay prepared.
    """
    return _oracle(program).run(x)


@lru_cache(maxsize=2)
def _oracle(program: Program) -> Oracle:
    return Oracle(program)


def check_input(x: NDArray[np.floating], shape: tuple[int, int, int]) -> Float32:
    """The program's edge: shape and finiteness checked, float32 rounded to float16 (saturating)."""
    if x.shape != shape:
        raise TensorError(f"the input has the shape {list(x.shape)}, the program takes {list(shape)}")
    single = np.ascontiguousarray(x, np.float32)
    if not np.isfinite(single).all():
        raise TensorError("the input has numbers that are not finite")
    return float16.round16(single) + np.float32(0.0)


def _prepare(program: Program, index: int) -> _Weights:
    scale, bias = program.scale_and_bias(index)
    matrix = None
    if program.chains[index].kind in (Kind.CONV, Kind.EXPAND):
        mantissas, exponents = program.weights(index)
        blocks = Quantised(mantissas.astype(np.float32), exponents.astype(np.int32))
        matrix = np.ascontiguousarray(blocks.values(program.preset).transpose(1, 2, 3, 0))
    return _Weights(
        matrix,
        None if scale is None else scale.astype(np.float32),
        None if bias is None else bias.astype(np.float32),
    )


def _padded(x: Float32, before: tuple[int, int], after: tuple[int, int]) -> Float32:
    if before == (0, 0) and max(after) <= 0:
        return x
    return np.pad(x, ((before[0], max(after[0], 0)), (before[1], max(after[1], 0)), (0, 0)))


def _taps(x: Float32, chain: Chain, source: Tensor, target: Tensor) -> NDArray[np.float32]:
    """Views [ky, kx, height, width, channels] of what each kernel tap sees; padding is zeros."""
    padded = _padded(x, chain.pad, chain.pad_after(source, target))
    rows, columns, channel = padded.strides
    return np.lib.stride_tricks.as_strided(
        padded,
        (*chain.kernel, *target.shape[:2], source.channels),
        (
            rows * chain.dilation[0],
            columns * chain.dilation[1],
            rows * chain.stride[0],
            columns * chain.stride[1],
            channel,
        ),
        writeable=False,
    )


def _expand(x: Float32, chain: Chain, source: Tensor, target: Tensor) -> Float32:
    """The Expander: 7 x 7 x C windows, flattened as ky, kx, c, around the chain's smaller kernel."""
    margin = ((EXPANDER_KERNEL - chain.kernel[0]) // 2, (EXPANDER_KERNEL - chain.kernel[1]) // 2)
    before = (chain.pad[0] + margin[0], chain.pad[1] + margin[1])
    after = (
        (target.height - 1) * chain.stride[0] + EXPANDER_KERNEL - source.height - before[0],
        (target.width - 1) * chain.stride[1] + EXPANDER_KERNEL - source.width - before[1],
    )
    padded = _padded(x, before, after)
    rows, columns, channel = padded.strides
    windows = np.lib.stride_tricks.as_strided(
        padded,
        (*target.shape[:2], EXPANDER_KERNEL, EXPANDER_KERNEL, source.channels),
        (rows * chain.stride[0], columns * chain.stride[1], rows, columns, channel),
        writeable=False,
    )
    return windows.reshape(*target.shape[:2], EXPANDER_KERNEL**2 * source.channels)
