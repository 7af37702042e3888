"""One Job at a time for an object: wait for a slot, run, read, retry what may pass, remember what is done.

Shared by models and images, which differ in the Job's content and in what they make of its result.
"""

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from fpga_operator.api.fpgamodel import JobRecord
from fpga_operator.config import Config
from fpga_operator.plan.jobview import Failure, JobView, Phase, view
from fpga_operator.plan.results import JobResult
from fpga_operator.plan.types import Manifest, Owner, Ref, format_time, parse_time

FIRST_RETRY_SECONDS = 15
LAST_RETRY_SECONDS = 600


@dataclass(frozen=True)
class Jobs:
    """What is there: the object's Jobs, the pods of them, and whether one more may run."""

    jobs: tuple[Manifest, ...] = ()
    pods: tuple[Manifest, ...] = ()
    slot: bool = True
    running: int = 0  # Jobs of the whole cluster that run now, for the message


@dataclass(frozen=True)
class Flow:
    """What to do about the Job. Exactly one of `progress`, `result` and `failure` is set, unless `known`."""

    record: JobRecord
    create: bool = False
    progress: tuple[str, str] | None = None  # reason and sentence
    result: JobResult | None = None
    failure: Failure | None = None
    known: bool = False  # the outcome was recorded earlier: keep what status says
    deletes: tuple[Ref, ...] = ()
    requeue_after: float | None = None
    waits_for_slot: bool = False


def backoff_seconds(attempts: int) -> float:
    """Return the pause after that many transient failures: 15, 30, 60 ... 600 seconds."""
    return float(min(FIRST_RETRY_SECONDS * 2 ** max(0, attempts - 1), LAST_RETRY_SECONDS))


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


def follow(
    owner: Owner, name: str, previous: JobRecord | None, there: Jobs, config: Config, now: datetime
) -> Flow:
    """Decide about the Job of that name."""
    record = (
        previous
        if previous is not None and previous.name == name
        else JobRecord(name=name, outcome="Running")
    )
    deletes = superseded(owner, name, there)
    if record.outcome in ("Succeeded", "Failed"):
        return Flow(record, known=True, deletes=deletes)

    job = next((job for job in there.jobs if job["metadata"]["name"] == name), None)
    if job is not None and "deletionTimestamp" in job["metadata"]:
        return Flow(record, progress=("JobStarting", "the Job is made again"), deletes=deletes)
    seen: JobView = view(job, _pods_of(job, there.pods) if job is not None else [], config)

    if seen.phase is Phase.MISSING:
        return _start(record, there, config, deletes, now)
    if seen.phase is Phase.ACTIVE:
        return Flow(_with(record, outcome="Running"), create=True, progress=seen.progress, deletes=deletes)
    if seen.phase is Phase.SUCCEEDED and seen.result is not None:
        done = JobRecord(name=name, outcome="Succeeded")
        return Flow(done, result=seen.result, deletes=deletes)
    failure = seen.failure or Failure(
        "job", "ResultLost", "the Job succeeded but its result is gone", retry=True
    )
    if not failure.retry:
        return Flow(JobRecord(name=name, outcome="Failed"), failure=failure, deletes=deletes)
    return _again(owner, name, record, failure, seen.uid, deletes, now)


def _with(record: JobRecord, **changes: Any) -> JobRecord:
    return record.model_copy(update=changes)


def _start(record: JobRecord, there: Jobs, config: Config, deletes: tuple[Ref, ...], now: datetime) -> Flow:
    if record.retry_time is not None and parse_time(record.retry_time) > now:
        # The failed Job was deleted by a hand before its time: keep to the backoff.
        wait = (parse_time(record.retry_time) - now).total_seconds()
        return Flow(
            record,
            progress=("WaitingToRetry", f"tried again at {record.retry_time}"),
            deletes=deletes,
            requeue_after=wait,
        )
    if not there.slot:
        return Flow(
            record,
            progress=(
                "WaitingForJobSlot",
                f"waits for a Job slot: {there.running} of at most {config.max_concurrent_jobs} Jobs run",
            ),
            deletes=deletes,
            waits_for_slot=True,
        )
    return Flow(
        _with(record, outcome="Running"),
        create=True,
        progress=("JobStarting", "the Job is starting"),
        deletes=deletes,
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
        record = JobRecord(name=name, outcome="Retrying", attempts=attempts, retry_time=at)
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
