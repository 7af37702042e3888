"""The planner of AccelImages: follow or pin a model's version, and build its image once."""

from dataclasses import dataclass, replace
from datetime import datetime
from typing import Literal

from fpga_operator.api.accelimage import AccelImageSpec, AccelImageStatus, ImageVersion
from fpga_operator.api.fpgamodel import FpgaModelSpec, FpgaModelStatus, Mode, ModelVersion
from fpga_operator.config import Config
from fpga_operator.plan.conditions import Conditions, Situation, changes
from fpga_operator.plan.jobflow import Flow, Jobs, follow, superseded
from fpga_operator.plan.jobs import build_job, job_name
from fpga_operator.plan.jobview import Failure
from fpga_operator.plan.results import JobResult
from fpga_operator.plan.types import IMAGE_LABEL, REQUESTED_AT, Fault, Manifest, Owner, Plan, labels_for
from fpga_operator.plan.upstream import Upstream, Verdict, waiting_for

MAX_VERSIONS = 256
RESERVED = ("images", "models", "sources")
CreationState = Literal["Pending", "Building", "Succeeded", "Failed"]


@dataclass(frozen=True)
class ImageDesired:
    """The object as the user wrote it."""

    owner: Owner
    spec: AccelImageSpec


@dataclass(frozen=True)
class ModelSeen:
    """The model that it names."""

    owner: Owner
    spec: FpgaModelSpec
    status: FpgaModelStatus

    @property
    def upstream(self) -> Upstream:
        """The model as something to wait for."""
        return Upstream("FpgaModel", self.owner.name, self.owner.generation, self.status)


@dataclass(frozen=True)
class ImageObserved:
    """The world as far as an image is concerned."""

    status: AccelImageStatus
    model: ModelSeen | None
    jobs: Jobs
    fault: Fault | None = None
    lost: frozenset[str] = frozenset()  # digests in the own repository that the registry no longer has


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


def choose(desired: ImageDesired, model: ModelSeen | None, built: bool) -> ModelVersion | Verdict:
    """Return the version to build, or why there is none yet."""
    ref = desired.spec.model_ref
    if model is None or model.owner.deleting:
        gone = f"waits for FpgaModel {ref.name}, which does not exist in namespace {desired.owner.namespace}"
        return Verdict(Situation.WAITING, "WaitingForModel", gone)
    if model.spec.conversion is not None and model.spec.conversion.mode is Mode.REGISTER_ONLY:
        return Verdict(
            Situation.FAILED,
            "ModelNotConverted",
            f"FpgaModel {ref.name} is only registered: set its spec.conversion.mode to Auto",
        )
    versions = {version.version: version for version in model.status.versions}
    if ref.version is not None:
        if ref.version in versions:
            return versions[ref.version]
        if not model.upstream.settled and not model.upstream.stalled:
            return Verdict(
                Situation.WAITING,
                "WaitingForModel",
                f"waits for version {ref.version}: {model.upstream.story()}",
            )
        there = ", ".join(map(str, sorted(versions))) or "none yet"
        return Verdict(
            Situation.FAILED,
            "VersionNotFound",
            f"spec.modelRef.version {ref.version} does not exist; versions of FpgaModel {ref.name}: {there}",
        )
    if not model.upstream.settled:
        reason, message = waiting_for(model.upstream, "WaitingForModel")
        return Verdict(Situation.WAITING, reason if built else "WaitingForModel", message)
    latest = versions.get(model.status.latest_version or 0)
    if latest is None:
        return Verdict(
            Situation.WAITING, "WaitingForModel", f"waits for FpgaModel {ref.name}, which has no version yet"
        )
    return latest


def payload(desired: ImageDesired, target: ModelVersion, base: str, reason: str, config: Config) -> Manifest:
    """Return ACCEL_JOB of the build."""
    owner, spec = desired.owner, desired.spec
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
        },
        "base": base,
        "baseInsecure": config.registry.insecure_bases,
        "registry": {"endpoint": config.registry.endpoint},
        "target": {"repository": repository(desired)},
        "reason": reason,
    }


def merge_versions(known: tuple[ImageVersion, ...], result: JobResult) -> tuple[ImageVersion, ...]:
    """Return all images, newest first, as merge_versions of models does."""
    said = {version.version: version for version in result.image_versions()}
    if result.image is not None:
        said[result.image.version] = result.image
    merged = dict(said)
    if result.versions_cut:
        oldest_said = min(said, default=0)
        merged |= {version.version: version for version in known if version.version < oldest_said}
    return tuple(merged[number] for number in sorted(merged, reverse=True))[:MAX_VERSIONS]


