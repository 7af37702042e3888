"""Makes ports of the cluster reachable on the host's 127.0.0.1.

Runs in the cluster's network namespace and is handed the host's as file descriptor 9: it opens its listening
sockets over there, comes back, and connects on this side. Each argument is
`PORT=ADDRESS:PORT[,ADDRESS:PORT…]`; of several targets the first that answers is taken, so a NodePort
outlives the death of a node.
"""

import asyncio
import contextlib
import os
import resource
import socket
import struct
import sys
import time
from dataclasses import dataclass

from accel_cluster.machine_init import HOST_NETWORK_FD, enter_network
from accel_cluster.settings import API_PORT, GATEWAY, REGISTRY, Settings

CONNECT_S = 1.0
SHUN_S = 10.0  # how long a target that did not answer is asked last
CHUNK = 256 << 10


def arguments(settings: Settings) -> list[str]:
    """Return the arguments that forward a cluster's API server, registry and NodePorts."""
    return [
        f"{settings.api_host_port}={GATEWAY}:{API_PORT}",
        f"{settings.registry_host_port}={REGISTRY}",
        *(
            f"{port}=" + ",".join(f"{node.address}:{port}" for node in settings.nodes)
            for port in settings.node_ports
        ),
    ]


@dataclass(frozen=True)
class Target:
    """An address in the cluster."""

    host: str
    port: int


class Forward:
    """One listening port and where it leads."""

    shunned: dict[str, float] = {}  # noqa: RUF012 (host -> monotonic time; one book for all ports, by intent)

    def __init__(self, targets: list[Target]) -> None:
        self.targets = targets

    async def serve(self, near: asyncio.StreamReader, near_out: asyncio.StreamWriter) -> None:
        """Join a connection with the first target that answers, until both directions have ended."""
        opened = await self._connect()
        if opened is None:
            _reset(near_out)  # the caller sees a refused service, not an empty answer
            return
        far, far_out = opened
        try:
            await asyncio.gather(_pump(near, far_out), _pump(far, near_out))
        except OSError:
            _reset(near_out)
            _reset(far_out)
        finally:
            for writer in (near_out, far_out):
                writer.close()
                with contextlib.suppress(OSError):
                    await writer.wait_closed()

    async def _connect(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter] | None:
        now = time.monotonic()
        for target in sorted(self.targets, key=lambda target: self.shunned.get(target.host, 0.0) > now):
            try:
                opening = asyncio.open_connection(target.host, target.port, limit=CHUNK)
                return await asyncio.wait_for(opening, CONNECT_S)
            except ConnectionRefusedError:  # the node lives and has no such service: so have the others
                continue
            except (OSError, TimeoutError):
                if len(self.targets) > 1:
                    self.shunned[target.host] = time.monotonic() + SHUN_S
        return None


def _reset(writer: asyncio.StreamWriter) -> None:
    """End a connection with a reset: lingering for no time at all is how the kernel is told so."""
    connection: socket.socket = writer.get_extra_info("socket")
    with contextlib.suppress(OSError):
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    writer.transport.abort()


async def _pump(source: asyncio.StreamReader, sink: asyncio.StreamWriter) -> None:
    while data := await source.read(CHUNK):
        sink.write(data)
        await sink.drain()
    if sink.can_write_eof():
        sink.write_eof()


def parse(argument: str) -> tuple[int, list[Target]]:
    """Return the port and the targets that one argument names."""
    port, _, places = argument.partition("=")
    pairs = (place.rpartition(":") for place in places.split(","))
    return int(port), [Target(host, int(number)) for host, _, number in pairs]


def listeners(ports: list[int]) -> list[socket.socket]:
    """Return sockets that listen on the host's 127.0.0.1."""
    home = os.open("/proc/self/ns/net", os.O_RDONLY)
    enter_network(HOST_NETWORK_FD)
    opened = []
    for port in ports:
        listener = socket.socket()
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(("127.0.0.1", port))
        listener.listen(256)
        opened.append(listener)
    enter_network(home)
    return opened


async def main(words: list[str]) -> None:
    """Forward until killed."""
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    routes = dict(map(parse, words))
    servers = [
        await asyncio.start_server(Forward(targets).serve, sock=listener, limit=CHUNK)
        for listener, targets in zip(listeners(list(routes)), routes.values(), strict=True)
    ]
    await asyncio.gather(*(server.serve_forever() for server in servers))


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1:]))
