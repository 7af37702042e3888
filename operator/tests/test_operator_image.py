"""AccelImages: which version, built once, and what is said while there is none."""

from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest
from fpga_operator.api.accelimage import AccelImageSpec, AccelImageStatus, ImageVersion
from fpga_operator.api.base import Condition
from fpga_operator.api.fpgamodel import FpgaModelSpec, FpgaModelStatus, ModelVersion
from fpga_operator.plan.image import ImageDesired, ImageObserved, plan_image
from fpga_operator.plan.jobflow import Jobs
from fpga_operator.plan.modelref import ModelSeen
from fpga_operator.plan.types import Plan
from operator_samples import CONFIG, D1, D2, D3, I1, I2, NOW, RUNNING, ended, job, job_pod, owner

DESIRED = ImageDesired(owner("AccelImage"), AccelImageSpec.model_validate({"modelRef": {"name": "net"}}))


def condition(kind: str, status: str, reason: str, generation: int = 1) -> Condition:
    return Condition.model_validate(
        {
            "type": kind,
            "status": status,
            "observedGeneration": generation,
            "lastTransitionTime": "2026-01-01T00:00:00Z",
            "reason": reason,
            "message": "m",
        }
    )


def model(
    latest: int | None = 1, ready: bool = True, stalled: bool = False, observed: int = 1, mode: str = "Auto"
) -> ModelSeen:
    digests = (D1, D2, D3)
    conditions = [condition("Ready", "True" if ready else "False", "Converted" if ready else "Fetching")]
    if stalled:
        conditions.append(condition("Stalled", "True", "SourceNotFound"))
    return ModelSeen(
        owner("FpgaModel", "net"),
        FpgaModelSpec.model_validate({"source": {"uri": "oci:///s/x:1"}, "conversion": {"mode": mode}}),
        FpgaModelStatus(
            observed_generation=observed,
            latest_version=latest,
            versions=tuple(ModelVersion(version=n, digest=digests[n - 1]) for n in range(latest or 0, 0, -1)),
            conditions=tuple(conditions),
        ),
    )


def pinned(version: int) -> ImageDesired:
    return replace(
        DESIRED, spec=AccelImageSpec.model_validate({"modelRef": {"name": "net", "version": version}})
    )


def plan(
    desired: ImageDesired = DESIRED,
    status: AccelImageStatus | None = None,
    seen: ModelSeen | None = None,
    seconds: float = 0,
    config: Any = CONFIG,
    **jobs: Any,
) -> Plan:
    world = ImageObserved(status or AccelImageStatus(), seen, Jobs(**jobs))
    return plan_image(desired, world, config, NOW + timedelta(seconds=seconds))


def summary(result: Plan) -> tuple[str, str, str, str, str]:
    found = {c["type"]: c["status"] for c in result.status["conditions"]}
    ready = next(c for c in result.status["conditions"] if c["type"] == "Ready")
    flags = "".join(
        letter for kind, letter in (("Reconciling", "R"), ("Stalled", "S")) if found.get(kind) == "True"
    )
    return (
        result.status["creationState"],
        result.status["state"],
        ready["reason"],
        f"ready={found['Ready']} available={found['Available']}",
        flags,
    )


def made(result: Plan) -> list[str]:
    return [child["metadata"]["name"] for child in result.children]


NAME = made(plan(seen=model()))[0]
IMAGE: dict[str, Any] = {
    "step": "build",
    "image": {"version": 1, "digest": I1, "modelVersion": 1, "modelDigest": D1},
    "versions": [{"version": 1, "digest": I1, "modelVersion": 1, "modelDigest": D1}],
}
DONE: dict[str, Any] = {
    "jobs": (job(NAME, "Complete"),),
    "pods": (job_pod("Succeeded", build=ended(**IMAGE)),),
}
BUILT = AccelImageStatus.model_validate(plan(seen=model(), **DONE).status)

