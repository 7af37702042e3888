"""devices.yaml: what it says about a node, and what it may not say."""

from pathlib import Path

import pytest
from fpga_device_plugin.emulator.config import SKUS, Config, ConfigError, parse
from npu.sku import load_sku, sku_names

CRD = Path(__file__).parents[2] / "crds" / "fpgamodels.accel.dev.yaml"

GOOD = {
    # name: (text, count and settings of node "b")
    "a node of its own": ("nodes: {a: 2, b: 1}", Config(1)),
    "default for the others": ("{default: 3, nodes: {a: 2}}", Config(3)),
    "none": ("nodes: {a: 2}", Config(0)),
    "JSON is YAML": (
        '{"sku":"bw-a10","flashSeconds":3,"nodes":{"b":2}}',
        Config(2, "bw-a10", 3.0),
    ),
    "cards of another kind": ("nodes: {b: {count: 2, sku: bw-a10}}", Config(2, "bw-a10")),
    "the kind that is usual": ("{sku: bw-a10, nodes: {b: {count: 1}}}", Config(1, "bw-a10")),
    "another node's kind": ("{default: 1, nodes: {a: {count: 2, sku: bw-a10}}}", Config(1)),
    "all settings": (
        "{loadScale: 0, waitSeconds: 1, flashSeconds: 9}",
        Config(0, "bw-cnn-a10", 9.0, 0.0, 1.0),
    ),
}
BAD = {
    # name: (text, what the message says)
    "misspelt": ("flashSecond: 1", "unknown flashSecond; there are default, flashSeconds"),
    "not a number": ("nodes: {a: two}", "nodes.a: a number of devices"),
    "true is no number": ("default: true", "default: a number of devices"),
    "too many": ("default: 17", "0 to 16"),
    "negative time": ("flashSeconds: -1", "flashSeconds: a number"),
    "infinite time": ("flashSeconds: .inf", "flashSeconds: a number"),
    "not YAML": ("{", "not YAML"),
    "a list": ("[1]", "keys and values"),
    "empty": ("", "keys and values"),
    "nodes as list": ("nodes: [a]", "nodes: maps node names"),
    "no SKU": ("sku: ''", "sku: a card that computes, bw-cnn-a10 or bw-a10, not ''"),
    "a SKU for timing": ("nodes: {b: {count: 1, sku: bw-s10}}", "nodes.b.sku: a card that computes"),
    "cards without number": ("nodes: {a: {sku: bw-a10}}", "nodes.a.count: a number of devices"),
    "cards with more": ("nodes: {a: {count: 1, speed: 2}}", "nodes.a: unknown speed; there are count, sku"),
}  # fmt: skip


@pytest.mark.parametrize(("text", "expected"), GOOD.values(), ids=GOOD)
def test_good(text: str, expected: Config) -> None:
    assert parse(text, "b") == expected


@pytest.mark.parametrize(("text", "message"), BAD.values(), ids=BAD)
def test_bad(text: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        parse(text, "b")


def test_the_kinds_are_those_that_compute() -> None:
    """The emulator's, the CRD's and the machine room's lists are one."""
    able = {name for name in sku_names() if not load_sku(name).timing_only}
    assert set(SKUS) == able
    assert all(f"'{name}'" in Path(CRD).read_text() for name in able)


def test_ids_are_stable() -> None:
    assert Config(3).ids[:2] == Config(2).ids == ("fpga0", "fpga1")
