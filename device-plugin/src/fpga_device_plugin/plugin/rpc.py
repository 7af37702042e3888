"""The kubelet's services by their true names, over messages of our own (`protos`): thin stubs, written by
hand.
"""

from collections.abc import AsyncIterator
from typing import Any, Protocol, TypeAlias

import grpc
import grpc.aio

from fpga_device_plugin.protos import deviceplugin_pb2 as plugin
from fpga_device_plugin.protos import podresources_pb2 as podresources

__all__ = [
    "API_VERSION",
    "Context",
    "DevicePlugin",
    "Registration",
    "list_pods",
    "plugin_handlers",
    "register",
    "registration_handlers",
]

API_VERSION = "v1beta1"
_PLUGIN = "v1beta1.DevicePlugin"
_REGISTRATION = "v1beta1.Registration"
_LIST = "/v1.PodResourcesLister/List"
# A node's pods with all their devices and CPUs; gRPC's own limit of 4 MB is met on large nodes.
_LARGE = [("grpc.max_receive_message_length", 16 << 20)]

Context: TypeAlias = "grpc.aio.ServicerContext[Any, Any]"


class DevicePlugin(Protocol):
    """What the kubelet calls."""

    async def options(self, _: plugin.Empty, __: Context, /) -> plugin.DevicePluginOptions:
        """Which of the optional calls are wanted."""

    def list_and_watch(
        self, request: plugin.Empty, context: Context
    ) -> AsyncIterator[plugin.ListAndWatchResponse]:
        """All devices, again at each change."""

    async def prefer(
        self, request: plugin.PreferredAllocationRequest, context: Context, /
    ) -> plugin.PreferredAllocationResponse:
        """Which devices would be best."""

    async def allocate(self, request: plugin.AllocateRequest, context: Context, /) -> plugin.AllocateResponse:
        """What containers need to use these devices."""

    async def pre_start(
        self, request: plugin.PreStartContainerRequest, context: Context, /
    ) -> plugin.PreStartContainerResponse:
        """A container that holds these devices is about to start."""


class Registration(Protocol):
    """What plugins call; a kubelet implements it."""

    async def register(self, request: plugin.RegisterRequest, context: Context, /) -> plugin.Empty:
        """A plugin listens on the named socket."""


def plugin_handlers(servicer: DevicePlugin) -> grpc.GenericRpcHandler:
    """Return what a grpc.aio server needs to be a device plugin."""
    return grpc.method_handlers_generic_handler(
        _PLUGIN,
        {
            "GetDevicePluginOptions": grpc.unary_unary_rpc_method_handler(
                servicer.options, plugin.Empty.FromString, plugin.DevicePluginOptions.SerializeToString
            ),
            "ListAndWatch": grpc.unary_stream_rpc_method_handler(
                servicer.list_and_watch,
                plugin.Empty.FromString,
                plugin.ListAndWatchResponse.SerializeToString,
            ),
            "GetPreferredAllocation": grpc.unary_unary_rpc_method_handler(
                servicer.prefer,
                plugin.PreferredAllocationRequest.FromString,
                plugin.PreferredAllocationResponse.SerializeToString,
            ),
            "Allocate": grpc.unary_unary_rpc_method_handler(
                servicer.allocate,
                plugin.AllocateRequest.FromString,
                plugin.AllocateResponse.SerializeToString,
            ),
            "PreStartContainer": grpc.unary_unary_rpc_method_handler(
                servicer.pre_start,
                plugin.PreStartContainerRequest.FromString,
                plugin.PreStartContainerResponse.SerializeToString,
            ),
        },
    )


def registration_handlers(servicer: Registration) -> grpc.GenericRpcHandler:
    """Return what a grpc.aio server needs to take registrations, as the kubelet does."""
    register_method = grpc.unary_unary_rpc_method_handler(
        servicer.register, plugin.RegisterRequest.FromString, plugin.Empty.SerializeToString
    )
    return grpc.method_handlers_generic_handler(_REGISTRATION, {"Register": register_method})


async def register(socket: str, request: plugin.RegisterRequest, patience: float) -> None:
    """Register with the kubelet that listens on `socket`; raise grpc.aio.AioRpcError."""
    async with grpc.aio.insecure_channel(f"unix:{socket}") as channel:
        call = channel.unary_unary(
            f"/{_REGISTRATION}/Register",
            request_serializer=plugin.RegisterRequest.SerializeToString,
            response_deserializer=plugin.Empty.FromString,
        )
        await call(request, timeout=patience)


async def list_pods(socket: str, patience: float) -> podresources.ListPodResourcesResponse:
    """Ask the kubelet which pods hold which devices; raise grpc.aio.AioRpcError."""
    async with grpc.aio.insecure_channel(f"unix:{socket}", options=_LARGE) as channel:
        call = channel.unary_unary(
            _LIST,
            request_serializer=podresources.ListPodResourcesRequest.SerializeToString,
            response_deserializer=podresources.ListPodResourcesResponse.FromString,
        )
        return await call(podresources.ListPodResourcesRequest(), timeout=patience)
