"""The FpgaNode of this node: what its status says (pure), and who writes it when it changes.

Nothing in the status ticks: with nothing happening, nothing is written, and a look once a minute finds out
whether somebody else has changed or deleted it.
"""

import asyncio
import contextlib
import logging
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from typing import Any

from fpga_device_plugin.plugin.holders import Holder, holders, holders_in, is_fresh, remembering
from fpga_device_plugin.plugin.inventory import GRACE_SECONDS, Device, Inventory, devices_of, unreachable
from fpga_device_plugin.plugin.kubeapi import ApiError, KubeApi

__all__ = ["Reporter", "status_of"]

log = logging.getLogger(__name__)
FIELD_MANAGER = "fpga-device-plugin"
COLLECTION = "/apis/accel.dev/v1alpha1/fpganodes"
HOLDER_SECONDS = 2.0  # between looks at who holds what: the kubelet tells on request only
AUDIT_SECONDS = 60.0
QUIET_SECONDS = 0.2  # a device passes through several states on its way; their last one is worth a write
LONGEST_PAUSE = 30.0
MAX_REASON = 512  # characters
MAX_LINE = 1024


def status_of(
    devices: Iterable[Device], held: Mapping[str, Holder], before: Mapping[str, Any], now: datetime
) -> dict[str, Any]:
    """Return the status: devices in the order of their ids, and three sums over them.

    `before` is the present status: health that is still the same keeps its time. A device that was taken out of the
    node while a pod held it is told as long as that pod lasts, and is in no sum.
    """
    devices = tuple(devices)
    there = {device.id for device in devices}
    known = {entry["id"]: entry for entry in before.get("devices") or ()}
    entries: list[dict[str, Any]] = []
    healthy = free = 0
    removed = [_removed(device_id) for device_id in held if device_id not in there]
    for device in sorted([*devices, *removed], key=lambda device: (len(device.id), device.id)):
        entry: dict[str, Any] = {
            "id": device.id,
            "sku": device.sku,
            "state": device.state,
            "health": "Healthy" if device.healthy else "Unhealthy",
        }
        if since := _health_since(entry["health"], known.get(device.id), now):
            entry["healthSince"] = since
        if device.reason:
            entry["reason"] = device.reason[:MAX_REASON]
        if device.model_digest:
            entry["modelDigest"] = device.model_digest
        if device.id in held:
            entry["holder"] = {"namespace": held[device.id].namespace, "pod": held[device.id].pod}
        healthy += device.healthy
        free += device.healthy and device.id not in held
        entries.append(entry)
    return {
        "devices": entries,
        "total": len(devices),
        "healthy": healthy,
        "free": free,
        "holders": _line(f"{entry['id']}={_holder(entry)}" for entry in entries),
        "trouble": _line(
            f"{entry['id']}={entry.get('reason', '').partition(':')[0] or 'unknown'}"
            for entry in entries
            if entry["health"] != "Healthy"
        ),
    }


def _removed(device_id: str) -> Device:
    reason = "DeviceRemoved: the node has no such device any more; only the pod that held it is left"
    return Device(device_id, "", "absent", False, reason, "")


def _holder(entry: Mapping[str, Any]) -> str:
    holder = entry.get("holder")
    return f"{holder['namespace']}/{holder['pod']}" if holder else "-"


def _line(words: Iterable[str]) -> str:
    """Join them for a column of kubectl get, which shows one value; what is too long for it is in the list."""
    line = ",".join(words)
    return line if len(line) <= MAX_LINE else line[: MAX_LINE - 4].rpartition(",")[0] + ",..."


def _health_since(health: str, before: Mapping[str, Any] | None, now: datetime) -> str | None:
    """Return since when; a device that was healthy when it was first seen has been so for as long as anyone knows."""
    if before is not None and before.get("health") == health:
        since: str | None = before.get("healthSince")
        return since
    if before is None and health == "Healthy":
        return None
    return now.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


class Reporter:
    """Keeps the FpgaNode true. A node that never had a device gets none."""

    def __init__(
        self, api: KubeApi, node: str, resource: str, pod_resources: str, inventory: Inventory
    ) -> None:
        self._api = api
        self._node = node
        self._resource = resource
        self._pod_resources = pod_resources
        self._inventory = inventory
        self._held: Mapping[str, Holder] | None = None

    async def run(self) -> None:
        """Write what changed until cancelled; an API server that is away is tried again, ever more slowly."""
        written: dict[str, Any] | None = None
        read_at: float | None = None
        pause = HOLDER_SECONDS
        complained = ""
        clock = asyncio.get_running_loop().time
        await self._first_word()
        while True:
            seen = self._inventory.changes.count
            try:
                if read_at is None or clock() - read_at > AUDIT_SECONDS:
                    written, read_at = await self._read(), clock()
                wanted = await self._wanted(written or {})
                if wanted != written and (wanted["total"] or written is not None):
                    await self._write(wanted)
                    written = wanted
                pause, complained = HOLDER_SECONDS, ""
            except ApiError as error:
                read_at = None
                pause = min(2 * pause, LONGEST_PAUSE)
                if str(error) != complained:
                    complained = str(error)
                    log.warning("the FpgaNode is not written: %s", error)
            await self._pause(seen, pause)

    async def _first_word(self) -> None:
        """Wait until the emulator has said which devices there are, or does not come."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(GRACE_SECONDS):
                await self._inventory.heard.wait()

    async def _wanted(self, written: Mapping[str, Any]) -> dict[str, Any]:
        known = holders_in(written) if self._held is None else self._held
        told = await holders(self._pod_resources, self._resource)
        self._held = remembering(known, told, fresh=is_fresh(self._pod_resources))
        devices = self._inventory.devices
        if not self._inventory.heard.is_set():
            # This process never met the emulator; its predecessor did, and those devices have not gone away.
            devices = tuple(map(unreachable, devices_of(written)))
        return status_of(devices, self._held, written, datetime.now(UTC))

    async def _read(self) -> dict[str, Any] | None:
        found = await self._api.get(f"{COLLECTION}/{self._node}")
        return None if found is None else dict(found.get("status") or {})

    async def _write(self, status: Mapping[str, Any]) -> None:
        whole = {"apiVersion": "accel.dev/v1alpha1", "kind": "FpgaNode", "metadata": {"name": self._node}}
        path = f"{COLLECTION}/{self._node}"
        if await self._api.get(path) is None:
            await self._api.apply(path, whole, FIELD_MANAGER)
        await self._api.apply(f"{path}/status", {**whole, "status": status}, FIELD_MANAGER)

    async def _pause(self, seen: int, seconds: float) -> None:
        try:
            async with asyncio.timeout(seconds):
                await self._inventory.changes.wait(seen)
            await asyncio.sleep(QUIET_SECONDS)
        except TimeoutError:
            return
