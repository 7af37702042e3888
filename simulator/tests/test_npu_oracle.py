"""The oracle against a second implementation in exact rationals, and the mistakes that the drawn layers must
reveal.

The second implementation shares no code with the first: it walks the program number by number with Python's
integers and fractions.
"""

import dataclasses
from fractions import Fraction

import numpy as np
import pytest
from npu.bfp import PRESETS, Accumulation, Rounding, quantise
from npu.chain import Chain, Kind, Stage, Tensor
from npu.errors import TensorError
from npu.oracle import run
from npu.program import Program
from npu.registers import allocate, need_of
from npu.sku import load_sku

EXACT = "exact"
MUTANTS = {
    "taps in the order kx, ky": "tap order",
    "accumulator straight to float16": "skip float32",
    "activations not quantised": "skip quantisation",
    "block sums added exactly": "exact sums",
    "batch normalisation folded into one rounding": "folded",
    "pool without quantisation": "plain pool",
}


def nearest(x: Fraction, digits: int, least: int) -> Fraction:
    """Round to `digits` binary digits, ties to even, with the smallest normal exponent `least`."""
    if x == 0:
        return x
    exponent = max(least, x.numerator.bit_length() - x.denominator.bit_length() - 1)
    while abs(x) >= Fraction(2) ** (exponent + 1):
        exponent += 1
    unit = Fraction(2) ** (exponent - digits + 1)
    return round(x / unit) * unit


def f16(x: Fraction) -> Fraction:
    return min(max(nearest(x, 11, -14), Fraction(-65504)), Fraction(65504))


def accumulated(sums: list[Fraction], mode: Accumulation, mutant: str) -> Fraction:
    digits, least = (24, -126) if mode is Accumulation.FP32_SEQ else (53, -1022)
    total = Fraction(0)
    for term in sums:
        total = total + term if mutant == "exact sums" else nearest(total + term, digits, least)
    return f16(total if mutant == "skip float32" else nearest(total, 24, -126))


def blocks_of(numbers, form, mutant=EXACT):
    """One list of (integer or Fraction mantissas, unit) per block."""
    result = []
    for start in range(0, len(numbers), form.box):
        block = [Fraction(float(x)) for x in numbers[start : start + form.box]]
        largest, exponent = max(map(abs, block)), form.exponent_min
        if largest:
            found = largest.numerator.bit_length() - largest.denominator.bit_length() - 1
            exponent = found + 1 if largest >= Fraction(2) ** (found + 1) else found
            exponent = min(max(exponent, form.exponent_min), form.exponent_max)
        unit = Fraction(2) ** (exponent - form.mantissa_bits + 1)
        if mutant == "skip quantisation":
            result.append((block, Fraction(1)))
        else:
            limit = form.mantissa_max
            result.append(([min(max(round(x / unit), -limit), limit) for x in block], unit))
    return result


