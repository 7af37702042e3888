"""A card's registers: state, health, temperature, counters. Knows no socket and computes nothing.

Two clocks are counted here and never added: `simulated_seconds` is what the real accelerator would have
taken, `wall_seconds` what this machine took to emulate it.
"""

import math
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field

from npu.device.changes import Changes
from npu.device.faults import FAULTS, Fault
from npu.device.states import State, check

__all__ = ["Card", "Counters", "Thermometer", "Utilisation"]

IDLE_CELSIUS = (
    45.0  # a plausible card in a plausible server; no public measurement (npu facts name the registers only)
)
BUSY_CELSIUS = 68.0
THERMAL_SECONDS = 40.0  # time constant of board and cooler
UTILISATION_SECONDS = 10.0  # window


@dataclass
class Counters:
    """What only ever grows while the process lives."""

    inferences: int = 0
    simulated_seconds: float = 0.0
    wall_seconds: float = 0.0
    reconfigurations: int = 0
    reconfiguration_seconds: float = 0.0
    loads: int = 0
    faults: int = 0


class Thermometer:
    """A first-order thermal model, stepped whenever the load changes or somebody looks."""

    def __init__(self, now: float) -> None:
        self._celsius = IDLE_CELSIUS
        self._since = now
        self._target = IDLE_CELSIUS

    def read(self, now: float) -> float:
        """Return degrees Celsius at `now` (monotonic seconds)."""
        self._celsius = self._target + (self._celsius - self._target) * math.exp(
            (self._since - now) / THERMAL_SECONDS
        )
        self._since = now
        return self._celsius

    def load(self, now: float, utilisation: float) -> None:
        """From `now` on the card is this busy (0 to 1)."""
        self.read(now)
        self._target = IDLE_CELSIUS + (BUSY_CELSIUS - IDLE_CELSIUS) * utilisation


class Utilisation:
    """The share of the last ten wall seconds during which the card computed."""

    def __init__(self) -> None:
        self._spans: deque[tuple[float, float]] = deque()

    def add(self, start: float, end: float) -> None:
        """Count the span from `start` to `end` (monotonic seconds)."""
        self._spans.append((start, end))
        self._forget(end)

    def read(self, now: float, busy_since: float | None = None) -> float:
        """Return 0 to 1; `busy_since` is the beginning of a computation that still runs."""
        self._forget(now)
        begin = now - UTILISATION_SECONDS
        spans = [*self._spans, *([(busy_since, now)] if busy_since is not None else [])]
        return min(1.0, sum(end - max(start, begin) for start, end in spans) / UTILISATION_SECONDS)

    def _forget(self, now: float) -> None:
        while self._spans and self._spans[0][1] <= now - UTILISATION_SECONDS:
            self._spans.popleft()


@dataclass
class Card:
    """One card. Change its state by `move`; `changes` tells whoever watches, but not of every request."""

    id: str
    sku: str
    clock: Callable[[], float] = time.monotonic
    state: State = State.ABSENT
    model_digest: str = ""
    owner: bool = False
    epoch: int = 0
    counters: Counters = field(default_factory=Counters)
    active: dict[str, Fault] = field(default_factory=dict)
    changes: Changes = field(default_factory=Changes)

    def __post_init__(self) -> None:
        self._thermometer = Thermometer(self.clock())
        self._utilisation = Utilisation()
        self._busy_since: float | None = None
        # Microseconds since 1970: a restarted process never hands out an epoch that its predecessor has used.
        self.epoch = self.epoch or time.time_ns() // 1000

    def move(self, state: State) -> None:
        """Go to `state`; raises ImpossibleTransition where a card cannot."""
        check(self.state, state)
        now = self.clock()
        if self._busy_since is not None:
            self._utilisation.add(self._busy_since, now)
        self._busy_since = now if state is State.BUSY else None
        folded = {self.state, state} == {State.READY, State.BUSY}
        self.state = state
        if not folded:
            self.changes.notify()

    def own(self, owned: bool) -> int:
        """Record that somebody took the card or left it; return the new session epoch."""
        self.owner = owned
        return self.next_epoch()

    def next_epoch(self) -> int:
        """Begin a new epoch: whatever was computed before belongs to nobody."""
        self.epoch += 1
        self.changes.notify()
        return self.epoch

    def inject(self, kind: str) -> Fault:
        """Record a fault as active; return its row. Raises KeyError for an unknown kind."""
        fault = FAULTS[kind]
        if kind not in self.active:
            self.counters.faults += 1
        self.active[kind] = fault
        self.changes.notify()
        return fault

    def clear(self, kind: str) -> None:
        """End a fault; ending one that is not active does nothing. Raises KeyError for an unknown kind."""
        FAULTS[kind]
        if self.active.pop(kind, None) is not None:
            self.changes.notify()

    @property
    def reason(self) -> str:
        """Why the card is unhealthy, or an empty string."""
        return "; ".join(f"{fault.reason}: {fault.message}" for fault in self.active.values())

    @property
    def temperature_c(self) -> float:
        """What the sensor reads, degrees Celsius."""
        now = self.clock()
        self._thermometer.load(now, self._utilisation.read(now, self._busy_since))
        forced = [fault.temperature_c for fault in self.active.values() if fault.temperature_c is not None]
        return max([self._thermometer.read(now), *forced])

    def status(self) -> dict[str, object]:
        """Return the whole state as the control socket and STATUS show it."""
        counters = self.counters
        return {
            "id": self.id,
            "sku": self.sku,
            "state": str(self.state),
            "health": "Unhealthy" if self.active else "Healthy",
            "reason": self.reason,
            "modelDigest": self.model_digest,
            "owner": self.owner,
            "temperatureC": round(self.temperature_c, 1),
            "utilisation": round(self._utilisation.read(self.clock(), self._busy_since), 4),
            "inferences": counters.inferences,
            "simulatedSeconds": counters.simulated_seconds,
            "wallSeconds": counters.wall_seconds,
            "reconfigurations": counters.reconfigurations,
            "reconfigurationSeconds": counters.reconfiguration_seconds,
            "loads": counters.loads,
            "faults": counters.faults,
            "epoch": self.epoch,
        }
