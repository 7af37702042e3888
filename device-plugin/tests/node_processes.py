"""The two processes of a node as tests see them: what they say on their sockets, and which processes they
have.
"""

import asyncio
import json
import os
import signal
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
from npu.device import jsonlines
from npu.device.jsonlines import ControlError

NODE = "node-a"
RESOURCE = "fpga.intel.com/arria10"
PATIENCE = 60.0


@dataclass
class Emulator:
    root: Path
    process: asyncio.subprocess.Process

    @property
    def control(self) -> Path:
        return self.root / "control" / "emulator.sock"

    async def ask(self, op: str, **more: Any) -> dict[str, Any]:
        return await jsonlines.request(self.control, {"op": op, **more}, PATIENCE)

    async def until(self, what: str, holds: Callable[[dict[str, dict[str, Any]]], object]) -> dict[str, Any]:
        """Follow the watch until the devices, by id, are as wanted."""
        devices: dict[str, dict[str, Any]] = {}
        try:
            async with asyncio.timeout(PATIENCE):
                while True:
                    try:
                        async for listed in jsonlines.watch(self.control):
                            devices = {device["id"]: device for device in listed["devices"]}
                            if holds(devices):
                                return devices
                    except ControlError:
                        await asyncio.sleep(0.02)  # not there yet, or not any more
        except TimeoutError:
            raise AssertionError(f"waited in vain until {what}; devices {json.dumps(devices)}") from None

    async def up(self, count: int) -> None:
        await self.until(
            f"{count} devices are healthy",
            lambda devices: [device["health"] for device in devices.values()] == ["Healthy"] * count,
        )

    def signal(self, device: str, number: signal.Signals) -> None:
        os.kill(self.pid(device), number)

    def pid(self, device: str) -> int:
        """The process of a device, found among our child's children."""
        processes = [
            pid for pid in self.children() if f"\0{device}\0" in Path(f"/proc/{pid}/cmdline").read_text()
        ]
        (found,) = processes
        return found

    def children(self) -> dict[int, str]:
        """All child processes with their states, Z for a zombie."""
        pids = Path(f"/proc/{self.process.pid}/task/{self.process.pid}/children").read_text().split()
        stats = {int(pid): Path(f"/proc/{pid}/stat").read_text() for pid in pids}
        return {pid: text.rpartition(")")[2].split()[0] for pid, text in stats.items()}


def write_config(path: Path, count: int, flash: float = 0.0) -> None:
    path.write_text(json.dumps({"sku": "bw-cnn-a10", "flashSeconds": flash, "nodes": {NODE: count}}))


@dataclass
class Plugin:
    process: asyncio.subprocess.Process
    port: int

    async def get(self, path: str) -> httpx.Response:
        async with httpx.AsyncClient(trust_env=False) as client:
            return await client.get(f"http://127.0.0.1:{self.port}{path}")

    async def until_ready(self) -> None:
        await self._until("/readyz")

    async def until_serving(self) -> None:
        await self._until("/healthz")

    async def _until(self, path: str) -> None:
        async with asyncio.timeout(PATIENCE):
            while True:
                try:
                    if (await self.get(path)).status_code == 200:
                        return
                except httpx.TransportError:
                    pass
                await asyncio.sleep(0.02)
