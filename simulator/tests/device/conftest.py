"""Programs compiled for the card, and cards in processes of their own."""

import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

sys.path.insert(0, str(Path(__file__).parent))

from device_process import DeviceProcess
from npu.compiler import compile_model
from npu.program import Program


def compiled(net: Callable[..., Any], side: int, channels: int, layers: int, seed: int = 0) -> Program:
    n = net(("N", 3, side, side), seed)
    x = n.relu(n.bn(n.conv("x", channels, pads=[1, 1, 1, 1])))
    for _ in range(layers):
        x = n.relu(n.bn(n.conv(x, channels, pads=[1, 1, 1, 1], bias=np.linspace(-1, 1, channels))))
    program: Program = compile_model(n.model(x)).program
    return program


@pytest.fixture
def program(net: Callable[..., Any]) -> Program:
    """A millisecond's work."""
    return compiled(net, 8, 16, 1)


@pytest.fixture
def other_program(net: Callable[..., Any]) -> Program:
    """As small, and different in every weight."""
    return compiled(net, 8, 16, 1, seed=1)


@pytest.fixture
def slow_program(net: Callable[..., Any]) -> Program:
    """Half a second's work: long enough to be interrupted."""
    return compiled(net, 64, 128, 12)


@pytest.fixture
def device() -> Iterator[Callable[..., DeviceProcess]]:
    """Start devices, which are ended after the test, and must end cleanly."""
    started: list[DeviceProcess] = []

    def start(**settings: float) -> DeviceProcess:
        started.append(DeviceProcess(**settings))
        return started[-1]

    yield start
    for process in started:
        process.close()
