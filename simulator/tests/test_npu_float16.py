"""The float16 stage: one rounding per operation, saturation, the sign of zero."""

from fractions import Fraction

import numpy as np
import pytest
from npu import float16


def all_float16():
    every = np.arange(1 << 16, dtype=np.uint16).view(np.float16).astype(np.float32)
    return every[np.isfinite(every)]


def exact(x: Fraction) -> float:
    """Nearest float16, ties to even, saturating."""
    if x == 0:
        return 0.0
    exponent = -14
    while abs(x) >= Fraction(2) ** (exponent + 1) and exponent < 15:
        exponent += 1
    unit = Fraction(2) ** (exponent - 10)
    return float(min(max(round(x / unit) * unit, Fraction(-65504)), Fraction(65504)))


def test_operations_round_the_true_result_once():
    rng = np.random.default_rng(7)
    every = all_float16()
    x, y = rng.choice(every, 3000), rng.choice(every, 3000)
    # Sums far apart are where adding in float32 would show a second rounding, if it did one.
    y[:1000] = x[:1000] * np.float32(2.0**-11) * rng.choice([1, 1 + 2**-10, 1 - 2**-11], 1000)
    y = float16.round16(y)
    for a, b, total, product in zip(x, y, float16.add(x, y), float16.multiply(x, y), strict=True):
        assert total == exact(Fraction(float(a)) + Fraction(float(b))), (a, b)
        assert product == exact(Fraction(float(a)) * Fraction(float(b))), (a, b)


def test_rounding_keeps_what_is_float16_already():
    every = all_float16()
    assert float16.round16(every).tobytes() == every.tobytes()


CASES = {
    "half way to the largest": (65519.9, 65504.0),
    "overflow": (1e30, 65504.0),
    "negative overflow": (-1e30, -65504.0),
    "infinity": (-np.inf, -65504.0),
    "smallest subnormal": (2.0**-24, 2.0**-24),
    "tie below it goes to zero": (2.0**-25, 0.0),
    "just above that tie": (2.0**-25 * 1.001, 2.0**-24),
}


@pytest.mark.parametrize(("given", "expected"), CASES.values(), ids=CASES)
def test_round16(given, expected):
    assert float16.round16(np.array([given], np.float32)).tolist() == [expected]


def test_relu_gives_plus_zero():
    result = float16.relu(np.array([-0.0, 0.0, -3.0, 2.0], np.float32))
    assert result.tolist() == [0, 0, 0, 2]
    assert not np.signbit(result).any()


def test_maximum_keeps_the_left_operand_on_ties():
    left, right = np.array([-0.0, 0.0, 1.0], np.float32), np.array([0.0, -0.0, 2.0], np.float32)
    assert np.signbit(float16.maximum(left, right)).tolist() == [True, False, False]
