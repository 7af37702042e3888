"""The registers, with a clock that the test turns."""

import pytest
from npu.device.card import BUSY_CELSIUS, IDLE_CELSIUS, Card
from npu.device.states import State


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def card(clock: Clock) -> Card:
    card = Card("fpga0", "bw-cnn-a10", clock)
    for state in (State.GOLDEN, State.FLASHING, State.IDLE, State.LOADING, State.READY):
        card.move(state)
    return card


def test_computing_warms_and_rest_cools(card: Card, clock: Clock) -> None:
    assert card.temperature_c == pytest.approx(IDLE_CELSIUS)
    card.move(State.BUSY)
    for _ in range(100):
        clock.now += 10
        card.status()
    assert card.temperature_c == pytest.approx(BUSY_CELSIUS, abs=0.1)
    card.move(State.READY)
    for _ in range(100):
        clock.now += 10
        card.status()
    assert card.temperature_c == pytest.approx(IDLE_CELSIUS, abs=0.1)


def test_utilisation_is_of_the_last_ten_seconds(card: Card, clock: Clock) -> None:
    clock.now += 100
    card.move(State.BUSY)
    clock.now += 4
    assert card.status()["utilisation"] == pytest.approx(0.4)
    card.move(State.READY)
    clock.now += 8
    assert card.status()["utilisation"] == pytest.approx(0.2)
    clock.now += 10
    assert card.status()["utilisation"] == 0


def test_faults_set_and_clear_health(card: Card) -> None:
    card.inject("temperature")
    card.inject("hang")
    status = card.status()
    assert status["health"] == "Unhealthy"
    assert "OverTemperature" in str(status["reason"])
    assert "Hang" in str(status["reason"])
    assert status["temperatureC"] == 105.0
    card.clear("temperature")
    assert card.status()["health"] == "Unhealthy"
    card.clear("hang")
    card.clear("hang")
    assert (card.status()["health"], card.status()["reason"]) == ("Healthy", "")
    assert card.counters.faults == 2


def test_the_same_fault_twice_is_one(card: Card) -> None:
    card.inject("hang")
    card.inject("hang")
    assert card.counters.faults == 1


def test_unknown_faults_are_key_errors(card: Card) -> None:
    for method in (card.inject, card.clear):
        with pytest.raises(KeyError):
            method("flood")


def test_requests_are_no_news_but_everything_else_is(card: Card) -> None:
    before = card.changes.count
    card.move(State.BUSY)
    card.move(State.READY)
    assert card.changes.count == before
    card.move(State.LOADING)
    assert card.changes.count == before + 1
    card.own(True)
    assert card.changes.count == before + 2


def test_epochs_only_grow_also_over_restarts(card: Card) -> None:
    first = card.own(True)
    assert card.next_epoch() > first
    assert Card("fpga0", "bw-cnn-a10").epoch > first
