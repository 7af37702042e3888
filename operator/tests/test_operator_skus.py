"""Kinds of cards: what a service is told that has none of its kind, and which nodes its pods keep off."""

import json
from dataclasses import replace
from typing import Any

import pytest
from fpga_operator.api.fpgamodel import FpgaModelSpec, FpgaModelStatus
from fpga_operator.plan.devices import DeviceView, devices_of
from fpga_operator.plan.madefrom import inputs
from fpga_operator.plan.pods import pod_view
from fpga_operator.plan.serving import ImageSeen
from fpga_operator.plan.skus import Skus, keeping_off, kept_off
from fpga_operator.plan.types import Manifest, Plan
from operator_samples import D1, FPGA, ended, job, job_pod, server_pod
from test_operator_image import DONE as IMAGE_DONE
from test_operator_image import model
from test_operator_image import plan as plan_image
from test_operator_model import DESIRED, NAME, PUSHED
from test_operator_model import plan as plan_model
from test_operator_service import GOOD, NODES, REVISION, child, image, plan, summary
from test_operator_service import spec as spec_of

CNN, A10 = "bw-cnn-a10", "bw-a10"
LACK = f"0/2 nodes are available: 1 Insufficient {FPGA}, 1 node(s) didn't match Pod's node affinity/selector."


def cards(**skus: str) -> tuple[DeviceView, ...]:
    """Return one card a node, of these kinds."""
    return tuple(DeviceView(node, "0", True, None, sku=sku) for node, sku in skus.items())


def built(sku: str | None) -> ImageSeen:
    """Return a built image whose model is for that kind."""
    seen = image()
    versions = tuple(version.model_copy(update={"sku": sku}) for version in seen.status.versions)
    return replace(seen, status=seen.status.model_copy(update={"versions": versions}))


def deployment(result: Plan) -> Manifest:
    found: Manifest = json.loads(json.dumps(child(result, "Deployment")))
    found["metadata"] |= {"generation": 1, "uid": "d"}
    found["status"] = {"observedGeneration": 1}
    return found


def revision(result: Plan) -> str:
    found: str = child(result, "Deployment")["spec"]["template"]["metadata"]["labels"]["accel.dev/revision"]
    return found


def off(result: Plan) -> frozenset[str]:
    return kept_off(child(result, "Deployment")["spec"]["template"]["spec"])


def told(result: Plan, kind: str) -> tuple[str, str, str]:
    found = next(c for c in result.status["conditions"] if c["type"] == kind)
    return found["status"], found["reason"], found["message"]


SEEN = {
    # name: (wanted, cards by node) -> (nodes to keep off, whether the kind is lacking)
    "not known": (None, {"a": CNN, "b": A10}, "", False),
    "everywhere": (CNN, {"a": CNN, "b": CNN}, "", False),
    "on one of two": (A10, {"a": CNN, "b": A10}, "a", False),
    "nowhere": (A10, {"a": CNN, "b": CNN}, "ab", True),
    "a node that does not tell": (A10, {"a": CNN, "b": ""}, "a", True),
    "nobody tells": (A10, {"a": "", "b": ""}, "", False),
    "no card at all": (A10, {}, "", False),
}


@pytest.mark.parametrize(("wanted", "there", "others", "lacking"), SEEN.values(), ids=SEEN)
def test_kinds_in_the_cluster(wanted: str | None, there: dict[str, str], others: str, lacking: bool) -> None:
    skus = Skus.of(wanted, cards(**there))
    assert skus.others == frozenset(others)
    assert bool(skus.lacking()) is lacking


def test_a_node_with_both_kinds_is_kept() -> None:
    both = (*cards(a=CNN), DeviceView("a", "1", True, None, sku=A10))
    assert not Skus.of(A10, both).others


def test_the_kind_is_read_from_the_fpga_node() -> None:
    body = {"metadata": {"name": "a"}, "status": {"devices": [{"id": "0", "sku": A10}, {"id": "1"}]}}
    assert [device.sku for device in devices_of(body)] == [A10, ""]


