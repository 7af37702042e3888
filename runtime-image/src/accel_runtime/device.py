"""The one FPGA of this server: loaded by a thread of its own, watched, and loaded again when it was lost.

`npu.device.client.DeviceClient` already waits for a lost device within a request's time and asks again.
What is added here: loading without a request (an unready server gets none), the state that health checks
and error texts show, and the end of a request's patience a little before its deadline, so that the client
reads our reason and not its own.
"""

import logging
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from npu.device.client import DeviceClient, DeviceError, ProgramRejected, TensorError
from numpy.typing import NDArray

from accel_runtime.errors import InvalidInput, NotReady, TooLate
from accel_runtime.pipeline import DeviceRun

__all__ = ["DeviceKeeper", "DeviceLink", "DeviceState", "Ticket"]

_log = logging.getLogger(__name__)
_WATCH = 0.5  # seconds between looks at the device
_BACKOFF = (0.2, 3.0)  # seconds before loading is tried again: first, longest
_MARGIN = 0.25  # seconds before the deadline at which waiting ends; at most a tenth of what is left
_WORKING = ("ready", "busy")
_FOR_GOOD = "DeviceSkuMismatch: "  # of all refusals the one that no retry can change


class DeviceLink(Protocol):
    """What the keeper uses of DeviceClient."""

    def load(
        self, program: bytes, *, on_progress: Callable[[Any], None] | None = None, timeout: float = 600.0
    ) -> object:
        """Bring the device to ready with this program."""

    def run(self, x: NDArray[np.float32], *, timeout: float = 30.0) -> DeviceRun:
        """Compute one picture [H,W,C], waiting at most `timeout` seconds for a device that was lost."""

    def info(self, *, timeout: float = 5.0) -> dict[str, Any]:
        """Return the device's status."""

    def close(self) -> None:
        """Give the device back."""


@dataclass(frozen=True)
class DeviceState:
    """What the keeper knows. `served` is whether the device has ever been ready; `refused` is the card's word that
    it will never run the program.
    """

    ready: bool
    served: bool
    text: str
    refused: str = ""


@dataclass
class Ticket:
    """One request's claim on the device: until when it waits (monotonic seconds), and whether it still
    wants to.
    """

    deadline: float | None = None
    cancelled: bool = False

    def patience(self, hold: float) -> float:
        """Return how many seconds this request may still wait: `hold` if its caller gave no deadline."""
        if self.deadline is None:
            return hold
        left = self.deadline - time.monotonic()
        return max(0.0, left - min(_MARGIN, left / 10))


class DeviceKeeper:
    """Keeps `program` on the device at `socket` (None: no device was allocated).

    `on_change` is called at each change of state, from the keeper's thread or a request's.
    """

    def __init__(
        self,
        socket: Path | None,
        program: bytes,
        *,
        hold: float = 30.0,
        on_change: Callable[[DeviceState], None] | None = None,
    ) -> None:
        self._link: DeviceLink | None = None if socket is None else DeviceClient(socket)
        self._program = program
        self._hold = hold
        self._on_change = on_change
        self._closing = threading.Event()
        self._lock = threading.Lock()
        self._turn = threading.Lock()
        text = "the FPGA is not connected yet"
        if socket is None:
            text = "no FPGA is allocated to this container: FPGA_DEVICES is empty"
        self._state = DeviceState(False, False, text)
        self._thread = threading.Thread(target=self._keep, name="device-keeper", daemon=True)

    @property
    def state(self) -> DeviceState:
        """The present state."""
        return self._state

    def start(self) -> None:
        """Begin to load."""
        self._thread.start()

    def close(self) -> None:
        """Give the device back. A computation that has begun is finished first."""
        self._closing.set()
        if self._link is not None and self._state.ready:
            self._link.close()
            self._thread.join(timeout=5)

    def run(self, x: NDArray[np.float32], ticket: Ticket | None = None) -> DeviceRun:
        """Compute one picture [H,W,C] float32.

        Raises NotReady with the reason when the device cannot in time, TooLate when other requests took the
        time, InvalidInput for numbers that are not finite.
        """
        ticket = ticket or Ticket()
        if self._link is None or not self._state.served:  # the client learns how far it is, and asks again
            raise NotReady(self._state.text)
        if ticket.cancelled or not self._turn.acquire(timeout=ticket.patience(self._hold)):
            if self._state.ready:
                raise TooLate("the FPGA was busy with other requests until the deadline")
            raise NotReady(f"the FPGA was lost and is not back yet: {self._state.text}")
        # A computation that has begun is not cut off by a deadline: the session would have to be made anew.
        # That the caller waits no longer than it wants is the service's business.
        patience = self._hold if self._state.ready else ticket.patience(self._hold)
        try:
            return self._link.run(x, timeout=patience)
        except TensorError as error:
            raise InvalidInput(f"the FPGA refuses the picture: {error}") from error
        except DeviceError as error:
            raise NotReady(f"the FPGA cannot compute: {error}") from error
        finally:
            self._turn.release()

    def _keep(self) -> None:
        pause = _BACKOFF[0]
        link = self._link
        while link is not None and not self._closing.is_set():
            try:
                link.load(self._program, on_progress=lambda step: self._set(False, f"the FPGA is {step}"))
            except Exception as error:  # whatever it is, but for one word the server lives and says so
                refused = _refused(error)
                self._set(False, f"the FPGA cannot be loaded: {error}", refused)
                _log.warning("loading failed", extra={"error": str(error), "kind": type(error).__name__})
                if refused:
                    return
                self._closing.wait(pause)
                pause = min(2 * pause, _BACKOFF[1])
                continue
            pause = _BACKOFF[0]
            self._set(True, "the FPGA is ready")
            self._watch(link)

    def _watch(self, link: DeviceLink) -> None:
        """Return when the device no longer works, or the server ends."""
        while not self._closing.wait(_WATCH):
            try:
                info = link.info(timeout=5.0)
            except DeviceError as error:
                self._set(False, f"the FPGA was lost: {error}")
                return
            if info["state"] not in _WORKING:
                reason = info.get("reason")
                self._set(False, f"the FPGA is {info['state']}" + (f": {reason}" if reason else ""))
                return

    def _set(self, ready: bool, text: str, refused: str = "") -> None:
        with self._lock:
            before = self._state
            self._state = DeviceState(ready, before.served or ready, text, refused)
        if self._state.ready != before.ready:
            _log.info("device", extra={"ready": ready, "text": text})
        if self._state != before and self._on_change is not None:
            self._on_change(self._state)


def _refused(error: Exception) -> str:
    """Return the card's words if it will never run the program."""
    return str(error) if isinstance(error, ProgramRejected) and str(error).startswith(_FOR_GOOD) else ""
