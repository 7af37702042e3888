"""The registry's sweep on the real cluster: nothing is left of what is deleted, nothing is taken from what runs."""

from collections.abc import Callable
from typing import Any

import pytest
from kube import Kube
from networks import cnn
from objects import accel_service, chain

REPOSITORIES = "/var/lib/registry/docker/registry/v2/repositories"


def sweep(system: Kube, *arguments: str) -> str:
    """`fpga-operator sweep` in the operator's pod."""
    return system("exec", "deploy/fpga-operator", "--", "fpga-operator", "sweep", *arguments)


def on_disk(system: Kube, repository: str) -> tuple[set[str], set[str]]:
    """The tags and the manifests (hex digests) of a repository, as the registry's volume has them."""
    root = f"{REPOSITORIES}/{repository}/_manifests"
    listing = f"test ! -d {root} || find {root} -name link"
    found = system("exec", "deploy/registry", "--", "sh", "-c", listing).split()
    tags = {path.split("/")[-3] for path in found if path.endswith("/current/link")}
    manifests = {path.split("/")[-2] for path in found if "/revisions/sha256/" in path}
    return tags, manifests


@pytest.fixture(scope="module")
def digest(kube: Kube, push: Callable[[Any, str], str]) -> str:
    """A chain that serves; returns the digest of the image that its pod runs."""
    kube.apply(*chain("net", push(cnn(7), "sweep:1")))
    kube.wait_ready("accelservice", "net")
    running = kube.get("deployment", "net")["spec"]["template"]["spec"]["containers"][0]["image"]
    return str(running).rpartition("@")[2]


def test_a_wiped_repository_is_filled_again_by_itself(kube: Kube, system: Kube, digest: str) -> None:
    """A pod on a node without the image cannot pull it: that is how it is noticed."""
    (pod,) = kube.list("pods", "accel.dev/service=net")
    other = "accel-worker" if pod["spec"]["nodeName"] == "accel-worker2" else "accel-worker2"
    lost = [f"models/{kube.namespace}/net", f"images/{kube.namespace}/net"]
    system("exec", "deploy/registry", "--", "rm", "-r", *(f"{REPOSITORIES}/{name}" for name in lost))
    system("rollout", "restart", "deploy/registry")  # it keeps descriptors in memory
    system("rollout", "status", "deploy/registry", "--timeout=60s")
    assert all(on_disk(system, name) == (set(), set()) for name in lost)

    placement = {"nodeSelector": {"kubernetes.io/hostname": other}}
    kube.apply(accel_service("second", "net", placement=placement))
    kube.until(
        "model and image are in the registry again",
        lambda: all("v1" in on_disk(system, name)[0] for name in lost),
        story=("accelimage", "net"),
    )
    kube.wait_ready("accelservice", "second", timeout=120)
    for kind in ("fpgamodel", "accelimage", "accelservice"):
        kube.wait_ready(kind, "net", timeout=60)
    assert kube.get("fpgamodel", "net")["status"]["latestVersion"] == 1
    kube("delete", "accelservice/second")


def test_what_is_deleted_leaves_nothing_and_what_runs_stays(kube: Kube, system: Kube, digest: str) -> None:
    models, images = f"models/{kube.namespace}/net", f"images/{kube.namespace}/net"
    before = on_disk(system, models), on_disk(system, images)
    assert "v1" in before[0][0]
    assert "v1" in before[1][0]

    told = sweep(system, "--grace=0")
    assert models not in told, "it is in use"
    assert (on_disk(system, models), on_disk(system, images)) == before

    kube("delete", "fpgamodel/net", "accelimage/net")
    told = sweep(system, "--dry-run", "--grace=0")
    assert models in told
    assert "would go" in told
    assert (on_disk(system, models), on_disk(system, images)) == before, "a dry run deletes nothing"

    told = sweep(system, "--grace=0")
    assert models in told
    assert "deleted" in told
    assert on_disk(system, models) == (set(), set())
    assert digest.partition(":")[2] in on_disk(system, images)[1]


def test_the_image_of_a_running_pod_can_still_be_pulled(kube: Kube, digest: str) -> None:
    """By a pod that must ask the registry."""
    (pod,) = kube.list("pods", "accel.dev/service=net")
    container = {
        "name": "pull",
        "image": pod["spec"]["containers"][0]["image"],
        "imagePullPolicy": "Always",
        "command": ["python", "-c", "pass"],
        "securityContext": pod["spec"]["containers"][0]["securityContext"],
    }
    spec = {
        "restartPolicy": "Never",
        "automountServiceAccountToken": False,
        "securityContext": pod["spec"]["securityContext"],
        "containers": [container],
    }
    kube.apply({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "pull"}, "spec": spec})
    kube("wait", "--for=jsonpath={.status.phase}=Succeeded", "pod/pull", "--timeout=60s")
    kube("delete", "pod", "pull")


def test_after_the_last_pod_the_image_goes_too(kube: Kube, system: Kube, digest: str) -> None:
    kube("delete", "accelservice/net")
    kube.until(
        "the service's children are gone",
        lambda: (
            not [*kube.list("pods"), *kube.list("replicasets"), *kube.list("deployments"), *kube.list("jobs")]
        ),
    )
    sweep(system, "--grace=0")
    assert on_disk(system, f"images/{kube.namespace}/net") == (set(), set())