NO = "ready=False available=False"
STILL = "ready=False available=True"
CASES: dict[str, tuple[dict[str, Any], tuple[str, str, str, str, str]]] = {
    "no model": ({}, ("Pending", "Transitioning", "WaitingForModel", NO, "R")),
    "model still converting": (
        {"seen": model(None, ready=False)}, ("Pending", "Transitioning", "WaitingForModel", NO, "R"),
    ),
    "model failed: waits, is not stalled": (
        {"seen": model(None, ready=False, stalled=True)}, ("Pending", "Transitioning", "WaitingForModel", NO, "R"),
    ),
    "model not seen by the operator yet": (
        {"seen": model(observed=0)}, ("Pending", "Transitioning", "WaitingForModel", NO, "R"),
    ),
    "model only registered": (
        {"seen": model(mode="RegisterOnly")}, ("Failed", "Failed", "ModelNotConverted", NO, "S"),
    ),
    "version pinned that does not exist": (
        {"seen": model(2), "desired": pinned(7)}, ("Failed", "Failed", "VersionNotFound", NO, "S"),
    ),
    "version pinned that may still come": (
        {"seen": model(2, ready=False), "desired": pinned(3)}, ("Pending", "Transitioning", "WaitingForModel", NO, "R"),
    ),
    "building": (
        {"seen": model(), "jobs": (job(NAME),), "pods": (job_pod("Running", build=RUNNING),)},
        ("Building", "Transitioning", "Building", NO, "R"),
    ),
    "waits for a slot": (
        {"seen": model(), "slot": False}, ("Pending", "Transitioning", "WaitingForJobSlot", NO, "R"),
    ),
    "built": (
        {"seen": model(), **DONE}, ("Succeeded", "Healthy", "Built", "ready=True available=True", ""),
    ),
    "built, and the Job is gone": (
        {"seen": model(), "status": BUILT}, ("Succeeded", "Healthy", "Built", "ready=True available=True", ""),
    ),
    "model edited: upstream changed": (
        {"seen": model(observed=0), "status": BUILT}, ("Succeeded", "Transitioning", "UpstreamChanged", STILL, "R"),
    ),
    "model being converted anew": (
        {"seen": model(ready=False), "status": BUILT}, ("Succeeded", "Transitioning", "UpstreamChanged", STILL, "R"),
    ),
    "model's new spec failed": (
        {"seen": model(ready=False, stalled=True), "status": BUILT},
        ("Succeeded", "Transitioning", "WaitingForModel", STILL, "R"),
    ),
    "model deleted": ({"status": BUILT}, ("Succeeded", "Transitioning", "WaitingForModel", STILL, "R")),
    "a pinned version does not care for the model's edit": (
        {"seen": model(2, ready=False), "status": BUILT, "desired": pinned(1)},
        ("Succeeded", "Healthy", "Built", "ready=True available=True", ""),
    ),
    "new model version": (
        {"seen": model(2), "status": BUILT}, ("Building", "Transitioning", "JobStarting", STILL, "R"),
    ),
    "base image gone": (
        {"seen": model(), "jobs": (job(NAME, "Failed", "PodFailurePolicy"),),
         "pods": (job_pod("Failed", build=ended(65, step="build", reason="BaseNotFound", message="no base")),)},
        ("Failed", "Failed", "BaseNotFound", NO, "S"),
    ),
}  # fmt: skip


@pytest.mark.parametrize(("world", "expected"), CASES.values(), ids=CASES)
def test_the_status_contract(world: dict[str, Any], expected: tuple[str, ...]) -> None:
    assert summary(plan(**dict(world))) == expected


@pytest.mark.parametrize(("world", "_"), CASES.values(), ids=CASES)
def test_planning_twice_changes_nothing(world: dict[str, Any], _: object) -> None:
    first = plan(**dict(world))
    again = plan(**{**world, "status": AccelImageStatus.model_validate(first.status), "seconds": 5})
    assert again.status == first.status
    assert again.events == ()


def test_versions_that_exist_are_listed() -> None:
    result = plan(pinned(7), seen=model(3))
    (ready,) = [c for c in result.status["conditions"] if c["type"] == "Ready"]
    assert "7" in ready["message"]
    assert "1, 2, 3" in ready["message"]


def test_going_back_needs_no_job() -> None:
    second = ImageVersion(version=2, digest=I2, model_version=2, model_digest=D2)
    both = BUILT.model_copy(update={"versions": (second, *BUILT.versions)})
    result = plan(pinned(1), status=both, seen=model(2))
    assert result.children == ()
    assert result.status["image"].endswith(I1)
    assert result.status["modelVersion"] == 1


def test_an_operator_with_a_newer_runtime_rebuilds_nothing() -> None:
    newer = CONFIG.model_copy(update={"images": CONFIG.images.model_copy(update={"runtime": "r/runtime:2"})})
    assert BUILT.runtime_base == "r/runtime:1"
    assert plan(status=BUILT, seen=model(), config=newer).children == ()
    rebuilt = plan(status=BUILT, seen=model(2), config=newer).children[0]
    env = rebuilt["spec"]["template"]["spec"]["containers"][0]["env"][0]["value"]
    assert '"base":"r/runtime:1"' in env, "a new model version keeps the base too"


def test_one_job_for_one_input() -> None:
    assert made(plan(seen=model())) == [NAME]
    described = replace(
        DESIRED,
        owner=replace(DESIRED.owner, generation=9),
        spec=AccelImageSpec.model_validate({"modelRef": {"name": "net"}, "description": "other"}),
    )
    assert made(plan(described, seen=model())) == [NAME], "a description is no reason to build again"
    assert made(plan(seen=model(2))) != [NAME]


@pytest.mark.parametrize(
    ("repository", "allowed"),
    [
        ("teams/vision/net", True),
        ("images/demo/other", True),
        ("images/others/net", False),
        ("models/demo/net", False),
        ("sources/net", False),
    ],
)
def test_nobody_writes_another_namespaces_repository(repository: str, allowed: bool) -> None:
    desired = replace(
        DESIRED, spec=AccelImageSpec.model_validate({"modelRef": {"name": "net"}, "repository": repository})
    )
    result = plan(desired, seen=model())
    assert bool(result.children) is allowed
    assert (summary(result)[2] == "RepositoryDenied") is not allowed


def test_another_repository_is_built_anew() -> None:
    desired = replace(
        DESIRED, spec=AccelImageSpec.model_validate({"modelRef": {"name": "net"}, "repository": "teams/net"})
    )
    result = plan(desired, status=BUILT, seen=model())
    assert len(made(result)) == 1
    assert "image" not in result.status
