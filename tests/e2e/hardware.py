"""Hands on the nodes: faults of devices, ends of processes, and what kubelet and plugin say of it."""

import json
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from threading import Event
from typing import Any

import grpc
import numpy as np
from accel import PredictionClient
from kube import Kube, Object

RESOURCE = "fpga.intel.com/arria10"
ALL = {"accel-control-plane": 0, "accel-worker": 2, "accel-worker2": 1}  # by node, with all well
EMULATOR = "app.kubernetes.io/component=emulator"
PLUGIN = "app.kubernetes.io/component=device-plugin"
CONTROL = "/var/run/fpga-emulator/control/emulator.sock"


def allocatable(kube: Kube) -> dict[str, int]:
    """Return each node's number of FPGAs that pods can have, as its kubelet tells."""
    nodes = json.loads(kube("get", "nodes", "-o", "json"))["items"]
    return {node["metadata"]["name"]: int(node["status"]["allocatable"].get(RESOURCE, 0)) for node in nodes}


def all_well(kube: Kube) -> bool:
    """Tell whether kubelets and FpgaNodes agree that every device is there and healthy."""
    inventory = json.loads(kube("get", "fpganodes", "-o", "json"))["items"]
    healthy = {found["metadata"]["name"]: found["status"]["healthy"] for found in inventory}
    return allocatable(kube) == ALL and healthy == {name: count for name, count in ALL.items() if count}


def pod_on(node_side: Kube, selector: str, node: str) -> Object:
    """Return a DaemonSet's pod on a node."""
    (pod,) = [pod for pod in node_side.list("pod", selector) if pod["spec"]["nodeName"] == node]
    return pod


def device_of(kube: Kube, node: str, device: str) -> Object:
    """Return a device's entry in its FpgaNode."""
    (found,) = [d for d in kube.get("fpganode", node)["status"]["devices"] if d["id"] == device]
    return found


def fault(node_side: Kube, node: str, device: str, *, clear: bool = False) -> None:
    """Let a device overheat, or cool down again, on its emulator's control socket."""
    asked = {"op": "fault", "id": device, "kind": "temperature", "clear": clear}
    script = (
        "import asyncio, pathlib, sys, json\n"
        "from npu.device import jsonlines\n"
        f"asyncio.run(jsonlines.request(pathlib.Path({CONTROL!r}), json.loads(sys.argv[1]), 20.0))\n"
    )
    pod = pod_on(node_side, EMULATOR, node)["metadata"]["name"]
    node_side("exec", pod, "--", "python3", "-c", script, json.dumps(asked))


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


def kill(
    node_side: Kube, selector: str, node: str, process: str, signal_: signal.Signals = signal.SIGKILL
) -> None:
    """End processes of our own pod, found inside that pod."""
    found = pids(node_side, selector, node, process)
    assert found, f"no process with {process!r} on {node}"
    pod = pod_on(node_side, selector, node)["metadata"]["name"]
    command = f"import os; [os.kill(int(p), {int(signal_)}) for p in {found!r}]"
    node_side("exec", pod, "--", "python3", "-c", command)


def on_node(node: str, *argv: str) -> None:
    """Run a command on a node, as root."""
    _cluster("node", "exec", node, "--", *argv)


def node(action: str, name: str) -> None:
    """kill, start, restart, restart-kubelet, cordon or uncordon a node."""
    _cluster("node", action, name)


def _cluster(*words: str) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "accel_cluster", *words], check=False, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr[-2000:]


def kill_container(pod: Object) -> None:
    """End a container's first process with -9 from its node, where it is an ordinary process."""
    container = pod["status"]["containerStatuses"][0]["containerID"].rpartition("/")[2]
    on_node(pod["spec"]["nodeName"], "ctr", "-n", "k8s.io", "tasks", "kill", "-s", "SIGKILL", container)


def restarted(node_side: Kube, selector: str, before: Object) -> bool:
    """Tell whether a DaemonSet's pod has a new container, and that is ready."""
    state = pod_on(node_side, selector, before["spec"]["nodeName"])["status"]["containerStatuses"][0]
    count: int = before["status"]["containerStatuses"][0]["restartCount"]
    return bool(state["restartCount"] > count and state["ready"])


def identity(pod: Object) -> tuple[str, int]:
    """Return what changes when a pod is replaced or its container restarts."""
    return pod["metadata"]["uid"], pod["status"]["containerStatuses"][0]["restartCount"]


@dataclass
class Scored:
    """What clients saw: right answers, and refusals that say to come again."""

    ok: int = 0
    unavailable: int = 0


def score_until(stop: Event, client: PredictionClient, x: np.ndarray, expected: np.ndarray) -> Scored:
    """Score the same pictures again and again; a wrong answer raises, UNAVAILABLE is counted."""
    seen = Scored()
    while not stop.is_set():
        try:
            answer = client.score_numpy_arrays({"image": x})
        except grpc.RpcError as error:
            if error.code() not in (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.DEADLINE_EXCEEDED):
                raise
            seen.unavailable += 1
            continue
        np.testing.assert_array_equal(answer, expected)
        seen.ok += 1
    return seen


@contextmanager
def scoring(client: PredictionClient, x: np.ndarray, expected: np.ndarray) -> Iterator[Scored]:
    """Score while the block runs; its end raises what a client must never see."""
    stop, found = Event(), Scored()
    with ThreadPoolExecutor(1) as pool:
        running = pool.submit(score_until, stop, client, x, expected)
        try:
            yield found
        finally:
            stop.set()
            seen = running.result(timeout=90)
            found.ok, found.unavailable = seen.ok, seen.unavailable


@dataclass
class Watched:
    """Every different value that was seen, in order."""

    values: list[Any] = field(default_factory=list)


@contextmanager
def watching(look: Callable[[], Any]) -> Iterator[Watched]:
    """Look again and again while the block runs."""
    stop, found = Event(), Watched()

    def follow() -> None:
        while not stop.is_set():
            seen = look()
            if seen not in found.values:
                found.values.append(seen)
            stop.wait(0.2)

    with ThreadPoolExecutor(1) as pool:
        running = pool.submit(follow)
        try:
            yield found
        finally:
            stop.set()
            running.result(timeout=60)


@contextmanager
def timed(what: str) -> Iterator[None]:
    """Print how long the block took: figures for people, no test depends on them."""
    began = time.monotonic()
    yield
    print(f"\n   {what}: {time.monotonic() - began:.1f} s", flush=True)
