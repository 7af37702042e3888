"""The node's devices as the emulator tells them, kept up to date; with the emulator gone, they are unhealthy,
not forgotten.
"""

import asyncio
import logging
import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from npu.device import jsonlines
from npu.device.changes import Changes
from npu.device.jsonlines import ControlError

__all__ = ["GRACE_SECONDS", "Device", "Inventory", "devices_of", "unreachable"]

log = logging.getLogger(__name__)
RETRY_SECONDS = 0.25
GRACE_SECONDS = (
    3.0  # a restarted emulator is back in this time; the devices' own processes have ended with it
)
ID = re.compile(r"[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?")  # it becomes a path and a label


@dataclass(frozen=True)
class Device:
    """What of a device's status is news. Busy is told as ready: a card changes between them a thousand times
    a second.
    """

    id: str
    sku: str
    state: str
    healthy: bool
    reason: str
    model_digest: str


def devices_of(listed: Mapping[str, Any]) -> tuple[Device, ...]:
    """Return the devices in one message of the emulator; entries without a usable id are left out."""
    return tuple(
        Device(
            status["id"],
            str(status.get("sku", "")),
            "ready" if status.get("state") == "busy" else str(status.get("state", "absent")),
            status.get("health") == "Healthy",
            str(status.get("reason", "")),
            str(status.get("modelDigest", "")),
        )
        for status in listed.get("devices", ())
        if isinstance(status, dict) and ID.fullmatch(str(status.get("id", "")))
    )


class Inventory:
    """The present devices, by following the emulator's control socket. No emulator: no devices."""

    def __init__(self, control: Path) -> None:
        self._control = control
        self.changes = Changes()
        self.devices: tuple[Device, ...] = ()
        self.reachable = False
        self.heard = asyncio.Event()  # from the emulator, ever: before that, no devices means nothing

    async def run(self) -> None:
        """Follow until cancelled."""
        lost: float | None = None
        clock = asyncio.get_running_loop().time
        while True:
            try:
                async for listed in jsonlines.watch(self._control):
                    self.reachable = True
                    self.heard.set()
                    lost = None
                    self._set(devices_of(listed))
            except ControlError as error:
                if self.reachable:
                    log.warning("the emulator is gone: %s", error)
                self.reachable = False
                lost = clock() if lost is None else lost
                if clock() - lost >= GRACE_SECONDS:
                    self._set(tuple(unreachable(device) for device in self.devices))
            await asyncio.sleep(RETRY_SECONDS)

    def get(self, device_id: str) -> Device | None:
        """Return the device with this id, if there is one."""
        return next((device for device in self.devices if device.id == device_id), None)

    async def reset(self, device_id: str, patience: float) -> None:
        """Bring a device back to its golden image; raise ControlError if that is not possible in time.

        Waits for a device that is just being restarted: its tenant's container would only fail and come
        again.
        """
        try:
            async with asyncio.timeout(patience):
                while (device := self.get(device_id)) is not None and device.state == "absent":
                    await self.changes.wait(self.changes.count)
        except TimeoutError:
            raise ControlError(f"{device_id} is absent: {device.reason if device else 'unknown'}") from None
        await jsonlines.request(self._control, {"op": "reset", "id": device_id}, patience)

    async def statuses(self, patience: float) -> list[dict[str, Any]]:
        """Return the emulator's full statuses with counters, or nothing while it cannot be reached."""
        try:
            listed = await jsonlines.request(self._control, {"op": "list"}, patience)
        except ControlError:
            return []
        return [status for status in listed.get("devices", ()) if isinstance(status, dict)]

    def _set(self, devices: tuple[Device, ...]) -> None:
        if devices == self.devices:
            return
        before = {device.id: device for device in self.devices}
        for device in devices:
            known = before.get(device.id)
            if known is None or known.healthy != device.healthy:
                log.info(
                    "%s is %s %s", device.id, "healthy" if device.healthy else "unhealthy:", device.reason
                )
        self.devices = devices
        self.changes.notify()


def unreachable(device: Device) -> Device:
    """Return what is known of a device whose emulator does not answer."""
    return replace(
        device,
        state="absent",
        healthy=False,
        reason="EmulatorUnreachable: the emulator of this node does not answer",
        model_digest="",
    )
