"""Kinds of cards: what a model will be on one is known before any is used, and another kind is refused in words."""

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import onnx
import pytest
from kube import Kube, condition
from networks import cnn, model
from objects import accel_service, chain, fpga_model
from onnx import helper, numpy_helper

Push = Callable[[Any, str], str]
HERE, OTHER = "bw-cnn-a10", "bw-a10"  # the cluster's cards are all of one kind


def wide() -> onnx.ModelProto:
    """Return a convolution with more output tiles than a card has room for their biases."""
    weight = numpy_helper.from_array(np.ones((129 * 128, 3, 1, 1), np.float32), "w")
    nodes = [
        helper.make_node("Conv", ["image", "w"], ["c"], name="broad"),
        helper.make_node("GlobalAveragePool", ["c"], ["p"]),
        helper.make_node("Flatten", ["p"], ["probabilities"]),
    ]
    return model(nodes, ["N", 3, 2, 2], ["N", 129 * 128], [weight])


@pytest.fixture(scope="module")
def other(kube: Kube, push: Push) -> Iterator[str]:
    """A chain for another kind of card, as far as its image; a model that does not fit converts beside it."""
    uri = push(cnn(61), "sku:1")
    objects = chain("other", uri)
    objects[0]["spec"]["conversion"] = {"sku": OTHER}
    kube.apply(*objects, fpga_model("wide", push(wide(), "sku:wide")))
    kube.wait_ready("accelimage", "other")
    yield "other"
    kube("delete", "accelservice", "--all", "--wait=true")


def ready(kube: Kube, name: str) -> Any:
    return condition(kube.get("accelservice", name), "Ready")


def test_the_status_tells_before_any_device_is_used(kube: Kube, other: str) -> None:
    device = kube.get("fpgamodel", other)["status"]["device"]
    assert (device["sku"], device["fits"]) == (OTHER, True)
    assert all(device[figure] > 0 for figure in ("tiles", "vectors", "latencyMs", "inferencesPerSecond"))
    assert device["boundBy"] in ("compute", "dram", "issue", "host", "latency")
    assert {reason["operator"] for reason in device["hostReasons"]} >= {"Gemm", "Softmax"}
    assert all(reason["count"] and reason["reason"] for reason in device["hostReasons"])
    head, line = kube("get", "fmodel", other, "-o", "wide").splitlines()
    for column in ("SKU", "FITS", "TILES", "PER-SECOND", "BOUND-BY", "HOST-OPS"):
        assert column in head
    assert f"{OTHER}  " in line
    assert "true" in line


def test_without_a_card_of_its_kind_a_service_says_which_there_are(kube: Kube, other: str) -> None:
    kube.until("the service has no such card", lambda: ready(kube, other).get("reason") == "NoSuchSku")
    service = kube.get("accelservice", other)
    assert service["status"]["state"] == "Unschedulable"
    told = condition(service, "DevicesAvailable")
    assert (told["status"], told["reason"]) == ("False", "NoSuchSku")
    assert f"compiled for the SKU {OTHER}, and the cluster's FPGAs are {HERE}" in told["message"]
    pods = kube.list("pod", f"accel.dev/service={other}")
    assert not [pod for pod in pods if pod["spec"].get("nodeName")], "no FPGA is held meanwhile"


def test_a_card_refuses_an_image_that_the_operator_knows_nothing_of(kube: Kube, other: str) -> None:
    image = kube.get("accelimage", other)["status"]["image"]
    service = accel_service("unknown", "none")
    service["spec"] = {"image": image, "expose": {"type": "NodePort"}}
    kube.apply(service)
    kube.until("the card's words", lambda: ready(kube, "unknown").get("reason") == "DeviceSkuMismatch")
    found = kube.get("accelservice", "unknown")
    assert found["status"]["state"] == "Failed"
    told = condition(found, "Stalled")["message"]
    assert f"compiled for the SKU {OTHER} and this card is a {HERE}" in told
    assert f"spec.conversion.sku {HERE}" in told, "the cure"
    kube("delete", "accelservice", "unknown")


def test_an_edit_of_the_model_heals_it(kube: Kube, other: str) -> None:
    kube.patch("fpgamodel", other, {"spec": {"conversion": {"sku": HERE}}})
    kube.wait_ready("fpgamodel", other)
    kube.wait_ready("accelimage", other)
    service = kube.wait_ready("accelservice", other)
    assert service["status"]["modelVersion"] == 2
    assert [version.get("sku") for version in kube.get("fpgamodel", other)["status"]["versions"]] == [
        HERE,
        OTHER,
    ]


def test_a_model_that_does_not_fit_says_what_is_too_large(kube: Kube, other: str) -> None:
    def unfit() -> bool:
        return condition(kube.get("fpgamodel", "wide"), "Converted").get("reason") == "DoesNotFit"

    kube.until("the model does not fit", unfit)
    found = kube.get("fpgamodel", "wide")
    assert found["status"]["device"] == {"sku": HERE, "fits": False}
    assert "addsub_vrf_0 129 > 128" in condition(found, "Converted")["message"]
