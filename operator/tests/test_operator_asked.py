"""What makes a Job run again, and what does not: edits, requestedAt, and content that the registry lost."""

from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest
from fpga_operator.api.accelimage import AccelImageSpec, AccelImageStatus
from fpga_operator.api.fpgamodel import FpgaModelSpec, FpgaModelStatus, JobRecord
from fpga_operator.plan.asked import Loss, losses, unanswered
from fpga_operator.plan.image import ImageDesired, ImageObserved, plan_image
from fpga_operator.plan.jobflow import Jobs
from fpga_operator.plan.jobs import job_name
from fpga_operator.plan.model import ModelDesired, ModelObserved, plan_model
from fpga_operator.plan.modelref import ModelSeen
from fpga_operator.plan.types import Manifest, Plan
from operator_samples import CONFIG, D1, D2, I1, I2, NOW, ended, job, job_pod, owner

BASIC: Manifest = {"source": {"uri": "oci:///sources/digits:1"}}


class Life:
    """One model or one image through time: what it remembers is its status alone."""

    def __init__(self, spec: Manifest, kind: str = "FpgaModel") -> None:
        self.owner = owner(kind)
        self.spec = spec
        self.body: Manifest = {}
        self.seconds = 0.0

    def pass_over(self, world: dict[str, Any] | None = None, **jobs: Any) -> Plan:
        self.seconds += 1
        now = NOW + timedelta(seconds=self.seconds)
        there, more = Jobs(**jobs), world or {}
        if self.owner.kind == "FpgaModel":
            model = ModelDesired(self.owner, FpgaModelSpec.model_validate(self.spec))
            status = FpgaModelStatus.model_validate(self.body)
            plan = plan_model(model, ModelObserved(status, there, **more), CONFIG, now)
        else:
            image = ImageDesired(self.owner, AccelImageSpec.model_validate(self.spec))
            built = AccelImageStatus.model_validate(self.body)
            plan = plan_image(image, ImageObserved(built, jobs=there, **more), CONFIG, now)
        self.body = plan.status
        return plan

    def ends(self, world: dict[str, Any] | None = None, **said: Any) -> Plan:
        """Let the Job end as said."""
        name = self.body["job"]["name"]
        pods = (job_pod("Succeeded", last=ended(**said)),)
        return self.pass_over(world, jobs=(job(name, "Complete"),), pods=pods)

    def misses(self, world: dict[str, Any] | None = None) -> Plan:
        """Let the image's Job find no model."""
        said = ended(65, step="build", reason="ModelNotFound", message="spec.modelRef: gone.")
        pods = (job_pod("Failed", build=said),)
        return self.pass_over(world, jobs=(job(self.body["job"]["name"], "Failed", "x"),), pods=pods)

    def edit(self, spec: Manifest | None = None, **meta: Any) -> None:
        self.spec = spec or self.spec
        generation = self.owner.generation + (1 if spec else 0)
        self.owner = replace(self.owner, generation=generation, **meta)

    def flag(self, kind: str) -> str:
        return next((c["status"] for c in self.body["conditions"] if c["type"] == kind), "-")

    @property
    def reason(self) -> str:
        return str(next(c["reason"] for c in self.body["conditions"] if c["type"] == "Ready"))


def pushed(version: int = 1, digest: str = D1) -> dict[str, Any]:
    entry = {"version": version, "digest": digest}
    return {"step": "push", "model": entry, "versions": [entry]}


def converted(spec: Manifest = BASIC) -> Life:
    life = Life(spec)
    life.pass_over()
    life.ends(**pushed())
    assert life.reason == "Converted"
    return life


SAME: dict[str, Manifest] = {
    "a description": {**BASIC, "description": "words"},
    "tags": {**BASIC, "tags": {"team": "vision"}},
    "the history's limit": {**BASIC, "historyLimit": 3},
    "defaults written out": {
        **BASIC,
        "conversion": {"mode": "Auto", "format": "Auto", "precision": "msfp-a10", "requireFpga": True, "inputs": []},
        "verification": {"samples": 4},
    },
}  # fmt: skip
OTHER: dict[str, Manifest] = {
    "the address": {"source": {"uri": "oci:///sources/digits:2"}},
    "a checksum": {"source": {**BASIC["source"], "sha256": "a" * 64}},
    "the outputs": {**BASIC, "conversion": {"outputs": ["y:0"]}},
    "requireFpga": {**BASIC, "conversion": {"requireFpga": False}},
    "a tolerance": {**BASIC, "verification": {"tolerance": 0.5}},
}


