"""The states of a card and the ways between them. Pure: who drives the changes is `npu.device.card`'s
business.
"""

from collections.abc import Mapping
from enum import StrEnum
from types import MappingProxyType

__all__ = ["TRANSITIONS", "WIRE_STATES", "ImpossibleTransition", "State", "check"]


class State(StrEnum):
    """What a card is doing. The golden image is a real state: power-on, every reset and every cured fault
    lead there.
    """

    ABSENT = "absent"  # nothing answers on the bus
    GOLDEN = "golden"  # the safe factory image runs; it can do nothing but be flashed
    FLASHING = "flashing"  # the accelerator's bitstream is being written: seconds
    IDLE = "idle"  # the accelerator runs without a program
    LOADING = "loading"  # weights and firmware of one program go over the bus: tens of milliseconds
    READY = "ready"  # a program is loaded
    BUSY = "busy"  # it computes
    FAULTED = "faulted"  # a fault is active: nothing is accepted until it is cleared


TRANSITIONS: Mapping[State, frozenset[State]] = MappingProxyType(
    {
        State.ABSENT: frozenset({State.GOLDEN}),
        State.GOLDEN: frozenset({State.FLASHING, State.FAULTED, State.ABSENT}),
        State.FLASHING: frozenset({State.IDLE, State.GOLDEN, State.FAULTED, State.ABSENT}),
        State.IDLE: frozenset({State.LOADING, State.GOLDEN, State.FAULTED, State.ABSENT}),
        State.LOADING: frozenset({State.READY, State.IDLE, State.GOLDEN, State.FAULTED, State.ABSENT}),
        State.READY: frozenset({State.BUSY, State.LOADING, State.GOLDEN, State.FAULTED, State.ABSENT}),
        State.BUSY: frozenset({State.READY, State.GOLDEN, State.FAULTED, State.ABSENT}),
        State.FAULTED: frozenset({State.GOLDEN, State.ABSENT}),
    }
)

WIRE_STATES = tuple(State)  # a state's number on the wire is its place here: append only


class ImpossibleTransition(AssertionError):
    """A change that no card makes: a bug in the emulator, never a client's doing."""


def check(before: State, after: State) -> None:
    """Raise ImpossibleTransition unless a card can go from `before` to `after` in one step."""
    if after not in TRANSITIONS[before]:
        raise ImpossibleTransition(f"a card does not go from {before} to {after}")
