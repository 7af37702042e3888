"""The status contract: situations, the conditions that go with each, and times that move only with the status."""

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from enum import Enum

from fpga_operator.api.base import Condition, State, StatusBase
from fpga_operator.plan.types import Event, Owner, format_time

MAX_MESSAGE = 2048


class Situation(Enum):
    """The rows of the status contract's table."""

    WORKING = "working towards spec"
    WAITING = "waits for an upstream object"
    UNSCHEDULABLE = "waits for a free device"
    SERVING = "as specified"
    DEGRADED = "fewer replicas than wanted, some serve"
    FAILED = "a person must act"
    SUSPENDED = "suspended"


@dataclass(frozen=True)
class Row:
    """One row: state and which summary conditions are True."""

    state: State
    ready: bool
    reconciling: bool
    stalled: bool


TABLE = {
    Situation.WORKING: Row(State.TRANSITIONING, ready=False, reconciling=True, stalled=False),
    Situation.WAITING: Row(State.TRANSITIONING, ready=False, reconciling=True, stalled=False),
    Situation.UNSCHEDULABLE: Row(State.UNSCHEDULABLE, ready=False, reconciling=True, stalled=False),
    Situation.SERVING: Row(State.HEALTHY, ready=True, reconciling=False, stalled=False),
    Situation.DEGRADED: Row(State.UNHEALTHY, ready=False, reconciling=True, stalled=False),
    Situation.FAILED: Row(State.FAILED, ready=False, reconciling=False, stalled=True),
    Situation.SUSPENDED: Row(State.HEALTHY, ready=True, reconciling=False, stalled=False),
}


def clip(message: str) -> str:
    """Cut a message to what a condition holds, and say so."""
    text = " ".join(message.split())
    return text if len(text) <= MAX_MESSAGE else text[: MAX_MESSAGE - 6].rstrip() + " (cut)"


class Conditions:
    """Builds the next list of conditions from the previous one."""

    def __init__(self, owner: Owner, previous: StatusBase, now: datetime) -> None:
        self._owner = owner
        self._previous = {condition.type: condition for condition in previous.conditions}
        self._now = format_time(now)
        self._next: dict[str, Condition] = {}
        self.state = State.TRANSITIONING

    def set(self, kind: str, status: bool | None, reason: str, message: str) -> None:
        """State one condition; None is Unknown."""
        text = {True: "True", False: "False", None: "Unknown"}[status]
        before = self._previous.get(kind)
        self._next[kind] = Condition.model_validate(
            {
                "type": kind,
                "status": text,
                "observedGeneration": self._owner.generation,
                "lastTransitionTime": before.last_transition_time
                if before is not None and before.status == text
                else self._now,
                "reason": reason,
                "message": clip(message),
            }
        )

    def keep(self, kind: str) -> None:
        """Carry a condition over as it was, for the present generation."""
        before = self._previous.get(kind)
        if before is not None:
            self._next[kind] = before.model_copy(update={"observed_generation": self._owner.generation})

    def summarise(
        self, situation: Situation, reason: str, message: str, *, available: tuple[bool, str]
    ) -> None:
        """Set Ready, Available, and at most one of Reconciling and Stalled, from the table."""
        row = TABLE[situation]
        self.state = row.state
        self.set("Ready", row.ready, reason, message)
        holds, why = available
        self.set("Available", holds, "Available" if holds else "NotAvailable", why)
        if row.reconciling:
            self.set("Reconciling", True, reason, message)
        if row.stalled:
            self.set("Stalled", True, reason, message)

    def build(self) -> tuple[Condition, ...]:
        """Return the conditions, summary first."""
        summary = [kind for kind in ("Ready", "Available", "Reconciling", "Stalled") if kind in self._next]
        rest = [kind for kind in self._next if kind not in summary]
        return tuple(self._next[kind] for kind in [*summary, *rest])


def changes(previous: Iterable[Condition], following: Iterable[Condition]) -> tuple[Event, ...]:
    """Return the event that tells of a new Ready status or reason; nothing when neither changed."""
    before = {condition.type: condition for condition in previous}
    after = {condition.type: condition for condition in following}
    old, new = before.get("Ready"), after["Ready"]
    if old is not None and (old.status, old.reason) == (new.status, new.reason):
        return ()
    bad = "Stalled" in after or new.reason.endswith("Unavailable")
    return (Event("Warning" if bad else "Normal", new.reason, new.message),)
