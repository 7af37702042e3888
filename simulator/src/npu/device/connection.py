"""The client's side of one session on device.sock: blocking, with a deadline on every step, and no second
chance.

`client` decides what a lost session means; here every failure ends the session and has a type.
"""

import contextlib
import hashlib
import os
import socket
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from npu.device import memory, messages, wire
from npu.device.errors import DeviceError, DeviceFaulted, DeviceUnavailable, ProgramRejected, Progress
from npu.device.wire import Code, Kind, Packet, WireError
from npu.errors import TensorError

__all__ = ["Connection", "Deadline", "ProgramInfo", "RunResult", "status"]

MAX_FDS = 16
OnProgress = Callable[[Progress], None]


class Deadline:
    """A moment; all steps of one call share it."""

    def __init__(self, seconds: float) -> None:
        self._at = time.monotonic() + seconds

    @property
    def left(self) -> float:
        """Seconds until then, never negative."""
        return max(0.0, self._at - time.monotonic())


@dataclass(frozen=True)
class ProgramInfo:
    """What was loaded. Shapes are (height, width, channels)."""

    digest: str
    input_shape: tuple[int, int, int]
    output_shape: tuple[int, int, int]


@dataclass(frozen=True)
class RunResult:
    """One inference: `output` float32 [h, w, C] whose values are float16 numbers, and two clocks that nobody
    may add.
    """

    output: NDArray[np.float32]
    simulated_seconds: float
    wall_seconds: float
    device_id: str
    epoch: int


class Connection:
    """A session that owns the device until it is closed. Not for several threads at once."""

    def __init__(self, path: Path, deadline: Deadline) -> None:
        self._request = 0
        self._epoch = 0
        self._slots: list[memory.Region] = []
        self._program: messages.Loaded | None = None
        self._socket = _connect(path, deadline)
        try:
            reply, _ = self._ask(Kind.HELLO, Kind.WELCOME, deadline)
            self._epoch = reply.epoch
            self.welcome = messages.Welcome.unpack(reply.body)
        except WireError as error:
            self.close()
            raise DeviceUnavailable(f"the device speaks another protocol: {error}") from error
        except BaseException:
            self.close()
            raise

    def load(self, program: bytes, deadline: Deadline, on_progress: OnProgress) -> ProgramInfo:
        """Put a program on the device; `on_progress` hears of flashing and loading several times a second."""
        if len(program) > self.welcome.max_program:
            raise ProgramRejected(f"{len(program)} bytes; the device takes {self.welcome.max_program}")
        _, fds = self._ask(Kind.ALLOCATE, Kind.BUFFER, deadline, messages.Allocate(len(program)).pack())
        with _adopt(fds, 1, len(program))[0] as buffer:
            buffer.write(0, program)
        body = messages.Load(hashlib.sha256(program).digest()).pack()
        reply, fds = self._ask(Kind.LOAD, Kind.LOADED, deadline, body, on_progress=on_progress)
        loaded = messages.Loaded.unpack(reply.body)
        self._free()
        self._slots = _adopt(fds, self.welcome.slots, loaded.slot_bytes)
        self._program = loaded
        return ProgramInfo(loaded.digest, loaded.input_shape, loaded.output_shape)

    def execute(self, x: NDArray[np.float32] | NDArray[np.float16], deadline: Deadline) -> RunResult:
        """Compute one picture; load() came before."""
        program = self._program
        if program is None:
            raise DeviceUnavailable("no program is loaded")
        number = self._request % len(self._slots)
        slot = self._slots[number]
        if (
            x.shape != program.input_shape
        ):  # the device sees bytes only, and as many of them may mean another picture
            raise TensorError(f"the input is {x.shape}; the program takes {program.input_shape}")
        data = x.astype(x.dtype.newbyteorder("<"), copy=False).tobytes()
        slot.write(0, data)
        body = messages.Execute(x.dtype.itemsize, len(data)).pack()
        reply, _ = self._ask(Kind.EXECUTE, Kind.RESULT, deadline, body, slot=number)
        result = messages.Result.unpack(reply.body)
        height, width, channels = program.output_shape
        if reply.slot != number or result.size != height * width * channels * 4:
            raise DeviceUnavailable("the device answered for another request")
        output = np.frombuffer(slot.read(program.output_offset, result.size), "<f4").reshape(
            program.output_shape
        )
        return RunResult(
            output, result.simulated_ns / 1e9, result.wall_ns / 1e9, self.welcome.device_id, self._epoch
        )

    def close(self) -> None:
        """Give the device back; closing twice does nothing."""
        self._free()
        self._socket.close()

    def _free(self) -> None:
        for slot in self._slots:
            slot.close()
        self._slots = []
        self._program = None

    def _ask(
        self,
        kind: Kind,
        expected: Kind,
        deadline: Deadline,
        body: bytes = b"",
        *,
        slot: int = 0,
        on_progress: OnProgress | None = None,
    ) -> tuple[Packet, list[int]]:
        """Send one request and wait for its reply; DeviceError by the reply's code, DeviceUnavailable without
        one.
        """
        self._request += 1
        request, progress = self._request, None
        try:
            self._socket.settimeout(max(deadline.left, 0.001))
            self._socket.send(wire.encode(Packet(kind, request, self._epoch, slot=slot, body=body)))
            while True:
                self._socket.settimeout(max(deadline.left, 0.001))
                reply, fds = _receive(self._socket)
                if reply.kind is Kind.FAIL and reply.request in (request, 0):
                    _close(fds)
                    raise _error(reply)
                if reply.request != request or (self._epoch and reply.epoch != self._epoch):
                    _close(fds)
                    raise DeviceUnavailable("the device answered for another request")
                if reply.kind is Kind.PROGRESS and on_progress is not None:
                    progress = messages.unpack_progress(reply.body)
                    on_progress(progress)
                elif reply.kind is expected:
                    return reply, fds
                else:
                    _close(fds)
                    raise DeviceUnavailable(f"the device answered {kind.name} with {reply.kind.name}")
        except TimeoutError as error:
            what = f"the device is not ready: {progress}" if progress else f"no answer to {kind.name} in time"
            raise DeviceUnavailable(what, progress) from error
        except (OSError, WireError) as error:
            raise DeviceUnavailable(f"the connection to the device is lost: {error}", progress) from error


