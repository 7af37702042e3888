"""The planner of AccelImages: follow or pin a model's version, and build its image once."""

from dataclasses import dataclass, replace
from datetime import datetime
from typing import Literal

from fpga_operator.api.accelimage import AccelImageSpec, AccelImageStatus, ImageVersion
from fpga_operator.api.fpgamodel import JobRecord, ModelVersion
from fpga_operator.config import Config
from fpga_operator.plan.asked import Loss, losses, present, request, unanswered
from fpga_operator.plan.conditions import Conditions, Situation, changes
from fpga_operator.plan.history import kept, merged, remembered
from fpga_operator.plan.jobflow import Flow, Jobs, follow, superseded, unusable
from fpga_operator.plan.jobline import steady
from fpga_operator.plan.jobs import build_job
from fpga_operator.plan.modelref import ModelSeen, choose
from fpga_operator.plan.types import IMAGE_LABEL, Fault, Manifest, Owner, Plan, labels_for
from fpga_operator.plan.upstream import Verdict, interruption

RESERVED = ("images", "models", "sources")
CreationState = Literal["Pending", "Building", "Succeeded", "Failed"]


@dataclass(frozen=True)
class ImageDesired:
    """The object as the user wrote it."""

    owner: Owner
    spec: AccelImageSpec


@dataclass(frozen=True)
class ImageObserved:
    """The world as far as an image is concerned."""

    status: AccelImageStatus
    model: ModelSeen | None
    jobs: Jobs
    fault: Fault | None = None
    lost: frozenset[str] = frozenset()  # digests in the own repository that the registry no longer has
    pinned: frozenset[int] = frozenset()  # images that services name
    used: frozenset[str] = frozenset()  # digests that services run or could fall back to


def repository(desired: ImageDesired) -> str:
    """Return the image's repository in the registry."""
    return desired.spec.repository or f"images/{desired.owner.namespace}/{desired.owner.name}"


def _denied(desired: ImageDesired) -> Verdict | None:
    """Names below images/ and models/ belong to the namespace that follows, those below sources/ to pushed sources."""
    parts = repository(desired).split("/")
    if parts[0] not in RESERVED or (
        parts[0] == "images" and parts[1:2] == [desired.owner.namespace] and parts[2:]
    ):
        return None
    return Verdict(
        Situation.FAILED,
        "RepositoryDenied",
        f"spec.repository {repository(desired)} belongs to others: choose a name below "
        f"images/{desired.owner.namespace}/ or one that does not start with images/, models/ or sources/",
    )


def payload(
    desired: ImageDesired,
    status: AccelImageStatus,
    target: ModelVersion,
    base: str,
    reason: str,
    config: Config,
) -> Manifest:
    """Return ACCEL_JOB of the build."""
    owner, spec = desired.owner, desired.spec
    versions = status.versions if status.repository == repository(desired) else ()
    return {
        "schema": "accel.dev/build-job/v1",
        "image": {
            "namespace": owner.namespace,
            "name": owner.name,
            "description": spec.description or "",
            "tags": dict(spec.tags or {}),
        },
        "model": {
            "repository": f"models/{owner.namespace}/{spec.model_ref.name}",
            "version": target.version,
            "digest": target.digest,
            **({"sku": target.sku} if target.sku else {}),
        },
        "base": base,
        "baseInsecure": config.registry.insecure_bases,
        "registry": {"endpoint": config.registry.endpoint, "secret": config.registry.secret_name or None},
        "target": {"repository": repository(desired), "versions": remembered(versions)},
        "reason": reason,
    }


