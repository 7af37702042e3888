"""The operator killed with -9, etcd frozen and the API server killed, on the real cluster: the same end as without."""

import os
import subprocess
import sys
from collections.abc import Callable
from threading import Event
from typing import Any

import pytest
from hardware import kill_container
from kube import Kube, KubectlError, Object
from networks import cnn
from objects import chain

Push = Callable[[Any, str], str]
OPERATOR = "app.kubernetes.io/component=operator"
OUTAGE_SECONDS = 60.0 if os.environ.get("ACCEL_TEST_FULL") else 10.0


def operator_pod(system: Kube) -> Object:
    """The operator's one pod."""
    (pod,) = [pod for pod in system.list("pod", OPERATOR) if "deletionTimestamp" not in pod["metadata"]]
    return pod


def runs(pod: Object) -> bool:
    """Whether its container runs."""
    statuses = pod["status"].get("containerStatuses") or [{}]
    return "running" in statuses[0].get("state", {})


def restarts(system: Kube) -> int:
    """How often its container was restarted."""
    count: int = operator_pod(system)["status"]["containerStatuses"][0]["restartCount"]
    return count


def strike(system: Kube) -> None:
    """End the operator with -9, once it runs."""
    system.until("the operator runs", lambda: runs(operator_pod(system)), timeout=120)
    kill_container(operator_pod(system))


def jobs(kube: Kube, label: str, name: str) -> list[str]:
    """The uids of the Jobs of an object."""
    return [job["metadata"]["uid"] for job in kube.list("job", f"accel.dev/{label}={name}")]


def control_plane(action: str, part: str) -> None:
    """freeze, thaw or kill etcd or kube-apiserver of this cluster."""
    subprocess.run([sys.executable, "-m", "accel_cluster", "control-plane", action, part], check=True)


@pytest.mark.timeout(420)
def test_kills_on_the_way_to_a_service_change_nothing_about_the_end(
    kube: Kube, system: Kube, push: Push
) -> None:
    source = push(cnn(31), "chaos:1")
    before = restarts(system)
    kube.apply(*chain("net", source))
    kube.until("a Job of the model", lambda: jobs(kube, "model", "net"), story=("fpgamodel", "net"))
    strike(system)
    kube.wait_ready("fpgamodel", "net")
    kube.until("a Job of the image", lambda: jobs(kube, "image", "net"), story=("accelimage", "net"))
    strike(system)
    kube.until("a Deployment", lambda: kube.find("deployment", "net"), story=("accelservice", "net"))
    strike(system)
    for kind in ("fpgamodel", "accelimage", "accelservice"):
        kube.wait_ready(kind, "net")
    assert restarts(system) >= before + 3
    for label, kind in {"model": "fpgamodel", "image": "accelimage"}.items():
        assert len(jobs(kube, label, "net")) == 1
        assert [entry["version"] for entry in kube.get(kind, "net")["status"]["versions"]] == [1]
    deployment = kube.get("deployment", "net")
    assert deployment["metadata"]["generation"] == 1
    assert len(kube.list("replicaset", "accel.dev/service=net")) == 1


@pytest.mark.timeout(420)
def test_the_operator_survives_an_outage_of_etcd_and_of_the_api_server(
    kube: Kube, system: Kube, push: Push
) -> None:
    system.until("the operator runs", lambda: runs(operator_pod(system)), timeout=120)
    pod, before = operator_pod(system)["metadata"]["uid"], restarts(system)
    control_plane("freeze", "etcd")
    try:
        Event().wait(OUTAGE_SECONDS)  # that is how long the outage is
    finally:
        control_plane("thaw", "etcd")
    control_plane("kill", "kube-apiserver")

    def applied() -> bool:
        try:
            return bool(kube.apply(*chain("after", source)))
        except KubectlError:
            return False

    source = "oci:///sources/chaos:1"
    kube.until("the API server takes writes", applied)
    for kind in ("fpgamodel", "accelimage", "accelservice"):
        kube.wait_ready(kind, "after")
    assert (operator_pod(system)["metadata"]["uid"], restarts(system)) == (pod, before)
