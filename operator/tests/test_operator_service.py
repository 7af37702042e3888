"""AccelServices: the rows of the status contract, read off pods; children and devices."""

import json
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest
from fpga_operator.api.accelimage import AccelImageSpec, AccelImageStatus, ImageVersion
from fpga_operator.api.accelservice import AccelServiceSpec, AccelServiceStatus
from fpga_operator.api.base import StatusBase
from fpga_operator.plan.devices import DeviceView, NodeView, ServingPod
from fpga_operator.plan.fleet import ServiceDesired, ServiceObserved
from fpga_operator.plan.service import plan_service
from fpga_operator.plan.serving import ImageSeen
from fpga_operator.plan.types import Fault, Manifest, Plan
from fpga_operator.plan.upstream import Upstream
from operator_samples import CONFIG, D1, FPGA, I1, NOW, owner, server_pod
from test_operator_image import condition

NODES = tuple(
    NodeView(name=name, labels={"zone": name}, taints=(), ready=True, address=f"192.0.2.{number}")
    for number, name in enumerate(("a", "b"), 1)
)
LACK = f"0/3 nodes are available: 3 Insufficient {FPGA}."


def spec(**more: Any) -> AccelServiceSpec:
    return AccelServiceSpec.model_validate({"imageRef": {"name": "digits"}, **more})


def image(
    ready: bool = True, model: Upstream | None = None, observed: int = 1, there: bool = True
) -> ImageSeen:
    status = AccelImageStatus(
        observed_generation=observed,
        image=f"oci:///images/demo/digits@{I1}" if there else None,
        model_version=1 if there else None,
        repository="images/demo/digits",
        versions=(ImageVersion(version=1, digest=I1, model_version=1, model_digest=D1),) if there else (),
        conditions=(condition("Ready", "True" if ready else "False", "Built" if ready else "Building"),),
    )
    return ImageSeen(
        owner("AccelImage"), AccelImageSpec.model_validate({"modelRef": {"name": "net"}}), status, model
    )


def devices(*holders: tuple[str, str, str]) -> tuple[DeviceView, ...]:
    """Return three devices, two on a and one on b, with (node/id, namespace, pod) holding some."""
    held = {place: (namespace, pod) for place, namespace, pod in holders}
    return tuple(
        DeviceView(node, device, True, held.get(f"{node}/{device}"))
        for node, device in (("a", "0"), ("a", "1"), ("b", "0"))
    )


def plan(
    wanted: AccelServiceSpec | None = None,
    *,
    status: AccelServiceStatus | None = None,
    seconds: float = 0,
    generation: int = 1,
    deleting: bool = False,
    **world: Any,
) -> Plan:
    observed = ServiceObserved(
        status=status or AccelServiceStatus(),
        **{"image": image(), "nodes": NODES, "devices": devices(), **world},
    )
    desired = ServiceDesired(
        owner("AccelService", generation=generation, deleting=deleting), wanted or spec()
    )
    return plan_service(desired, observed, CONFIG, NOW + timedelta(seconds=seconds))


def child(result: Plan, kind: str) -> Manifest:
    (found,) = [manifest for manifest in result.children if manifest["kind"] == kind]
    return found


def live(wanted: AccelServiceSpec | None = None, **world: Any) -> Manifest:
    """Return the Deployment as the API server holds it once its controller has seen it."""
    manifest = json.loads(json.dumps(child(plan(wanted, **world), "Deployment")))
    manifest["metadata"] |= {"generation": 1, "uid": "d"}
    manifest["status"] = {"observedGeneration": 1}
    return manifest  # type: ignore[no-any-return]


REVISION = live()["spec"]["template"]["metadata"]["labels"]["accel.dev/revision"]


def pod(name: str = "p1", **more: Any) -> Manifest:
    return server_pod(name, more.pop("revision", REVISION), **more)


def summary(result: Plan) -> str:
    """state ready/available flags reason"""
    found = {c["type"]: c["status"] for c in result.status["conditions"]}
    ready = next(c for c in result.status["conditions"] if c["type"] == "Ready")
    flags = "".join(
        letter for kind, letter in (("Reconciling", "R"), ("Stalled", "S")) if found.get(kind) == "True"
    )
    return f"{result.status['state']} {found['Ready'][0]}/{found['Available'][0]} {flags or '-'} {ready['reason']}"


