"""FpgaModels: state of the world in, plan out."""

from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest
from fpga_operator.api.fpgamodel import FpgaModelSpec, FpgaModelStatus, JobRecord
from fpga_operator.plan.jobflow import Jobs
from fpga_operator.plan.model import ModelDesired, ModelObserved, plan_model
from fpga_operator.plan.patience import backoff_seconds
from fpga_operator.plan.types import Fault, Plan
from operator_samples import CONFIG, D1, D2, NOW, RUNNING, at, ended, job, job_pod, owner

SPEC = FpgaModelSpec.model_validate({"source": {"uri": "oci:///sources/digits:1"}})
OTHER_SPEC = FpgaModelSpec.model_validate({"source": {"uri": "oci:///sources/digits:2"}})
DESIRED = ModelDesired(owner("FpgaModel"), SPEC)
PUSHED: dict[str, Any] = {
    "step": "push",
    "model": {"version": 1, "digest": D1, "sourceSha256": "c" * 64},
    "versions": [{"version": 1, "digest": D1}],
    "device": {"offloadedOps": 5, "hostOps": 2},
    "parity": {"maxAbs": 0.1, "samples": 4},
    "inputs": [{"name": "x:0", "dtype": "string", "shape": [-1]}],
}


def plan(desired: ModelDesired = DESIRED, status: FpgaModelStatus | None = None, **world: Any) -> Plan:
    now = NOW + timedelta(seconds=world.pop("seconds", 0))
    fault = world.pop("fault", None)
    return plan_model(desired, ModelObserved(status or FpgaModelStatus(), Jobs(**world), fault), CONFIG, now)


def name_of(result: Plan) -> str:
    name: str = result.status["job"]["name"]
    return name


NAME = name_of(plan())


def summary(result: Plan) -> dict[str, str]:
    """The status contract's columns, as `type=status`, and the reason of Ready."""
    found = {c["type"]: c["status"] for c in result.status["conditions"]}
    ready = next(c for c in result.status["conditions"] if c["type"] == "Ready")
    return {
        "state": result.status["state"],
        "ready": found["Ready"],
        "available": found["Available"],
        "reconciling": found.get("Reconciling", "-"),
        "stalled": found.get("Stalled", "-"),
        "reason": ready["reason"],
    }


def pods(phase: str, **containers: Any) -> dict[str, Any]:
    return {"jobs": (job(NAME),), "pods": (job_pod(phase, **containers),)}


def failing(container: str, state: dict[str, Any], reason: str = "PodFailurePolicy") -> dict[str, Any]:
    return {
        "jobs": (job(NAME, "Failed", reason),),
        "pods": (job_pod("Failed", **{container: state, "last": RUNNING}),),
    }


def working(reason: str) -> dict[str, str]:
    return {
        "state": "Transitioning",
        "ready": "False",
        "available": "False",
        "reconciling": "True",
        "stalled": "-",
        "reason": reason,
    }


def stalled(reason: str) -> dict[str, str]:
    return working(reason) | {"state": "Failed", "reconciling": "-", "stalled": "True"}


DOWN: dict[str, Any] = {"reason": "RegistryUnavailable", "message": "registry down", "retry": True}
CASES: dict[str, tuple[dict[str, Any], dict[str, str]]] = {
    "nothing yet: the Job is made": ({}, working("JobStarting")),
    "no slot: says that it waits for one": ({"slot": False}, working("WaitingForJobSlot")),
    "pod not there yet": ({"jobs": (job(NAME),)}, working("JobStarting")),
    "fetching": (pods("Pending", fetch=RUNNING, convert={}, push={}), working("Fetching")),
    "between two steps": (
        pods("Pending", fetch=ended(), convert={"waiting": {"reason": "PodInitializing"}}, push={}),
        working("Converting"),
    ),
    "image cannot be pulled": (
        pods("Pending", fetch={"waiting": {"reason": "ImagePullBackOff", "message": "no"}}, convert={}, push={}),
        working("ImagePullFailed"),
    ),
    "first pod failed for now": (
        pods("Failed", fetch=ended(75, step="fetch", **DOWN), x={}),
        working("RegistryUnavailable"),
    ),
    "done": (
        {"jobs": (job(NAME, "Complete"),), "pods": (job_pod("Succeeded", fetch=ended(), push=ended(**PUSHED)),)},
        {
            "state": "Healthy",
            "ready": "True",
            "available": "True",
            "reconciling": "-",
            "stalled": "-",
            "reason": "Converted",
        },
    ),
    "bad source": (
        failing("fetch", ended(65, step="fetch", reason="SourceNotFound", message="spec.source.uri")),
        stalled("SourceNotFound"),
    ),
    "killed for memory by the kernel": (
        failing("convert", {"terminated": {"exitCode": 137, "reason": "OOMKilled"}}),
        stalled("OOMKilled"),
    ),
    "killed with 137 without a reason": (
        failing("convert", {"terminated": {"exitCode": 137, "reason": "Error"}}),
        stalled("OOMKilled"),
    ),
    "took too long": ({"jobs": (job(NAME, "Failed", "DeadlineExceeded"),)}, stalled("DeadlineExceeded")),
    "crashed without a word": (
        failing("convert", {"terminated": {"exitCode": 1, "reason": "Error", "message": "Segfault"}}),
        stalled("JobFailed"),
    ),
    "a message of another schema is a crash": (
        failing("convert", {"terminated": {"exitCode": 1, "message": '{"schema": "accel.dev/job-result/v9"}'}}),
        stalled("JobFailed"),
    ),
    "transient until the Job gave up": (
        failing("push", ended(75, step="push", **DOWN), "BackoffLimitExceeded"),
        working("RegistryUnavailable"),
    ),
    "pods lost with their node": ({"jobs": (job(NAME, "Failed", "BackoffLimitExceeded"),)}, working("JobLost")),
    "result lost with its pod": ({"jobs": (job(NAME, "Complete"),)}, working("ResultLost")),
    "somebody else's Job": (
        {"fault": Fault("NameConflict", "Job x exists")},
        stalled("NameConflict"),
    ),
}  # fmt: skip


