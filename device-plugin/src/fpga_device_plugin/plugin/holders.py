"""Who holds which device: the kubelet's own answer, for one resource. Nothing is remembered here."""

from collections.abc import Mapping
from dataclasses import dataclass

import grpc.aio

from fpga_device_plugin.plugin import rpc
from fpga_device_plugin.protos import podresources_pb2 as pb

__all__ = ["Holder", "holders", "holders_of"]

PATIENCE_SECONDS = 5.0


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


async def holders(socket: str, resource: str) -> Mapping[str, Holder] | None:
    """Ask the kubelet; None if it does not answer, which says nothing about who holds what."""
    try:
        return holders_of(await rpc.list_pods(socket, PATIENCE_SECONDS), resource)
    except grpc.aio.AioRpcError:
        return None
