"""Pods that a hand took out of their set: found by the name that the set gave them, and deleted."""

from typing import Any

import pytest
from fpga_operator.plan.strays import home, is_stray, strays_of
from fpga_operator.run.mapping import affected
from fpga_operator.run.observe import left_pods
from fpga_operator.run.store import Key, Store
from test_operator_service import live, plan, pod

OWNED = [{"kind": "ReplicaSet", "name": "digits-6d4b75cb6d", "uid": "rs", "controller": True}]
WHOLE = {
    "app.kubernetes.io/managed-by": "fpga-operator",
    "accel.dev/service": "digits",
    "accel.dev/revision": "abc",
    "pod-template-hash": "6d4b75cb6d",
}


def made(labels: dict[str, str], *, owned: bool = False, name: str = "digits-6d4b75cb6d-") -> dict[str, Any]:
    meta = {
        "name": f"{name}x2v4z",
        "namespace": "demo",
        "uid": "u",
        "generateName": name,
        "labels": labels,
        "resourceVersion": "1",
        "ownerReferences": OWNED if owned else [],
    }
    return {"kind": "Pod", "metadata": meta, "spec": {}, "status": {}}


def without(*keys: str, **more: str) -> dict[str, str]:
    return {key: value for key, value in {**WHOLE, **more}.items() if key not in keys}


STRAYS: dict[str, tuple[dict[str, Any], bool]] = {
    "as it was made": (made(WHOLE, owned=True), False),
    "its set was deleted, the next one takes it over": (made(WHOLE), False),
    "service label removed": (made(without("accel.dev/service")), True),
    "service label removed, its set has not noticed": (made(without("accel.dev/service"), owned=True), True),
    "given to another service": (made(without(**{"accel.dev/service": "other"})), True),
    "hash removed": (made(without("pod-template-hash")), True),
    "hash removed, its set has not noticed": (made(without("pod-template-hash"), owned=True), False),
    "revision removed: it would be an old one for ever": (
        made(without("accel.dev/revision"), owned=True),
        True,
    ),
    "a Job's pod": (made({"accel.dev/model": "m"}, name="m-convert-"), False),
    "made by hand": (pod("p"), False),
}


@pytest.mark.parametrize(("given", "expected"), STRAYS.values(), ids=STRAYS)
def test_is_stray(given: dict[str, Any], expected: bool) -> None:
    assert is_stray(given) is expected


@pytest.mark.parametrize(
    ("generated", "service"),
    {"digits-6d4b75cb6d-": "digits", "a-b-c-5f-": "a-b-c", "": ""}.items(),
)
def test_home(generated: str, service: str) -> None:
    assert home(made({}, name=generated)) == service


def test_one_that_ends_is_left_alone() -> None:
    ending = made({})
    ending["metadata"]["deletionTimestamp"] = "2026-11-21T12:00:00Z"
    assert not is_stray(ending)


def test_the_plan_deletes_it_and_says_so() -> None:
    stray = made(without("accel.dev/service"))
    result = plan(deployment=live(), strays=strays_of((stray,), "digits"))
    assert [(ref.kind, ref.name, ref.uid) for ref in result.deletes] == [
        ("Pod", "digits-6d4b75cb6d-x2v4z", "u")
    ]
    assert "StrayPodDeleted" in [event.reason for event in result.events]


def test_its_service_is_woken_and_one_that_is_gone_has_it_removed_too() -> None:
    store = Store()
    stray = made(without("accel.dev/service"))
    store.put(stray)
    key = Key("AccelService", "demo", "digits")
    assert affected(store, stray) == {key}
    assert [ref.uid for ref in left_pods(store, key)] == ["u"]
    foreign = made(without("accel.dev/service", "accel.dev/revision"), name="web-6d4b75cb6d-")
    store.put(foreign)
    assert not left_pods(store, Key("AccelService", "demo", "web")), "only what surely is ours"
