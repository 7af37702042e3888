"""Being known to the kubelet, again and again: it deletes our socket when it starts, and never dials a lost
one anew.

One *term* is one server on one fresh socket, registered once. A term ends when the kubelet's socket is
another one, when ours is gone, or when the kubelet does not listen any more; then the next one begins.
"""

import asyncio
import contextlib
import logging
from dataclasses import dataclass
from pathlib import Path

import grpc
import grpc.aio
from prometheus_client import Counter

from fpga_device_plugin.plugin import rpc
from fpga_device_plugin.plugin.directory import Directory, Identity, identity
from fpga_device_plugin.plugin.inventory import Inventory
from fpga_device_plugin.plugin.servicer import Servicer
from fpga_device_plugin.protos import deviceplugin_pb2 as pb

__all__ = ["Registrar"]

log = logging.getLogger(__name__)
REGISTER_SECONDS = 10.0
RETRY_SECONDS = (0.2, 0.5, 1.0, 2.0, 5.0)
LOOK_SECONDS = 2.0  # even without an event
LISTEN_SECONDS = 10.0  # for the kubelet to open ListAndWatch, at first and after it lost it


@dataclass(frozen=True)
class _Term:
    kubelet: Identity | None
    socket: Path
    own: Identity | None


class Registrar:
    """Keeps one resource registered. `registered` is what readiness and the metric show."""

    def __init__(
        self, resource: str, directory: Path, servicer: Servicer, inventory: Inventory, registrations: Counter
    ) -> None:
        self._resource = resource
        self._directory = directory
        self._kubelet = directory / "kubelet.sock"
        self._servicer = servicer
        self._inventory = inventory
        self._registrations = registrations
        self._prefix = resource.replace("/", "_")
        self.registered = False

    async def run(self) -> None:
        """Register and stay registered until cancelled. A node without devices is never registered."""
        while not self._inventory.devices:
            await self._inventory.changes.wait(self._inventory.changes.count)
        self._clean()
        directory = Directory(self._directory)
        try:
            failures = number = 0
            complained = ""
            while True:
                seen = directory.changes.count
                number += 1
                try:
                    await self._serve_term(directory, number)
                    failures, complained = 0, ""
                except (grpc.aio.AioRpcError, OSError) as error:
                    pause = RETRY_SECONDS[min(failures, len(RETRY_SECONDS) - 1)]
                    failures += 1
                    text = str(error.details() if isinstance(error, grpc.aio.AioRpcError) else error)
                    if text != complained:
                        complained = text
                        log.warning("not registered: %s; trying again until it works", text)
                    await _changed(directory, seen, pause)
        finally:
            directory.close()

    async def _serve_term(self, directory: Directory, number: int) -> None:
        """Serve on a new socket and register it; return when that is worth nothing any more."""
        kubelet = identity(
            self._kubelet
        )  # before dialling: if it is replaced meanwhile, the term ends at once
        if kubelet is None:
            raise OSError(f"{self._kubelet} does not exist")
        # A name of its own for each term: gRPC removes a server's socket by name when the server ends, late.
        socket = self._directory / f"{self._prefix}.{number}.sock"
        server = grpc.aio.server()
        server.add_generic_rpc_handlers((rpc.plugin_handlers(self._servicer),))
        server.add_insecure_port(f"unix:{socket}")
        await server.start()
        try:
            term = _Term(kubelet, socket, identity(socket))
            request = pb.RegisterRequest(
                version=rpc.API_VERSION,
                endpoint=socket.name,
                resource_name=self._resource,
                options=pb.DevicePluginOptions(pre_start_required=True),
            )
            await rpc.register(str(self._kubelet), request, REGISTER_SECONDS)
            self._registrations.inc()
            self.registered = True
            log.info("registered %s on %s", self._resource, socket.name)
            log.info("registering again: %s", await self._end_of(term, directory))
        finally:
            self.registered = False
            await server.stop(0)
            socket.unlink(missing_ok=True)

    async def _end_of(self, term: _Term, directory: Directory) -> str:
        """Wait until the term is over; return why."""
        clock = asyncio.get_running_loop().time
        heard = clock()
        while True:
            seen = directory.changes.count
            kubelet = identity(self._kubelet)
            # A socket that is gone says nothing: a kubelet that still listens to us cannot hear of us any other way.
            if kubelet != term.kubelet and (kubelet is not None or not self._servicer.streams):
                return "the kubelet's socket is another one" if kubelet else "the kubelet's socket is gone"
            if identity(term.socket) != term.own:
                return "our socket was removed"
            if self._servicer.streams:
                heard = clock()
            elif clock() - heard > LISTEN_SECONDS:
                return "the kubelet does not listen to us"
            await _changed(directory, seen, LOOK_SECONDS)

    def _clean(self) -> None:
        """Remove what a predecessor that was killed has left."""
        for stale in self._directory.glob(f"{self._prefix}.*.sock"):
            stale.unlink(missing_ok=True)


async def _changed(directory: Directory, seen: int, patience: float) -> None:
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(patience):
            await directory.changes.wait(seen)