@pytest.mark.parametrize("spec", SAME.values(), ids=SAME)
def test_an_edit_of(spec: Manifest) -> None:
    life = converted()
    job_before = life.body["job"]
    life.edit(spec)
    plan = life.pass_over()
    assert plan.children == ()
    assert life.body["job"] == job_before
    assert (life.reason, life.flag("Ready")) == ("Converted", "True")
    assert life.body["observedGeneration"] == 2


@pytest.mark.parametrize("spec", OTHER.values(), ids=OTHER)
def test_an_edit_that_changes_the_outcome_runs_the_job(spec: Manifest) -> None:
    life = converted()
    life.edit(spec)
    assert len(life.pass_over().children) == 1


class TestRequestedAt:
    def ask(self, life: Life, when: str) -> None:
        life.edit(annotations={"accel.dev/requestedAt": when})

    def test_the_same_bytes_are_the_same_version(self) -> None:
        life = converted()
        self.ask(life, "monday")
        assert len(life.pass_over().children) == 1
        assert (life.flag("Ready"), life.flag("Available")) == ("False", "True")
        life.ends(**pushed())
        assert life.body["latestVersion"] == 1
        assert life.pass_over().children == ()

    def test_other_bytes_are_the_next(self) -> None:
        life = converted()
        self.ask(life, "monday")
        life.pass_over()
        life.ends(**pushed(2, D2))
        assert life.body["latestVersion"] == 2

    def test_taking_the_annotation_away_asks_for_nothing(self) -> None:
        life = converted()
        self.ask(life, "monday")
        life.pass_over()
        life.ends(**pushed())
        life.edit(annotations={})
        assert life.pass_over().children == ()
        self.ask(life, "monday")
        assert life.pass_over().children == ()
        self.ask(life, "tuesday")
        assert len(life.pass_over().children) == 1

    def test_an_image_is_built_once_for_it_and_going_back_needs_no_job(self) -> None:
        life, one, two = built(), {"model": seen(1)}, {"model": seen(2, 1)}
        self.ask(life, "monday")
        assert len(life.pass_over(one).children) == 1
        life.ends(one, **image())
        assert life.pass_over(one).children == ()
        life.edit({"modelRef": {"name": "net"}})
        assert len(life.pass_over(two).children) == 1
        life.ends(two, **image(2, I2, 2, D2))
        life.edit({"modelRef": {"name": "net", "version": 1}})
        assert life.pass_over(two).children == ()
        assert life.body["image"].endswith(I1)

    def test_a_novel_in_the_annotation_is_cut(self) -> None:
        life = converted()
        self.ask(life, "x" * 9999)
        life.pass_over()
        assert len(life.body["job"]["requestedAt"]) == 256


def test_what_release_0_1_recorded_stays_answered() -> None:
    life = converted()
    spec = FpgaModelSpec.model_validate(BASIC)
    inputs = {
        "source": spec.source.dump(), "conversion": {}, "verification": {}, "generation": 1, "requestedAt": "",
    }  # fmt: skip
    life.body = {**life.body, "job": {"name": job_name(life.owner, inputs), "outcome": "Succeeded"}}
    assert life.pass_over().children == ()
    life.edit({**BASIC, "description": "words"})
    assert life.pass_over().children == (), "and it is renamed, so that the next edit finds it too"


def seen(*numbers: int) -> ModelSeen:
    """A model that is Ready with these versions, the first of them the latest."""
    conditions = [
        {
            "type": "Ready", "status": "True", "reason": "Converted", "message": "", "observedGeneration": 1,
            "lastTransitionTime": "2026-01-01T00:00:00Z",
        }
    ]  # fmt: skip
    status = {
        "observedGeneration": 1, "latestVersion": numbers[0], "conditions": conditions,
        "versions": [{"version": number, "digest": {1: D1, 2: D2}[number]} for number in numbers],
    }  # fmt: skip
    return ModelSeen(
        owner("FpgaModel", "net"),
        FpgaModelSpec.model_validate(BASIC),
        FpgaModelStatus.model_validate(status),
    )


