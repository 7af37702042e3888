"""Programs compiled for the card, and cards in processes of their own."""

import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

sys.path.insert(0, str(Path(__file__).parent))

from device_process import DeviceProcess, compiled
from npu.program import Program


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


@pytest.fixture(scope="module")
def shared() -> Iterator[DeviceProcess]:
    """One device for tests that leave it as they found it."""
    process = DeviceProcess()
    yield process
    process.close()
