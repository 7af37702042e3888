"""Replicas on ill hardware: when one moves, when it waits, what is said; the time is given, nothing sleeps."""

from collections.abc import Mapping
from datetime import timedelta
from typing import Any

import pytest
from fpga_operator.api.accelservice import AccelServiceStatus
from fpga_operator.plan.devices import DeviceView, NodeView, ServingPod, free_devices, idle_devices
from fpga_operator.plan.types import Plan
from operator_samples import NOW
from test_operator_service import GOOD, LACK, child, live, message, plan, pod, spec, summary

ILL, FREE = "a/0", "b/0"


def seconds_ago(seconds: float) -> Any:
    return NOW - timedelta(seconds=seconds)


def node(name: str, *, ready: bool = True, since: float = 3600) -> NodeView:
    return NodeView(name, {}, (), ready, f"192.0.2.{ord(name)}", seconds_ago(since))


NODES = (node("a"), node("b"))


def device(place: str, health: str = "ok", holder: str = "") -> DeviceView:
    """`health`: ok, ill 12 (for 12 s), ok 3 (healthy again for 3 s)."""
    where, _, name = place.partition("/")
    word, _, for_seconds = health.partition(" ")
    return DeviceView(
        where,
        name,
        word == "ok",
        ("demo", holder) if holder else None,
        "" if word == "ok" else "OverTemperature: too hot",
        seconds_ago(float(for_seconds)) if for_seconds else None,
    )


def on(place: str, name: str = "p1", **more: Any) -> Any:
    return pod(name, node=place[0], placed=-3600, unready=-60, **more)


def status(**held: str) -> AccelServiceStatus:
    """p1 on a/0 with this health, and whether it was lost."""
    found = {"pod": "p1", "node": "a", "device": "0", "health": "Healthy", **held}
    return GOOD.model_copy(
        update={
            "devices": AccelServiceStatus.model_validate(
                {"devices": [{**found, "lost": bool(held.get("lost"))}]}
            ).devices
        }
    )


CASES: Mapping[str, tuple[dict[str, Any], set[str], str]] = {
    # name: (world) -> pods deleted, summary
    "ill for 9 s: may pass by itself": (
        {"devices": (device(ILL, "ill 9", "p1"), device(FREE))},
        set(),
        "Transitioning F/F R DeviceUnhealthy",
    ),
    "ill for 10 s, another one free": (
        {"devices": (device(ILL, "ill 10", "p1"), device(FREE))},
        {"p1"},
        "Transitioning F/F R DeviceUnhealthy",
    ),
    "none free: stays": (
        {"devices": (device(ILL, "ill 500", "p1"), device(FREE, "ok", "other"))},
        set(),
        "Unschedulable F/F R DeviceUnhealthy",
    ),
    "the free one is ill as well": (
        {"devices": (device(ILL, "ill 500", "p1"), device(FREE, "ill 1"))},
        set(),
        "Unschedulable F/F R DeviceUnhealthy",
    ),
    "the free one is healthy for 3 s only": (
        {"devices": (device(ILL, "ill 500", "p1"), device(FREE, "ok 3"))},
        set(),
        "Unschedulable F/F R DeviceUnhealthy",
    ),
    "the free one is on a node that may not be used": (
        {"devices": (device(ILL, "ill 500", "p1"), device(FREE)), "nodes": (node("a"), node("b", ready=False))},
        set(),
        "Unschedulable F/F R DeviceUnhealthy",
    ),
    "a pod that was just placed takes the free one": (
        {
            "devices": (device(ILL, "ill 500", "p1"), device(FREE)),
            "serving_pods": (ServingPod("demo", "p1", "digits", "a"), ServingPod("x", "new", "y", "b")),
        },
        set(),
        "Unschedulable F/F R DeviceUnhealthy",
    ),
    "it answers although its device is said to be ill": (
        {"devices": (device(ILL, "ill 500", "p1"), device(FREE)), "pods": (on(ILL, ready=True),)},
        set(),
        "Healthy T/T - Serving",
    ),
    "a short healthy moment, then ill again: was lost before": (
        {"devices": (device(ILL, "ill 1", "p1"), device(FREE)), "status": status(lost="yes", health="Healthy")},
        {"p1"},
        "Transitioning F/F R DeviceUnhealthy",
    ),
    "healthy for a moment: nothing moves, its server loads": (
        {"devices": (device(ILL, "ok 1", "p1"), device(FREE)), "status": status(lost="yes", health="Unhealthy")},
        set(),
        "Transitioning F/F R ReplicasNotReady",
    ),
    "ill for longer than the deadline is no failed rollout": (
        {"devices": (device(ILL, "ill 5000", "p1"),), "pods": (pod(node="a", placed=-9000, unready=-5000),)},
        set(),
        "Unschedulable F/F R DeviceUnhealthy",
    ),
    "well again after an hour: the clock begins anew": (
        {"devices": (device(ILL, "ok 20", "p1"),), "pods": (pod(node="a", placed=-9000, unready=-5000),)},
        set(),
        "Transitioning F/F R ReplicasNotReady",
    ),
    "its node is away for 29 s": (
        {"devices": (device(ILL, "ok", "p1"), device(FREE)), "nodes": (node("a", ready=False, since=29), node("b"))},
        set(),
        "Transitioning F/F R DeviceUnhealthy",
    ),
    "its node is away for 30 s": (
        {"devices": (device(ILL, "ok", "p1"), device(FREE)), "nodes": (node("a", ready=False, since=30), node("b"))},
        {"p1"},
        "Transitioning F/F R DeviceUnhealthy",
    ),
    "its node died before it could say which device it has": (
        {"devices": (device(ILL), device(FREE)), "nodes": (node("a", ready=False, since=30), node("b"))},
        {"p1"},
        "Transitioning F/F R DeviceUnhealthy",
    ),
    "its node is away for 30 s, and no other device": (
        {"devices": (device(ILL, "ok", "p1"),), "nodes": (node("a", ready=False, since=30), node("b"))},
        set(),
        "Unschedulable F/F R DeviceUnhealthy",
    ),
    "its node is gone: Kubernetes removes the pod": (
        {"devices": (device(ILL, "ok", "p1"), device(FREE)), "nodes": (node("b"),)},
        set(),
        "Transitioning F/F R DeviceUnhealthy",
    ),
    "the spec says how long it stays on a node that is away": (
        {
            "wanted": spec(placement={"tolerations": [{"key": "node.kubernetes.io/unreachable",
                                                       "operator": "Exists"}]}),
            "devices": (device(ILL, "ok", "p1"), device(FREE)),
            "nodes": (node("a", ready=False, since=3000), node("b")),
        },
        set(),
        "",
    ),
    "suspended: it ends anyway": (
        {"wanted": spec(suspend=True), "devices": (device(ILL, "ill 500", "p1"), device(FREE))},
        set(),
        "Transitioning F/F R Suspending",
    ),
}  # fmt: skip