def window(chain, x, row, column):
    """The numbers under each tap, in the order ky, kx; zeros outside of the picture."""
    height, width, channels = x.shape
    kernel, stride, dilation, pad = chain.kernel, chain.stride, chain.dilation, chain.pad
    if chain.kind is Kind.EXPAND:
        pad = tuple(p + (7 - k) // 2 for p, k in zip(pad, kernel, strict=True))
        kernel = (7, 7)
    taps = []
    for ky in range(kernel[0]):
        for kx in range(kernel[1]):
            y, z = row * stride[0] - pad[0] + ky * dilation[0], column * stride[1] - pad[1] + kx * dilation[1]
            inside = 0 <= y < height and 0 <= z < width
            taps.append([float(v) for v in x[y, z]] if inside else [0.0] * channels)
    if chain.kind is Kind.EXPAND:
        return [[number for tap in taps for number in tap]]
    return taps


def pooled(chain, x, target, form, mutant):
    def quantised(vector):
        if mutant == "plain pool":
            return [Fraction(float(v)) for v in vector]
        return [q * unit for mantissas, unit in blocks_of(vector, form) for q in mantissas]

    def line(vectors):
        largest = quantised(vectors[0])
        for other in vectors[1:]:
            largest = [max(a, Fraction(float(b))) for a, b in zip(largest, other, strict=True)]
        return largest

    height, width, channels = x.shape
    (kh, kw), (sh, sw), (top, left) = chain.kernel, chain.stride, chain.pad

    def at(row, column):
        inside = 0 <= row < height and 0 <= column < width
        return [float(v) for v in x[row, column]] if inside else [0.0] * channels

    out = np.zeros(target.shape, np.float32)
    for row in range(target.height):
        for column in range(target.width):
            rows = [
                line([at(row * sh - top + i, column * sw - left + j) for j in range(kw)]) for i in range(kh)
            ]
            out[row, column] = [float(v) for v in line(rows)]
    return out


def second_implementation(program, x, mutant=EXACT):
    """Walk the program; values are float32 arrays of float16 numbers, as the oracle gives them."""
    edge = [[[float(f16(Fraction(float(v)))) for v in position] for position in row] for row in x]
    values = {0: np.array(edge, np.float32)}
    for index, chain in enumerate(program.chains):
        target = program.tensors[chain.target]
        source = values[chain.source]
        if chain.kind is Kind.MAX_POOL:
            values[chain.target] = pooled(chain, source, target, program.preset, mutant)
            continue
        out = np.zeros(target.shape, np.float32)
        for row in range(target.height):
            for column in range(target.width):
                if chain.kind is Kind.IDENTITY:
                    parts = blocks_of(source[row, column], program.preset)
                    sums = [q * unit for mantissas, unit in parts for q in mantissas]
                else:
                    sums = products(program, index, window(chain, source, row, column), mutant)
                staged(program, index, sums, values, (row, column), out, mutant)
        values[chain.target] = out
    return values[program.chains[-1].target]


def products(program, index, seen, mutant):
    """One position of a convolution: a number per output channel, as the matrix unit hands it on."""
    form, chain = program.preset, program.chains[index]
    taps = [blocks_of(tap, form, mutant) for tap in seen]
    order = range(len(taps))
    if mutant == "tap order" and chain.kind is Kind.CONV:
        kh, kw = chain.kernel
        order = [ky * kw + kx for kx in range(kw) for ky in range(kh)]
    mantissas, exponents = program.weights(index)
    result = []
    for o in range(len(mantissas)):
        qw = mantissas[o].reshape(len(taps), -1).tolist()
        ew = exponents[o].reshape(len(taps), -1).tolist()
        sums = []
        for tap, b in ((t, b) for t in order for b in range(len(taps[t]))):
            qs, unit = taps[tap][b]
            weights = qw[tap][b * form.box : b * form.box + len(qs)]
            dot = sum(q * w for q, w in zip(qs, weights, strict=True))
            sums.append(dot * unit * Fraction(2) ** (ew[tap][b] - form.mantissa_bits + 1))
        result.append(accumulated(sums, chain.accumulation, mutant))
    return result


def staged(program, index, sums, values, at, out, mutant):
    """The float16 stage of one position, written to `out`."""
    chain = program.chains[index]
    scale, bias = program.scale_and_bias(index)
    for o, value in enumerate(sums):
        if scale is not None:
            value = value * Fraction(float(scale[o]))  # noqa: PLW2901
            value = value if mutant == "folded" else f16(value)  # noqa: PLW2901
        if bias is not None:
            value = f16(value + Fraction(float(bias[o])))  # noqa: PLW2901
        if chain.residual is not None:
            down, right = chain.residual_stride
            other = values[chain.residual][at[0] * down, at[1] * right, o]
            value = f16(value + Fraction(float(other)))  # noqa: PLW2901
        if Stage.RELU in chain.stage:
            value = max(value, Fraction(0))  # noqa: PLW2901
        out[at[0], at[1], o] = float(value)


def numbers(rng, shape, spread=22):
    """float16 numbers with exponents spread over `spread` bits, many of them at ties of 5-bit mantissas."""
    x = rng.uniform(1, 2, shape) * 2.0 ** (rng.integers(0, spread, shape) - spread / 2)
    x = np.where(rng.random(shape) < 0.3, (np.floor(x * 16) + 0.5) / 16, x) * rng.choice([-1, 1], shape)
    return x.astype(np.float16).astype(np.float32)


def build(form, chains, tensors, rng):
    """A program of these chains with drawn weights."""
    placed, kept = allocate(chains, tensors, [str(i) for i in range(len(chains))], load_sku())
    mantissas, exponents, vectors = [], [], []
    for chain in placed:
        shape = chain.weight_shape(kept[chain.source], kept[chain.target])
        if shape[0]:
            # Magnitudes far apart: ordinary layers do not tell the accumulators from each other.
            blocks = quantise(numbers(rng, shape), form)
            mantissas.append(blocks.mantissas.astype(np.int8).ravel())
            exponents.append(blocks.exponents.astype(np.int8).ravel())
        count = (Stage.SCALE in chain.stage) + (Stage.BIAS in chain.stage)
        vectors.append(numbers(rng, count * kept[chain.target].channels, 6).astype(np.float16))
    empty = np.zeros(0, np.int8)
    return Program(
        name="drawn",
        sku="bw-cnn-a10",
        preset=form,
        rounding=Rounding.NEAREST_EVEN,
        tensors=kept,
        chains=placed,
        chain_names=tuple(str(i) for i in range(len(chains))),
        mantissas=np.concatenate([empty, *mantissas]),
        exponents=np.concatenate([empty, *exponents]),
        vectors=np.concatenate([empty.astype(np.float16), *vectors]),
        need=need_of(placed, kept),
    )


def out_size(length, kernel, stride, dilation, pad):
    return (length + 2 * pad - (kernel - 1) * dilation - 1) // stride + 1


def drawn_layer(seed):
    """A random program: a convolution of any kind, then perhaps a pool, then an identity pass with a
    residual.
    """
    rng = np.random.default_rng(seed)
    form = list(PRESETS.values())[seed % len(PRESETS)]
    expand = seed % 3 == 0
    channels = int(rng.integers(1, 4)) if expand else int(rng.choice([4, 17, 130, 260]))
    k = int(rng.choice([1, 3, 5, 7] if expand else [1, 2, 3]))
    stride, dilation = int(rng.integers(1, 3)), 1 if expand else int(rng.integers(1, 3))
    pad = int(rng.integers(0, (k - 1) * dilation + 1)) // 2
    size = int(rng.integers((k - 1) * dilation + 2, (k - 1) * dilation + 4))
    side = out_size(size, k, stride, dilation, pad)
    out = int(rng.integers(1, 4))
    affine = Stage.SCALE | Stage.BIAS
    stages = [Stage.BIAS, Stage.BIAS | Stage.RELU, affine, affine | Stage.RELU]
    tensors = [Tensor(size, size, channels), Tensor(side, side, out)]
    kind, stage = (Kind.EXPAND if expand else Kind.CONV), stages[int(rng.integers(4))]
    shape = ((k, k), (stride, stride), (dilation, dilation), (pad, pad))
    chains = [Chain(kind, form.accumulation, stage, *shape, 0, 1)]
    if side >= 2 and rng.random() < 0.6:
        step, margin = int(rng.integers(1, 3)), int(rng.integers(0, 2))
        kernel = int(rng.integers(2, min(3, side) + 1))
        small = out_size(side, kernel, step, 1, margin)
        tensors.append(Tensor(small, small, out))
        shape = ((kernel, kernel), (step, step), (1, 1), (margin, margin))
        chains.append(Chain(Kind.MAX_POOL, form.accumulation, Stage.NONE, *shape, 1, 2))
    last = len(tensors) - 1
    if rng.random() < 0.5:
        tensors.append(dataclasses.replace(tensors[last]))
        stage = affine | Stage.RESIDUAL
        shape = ((1, 1), (1, 1), (1, 1), (0, 0))
        chains.append(Chain(Kind.IDENTITY, form.accumulation, stage, *shape, last, last + 1, last))
    return build(form, chains, tensors, rng), numbers(rng, (size, size, channels))


def one_window(form, taps, out, rng):
    """A convolution with as many taps as the input has positions: one output position."""
    chain = Chain(Kind.CONV, form.accumulation, Stage.BIAS, taps, (1, 1), (1, 1), (0, 0), 0, 1)
    return build(form, [chain], [Tensor(*taps, 4), Tensor(1, 1, out)], rng)


def drawn_cancelling(seed):
    """Taps that cancel in pairs with a span of some 40 bits: every addition loses something else."""
    rng = np.random.default_rng(seed)
    form = list(PRESETS.values())[seed % len(PRESETS)]
    program = one_window(form, (3, 3), 3, rng)
    x = numbers(rng, (3, 3, 4), 6) * 2.0 ** rng.integers(-11, 11, (3, 3, 1)).astype(np.float32)
    weights = numbers(rng, (3, 9, 4), 6) * 2.0 ** rng.integers(-11, 11, (1, 9, 1)).astype(np.float32)
    order = rng.permutation(9)
    for one, other in zip(order[0:8:2], order[1:8:2], strict=True):
        x.reshape(9, 4)[other] = x.reshape(9, 4)[one]
        weights[:, other] = -weights[:, one]
    x.reshape(9, 4)[order[8]] = 0
    blocks = quantise(weights.astype(np.float32), form)
    return dataclasses.replace(
        program,
        mantissas=blocks.mantissas.astype(np.int8).ravel(),
        exponents=blocks.exponents.astype(np.int8).ravel(),
        vectors=np.zeros(3, np.float16),
    ), x.astype(np.float32)


def drawn_tie(seed):
    """Three taps: a number, half a unit of its last float16 digit, and a trace of either sign."""
    rng = np.random.default_rng(seed)
    form = list(PRESETS.values())[seed % len(PRESETS)]
    program = one_window(form, (1, 3), 1, rng)
    x = np.zeros((1, 3, 4), np.float32)
    exponent = int(rng.integers(6, 12))
    trace = rng.choice([-1, 1]) * 2.0**-12
    x[0, :, 0] = [rng.integers(4, 8) * 2.0 ** (exponent - 2), 2.0 ** (exponent - 11), trace]
    weights = np.array([1, 1, 2.0**-12], np.float32).reshape(1, 1, 3, 1).repeat(4, 3)
    blocks = quantise(weights, form)
    return dataclasses.replace(
        program,
        mantissas=blocks.mantissas.astype(np.int8).ravel(),
        exponents=blocks.exponents.astype(np.int8).ravel(),
        vectors=np.zeros(1, np.float16),
    ), x


DRAWN = [
    *((drawn_layer, seed) for seed in range(36)),
    *((drawn_cancelling, seed) for seed in range(30)),
    *((drawn_tie, seed) for seed in range(30)),
]


@pytest.mark.parametrize(("draw", "seed"), DRAWN, ids=[f"{draw.__name__}-{seed}" for draw, seed in DRAWN])
def test_drawn_layers_equal_exact_rationals(draw, seed):
    program, x = draw(seed)
    assert run(program, x).tolist() == second_implementation(program, x).tolist()


@pytest.mark.parametrize("mutant", MUTANTS.values(), ids=MUTANTS)
def test_each_mistake_shows(mutant):
    """If a mutant agreed on all drawn layers, the test above could not catch it in the oracle."""
    for draw, seed in reversed(DRAWN):
        program, x = draw(seed)
        if run(program, x).tolist() != second_implementation(program, x, mutant).tolist():
            return
    pytest.fail(f"no drawn layer tells the mutant {mutant!r} from the oracle")


def convolution(weights, shape, form="msfp-a10", stage=Stage.BIAS, **kwargs):
    """A program of one convolution with these weights [out, ky, kx, in] and no bias."""
    preset = PRESETS[form]
    out, ky, kx, _ = weights.shape
    target = Tensor(shape[0] - ky + 1, shape[1] - kx + 1, out)
    chain = Chain(Kind.CONV, preset.accumulation, stage, (ky, kx), (1, 1), (1, 1), (0, 0), 0, 1)
    program = build(preset, [chain], [Tensor(*shape), target], np.random.default_rng(0))
    blocks = quantise(weights.astype(np.float32), preset)
    return dataclasses.replace(
        program,
        mantissas=blocks.mantissas.astype(np.int8).ravel(),
        exponents=blocks.exponents.astype(np.int8).ravel(),
        vectors=np.zeros(out, np.float16),
        **kwargs,
    )


def test_ones_times_ones_is_the_count_exactly():
    # The vendor's own acceptance test: a 400 x 200 matrix of ones times ones gives 200 everywhere.
    program = convolution(np.ones((400, 1, 1, 200)), (1, 1, 200))
    assert run(program, np.ones((1, 1, 200), np.float32)).tolist() == [[[200.0] * 400]]


def test_zero_weights_give_zero():
    program = convolution(np.zeros((5, 3, 3, 4)), (4, 4, 4))
    result = run(program, numbers(np.random.default_rng(1), (4, 4, 4)))
    assert not result.any()
    assert not np.signbit(result).any()


def test_an_identity_matrix_gives_back_quantised_numbers():
    x = np.array([[[1.0, 0.5, -0.25, 0.0]]], np.float32)
    assert run(convolution(np.eye(4).reshape(4, 1, 1, 4), (1, 1, 4)), x).tolist() == x.tolist()


def test_float32_sums_depend_on_the_order_of_the_blocks():
    # What float32 loses beside 2**13 * 2**13 cannot come back when that is taken away again.
    weights = np.zeros((1, 1, 3, 4))
    weights[0, 0, :, 0] = [2.0**13, 1, -(2.0**13)]
    x = np.zeros((1, 3, 4), np.float32)
    x[0, :, 0] = [2.0**13, 1, 2.0**13]
    in_between = run(convolution(weights, x.shape), x)
    at_the_end = run(convolution(weights[:, :, [0, 2, 1]], x.shape), x[:, [0, 2, 1]])
    assert (in_between.item(), at_the_end.item()) == (0.0, 1.0)


REFUSED = {
    "wrong shape": (np.zeros((2, 1, 4), np.float32), r"\[2, 1, 4\].*\[1, 1, 4\]"),
    "NaN": (np.full((1, 1, 4), np.nan, np.float32), "not finite"),
    "infinity": (np.full((1, 1, 4), -np.inf, np.float32), "not finite"),
}


@pytest.mark.parametrize(("x", "message"), REFUSED.values(), ids=REFUSED)
def test_the_edge_refuses(x, message):
    with pytest.raises(TensorError, match=message):
        run(convolution(np.eye(4).reshape(4, 1, 1, 4), (1, 1, 4)), x)


def test_input_beyond_float16_saturates():
    program = convolution(np.eye(1).reshape(1, 1, 1, 1), (1, 1, 1))
    assert run(program, np.full((1, 1, 1), 1e9, np.float32)).tolist() == [[[63488.0]]]  # 31 * 2**11