@pytest.mark.parametrize(("world", "expected"), CASES.values(), ids=CASES)
def test_the_status_contract(world: dict[str, Any], expected: dict[str, str]) -> None:
    result = plan(**dict(world))
    assert summary(result) == expected
    for condition in result.status["conditions"]:
        assert condition["observedGeneration"] == 1
    assert result.status["observedGeneration"] == 1


@pytest.mark.parametrize(("world", "_"), CASES.values(), ids=CASES)
def test_planning_twice_changes_nothing(world: dict[str, Any], _: object) -> None:
    first = plan(**dict(world))
    status = FpgaModelStatus.model_validate(first.status)
    second = plan(status=status, **dict(world), seconds=5)
    assert second.status == first.status
    assert second.events == ()


def test_the_job_is_made_only_with_a_slot() -> None:
    assert [child["metadata"]["name"] for child in plan().children] == [NAME]
    without = plan(slot=False)
    assert without.children == ()
    assert without.waits_for_slot


def done_status() -> FpgaModelStatus:
    world, _ = CASES["done"]
    return FpgaModelStatus.model_validate(plan(**dict(world)).status)


def failed_status() -> FpgaModelStatus:
    world, _ = CASES["bad source"]
    return FpgaModelStatus.model_validate(plan(**dict(world)).status)


def test_what_a_version_leaves_in_status() -> None:
    status = done_status()
    assert status.latest_version == 1
    assert [version.digest for version in status.versions] == [D1]
    assert status.device is not None
    assert status.device.offloaded_ops == 5


@pytest.mark.parametrize("status", [done_status(), failed_status()], ids=["succeeded", "failed"])
def test_a_finished_job_is_not_run_again_because_it_is_gone(status: FpgaModelStatus) -> None:
    result = plan(status=status, seconds=59)
    assert result.children == ()
    assert result.status == status.dump()


def test_an_unfinished_job_that_was_deleted_comes_back() -> None:
    running = FpgaModelStatus.model_validate(plan(jobs=(job(NAME),)).status)
    assert [child["metadata"]["name"] for child in plan(status=running).children] == [NAME]


def test_an_edit_gives_a_new_job_and_deletes_the_old_one() -> None:
    edited = ModelDesired(replace(DESIRED.owner, generation=2), OTHER_SPEC)
    result = plan(edited, status=failed_status(), jobs=(job(NAME, "Failed", "x"),))
    assert name_of(result) != NAME
    assert [ref.name for ref in result.deletes] == [NAME]
    assert summary(result)["reason"] == "JobStarting"
    assert "Stalled" not in {c["type"] for c in result.status["conditions"]}


def test_requested_at_asks_for_a_new_look() -> None:
    asked = ModelDesired(replace(DESIRED.owner, annotations={"accel.dev/requestedAt": "2026"}), SPEC)
    assert name_of(plan(asked)) != NAME
    other = ModelDesired(replace(DESIRED.owner, annotations={"poke": "1"}), SPEC)
    assert name_of(plan(other)) == NAME


def test_available_stays_while_a_new_generation_is_converted() -> None:
    edited = ModelDesired(replace(DESIRED.owner, generation=2), OTHER_SPEC)
    result = plan(edited, status=done_status())
    assert summary(result)["available"] == "True"
    assert summary(result)["ready"] == "False"
    ready = next(c for c in result.status["conditions"] if c["type"] == "Ready")
    assert ready["observedGeneration"] == 2
    assert [event.reason for event in result.events] == ["JobStarting"]


def test_transition_times_move_with_the_status_only() -> None:
    first = plan(**pods("Pending", fetch=RUNNING, convert={}, push={}))
    status = FpgaModelStatus.model_validate(first.status)
    second = plan(status=status, seconds=60, **pods("Pending", fetch=ended(), convert=RUNNING, push={}))
    ready = next(c for c in second.status["conditions"] if c["type"] == "Ready")
    assert ready["reason"] == "Converting"
    assert ready["lastTransitionTime"] == at(0)


