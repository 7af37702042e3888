"""What GitOps tools and `kubectl wait` rely on: no early return, telling columns, a spec nobody writes."""

import json
import subprocess
from collections.abc import Callable
from typing import Any

import pytest
from kube import Kube, condition, is_ready
from networks import cnn
from objects import chain


@pytest.fixture(scope="module")
def name(kube: Kube, push: Callable[[Any, str], str]) -> str:
    kube.apply(*chain("story", push(cnn(51), "contract:1")))
    kube.wait_ready("accelservice", "story")
    return "story"


def test_the_columns_tell_name_state_version_address_and_age(kube: Kube, name: str) -> None:
    table = kube("get", "accel")
    rows = {line.split()[0]: line for line in table.splitlines() if name in line}
    service = kube.get("accelservice", name)
    assert service["status"]["scoringUri"] in rows[f"accelservice.accel.dev/{name}"]
    assert "Healthy" in rows[f"accelservice.accel.dev/{name}"]
    assert "Succeeded" in rows[f"accelimage.accel.dev/{name}"]
    for header in ("NAME", "STATE", "VERSION", "AGE"):
        assert header in table


def test_wait_does_not_return_early_after_an_edit(
    kube: Kube, name: str, push: Callable[[Any, str], str]
) -> None:
    uri = push(cnn(52), "contract:2")
    kube.patch("fpgamodel", name, {"spec": {"source": {"uri": uri}}})
    model = kube.wait_ready("fpgamodel", name)
    assert is_ready(model)
    assert model["status"]["latestVersion"] == 2
    kube.until(
        "the service saw the change",
        lambda: (
            condition(kube.get("accelservice", name), "Ready").get("status") == "False"
            or kube.get("accelservice", name)["status"].get("modelVersion") == 2
        ),
    )
    service = kube.wait_ready("accelservice", name)
    assert service["status"]["modelVersion"] == 2
    assert condition(service, "Available")["status"] == "True"


def test_conditions_are_of_this_generation_and_nobody_writes_the_spec(kube: Kube, name: str) -> None:
    for kind, thing in zip(
        ("fpgamodel", "accelimage", "accelservice"), chain(name, "oci:///sources/contract:2"), strict=True
    ):
        live = json.loads(kube("get", kind, name, "-o", "json", "--show-managed-fields"))
        assert live["spec"] == thing["spec"]
        for entry in live["status"]["conditions"]:
            assert entry["observedGeneration"] == live["metadata"]["generation"], (kind, entry)
        assert not live["metadata"].get("finalizers")
        spec_managers = {
            field["manager"] for field in live["metadata"]["managedFields"] if "subresource" not in field
        }
        assert not {manager for manager in spec_managers if manager.startswith("fpga-operator")}


def test_suspend_frees_the_device(kube: Kube, name: str) -> None:
    kube.patch("accelservice", name, {"spec": {"suspend": True}})
    service = kube.wait_ready("accelservice", name)
    assert condition(service, "Ready")["reason"] == "Suspended"
    kube.until("no pod is left", lambda: not kube.list("pod", f"accel.dev/service={name}"))
    kube.until("no device is held", lambda: not kube.get("accelservice", name)["status"].get("devices"))
    kube.patch("accelservice", name, {"spec": {"suspend": False}})
    kube.wait_ready("accelservice", name)


def test_deleting_all_three_at_once_leaves_nothing(kube: Kube, name: str) -> None:
    kube("delete", "fpgamodel,accelimage,accelservice", name, "--wait=true", timeout=60)
    for kind in ("deployment", "service", "secret", "job", "pod", "networkpolicy", "poddisruptionbudget"):
        kube.until(
            f"no {kind} is left",
            lambda kind=kind: not kube.list(kind, "app.kubernetes.io/managed-by=fpga-operator"),
        )


def test_a_wait_that_runs_out_says_so(kube: Kube) -> None:
    """`kubectl wait` on an object that cannot become Ready ends by its time-out, not by a false success."""
    kube.apply(*chain("never", "oci:///sources/never:1")[1:2])
    with pytest.raises(subprocess.CalledProcessError):
        subprocess.run(
            kube.command("wait", "--for=condition=Ready", "accelimage/never", "--timeout=3s"),
            check=True,
            capture_output=True,
        )
