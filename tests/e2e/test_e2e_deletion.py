"""Deleting: in any order, at once, in the middle of a conversion, with the operator away. Nothing stays."""

import json
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from kube import Kube
from networks import cnn
from objects import chain

OWN, CHILDREN = "fpgamodel,accelimage,accelservice", "secret,networkpolicy,poddisruptionbudget,serviceaccount"
KINDS = f"{OWN},job,pod,deployment,replicaset,service,{CHILDREN}"
MINUTE = 60.0


@pytest.fixture(scope="module")
def source(push: Callable[[Any, str], str]) -> str:
    return push(cnn(32), "deletion:1")


def left(kube: Kube) -> list[str]:
    """What of ours is still in the namespace."""
    items = json.loads(kube("get", KINDS, "-o", "json"))["items"]
    found = [f"{item['kind']}/{item['metadata']['name']}" for item in items]
    return [name for name in found if name != "ServiceAccount/default"]


def empty(kube: Kube, seconds: float = MINUTE) -> None:
    """Await that nothing is left."""
    try:
        kube.until("nothing is left", lambda: not left(kube), timeout=seconds)
    except AssertionError as error:
        raise AssertionError(f"{error}\nleft: {left(kube)}") from None


@pytest.fixture
def away(system: Kube) -> Iterator[None]:
    """The operator scaled to 0 while the test runs."""
    system("scale", "deployment/fpga-operator", "--replicas=0")
    system.until(
        "the operator is away", lambda: not system.list("pod", "app.kubernetes.io/component=operator")
    )
    yield
    system("scale", "deployment/fpga-operator", "--replicas=1")
    system("rollout", "status", "deployment/fpga-operator", "--timeout=120s")


@pytest.fixture
def other(kube: Kube) -> Iterator[Kube]:
    """A namespace that the test itself deletes."""
    name = f"{kube.namespace}-other"
    tenant = Kube(kube.kubectl, kube.kubeconfig, name)
    tenant("create", "namespace", name)
    yield tenant
    tenant("delete", "namespace", name, "--ignore-not-found", "--timeout=120s", timeout=150)


def test_in_the_middle_of_a_conversion(kube: Kube, source: str) -> None:
    kube.apply(*chain("early", source))
    kube.until("a pod of the conversion", lambda: kube.list("pod", "accel.dev/model=early"))
    kube("delete", "fpgamodel/early", "accelimage/early", "accelservice/early", "--wait=false")
    empty(kube)


def test_upwards_and_what_runs_keeps_running_until_its_own_turn(kube: Kube, source: str) -> None:
    kube.apply(*chain("net", source))
    kube.wait_ready("accelservice", "net")
    (before,) = kube.list("pod", "accel.dev/service=net")
    kube("delete", "fpgamodel", "net")
    kube("delete", "accelimage", "net")
    kube.until(
        "the service says what is gone",
        lambda: "does not exist" in str(kube.get("accelservice", "net")["status"]["conditions"]),
    )
    (after,) = kube.list("pod", "accel.dev/service=net")
    assert after["metadata"]["uid"] == before["metadata"]["uid"]
    assert after["status"]["containerStatuses"][0]["ready"]
    kube("delete", "accelservice", "net")
    empty(kube)


def test_with_the_operator_away(kube: Kube, other: Kube, source: str, away: None) -> None:
    """Objects that no operator has seen, in a namespace that goes with them."""
    other.apply(*chain("unseen", source))
    other("delete", "namespace", other.namespace, f"--timeout={MINUTE:.0f}s", timeout=MINUTE + 30)
    kube.apply(*chain("unseen", source))
    kube("delete", "fpgamodel/unseen", "accelimage/unseen", "accelservice/unseen")
    empty(kube)


def test_a_namespace_with_everything_in_it_ends_within_a_minute(other: Kube, source: str) -> None:
    other.apply(*chain("net", source))
    other.until("a pod of the conversion", lambda: other.list("pod", "accel.dev/model=net"))
    other("delete", "namespace", other.namespace, f"--timeout={MINUTE:.0f}s", timeout=MINUTE + 30)
