"""What the compiler makes of a model's numbers (ARITHMETIC.md, sections 1 and 8), against exact rationals.

The mistakes that only a compiler can make: weights quantised without their step through float16, and batch
normalisation folded into them.
"""

import math
import random
from fractions import Fraction

import numpy as np
import pytest
from exact_numbers import FLOAT16, FLOAT32, Quantiser, rounded
from golden_reader import bits16
from npu.bfp import PRESETS, Rounding
from npu.compiler import compile_model

OUT, CHANNELS = 3, 20
EPSILON = 1e-3


def narrowed(x):
    return rounded(Fraction(x), FLOAT16) if x else 0.0


def weights_near_ties(form, source):
    """Float32 numbers [out, ky, kx, in], many so near a mantissa's tie that float16 takes them for it."""

    def number():
        tie = Fraction(2 * int(source.random() * 2**form.mantissa_bits) + 1, 2**form.mantissa_bits)
        near = 1 + (int(source.random() * 3) - 1) * Fraction(1, 2**14)
        value = rounded(tie * near / 2 ** int(source.random() * 3), FLOAT32)
        return value if source.random() < 0.5 else -value

    return [[[[number() for _ in range(CHANNELS)] for _ in range(2)] for _ in range(2)] for _ in range(OUT)]


@pytest.fixture(scope="module")
def numbers():
    source = random.Random("batch normalisation")
    gamma, beta, mean, variance = (
        [rounded(Fraction(source.random() * 4 - shift), FLOAT32) for _ in range(OUT)]
        for shift in (2, 2, 2, 0)
    )
    return gamma, beta, mean, variance


@pytest.mark.parametrize("rounding", ["nearest-even", "truncate"])
@pytest.mark.parametrize("form", PRESETS.values(), ids=PRESETS)
def test_weights_and_batch_normalisation(net, numbers, form, rounding):
    weights = weights_near_ties(form, random.Random(form.name))
    own_bias = [0.75, -1 / 3, 1e-3]
    n = net(("N", CHANNELS, 3, 3))
    as_onnx = np.array(weights, np.float32).transpose(0, 3, 1, 2)
    y = n.conv("x", OUT, (2, 2), weights=as_onnx, bias=own_bias)
    names = [n.constant(np.array(part, np.float32)) for part in numbers]
    y = n.op("BatchNormalization", y, *names, epsilon=EPSILON)
    program = compile_model(n.model(y), precision=form.name, rounding=rounding).program
    mantissas, exponents = program.weights(0)
    quantiser = Quantiser(form, Rounding[rounding.upper().replace("-", "_")])
    for found_q, found_e, taps in zip(mantissas, exponents, weights, strict=True):
        for ky, kx in np.ndindex(2, 2):
            blocks = quantiser.blocks([narrowed(w) for w in taps[ky][kx]])
            assert found_q[ky, kx].tolist() == [q for block in blocks for q in block.mantissas]
            assert found_e[ky, kx].tolist() == [block.exponent for block in blocks]
    scale, bias = program.scale_and_bias(0)
    gamma, beta, mean, variance = numbers
    epsilon = float(np.float32(EPSILON))  # as ONNX stores it
    wanted_scale = [g / math.sqrt(v + epsilon) for g, v in zip(gamma, variance, strict=True)]
    wanted_bias = [
        (b - m * s) + float(np.float32(c)) * s
        for b, m, s, c in zip(beta, mean, wanted_scale, own_bias, strict=True)
    ]
    assert bits16(scale) == bits16([narrowed(rounded(Fraction(s), FLOAT32)) for s in wanted_scale])
    assert bits16(bias) == bits16([narrowed(rounded(Fraction(b), FLOAT32)) for b in wanted_bias])


@pytest.mark.parametrize("form", PRESETS.values(), ids=PRESETS)
def test_the_mistakes_would_show(form):
    """Without the step through float16, or with a scale folded in, the drawn weights give other mantissas."""
    quantiser = Quantiser(form, Rounding.NEAREST_EVEN)
    taps = [tap for taps in weights_near_ties(form, random.Random(form.name)) for row in taps for tap in row]
    right = [quantiser.blocks([narrowed(w) for w in tap]) for tap in taps]
    assert right != [quantiser.blocks(tap) for tap in taps]
    assert right != [quantiser.blocks([narrowed(w * 1.7) for w in tap]) for tap in taps]
