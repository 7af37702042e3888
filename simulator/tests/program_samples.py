"""Small programs with weights, which together say everything that the format can say."""

from dataclasses import replace

import numpy as np
from npu.bfp import PRESETS, Accumulation, Preset, Rounding, quantise
from npu.chain import Kind, Stage
from npu.program import Program
from npu_layers import ADD, AFFINE, BIAS, RELU, Layers


def with_weights(program: Program, preset: Preset, rounding=Rounding.NEAREST_EVEN, seed=0) -> Program:
    """The same chains with drawn numbers, canonical as the compiler's."""
    rng = np.random.default_rng(seed)
    program = replace(program, preset=preset, rounding=rounding)
    mantissas, exponents, vectors = ([np.zeros(0, kind)] for kind in (np.int8, np.int8, np.float16))
    for chain, part in zip(program.chains, program.ranges, strict=True):
        source, target = program.tensors[chain.source], program.tensors[chain.target]
        shape = chain.weight_shape(source, target)
        if any(shape):
            fan = shape[1] * shape[2] * shape[3]
            blocks = quantise(
                rng.normal(0, fan**-0.5, shape).astype(np.float16).astype(np.float32), preset, rounding
            )
            mantissas.append(blocks.mantissas.astype(np.int8).ravel())
            exponents.append(blocks.exponents.astype(np.int8).ravel())
        if Stage.SCALE in chain.stage:
            share = 1 / (chain.kernel[0] * chain.kernel[1])
            low, high = (share, share) if chain.kind is Kind.AVERAGE_POOL else (0.5, 1.5)
            vectors.append(rng.uniform(low, high, target.channels).astype(np.float16))
        if Stage.BIAS in chain.stage:
            vectors.append(rng.normal(0, 0.3, target.channels).astype(np.float16))
        assert sum(map(len, vectors)) == part.vectors.stop
    return replace(
        program,
        mantissas=np.concatenate(mantissas),
        exponents=np.concatenate(exponents),
        vectors=np.concatenate(vectors),
    )


def every_kind(plain: Accumulation, taps: Accumulation) -> tuple[Layers, tuple[int, ...]]:
    """Each kind of chain, a residual with a stride, dilation, two concatenations in a row, two outputs."""
    n = Layers(12)
    x = n.add(Kind.EXPAND, 0, 12, 6, 3, 1, 1, BIAS | RELU, accumulation=plain)
    x = n.add(Kind.CONV, x, 12, 8, 3, 1, 1, BIAS | RELU, accumulation=taps)
    short = n.add(Kind.MAX_POOL, x, 6, 8, 2, 2, 0, Stage.NONE, accumulation=plain)
    y = n.add(Kind.CONV, short, 6, 5, 3, 1, 2, AFFINE | RELU, dilation=2, accumulation=plain)
    y = n.add(
        Kind.CONV, y, 3, 8, 3, 2, 1, AFFINE | ADD | RELU, accumulation=plain, residual=short,
        residual_stride=(2, 2),
    )  # fmt: skip
    new = n.add(Kind.CONV, y, 3, 130, stage=BIAS, accumulation=plain)
    z = concat(n, y, new, plain)
    z = concat(n, z, y, plain)
    z = n.add(Kind.IDENTITY, z, 3, 146, accumulation=plain)
    pool = n.add(Kind.AVERAGE_POOL, z, 2, 146, 2, 1, 0, Stage.SCALE, accumulation=plain)
    return n, (pool, y)


def concat(n: Layers, old: int, new: int, plain: Accumulation) -> int:
    channels = n.tensors[old].channels + n.tensors[new].channels
    side = n.tensors[old].height
    return n.add(Kind.CONCAT, old, side, channels, stage=ADD, accumulation=plain, residual=new)


def loaded() -> Layers:
    """More weight tiles than the matrix registers hold, and hardly any weights."""
    n = Layers(12, 2)
    x = n.add(Kind.CONV, 0, 3, 2, 10, stage=BIAS)
    x = n.add(Kind.CONV, x, 3, 2, 3, 1, 1, AFFINE | RELU)
    n.add(Kind.CONV, x, 2, 2, 8, 1, 3, BIAS)
    return n


def streamed() -> Layers:
    """A tensor that does not fit the vector registers: 104 x 104 = 10,816 of them."""
    n = Layers(104, 1)
    x = n.add(Kind.EXPAND, 0, 104, 2, 3, 1, 1)
    x = n.add(Kind.CONV, x, 35, 3, 3, 3, 1)
    n.add(Kind.MAX_POOL, x, 5, 3, 7, 7, 0, Stage.NONE)
    return n


def samples() -> dict[str, Program]:
    """By name; the last two can only be timed or are of another arithmetic than the default."""
    a10 = PRESETS["msfp-a10"]
    narrow, narrow_outputs = every_kind(Accumulation.FP32_SEQ, Accumulation.FP16_TAPS)
    wide, wide_outputs = every_kind(Accumulation.WIDE, Accumulation.WIDE)
    s10 = Layers(8, 3, native_dim=400)
    s10.add(Kind.CONV, s10.add(Kind.EXPAND, 0, 8, 410, 3, 1, 1, AFFINE | RELU), 6, 5, 3, stage=BIAS)
    return {
        "every kind": with_weights(narrow.program(narrow_outputs), a10),
        "loads": with_weights(loaded().program(), a10),
        "streamed": with_weights(streamed().program(), PRESETS["ms-fp8"], Rounding.TRUNCATE),
        "wide": with_weights(wide.program(wide_outputs), PRESETS["msfp12"]),
        "timed only": with_weights(s10.program(sku="bw-s10"), a10.on(400)),
    }