def plan_image(desired: ImageDesired, observed: ImageObserved, config: Config, now: datetime) -> Plan:
    """Return what shall be for one AccelImage."""
    owner, status = desired.owner, observed.status
    if status.repository not in (None, repository(desired)):
        status = status.model_copy(update={"versions": (), "image": None, "image_version": None})
    conditions = Conditions(owner, observed.status, now)
    reported = losses(observed.lost)
    gone = unanswered(status.job, reported, now)
    status = _kept(desired, observed, status, gone)
    stopped = interruption(owner, observed.fault, "image")
    if stopped is not None:
        return _held(desired, observed, status, conditions, stopped, gone)
    there = tuple(v for v in status.versions if v.digest not in gone)
    ready = status.image is not None
    target = _denied(desired) or choose(owner, desired.spec.model_ref, observed.model, there, ready=ready)
    if isinstance(target, Verdict):
        plan = _held(desired, observed, status, conditions, target, gone)
        return replace(plan, deletes=superseded(owner, "", observed.jobs))

    told = f"version {target.version} of {desired.spec.model_ref.name}"
    conditions.set("ModelReady", True, "ModelReady", told)
    base = status.runtime_base if status.versions and status.runtime_base else config.images.runtime
    status = status.model_copy(update={"repository": repository(desired)})
    built = next((v for v in status.versions if v.model_digest == target.digest), None)
    record = present(
        owner,
        {"model": target.digest, "base": base, "repository": repository(desired)},
        status.job,
        reported.get(built.digest) if built is not None else None,
        now,
    )
    if built in there and built is not None and _answered(owner, status.job, record):
        # The Job of this name is as good as done: an image that was built before needs none.
        done = JobRecord(
            name=record.name,
            outcome="Succeeded",
            requested_at=record.requested_at,
            lost=record.lost,
            retry_time=record.retry_time if record.lost else None,
        )
        status = _serve(desired, status.model_copy(update={"job": done}), conditions, built)
        plan = _finish(desired, observed, status, conditions)
        return replace(plan, deletes=superseded(owner, record.name, observed.jobs))
    if (
        record.outcome == "Succeeded"
    ):  # and its image is not known any more: look at the Job, or run it, again
        record = record.model_copy(update={"outcome": "Running"})
    flow = _noticed(desired, target, follow(owner, record, observed.jobs, config, now))
    reason = "Spec" if not status.versions or status.image is None else "Model"
    labels = labels_for(IMAGE_LABEL, owner.name)
    content = payload(desired, observed.status, target, base, reason, config)
    job = build_job(owner, record.name, labels, content, config)
    status = status.model_copy(update={"runtime_base": base})
    status = _told(desired, flow, target, status, conditions, gone)
    return replace(
        _finish(desired, observed, status, conditions),
        children=(job,) if flow.create else (),
        deletes=flow.deletes,
        requeue_after=flow.requeue_after,
        waits_for_slot=flow.waits_for_slot,
    )


def _noticed(desired: ImageDesired, target: ModelVersion, flow: Flow) -> Flow:
    """Return the flow with a record from which the model learns that a build did not find it."""
    if flow.result is not None and flow.result.image is None:
        return unusable(flow, "build", "build named no image")
    if flow.progress is None or flow.progress[0] != "ModelNotFound":
        return flow
    missed, again = Loss(target.digest, flow.record.attempts), flow.record.retry_time
    message = (
        f"version {target.version} of FpgaModel {desired.spec.model_ref.name} is gone from the registry and is made "
        f"again; the image is tried again {f'at {again}' if again else 'now'}"
    )
    record = flow.record.model_copy(update={"missed": str(missed)})
    return replace(flow, record=record, progress=("ModelNotFound", message))


def _told(
    desired: ImageDesired,
    flow: Flow,
    target: ModelVersion,
    status: AccelImageStatus,
    conditions: Conditions,
    gone: frozenset[str],
) -> AccelImageStatus:
    """Say where the Job stands; return the status with what came of it."""
    lost = next((v for v in status.versions if v.model_digest == target.digest and v.digest in gone), None)
    status = status.model_copy(update={"job": flow.record})
    if flow.result is not None and flow.result.image is not None:
        made = {"model_digest": target.digest, "model_version": target.version, "sku": target.sku}
        image = flow.result.image.model_copy(update=made)
        said = flow.result.image_versions()
        versions = merged(status.versions, said, image, cut=flow.result.versions_cut)
        status = status.model_copy(update={"versions": versions, "build_log": flow.result.log})
        return _serve(desired, status, conditions, image)
    if flow.failure is not None or flow.known:
        before = status.condition("Stalled") or status.condition("Ready")
        story = (before.reason, before.message) if before else ("JobFailed", "the build failed")
        if flow.record.reason is not None:  # not so in the records of release 0.1
            story = flow.record.reason, flow.record.message or ""
        _stand(conditions, status, "Failed", Verdict(Situation.FAILED, *story), gone)
        return status.model_copy(update={"creation_state": "Failed"})
    progress = flow.progress or ("JobStarting", "the Job is starting")
    progress = steady(progress, status.condition("Ready"))
    if lost is not None:
        again = f"image {lost.version} is gone from the registry and is made again: {progress[1]}"
        progress = ("RegistryContentLost", again)
    step: CreationState = "Pending" if flow.waits_for_slot else "Building"
    _stand(conditions, status, step, Verdict(Situation.WORKING, *progress), gone)
    return status.model_copy(update={"creation_state": step})


