"""Hardware that fails and comes back: devices, kubelets, emulators, whole nodes; who moves, and who is left alone."""

import json
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest
from clients import client_of
from hardware import (
    ALL,
    EMULATOR,
    PLUGIN,
    all_well,
    allocatable,
    device_of,
    fault,
    identity,
    kill_container,
    node,
    on_node,
    pod_on,
    restarted,
    scoring,
    timed,
    watching,
)
from kube import Kube, Object, condition, is_ready
from networks import cnn, pictures
from objects import accel_image, accel_service, fpga_model

NAME = "mover"
X = pictures(1)


@pytest.fixture(scope="module")
def service(kube: Kube, push: Callable[[Any, str], str]) -> str:
    """One service with one replica, for the whole module."""
    kube.apply(
        fpga_model("net", push(cnn(22), "nodes:1")), accel_image("net", "net"), accel_service(NAME, "net")
    )
    kube.wait_ready("accelservice", NAME)
    return NAME


@pytest.fixture
def sound(kube: Kube, node_side: Kube, system: Kube) -> Iterator[None]:
    """After the test every device is well and every node up, whatever has happened."""
    yield
    for item in json.loads(kube("get", "nodes", "-o", "json"))["items"]:
        name = item["metadata"]["name"]
        if not any(c["type"] == "Ready" and c["status"] == "True" for c in item["status"]["conditions"]):
            node("restart", name)
        if item["spec"].get("unschedulable"):
            kube("uncordon", name)
    for inventory in json.loads(kube("get", "fpganodes", "-o", "json"))["items"]:
        for device in inventory["status"]["devices"]:
            if device["state"] == "faulted":
                fault(node_side, inventory["metadata"]["name"], device["id"], clear=True)
    kube.until("all devices are there", lambda: all_well(kube), timeout=180)
    system("rollout", "status", "deployment/fpga-operator", "--timeout=120s", timeout=150)


def expected(kube: Kube) -> np.ndarray:
    answer: np.ndarray = client_of(kube, NAME).score_numpy_arrays({"image": X})
    return answer


def pod_of(kube: Kube) -> Object:
    """The service's one pod that is not ending."""
    (found,) = [
        p for p in kube.list("pod", f"accel.dev/service={NAME}") if "deletionTimestamp" not in p["metadata"]
    ]
    return found


def held(kube: Kube) -> Object:
    """The device that its pod holds; one that is ending elsewhere may still hold another."""

    def entry() -> Object | None:
        name, status = pod_of(kube)["metadata"]["name"], kube.get("accelservice", NAME)["status"]
        return next((d for d in status.get("devices", []) if d["pod"] == name), None)

    found: Object = kube.until("its status names its device", entry)
    return found


def reasons(kube: Kube) -> set[str]:
    """The reasons of the service's events."""
    found = json.loads(kube("get", "events", "-o", "json"))["items"]
    return {event["reason"] for event in found if event["involvedObject"]["name"] == NAME}


def serves(kube: Kube) -> bool:
    return is_ready(kube.get("accelservice", NAME))


def unready(kube: Kube) -> bool:
    return condition(pod_of(kube), "Ready").get("status") == "False"


def test_a_short_fault_moves_nothing(kube: Kube, node_side: Kube, service: str, sound: None) -> None:
    before, place, right = pod_of(kube), held(kube), expected(kube)
    with scoring(client_of(kube, NAME), X, right) as seen:
        fault(node_side, place["node"], place["device"])
        kube.until(
            "FpgaNode says so, with the reason",
            lambda: "OverTemperature" in device_of(kube, place["node"], place["device"]).get("reason", ""),
        )
        fault(node_side, place["node"], place["device"], clear=True)
        kube.until("it serves", lambda: serves(kube) and held(kube)["health"] == "Healthy")
    assert seen.ok > 0
    assert identity(pod_of(kube)) == identity(before)
    assert held(kube)["device"] == place["device"]


