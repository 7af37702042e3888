"""The oracle against the second implementation in exact rationals, and against known answers."""

import os
import re

import numpy as np
import pytest
from draw import COMBINATIONS
from drawn_layers import RECIPES, drawn
from exact_npu import Machine
from golden_reader import bits16
from npu.bfp import PRESETS, Rounding
from npu.chain import Chain, Kind, Need, Stage, Tensor
from npu.errors import SkuError, TensorError
from npu.oracle import Oracle, run
from npu.program import Program

SEEDS = 372 if os.environ.get("ACCEL_TEST_FULL") else 38  # of each of the 14 recipes: 5,000, or 513 programs
ONE = (1, 1)


def computed(program, x):
    """The oracle's tensors, by index."""
    tensors = {}

    def keep(index, result):
        tensors[program.chains[index].target] = result

    output = Oracle(program).run(np.array(x, np.float32), keep)
    return tensors, output


@pytest.mark.parametrize("recipe", RECIPES)
def test_drawn_layers_equal_exact_rationals(recipe):
    """Every tensor, bit by bit: also the sign of zero."""
    for seed in range(SEEDS // 2 if recipe == "network" else SEEDS):  # six layers each
        program, x = drawn(recipe, seed)
        machine = Machine(program)
        exact = machine.run(x)
        found, output = computed(program, x)
        for target, result in found.items():
            expected = [number for row in exact[target] for vector in row for number in vector]
            assert bits16(result) == bits16(expected), f"{program.name}: {program.chain_names[target - 1]}"
        assert output.shape == program.output_shape
        assert bits16(output) == bits16(machine.queue(x)), program.name


def test_the_seeds_go_through_every_allowed_combination():
    assert len(COMBINATIONS) == 22
    assert len(COMBINATIONS) <= SEEDS
    assert SEEDS * len(RECIPES) - SEEDS // 2 >= 500


def layered(chains, tensors, weights=(), vectors=(), form="msfp-a10", **changes):
    """A program of these chains; weights are whole mantissas (exponent m - 1: the numbers themselves)."""
    preset = PRESETS[form]
    mantissas = np.concatenate([np.zeros(0), *(np.ravel(w) for w in weights)])
    blocks = sum(w.size // w.shape[-1] * -(-w.shape[-1] // preset.box) for w in weights)
    return Program(
        name="by hand",
        sku="bw-cnn-a10",
        preset=preset,
        rounding=Rounding.NEAREST_EVEN,
        tensors=tuple(tensors),
        chains=tuple(chains),
        chain_names=tuple(str(i) for i in range(len(chains))),
        mantissas=mantissas.astype(np.int8),
        exponents=np.full(blocks, preset.mantissa_bits - 1, np.int8),
        vectors=np.array(vectors, np.float16),
        need=Need(0, 0, 0, 0, 0, 0, 0),
        **changes,
    )


def convolution(weights, shape, form="msfp-a10"):
    """One convolution with whole weights [out, ky, kx, in] and no bias."""
    weights = np.asarray(weights)
    out, ky, kx, _ = weights.shape
    target = Tensor(shape[0] - ky + 1, shape[1] - kx + 1, out)
    preset = PRESETS[form]
    chain = Chain(Kind.CONV, preset.accumulation, Stage.BIAS, (ky, kx), ONE, ONE, (0, 0), 0, 1)
    return layered([chain], [Tensor(*shape), target], [weights], np.zeros(out), form)


def loopback(shape):
    """What the vendor's loopback firmware does: in, through the identity, out."""
    chain = Chain(Kind.IDENTITY, PRESETS["msfp-a10"].accumulation, Stage.NONE, ONE, ONE, ONE, (0, 0), 0, 1)
    return layered([chain], [Tensor(*shape), Tensor(*shape)])


@pytest.mark.parametrize("form", PRESETS)
def test_ones_times_ones_is_the_count_exactly(form):
    # The vendor's own acceptance test: a 400 x 200 matrix of ones times ones gives 200 everywhere.
    program = convolution(np.ones((400, 1, 1, 200)), (1, 1, 200), form)
    assert run(program, np.ones((1, 1, 200), np.float32)).tolist() == [[[200.0] * 400]]


def test_zero_weights_give_zero():
    x = np.random.default_rng(1).normal(0, 100, (4, 4, 4)).astype(np.float32)
    result = run(convolution(np.zeros((5, 3, 3, 4)), (4, 4, 4)), x)
    assert bits16(result) == [0] * result.size


def test_loopback_gives_back_what_the_format_holds():
    x = np.array([[[1.0, 0.5, -0.25, 0.0], [31.0, -16.0, 1.0, 2.0]]], np.float32)
    assert run(loopback(x.shape), x).tolist() == x.tolist()
    assert run(convolution(np.eye(4).reshape(4, 1, 1, 4), x.shape), x).tolist() == x.tolist()


def test_float32_sums_depend_on_the_order_of_the_blocks():
    # What float32 loses beside 2**25 cannot come back when that is taken away again.
    weights = np.zeros((1, 1, 3, 4))
    weights[0, 0, :, 0] = [16, 1, -16]
    x = np.zeros((1, 3, 4), np.float32)
    x[0, :, 0] = [2.0**15, 2.0**-6, 2.0**15]
    in_between = run(convolution(weights, x.shape), x)
    at_the_end = run(convolution(weights[:, :, [0, 2, 1]], x.shape), x[:, [0, 2, 1]])
    assert (in_between.item(), at_the_end.item()) == (0.0, 2.0**-6)


REFUSED = {
    "wrong payload": (np.zeros((2, 1, 4), np.float32), "the shape [2, 1, 4], the program takes [1, 1, 4]"),
    "a number too few": (np.zeros((1, 1, 3), np.float32), "the shape [1, 1, 3]"),
    "NaN": (np.full((1, 1, 4), np.nan, np.float32), "not finite"),
    "infinity": (np.full((1, 1, 4), -np.inf, np.float32), "not finite"),
}


@pytest.mark.parametrize(("x", "message"), REFUSED.values(), ids=REFUSED)
def test_the_edge_refuses(x, message):
    with pytest.raises(TensorError, match=re.escape(message)):
        run(loopback((1, 1, 4)), x)


def test_input_beyond_float16_saturates():
    assert run(loopback((1, 1, 1)), np.full((1, 1, 1), 1e9, np.float32)).tolist() == [
        [[63488.0]]
    ]  # 31 * 2**11


def test_a_native_dimension_that_is_only_timed_does_not_run():
    program = layered([], [Tensor(1, 1, 4)], native_dim=400)
    with pytest.raises(SkuError, match=r"native dimension 400: .*npu estimate.*native dimension 128 to run"):
        Oracle(program)


def test_several_outputs_come_flat_in_their_order():
    kind, mode = Kind.IDENTITY, PRESETS["msfp-a10"].accumulation
    chains = [
        Chain(kind, mode, Stage.NONE, ONE, ONE, ONE, (0, 0), 0, 1),
        Chain(Kind.MAX_POOL, mode, Stage.NONE, (1, 2), ONE, ONE, (0, 0), 1, 2),
    ]
    tensors = [Tensor(1, 2, 2), Tensor(1, 2, 2), Tensor(1, 1, 2)]
    x = np.array([[[1, 2], [3, 1]]], np.float32)
    found = {
        outputs: run(layered(chains, tensors, outputs=outputs), x).tolist()
        for outputs in ((), (1,), (1, 2), (2, 1))
    }
    assert found == {
        (): [[[3, 2]]],
        (1,): x.tolist(),
        (1, 2): [[[1, 2, 3, 1, 3, 2]]],
        (2, 1): [[[3, 2, 1, 2, 3, 1]]],
    }
