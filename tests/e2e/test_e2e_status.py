"""`kubectl accel status` beside a real conversion, build and rollout, and beside a service that has to wait."""

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from kube import Kube, condition
from networks import cnn
from objects import accel_service, chain

BIN = Path(sys.executable).parent
ONE_FPGA = {"placement": {"nodeSelector": {"kubernetes.io/hostname": "accel-worker2"}}}
STEPS = [
    f"{name} (step {number} of 3) runs for" for number, name in enumerate(("fetch", "convert", "push"), 1)
]

Status = Callable[..., subprocess.Popen[str]]


@pytest.fixture(scope="module")
def status(kube: Kube) -> Status:
    """Start `kubectl accel status …` in the module's namespace."""
    path = f"{kube.kubectl.parent}:{os.environ['PATH']}"

    def start(*arguments: str) -> subprocess.Popen[str]:
        return subprocess.Popen(
            [str(BIN / "kubectl-accel"), "status", "-n", kube.namespace, *arguments],
            env={**os.environ, "KUBECONFIG": str(kube.kubeconfig), "PATH": path},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    return start


def test_from_the_first_container_to_ready(
    kube: Kube, status: Status, push: Callable[[Any, str], str]
) -> None:
    kube.apply(*chain("net", push(cnn(81), "status:1"), **ONE_FPGA))
    with status("net", "--until-ready", "--timeout", "4m") as watching:
        assert watching.stdout is not None
        assert watching.stderr is not None
        shown = watching.stdout.read()
        error = watching.stderr.read()
    assert (watching.returncode, error) == (0, "")
    assert any(step in shown for step in STEPS), shown
    assert shown.count("\n--- ") >= 3, "a block for each change"
    assert "WaitingForImage: waits for AccelImage net\n" in shown, "what the image says is not said again"


def test_the_chain_and_the_table_of_what_serves(kube: Kube, status: Status) -> None:
    service = kube.get("accelservice", "net")["status"]
    (held,) = service["devices"]
    found = status("net", "-o", "json")
    document = json.loads(found.communicate()[0])
    assert (found.returncode, document["ready"]) == (0, True)
    model, image, last = document["objects"]
    assert model["version"] == image["modelVersion"] == last["modelVersion"] == 1
    assert image["digest"] == last["digest"] == service["image"].rpartition("@")[2]
    (pod,) = last["pods"]
    assert (pod["name"], pod["state"]) == (held["pod"], "serves")
    assert (pod["device"]["node"], pod["device"]["device"]) == (held["node"], held["device"])
    head, row = status().communicate()[0].splitlines()
    assert head.split()[:4] == ["SERVICE", "IMAGE", "MODEL", "VERSION"]
    assert row.split()[:6] == ["net", "net", "net", "1", "Ready", "1/1"]


def test_a_service_that_waits_names_the_holder(kube: Kube, status: Status) -> None:
    kube.apply(accel_service("late", "net", **ONE_FPGA))

    def waits() -> bool:
        return condition(kube.get("accelservice", "late"), "Ready").get("reason") == "WaitingForDevice"

    kube.until("it waits for a device", waits, story=("accelservice", "late"))
    found = status("late")
    page = found.communicate()[0]
    assert found.returncode == 1
    assert "WaitingForDevice: 0 of 1 replicas serve; 1 replica waits for an FPGA" in page
    assert "accel-worker2: AccelService net (1)" in " ".join(page.split())
    assert "waits" in [line.split()[2] for line in page.splitlines() if line.lstrip().startswith("pod late-")]