def _answered(owner: Owner, previous: JobRecord | None, record: JobRecord) -> bool:
    """Tell whether the user's request, if there is one, has been answered by a Job."""
    asked = request(owner)
    if not asked or record.outcome == "Succeeded":
        return True
    return previous is not None and previous.outcome == "Succeeded" and previous.requested_at == asked


def _kept(
    desired: ImageDesired,
    observed: ImageObserved,
    status: AccelImageStatus,
    gone: frozenset[str] = frozenset(),
) -> AccelImageStatus:
    """Return the status without images that nothing uses beyond the limit, and without those that are gone."""
    newest = status.image_version

    def in_use(v: ImageVersion) -> bool:
        return v.version == newest or v.version in observed.pinned or v.digest in observed.used

    there = [v for v in status.versions if v.digest not in gone or v.version == newest]
    return status.model_copy(update={"versions": kept(there, in_use, desired.spec.history_limit)})


def _available(status: AccelImageStatus, gone: frozenset[str]) -> tuple[bool, str]:
    if status.image is None:
        return False, "no image has been built yet"
    if status.image.rpartition("@")[2] in gone:
        return False, f"{status.image} is gone from the registry"
    return True, f"{status.image} can be run"


def _stand(
    conditions: Conditions,
    status: AccelImageStatus,
    step: CreationState,
    verdict: Verdict,
    gone: frozenset[str],
) -> None:
    conditions.set("Built", False if step == "Failed" else None, verdict.reason, verdict.message)
    available = _available(status, gone)
    conditions.summarise(verdict.situation, verdict.reason, verdict.message, available=available)


def _held(
    desired: ImageDesired,
    observed: ImageObserved,
    status: AccelImageStatus,
    conditions: Conditions,
    verdict: Verdict,
    gone: frozenset[str],
) -> Plan:
    """The model, or the spec, does not allow a build now; what was built stays."""
    failed = verdict.situation is Situation.FAILED
    if verdict.reason != "Deleting":
        conditions.set("ModelReady", False, verdict.reason, verdict.message)
    conditions.keep("Built")
    available = _available(status, gone)
    conditions.summarise(verdict.situation, verdict.reason, verdict.message, available=available)
    step: CreationState = "Failed" if failed else "Succeeded" if status.image is not None else "Pending"
    status = status.model_copy(update={"creation_state": step})
    return _finish(desired, observed, status, conditions)


def _serve(
    desired: ImageDesired, status: AccelImageStatus, conditions: Conditions, image: ImageVersion
) -> AccelImageStatus:
    reference = f"oci:///{repository(desired)}@{image.digest}"
    told = f"image {image.version} with version {image.model_version} of {desired.spec.model_ref.name}"
    conditions.set("Built", True, "Built", told)
    conditions.summarise(Situation.SERVING, "Built", told, available=(True, f"{reference} can be run"))
    return status.model_copy(
        update={
            "creation_state": "Succeeded",
            "image": reference,
            "image_version": image.version,
            "model_version": image.model_version,
        }
    )


def _finish(
    desired: ImageDesired, observed: ImageObserved, status: AccelImageStatus, conditions: Conditions
) -> Plan:
    built = conditions.build()
    status = _kept(desired, observed, status)
    final = status.model_copy(
        update={
            "observed_generation": desired.owner.generation,
            "state": conditions.state,
            "conditions": built,
        }
    )
    return Plan(status=final.dump(), events=changes(status.conditions, built))