def image(number: int = 1, digest: str = I1, model: int = 1, model_digest: str = D1) -> dict[str, Any]:
    entry = {"version": number, "digest": digest, "modelVersion": model, "modelDigest": model_digest}
    return {"step": "build", "image": entry, "versions": [entry], "versionsCut": number > 1}


def built() -> Life:
    life = Life({"modelRef": {"name": "net"}}, "AccelImage")
    life.pass_over({"model": seen(1)})
    life.ends({"model": seen(1)}, **image())
    assert life.reason == "Built"
    return life


class TestLostModel:
    lost: dict[str, Any] = {"lost": frozenset({D1})}  # noqa: RUF012 - a constant

    def test_it_is_made_again_once(self) -> None:
        life = converted()
        first = life.body["job"]["name"]
        plan = life.pass_over(self.lost)
        assert [child["metadata"]["name"] for child in plan.children] == [life.body["job"]["name"]]
        assert life.body["job"]["name"] != first
        assert life.reason == "RegistryContentLost"
        assert (life.flag("Available"), life.flag("Reconciling")) == ("False", "True")
        life.ends(self.lost, **pushed())
        assert (life.reason, life.flag("Available")) == ("Converted", "True")
        for _ in range(3):  # the report is as old as it was
            assert life.pass_over(self.lost).children == ()
            assert (life.reason, life.flag("Available")) == ("Converted", "True")
        assert life.pass_over().children == (), "nor when the report is withdrawn"
        assert len(life.pass_over(self.lost).children) == 1, "lost a second time"

    def test_a_report_that_outlives_the_repair_is_a_new_loss(self) -> None:
        life = converted()
        life.pass_over(self.lost)
        life.ends(self.lost, **pushed())
        life.seconds += 70
        assert len(life.pass_over(self.lost).children) == 1
        assert life.flag("Available") == "False"

    def test_a_failure_says_what_is_lost_and_does_not_loop(self) -> None:
        life = converted()
        life.pass_over(self.lost)
        said = ended(65, step="fetch", reason="InvalidModel", message="no")
        jobs = (job(life.body["job"]["name"], "Failed"),)
        life.pass_over(self.lost, jobs=jobs, pods=(job_pod("Failed", fetch=said, x={}),))
        ready = next(c for c in life.body["conditions"] if c["type"] == "Ready")
        assert ready["message"] == "version 1 is gone from the registry and cannot be made again: no"
        before = life.body
        assert life.pass_over(self.lost).children == ()
        assert life.body == before
        assert len(life.pass_over().children) == 1, "it is back without our doing: find out"

    def test_older_versions_leave_the_status_and_nothing_else_is_touched(self) -> None:
        life = converted()
        life.edit({"source": {"uri": "oci:///sources/digits:2"}})
        life.pass_over()
        two = [{"version": 2, "digest": D2}, {"version": 1, "digest": D1}]
        life.ends(step="push", model=two[0], versions=two)
        plan = life.pass_over(self.lost)
        assert plan.children == ()
        assert [v["version"] for v in life.body["versions"]] == [2]
        assert life.flag("Ready") == "True"


class TestLostImage:
    world: dict[str, Any] = {"model": seen(1), "lost": frozenset({I1})}  # noqa: RUF012 - a constant

    def test_it_is_built_again_once(self) -> None:
        life = built()
        plan = life.pass_over(self.world)
        assert len(plan.children) == 1
        assert life.reason == "RegistryContentLost"
        assert life.flag("Available") == "False"
        assert life.body["creationState"] == "Building"
        life.ends(self.world, **image())
        assert (life.reason, life.flag("Available")) == ("Built", "True")
        for world in (self.world, {"model": seen(1)}):
            assert life.pass_over(world).children == ()
            assert life.flag("Available") == "True"

    def test_it_is_not_available_while_its_model_is_made_again(self) -> None:
        life = built()
        away = replace(seen(1), owner=replace(seen(1).owner, generation=2))
        life.pass_over({**self.world, "model": away})
        assert (life.reason, life.flag("Available")) == ("UpstreamChanged", "False")