def test_what_is_kept_off_is_read_back() -> None:
    pod: Manifest = {"containers": []}
    assert keeping_off(pod, ()) == pod
    assert kept_off(pod) == frozenset()
    assert kept_off(keeping_off(pod, {"b", "a"})) == frozenset("ab")
    (term,) = keeping_off(pod, {"b", "a"})["affinity"]["nodeAffinity"][
        "requiredDuringSchedulingIgnoredDuringExecution"
    ]["nodeSelectorTerms"]
    # The API server takes one value of one NotIn; all fields of a term must hold.
    assert [field["values"] for field in term["matchFields"]] == [["a"], ["b"]]


def test_without_another_kind_the_template_is_as_it_always_was() -> None:
    assert revision(plan(image=built(CNN), devices=cards(a=CNN, b=CNN))) == REVISION
    assert revision(plan(image=built(None), devices=cards(a=CNN, b=A10))) == REVISION


def test_pods_keep_off_other_cards() -> None:
    assert off(plan(image=built(A10), devices=cards(a=CNN, b=A10))) == {"a"}
    assert off(plan(image=built(CNN), devices=cards(a=CNN, b=A10))) == {"b"}


def test_a_node_that_joins_restarts_nobody() -> None:
    before = deployment(plan(image=built(CNN), devices=cards(a=CNN)))
    world: dict[str, Any] = {"image": built(CNN), "devices": cards(a=CNN, b=A10), "deployment": before}
    assert revision(plan(**world)) == REVISION
    here = server_pod("p1", REVISION, node="a", ready=True)
    assert revision(plan(**world, pods=(here,))) == REVISION
    # Until the need is proven: a pod of this revision stands where its card will not take it.
    there = server_pod("p2", REVISION, node="b")
    assert off(plan(**world, pods=(here, there))) == {"b"}
    edited = spec_of(resources={"limits": {"memory": "3Gi"}})
    assert off(plan(edited, **world)) == {"b"}, "an edit brings a new revision anyway"


def test_a_node_that_leaves_restarts_nobody() -> None:
    before = plan(image=built(CNN), devices=cards(a=CNN, b=A10))
    after = plan(image=built(CNN), devices=cards(a=CNN), deployment=deployment(before))
    assert (off(after), revision(after)) == ({"b"}, revision(before))


def test_a_node_whose_cards_become_another_kind_is_used_by_those_who_find_no_place() -> None:
    before = plan(image=built(A10), devices=cards(a=CNN, b=CNN))
    world: dict[str, Any] = {
        "image": built(A10), "devices": cards(a=CNN, b=A10), "deployment": deployment(before),
    }  # fmt: skip
    assert off(before) == {"a", "b"}
    serves = server_pod("p1", revision(before), node="b", ready=True)
    assert off(plan(**world, pods=(serves,))) == {"a", "b"}, "nobody lacks a place, nobody is restarted"
    waits = server_pod("p2", revision(before), why=LACK, placed=-60)
    assert off(plan(**world, pods=(serves, waits))) == {"a"}


def test_an_image_that_is_gone_restarts_nobody() -> None:
    before = deployment(plan(image=built(A10), devices=cards(a=CNN, b=A10)))
    after = plan(image=None, devices=cards(a=CNN, b=A10), deployment=before, status=GOOD)
    assert off(after) == {"a"}


def test_a_rule_that_a_hand_wrote_goes() -> None:
    before = deployment(plan(image=built(CNN), devices=cards(a=CNN)))
    before["spec"]["template"]["spec"] = keeping_off(before["spec"]["template"]["spec"], {"a"})
    assert off(plan(image=built(CNN), devices=cards(a=CNN), deployment=before)) == frozenset()


def test_no_card_of_the_kind() -> None:
    result = plan(image=built(A10), devices=cards(a=CNN, b=CNN))
    assert summary(result) == "Unschedulable F/F R NoSuchSku"
    status, reason, message = told(result, "DevicesAvailable")
    assert (status, reason) == ("False", "NoSuchSku")
    assert "compiled for the SKU bw-a10, and the cluster's FPGAs are bw-cnn-a10" in message
    assert "set spec.conversion.sku of its FpgaModel to bw-cnn-a10, or add a node with a bw-a10" in message
    assert message in told(result, "Ready")[2]


