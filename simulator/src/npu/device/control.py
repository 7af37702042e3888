"""The control socket of one device: status, watch, reset, fault. For the node's root only."""

import asyncio
from collections.abc import AsyncIterator, Mapping
from typing import Any

from npu.device.emulator import Device, Refused
from npu.device.faults import FAULTS
from npu.device.jsonlines import ControlError, Handler

__all__ = ["QUIET_SECONDS", "handler"]

QUIET_SECONDS = 0.02  # a burst of changes is told once


def handler(device: Device) -> Handler:
    """Return what answers requests about `device`."""

    async def answer(asked: Mapping[str, Any]) -> AsyncIterator[Mapping[str, object]]:
        match asked.get("op"):
            case "status":
                yield device.card.status()
            case "watch":
                seen = device.card.changes.count
                while True:
                    yield device.card.status()
                    seen = await device.card.changes.wait(seen)
                    await asyncio.sleep(QUIET_SECONDS)
                    seen = device.card.changes.count
            case "reset":
                try:
                    device.reset()
                except Refused as error:
                    raise ControlError(str(error)) from error
                yield device.card.status()
            case "fault":
                _fault(device, asked)
                yield device.card.status()
            case other:
                raise ControlError(f"unknown op {other!r}; there are status, watch, reset, fault")

    return answer


def _fault(device: Device, asked: Mapping[str, Any]) -> None:
    kind, clear = asked.get("kind"), asked.get("clear", False)
    if not isinstance(kind, str) or kind not in FAULTS:
        raise ControlError(f"unknown fault {kind!r}; there are {', '.join(FAULTS)}")
    if not isinstance(clear, bool):
        raise ControlError("`clear` is true or false")
    if clear:
        device.clear(kind)
    else:
        device.inject(kind)