class TestModelNotFound:
    """A build that does not find its model has the model made again, and goes on by itself."""

    def test_the_image_is_at_work_and_says_whose_version_is_missing(self) -> None:
        life, world = Life({"modelRef": {"name": "net"}}, "AccelImage"), {"model": seen(1)}
        life.pass_over(world)
        plan = life.misses(world)
        assert life.reason == "ModelNotFound"
        assert life.flag("Reconciling") == "True"
        assert plan.requeue_after == 15
        assert life.body["job"]["missed"] == f"{D1}#1"

    def test_the_model_is_made_again_once_for_each_miss(self) -> None:
        life = converted()
        missed = {"missed": (Loss(D1, 1),)}
        assert len(life.pass_over(missed).children) == 1
        life.pass_over({"missed": (Loss(D1, 1), Loss(D1, 2))}, jobs=(job(life.body["job"]["name"]),))
        assert life.body["job"]["lost"] == f"{D1}#1", "one that is under way is not begun anew"
        life.ends(missed, **pushed())
        assert life.pass_over(missed).children == ()
        assert life.flag("Available") == "True"
        again = {"missed": (Loss(D1, 2),)}
        assert len(life.pass_over(again).children) == 1, "it was lost once more"

    def test_a_miss_that_outlives_its_repair_takes_no_version_out_of_the_status(self) -> None:
        """The build looks again in its own time; what stands in no status, the sweep removes from the registry."""
        life, world = converted(), {"missed": (Loss(D1, 1),), "pinned": frozenset({1})}
        life.pass_over(world)
        life.ends(world, **pushed())
        life.edit({"source": {"uri": "oci:///sources/digits:2"}, "historyLimit": 0})
        life.pass_over(world)
        two = [{"version": 2, "digest": D2}, {"version": 1, "digest": D1}]
        life.ends(world, step="push", model=two[0], versions=two)
        for _ in range(2):
            assert life.pass_over(world).children == ()
            assert [v["version"] for v in life.body["versions"]] == [2, 1]
        life.pass_over({**world, "lost": frozenset({D1})})
        assert [v["version"] for v in life.body["versions"]] == [2], "the registry itself says so"

    def test_an_old_version_cannot_be_made_again_and_the_image_says_so(self) -> None:
        life = Life({"modelRef": {"name": "net", "version": 1}}, "AccelImage")
        life.pass_over({"model": seen(2, 1)})
        life.misses({"model": seen(2, 1)})
        life.pass_over({"model": seen(2)})
        assert life.reason == "VersionNotFound"
        message = next(c["message"] for c in life.body["conditions"] if c["type"] == "Stalled")
        assert "spec.modelRef.version 1 is not kept any more" in message
        assert "Take one of them" in message


def test_an_image_that_was_built_needs_its_model_no_more() -> None:
    life = Life({"modelRef": {"name": "net", "version": 1}}, "AccelImage")
    life.pass_over({"model": seen(2, 1)})
    life.ends({"model": seen(2, 1)}, **image())
    life.pass_over({"model": seen(2)})
    assert (life.reason, life.flag("Ready")) == ("Built", "True")


def test_reports_are_told_from_repairs() -> None:
    reported = losses({D1, D2}, [Loss(D1, 2), Loss(D1, 1)])
    assert reported == {D1: Loss(D1, 2, checked=True), D2: Loss(D2, checked=True)}
    record = JobRecord(name="x", outcome="Succeeded", lost=f"{D1}#2")
    assert unanswered(record, reported, NOW) == {D2}
    assert unanswered(record.model_copy(update={"lost": f"{D1}#1"}), reported, NOW) == {D1, D2}
    assert unanswered(record.model_copy(update={"outcome": "Running"}), reported, NOW) == {D1, D2}
    assert Loss.parse(str(Loss(D1, 3))) == Loss(D1, 3)
