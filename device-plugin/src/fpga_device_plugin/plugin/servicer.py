"""What the kubelet asks about devices, and the answers. Reads the inventory; changes nothing but by resetting
a device.
"""

import asyncio
import logging
from collections.abc import AsyncIterator, Sequence
from pathlib import PurePosixPath

import grpc
from npu.device.jsonlines import ControlError
from prometheus_client import Counter

from fpga_device_plugin.plugin.inventory import Inventory
from fpga_device_plugin.plugin.rpc import Context
from fpga_device_plugin.protos import deviceplugin_pb2 as pb

__all__ = ["CONTAINER_ROOT", "Servicer"]

log = logging.getLogger(__name__)
CONTAINER_ROOT = PurePosixPath("/run/fpga")
RESET_SECONDS = 25.0  # the kubelet gives PreStartContainer 30


class Servicer:
    """One resource's devices. `streams` counts the kubelets that listen: one, or none when it has lost us."""

    def __init__(self, inventory: Inventory, device_root: PurePosixPath, allocations: Counter) -> None:
        self._inventory = inventory
        self._device_root = device_root
        self._allocations = allocations
        self.streams = 0

    async def options(self, _: pb.Empty, __: Context) -> pb.DevicePluginOptions:
        """PreStartContainer is wanted; any device is as good as another."""
        return pb.DevicePluginOptions(pre_start_required=True, get_preferred_allocation_available=False)

    async def list_and_watch(self, _: pb.Empty, __: Context) -> AsyncIterator[pb.ListAndWatchResponse]:
        """Send all devices now and whenever one comes, goes, falls ill or recovers."""
        self.streams += 1
        try:
            told: list[tuple[str, bool]] | None = None
            while True:
                seen = self._inventory.changes.count
                news = [(device.id, device.healthy) for device in self._inventory.devices]
                if news != told:
                    told = news
                    yield pb.ListAndWatchResponse(
                        devices=[
                            pb.Device(id=name, health="Healthy" if ok else "Unhealthy") for name, ok in news
                        ]
                    )
                await self._inventory.changes.wait(seen)
        finally:
            self.streams -= 1

    async def prefer(
        self, request: pb.PreferredAllocationRequest, _: Context
    ) -> pb.PreferredAllocationResponse:
        """Prefer what must be included, then whatever comes first."""
        return pb.PreferredAllocationResponse(
            container_responses=[
                pb.ContainerPreferredAllocationResponse(
                    device_ids=_first(
                        [*asked.must_include_device_ids, *sorted(asked.available_device_ids)],
                        asked.allocation_size,
                    )
                )
                for asked in request.container_requests
            ]
        )

    async def allocate(self, request: pb.AllocateRequest, context: Context) -> pb.AllocateResponse:
        """Mount each allocated device's own directory and name the devices; refuse unknown and unhealthy
        ones.
        """
        answer = pb.AllocateResponse()
        for asked in request.container_requests:
            for device_id in asked.device_ids:
                await self._check(device_id, context)
            ids = sorted(asked.device_ids)
            answer.container_responses.append(
                pb.ContainerAllocateResponse(
                    envs={"FPGA_DEVICES": ",".join(ids), "FPGA_DEVICE_ROOT": str(CONTAINER_ROOT)},
                    # Read-only: the socket inside can be connected to, the directory cannot be tampered with.
                    mounts=[
                        pb.Mount(
                            container_path=str(CONTAINER_ROOT / name),
                            host_path=str(self._device_root / name),
                            read_only=True,
                        )
                        for name in ids
                    ],
                )
            )
            log.info("allocated %s", ", ".join(ids))
        self._allocations.labels("allocated").inc()
        return answer

    async def pre_start(
        self, request: pb.PreStartContainerRequest, context: Context
    ) -> pb.PreStartContainerResponse:
        """Reset the devices: a container never finds its predecessor's program, data or session."""
        try:
            await asyncio.gather(*(self._inventory.reset(name, RESET_SECONDS) for name in request.device_ids))
        except ControlError as error:
            log.error("reset of %s failed: %s", ", ".join(request.device_ids), error)
            await context.abort(grpc.StatusCode.UNAVAILABLE, f"the device cannot be reset: {error}")
        return pb.PreStartContainerResponse()

    async def _check(self, device_id: str, context: Context) -> None:
        device = self._inventory.get(device_id)
        if device is not None and device.healthy:
            return
        self._allocations.labels("refused").inc()
        if device is None:
            known = ", ".join(device.id for device in self._inventory.devices) or "none"
            await context.abort(grpc.StatusCode.NOT_FOUND, f"no device {device_id!r} here; there are {known}")
        else:
            await context.abort(
                grpc.StatusCode.FAILED_PRECONDITION, f"{device_id} is unhealthy: {device.reason}"
            )


def _first(ids: Sequence[str], size: int) -> list[str]:
    return list(dict.fromkeys(ids))[:size]
