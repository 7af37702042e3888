"""Real processes on temporary sockets: the emulator, the plugin, and what a test needs to follow them."""

import asyncio
import os
import shutil
import signal
import sys
import tempfile
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio

sys.path.insert(0, str(Path(__file__).parent))

from kubelet_stub import Kubelet
from node_processes import NODE, PATIENCE, RESOURCE, Emulator, Plugin, write_config

ENVIRONMENT = {**os.environ, "NODE_NAME": NODE, "OMP_NUM_THREADS": "1"}


@pytest.fixture
def root() -> Iterator[Path]:
    """A short path: a Unix socket's has at most 107 bytes."""
    path = Path(tempfile.mkdtemp(prefix="fpga"))
    (path / "kubelet").mkdir()
    yield path
    shutil.rmtree(path)


@pytest_asyncio.fixture
async def start(root: Path) -> AsyncIterator[Callable[..., Awaitable[asyncio.subprocess.Process]]]:
    """Start one of the two commands; whatever still runs after the test is ended."""
    running: list[asyncio.subprocess.Process] = []

    async def start_one(module: str, *arguments: object) -> asyncio.subprocess.Process:
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-m", module, *map(str, arguments), env=ENVIRONMENT
        )
        running.append(process)
        return process

    yield start_one
    for process in running:
        if process.returncode is None:
            process.send_signal(signal.SIGTERM)
    for process in running:
        async with asyncio.timeout(PATIENCE):
            await process.wait()


@pytest.fixture
def emulator(root: Path, start: Callable[..., Any]) -> Callable[..., Awaitable[Emulator]]:
    """Start an emulator with so many devices, that flash at once."""

    async def start_emulator(count: int, *, flash: float = 0.0) -> Emulator:
        config = root / "devices.yaml"
        write_config(config, count, flash)
        process = await start(
            "fpga_device_plugin.emulator.cli", "--config", config, "--root", root / "emulator"
        )
        found = Emulator(root / "emulator", process)
        await found.up(count)
        return found

    return start_emulator


@pytest_asyncio.fixture
async def kubelet(root: Path) -> AsyncIterator[Kubelet]:
    stub = Kubelet(root / "kubelet")
    await stub.start()
    yield stub
    await stub.stop()


@pytest.fixture
def plugin(root: Path, start: Callable[..., Any], unused_port: int) -> Callable[..., Awaitable[Plugin]]:
    """Start a plugin beside the emulator of this test, if there is one."""

    async def start_plugin(*more: object) -> Plugin:
        arguments = [
            "--resource", RESOURCE, "--control", root / "emulator" / "control" / "emulator.sock",
            "--device-root", root / "emulator" / "devices", "--kubelet-dir", root / "kubelet",
            "--pod-resources", root / "pods.sock", "--port", unused_port, *more,
        ]  # fmt: skip
        return Plugin(await start("fpga_device_plugin.plugin.cli", *arguments), unused_port)

    return start_plugin


@pytest.fixture
def unused_port() -> int:
    import socket

    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port: int = free.getsockname()[1]
        return port
