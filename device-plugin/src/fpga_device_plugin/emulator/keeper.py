"""Keeps one device's process alive and knows its last status. A crash costs this device, for as long as a
restart takes.
"""

import asyncio
import contextlib
import logging
import signal
import sys
import time
from pathlib import Path
from typing import Any

from npu.device import jsonlines
from npu.device.changes import Changes
from npu.device.jsonlines import ControlError

from fpga_device_plugin.emulator.config import Config
from fpga_device_plugin.emulator.reaper import Process, Reaper

__all__ = ["Keeper", "Status"]

log = logging.getLogger(__name__)
Status = dict[str, Any]  # as npu.device tells it, plus `restarts`

FIRST_PAUSE = 0.1  # seconds before the first restart, doubled by each crash that follows soon
LONGEST_PAUSE = 10.0
STEADY_SECONDS = 30.0  # a process that lived so long has the first pause again
CONNECT_SECONDS = 0.05
PING_SECONDS = 5.0
PINGS = 3  # unanswered ones before a process counts as stuck and is killed
END_SECONDS = 3.0


class Keeper:
    """One device of this node. Changed settings hold from its next start on: a card in use is left alone."""

    def __init__(self, device_id: str, config: Config, root: Path, reaper: Reaper, changes: Changes) -> None:
        self.id = device_id
        self.config = config
        self.control = root / "control" / f"{device_id}.sock"
        self._socket = root / "devices" / device_id / "device.sock"
        self._reaper = reaper
        self._changes = changes
        self._restarts = 0
        self.status: Status = self._dead("Starting: the device's process is being started")

    async def run(self) -> None:
        """Start and restart the process until cancelled; then end it."""
        pause = FIRST_PAUSE
        while True:
            started = time.monotonic()
            process = self._start()
            try:
                code = await self._follow(process)
            finally:
                await self._end(process)
            pause = (
                FIRST_PAUSE if time.monotonic() - started > STEADY_SECONDS else min(2 * pause, LONGEST_PAUSE)
            )
            how = f"signal {signal.Signals(-code).name}" if code < 0 else f"exit code {code}"
            log.error("%s: the process ended with %s; restart in %.1f s", self.id, how, pause)
            self._tell(
                self._dead(f"ProcessDied: the device's process ended with {how} and is being restarted")
            )
            await asyncio.sleep(pause)
            self._restarts += 1

    async def fresh(self) -> Status:
        """Return the status with the counters of this moment, or the last one known."""
        with contextlib.suppress(ControlError):
            if self.status["state"] != "absent":
                return self._ours(await jsonlines.request(self.control, {"op": "status"}, 1.0))
        return self.status

    def _start(self) -> Process:
        # The directory is never made anew: pods that hold the device have it mounted.
        self._socket.parent.mkdir(mode=0o755, exist_ok=True)
        self._socket.parent.chmod(0o755)
        for stale in (self._socket, self.control):
            stale.unlink(missing_ok=True)
        config = self.config
        process = self._reaper.spawn(
            [
                sys.executable, "-m", "npu.device", "--id", self.id, "--sku", config.sku,
                "--socket", str(self._socket), "--control", str(self.control),
                "--flash-seconds", str(config.flash_seconds), "--load-scale", str(config.load_scale),
                "--wait-seconds", str(config.wait_seconds), "--die-with-parent",
            ]
        )  # fmt: skip
        log.info("%s: started as process %d", self.id, process.pid)
        return process

    async def _follow(self, process: Process) -> int:
        """Take over the process's status until it ends; return its exit code."""
        tasks = [asyncio.create_task(self._watch()), asyncio.create_task(self._ping(process))]
        try:
            return await asyncio.shield(process.ended)
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    async def _watch(self) -> None:
        while True:
            with contextlib.suppress(ControlError):
                async for status in jsonlines.watch(self.control):
                    self._tell(self._ours(status))
            await asyncio.sleep(CONNECT_SECONDS)

    async def _ping(self, process: Process) -> None:
        missed = 0
        while missed < PINGS:
            await asyncio.sleep(PING_SECONDS)
            try:
                await jsonlines.request(self.control, {"op": "status"}, PING_SECONDS)
                missed = 0
            except ControlError:
                missed += 1
                self._tell(self._dead("Unresponsive: the device's process does not answer"))
        log.error("%s: the process does not answer; killing it", self.id)
        process.signal(signal.SIGKILL)

    async def _end(self, process: Process) -> None:
        for number in (signal.SIGTERM, signal.SIGKILL):
            process.signal(number)
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(END_SECONDS):
                    await asyncio.shield(process.ended)
                return

    def _tell(self, status: Status) -> None:
        if status != self.status:
            self.status = status
            self._changes.notify()

    def _ours(self, status: Status) -> Status:
        return {**status, "restarts": self._restarts}

    def _dead(self, reason: str) -> Status:
        return {
            "id": self.id,
            "sku": self.config.sku,
            "state": "absent",
            "health": "Unhealthy",
            "reason": reason,
            "modelDigest": "",
            "owner": False,
            "restarts": self._restarts,
        }
