"""Faults that end outside of the object: Stalled with the reason, looked at again slowly, healed without a touch."""

from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest
from fpga_operator.api.fpgamodel import FpgaModelSpec, FpgaModelStatus
from fpga_operator.config import Config
from fpga_operator.plan.jobflow import Jobs
from fpga_operator.plan.model import ModelDesired, ModelObserved, plan_model
from fpga_operator.plan.patience import check_seconds
from fpga_operator.plan.types import Fault, Plan
from operator_samples import CONFIG, D1, NOW, at, ended, job, job_pod, owner

DESIRED = ModelDesired(
    owner("FpgaModel"), FpgaModelSpec.model_validate({"source": {"uri": "oci:///sources/digits:1"}})
)
PUSHED: dict[str, Any] = {
    "step": "push", "model": {"version": 1, "digest": D1}, "versions": [{"version": 1, "digest": D1}],
}  # fmt: skip


class Life:
    """One model through time: what it remembers is its status alone."""

    def __init__(self) -> None:
        self.status = FpgaModelStatus()
        self.desired = DESIRED
        self.config: Config = CONFIG
        self.plan = self.pass_over()

    def pass_over(self, seconds: float = 0, fault: Fault | None = None, **jobs: Any) -> Plan:
        observed = ModelObserved(self.status, Jobs(**jobs), fault)
        self.plan = plan_model(self.desired, observed, self.config, NOW + timedelta(seconds=seconds))
        self.status = FpgaModelStatus.model_validate(self.plan.status)
        return self.plan

    @property
    def name(self) -> str:
        assert self.status.job is not None
        return self.status.job.name

    def fails(self, seconds: float, reason: str, uid: str = "u", retry: bool = False) -> Plan:
        said = ended(65, step="fetch", reason=reason, message="spec.source.uri: no.", retry=retry)
        pods = (job_pod("Failed", uid=uid, fetch=said, x={}),)
        return self.pass_over(seconds, jobs=(job(self.name, "Failed", "x", uid),), pods=pods)

    def told(self) -> tuple[str, str, str]:
        ready = self.status.condition("Ready")
        assert ready is not None
        return str(self.status.state), ready.reason, "stalled" if self.status.holds("Stalled") else "at work"


STALLED = ("Failed", "SourceNotFound", "stalled")


def test_a_missing_source_is_looked_for_again_and_the_push_alone_heals() -> None:
    life = Life()
    first = life.fails(0, "SourceNotFound")
    assert life.told() == STALLED
    assert first.requeue_after == 60
    waiting = life.pass_over(59, jobs=(job(life.name, "Failed"),))
    assert (waiting.children, waiting.deletes, waiting.status) == ((), (), first.status)

    due = life.pass_over(60, jobs=(job(life.name, "Failed", uid="u"),))
    assert [(ref.name, ref.uid) for ref in due.deletes] == [(life.name, "u")]
    again = life.pass_over(61)
    assert [child["metadata"]["name"] for child in again.children] == [life.name]
    assert again.events == ()
    life.pass_over(62, jobs=(job(life.name, uid="v"),))
    assert life.told() == STALLED, "it says so until there is something new to say"

    done = (job_pod("Succeeded", uid="v", push=ended(**PUSHED)),)
    life.pass_over(70, jobs=(job(life.name, "Complete", uid="v"),), pods=done)
    assert life.told() == ("Healthy", "Converted", "at work")


def test_the_same_fault_again_changes_no_condition_and_waits_longer() -> None:
    life = Life()
    first = life.fails(0, "SourceNotFound")
    life.pass_over(60)
    second = life.fails(65, "SourceNotFound", uid="v")
    assert second.status["conditions"] == first.status["conditions"]
    assert second.events == ()
    assert second.status["job"]["attempts"] == 2
    assert second.status["job"]["retryTime"] == at(65 + 120)
    assert [check_seconds(n) for n in (1, 2, 3, 4, 5, 9)] == [60, 120, 240, 480, 600, 600]


def test_a_check_waits_for_a_slot_and_says_what_it_said() -> None:
    life = Life()
    life.fails(0, "RegistryDenied")
    plan = life.pass_over(61, slot=False)
    assert plan.waits_for_slot
    assert plan.children == ()
    assert life.told() == ("Failed", "RegistryDenied", "stalled")


def test_a_check_that_meets_passing_trouble_is_at_work_again() -> None:
    life = Life()
    life.fails(0, "SourceNotFound")
    life.pass_over(60)
    life.fails(61, "RegistryUnavailable", uid="v", retry=True)
    assert life.told() == ("Transitioning", "RegistryUnavailable", "at work")


def test_a_restart_of_the_operator_at_any_moment_runs_the_job_once() -> None:
    """The Job is deleted first, then the status is written: the second may be missing, the first as well."""
    for deleted, written in ((False, False), (True, False), (True, True)):
        life = Life()
        life.fails(0, "SourceNotFound")
        before = life.status
        life.pass_over(60, jobs=(job(life.name, "Failed", uid="u"),))
        if not written:
            life.status = before
        plan = life.pass_over(61, jobs=() if deleted else (job(life.name, "Failed", uid="u"),))
        assert len(plan.children) == deleted
        assert len(plan.deletes) == (not deleted)
        assert life.told() == STALLED


@pytest.mark.parametrize(
    ("reason", "heals"), [("OOMKilled", True), ("DeadlineExceeded", True), ("InvalidModel", False)]
)
def test_raising_the_operators_limits_runs_again_what_they_stopped(reason: str, heals: bool) -> None:
    life = Life()
    life.fails(0, reason)
    assert life.pass_over(9999).children == ()
    jobs = CONFIG.jobs.model_copy(update={"convert_memory": "8Gi"})
    life.config = CONFIG.model_copy(update={"jobs": jobs})
    assert bool(life.pass_over(10000).children) is heals


def test_what_is_wrong_with_the_object_waits_for_an_edit() -> None:
    life = Life()
    plan = life.fails(0, "InvalidModel")
    assert plan.requeue_after is None
    assert life.pass_over(99999).children == ()
    uri = {"source": {"uri": "oci:///sources/digits:2"}}
    life.desired = ModelDesired(replace(DESIRED.owner, generation=2), FpgaModelSpec.model_validate(uri))
    assert len(life.pass_over(100000).children) == 1
    assert life.told() == ("Transitioning", "JobStarting", "at work")


def test_the_reason_survives_a_fault_that_has_come_and_gone() -> None:
    life = Life()
    life.fails(0, "InvalidModel")
    before = life.status
    life.pass_over(1, fault=Fault("NameConflict", "Job x exists"))
    assert life.told() == ("Failed", "NameConflict", "stalled")
    life.pass_over(2)
    assert life.told() == ("Failed", "InvalidModel", "stalled")
    assert life.status.condition("Ready") == before.condition("Ready")
