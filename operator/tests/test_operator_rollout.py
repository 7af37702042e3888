"""Rollouts with exclusive devices: tables of the choice, and a simulation that must end without a deadlock."""

import random

import pytest
from fpga_operator.plan.rollout import Strategy, choose, fresh

FRESH = {
    # name: (replicas, placed, free) -> strategy
    "one FPGA, one replica": ((1, 1, 0), Strategy(0, 1)),
    "a second FPGA is free": ((1, 1, 1), Strategy(1, 0)),
    "first rollout on free devices": ((2, 0, 3), Strategy(1, 0)),
    "first rollout on just enough": ((3, 0, 3), Strategy(0, 1)),
    "three replicas, all devices held": ((3, 3, 0), Strategy(0, 1)),
    "four replicas on three FPGAs: the Pending one counts": ((4, 3, 0), Strategy(0, 2)),
    "two replicas wait for one free device": ((4, 2, 1), Strategy(0, 2)),
}


@pytest.mark.parametrize(("given", "expected"), FRESH.values(), ids=FRESH)
def test_fresh(given: tuple[int, int, int], expected: Strategy) -> None:
    assert fresh(*given) == expected


SURGE, SWAP = Strategy(1, 0), Strategy(0, 1)
KEPT = {
    # name: (current, starting, stuck, replicas, placed, free) -> strategy
    "no Deployment yet": ((None, False, False, 1, 0, 2), SURGE),
    "nothing rolls: free devices come and go without a write": ((SURGE, False, False, 1, 1, 0), SURGE),
    "a rollout starts": ((SURGE, True, False, 1, 1, 0), SWAP),
    "the surge pod took the free device": ((SURGE, False, False, 1, 2, 0), SURGE),
    "the free device went to another service": ((SURGE, False, True, 1, 1, 0), SWAP),
    "stuck with replicas that have no device": ((SWAP, False, True, 4, 2, 0), Strategy(0, 3)),
}


@pytest.mark.parametrize(("given", "expected"), KEPT.values(), ids=KEPT)
def test_choose(given: tuple[Strategy | None, bool, bool, int, int, int], expected: Strategy) -> None:
    current, starting, stuck, replicas, placed, free = given
    chosen = choose(current, starting=starting, stuck=stuck, replicas=replicas, placed=placed, free=free)
    assert chosen == expected


@pytest.mark.parametrize("seed", range(200))
def test_no_rollout_deadlocks_and_none_with_a_spare_device_drops_below_its_replicas(seed: int) -> None:
    """The Deployment controller's rules on a few devices, with a neighbour that may grab a free one at any time."""
    chance = random.Random(seed)
    replicas, devices = chance.randint(1, 4), chance.randint(1, 5)
    old = min(replicas, devices)
    neighbour_comes = chance.random() < 0.4
    free = devices - old
    old_pending, new, new_pending = replicas - old, 0, 0
    current = choose(None, starting=True, stuck=False, replicas=replicas, placed=old, free=free)
    stolen = False
    spare_throughout = free >= 1 and old == replicas and not neighbour_comes
    for _ in range(100):
        if neighbour_comes and free and chance.random() < 0.5:
            free, neighbour_comes, stolen = free - 1, False, True
        # The Deployment controller: unhealthy old pods go first, then as many as availability allows, then new ones.
        available = old + new
        removable = max(0, available - (replicas - current.unavailable))
        old_pending -= min(old_pending, current.unavailable)
        total = old + old_pending + new + new_pending
        new_pending += max(0, min(replicas + current.surge - total, replicas - new - new_pending))
        # Old pods end at once, and their devices are free.
        gone = min(old, removable)
        old, free = old - gone, free + gone
        # The scheduler and the server: a pending pod with a device is ready.
        started = min(new_pending, free)
        new, new_pending, free = new + started, new_pending - started, free - started
        if spare_throughout:
            assert old + new >= replicas
        if not old and not old_pending and (new == replicas or not free):
            assert new == min(replicas, devices - stolen)
            return
        stuck = new_pending > 0 and started == 0 and gone == 0
        current = choose(current, starting=False, stuck=stuck, replicas=replicas, placed=old + new, free=free)
    pytest.fail(
        f"deadlock: {replicas} replicas on {devices} devices, {old} old, {new} new, {new_pending} pending"
    )
