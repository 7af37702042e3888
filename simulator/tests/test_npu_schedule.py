"""The plan of weight loads: which tiles lie in which buffer while what computes."""

import dataclasses

import pytest
from npu.chain import Kind, Load
from npu.schedule import load_contradiction, plan_loads
from npu.sku import load_sku
from npu_layers import BIAS, Layers

CASES = {
    # input channels, then (output channels, kernel) of convolutions; groups -> (chain, first, tiles, buffer)
    "all stay resident": (128, [(128, 3), (128, 3)], (0, 1), []),
    "exactly the registers": (1024, [(1024, 1), (1024, 1)], (0, 1), []),
    "whole output tiles": (
        512,
        [(512, 3)],
        (0,),
        [(0, 0, 36, 0), (0, 36, 36, 1), (0, 72, 36, 0), (0, 108, 36, 1)],
    ),
    "several output tiles at once": (256, [(2304, 3)], (0,), [(0, 54 * i, 54, i % 2) for i in range(6)]),
    "parts of an output tile": (
        1024,
        [(256, 3)],
        (0,),
        [(0, 0, 64, 0), (0, 64, 8, 1), (0, 72, 64, 0), (0, 136, 8, 1)],
    ),
    "one chain a fill": (
        128,
        [(1024, 1), (1024, 1), (1024, 1)],
        (0, 1, 2),
        [(0, 0, 8, 0), (1, 0, 64, 1), (2, 0, 64, 0)],
    ),
    "a small group in one buffer": (
        128,
        [(128, 3), (1024, 1), (2048, 1)],
        (0, 0, 1),
        [(0, 0, 9, 0), (1, 0, 8, 0), (2, 0, 64, 1), (2, 64, 64, 0)],
    ),
    "a large group in both buffers": (
        128,
        [(256, 1), (256, 3), (256, 3), (4096, 1)],
        (0, 1, 1, 2),
        [(0, 0, 2, 0), (1, 0, 36, 1), (2, 0, 28, 1), (2, 28, 8, 0), (3, 0, 64, 1)],
    ),
}


def layers_of(channels, convolutions, groups):
    n = Layers(4, channels)
    for source, (wanted, kernel) in enumerate(convolutions):
        n.add(Kind.CONV, source, 4, wanted, kernel, 1, kernel // 2, BIAS)
    chains = [dataclasses.replace(chain, group=group) for chain, group in zip(n.chains, groups, strict=True)]
    return chains, n.tensors


@pytest.mark.parametrize(("channels", "convolutions", "groups", "expected"), CASES.values(), ids=CASES)
def test_plan(channels, convolutions, groups, expected):
    chains, tensors = layers_of(channels, convolutions, groups)
    plan = plan_loads(chains, tensors, load_sku())
    assert plan == tuple(Load(*load) for load in expected)
    assert load_contradiction(chains, tensors, plan) is None


BROKEN = {
    "nothing loaded": (lambda plan: (), "loaded nowhere"),
    "one missing": (lambda plan: plan[:1] + plan[2:], "load 1 is not of chain 0 from tile 36"),
    "cut off": (lambda plan: plan[:-1], "load 4 is not of chain 1 from tile 0"),
    "one too many": (lambda plan: (*plan, plan[-1]), "load 5 is of no chain"),
    "two chains in one buffer": (
        lambda plan: (*plan[:4], dataclasses.replace(plan[4], buffer=1), *plan[5:]),
        "load 4 goes into the buffer that chain 0 computes from",
    ),
    "a third buffer": (lambda plan: (dataclasses.replace(plan[0], buffer=2), *plan[1:]), "neither 0 nor 1"),
    "more than a buffer": (lambda plan: (dataclasses.replace(plan[0], tiles=72), *plan[2:]), "72 tiles"),
    "no tile": (lambda plan: (dataclasses.replace(plan[0], tiles=0), *plan), "0 tiles"),
    "the same buffer twice": (
        lambda plan: (plan[0], dataclasses.replace(plan[1], buffer=0), *plan[2:]),
        "load 1 goes into the buffer that chain 0 computes from",
    ),
}


@pytest.mark.parametrize(("damage", "message"), BROKEN.values(), ids=BROKEN)
def test_contradiction(damage, message):
    chains, tensors = layers_of(512, [(512, 3), (128, 3)], (0, 1))
    plan = plan_loads(chains, tensors, load_sku())
    found = load_contradiction(chains, tensors, damage(plan))
    assert found is not None
    assert message in found


def test_a_groups_weights_are_all_there():
    chains, tensors = layers_of(256, [(256, 3), (256, 3), (256, 3)], (0, 0, 0))
    plan = [Load(0, 0, 36, 0), Load(1, 0, 36, 1), Load(2, 0, 36, 0)]
    assert "as a whole" in (load_contradiction(chains, tensors, plan) or "")


def test_a_larger_machine_loads_nothing_it_need_not():
    chains, tensors = layers_of(512, [(512, 3)], (0,))
    assert len(plan_loads(chains, tensors, load_sku("bw-a10"))) == 4  # still the firmware's two buffers
