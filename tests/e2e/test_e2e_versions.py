"""Versions: the same bytes are one version, new weights are the next, and there is a way back."""

from collections.abc import Callable
from typing import Any

import pytest
from kube import Kube, condition, is_ready
from networks import cnn
from objects import accel_image, accel_service, chain, fpga_model

Push = Callable[[Any, str], str]


@pytest.fixture(scope="module")
def first(push: Push) -> str:
    return push(cnn(1), "versions:1")


@pytest.fixture(scope="module")
def second(push: Push) -> str:
    return push(cnn(2), "versions:2")


def versions(kube: Kube, name: str) -> list[tuple[int, str]]:
    return [
        (entry["version"], entry["digest"]) for entry in kube.get("fpgamodel", name)["status"]["versions"]
    ]


def served(kube: Kube, name: str) -> str:
    deployment = kube.get("deployment", name)
    image: str = deployment["spec"]["template"]["spec"]["containers"][0]["image"]
    return image.rpartition("@")[2]


@pytest.fixture(scope="module")
def net(kube: Kube, first: str) -> str:
    """A chain that serves version 1 on the only FPGA of its node (the deadlock that kills naive rollouts)."""
    placement = {"nodeSelector": {"kubernetes.io/hostname": "accel-worker2"}}
    kube.apply(*reversed(chain("net", first, placement=placement)))
    kube.wait_ready("accelservice", "net")
    return "net"


def test_the_same_bytes_under_another_name_have_the_same_digest(kube: Kube, net: str, first: str) -> None:
    kube.apply(fpga_model("twin", first))
    kube.wait_ready("fpgamodel", "twin")
    assert versions(kube, "twin") == versions(kube, net)


def test_an_edit_that_changes_no_byte_makes_no_version(kube: Kube, net: str) -> None:
    before = versions(kube, net)
    kube.patch("fpgamodel", net, {"spec": {"description": "now with words"}})
    kube.wait_ready("fpgamodel", net)
    assert versions(kube, net) == before


def test_new_weights_roll_out_on_a_node_with_one_device(
    kube: Kube, net: str, first: str, second: str
) -> None:
    old = served(kube, net)
    kube.patch("fpgamodel", net, {"spec": {"source": {"uri": second}}})
    kube.wait_ready("fpgamodel", net)
    image = kube.wait_ready("accelimage", net)
    service = kube.wait_ready("accelservice", net)

    assert [number for number, _ in versions(kube, net)] == [2, 1]
    assert image["status"]["versions"][0]["modelVersion"] == 2
    assert served(kube, net) != old
    assert service["status"]["modelVersion"] == 2


def test_a_pinned_version_goes_back(kube: Kube, net: str) -> None:
    new = served(kube, net)
    kube.patch("accelimage", net, {"spec": {"modelRef": {"version": 1}}})
    kube.wait_ready("accelimage", net)
    service = kube.wait_ready("accelservice", net)
    assert service["status"]["modelVersion"] == 1
    assert served(kube, net) != new


def test_a_version_that_does_not_exist_names_those_that_do(kube: Kube, net: str) -> None:
    kube.apply(accel_image("lost", net, version=7))
    told = kube.until(
        "AccelImage lost says which versions exist",
        lambda: (
            condition(kube.get("accelimage", "lost"), "Ready").get("reason") == "VersionNotFound"
            and condition(kube.get("accelimage", "lost"), "Ready")["message"]
        ),
    )
    assert "7" in told
    assert "1" in told
    assert "2" in told
    kube("delete", "accelimage", "lost")


def test_deleted_and_applied_again_goes_on_counting(kube: Kube, first: str, push: Push) -> None:
    kube.apply(fpga_model("again", first))
    kube.wait_ready("fpgamodel", "again")
    kube("delete", "fpgamodel", "again")
    kube.apply(fpga_model("again", push(cnn(3), "versions:3")))
    kube.wait_ready("fpgamodel", "again")
    assert kube.get("fpgamodel", "again")["status"]["latestVersion"] == 2


def test_objects_that_come_a_day_apart_wait_for_each_other(kube: Kube, first: str) -> None:
    kube.apply(accel_service("late", "late", suspend=True))
    kube.until(
        "the service says it waits for its image",
        lambda: "late" in condition(kube.get("accelservice", "late"), "Ready").get("message", ""),
    )
    kube.apply(accel_image("late", "late"))
    kube.until(
        "the image says it waits for its model",
        lambda: condition(kube.get("accelimage", "late"), "Ready").get("reason") == "WaitingForModel",
    )
    assert condition(kube.get("accelimage", "late"), "Stalled").get("status") != "True"
    kube.apply(fpga_model("late", first))
    for kind in ("fpgamodel", "accelimage", "accelservice"):
        assert is_ready(kube.wait_ready(kind, "late"))
