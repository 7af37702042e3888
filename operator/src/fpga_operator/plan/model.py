"""The planner of FpgaModels: source to registered, converted, verified version."""

from dataclasses import dataclass, replace
from datetime import datetime

from fpga_operator.api.base import Condition
from fpga_operator.api.fpgamodel import (
    Conversion,
    FpgaModelSpec,
    FpgaModelStatus,
    Mode,
    ModelVersion,
    Verification,
)
from fpga_operator.config import Config
from fpga_operator.plan.conditions import Conditions, Situation, changes
from fpga_operator.plan.jobflow import Flow, Jobs, follow
from fpga_operator.plan.jobs import convert_job, job_name
from fpga_operator.plan.jobview import Failure
from fpga_operator.plan.results import JobResult
from fpga_operator.plan.types import MODEL_LABEL, REQUESTED_AT, Fault, Manifest, Owner, Plan, labels_for

FETCH_SECONDS = 900
MAX_VERSIONS = 256
SUB = ("Registered", "Converted", "Verified")


@dataclass(frozen=True)
class ModelDesired:
    """The object as the user wrote it."""

    owner: Owner
    spec: FpgaModelSpec


@dataclass(frozen=True)
class ModelObserved:
    """The world as far as a model is concerned."""

    status: FpgaModelStatus
    jobs: Jobs
    fault: Fault | None = None
    lost: frozenset[str] = frozenset()  # digests in the own repository that the registry no longer has


def repository(owner: Owner) -> str:
    """Return the model's repository in the registry."""
    return f"models/{owner.namespace}/{owner.name}"


def payload(desired: ModelDesired, config: Config) -> Manifest:
    """Return ACCEL_JOB of the conversion, every default written out."""
    owner, spec = desired.owner, desired.spec
    conversion, verification = spec.conversion or Conversion(), spec.verification or Verification()
    return {
        "schema": "accel.dev/convert-job/v1",
        "model": {"namespace": owner.namespace, "name": owner.name},
        "source": {"uri": spec.source.uri, "sha256": spec.source.sha256},
        "conversion": {
            "mode": str(conversion.mode or "Auto"),
            "format": str(conversion.format or "Auto"),
            "inputs": list(conversion.inputs or ()),
            "outputs": list(conversion.outputs or ()),
            "signature": conversion.signature,
            "precision": conversion.precision or "msfp-a10",
            "requireFpga": conversion.require_fpga is not False,
        },
        "verification": {"samples": verification.samples or 4, "tolerance": verification.tolerance},
        "registry": {"endpoint": config.registry.endpoint},
        "target": {"repository": repository(owner)},
        "limits": {"maxSourceBytes": config.jobs.max_source_bytes, "fetchSeconds": FETCH_SECONDS},
    }


def merge_versions(known: tuple[ModelVersion, ...], result: JobResult) -> tuple[ModelVersion, ...]:
    """Return all versions, newest first: what the registry said, and older ones that its message had no room for."""
    said = {version.version: version for version in result.model_versions()}
    if result.model is not None:
        said[result.model.version] = result.model
    merged = dict(said)
    if result.versions_cut:
        oldest_said = min(said, default=0)
        merged |= {version.version: version for version in known if version.version < oldest_said}
    return tuple(merged[number] for number in sorted(merged, reverse=True))[:MAX_VERSIONS]


