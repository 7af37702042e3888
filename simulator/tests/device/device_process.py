"""A real device process on temporary sockets, and a raw socket to it for what no honest client would send."""

import json
import shutil
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import IO, Any

import numpy as np
from npu.compiler import compile_model
from npu.device import wire
from npu.device.client import DeviceClient
from npu.device.wire import Kind, Packet
from npu.program import Program
from numpy.typing import NDArray

PATIENCE = 60.0


class DeviceProcess:
    """`python -m npu.device` in a directory of its own."""

    def __init__(self, **settings: float | str) -> None:
        self.directory = Path(tempfile.mkdtemp(prefix="npu"))
        self.socket = self.directory / "device.sock"
        self._control = self.directory / "control.sock"
        options = {
            "flash-seconds": 0.0,
            "load-scale": 1.0,
            **{k.replace("_", "-"): v for k, v in settings.items()},
        }
        self._command = [
            sys.executable, "-m", "npu.device", "--id", "fpga0", "--socket", str(self.socket),
            "--control", str(self._control), *(f"--{name}={value}" for name, value in options.items()),
        ]  # fmt: skip
        self._clients: list[DeviceClient] = []
        self._log: list[str] = []
        self.start()

    def start(self) -> None:
        """Start the process and wait until it listens."""
        self.process = subprocess.Popen(self._command, stderr=subprocess.PIPE, text=True)
        listens = threading.Event()
        threading.Thread(target=_follow, args=(self.process.stderr, self._log, listens), daemon=True).start()
        if not listens.wait(PATIENCE):
            self.kill()
            raise AssertionError(f"the device does not come up: {self._log}")

    def kill(self) -> None:
        self.process.kill()
        self.process.wait()

    def close(self) -> None:
        for client in self._clients:
            client.close()
        self.process.terminate()
        sys.stderr.writelines(self._log)
        assert self.process.wait(PATIENCE) in (0, -9), "the device did not end cleanly"
        shutil.rmtree(self.directory)

    def client(self) -> DeviceClient:
        client = DeviceClient(self.socket)
        self._clients.append(client)
        return client

    def ask(self, op: str, **more: object) -> dict[str, Any]:
        """One request on the control socket."""
        with self._connect(self._control, socket.SOCK_STREAM) as control, control.makefile("rb") as lines:
            control.sendall(json.dumps({"op": op, **more}).encode() + b"\n")
            reply: dict[str, Any] = json.loads(lines.readline())
            return reply

    def until(self, what: str, holds: Callable[[dict[str, Any]], object]) -> dict[str, Any]:
        """Follow the watch until the status is as wanted."""
        status: dict[str, Any] = {}
        with self._connect(self._control, socket.SOCK_STREAM) as control, control.makefile("rb") as lines:
            control.sendall(b'{"op":"watch"}\n')
            try:
                while True:
                    status = json.loads(lines.readline())
                    if holds(status):
                        return status
            except TimeoutError:
                raise AssertionError(f"waited in vain until {what}: {status}") from None

    def poll(self, what: str, holds: Callable[[dict[str, Any]], object]) -> None:
        """Ask for the status until it is as wanted: for what is no news, the counters and busy."""
        deadline = time.monotonic() + PATIENCE
        while not holds(status := self.ask("status")):
            assert time.monotonic() < deadline, f"waited in vain until {what}: {status}"

    def until_busy(self) -> None:
        self.poll("it computes", lambda status: status["state"] == "busy")

    def raw(self) -> "RawClient":
        return RawClient(self._connect(self.socket, socket.SOCK_SEQPACKET))

    def _connect(self, path: Path, kind: int) -> socket.socket:
        connection = socket.socket(socket.AF_UNIX, kind)
        connection.settimeout(PATIENCE)
        connection.connect(str(path))
        return connection


class RawClient:
    """Sends any bytes, reads packets and descriptors."""

    def __init__(self, connection: socket.socket) -> None:
        self.socket = connection

    def __enter__(self) -> "RawClient":
        return self

    def __exit__(self, *_: object) -> None:
        self.socket.close()

    def send(self, kind: Kind, body: bytes = b"", *, epoch: int = 0, slot: int = 0, request: int = 1) -> None:
        self.socket.send(wire.encode(Packet(kind, request, epoch, slot=slot, body=body)))

    def receive(self) -> tuple[Packet | None, list[int]]:
        """The next packet, None for the end."""
        data, fds, _, _ = socket.recv_fds(self.socket, 1 << 16, 16)
        return (wire.decode(data) if data else None), fds

    def hello(self) -> int:
        """Own the device; return the session's epoch."""
        self.send(Kind.HELLO)
        reply, _ = self.receive()
        assert reply is not None
        assert reply.kind is Kind.WELCOME, reply
        return reply.epoch


def _follow(stream: IO[str], log: list[str], listens: threading.Event) -> None:
    """Keep the process's log; say when it says that it is up."""
    with stream:
        for line in stream:
            log.append(line)
            if "is golden" in line:
                listens.set()


@cache
def compiled(net: Callable[..., Any], side: int, channels: int, layers: int, seed: int = 0) -> Program:
    n = net(("N", 3, side, side), seed)
    x = n.relu(n.bn(n.conv("x", channels, pads=[1, 1, 1, 1])))
    for _ in range(layers):
        x = n.relu(n.bn(n.conv(x, channels, pads=[1, 1, 1, 1], bias=np.linspace(-1, 1, channels))))
    program: Program = compile_model(n.model(x)).program
    return program


def picture(program: Program, seed: int = 0) -> NDArray[np.float32]:
    return np.random.default_rng(seed).normal(size=program.input_shape).astype(np.float32)