def test_a_replica_moves_off_an_ill_device_and_the_capacity_returns(
    kube: Kube, node_side: Kube, service: str, sound: None
) -> None:
    before, place, right = pod_of(kube), held(kube), expected(kube)
    plugin = identity(pod_on(node_side, PLUGIN, place["node"]))
    emulator = identity(pod_on(node_side, EMULATOR, place["node"]))
    with scoring(client_of(kube, NAME), X, right) as seen:
        with timed("from the fault to serving on another device"):
            fault(node_side, place["node"], place["device"])
            kube.until("its server is not ready", lambda: unready(kube))
            kube.until(
                "the kubelet counts one less",
                lambda: allocatable(kube)[place["node"]] == ALL[place["node"]] - 1,
            )
            kube.until(
                "it serves on another device",
                lambda: serves(kube) and pod_of(kube)["metadata"]["uid"] != before["metadata"]["uid"],
                story=("accelservice", NAME),
            )
        now = held(kube)
        assert (now["node"], now["device"]) != (place["node"], place["device"])
        moved = identity(pod_of(kube))
        with timed("from the fault's end to all devices"):
            fault(node_side, place["node"], place["device"], clear=True)
            kube.until("all devices are there", lambda: all_well(kube))
    assert seen.ok > 0
    assert {"DeviceUnhealthy", "ReplicaMoved"} <= reasons(kube)
    assert device_of(kube, place["node"], place["device"])["health"] == "Healthy"
    assert identity(pod_of(kube)) == moved, "nothing goes back"
    assert identity(pod_on(node_side, PLUGIN, place["node"])) == plugin
    assert identity(pod_on(node_side, EMULATOR, place["node"])) == emulator


def test_a_restarted_kubelet_changes_nothing(kube: Kube, service: str, sound: None) -> None:
    before, place, right = pod_of(kube), held(kube), expected(kube)

    def holder() -> Any:
        return device_of(kube, place["node"], place["device"]).get("holder")

    with scoring(client_of(kube, NAME), X, right) as seen, watching(holder) as holders:
        on_node(place["node"], "rm", "-f", "/var/lib/kubelet/device-plugins/kubelet.sock")
        with timed("from the kubelet's end to all devices"):
            node("restart-kubelet", place["node"])
            kube.until("all devices are there", lambda: all_well(kube))
    assert seen.ok > 0
    assert identity(pod_of(kube)) == identity(before)
    assert holders.values == [{"namespace": kube.namespace, "pod": place["pod"]}], (
        "FpgaNode was wrong for a moment"
    )


def test_a_killed_emulator_is_back_with_its_devices(
    kube: Kube, node_side: Kube, service: str, sound: None
) -> None:
    before, place, right = pod_of(kube), held(kube), expected(kube)
    emulator = pod_on(node_side, EMULATOR, place["node"])
    with scoring(client_of(kube, NAME), X, right) as seen:
        with timed("from the emulator's end to all devices"):
            kill_container(emulator)
            kube.until("it was restarted", lambda: restarted(node_side, EMULATOR, emulator))
            kube.until("all devices are there", lambda: all_well(kube))
        kube.until("it serves", lambda: serves(kube), story=("accelservice", NAME))
    assert seen.ok > 0
    assert identity(pod_of(kube)) == identity(before)


def test_a_pod_without_its_label_does_not_keep_its_device(kube: Kube, service: str, sound: None) -> None:
    before = pod_of(kube)["metadata"]
    kube("label", "pod", before["name"], "accel.dev/service-")
    kube.until(
        "it is gone, and another one serves",
        lambda: kube.find("pod", before["name"]) is None and serves(kube),
        story=("accelservice", NAME),
    )
    assert "StrayPodDeleted" in reasons(kube)


