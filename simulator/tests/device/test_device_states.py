"""The states of a card: which ways lead where, checked against what a card can do."""

from itertools import pairwise

import pytest
from npu.device.states import TRANSITIONS, WIRE_STATES, ImpossibleTransition, State, check


def test_every_state_has_ways_out_and_in() -> None:
    assert set(TRANSITIONS) == set(State)
    assert all(TRANSITIONS.values())
    assert {after for ways in TRANSITIONS.values() for after in ways} == set(State)


def test_power_on_to_answer() -> None:
    way = ["absent", "golden", "flashing", "idle", "loading", "ready", "busy", "ready"]
    for before, after in pairwise(map(State, way)):
        check(before, after)


@pytest.mark.parametrize("state", [state for state in State if state is not State.ABSENT])
def test_a_fault_can_come_in_any_state(state: State) -> None:
    assert state is State.FAULTED or State.FAULTED in TRANSITIONS[state]


@pytest.mark.parametrize("state", [state for state in State if state is not State.GOLDEN])
def test_a_reset_leads_to_golden_from_anywhere(state: State) -> None:
    assert State.GOLDEN in TRANSITIONS[state]


@pytest.mark.parametrize(
    ("before", "after"),
    [
        (State.GOLDEN, State.IDLE),  # the bitstream must be written
        (State.GOLDEN, State.LOADING),
        (State.IDLE, State.READY),  # the weights must be loaded
        (State.IDLE, State.BUSY),
        (State.FAULTED, State.READY),  # nothing survives a fault
        (State.BUSY, State.LOADING),
        (State.ABSENT, State.READY),
    ],
)
def test_no_short_cuts(before: State, after: State) -> None:
    with pytest.raises(ImpossibleTransition, match=f"from {before} to {after}"):
        check(before, after)


def test_numbers_on_the_wire_never_change() -> None:
    assert [str(state) for state in WIRE_STATES] == [
        "absent", "golden", "flashing", "idle", "loading", "ready", "busy", "faulted",
    ]  # fmt: skip