def test_what_serves_goes_on_when_the_next_model_is_for_no_card_there_is() -> None:
    old = server_pod("old", REVISION, node="a", ready=True)
    before = deployment(plan(devices=cards(a=CNN, b=CNN)))
    new = built(A10)
    new = replace(new, status=new.status.model_copy(update={"image": f"oci:///images/demo/digits@{D1}"}))
    versions = (new.status.versions[0].model_copy(update={"digest": D1}),)
    new = replace(new, status=new.status.model_copy(update={"versions": versions}))
    result = plan(image=new, devices=cards(a=CNN, b=CNN), deployment=before, pods=(old,), status=GOOD)
    assert summary(result) == "Unhealthy F/T R NoSuchSku"
    rolling = child(result, "Deployment")["spec"]["strategy"]["rollingUpdate"]
    assert rolling == {"maxSurge": 1, "maxUnavailable": 0}, "an old pod's card is of no use to the new one"


def test_busy_cards_of_the_kind_are_waited_for() -> None:
    held = (
        *cards(a=CNN),
        DeviceView("b", "0", True, ("demo", "other"), sku=A10),
    )
    world: dict[str, Any] = {"image": built(A10), "devices": held, "nodes": NODES}
    before = deployment(plan(**world))
    waiting = server_pod("p1", revision(plan(**world)), why=LACK, placed=-60)
    result = plan(**world, deployment=before, pods=(waiting,))
    assert summary(result) == "Unschedulable F/F R WaitingForDevice"
    assert "of 1 FPGAs, b: pod demo/other (1)" in told(result, "DevicesAvailable")[2]


def refused(message: str, code: int = 78) -> dict[str, Any]:
    return {
        "state": {"waiting": {"reason": "CrashLoopBackOff"}},
        "lastState": {"terminated": {"exitCode": code, "reason": "Error", "message": message}},
    }


REFUSALS = {
    # name: (container) -> reason and words
    "another kind": (
        refused("DeviceSkuMismatch: for bw-a10; convert\n"),
        ("DeviceSkuMismatch", "for bw-a10; convert"),
    ),
    "no word": (refused("the card says no"), ("ProgramRefused", "the card says no")),
    "nothing said": (refused(""), ("ProgramRefused", "it did not say why")),
    "a crash": (refused("DeviceSkuMismatch: x", code=1), None),
}


@pytest.mark.parametrize(("container", "refusal"), REFUSALS.values(), ids=REFUSALS)
def test_a_cards_refusal_is_read(container: dict[str, Any], refusal: tuple[str, str] | None) -> None:
    assert pod_view(server_pod("p1", "r", node="a", container=container)).refusal == refusal


def test_a_refusal_fails_the_rollout_at_once() -> None:
    world: dict[str, Any] = {"devices": cards(a=CNN), "deployment": deployment(plan(devices=cards(a=CNN)))}
    pod = server_pod(
        "p1", REVISION, node="a", container=refused("DeviceSkuMismatch: it is for bw-a10; convert")
    )
    result = plan(**world, pods=(pod,))
    assert summary(result) == "Failed F/F S DeviceSkuMismatch"
    assert (
        told(result, "Stalled")[2] == "0 of 1 replicas serve; p1 on a is refused: it is for bw-a10; convert"
    )
    ready = server_pod("p1", REVISION, node="a", ready=True, container=refused("DeviceSkuMismatch: it was"))
    assert summary(plan(**world, pods=(ready,))) == "Healthy T/T - Serving"


# -- the way of the kind from the model's spec to the service ---------------------------------------------------


def spec(**conversion: Any) -> FpgaModelSpec:
    return FpgaModelSpec.model_validate({"source": {"uri": "oci:///s:1"}, "conversion": conversion})


