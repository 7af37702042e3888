"""The quantiser of training twins: bits as the oracle's, and a gradient that stops where mantissas clamp."""

from typing import Any

import numpy as np
import pytest
from npu import bfp, float16
from npu.training import (
    fake_quantise,
    fake_quantise_weights,
    in_range,
    straight_through,
    weights_in_range,
)

PRESETS = list(bfp.PRESETS.values())
ROUNDINGS = list(bfp.Rounding)


def hard_numbers(shape: tuple[int, ...], seed: int = 0, bits: int = 30) -> Any:
    """Exponents over `bits` bits, with zeros of both signs, subnormals, ties and powers of two among them."""
    rng = np.random.default_rng(seed)
    x = (
        rng.choice((-1, 1), shape) * rng.uniform(1, 2, shape) * 2.0 ** rng.uniform(-bits / 2, bits / 2, shape)
    ).astype(np.float32)
    kind = rng.integers(0, 12, shape)
    x[kind == 0] = 0.0
    x[kind == 1] = -0.0
    x[kind == 2] = (rng.uniform(-1, 1, shape) * 2.0**-127).astype(np.float32)[kind == 2]
    x[kind == 3] = np.sign(x[kind == 3]) * np.float32(2.0) ** np.floor(np.log2(np.abs(x[kind == 3])))
    return x


@pytest.mark.parametrize("rounding", ROUNDINGS, ids=str)
@pytest.mark.parametrize("form", PRESETS, ids=lambda form: form.name)
def test_values_are_the_oracles_along_any_axis(form: bfp.Preset, rounding: bfp.Rounding) -> None:
    x = hard_numbers((3, 5, 147))
    wanted = bfp.quantise(x, form, rounding).values(form)
    for axis in (-1, 0, 1):
        got = fake_quantise(np.moveaxis(x, -1, axis), form, rounding, axis)
        assert np.moveaxis(got, axis, -1).tobytes() == wanted.tobytes()
    kernel = x.reshape(3, 5, 7, 21) * np.float32(2.0**12)
    stored = bfp.quantise(float16.round16(kernel.transpose(3, 0, 1, 2).copy()), form, rounding).values(form)
    assert fake_quantise_weights(kernel, form, rounding).transpose(3, 0, 1, 2).tobytes() == stored.tobytes()


@pytest.mark.parametrize("rounding", ROUNDINGS, ids=str)
@pytest.mark.parametrize("form", PRESETS, ids=lambda form: form.name)
def test_the_gradient_stops_exactly_where_a_wider_mantissa_would_not_have_clamped(
    form: bfp.Preset, rounding: bfp.Rounding
) -> None:
    x = hard_numbers((40, 147), seed=1)
    exponents = np.repeat(bfp.quantise(x, form, rounding).exponents, form.box, axis=-1)[:, :147]
    exact = np.ldexp(x.astype(np.float64), form.mantissa_bits - 1 - exponents)
    free = np.rint(exact) if rounding is bfp.Rounding.NEAREST_EVEN else np.trunc(exact)
    within = in_range(x, form, rounding)
    np.testing.assert_array_equal(within, np.abs(free) <= form.mantissa_max)
    if form.exponent_bits == 5 or rounding is bfp.Rounding.NEAREST_EVEN:
        assert (
            not np.all(in_range(np.full((1, 4), 65504.0, np.float32) * 2, form, rounding))
            or form.exponent_bits == 8
        )
    upstream = np.random.default_rng(2).normal(size=x.shape).astype(np.float32)
    gradient = straight_through(upstream, within)
    np.testing.assert_array_equal(gradient[within], upstream[within])
    assert not gradient[~within].any()


def test_clamped_numbers_by_hand() -> None:
    form = bfp.preset("ms-fp8")  # mantissas to 3: steps of half the block's power of two
    x = np.array([1.0, 1.74, 1.75, 1.99, 0.3], np.float32)
    assert fake_quantise(x, form).tolist() == [1.0, 1.5, 1.5, 1.5, 0.5]
    assert in_range(x, form).tolist() == [True, True, False, False, True]
    assert in_range(x, form, bfp.Rounding.TRUNCATE).all()
    beyond = np.array([[70000.0, 65504.0, 1.0]], np.float32)  # float16's end, and the 5-bit exponent's
    assert weights_in_range(beyond, bfp.preset("msfp16"), axis=-1).tolist() == [[False, False, True]]
    assert weights_in_range(beyond, bfp.preset("msfp16"), bfp.Rounding.TRUNCATE, -1).tolist() == [
        [False, True, True]
    ]
    assert not in_range(np.array([65536.0], np.float32), form, bfp.Rounding.TRUNCATE).any()


def test_a_few_steps_with_it_reduce_the_loss() -> None:
    """Least squares through quantised weights: descent on the straight-through gradient gets below plain rounding."""
    rng = np.random.default_rng(3)
    form = bfp.preset("ms-fp8")
    # Inputs that hang together, so that the errors of several weights can make up for each other.
    x = (rng.normal(size=(64, 4)) @ rng.normal(size=(4, 16)) + 0.1 * rng.normal(size=(64, 16))).astype(
        np.float32
    )
    truth = rng.normal(size=(16, 4)).astype(np.float32)
    y = x @ truth
    w = truth.copy()

    def loss() -> float:
        return float(np.square(x @ fake_quantise_weights(w, form) - y).mean())

    before = best = loss()
    for _ in range(60):
        gradient = x.T @ (x @ fake_quantise_weights(w, form) - y) / len(x)
        w -= 0.02 * straight_through(gradient, weights_in_range(w, form))
        best = min(best, loss())
    assert best < 0.8 * before
