"""From layers to a program: quantised weights, float16 vectors, registers, weight loads, needs."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from npu.bfp import Accumulation, Preset, Rounding, quantise
from npu.chain import MAX_NUMBERS, Chain, Kind, Stage, Tensor
from npu.compiler.frontblock import front_block
from npu.compiler.layers import INPUT, Layer
from npu.compiler.options import Options
from npu.errors import CompileError, DoesNotFit
from npu.float16 import round16
from npu.program import Program, WeightRange, weight_ranges
from npu.reader import MAX_CHAINS, MAX_NAME
from npu.registers import allocate, need_of
from npu.schedule import plan_loads
from npu.sku import Sku, check_fits

__all__ = ["assemble"]

AT_ONCE = 1 << 20  # weights that are quantised together: their copies stay in the processor's cache
Int8 = NDArray[np.int8]


def assemble(
    name: str,
    input_shape: tuple[int, int, int],
    layers: Sequence[Layer],
    options: Options,
    sku: Sku,
    outputs: Sequence[int] = (),
) -> Program:
    """Build the program of these layers, given in the order of execution; `outputs` are layers, the last if none.

    Raises CompileError or SkuError.
    """
    preset = options.preset.on(sku.native_dim)
    outputs = tuple(outputs) or (len(layers) - 1,)
    tensors = [
        Tensor(*shape, native_dim=sku.native_dim)
        for shape in (input_shape, *(layer.shape for layer in layers))
    ]
    results = tuple(layer + 1 for layer in outputs)  # tensor 0 is the input, tensor i + 1 what layer i makes
    chains = _chains(layers, tensors, options, results)
    names = tuple(_shortened(layer.name) for layer in layers)
    _check_sizes(chains, tensors, names)
    placed_chains, placed_tensors = allocate(chains, tensors, names, sku)
    need = need_of(placed_chains, placed_tensors)
    check_fits(need, sku)  # before weights take memory
    ranges = tuple(weight_ranges(placed_chains, placed_tensors, preset))
    mantissas, exponents = (
        np.zeros(ranges[-1].mantissas.stop, np.int8),
        np.zeros(ranges[-1].exponents.stop, np.int8),
    )
    vectors: list[NDArray[np.float16]] = []
    for layer, chain, part in zip(layers, chains, ranges, strict=True):
        if layer.weights is not None:
            _quantise(layer, part, preset, options.rounding, mantissas, exponents)
        vectors += _vectors(layer, chain)
    return Program(
        name=_shortened(name),
        sku=sku.name,
        preset=preset,
        rounding=options.rounding,
        tensors=placed_tensors,
        chains=placed_chains,
        chain_names=names,
        mantissas=mantissas,
        exponents=exponents,
        vectors=np.concatenate([np.zeros(0, np.float16), *vectors]),
        need=need,
        native_dim=sku.native_dim,
        outputs=results,
        loads=plan_loads(placed_chains, placed_tensors, sku),
    )


def _chains(
    layers: Sequence[Layer], tensors: Sequence[Tensor], options: Options, outputs: tuple[int, ...]
) -> list[Chain]:
    chains = [_chain(index, layer, options.accumulation) for index, layer in enumerate(layers)]
    if options.front_block:
        for index in front_block(chains, tensors, outputs):
            chains[index] = _chain(index, layers[index], Accumulation.FP16_TAPS)
    return chains


def _chain(index: int, layer: Layer, accumulation: Accumulation) -> Chain:
    stage = Stage.NONE
    if layer.scale is not None:
        stage |= Stage.SCALE
    if layer.has_stage and any(part is not None for part in (layer.weights, layer.scale, layer.bias)):
        stage |= Stage.BIAS
    if layer.residual is not None:
        stage |= Stage.RESIDUAL
    if layer.relu:
        stage |= Stage.RELU
    window = layer.window
    return Chain(
        kind=layer.kind,
        accumulation=accumulation,
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


def _check_sizes(chains: Sequence[Chain], tensors: Sequence[Tensor], names: Sequence[str]) -> None:
    if len(chains) > MAX_CHAINS:
        raise DoesNotFit(f"the model becomes {len(chains)} chains; a program has at most {MAX_CHAINS}")
    for name, chain in zip(names, chains, strict=True):
        numbers = chain.workspace(tensors[chain.source], tensors[chain.target])
        if numbers > MAX_NUMBERS:
            raise DoesNotFit(
                f"layer {name!r} works on {numbers} numbers at a time, at most {MAX_NUMBERS} are possible; "
                "use smaller pictures"
            )


def _quantise(
    layer: Layer, part: WeightRange, preset: Preset, rounding: Rounding, mantissas: Int8, exponents: Int8
) -> None:
    """Write a layer's weights into the program's arrays, a few output channels at a time."""
    assert layer.weights is not None
    numbers = mantissas[part.mantissas].reshape(part.weight_shape)
    scales = exponents[part.exponents].reshape(part.exponent_shape)
    step = max(1, AT_ONCE // max(1, layer.weights[0].size))
    for start in range(0, len(layer.weights), step):
        rows = slice(start, start + step)
        given = np.ascontiguousarray(layer.weights[rows])
        _check_finite(given, layer, "weights")
        blocks = quantise(round16(given), preset, rounding)
        numbers[rows], scales[rows] = blocks.mantissas, blocks.exponents


def _vectors(layer: Layer, chain: Chain) -> list[NDArray[np.float16]]:
    """Scale and bias, as far as the chain has them."""
    made = []
    for flag, numbers, neutral in ((Stage.SCALE, layer.scale, 1.0), (Stage.BIAS, layer.bias, 0.0)):
        if flag in chain.stage:
            given = np.full(layer.shape[2], neutral) if numbers is None else numbers
            _check_finite(given, layer, (flag.name or "").lower())
            with np.errstate(over="ignore"):  # saturates
                made.append(round16(given.astype(np.float32)).astype(np.float16))
    return made


def _check_finite(numbers: NDArray[np.floating], layer: Layer, what: str) -> None:
    if not np.isfinite(numbers).all():
        raise CompileError(
            f"layer {layer.name!r} has numbers in its {what} that are not finite; retrain or repair the model"
        )


def _shortened(name: str) -> str:
    """The name as a program may hold it."""
    return name.encode()[:MAX_NAME].decode(errors="ignore")
