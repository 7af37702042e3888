"""One FPGA per replica: who holds which, who waits for whom, what clients notice when parts die."""

import json
import signal
import subprocess
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from threading import Event
from typing import Any

import grpc
import numpy as np
import pytest
from accel import PredictionClient
from clients import client_of
from kube import Kube, Object, condition
from networks import cnn, pictures
from objects import accel_image, accel_service, fpga_model

RESOURCE = "fpga.intel.com/arria10"


@pytest.fixture(scope="module")
def image(kube: Kube, push: Callable[[Any, str], str]) -> str:
    kube.apply(accel_image("net", "net"), fpga_model("net", push(cnn(21), "devices:1")))
    kube.wait_ready("accelimage", "net")
    return "net"


@pytest.fixture
def services(kube: Kube) -> Iterator[Callable[..., str]]:
    """Apply services that are gone, with their pods and devices, after the test."""
    names: list[str] = []

    def apply(name: str, image: str, **spec: Any) -> str:
        kube.apply(accel_service(name, image, **spec))
        names.append(name)
        return name

    yield apply
    for name in names:
        kube("delete", "accelservice", name, "--ignore-not-found", "--wait=true")
    kube.until("all devices are free again", lambda: not kube.list("pod", "accel.dev/service"))


def allocatable(kube: Kube) -> dict[str, int]:
    nodes = json.loads(kube("get", "nodes", "-o", "json"))["items"]
    return {node["metadata"]["name"]: int(node["status"]["allocatable"].get(RESOURCE, 0)) for node in nodes}


def test_three_nodes_two_with_fpgas(kube: Kube) -> None:
    assert allocatable(kube) == {"accel-control-plane": 0, "accel-worker": 2, "accel-worker2": 1}


def test_the_service_says_which_device_on_which_node(
    kube: Kube, image: str, services: Callable[..., str]
) -> None:
    status = kube.wait_ready("accelservice", services("one", image))["status"]
    (held,) = status["devices"]
    assert held["health"] == "Healthy"
    inventory = kube.get("fpganode", held["node"])["status"]["devices"]
    (entry,) = [device for device in inventory if device["id"] == held["device"]]
    assert entry["holder"] == {"namespace": kube.namespace, "pod": held["pod"]}
    (pod,) = kube.list("pod", "accel.dev/service=one")
    assert pod["metadata"]["name"] == held["pod"]
    assert pod["spec"]["nodeName"] == held["node"]


def test_the_device_computes_and_quantises(kube: Kube, image: str, services: Callable[..., str]) -> None:
    kube.wait_ready("accelservice", services("numbers", image))
    import onnxruntime

    x = pictures(4)
    client = client_of(kube, "numbers")
    answer = client.score_numpy_arrays({"image": x})
    (float32,) = onnxruntime.InferenceSession(cnn(21).SerializeToString()).run(None, {"image": x})
    difference = float(np.abs(answer - float32).max())
    assert 1e-6 < difference < 0.1, f"float32 and device differ by {difference}"


def test_four_replicas_on_three_devices_name_the_holders(
    kube: Kube, image: str, services: Callable[..., str]
) -> None:
    kube.wait_ready("accelservice", services("holder", image))
    services("four", image, replicas=4)
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


def score_until(stop: Event, client: PredictionClient, x: np.ndarray, expected: np.ndarray) -> dict[str, int]:
    """Score the same pictures again and again; a wrong answer raises, UNAVAILABLE is counted."""
    seen = {"ok": 0, "unavailable": 0}
    while not stop.is_set():
        try:
            answer = client.score_numpy_arrays({"image": x})
        except grpc.RpcError as error:
            if error.code() not in (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.DEADLINE_EXCEEDED):
                raise
            seen["unavailable"] += 1
            continue
        np.testing.assert_array_equal(answer, expected)
        seen["ok"] += 1
    return seen


