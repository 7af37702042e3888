"""The convert Job runs strangers' models: what its pod may not do, shown on the pod that really ran."""

from collections.abc import Callable
from typing import Any

import pytest
from kube import Kube, Object
from networks import cnn
from objects import fpga_model


@pytest.fixture(scope="module")
def pod(kube: Kube, push: Callable[[Any, str], str]) -> Object:
    """The pod of a conversion that succeeded."""
    kube.apply(fpga_model("boxed", push(cnn(61), "sandbox:1")))
    kube.wait_ready("fpgamodel", "boxed")
    (found,) = kube.list("pod", "accel.dev/model=boxed")
    return found


def test_three_ordered_containers(pod: Object) -> None:
    assert [container["name"] for container in pod["spec"]["initContainers"]] == ["fetch", "convert"]
    assert [container["name"] for container in pod["spec"]["containers"]] == ["push"]


def test_every_container_is_locked_down(pod: Object) -> None:
    for container in [*pod["spec"]["initContainers"], *pod["spec"]["containers"]]:
        context = {**pod["spec"].get("securityContext", {}), **container["securityContext"]}
        assert context["runAsNonRoot"] is True
        assert context["readOnlyRootFilesystem"] is True
        assert context["allowPrivilegeEscalation"] is False
        assert context["capabilities"] == {"drop": ["ALL"]}
        assert context["seccompProfile"] == {"type": "RuntimeDefault"}
        assert "memory" in container["resources"]["limits"]


def test_no_token_a_deadline_and_a_sized_volume(kube: Kube, pod: Object) -> None:
    assert pod["spec"]["automountServiceAccountToken"] is False
    mounts = [
        mount["mountPath"]
        for entry in pod["spec"]["initContainers"]
        for mount in entry.get("volumeMounts", [])
    ]
    assert not [path for path in mounts if "serviceaccount" in path]
    job = kube.get("job", pod["metadata"]["labels"]["batch.kubernetes.io/job-name"])
    assert job["spec"]["activeDeadlineSeconds"] > 0
    for volume in pod["spec"]["volumes"]:
        assert volume["emptyDir"]["sizeLimit"]


def test_the_converter_has_no_secret(pod: Object) -> None:
    assert not [volume for volume in pod["spec"]["volumes"] if "secret" in volume or "projected" in volume]
