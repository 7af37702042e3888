"""The planner of FpgaModels: source to registered, converted, verified version."""

from dataclasses import dataclass, replace
from datetime import datetime

from fpga_operator.api.base import Condition
from fpga_operator.api.fpgamodel import (
    Conversion,
    Device,
    FpgaModelSpec,
    FpgaModelStatus,
    Mode,
    Verification,
)
from fpga_operator.config import Config
from fpga_operator.plan.asked import Loss, losses, present, unanswered
from fpga_operator.plan.conditions import Conditions, Situation, changes
from fpga_operator.plan.history import kept, merged, remembered
from fpga_operator.plan.jobflow import Jobs, follow, unusable
from fpga_operator.plan.jobline import steady
from fpga_operator.plan.jobs import convert_job
from fpga_operator.plan.jobview import Failure
from fpga_operator.plan.madefrom import DEFAULTS, former_name, inputs
from fpga_operator.plan.results import JobResult
from fpga_operator.plan.types import MODEL_LABEL, Fault, Manifest, Owner, Plan, labels_for
from fpga_operator.plan.upstream import interruption
from fpga_operator.plan.words import counted

FETCH_SECONDS = 900
DEFAULT_SKU = str(DEFAULTS["sku"])
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
    missed: tuple[Loss, ...] = ()  # versions that builds of images did not find
    pinned: frozenset[int] = frozenset()  # versions that images name or are built from


def repository(owner: Owner) -> str:
    """Return the model's repository in the registry."""
    return f"models/{owner.namespace}/{owner.name}"


def payload(desired: ModelDesired, status: FpgaModelStatus, config: Config) -> Manifest:
    """Return ACCEL_JOB of the conversion, every default written out."""
    owner, spec = desired.owner, desired.spec
    conversion, verification = spec.conversion or Conversion(), spec.verification or Verification()
    limits = conversion.limits
    return {
        "schema": "accel.dev/convert-job/v1",
        "model": {"namespace": owner.namespace, "name": owner.name},
        "source": {
            "uri": spec.source.uri,
            "sha256": spec.source.sha256,
            "secret": spec.source.secret_ref.name if spec.source.secret_ref is not None else None,
        },
        "conversion": {
            "mode": str(conversion.mode or "Auto"),
            "format": str(conversion.format or "Auto"),
            "inputs": list(conversion.inputs or ()),
            "outputs": list(conversion.outputs or ()),
            "signature": conversion.signature,
            "precision": conversion.precision or "msfp-a10",
            "sku": conversion.sku or DEFAULT_SKU,
            "requireFpga": conversion.require_fpga is not False,
        },
        "verification": {"samples": verification.samples or 4, "tolerance": verification.tolerance},
        "registry": {"endpoint": config.registry.endpoint, "secret": config.registry.secret_name or None},
        "target": {"repository": repository(owner), "versions": remembered(status.versions)},
        "limits": {
            "maxSourceBytes": config.jobs.max_source_bytes,
            "maxSourceFiles": config.jobs.max_source_files,
            "maxSourceRatio": config.jobs.max_source_ratio,
            # A deadline that the user raised is meant for slow sources too.
            "fetchSeconds": max(
                FETCH_SECONDS, (limits.deadline_seconds or 0) // 2 if limits is not None else 0
            ),
        },
    }


def plan_model(desired: ModelDesired, observed: ModelObserved, config: Config, now: datetime) -> Plan:
    """Return what shall be for one FpgaModel."""
    owner, previous = desired.owner, observed.status
    conditions = Conditions(owner, previous, now)
    reported = losses(observed.lost, observed.missed)
    gone = unanswered(previous.job, reported, now)
    latest = next((v for v in previous.versions if v.version == previous.latest_version), None)
    lost = latest is not None and latest.digest in gone
    available = _available(previous, lost=lost)
    # A build's miss is of one moment and stands until its next attempt: enough to make the version again, but only
    # the registry's own word takes one out of the status, for what no status names the sweep removes.
    status = _kept(desired, observed, previous, gone & observed.lost)
    if (held := interruption(owner, observed.fault, "model")) is not None:
        for kind in SUB:
            conditions.keep(kind)
        conditions.summarise(held.situation, held.reason, held.message, available=available)
        return _finish(owner, status, conditions)

    loss = reported.get(latest.digest) if latest is not None else None
    record = present(owner, inputs(desired.spec), previous.job, loss, now, former_name(owner, desired.spec))
    name = record.name
    flow = follow(owner, record, observed.jobs, config, now)
    status = status.model_copy(update={"job": flow.record})
    if flow.result is not None and flow.result.model is None:
        flow = unusable(flow, "push", "push named no version")
    if flow.result is not None:
        status = _kept(desired, observed, _take(status, flow.result))
        _done(conditions, desired, status)
    elif flow.failure is not None:
        if flow.failure.reason == "DoesNotFit":
            status = status.model_copy(update={"device": _unfit(desired.spec)})
        _failed(conditions, flow.failure, status, available)
    elif flow.known:
        _known(conditions, desired, status, available)
    else:
        progress = flow.progress or ("JobStarting", "the Job is starting")
        reason, message = steady(progress, previous.condition("Ready"))
        if lost:
            reason, message = "RegistryContentLost", f"{_lost(previous)} and is made again: {message}"
        for kind in SUB:
            conditions.set(kind, None, "InProgress", message)
        conditions.summarise(Situation.WORKING, reason, message, available=available)
    labels = labels_for(MODEL_LABEL, owner.name)
    limits = desired.spec.conversion.limits if desired.spec.conversion is not None else None
    children = (
        (convert_job(owner, name, labels, payload(desired, previous, config), config, limits),)
        if flow.create
        else ()
    )
    return replace(
        _finish(owner, status, conditions, requeue_after=flow.requeue_after),
        children=children,
        deletes=flow.deletes,
        waits_for_slot=flow.waits_for_slot,
    )