def status(path: Path, deadline: Deadline) -> str:
    """Return the device's status as JSON text, without owning the device."""
    with contextlib.closing(_connect(path, deadline)) as connection:
        try:
            connection.settimeout(max(deadline.left, 0.001))
            connection.send(wire.encode(Packet(Kind.STATUS, 1)))
            reply, fds = _receive(connection)
        except (OSError, WireError) as error:
            raise DeviceUnavailable(f"the device does not tell its status: {error}") from error
        _close(fds)
        if reply.kind is not Kind.STATUS_REPLY:
            raise _error(reply)
        return reply.text


def _connect(path: Path, deadline: Deadline) -> socket.socket:
    connection = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    connection.settimeout(max(deadline.left, 0.001))
    try:
        connection.connect(str(path))
    except OSError as error:
        connection.close()
        raise DeviceUnavailable(f"there is no device at {path}: {error.strerror or error}") from error
    return connection


def _receive(connection: socket.socket) -> tuple[Packet, list[int]]:
    data, fds, _, _ = socket.recv_fds(connection, wire.MAX_PACKET + 1, MAX_FDS, socket.MSG_CMSG_CLOEXEC)
    if not data:
        _close(fds)
        raise ConnectionResetError("the device closed it")
    try:
        return wire.decode(data), fds
    except WireError:
        _close(fds)
        raise


def _adopt(fds: list[int], count: int, size: int) -> list[memory.Region]:
    if len(fds) != count:
        _close(fds)
        raise DeviceUnavailable(f"the device sent {len(fds)} pieces of memory, not {count}")
    regions: list[memory.Region] = []
    try:
        for index, fd in enumerate(fds):
            try:
                regions.append(memory.adopt(fd, size))
            except memory.UnsealedMemory:
                _close(fds[index + 1 :])
                raise
    except memory.UnsealedMemory as error:
        for region in regions:
            region.close()
        raise DeviceUnavailable(f"the device's memory cannot be trusted: {error}") from error
    return regions


def _close(fds: list[int]) -> None:
    for fd in fds:
        os.close(fd)


def _error(reply: Packet) -> DeviceError | TensorError:
    text = f"{reply.text} (code {int(reply.code)}, {reply.code.name})"
    if reply.code in (Code.FAULTED, Code.WAIT_TIMEOUT):
        return DeviceFaulted(text)
    if reply.code in (Code.PROGRAM_REJECTED, Code.TOO_LARGE, Code.INCOMPATIBLE_HARDWARE):
        return ProgramRejected(text)
    if reply.code is Code.HEX:
        return TensorError(text)
    return DeviceUnavailable(text)