READY = pod(node="a", ready=True)
SERVING: dict[str, Any] = {"deployment": live(), "pods": (READY,)}
GOOD = AccelServiceStatus.model_validate(plan(**SERVING).status)
OLD = pod("old", revision="0000", node="a", ready=True)
CRASHING = {
    "state": {"waiting": {"reason": "CrashLoopBackOff"}},
    "lastState": {"terminated": {"exitCode": 1, "reason": "Error", "message": "no model"}},
}

CASES: dict[str, tuple[dict[str, Any], str]] = {
    "no image object": ({"image": None}, "Transitioning F/F R WaitingForImage"),
    "image not built": ({"image": image(ready=False, there=False)}, "Transitioning F/F R WaitingForImage"),
    "just created": ({}, "Transitioning F/F R RollingOut"),
    "pod starting": ({"deployment": live(), "pods": (pod(node="a"),)}, "Transitioning F/F R RollingOut"),
    "serves": (SERVING, "Healthy T/T - Serving"),
    "no free device, none serves": (
        {"deployment": live(), "pods": (pod(why=LACK),)}, "Unschedulable F/F R WaitingForDevice",
    ),
    "node selector matches nothing": (
        {"deployment": live(), "pods": (pod(why="0/3 nodes: didn't match selector"),)},
        "Unschedulable F/F R Unschedulable",
    ),
    "four on three": (
        {"wanted": spec(replicas=4), "deployment": live(spec(replicas=4)),
         "pods": (*(pod(f"p{n}", node="a", ready=True) for n in range(3)), pod("p4", why=LACK))},
        "Unhealthy F/T R WaitingForDevice",
    ),
    "one of two died": (
        {"wanted": spec(replicas=2), "deployment": live(spec(replicas=2)), "pods": (READY, pod("p2", node="b")),
         "status": GOOD},
        "Unhealthy F/T R ReplicasNotReady",
    ),
    "the only one died": (
        {"deployment": live(), "pods": (pod(node="a"),), "status": GOOD}, "Transitioning F/F R ReplicasNotReady",
    ),
    "upstream changed, goes on serving": (
        {**SERVING, "image": image(observed=0)}, "Transitioning F/T R UpstreamChanged",
    ),
    "the image has not looked at its model yet": (
        {**SERVING, "image": image(model=Upstream("FpgaModel", "net", 2, StatusBase(observed_generation=1)))},
        "Transitioning F/T R UpstreamChanged",
    ),
    "image deleted, goes on serving": (
        {**SERVING, "image": None, "status": GOOD}, "Transitioning F/T R WaitingForImage",
    ),
    "rolling: the old one serves": (
        {"deployment": live(), "pods": (OLD, pod("new", node="b"))}, "Transitioning F/T R RollingOut",
    ),
    "the Deployment's controller has not looked": (
        {"deployment": {**live(), "status": {}}, "pods": (READY,)}, "Transitioning F/T R RollingOut",
    ),
    "new revision crashes within its time": (
        {"deployment": live(), "pods": (pod(node="a", container=CRASHING),)}, "Transitioning F/F R RollingOut",
    ),
    "new revision not up in time": (
        {"deployment": live(), "pods": (OLD, pod("new", node="b", placed=-700, container=CRASHING))},
        "Failed F/T S ProgressDeadlineExceeded",
    ),
    "waiting for a device stops the clock": (
        {"deployment": live(), "pods": (OLD, pod("new", placed=-7000, why=LACK))}, "Transitioning F/T R RollingOut",
    ),
    "suspending": (
        {"wanted": spec(suspend=True), "deployment": live(spec(suspend=True)), "pods": (READY,)},
        "Transitioning F/T R Suspending",
    ),
    "suspended": (
        {"wanted": spec(suspend=True), "deployment": live(spec(suspend=True))}, "Healthy T/F - Suspended",
    ),
    "suspended without an image waits for it": (
        {"wanted": spec(suspend=True), "image": None}, "Transitioning F/F R WaitingForImage",
    ),
    "version that does not exist": (
        {"wanted": spec(imageRef={"name": "digits", "version": 9})}, "Failed F/F S VersionNotFound",
    ),
    "somebody else's child": (
        {**SERVING, "fault": Fault("NameConflict", "Service digits exists")}, "Failed F/T S NameConflict",
    ),
    "deleting": ({**SERVING, "deleting": True}, "Transitioning F/T R Deleting"),
}  # fmt: skip