def pids(node_side: Kube, selector: str, node: str, process: str) -> list[str]:
    """Return the processes of a DaemonSet's pod on a node whose command line has `process`."""
    pod = pod_on(node_side, selector, node)
    script = (
        "import os\n"
        "for p in filter(str.isdigit, os.listdir('/proc')):\n"
        f"    c = open(f'/proc/{{p}}/cmdline').read().replace(chr(0), ' ')\n"
        f"    if {process!r} in c and p != str(os.getpid()): print(p)\n"
    )
    return node_side("exec", pod["metadata"]["name"], "--", "python3", "-c", script).split()


def pod_on(node_side: Kube, selector: str, node: str) -> Object:
    (pod,) = [pod for pod in node_side.list("pod", selector) if pod["spec"]["nodeName"] == node]
    return pod


def kill(
    node_side: Kube, selector: str, node: str, process: str, signal_: signal.Signals = signal.SIGKILL
) -> None:
    """End processes of our own pod, found inside that pod."""
    found = pids(node_side, selector, node, process)
    assert found, f"no process with {process!r} on {node}"
    pod = pod_on(node_side, selector, node)["metadata"]["name"]
    command = f"import os; [os.kill(int(p), {int(signal_)}) for p in {found!r}]"
    node_side("exec", pod, "--", "python3", "-c", command)


def test_killing_the_emulator_gives_no_wrong_answer(
    kube: Kube, node_side: Kube, image: str, services: Callable[..., str]
) -> None:
    service = kube.wait_ready("accelservice", services("steady", image))
    (held,) = service["status"]["devices"]
    x = pictures(1)
    client = client_of(kube, "steady")
    expected = client.score_numpy_arrays({"image": x})
    stop = Event()
    with ThreadPoolExecutor(1) as pool:
        scoring = pool.submit(score_until, stop, client, x, expected)
        kill(node_side, "app.kubernetes.io/component=emulator", held["node"], f"--id {held['device']}")
        kube.until(
            "the device serves again",
            lambda: serves(client_of(kube, "steady"), x, expected),
            timeout=120,
            story=("accelservice", "steady"),
        )
        stop.set()
        seen = scoring.result(timeout=90)
    assert seen["ok"] > 0, seen


def serves(client: PredictionClient, x: np.ndarray, expected: np.ndarray) -> bool:
    try:
        answer = client.score_numpy_arrays({"image": x})
    except grpc.RpcError:
        return False
    np.testing.assert_array_equal(answer, expected)
    return True


def test_killing_the_device_plugin_is_not_noticed(
    kube: Kube, node_side: Kube, image: str, services: Callable[..., str]
) -> None:
    service = kube.wait_ready("accelservice", services("calm", image))
    (held,) = service["status"]["devices"]
    x = pictures(1)
    client = client_of(kube, "calm")
    expected = client.score_numpy_arrays({"image": x})
    before = pod_on(node_side, "app.kubernetes.io/component=device-plugin", held["node"])
    restarts = before["status"]["containerStatuses"][0]["restartCount"]
    stop = Event()
    with ThreadPoolExecutor(1) as pool:
        scoring = pool.submit(score_until, stop, client, x, expected)
        kill_container(node_side, before)
        kube.until(
            "the plugin was restarted and the node has all its devices",
            lambda: restarted(node_side, held["node"], restarts) and allocatable(kube)[held["node"]] > 0,
            timeout=90,
        )
        stop.set()
        seen = scoring.result(timeout=60)
    assert seen["unavailable"] == 0, seen
    assert seen["ok"] > 0
    assert kube.get("accelservice", "calm")["status"]["devices"] == service["status"]["devices"]


def restarted(node_side: Kube, node: str, restarts: int) -> bool:
    pod = pod_on(node_side, "app.kubernetes.io/component=device-plugin", node)
    state = pod["status"]["containerStatuses"][0]
    return state["restartCount"] > restarts and state["ready"]


def kill_container(node_side: Kube, pod: Object) -> None:
    """End a container's first process with -9 from its node, where it is an ordinary process."""
    import sys

    container = pod["status"]["containerStatuses"][0]["containerID"].rpartition("/")[2]
    subprocess.run(
        [sys.executable, "-m", "accel_cluster", "node", "exec", pod["spec"]["nodeName"], "--",
         "ctr", "-n", "k8s.io", "tasks", "kill", "-s", "SIGKILL", container],
        check=True, capture_output=True,
    )  # fmt: skip
