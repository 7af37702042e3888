"""One FPGA per replica: who holds which, who waits for whom, what clients notice when parts die.

One service lives through the whole module, and holds its device to the end.
"""

from collections.abc import Callable, Iterator
from typing import Any

import grpc
import numpy as np
import pytest
from accel import PredictionClient
from clients import client_of
from hardware import (
    ALL,
    EMULATOR,
    PLUGIN,
    all_well,
    allocatable,
    kill,
    kill_container,
    pod_on,
    restarted,
    scoring,
    timed,
)
from kube import Kube, Object, condition
from networks import cnn, pictures
from objects import accel_image, accel_service, fpga_model

X = pictures(4)


@pytest.fixture(scope="module")
def holder(kube: Kube, push: Callable[[Any, str], str]) -> Iterator[Object]:
    """A service that holds one device."""
    kube.apply(accel_image("net", "net"), fpga_model("net", push(cnn(21), "devices:1")))
    kube.apply(accel_service("holder", "net"))
    yield kube.wait_ready("accelservice", "holder")
    kube("delete", "accelservice", "--all", "--wait=true")
    kube.until("all devices are free again", lambda: not kube.list("pod", "accel.dev/service"))


@pytest.fixture
def place(holder: Object) -> Object:
    """The device that it holds."""
    (found,) = holder["status"]["devices"]
    entry: Object = found
    return entry


@pytest.fixture(scope="module")
def expected(kube: Kube, holder: Object) -> np.ndarray:
    """What its device computes of X."""
    answer: np.ndarray = client_of(kube, "holder").score_numpy_arrays({"image": X})
    return answer


def test_three_nodes_two_with_fpgas(kube: Kube) -> None:
    assert allocatable(kube) == ALL


def test_the_service_says_which_device_on_which_node(kube: Kube, place: Object) -> None:
    assert place["health"] == "Healthy"
    inventory = kube.get("fpganode", place["node"])["status"]["devices"]
    (entry,) = [device for device in inventory if device["id"] == place["device"]]
    assert entry["holder"] == {"namespace": kube.namespace, "pod": place["pod"]}
    (pod,) = kube.list("pod", "accel.dev/service=holder")
    assert pod["metadata"]["name"] == place["pod"]
    assert pod["spec"]["nodeName"] == place["node"]


def test_the_device_computes_and_quantises(expected: np.ndarray) -> None:
    import onnxruntime

    (float32,) = onnxruntime.InferenceSession(cnn(21).SerializeToString()).run(None, {"image": X})
    difference = float(np.abs(expected - float32).max())
    assert 1e-6 < difference < 0.1, f"float32 and device differ by {difference}"


def test_killing_the_emulator_gives_no_wrong_answer(
    kube: Kube, node_side: Kube, place: Object, expected: np.ndarray
) -> None:
    client = client_of(kube, "holder")
    with scoring(client, X, expected) as seen:
        kill(node_side, EMULATOR, place["node"], f"--id {place['device']}")
        kube.until(
            "the device serves again",
            lambda: serves(client_of(kube, "holder"), expected),
            timeout=120,
            story=("accelservice", "holder"),
        )
    assert seen.ok > 0, seen


def serves(client: PredictionClient, expected: np.ndarray) -> bool:
    try:
        answer = client.score_numpy_arrays({"image": X})
    except grpc.RpcError:
        return False
    np.testing.assert_array_equal(answer, expected)
    return True


def test_killing_the_device_plugin_is_not_noticed(
    kube: Kube, node_side: Kube, holder: Object, place: Object, expected: np.ndarray
) -> None:
    before = pod_on(node_side, PLUGIN, place["node"])
    with (
        scoring(client_of(kube, "holder"), X, expected) as seen,
        timed("from the plugin's end to all devices"),
    ):
        kill_container(before)
        kube.until(
            "the plugin was restarted and the node has all its devices",
            lambda: restarted(node_side, PLUGIN, before) and all_well(kube),
            timeout=90,
        )
    assert seen.unavailable == 0, seen
    assert seen.ok > 0
    assert kube.get("accelservice", "holder")["status"]["devices"] == holder["status"]["devices"]


def test_four_replicas_on_three_devices_name_the_holders(kube: Kube, holder: Object) -> None:
    kube.apply(accel_service("four", "net", replicas=4))
    waiting = kube.until(
        "two of four serve and the service says who holds the third device",
        lambda: lacks_devices(kube, "four", ready=2),
        timeout=180,
        story=("accelservice", "four"),
    )
    assert "holder" in waiting
    assert "accel-worker" in waiting
    kube("delete", "accelservice", "holder", "--wait=true")
    kube.until(
        "three of four serve",
        lambda: lacks_devices(kube, "four", ready=3),
        timeout=180,
        story=("accelservice", "four"),
    )
    status = kube.get("accelservice", "four")["status"]
    assert status["state"] == "Unhealthy"
    assert condition({"status": status}, "Available")["status"] == "True"
    assert len({(held["node"], held["device"]) for held in status["devices"]}) == 3
    kube.patch("accelservice", "four", {"spec": {"replicas": 3}})
    kube.wait_ready("accelservice", "four")


def lacks_devices(kube: Kube, name: str, ready: int) -> str:
    """Return the message of DevicesAvailable=False once `ready` replicas serve, else an empty string."""
    service = kube.get("accelservice", name)
    found = condition(service, "DevicesAvailable")
    if service.get("status", {}).get("readyReplicas") != ready or found.get("status") != "False":
        return ""
    message: str = found["message"]
    return message
