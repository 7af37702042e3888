"""The kubelet's side of the device plugin API on temporary sockets: the true boundary of the plugin, and no
more.

Behaves as facts about the kubelet say: deletes every socket in its directory when it starts, dials a plugin
once when it registers, never dials a lost one again.
"""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import grpc
import grpc.aio
from fpga_device_plugin.plugin import rpc
from fpga_device_plugin.protos import deviceplugin_pb2 as pb
from fpga_device_plugin.protos import podresources_pb2 as podresources

PATIENCE = 60.0


class Kubelet:
    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.requests: list[pb.RegisterRequest] = []
        self.devices: dict[str, str] = {}
        self.history: list[dict[str, str]] = []
        self.listening = False
        self._changed = asyncio.Condition()
        self._channel: grpc.aio.Channel | None = None
        self._follower: asyncio.Task[None] | None = None
        self._server: grpc.aio.Server | None = None

    async def start(self) -> None:
        for stale in self.directory.iterdir():
            stale.unlink(missing_ok=True)
        self._server = grpc.aio.server()
        self._server.add_generic_rpc_handlers((rpc.registration_handlers(self),))
        self._server.add_insecure_port(f"unix:{self.directory}/kubelet.sock")
        await self._server.start()

    async def stop(self) -> None:
        await self._hang_up()
        assert self._server is not None
        await self._server.stop(0)
        (self.directory / "kubelet.sock").unlink(missing_ok=True)

    async def register(self, request: pb.RegisterRequest, _: rpc.Context, /) -> pb.Empty:
        await self._hang_up()
        self._channel = grpc.aio.insecure_channel(f"unix:{self.directory}/{request.endpoint}")
        self._follower = asyncio.create_task(self._follow())
        self.requests.append(request)
        await self._notify()
        return pb.Empty()

    async def _follow(self) -> None:
        try:
            async for update in self.stream("ListAndWatch", pb.Empty(), pb.ListAndWatchResponse):
                self.listening = True
                self.devices = {device.id: device.health for device in update.devices}
                await self._notify()
        except grpc.aio.AioRpcError:
            self.listening = False
            self.devices = dict.fromkeys(self.devices, "Unhealthy")
            await self._notify()

    async def _hang_up(self) -> None:
        if self._follower is not None and self._channel is not None:
            self._follower.cancel()
            await asyncio.gather(self._follower, return_exceptions=True)
            await self._channel.close()
        self.listening = False

    async def _notify(self) -> None:
        self.history.append(self.devices)
        async with self._changed:
            self._changed.notify_all()

    async def until(self, what: str, holds: Callable[[], object]) -> None:
        try:
            async with asyncio.timeout(PATIENCE), self._changed:
                await self._changed.wait_for(lambda: bool(holds()))
        except TimeoutError:
            raise AssertionError(f"waited in vain until {what}; devices {self.devices}") from None

    async def advertises(self, **devices: str) -> None:
        await self.until(
            f"the plugin advertises {devices}", lambda: self.listening and self.devices == devices
        )

    def stream(self, method: str, request: Any, reply: Any) -> Any:
        assert self._channel is not None
        call = self._channel.unary_stream(
            f"/v1beta1.DevicePlugin/{method}",
            request_serializer=type(request).SerializeToString,
            response_deserializer=reply.FromString,
        )
        return call(request)

    async def call(self, method: str, request: Any, reply: Any) -> Any:
        assert self._channel is not None
        call = self._channel.unary_unary(
            f"/v1beta1.DevicePlugin/{method}",
            request_serializer=type(request).SerializeToString,
            response_deserializer=reply.FromString,
        )
        return await call(request, timeout=PATIENCE)

    async def allocate(self, *ids: str) -> pb.ContainerAllocateResponse:
        request = pb.AllocateRequest(container_requests=[pb.ContainerAllocateRequest(device_ids=ids)])
        answer = await self.call("Allocate", request, pb.AllocateResponse)
        (container,) = answer.container_responses
        return container

    async def pre_start(self, *ids: str) -> None:
        await self.call(
            "PreStartContainer", pb.PreStartContainerRequest(device_ids=ids), pb.PreStartContainerResponse
        )


@asynccontextmanager
async def pod_resources(
    socket: Path, answer: Callable[[], podresources.ListPodResourcesResponse]
) -> AsyncIterator[None]:
    """Serve v1.PodResourcesLister on `socket`."""

    async def listed(
        request: podresources.ListPodResourcesRequest, context: rpc.Context
    ) -> podresources.ListPodResourcesResponse:
        return answer()

    method = grpc.unary_unary_rpc_method_handler(
        listed,
        podresources.ListPodResourcesRequest.FromString,
        podresources.ListPodResourcesResponse.SerializeToString,
    )
    server = grpc.aio.server()
    server.add_generic_rpc_handlers(
        (grpc.method_handlers_generic_handler("v1.PodResourcesLister", {"List": method}),)
    )
    server.add_insecure_port(f"unix:{socket}")
    await server.start()
    try:
        yield
    finally:
        await server.stop(0)
