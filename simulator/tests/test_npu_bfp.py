"""Block floating point against exact rational arithmetic and against known answers."""

from fractions import Fraction

import numpy as np
import pytest
from npu.bfp import PRESETS, Rounding, preset, quantise
from npu.errors import CompileError


def exact_block(numbers, form, rounding=Rounding.NEAREST_EVEN):
    """The definition in rationals: exponent by comparison, mantissa by Python's half-to-even."""
    largest = max(abs(Fraction(float(x))) for x in numbers)
    exponent = form.exponent_min
    while largest and exponent < form.exponent_max and largest >= Fraction(2) ** (exponent + 1):
        exponent += 1
    scaled = [Fraction(float(x)) * Fraction(2) ** (form.mantissa_bits - 1 - exponent) for x in numbers]
    whole = [round(x) if rounding is Rounding.NEAREST_EVEN else int(x) for x in scaled]
    return [min(max(q, -form.mantissa_max), form.mantissa_max) for q in whole], exponent


def draw(rng, shape, low=-20, high=12):
    """Numbers whose exponents spread over 30 bits, a third of them at or next to a tie of 5-bit mantissas."""
    x = rng.uniform(1, 2, shape) * 2.0 ** rng.integers(low, high, shape) * rng.choice([-1.0, 1.0], shape)
    near = rng.random(shape) < 0.33
    tie = (np.floor(x * 16) + 0.5) / 16 + rng.choice([0, 2.0**-20, -(2.0**-20)], shape)
    return np.where(near, tie, x).astype(np.float32)


@pytest.mark.parametrize("rounding", Rounding)
@pytest.mark.parametrize("form", PRESETS.values(), ids=PRESETS)
def test_quantise_equals_the_definition(form, rounding):
    rng = np.random.default_rng(form.box + form.mantissa_bits)
    for length in (1, 7, form.box, form.box + 3, 3 * form.box):
        x = draw(rng, (4, length))
        found = quantise(x, form, rounding)
        for row in range(4):
            for block, start in enumerate(range(0, length, form.box)):
                mantissas, exponent = exact_block(x[row, start : start + form.box], form, rounding)
                assert found.exponents[row, block] == exponent
                assert found.mantissas[row, start : start + form.box].tolist() == mantissas
        scale = [Fraction(2) ** int(e) for e in np.repeat(found.exponents[0], form.box)[:length]]
        for value, q, unit in zip(found.values(form)[0], found.mantissas[0], scale, strict=True):
            assert Fraction(float(value)) == int(q) * unit / 2 ** (form.mantissa_bits - 1)


KNOWN = {
    # name: (numbers, exponent, mantissas) of msfp-a10
    "zeros": ([0.0, -0.0], -16, [0, 0]),
    "one": ([1.0, -1.0], 0, [16, -16]),
    "just below two clamps": ([1.9999, 1.0], 0, [31, 16]),
    "tie goes to even, down": ([1.0, 2.5 / 16], 0, [16, 2]),
    "tie goes to even, up": ([1.0, 3.5 / 16], 0, [16, 4]),
    "small beside large vanishes": ([1.0, 1 / 64], 0, [16, 0]),
    "denormalised below the smallest exponent": ([2.0**-18], -16, [4]),
    "lost altogether": ([2.0**-22], -16, [0]),
    "largest float16 clamps": ([65504.0], 15, [31]),
    "beyond the largest exponent clamps": ([2.0**20], 15, [31]),
}


@pytest.mark.parametrize(("numbers", "exponent", "mantissas"), KNOWN.values(), ids=KNOWN)
def test_known_blocks(numbers, exponent, mantissas):
    found = quantise(np.array(numbers, np.float32), PRESETS["msfp-a10"])
    assert found.exponents.tolist() == [exponent]
    assert found.mantissas.tolist() == mantissas
    assert not np.signbit(found.mantissas[found.mantissas == 0]).any()  # -0 becomes +0


def test_the_exponent_is_read_from_the_bits_and_not_from_a_logarithm():
    # log2 in float32 rounds the number just below a power of two up to the power itself.
    below = np.nextafter(np.float32(8192.0), np.float32(0))
    assert np.log2(below) == 13
    assert quantise(below[np.newaxis], PRESETS["msfp-a10"]).exponents.tolist() == [12]


@pytest.mark.parametrize("rounding", Rounding)
@pytest.mark.parametrize("form", PRESETS.values(), ids=PRESETS)
def test_quantised_float16_is_float16_and_stays(form, rounding):
    x = draw(np.random.default_rng(3), (64, 2 * form.box), -26, 16)
    x = np.clip(x, -65504, 65504).astype(np.float16).astype(np.float32)
    once = quantise(x, form, rounding).values(form)
    assert once.astype(np.float16).astype(np.float32).tolist() == once.tolist()
    assert quantise(once, form, rounding).values(form).tolist() == once.tolist()


def test_float32_subnormals_with_8_bit_exponents():
    form = PRESETS["msfp16"]
    x = np.array([2.0**-126, 2.0**-131, 0.0], np.float32)
    assert quantise(x, form).values(form).tolist() == x.tolist()


def test_an_unknown_preset_lists_those_that_exist():
    with pytest.raises(CompileError, match="msfp-a10, ms-fp9, ms-fp8, msfp12, msfp16"):
        preset("int8")
