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

from npu import float16, passes
from npu.bfp import Accumulation, Float32
from npu.chain import NATIVE_DIM, Chain, Kind, Stage
from npu.errors import SkuError, TensorError
from npu.matrix_unit import Matrix, MatrixUnit
from npu.program import Program
from npu.windows import expanded, taps

__all__ = ["Oracle", "run"]

Watcher = Callable[[int, Float32], None]


@dataclass(frozen=True)
class _Numbers:
    """One chain's weights, scale and bias [out]; None where there is none."""

    matrix: Matrix | None
    scale: Float32 | None
    bias: Float32 | None


class Oracle:
    """A program with its weights as numbers. `run` may be called any number of times.

    Raises SkuError for a program of a native dimension that only the timing model knows.
    """

    def __init__(self, program: Program) -> None:
        if program.native_dim != NATIVE_DIM:
            raise SkuError(
                f"the program is for {program.sku}, native dimension {program.native_dim}: such a device is "
                f"only timed (npu estimate); compile for a SKU of native dimension {NATIVE_DIM} to run it"
            )
        self.program = program
        self._unit = MatrixUnit(program.preset, program.rounding)
        self._numbers = [_prepare(program, index) for index in range(len(program.chains))]

    def run(self, x: NDArray[np.floating], watch: Watcher | None = None) -> Float32:
        """Compute one picture [height, width, channels]; returns float16 numbers as float32, shaped as
        `program.output_shape` says: several output tensors come flat, one behind the other.

        `watch` is called with each chain's index and result. Raises TensorError for a wrong shape or numbers
        that are not finite.
        """
        program = self.program
        tensors: dict[int, Float32] = {0: check_input(x, program.input_shape)}
        last_use = {
            t: i for i, c in enumerate(program.chains) for t in (c.source, c.residual) if t is not None
        }
        last_use |= dict.fromkeys(program.output_tensors, len(program.chains))
        for index, chain in enumerate(program.chains):
            result = self._chain(index, chain, tensors)
            if watch is not None:
                watch(index, result)
            tensors[chain.target] = result
            for dead in [tensor for tensor in tensors if last_use.get(tensor, index) <= index]:
                del tensors[dead]
        queue = [tensors[index] for index in program.output_tensors]
        if len(queue) == 1:
            return queue[0]
        return np.concatenate([tensor.ravel() for tensor in queue]).reshape(program.output_shape)

    def _chain(self, index: int, chain: Chain, tensors: dict[int, Float32]) -> Float32:
        """The matrix unit or a pass, then the float16 stage in its order: scale, bias, residual, ReLU."""
        numbers = self._numbers[index]
        residual = None if chain.residual is None else tensors[chain.residual]
        if chain.kind is Kind.CONCAT:
            assert residual is not None
            return passes.concat(self._unit, tensors[chain.source], residual)
        result = self._through_matrix(chain, tensors[chain.source], numbers)
        if numbers.scale is not None:
            result = float16.multiply(result, numbers.scale)
        if numbers.bias is not None and not _adds_bias_in_taps(chain):
            result = float16.add(result, numbers.bias)
        if residual is not None:
            down, right = chain.residual_stride
            result = float16.add(result, residual[::down, ::right])
        return float16.relu(result) if Stage.RELU in chain.stage else result

    def _through_matrix(self, chain: Chain, x: Float32, numbers: _Numbers) -> Float32:
        """What comes out of the matrix unit; with `fp16-taps` the bias is in it."""
        unit, tensors = self._unit, self.program.tensors
        source, target = tensors[chain.source], tensors[chain.target]
        match chain.kind:
            case Kind.IDENTITY:
                return unit.quantised(x)
            case Kind.MAX_POOL:
                return passes.max_pool(unit, x, chain, source, target)
            case Kind.AVERAGE_POOL:
                return passes.average_pool(unit, x, chain, source, target)
        assert numbers.matrix is not None
        if chain.kind is Kind.EXPAND:
            seen = unit.quantised(expanded(x, chain, source, target))[np.newaxis, np.newaxis]
        else:
            seen = taps(unit.quantised(x), chain, source, target)
        if _adds_bias_in_taps(chain):
            assert numbers.bias is not None
            return unit.multiply_by_taps(seen, numbers.matrix, numbers.bias)
        return unit.multiply(seen, numbers.matrix)


def run(program: Program, x: NDArray[np.floating]) -> Float32:
    """Compute one picture [height, width, channels], float16 numbers in float32, as `Oracle.run` does.

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


def _adds_bias_in_taps(chain: Chain) -> bool:
    return chain.kind is Kind.CONV and chain.accumulation is Accumulation.FP16_TAPS


def _prepare(program: Program, index: int) -> _Numbers:
    chain = program.chains[index]
    scale, bias = program.scale_and_bias(index)
    matrix = None
    if chain.kind in (Kind.CONV, Kind.EXPAND):
        matrix = Matrix.of(*program.weights(index), program.preset, chain.accumulation)
    return _Numbers(
        matrix,
        None if scale is None else scale.astype(np.float32),
        None if bias is None else bias.astype(np.float32),
    )