def look(wanted: Any = None, **world: Any) -> Plan:
    return plan(
        wanted,
        **{
            "deployment": live(wanted),
            "pods": (on(ILL),),
            "nodes": NODES,
            "status": status(),
            **world,
        },
    )


@pytest.mark.parametrize(("world", "deleted", "told"), CASES.values(), ids=CASES)
def test_who_moves(world: dict[str, Any], deleted: set[str], told: str) -> None:
    result = look(**dict(world))
    assert {ref.name for ref in result.deletes} == deleted, result.status
    assert not told or summary(result) == told, message(result, "Ready")


@pytest.mark.parametrize(("world", "_", "__"), CASES.values(), ids=CASES)
def test_looking_twice_writes_nothing(world: dict[str, Any], _: object, __: object) -> None:
    first = look(**dict(world))
    again = look(**{**world, "status": AccelServiceStatus.model_validate(first.status)})
    assert again.status == first.status
    assert {event.reason for event in again.events} <= {"ReplicaMoved"}


def test_of_two_lost_replicas_as_many_move_as_devices_are_free() -> None:
    two = spec(replicas=2)
    ill = (device("a/0", "ill 60", "p1"), device("a/1", "ill 60", "p2"), device("b/0"))
    pods = (on(ILL), on(ILL, "p2"))
    world: dict[str, Any] = {"deployment": live(two), "devices": ill}
    assert [ref.name for ref in look(two, pods=pods, **world).deletes] == ["p1"]
    # The first one's successor is not placed yet: the free device is its own.
    assert not look(two, pods=(on(ILL, "p2"),), **world).deletes
    waiting = (pod("p3", why=LACK, placed=-5), on(ILL, "p2"))
    assert not look(two, pods=waiting, **world).deletes


def test_the_time_to_look_again_is_when_it_would_move() -> None:
    result = look(devices=(device(ILL, "ill 4", "p1"), device(FREE)))
    assert result.requeue_after == 6
    free_soon = look(devices=(device(ILL, "ill 40", "p1"), device(FREE, "ok 3")), status=status(lost="yes"))
    assert free_soon.requeue_after == 7


