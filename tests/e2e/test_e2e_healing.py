"""Children that were deleted or edited by hand come back as they were."""

import json
from collections.abc import Callable
from typing import Any

import pytest
from kube import Kube, Object
from networks import cnn
from objects import chain, fpga_model


@pytest.fixture(scope="module")
def service(kube: Kube, push: Callable[[Any, str], str]) -> str:
    kube.apply(*chain("heal", push(cnn(11), "healing:1")))
    kube.wait_ready("accelservice", "heal")
    return "heal"


def essence(thing: Object) -> Object:
    """What of a child must come back: everything but what the API server and the kubelet say of it."""
    return {key: value for key, value in thing.items() if key in ("spec", "data", "type")}


@pytest.mark.parametrize(
    "kind", ["deployment", "service", "secret", "serviceaccount", "poddisruptionbudget", "networkpolicy"]
)
def test_a_deleted_child_comes_back_as_it_was(kube: Kube, service: str, kind: str) -> None:
    name = f"{service}-keys" if kind == "secret" else service
    before = kube.get(kind, name)
    kube("delete", kind, name, "--wait=true")
    kube.until(f"{kind} {name} is back", lambda: kube.find(kind, name))
    after = kube.get(kind, name)
    if kind == "service":  # the address may differ, what the operator said may not
        assert after["spec"]["ports"] == before["spec"]["ports"]
        assert after["spec"]["selector"] == before["spec"]["selector"]
    else:
        assert essence(after) == essence(before)
    kube.wait_ready("accelservice", service)


EDITS = {
    "image changed": [
        {"op": "replace", "path": "/spec/template/spec/containers/0/image", "value": "localhost:5000/other:1"}
    ],
    "env added": [
        {"op": "add", "path": "/spec/template/spec/containers/0/env/-", "value": {"name": "X", "value": "1"}}
    ],
    "container added": [
        {
            "op": "add",
            "path": "/spec/template/spec/containers/-",
            "value": {"name": "extra", "image": "localhost:5000/x:1"},
        }
    ],
    "resource limit removed": [{"op": "remove", "path": "/spec/template/spec/containers/0/resources"}],
    "replicas changed": [{"op": "replace", "path": "/spec/replicas", "value": 0}],
}


@pytest.mark.parametrize("edit", EDITS.values(), ids=EDITS)
def test_a_hand_edited_deployment_comes_back_as_it_was(kube: Kube, service: str, edit: list[Object]) -> None:
    before = kube.get("deployment", service)["spec"]
    kube("patch", "deployment", service, "--type=json", "-p", json.dumps(edit))
    kube.until("the deployment is as it was", lambda: kube.get("deployment", service)["spec"] == before)
    kube.wait_ready("accelservice", service)


def test_a_deleted_unfinished_job_is_run_again(kube: Kube, push: Callable[[Any, str], str]) -> None:
    kube.apply(fpga_model("unfinished", push(cnn(12), "healing:2")))
    jobs = kube.until("there is a Job", lambda: kube.list("job", "accel.dev/model=unfinished"))
    assert not jobs[0]["status"].get("succeeded")
    kube("delete", "job", jobs[0]["metadata"]["name"], "--wait=true")
    kube.wait_ready("fpgamodel", "unfinished")


def test_a_finished_job_is_not_run_again_because_it_is_gone(kube: Kube, service: str) -> None:
    for job in kube.list("job", f"accel.dev/model={service}"):
        kube("delete", "job", job["metadata"]["name"], "--wait=true")
    kube(
        "annotate", "fpgamodel", service, "poke=1", "--overwrite"
    )  # an event that makes the operator look again
    kube.wait_ready("fpgamodel", service)
    assert not kube.list("job", f"accel.dev/model={service}")