def plan_image(desired: ImageDesired, observed: ImageObserved, config: Config, now: datetime) -> Plan:
    """Return what shall be for one AccelImage."""
    owner, status = desired.owner, observed.status
    if status.repository not in (None, repository(desired)):
        status = status.model_copy(update={"versions": (), "image": None, "image_version": None})
    conditions = Conditions(owner, observed.status, now)
    if owner.deleting:
        verdict = Verdict(Situation.WORKING, "Deleting", "the image is being deleted")
        return _held(owner, status, conditions, verdict)
    if observed.fault is not None:
        verdict = Verdict(Situation.FAILED, observed.fault.reason, observed.fault.message)
        return _held(owner, status, conditions, verdict)
    denied = _denied(desired)
    target = denied or choose(desired, observed.model, built=status.image is not None)
    if isinstance(target, Verdict):
        plan = _held(owner, status, conditions, target)
        return replace(plan, deletes=superseded(owner, "", observed.jobs))

    conditions.set(
        "ModelReady", True, "ModelReady", f"version {target.version} of {desired.spec.model_ref.name}"
    )
    status = status.model_copy(update={"repository": repository(desired)})
    requested = owner.annotations.get(REQUESTED_AT, "")
    base = status.runtime_base if status.versions and status.runtime_base else config.images.runtime
    name = job_name(
        owner,
        {"model": target.digest, "base": base, "repository": repository(desired), "requestedAt": requested},
    )
    built = next((v for v in status.versions if v.model_digest == target.digest), None)
    done = status.job if status.job is not None and status.job.outcome == "Succeeded" else None
    if built is not None and (not requested or (done is not None and done.name == name)):
        status = status.model_copy(update={"job": done})
        status = _serve(desired, status, conditions, built)
        return replace(_finish(owner, status, conditions), deletes=superseded(owner, name, observed.jobs))

    # A Job that is recorded as done without its image being known is no help: look at it again, or run it again.
    flow = follow(owner, name, None if done is not None else status.job, observed.jobs, config, now)
    status = status.model_copy(update={"job": flow.record, "runtime_base": base})
    if flow.result is not None and flow.result.image is None:
        flow = Flow(flow.record, failure=Failure("build", "JobFailed", "build named no image", retry=False))
    reason = "Spec" if not status.versions or status.image is None else "Model"
    if flow.result is not None and flow.result.image is not None:
        image = flow.result.image.model_copy(
            update={"model_digest": target.digest, "model_version": target.version}
        )
        result = flow.result.model_copy(update={"image": image})
        versions = merge_versions(status.versions, result)
        status = status.model_copy(update={"versions": versions, "build_log": result.log})
        status = _serve(desired, status, conditions, image)
    elif flow.failure is not None:
        _stand(
            conditions, status, "Failed", Verdict(Situation.FAILED, flow.failure.reason, flow.failure.message)
        )
        status = status.model_copy(update={"creation_state": "Failed"})
    elif flow.known:
        before = status.condition("Stalled") or status.condition("Ready")
        told = (before.reason, before.message) if before else ("JobFailed", "the build failed")
        _stand(conditions, status, "Failed", Verdict(Situation.FAILED, *told))
        status = status.model_copy(update={"creation_state": "Failed"})
    else:
        progress = flow.progress or ("JobStarting", "the Job is starting")
        step: CreationState = "Pending" if flow.waits_for_slot else "Building"
        _stand(conditions, status, step, Verdict(Situation.WORKING, *progress))
        status = status.model_copy(update={"creation_state": step})
    labels = labels_for(IMAGE_LABEL, owner.name)
    job = build_job(owner, name, labels, payload(desired, target, base, reason, config), config)
    return replace(
        _finish(owner, status, conditions),
        children=(job,) if flow.create else (),
        deletes=flow.deletes,
        requeue_after=flow.requeue_after,
        waits_for_slot=flow.waits_for_slot,
    )


def _available(status: AccelImageStatus) -> tuple[bool, str]:
    if status.image is not None:
        return True, f"{status.image} can be run"
    return False, "no image has been built yet"


def _stand(conditions: Conditions, status: AccelImageStatus, step: CreationState, verdict: Verdict) -> None:
    conditions.set("Built", False if step == "Failed" else None, verdict.reason, verdict.message)
    conditions.summarise(verdict.situation, verdict.reason, verdict.message, available=_available(status))


def _held(owner: Owner, status: AccelImageStatus, conditions: Conditions, verdict: Verdict) -> Plan:
    """The model, or the spec, does not allow a build now; what was built stays."""
    failed = verdict.situation is Situation.FAILED
    if verdict.reason != "Deleting":
        conditions.set("ModelReady", False, verdict.reason, verdict.message)
    conditions.keep("Built")
    conditions.summarise(verdict.situation, verdict.reason, verdict.message, available=_available(status))
    step: CreationState = "Failed" if failed else "Succeeded" if status.image is not None else "Pending"
    return _finish(owner, status.model_copy(update={"creation_state": step}), conditions)


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


def _finish(owner: Owner, status: AccelImageStatus, conditions: Conditions) -> Plan:
    built = conditions.build()
    final = status.model_copy(
        update={"observed_generation": owner.generation, "state": conditions.state, "conditions": built}
    )
    return Plan(status=final.dump(), events=changes(status.conditions, built))