def test_what_is_told_has_device_node_reason_and_what_comes_of_it() -> None:
    waits = look(devices=(device(ILL, "ill 40", "p1"), device(FREE, "ok", "other")))
    text = message(waits, "DevicesAvailable")
    assert "p1: FPGA 0 on a is unhealthy (OverTemperature: too hot)" in text
    assert "b: pod demo/other (1)" in text, "who is in the way, by namespace and name"
    assert waits.status["devices"] == [
        {"pod": "p1", "node": "a", "device": "0", "health": "Unhealthy", "lost": True,
         "reason": "OverTemperature: too hot"}
    ]  # fmt: skip
    assert [event.reason for event in waits.events] == ["DeviceUnhealthy", "DeviceUnhealthy"], (
        "one of the device, one of Ready"
    )
    moves = look(devices=(device(ILL, "ill 40", "p1"), device(FREE)), status=status(health="Unhealthy"))
    assert [event.reason for event in moves.events if event.note.startswith("deleted")] == ["ReplicaMoved"]
    well = look(devices=(device(ILL, "ok 11", "p1"),), status=status(health="Unhealthy", lost="yes"))
    assert "DeviceHealthy" in [event.reason for event in well.events]
    assert "lost" not in well.status["devices"][0]


def test_nodes_that_are_away_are_named_and_their_devices_do_not_count() -> None:
    away = (node("a", ready=False), node("b"))
    result = look(
        pods=(pod(why=LACK),),
        nodes=away,
        devices=(device("a/0"), device("a/1"), device("b/0", "ok", "other"), device("gone/0")),
    )
    text = message(result, "DevicesAvailable")
    assert "a: the node is not ready (2)" in text
    assert "gone: no such node any more (1)" in text
    assert "of 4 FPGAs" in text


def test_a_pod_stuck_on_a_dead_node_does_not_keep_a_rollout_from_being_corrected() -> None:
    surging = live()
    surging["spec"]["strategy"]["rollingUpdate"] = {"maxSurge": 1, "maxUnavailable": 0}
    old = pod("old", revision="0000", node="b", ready=True)
    stuck = pod("stuck", revision="0000", node="a", terminating=True)
    world: dict[str, Any] = {
        "deployment": surging,
        "pods": (old, stuck, pod("new", placed=-60, why=LACK)),
        "devices": (device("a/0", "ok", "stuck"), device("b/0", "ok", "old")),
    }
    dead = look(**world, nodes=(node("a", ready=False), node("b")))
    assert child(dead, "Deployment")["spec"]["strategy"]["rollingUpdate"]["maxSurge"] == 0
    alive = look(**world)
    assert child(alive, "Deployment")["spec"]["strategy"]["rollingUpdate"]["maxSurge"] == 1


COUNTS: Mapping[str, tuple[tuple[DeviceView, ...], int, int]] = {
    # name: (devices of nodes a and b) -> places that the scheduler has, devices that a pod could move to
    "all free": ((device("a/0"), device("a/1"), device("b/0")), 3, 3),
    "an ill one that is held takes up a place": ((device("a/0", "ill 60", "x"), device("a/1")), 0, 1),
    "an ill one that nobody holds takes up none": ((device("a/0", "ill 60"), device("a/1")), 1, 1),
    "nodes are counted one by one": ((device("a/0", "ill 60", "x"), device("b/0")), 1, 1),
    "just healthy again: there, and not yet to be counted on": ((device("a/0", "ok 2"),), 1, 0),
    "healthy again for long": ((device("a/0", "ok 10"),), 1, 1),
}


@pytest.mark.parametrize(("devices", "places", "idle"), COUNTS.values(), ids=COUNTS)
def test_what_is_free(devices: tuple[DeviceView, ...], places: int, idle: int) -> None:
    nodes = frozenset("ab")
    assert free_devices(devices, (), nodes) == places
    assert idle_devices(devices, (), nodes, NOW, 10) == idle


FLAPPING = {
    # name: (seconds of ill and well in turn, from now on) -> whether the replica moved at some time
    "2 s ill, 2 s well, for a minute": ([2, 2] * 15, False),
    "9 s ill, 1 s well, for a minute": ([9, 1] * 6, False),
    "ill for 11 s": ([11], True),
    "flaps, then ill for good": ([3, 3, 3, 3, 20], True),
}


@pytest.mark.parametrize(("spells", "moved"), FLAPPING.values(), ids=FLAPPING)
def test_flapping_shorter_than_the_hysteresis_moves_nothing(spells: list[int], moved: bool) -> None:
    """One look a second, each with the status of the one before."""
    seen, second, deleted = status(), 0, False
    for number, spell in enumerate(spells):
        began = NOW + timedelta(seconds=second)
        well = number % 2 == 1
        for _ in range(spell):
            held = DeviceView("a", "0", well, ("demo", "p1"), "" if well else "Hang", began)
            result = look(devices=(held, device(FREE)), status=seen, seconds=second)
            seen = AccelServiceStatus.model_validate(result.status)
            deleted = deleted or bool(result.deletes)
            second += 1
    assert deleted is moved