def test_the_first_kind_asks_nobody_to_convert_again() -> None:
    bare = FpgaModelSpec.model_validate({"source": {"uri": "oci:///s:1"}})
    assert inputs(spec(sku=CNN)) == inputs(bare)
    assert inputs(spec(sku=A10)) != inputs(bare)


def test_the_kind_reaches_the_job_and_the_status() -> None:
    wanted = replace(DESIRED, spec=spec(sku=A10))
    (made,) = plan_model(wanted).children
    text = made["spec"]["template"]["spec"]["containers"][0]["env"][0]["value"]
    assert json.loads(text)["conversion"]["sku"] == A10
    (bare,) = plan_model().children
    text = bare["spec"]["template"]["spec"]["containers"][0]["env"][0]["value"]
    assert json.loads(text)["conversion"]["sku"] == CNN


DEVICE = {
    "sku": CNN, "fits": True, "tiles": 5, "vectors": 6, "latencyMs": 1.5, "inferencesPerSecond": 640.0,
    "boundBy": "dram", "offloadedOps": 5, "hostOps": 2,
    "hostReasons": [{"operator": "Softmax", "count": 2, "reason": "the device has no such operator"}],
}  # fmt: skip


def done(device: dict[str, Any] | None) -> Plan:
    version = {**PUSHED["model"], "sku": CNN}
    result = {**PUSHED, "model": version, "versions": [version], "device": device}
    return plan_model(
        jobs=(job(NAME, "Complete"),), pods=(job_pod("Succeeded", fetch=ended(), push=ended(**result)),)
    )


def test_the_status_shows_what_the_compiler_said() -> None:
    result = done(DEVICE)
    assert result.status["device"] == DEVICE
    assert result.status["versions"][0]["sku"] == CNN
    assert FpgaModelStatus.model_validate(result.status).dump() == result.status
    assert "hostReasons" not in done({**DEVICE, "hostReasons": []}).status["device"]


def test_what_the_host_takes_over_is_told() -> None:
    device = {
        "sku": CNN,
        "fits": False,
        "hostReasons": [{"operator": "all", "count": 3, "reason": "too wide"}],
    }
    assert told(done(device), "Converted")[2] == "converted to ONNX; no part runs on the FPGA; too wide"


def test_a_model_for_the_host_alone_is_told() -> None:
    device = {
        "offloadedOps": 0,
        "hostOps": 1,
        "hostReasons": [{"operator": "Sin", "count": 1, "reason": "no"}],
    }
    result = done(device)
    assert told(result, "Converted")[2] == "converted to ONNX; no part runs on the FPGA"
    assert result.status["device"] == device


def test_what_does_not_fit_is_told() -> None:
    failed = ended(65, "Error", step="convert", reason="DoesNotFit", message="layer 'c' needs 9 vectors")
    result = plan_model(
        jobs=(job(NAME, "Failed", "PodFailurePolicy"),), pods=(job_pod("Failed", convert=failed, push={}),)
    )
    assert told(result, "Converted") == ("False", "DoesNotFit", "layer 'c' needs 9 vectors")
    assert result.status["device"] == {"sku": CNN, "fits": False}
    again = plan_model(status=FpgaModelStatus.model_validate(result.status))
    assert again.status["device"] == {"sku": CNN, "fits": False}
    assert told(again, "Converted")[1] == "DoesNotFit"


def test_the_kind_goes_with_the_image() -> None:
    seen = model()
    versions = tuple(version.model_copy(update={"sku": A10}) for version in seen.status.versions)
    seen = replace(seen, status=seen.status.model_copy(update={"versions": versions}))
    (made,) = plan_image(seen=seen).children
    text = made["spec"]["template"]["spec"]["containers"][0]["env"][0]["value"]
    assert json.loads(text)["model"]["sku"] == A10
    assert (
        "sku"
        not in json.loads(
            plan_image(seen=model()).children[0]["spec"]["template"]["spec"]["containers"][0]["env"][0][
                "value"
            ]
        )["model"]
    ), "what an older release asked for stays as it was"
    result = plan_image(seen=seen, **IMAGE_DONE)
    assert [version["sku"] for version in result.status["versions"]] == [A10]
