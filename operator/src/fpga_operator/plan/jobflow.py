"""One Job at a time for an object: wait for a slot, run, read, retry what may pass, remember what is done.

Shared by models and images, which differ in the Job's content and in what they make of its result.
"""

from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Any

from fpga_operator.api.fpgamodel import JobRecord
from fpga_operator.config import Config
from fpga_operator.plan import jobline
from fpga_operator.plan.jobline import JobHolder
from fpga_operator.plan.jobview import Failure, JobView, Phase, view
from fpga_operator.plan.patience import (
    OUTSIDE,
    backoff_seconds,
    check_seconds,
    limits_of,
    passes,
    until_check,
)
from fpga_operator.plan.results import JobResult
from fpga_operator.plan.types import Manifest, Owner, Ref, format_time, parse_time

MESSAGE_CHARACTERS = 1024


@dataclass(frozen=True)
class Jobs:
    """What is there: the object's Jobs, the pods of them, and whether one more may run."""

    jobs: tuple[Manifest, ...] = ()
    pods: tuple[Manifest, ...] = ()
    slot: bool = True
    holders: tuple[JobHolder, ...] = ()  # whose Jobs run now, in the whole cluster


@dataclass(frozen=True)
class Flow:
    """What to do about the Job. Exactly one of `progress`, `result` and `failure` is set, unless `known`.

    `known`: the outcome was recorded earlier, so keep what status says, whatever else is done about the Job.
    """

    record: JobRecord
    create: bool = False
    progress: tuple[str, str] | None = None  # reason and sentence
    result: JobResult | None = None
    failure: Failure | None = None
    known: bool = False
    deletes: tuple[Ref, ...] = ()
    requeue_after: float | None = None
    waits_for_slot: bool = False


def _pods_of(job: Manifest, pods: tuple[Manifest, ...]) -> list[Manifest]:
    uid = job["metadata"]["uid"]
    return [
        pod
        for pod in pods
        if any(owner.get("uid") == uid for owner in pod["metadata"].get("ownerReferences") or [])
    ]


def superseded(owner: Owner, name: str, there: Jobs) -> tuple[Ref, ...]:
    """Return the object's Jobs that are for other inputs than the present ones."""
    return tuple(
        Ref("Job", owner.namespace, job["metadata"]["name"], job["metadata"]["uid"])
        for job in there.jobs
        if job["metadata"]["name"] != name and "deletionTimestamp" not in job["metadata"]
    )


def follow(owner: Owner, record: JobRecord, there: Jobs, config: Config, now: datetime) -> Flow:
    """Decide about the Job that the record names."""
    name = record.name
    deletes = superseded(owner, name, there)
    job = next((job for job in there.jobs if job["metadata"]["name"] == name), None)
    going = job is not None and "deletionTimestamp" in job["metadata"]
    if record.outcome == "Succeeded":
        return Flow(record, known=True, deletes=deletes)
    if record.outcome == "Failed":
        wait = until_check(record, config, now)
        if wait is None or wait > 0:
            return Flow(record, known=True, deletes=deletes, requeue_after=wait)
        record = _with(record, outcome="Checking", retry_time=None)
        if job is not None:  # the one that failed
            old = () if going else (Ref("Job", owner.namespace, name, job["metadata"]["uid"]),)
            return Flow(record, known=True, deletes=(*deletes, *old), requeue_after=1)

    checking = (
        record.outcome == "Checking"
    )  # what is told of the object stays, until there is something new to tell
    if going:
        starting = ("JobStarting", "the Job is made again")
        return Flow(record, known=checking, progress=_retrying(record) or starting, deletes=deletes)
    seen: JobView = view(job, _pods_of(job, there.pods) if job is not None else [], config, now)

    if seen.phase is Phase.ACTIVE and seen.suspended:
        # It would stand here for ever, for Kubernetes stops its deadline's clock.
        told = ("JobStarting", "the Job was suspended by a hand and is made again")
        suspended = Ref("Job", owner.namespace, name, seen.uid)
        return Flow(record, known=checking, progress=_retrying(record) or told, deletes=(*deletes, suspended))
    if seen.phase is Phase.MISSING:
        return _start(owner, record, there, config, deletes, now)
    if seen.phase is Phase.ACTIVE:
        return Flow(
            record if checking else _with(record, outcome="Running"),
            create=True,
            known=checking,
            progress=seen.progress,
            deletes=deletes,
            requeue_after=seen.look_again,
        )
    if seen.phase is Phase.SUCCEEDED and seen.result is not None:
        # What the registry said before the repair is old; what it says a while after is new.
        trusted = format_time(now + timedelta(seconds=check_seconds(1))) if record.lost else None
        done = JobRecord(
            name=name,
            outcome="Succeeded",
            requested_at=record.requested_at,
            lost=record.lost,
            retry_time=trusted,
        )
        return Flow(done, result=seen.result, deletes=deletes)
    failure = seen.failure or Failure(
        "job", "ResultLost", "the Job succeeded but its result is gone", retry=True
    )
    if seen.given_up:  # it holds a slot for nothing
        deletes = (*deletes, Ref("Job", owner.namespace, name, seen.uid))
    if not passes(failure):
        return _failed(record, failure, config, deletes, now)
    return _again(owner, name, record, failure, seen.uid, deletes, now)


