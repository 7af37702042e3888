"""Which cards a node has: one YAML file for all nodes, mounted from a ConfigMap. Pure, and strict about
typing errors.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import yaml

__all__ = ["Config", "ConfigError", "parse"]

MAX_DEVICES = 16  # on one node: more than any server has slots, less than a process table minds
MAX_SECONDS = 600.0
# Those of npu that compute; importing it to ask would bring numpy into the emulator.
SKUS = ("bw-cnn-a10", "bw-a10")
KEYS = {"sku", "flashSeconds", "loadScale", "waitSeconds", "default", "nodes"}


class ConfigError(Exception):
    """The file is wrong; the message names the key and what would be right."""


@dataclass(frozen=True)
class Config:
    """One node's cards. The seconds are wall time; `load_scale` multiplies the simulated time to load a
    program.
    """

    count: int
    sku: str = "bw-cnn-a10"
    flash_seconds: float = 2.0
    load_scale: float = 1.0
    wait_seconds: float = 10.0

    @property
    def ids(self) -> tuple[str, ...]:
        """Names of the devices; a device keeps its name when others come or go behind it."""
        return tuple(f"fpga{number}" for number in range(self.count))


def parse(text: str, node: str) -> Config:
    """Return what `text` says about `node`; raise ConfigError."""
    try:
        read = yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise ConfigError(f"not YAML: {error}") from error
    if not isinstance(read, dict):
        raise ConfigError("the file holds keys and values: sku, flashSeconds, default, nodes")
    unknown = sorted(str(key) for key in read.keys() - KEYS)
    if unknown:
        raise ConfigError(f"unknown {', '.join(unknown)}; there are {', '.join(sorted(KEYS))}")
    nodes = read.get("nodes", {})
    if not isinstance(nodes, dict):
        raise ConfigError("nodes: maps node names to numbers of devices, or to {count: 2, sku: bw-a10}")
    sku = _sku("sku", read.get("sku", Config.sku))
    cards = {name: _cards(f"nodes.{name}", given, sku) for name, given in nodes.items()}
    others = _count("default", read.get("default", 0)), sku
    return Config(
        *cards.get(node, others),
        _number(read, "flashSeconds", Config.flash_seconds),
        _number(read, "loadScale", Config.load_scale),
        _number(read, "waitSeconds", Config.wait_seconds),
    )


def _cards(key: str, value: object, sku: str) -> tuple[int, str]:
    """Return number and kind of a node's cards: a number alone, or both."""
    if not isinstance(value, dict):
        return _count(key, value), sku
    if unknown := sorted(str(name) for name in value.keys() - {"count", "sku"}):
        raise ConfigError(f"{key}: unknown {', '.join(unknown)}; there are count, sku")
    return _count(f"{key}.count", value.get("count")), _sku(f"{key}.sku", value.get("sku", sku))


def _sku(key: str, value: object) -> str:
    if value not in SKUS:
        raise ConfigError(f"{key}: a card that computes, {' or '.join(SKUS)}, not {value!r}")
    return str(value)


def _count(key: str, value: object) -> int:
    if not isinstance(value, int) or isinstance(value, bool) or not 0 <= value <= MAX_DEVICES:
        raise ConfigError(f"{key}: a number of devices, 0 to {MAX_DEVICES}, not {value!r}")
    return value


def _number(read: Mapping[str, Any], key: str, default: float) -> float:
    value = read.get(key, default)
    if not isinstance(value, int | float) or isinstance(value, bool) or not 0 <= value <= MAX_SECONDS:
        raise ConfigError(f"{key}: a number, 0 to {MAX_SECONDS:g}, not {value!r}")
    return float(value)
