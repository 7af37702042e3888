"""How a model server uses its card: load a program once, then run pictures, whatever happens to the device
process.

A lost session costs no answer and never gives a wrong one: the computation has no side effect, so the client
connects, loads and asks again, until the caller's time is over. Imports numpy and the standard library only.
"""

import itertools
import json
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from npu.device.connection import Connection, Deadline, ProgramInfo, RunResult, status
from npu.device.errors import DeviceError, DeviceFaulted, DeviceUnavailable, ProgramRejected, Progress
from npu.errors import TensorError

__all__ = [
    "DeviceClient",
    "DeviceError",
    "DeviceFaulted",
    "DeviceUnavailable",
    "ProgramInfo",
    "ProgramRejected",
    "Progress",
    "RunResult",
    "TensorError",
]

T = TypeVar("T")
RETRY_SECONDS = (
    0.01,
    0.02,
    0.05,
    0.1,
    0.2,
)  # then 0.2 for ever: a restarted emulator is back within a second


class DeviceClient:
    """One device, by the path of its socket. Safe to use from several threads, which take turns: the card has
    one pipeline.
    """

    def __init__(self, socket: Path | str) -> None:
        self._path = Path(socket)
        self._turn = threading.Lock()
        self._connection: Connection | None = None
        self._program: bytes | None = None
        self._on_progress: Callable[[Progress], None] = _ignore

    def load(
        self,
        program: bytes,
        *,
        on_progress: Callable[[Progress], None] | None = None,
        timeout: float = 600.0,
    ) -> ProgramInfo:
        """Bring the device to ready with this program, through flashing and loading, within `timeout`
        seconds.

        Waits for a device that is not there yet or has another owner. `on_progress` is called several times a
        second, later also when run() has to load again. Raises DeviceUnavailable when the time is over (its
        `progress` says how far the device was), DeviceFaulted, or ProgramRejected.
        """
        deadline = Deadline(timeout)
        self._take_turn(deadline)
        try:
            self._drop()
            self._program = program
            self._on_progress = on_progress or _ignore
            return self._again(deadline, lambda: self._open(deadline)[1])
        finally:
            self._turn.release()

    def run(self, x: NDArray[np.float32] | NDArray[np.float16], *, timeout: float = 30.0) -> RunResult:
        """Compute one picture [H, W, C] and return its output with both clocks, within `timeout` seconds.

        A lost device process is waited for, loaded again and asked again. Raises DeviceUnavailable when the
        time is over, DeviceFaulted, TensorError for a wrong shape and for numbers that are not finite, or
        ProgramRejected if the program turns out to be too large for the device's process.
        """
        if x.dtype not in (np.float32, np.float16):
            raise TensorError(f"the input is {x.dtype}; the device takes float32 and float16")
        deadline = Deadline(timeout)
        self._take_turn(deadline)
        try:
            return self._again(deadline, lambda: self._run(x, deadline))
        finally:
            self._turn.release()

    def info(self, *, timeout: float = 5.0) -> dict[str, Any]:
        """Return the device's status (state, health, reason, temperatureC, …) without owning it or waiting
        for a run.
        """
        reply: dict[str, Any] = json.loads(status(self._path, Deadline(timeout)))
        return reply

    def close(self) -> None:
        """Give the device back. A later load() or run() takes it again."""
        with self._turn:
            self._drop()

    def _run(self, x: NDArray[np.float32] | NDArray[np.float16], deadline: Deadline) -> RunResult:
        if self._connection is None:
            self._open(deadline)
        assert self._connection is not None
        return self._connection.execute(x, deadline)

    def _open(self, deadline: Deadline) -> tuple[Connection, ProgramInfo]:
        if self._program is None:
            raise ProgramRejected("there is no program; call load() first")
        self._connection = Connection(self._path, deadline)
        return self._connection, self._connection.load(self._program, deadline, self._on_progress)

    def _again(self, deadline: Deadline, step: Callable[[], T]) -> T:
        """Do `step`, again and again while it only says that the device is unavailable and there is time."""
        for attempt in itertools.count():
            try:
                return step()
            except (DeviceFaulted, ProgramRejected):
                self._drop()
                raise
            except DeviceUnavailable:
                self._drop()
                pause = RETRY_SECONDS[min(attempt, len(RETRY_SECONDS) - 1)]
                if deadline.left <= pause:
                    raise
                time.sleep(pause)
        raise AssertionError("unreachable")

    def _take_turn(self, deadline: Deadline) -> None:
        if not self._turn.acquire(timeout=deadline.left):
            raise DeviceUnavailable("the device works for another request of this server")

    def _drop(self) -> None:
        if self._connection is not None:
            self._connection.close()
            self._connection = None


def _ignore(progress: Progress) -> None:
    """Nobody asked for progress."""