def plan_model(desired: ModelDesired, observed: ModelObserved, config: Config, now: datetime) -> Plan:
    """Return what shall be for one FpgaModel."""
    owner, previous = desired.owner, observed.status
    conditions = Conditions(owner, previous, now)
    available = (
        (True, f"version {previous.latest_version} is in the registry")
        if previous.latest_version
        else (False, "no version is in the registry yet")
    )
    inputs = {
        "source": desired.spec.source.dump(),
        "conversion": (desired.spec.conversion or Conversion()).dump(),
        "verification": (desired.spec.verification or Verification()).dump(),
        "generation": owner.generation,
        "requestedAt": owner.annotations.get(REQUESTED_AT, ""),
    }
    name = job_name(owner, inputs)
    if owner.deleting:
        for kind in SUB:
            conditions.keep(kind)
        conditions.summarise(Situation.WORKING, "Deleting", "the model is being deleted", available=available)
        return _finish(owner, previous, conditions)
    if observed.fault is not None:
        for kind in SUB:
            conditions.keep(kind)
        conditions.summarise(
            Situation.FAILED, observed.fault.reason, observed.fault.message, available=available
        )
        return _finish(owner, previous, conditions)

    flow = follow(owner, name, previous.job, observed.jobs, config, now)
    status = previous.model_copy(update={"job": flow.record})
    if flow.result is not None and flow.result.model is None:
        flow = Flow(flow.record, failure=Failure("push", "JobFailed", "push named no version", retry=False))
    if flow.result is not None:
        status = _take(status, flow.result)
        _done(conditions, desired, status)
    elif flow.failure is not None:
        _failed(conditions, flow.failure, available)
    elif flow.known:
        _known(conditions, desired, status, available)
    else:
        reason, message = flow.progress or ("JobStarting", "the Job is starting")
        for kind in SUB:
            conditions.set(kind, None, "InProgress", message)
        conditions.summarise(Situation.WORKING, reason, message, available=available)
    labels = labels_for(MODEL_LABEL, owner.name)
    children = (convert_job(owner, name, labels, payload(desired, config), config),) if flow.create else ()
    return replace(
        _finish(owner, status, conditions, requeue_after=flow.requeue_after),
        children=children,
        deletes=flow.deletes,
        waits_for_slot=flow.waits_for_slot,
    )


def _take(status: FpgaModelStatus, result: JobResult) -> FpgaModelStatus:
    assert result.model is not None
    return status.model_copy(
        update={
            "latest_version": result.model.version,
            "versions": merge_versions(status.versions, result),
            "inputs": result.inputs,
            "outputs": result.outputs,
            "device": result.device,
            "parity": result.parity,
            "log": result.log,
        }
    )


def _done(conditions: Conditions, desired: ModelDesired, status: FpgaModelStatus) -> None:
    version = status.latest_version
    where = f"version {version} is in the registry as {repository(desired.owner)}:v{version}"
    conditions.set("Registered", True, "Registered", where)
    if desired.spec.conversion is not None and desired.spec.conversion.mode is Mode.REGISTER_ONLY:
        for kind in ("Converted", "Verified"):
            conditions.set(kind, False, "RegisterOnly", "spec.conversion.mode is RegisterOnly; Auto converts")
        conditions.summarise(Situation.SERVING, "Registered", where, available=(True, where))
        return
    device, parity = status.device, status.parity
    told = "converted to ONNX; no part runs on the FPGA"
    if device is not None:
        told = f"{device.offloaded_ops} operators run on the FPGA, {device.host_ops} on the host"
    conditions.set("Converted", True, "Converted", told)
    compared = "no sample was compared"
    if parity is not None:
        compared = f"{parity.samples} samples, largest difference {parity.max_abs}"
        if parity.top1_agreement is not None:
            compared += f", top-1 agreement {parity.top1_agreement}"
    conditions.set("Verified", parity is not None, "Verified" if parity else "NotVerified", compared)
    conditions.summarise(Situation.SERVING, "Converted", f"{where}; {told}", available=(True, where))


def _known(
    conditions: Conditions, desired: ModelDesired, status: FpgaModelStatus, available: tuple[bool, str]
) -> None:
    """Say again what the recorded outcome was; the Job itself may be gone."""
    stalled: Condition | None = status.condition("Stalled")
    assert status.job is not None
    if status.job.outcome == "Succeeded":
        _done(conditions, desired, status)
        return
    for kind in SUB:
        conditions.keep(kind)
    before = stalled or status.condition("Ready")
    reason, message = (before.reason, before.message) if before else ("JobFailed", "the conversion failed")
    conditions.summarise(Situation.FAILED, reason, message, available=available)


def _failed(conditions: Conditions, failure: Failure, available: tuple[bool, str]) -> None:
    parity = failure.reason == "ParityFailed"
    conditions.set("Registered", False, failure.reason, failure.message)
    conditions.set("Converted", None if failure.step == "fetch" else parity, failure.reason, failure.message)
    conditions.set("Verified", False if parity else None, failure.reason, failure.message)
    conditions.summarise(Situation.FAILED, failure.reason, failure.message, available=available)


def _finish(
    owner: Owner, status: FpgaModelStatus, conditions: Conditions, requeue_after: float | None = None
) -> Plan:
    built = conditions.build()
    final = status.model_copy(
        update={"observed_generation": owner.generation, "state": conditions.state, "conditions": built}
    )
    # model_copy kept the previous conditions in `status` until here, so they are the "before".
    return Plan(status=final.dump(), requeue_after=requeue_after, events=changes(status.conditions, built))
