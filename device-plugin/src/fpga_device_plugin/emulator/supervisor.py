"""All cards of a node: starts and ends keepers as the configuration says, and answers on
control/emulator.sock.
"""

import asyncio
import logging
from collections.abc import AsyncIterator, Mapping
from pathlib import Path
from typing import Any

from npu.device import jsonlines
from npu.device.changes import Changes
from npu.device.jsonlines import ControlError

from fpga_device_plugin.emulator.config import Config
from fpga_device_plugin.emulator.keeper import Keeper, Status
from fpga_device_plugin.emulator.reaper import Reaper

__all__ = ["Supervisor", "make_directories"]

log = logging.getLogger(__name__)
QUIET_SECONDS = 0.02  # several devices that change together are told once


def make_directories(root: Path) -> None:
    """Make control/ and devices/, closed to all but root: a device's directory is opened by mounting it."""
    for name in ("control", "devices"):
        directory = root / name
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        directory.chmod(0o700)


class Supervisor:
    """The keepers of this node. `configure` may be called again at any time."""

    def __init__(self, root: Path) -> None:
        self._root = root
        self._reaper = Reaper()
        self._changes = Changes()
        self._keepers: dict[str, tuple[Keeper, asyncio.Task[None]]] = {}

    async def configure(self, config: Config) -> None:
        """Have exactly the configured devices; those that stay are not disturbed."""
        for device_id in [known for known in self._keepers if known not in config.ids]:
            log.info("%s: removed from the configuration", device_id)
            await self._stop(device_id)
        for device_id in config.ids:
            if device_id in self._keepers:
                self._keepers[device_id][0].config = config
                continue
            keeper = Keeper(device_id, config, self._root, self._reaper, self._changes)
            self._keepers[device_id] = keeper, asyncio.create_task(keeper.run())
        self._changes.notify()

    async def close(self) -> None:
        """End all devices."""
        await asyncio.gather(*(self._stop(device_id) for device_id in list(self._keepers)))

    async def failed(self) -> None:
        """Return only to raise what a keeper died of: a bug, or a node that cannot start processes."""
        while True:
            seen = self._changes.count
            tasks = [task for _, task in self._keepers.values()]
            changed = asyncio.ensure_future(self._changes.wait(seen))
            await asyncio.wait({changed, *tasks}, return_when=asyncio.FIRST_COMPLETED)
            changed.cancel()
            for task in tasks:
                if task.done() and not task.cancelled():
                    task.result()

    async def answer(self, asked: Mapping[str, Any]) -> AsyncIterator[Mapping[str, object]]:
        """Answer one request on emulator.sock."""
        match asked.get("op"):
            case "list":
                yield {
                    "devices": await asyncio.gather(*(keeper.fresh() for keeper, _ in self._keepers.values()))
                }
            case "watch":
                seen = self._changes.count
                while True:
                    yield {"devices": self._statuses()}
                    await self._changes.wait(seen)
                    await asyncio.sleep(QUIET_SECONDS)
                    seen = self._changes.count
            case "reset" | "fault":
                keeper = self._keeper(asked.get("id"))
                yield await jsonlines.request(
                    keeper.control, {key: asked[key] for key in asked if key != "id"}
                )
            case other:
                raise ControlError(f"unknown op {other!r}; there are list, watch, reset, fault")

    def _statuses(self) -> list[Status]:
        return [keeper.status for keeper, _ in self._keepers.values()]

    def _keeper(self, device_id: object) -> Keeper:
        if not isinstance(device_id, str) or device_id not in self._keepers:
            raise ControlError(
                f"unknown device {device_id!r}; there are {', '.join(self._keepers) or 'none'}"
            )
        return self._keepers[device_id][0]

    async def _stop(self, device_id: str) -> None:
        _, task = self._keepers.pop(device_id)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