@pytest.mark.parametrize(("world", "expected"), CASES.values(), ids=CASES)
def test_the_status_contract(world: dict[str, Any], expected: str) -> None:
    result = plan(**dict(world))
    assert summary(result) == expected, result.status["conditions"]
    assert all(c["observedGeneration"] == 1 for c in result.status["conditions"])


@pytest.mark.parametrize(("world", "_"), CASES.values(), ids=CASES)
def test_planning_twice_changes_nothing(world: dict[str, Any], _: object) -> None:
    first = plan(**dict(world))
    again = plan(**{**world, "status": AccelServiceStatus.model_validate(first.status), "seconds": 1})
    assert again.status == first.status
    assert again.children == first.children
    assert again.events == ()


def message(result: Plan, kind: str) -> str:
    return next(c["message"] for c in result.status["conditions"] if c["type"] == kind)


def test_who_holds_the_devices_is_said_by_service_and_node() -> None:
    four = spec(replicas=4)
    pods = (*(pod(f"p{n}", node="a", ready=True) for n in range(2)), pod("p3", why=LACK), pod("p4", why=LACK))
    result = plan(
        four,
        deployment=live(four),
        pods=pods,
        devices=devices(("a/0", "demo", "p0"), ("a/1", "demo", "p1"), ("b/0", "demo", "other-1")),
        serving_pods=(
            ServingPod("demo", "p0", "digits", "a"),
            ServingPod("demo", "p1", "digits", "a"),
            ServingPod("demo", "other-1", "other", "b"),
        ),
    )
    text = message(result, "DevicesAvailable")
    assert "2 replicas wait for an FPGA" in text
    assert "a: AccelService digits (2)" in text
    assert "b: AccelService other (1)" in text
    assert [(d["pod"], d["node"], d["device"]) for d in result.status["devices"]] == [
        ("p0", "a", "0"),
        ("p1", "a", "1"),
    ]


def test_holders_in_other_namespaces_stay_unnamed() -> None:
    result = plan(
        deployment=live(),
        pods=(pod(why=LACK),),
        devices=devices(("a/0", "secret", "hush"), ("a/1", "secret", "hush2"), ("b/0", "secret", "hush3")),
        serving_pods=(ServingPod("secret", "hush", "project-x", "a"),),
    )
    text = json.dumps(result.status)
    assert "another namespace" in text
    assert "hush" not in text
    assert "project-x" not in text


STRATEGIES = {
    # name: (devices held by, pods, deployment's revision) -> (surge, unavailable)
    "one free device": (devices(("a/0", "demo", "old")), (OLD,), (1, 0)),
    "none free": (
        devices(("a/0", "demo", "old"), ("a/1", "x", "y"), ("b/0", "x", "z")), (OLD,), (0, 1),
    ),
}  # fmt: skip


@pytest.mark.parametrize(("held", "pods", "expected"), STRATEGIES.values(), ids=STRATEGIES)
def test_strategy_at_the_start_of_a_rollout(
    held: tuple[DeviceView, ...], pods: tuple[Manifest, ...], expected: tuple[int, int]
) -> None:
    before = live()
    before["spec"]["template"]["metadata"]["labels"]["accel.dev/revision"] = "0000"
    rolling = child(plan(deployment=before, pods=pods, devices=held), "Deployment")["spec"]["strategy"][
        "rollingUpdate"
    ]
    assert (rolling["maxSurge"], rolling["maxUnavailable"]) == expected


def test_a_surge_without_its_device_is_given_up() -> None:
    surging = live()
    surging["spec"]["strategy"]["rollingUpdate"] = {"maxSurge": 1, "maxUnavailable": 0}
    world = {"deployment": surging, "pods": (OLD, pod("new", placed=-5, why=LACK)), "devices": devices(
        ("a/0", "demo", "old"), ("a/1", "x", "y"), ("b/0", "x", "z"))}  # fmt: skip
    waits = plan(**world)
    assert child(waits, "Deployment")["spec"]["strategy"]["rollingUpdate"]["maxSurge"] == 1
    assert waits.requeue_after == 5
    given_up = child(plan(**world, seconds=5), "Deployment")["spec"]["strategy"]["rollingUpdate"]
    assert given_up == {"maxSurge": 0, "maxUnavailable": 1}
    leaving = (*world["pods"], pod("gone", revision="0000", node="a", terminating=True))  # type: ignore[misc]
    patient = child(plan(**{**world, "pods": leaving}, seconds=5), "Deployment")
    assert patient["spec"]["strategy"]["rollingUpdate"]["maxSurge"] == 1, "a device is about to be free"