class TestTransientFailures:
    """Exit 75 three times makes the Job fail; the operator then starts another one, after a pause."""

    world = CASES["transient until the Job gave up"][0]

    def test_first_failure_sets_the_time_of_the_next_try(self) -> None:
        result = plan(**dict(self.world))
        assert result.status["job"] == {
            "name": NAME,
            "outcome": "Retrying",
            "attempts": 1,
            "retryTime": at(15),
            "reason": "RegistryUnavailable",
            "message": "registry down",
        }
        assert result.requeue_after == 15
        assert result.deletes == ()

    def test_when_its_time_has_come_the_job_is_deleted(self) -> None:
        status = FpgaModelStatus.model_validate(plan(**dict(self.world)).status)
        result = plan(status=status, seconds=15, **dict(self.world))
        assert [(ref.name, ref.uid) for ref in result.deletes] == [(NAME, "job-uid")]
        again = plan(status=FpgaModelStatus.model_validate(result.status), seconds=16)
        assert [child["metadata"]["name"] for child in again.children] == [NAME]
        assert again.status["job"]["attempts"] == 1

    def test_a_hand_that_deletes_the_failed_job_does_not_cut_the_pause_short(self) -> None:
        status = FpgaModelStatus.model_validate(plan(**dict(self.world)).status)
        result = plan(status=status, seconds=5)
        assert result.children == ()
        assert result.requeue_after == 10

    def test_pauses_grow_to_ten_minutes(self) -> None:
        assert [backoff_seconds(n) for n in (1, 2, 3, 4, 5, 6, 7, 50)] == [
            15,
            30,
            60,
            120,
            240,
            480,
            600,
            600,
        ]


def test_versions_are_merged_when_the_message_was_cut() -> None:
    known = done_status()
    edited = ModelDesired(replace(DESIRED.owner, generation=2), OTHER_SPEC)
    name = name_of(plan(edited))
    new = {**PUSHED, "model": {"version": 2, "digest": D2}, "versions": [{"version": 2, "digest": D2}]}
    world = {
        "jobs": (job(name, "Complete"),),
        "pods": (job_pod("Succeeded", push=ended(**new, versionsCut=True)),),
    }
    status = FpgaModelStatus.model_validate(plan(edited, status=known, **world).status)
    assert [(v.version, v.digest) for v in status.versions] == [(2, D2), (1, D1)]
    assert status.latest_version == 2
    world["pods"] = (job_pod("Succeeded", push=ended(**new)),)
    uncut = FpgaModelStatus.model_validate(plan(edited, status=known, **world).status)
    assert [v.version for v in uncut.versions] == [2], "the registry's whole list replaces what was known"


def test_register_only_is_ready_when_registered() -> None:
    spec = FpgaModelSpec.model_validate(
        {"source": {"uri": "oci:///s/x:1"}, "conversion": {"mode": "RegisterOnly"}}
    )
    desired = ModelDesired(DESIRED.owner, spec)
    name = name_of(plan(desired))
    bare = {"step": "push", "model": PUSHED["model"]}
    result = plan(desired, jobs=(job(name, "Complete"),), pods=(job_pod("Succeeded", push=ended(**bare)),))
    assert summary(result)["reason"] == "Registered"
    assert summary(result)["ready"] == "True"


def test_ready_is_false_while_it_is_being_deleted() -> None:
    result = plan(ModelDesired(replace(DESIRED.owner, deleting=True), SPEC), status=done_status())
    assert summary(result) == working("Deleting") | {"available": "True"}
    assert result.children == ()


def test_a_job_of_the_same_inputs_has_the_same_name_and_a_long_name_fits() -> None:
    long = ModelDesired(owner("FpgaModel", name="a" * 50 + "." + "b" * 12), SPEC)
    name = name_of(plan(long))
    assert len(name) <= 63
    assert "." not in name
    assert name_of(plan(long)) == name


def test_the_pod_passes_restricted_and_has_no_token() -> None:
    pod = plan().children[0]["spec"]["template"]["spec"]
    assert pod["automountServiceAccountToken"] is False
    assert [c["name"] for c in pod["initContainers"]] == ["fetch", "convert"]
    for container in [*pod["initContainers"], *pod["containers"]]:
        security = container["securityContext"]
        assert security["readOnlyRootFilesystem"]
        assert security["runAsNonRoot"]
        assert security["capabilities"] == {"drop": ["ALL"]}
        assert security["seccompProfile"] == {"type": "RuntimeDefault"}
        assert not security["allowPrivilegeEscalation"]
        assert container["resources"]["limits"].keys() == {"cpu", "memory"}
    assert all("sizeLimit" in volume["emptyDir"] for volume in pod["volumes"])


def test_a_record_of_other_inputs_does_not_count() -> None:
    other = FpgaModelStatus(job=JobRecord(name="other", outcome="Succeeded"), latest_version=None)
    assert plan(status=other).children