def _lost(status: FpgaModelStatus) -> str:
    return f"version {status.latest_version} is gone from the registry"


def _available(status: FpgaModelStatus, *, lost: bool) -> tuple[bool, str]:
    if status.latest_version is None:
        return False, "no version is in the registry yet"
    if lost:
        return False, _lost(status)
    return True, f"version {status.latest_version} is in the registry"


def _kept(
    desired: ModelDesired,
    observed: ModelObserved,
    status: FpgaModelStatus,
    gone: frozenset[str] = frozenset(),
) -> FpgaModelStatus:
    """Return the status without versions that nothing uses beyond the limit, and without those that are gone."""
    latest = status.latest_version
    there = [v for v in status.versions if v.digest not in gone or v.version == latest]
    versions = kept(
        there, lambda v: v.version == latest or v.version in observed.pinned, desired.spec.history_limit
    )
    return status.model_copy(update={"versions": versions})


def _take(status: FpgaModelStatus, result: JobResult) -> FpgaModelStatus:
    assert result.model is not None
    return status.model_copy(
        update={
            "latest_version": result.model.version,
            "versions": merged(
                status.versions, result.model_versions(), result.model, cut=result.versions_cut
            ),
            "inputs": result.inputs,
            "outputs": result.outputs,
            "device": result.device,
            "parity": result.parity,
            "log": result.log,
        }
    )


def _unfit(spec: FpgaModelSpec) -> Device:
    """Return what is known of the device for a model that is too large for its card: the message says the rest."""
    asked = spec.conversion.sku if spec.conversion is not None else None
    return Device(sku=asked or DEFAULT_SKU, fits=False)


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
    if device is not None and device.fits is False:
        told += f"; {device.host_reasons[0].reason}" if device.host_reasons else ""
    elif device is not None and device.offloaded_ops != 0:
        ran = counted(device.offloaded_ops or 0, "operator runs", "operators run")
        told = f"{ran} on the FPGA, {device.host_ops} on the host"
    conditions.set("Converted", True, "Converted", told)
    compared = "no sample was compared"
    if parity is not None:
        compared = f"{counted(parity.samples or 0, 'sample')}, largest difference {parity.max_abs}"
        if parity.top1_agreement is not None:
            compared += f", top-1 agreement {parity.top1_agreement}"
        if parity.saturated:
            compared += f"; {parity.saturated:.3%} of the device's numbers overflow float16"
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
    if status.job.reason is not None:  # not so in the records of release 0.1
        reason, message = status.job.reason, _story(status, status.job.message or "", available)
    conditions.summarise(Situation.FAILED, reason, message, available=available)


def _failed(
    conditions: Conditions, failure: Failure, status: FpgaModelStatus, available: tuple[bool, str]
) -> None:
    parity = failure.reason in ("ParityFailed", "ToleranceExceeded")
    message = _story(status, failure.message, available)
    conditions.set("Registered", False, failure.reason, message)
    conditions.set("Converted", None if failure.step == "fetch" else parity, failure.reason, message)
    conditions.set("Verified", False if parity else None, failure.reason, message)
    conditions.summarise(Situation.FAILED, failure.reason, message, available=available)


def _story(status: FpgaModelStatus, message: str, available: tuple[bool, str]) -> str:
    if status.latest_version is not None and not available[0]:
        return f"{_lost(status)} and cannot be made again: {message}"
    return message


def _finish(
    owner: Owner, status: FpgaModelStatus, conditions: Conditions, requeue_after: float | None = None
) -> Plan:
    built = conditions.build()
    final = status.model_copy(
        update={"observed_generation": owner.generation, "state": conditions.state, "conditions": built}
    )
    # model_copy kept the previous conditions in `status` until here, so they are the "before".
    return Plan(status=final.dump(), requeue_after=requeue_after, events=changes(status.conditions, built))