def test_the_clock_of_the_deadline_starts_when_the_pod_has_its_device() -> None:
    wanted = spec(rollout={"progressDeadlineSeconds": 60})
    world = {"deployment": live(wanted), "pods": (pod(node="a", placed=-50),)}
    assert summary(plan(wanted, **world)) == "Transitioning F/F R RollingOut"
    assert plan(wanted, **world).requeue_after == 10
    assert summary(plan(wanted, **world, seconds=10)) == "Failed F/F S ProgressDeadlineExceeded"


def test_a_missing_tls_secret_is_told_from_the_pod_that_waits_for_its_volumes() -> None:
    wanted = spec(tls={"secretRef": {"name": "cert"}})
    revision = live(wanted)["spec"]["template"]["metadata"]["labels"]["accel.dev/revision"]
    world = {
        "deployment": live(wanted),
        "pods": (pod(revision=revision, node="a", placed=-20, sandboxed=False),),
    }
    result = plan(wanted, **world)
    assert "kubectl create secret tls cert" in message(result, "Ready")
    tls = next(c for c in result.status["conditions"] if c["type"] == "TLSReady")
    assert (tls["status"], tls["reason"]) == ("False", "VolumesNotMounted")
    assert "TLSReady" not in {c["type"] for c in plan().status["conditions"]}


def test_children_and_where_they_are() -> None:
    result = plan()
    assert sorted(manifest["kind"] for manifest in result.children) == [
        "Deployment",
        "NetworkPolicy",
        "PodDisruptionBudget",
        "Service",
        "ServiceAccount",
    ]
    assert result.keys is not None
    for manifest in result.children:
        meta = manifest["metadata"]
        assert meta["labels"] == {
            "app.kubernetes.io/managed-by": "fpga-operator",
            "accel.dev/service": "digits",
        }
        (reference,) = meta["ownerReferences"]
        assert reference["controller"]
        assert reference["uid"] == "uid-digits"
    policy = child(result, "NetworkPolicy")["spec"]
    assert [port["port"] for port in policy["ingress"][0]["ports"]] == [8500, 8502, 8503]
    assert "egress" not in policy


def test_the_server_pod() -> None:
    template = child(plan(), "Deployment")["spec"]["template"]["spec"]
    (server,) = template["containers"]
    assert server["image"] == f"localhost:5000/images/demo/digits@{I1}"
    assert server["resources"]["limits"][FPGA] == "1"
    assert server["readinessProbe"]["grpc"] == {"port": 8502, "service": "ready"}
    assert server["livenessProbe"]["grpc"] == {"port": 8502, "service": "live"}
    assert template["automountServiceAccountToken"] is False
    assert {v["name"] for v in template["volumes"]} == {"tmp", "keys"}
    off = child(plan(spec(auth={"enabled": False})), "Deployment")["spec"]["template"]["spec"]
    assert {v["name"] for v in off["volumes"]} == {"tmp"}
    assert {"name": "ACCEL_AUTH", "value": "disabled"} in off["containers"][0]["env"]


RESOURCES = {
    "none given": ({}, {"requests": {"cpu": "100m", "memory": "256Mi"}, "limits": {"memory": "2Gi", FPGA: "1"}}),
    "limits alone": (
        {"limits": {"memory": "4Gi"}}, {"limits": {"memory": "4Gi", FPGA: "1"}},
    ),
    "requests alone": (
        {"requests": {"cpu": 2}}, {"requests": {"cpu": "2", "memory": "256Mi"}, "limits": {FPGA: "1"}},
    ),
}  # fmt: skip


@pytest.mark.parametrize(("given", "expected"), RESOURCES.values(), ids=RESOURCES)
def test_resources(given: dict[str, Any], expected: dict[str, Any]) -> None:
    wanted = spec(resources=given) if given else spec()
    (server,) = child(plan(wanted), "Deployment")["spec"]["template"]["spec"]["containers"]
    assert server["resources"] == expected


ADDRESSES = {
    "inside the cluster": ({}, None, "digits.demo.svc:8500"),
    "another port": ({"port": 443}, None, "digits.demo.svc:443"),
    "node port not given yet": ({"type": "NodePort"}, None, None),
    "node port": ({"type": "NodePort"}, 31000, "192.0.2.1:31000"),
}


