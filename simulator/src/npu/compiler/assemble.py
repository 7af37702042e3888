"""From layers to a program: quantised weights, float16 vectors, registers, needs."""

import numpy as np
from numpy.typing import NDArray

from npu.bfp import Float32, Preset, Rounding, quantise
from npu.chain import Chain, Kind, Stage, Tensor
from npu.compiler.lowering import INPUT, Layer
from npu.errors import CompileError
from npu.float16 import round16
from npu.program import Program
from npu.registers import allocate, need_of
from npu.sku import Sku, check_fits

__all__ = ["assemble"]


def assemble(
    name: str, input_shape: tuple[int, int, int], layers: list[Layer], preset: Preset, sku: Sku
) -> Program:
    """Build the program of these layers, given in the order of execution. Raises CompileError or SkuError."""
    rounding = Rounding.NEAREST_EVEN
    chains = [_chain(index, layer, preset) for index, layer in enumerate(layers)]
    tensors = [Tensor(*input_shape), *(Tensor(*layer.shape) for layer in layers)]
    names = tuple(layer.name for layer in layers)
    placed_chains, placed_tensors = allocate(chains, tensors, names, sku)
    mantissas: list[NDArray[np.int8]] = [np.zeros(0, np.int8)]
    exponents: list[NDArray[np.int8]] = [np.zeros(0, np.int8)]
    vectors: list[NDArray[np.float16]] = [np.zeros(0, np.float16)]
    for layer, chain in zip(layers, chains, strict=True):
        if layer.weights is not None:
            blocks = quantise(_to_float16(layer.weights, layer, "weights"), preset, rounding)
            mantissas.append(blocks.mantissas.astype(np.int8).ravel())
            exponents.append(blocks.exponents.astype(np.int8).ravel())
        channels = layer.shape[2]
        for flag, numbers, neutral in ((Stage.SCALE, layer.scale, 1.0), (Stage.BIAS, layer.bias, 0.0)):
            if flag in chain.stage:
                given = np.full(channels, neutral) if numbers is None else numbers
                with np.errstate(over="ignore"):
                    vectors.append(
                        _to_float16(given.astype(np.float32), layer, flag.name or "").astype(np.float16)
                    )
    program = Program(
        name=name,
        sku=sku.name,
        preset=preset,
        rounding=rounding,
        tensors=placed_tensors,
        chains=placed_chains,
        chain_names=names,
        mantissas=np.concatenate(mantissas),
        exponents=np.concatenate(exponents),
        vectors=np.concatenate(vectors),
        need=need_of(placed_chains, placed_tensors),
    )
    check_fits(program.need, sku)
    return program


def _chain(index: int, layer: Layer, preset: Preset) -> Chain:
    """Tensor 0 is the input, tensor i + 1 what layer i makes."""
    stage = Stage.NONE
    if layer.scale is not None:
        stage |= Stage.SCALE
    if layer.weights is not None or layer.scale is not None or layer.bias is not None:
        stage |= Stage.BIAS
    if layer.residual is not None:
        stage |= Stage.RESIDUAL
    if layer.relu:
        stage |= Stage.RELU
    window = layer.window
    return Chain(
        kind=layer.kind,
        accumulation=preset.accumulation,
        stage=stage,
        kernel=window.kernel,
        stride=window.stride,
        dilation=window.dilation if layer.kind is Kind.CONV else (1, 1),
        pad=window.pads[:2],
        source=layer.source - INPUT,
        target=index + 1,
        residual=None if layer.residual is None else layer.residual - INPUT,
        residual_stride=layer.residual_stride,
    )


def _to_float16(numbers: Float32, layer: Layer, what: str) -> Float32:
    if np.isnan(numbers).any() or (what == "weights" and np.isinf(numbers).any()):
        raise CompileError(
            f"layer {layer.name!r} has {what.lower()} that are not finite; retrain or repair the model"
        )
    return round16(numbers)