def _failed(
    record: JobRecord, failure: Failure, config: Config, deletes: tuple[Ref, ...], now: datetime
) -> Flow:
    attempts, wait, told = record.attempts + 1, None, failure.message
    if failure.reason in OUTSIDE:
        wait = check_seconds(attempts)
        told = f"{told.rstrip('.')}. It is looked at again by itself, within 10 minutes at most."
    told = told[:MESSAGE_CHARACTERS]
    failed = JobRecord(
        name=record.name,
        outcome="Failed",
        attempts=attempts,
        retry_time=format_time(now + timedelta(seconds=wait)) if wait is not None else None,
        reason=failure.reason,
        message=told,
        requested_at=record.requested_at,
        lost=record.lost,
        limits=limits_of(failure, config),
    )
    return Flow(failed, failure=replace(failure, message=told), deletes=deletes, requeue_after=wait)


def unusable(flow: Flow, step: str, message: str) -> Flow:
    """Return the flow of a Job that succeeded and did not say what is needed."""
    record = _with(flow.record, outcome="Failed", reason="JobFailed", message=message)
    return Flow(record, failure=Failure(step, "JobFailed", message, retry=False), deletes=flow.deletes)


def _with(record: JobRecord, **changes: Any) -> JobRecord:
    return record.model_copy(update=changes)


def _start(
    owner: Owner, record: JobRecord, there: Jobs, config: Config, deletes: tuple[Ref, ...], now: datetime
) -> Flow:
    if record.retry_time is not None and parse_time(record.retry_time) > now:
        # The failed Job is gone before its time (given up, or deleted by a hand): keep to the backoff.
        wait = (parse_time(record.retry_time) - now).total_seconds()
        return Flow(
            record,
            progress=_retrying(record) or ("WaitingToRetry", f"tried again at {record.retry_time}"),
            deletes=deletes,
            requeue_after=wait,
        )
    checking = record.outcome == "Checking"
    if not there.slot:
        return Flow(
            record,
            progress=jobline.story(config.max_concurrent_jobs, there.holders, owner.namespace),
            deletes=deletes,
            waits_for_slot=True,
            known=checking,
        )
    return Flow(
        record if checking else _with(record, outcome="Running"),
        create=True,
        known=checking,
        progress=("JobStarting", "the Job is starting"),
        deletes=deletes,
    )


def _retrying(record: JobRecord) -> tuple[str, str] | None:
    """Return the reason of a transient failure and its sentence while the next attempt is ahead."""
    if record.outcome != "Retrying" or not record.reason:
        return None
    told = (record.message or "").rstrip(".")
    return (
        record.reason,
        f"{told} (attempt {record.attempts} failed; tried again at {record.retry_time})",
    )


def _again(
    owner: Owner,
    name: str,
    record: JobRecord,
    failure: Failure,
    uid: str,
    deletes: tuple[Ref, ...],
    now: datetime,
) -> Flow:
    if record.outcome != "Retrying" or record.retry_time is None:
        attempts = record.attempts + 1
        pause = backoff_seconds(attempts)
        at = format_time(now + timedelta(seconds=pause))
        record = _with(
            record,
            outcome="Retrying",
            attempts=attempts,
            retry_time=at,
            reason=failure.reason,
            message=failure.message[:MESSAGE_CHARACTERS],
        )
    wait = (parse_time(record.retry_time or format_time(now)) - now).total_seconds()
    message = f"{failure.message.rstrip('.')} (attempt {record.attempts} failed; tried again at {record.retry_time})"
    if wait <= 0:
        # Deleting it frees its name; the missing Job is then made again, when there is a slot.
        return Flow(
            _with(record, outcome="Running", retry_time=None),
            progress=(failure.reason, message),
            deletes=(*deletes, Ref("Job", owner.namespace, name, uid)),
            requeue_after=1,
        )
    return Flow(record, progress=(failure.reason, message), deletes=deletes, requeue_after=wait)