@pytest.mark.parametrize(("expose", "number", "expected"), ADDRESSES.values(), ids=ADDRESSES)
def test_scoring_uri(expose: dict[str, Any], number: int | None, expected: str | None) -> None:
    service = {"spec": {"ports": [{"name": "grpc", "nodePort": number}]}} if number else None
    assert plan(spec(expose=expose), service=service).status.get("scoringUri") == expected


def test_the_address_that_was_given_out_is_kept() -> None:
    service = {"spec": {"ports": [{"name": "grpc", "nodePort": 31999}]}}  # a hand changed it just now
    before = AccelServiceStatus(scoring_uri="192.0.2.2:31000")
    wanted = spec(expose={"type": "NodePort"})
    assert plan(wanted, service=service, status=before).status["scoringUri"] == "192.0.2.2:31000"
    gone = plan(wanted, service=service, status=before, nodes=NODES[:1]).status["scoringUri"]
    assert gone == "192.0.2.1:31000"


def test_a_refused_port_is_not_given_out_as_an_address() -> None:
    wanted = spec(expose={"type": "NodePort", "nodePort": 31000})
    told = plan(wanted, fault=Fault("ChildRejected", "provided port is already allocated"))
    assert "scoringUri" not in told.status


GIVEN_OUT = {
    # name: (scoringUri before, reason of Stalled, the Service is there) -> node port asked for
    "a hand deleted the Service": ("192.0.2.1:31000", "", False, 31000),
    "somebody has taken the port since": ("192.0.2.1:31000", "ChildRejected", False, None),
    "it was inside the cluster until now": ("digits.demo.svc:8500", "", False, None),
    "the Service is there and keeps its port": ("192.0.2.1:31000", "", True, 31000),
}


@pytest.mark.parametrize(("before", "stalled", "there", "expected"), GIVEN_OUT.values(), ids=GIVEN_OUT)
def test_a_node_port_is_asked_for_again(before: str, stalled: str, there: bool, expected: int | None) -> None:
    conditions = (condition("Stalled", "True", stalled),) if stalled else ()
    result = plan(
        spec(expose={"type": "NodePort"}),
        status=AccelServiceStatus(scoring_uri=before, conditions=conditions),
        service={"spec": {"ports": [{"name": "grpc", "nodePort": 31000}]}} if there else None,
    )
    assert child(result, "Service")["spec"]["ports"][0].get("nodePort") == expected


def test_an_image_by_digest() -> None:
    by_digest = AccelServiceSpec.model_validate({"image": f"oci:///teams/x@{I1}"})
    template = child(plan(by_digest, image=None), "Deployment")["spec"]["template"]["spec"]
    assert template["containers"][0]["image"] == f"localhost:5000/teams/x@{I1}"


def test_debris_of_a_reboot_is_deleted() -> None:
    debris = pod("debris", node="a", phase="Failed")
    result = plan(deployment=live(), pods=(READY, debris))
    assert [(ref.kind, ref.name, ref.uid) for ref in result.deletes] == [("Pod", "debris", "uid-debris")]
    assert summary(result) == "Healthy T/T - Serving"


def test_another_replica_is_work_not_illness() -> None:
    two = spec(replicas=2)
    result = plan(two, status=GOOD, generation=2, deployment=live(two), pods=(READY, pod("p2", node="b")))
    assert summary(result).startswith("Transitioning F/T R RollingOut")
    assert replace(result).status["lastGood"]["modelVersion"] == 1


def test_a_free_device_is_not_what_a_big_replica_waits_for() -> None:
    why = "0/3 nodes are available: 1 Insufficient fpga.intel.com/arria10, 2 Insufficient cpu."
    held = devices(("a/0", "demo", "p0"))
    result = plan(deployment=live(), pods=(pod(why=why),), devices=held)
    assert summary(result) == "Unschedulable F/F R Unschedulable"
    assert "2 Insufficient cpu" in message(result, "Ready")


def test_a_pod_that_may_not_be_made_says_why() -> None:
    refused = live()
    refused["status"]["conditions"] = [
        {"type": "ReplicaFailure", "status": "True", "message": "pods is forbidden: exceeded quota: q"}
    ]
    assert "no pod is made: pods is forbidden: exceeded quota: q" in message(
        plan(deployment=refused), "Ready"
    )
