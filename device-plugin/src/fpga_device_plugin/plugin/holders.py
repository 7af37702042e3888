"""Who holds which device: the kubelet's own answer, for one resource.

A kubelet that restarts says nothing at first, and then for a moment that nobody holds anything: pods that keep running
keep their devices all the while.
"""

import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import grpc.aio

from fpga_device_plugin.plugin import rpc
from fpga_device_plugin.protos import podresources_pb2 as pb

__all__ = ["Holder", "holders", "holders_in", "holders_of", "is_fresh", "remembering"]

PATIENCE_SECONDS = 5.0
FRESH_SECONDS = 10.0  # in which a new kubelet has heard from the API server which pods it has


@dataclass(frozen=True)
class Holder:
    """A pod."""

    namespace: str
    pod: str


def holders_of(listed: pb.ListPodResourcesResponse, resource: str) -> Mapping[str, Holder]:
    """Return the holder of each held device of this resource."""
    return {
        device_id: Holder(pod.namespace, pod.name)
        for pod in listed.pod_resources
        for container in pod.containers
        for devices in container.devices
        if devices.resource_name == resource
        for device_id in devices.device_ids
    }


def holders_in(status: Mapping[str, Any]) -> Mapping[str, Holder]:
    """Return the holders that an FpgaNode's status names: what this process's predecessor knew."""
    return {
        device["id"]: Holder(device["holder"]["namespace"], device["holder"]["pod"])
        for device in status.get("devices") or ()
        if device.get("holder")
    }


def remembering(
    known: Mapping[str, Holder], told: Mapping[str, Holder] | None, *, fresh: bool
) -> Mapping[str, Holder]:
    """Return who holds what: `told` by the kubelet, and what was `known` where it cannot know better yet."""
    if told is None:
        return known
    return {**known, **told} if fresh else told


def is_fresh(socket: str) -> bool:
    """Tell whether the kubelet at this socket began a moment ago."""
    try:
        began = Path(socket).stat().st_ctime
    except OSError:
        return True
    return time.time() - began < FRESH_SECONDS


async def holders(socket: str, resource: str) -> Mapping[str, Holder] | None:
    """Ask the kubelet; None if it does not answer, which says nothing about who holds what."""
    try:
        return holders_of(await rpc.list_pods(socket, PATIENCE_SECONDS), resource)
    except grpc.aio.AioRpcError:
        return None
