"""devices.yaml: what it says about a node, and what it may not say."""

import pytest
from fpga_device_plugin.emulator.config import Config, ConfigError, parse

GOOD = {
    # name: (text, count and settings of node "b")
    "a node of its own": ("nodes: {a: 2, b: 1}", Config(1)),
    "default for the others": ("{default: 3, nodes: {a: 2}}", Config(3)),
    "none": ("nodes: {a: 2}", Config(0)),
    "JSON is YAML": (
        '{"sku":"bw-a10","flashSeconds":3,"nodes":{"b":2}}',
        Config(2, "bw-a10", 3.0),
    ),
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
    "no SKU": ("sku: ''", "sku: the name"),
}  # fmt: skip


@pytest.mark.parametrize(("text", "expected"), GOOD.values(), ids=GOOD)
def test_good(text: str, expected: Config) -> None:
    assert parse(text, "b") == expected


@pytest.mark.parametrize(("text", "message"), BAD.values(), ids=BAD)
def test_bad(text: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        parse(text, "b")


def test_ids_are_stable() -> None:
    assert Config(3).ids[:2] == Config(2).ids == ("fpga0", "fpga1")