def test_a_dead_node_loses_its_replica_and_comes_back(
    kube: Kube, system: Kube, service: str, sound: None
) -> None:
    (operator,) = system.list("pod", "app.kubernetes.io/component=operator")
    home = operator["spec"]["nodeName"]
    (victim,) = [name for name, count in ALL.items() if count and name != home]
    if held(kube)["node"] != victim:  # the operator's own node must live: see docs/devices.md
        kube("cordon", home)
        kube("delete", "pod", pod_of(kube)["metadata"]["name"], "--wait=true")
        kube.until(
            "it serves on the other node",
            lambda: serves(kube) and held(kube)["node"] == victim,
            story=("accelservice", NAME),
        )
        kube("uncordon", home)
    before = pod_of(kube)
    with timed("from the node's end to serving elsewhere"):
        node("kill", victim)
        told = kube.until("the service names the node", lambda: not_ready_story(kube, victim), timeout=120)
        kube.until(
            "it serves elsewhere",
            lambda: serves(kube) and pod_of(kube)["spec"]["nodeName"] == home,
            timeout=180,
            story=("accelservice", NAME),
        )
    assert "not ready" in told
    assert kube.find("pod", before["metadata"]["name"]) is not None, "stuck, and in nobody's way"
    after = identity(pod_of(kube))
    with timed("from the node's start to all devices"):
        node("start", victim)
        kube.until("all devices are there", lambda: all_well(kube), timeout=120)
    kube.until("the stuck pod is gone", lambda: kube.find("pod", before["metadata"]["name"]) is None)
    assert identity(pod_of(kube)) == after


def not_ready_story(kube: Kube, name: str) -> str:
    message: str = condition(kube.get("accelservice", NAME), "DevicesAvailable").get("message", "")
    return message if name in message and "not ready" in message else ""


@pytest.fixture(scope="module")
def on_all(kube: Kube, service: str) -> str:
    """The same service on every device: from here on there is no other to move to."""
    kube.patch("accelservice", NAME, {"spec": {"replicas": 3}})
    kube.until("all devices serve", lambda: serves(kube), story=("accelservice", NAME))
    return NAME


def identities(kube: Kube) -> set[tuple[str, int]]:
    return {identity(pod) for pod in kube.list("pod", f"accel.dev/service={NAME}")}


def test_without_another_device_it_waits_and_says_so(
    kube: Kube, node_side: Kube, on_all: str, sound: None
) -> None:
    before = identities(kube)
    place = kube.get("accelservice", NAME)["status"]["devices"][0]
    fault(node_side, place["node"], place["device"])

    def waits() -> str:
        found = condition(kube.get("accelservice", NAME), "DevicesAvailable")
        return found["message"] if "waits until" in found.get("message", "") else ""

    told = kube.until("it says what it waits for", waits, story=("accelservice", NAME))
    assert f"{place['device']} on {place['node']} is unhealthy (OverTemperature" in told
    assert f"AccelService {NAME}" in told, "who holds the others"
    status = kube.get("accelservice", NAME)["status"]
    assert status["state"] == "Unhealthy"
    assert [held["device"] for held in status["devices"] if held.get("lost")] == [place["device"]]
    fault(node_side, place["node"], place["device"], clear=True)
    kube.until("it serves again", lambda: serves(kube), story=("accelservice", NAME))
    assert identities(kube) == before


def test_a_rebooted_node_leaves_no_debris(kube: Kube, system: Kube, on_all: str, sound: None) -> None:
    (operator,) = system.list("pod", "app.kubernetes.io/component=operator")
    (victim,) = [name for name, count in ALL.items() if count and name != operator["spec"]["nodeName"]]

    def count() -> int:
        return len(kube.list("pod", f"accel.dev/service={NAME}"))

    with watching(count) as counts:
        with timed("from the reboot to all devices"):
            node("restart", victim)
            kube.until("all devices are there", lambda: all_well(kube), timeout=120)
        kube.until("all serve", lambda: serves(kube), timeout=120, story=("accelservice", NAME))
    kube.until("nothing is left of those that were refused", lambda: count() == 3)
    print(f"\n   pods at most: {max(counts.values)}")
    assert "FailedPodDeleted" in reasons(kube), "the kubelet refuses pods before the plugin is back"

    def all_held() -> bool:
        inventory = json.loads(kube("get", "fpganodes", "-o", "json"))["items"]
        return all("holder" in device for found in inventory for device in found["status"]["devices"])

    kube.until("FpgaNodes name the new holders", all_held)
