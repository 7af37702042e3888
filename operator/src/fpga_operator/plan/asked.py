"""What an object's Job is asked for, and whether the one on record has answered it.

Three things ask: the inputs (what the outcome is made of), the user's `accel.dev/requestedAt`, and content that the
registry has lost. Together they give the Job's name, so that each question is put once.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from fpga_operator.api.fpgamodel import JobRecord
from fpga_operator.plan.jobs import job_name
from fpga_operator.plan.types import REQUESTED_AT, Owner, parse_time

REQUEST_CHARACTERS = 256  # what the status holds of the annotation


@dataclass(frozen=True)
class Loss:
    """Content that the registry has lost; `misses` counts the builds that did not find it.

    The count tells a report that is older than the last repair from one that is newer.
    """

    digest: str
    misses: int = 0
    checked: bool = False  # the registry itself said so, and says so until it is there again

    def __str__(self) -> str:
        return f"{self.digest}#{self.misses}"

    @classmethod
    def parse(cls, text: str) -> "Loss":
        """Read what str() wrote."""
        digest, _, misses = text.partition("#")
        return cls(digest, int(misses) if misses.isdigit() else 0)


def losses(lost: Iterable[str], missed: Iterable[Loss] = ()) -> dict[str, Loss]:
    """Return what is reported lost, by digest: by the registry itself, and by builds that did not find it."""
    found = {digest: Loss(digest, checked=True) for digest in lost}
    for loss in missed:
        known = found.get(loss.digest, loss)
        if loss.misses >= known.misses:
            found[loss.digest] = Loss(loss.digest, loss.misses, known.checked)
    return found


def believed(record: JobRecord, loss: Loss, now: datetime) -> bool:
    """Tell whether a repair is taken to be newer than a report of the same loss.

    A build's report stands until its next attempt; the registry's own is soon renewed or taken back.
    """
    return not loss.checked or record.retry_time is None or now < parse_time(record.retry_time)


def unanswered(record: JobRecord | None, reported: Mapping[str, Loss], now: datetime) -> frozenset[str]:
    """Return the digests that are gone, without those that the Job on record has just made again."""
    gone = set(reported)
    if record is not None and record.outcome == "Succeeded" and record.lost:
        repaired = Loss.parse(record.lost)
        report = reported.get(repaired.digest)
        if report is not None and report.misses <= repaired.misses and believed(record, report, now):
            gone.discard(repaired.digest)
    return frozenset(gone)


def request(owner: Owner) -> str:
    """Return the user's request, or nothing."""
    return owner.annotations.get(REQUESTED_AT, "")[:REQUEST_CHARACTERS]


def present(
    owner: Owner,
    inputs: Mapping[str, Any],
    previous: JobRecord | None,
    loss: Loss | None,
    now: datetime,
    former: str = "",
) -> JobRecord:
    """Return the record for what is asked now: the previous one if it is about the same, else one of a Job to be run.

    loss: what is reported of the content that the Job makes. former: the name that an earlier release gave the Job.
    """
    # An annotation that was taken away asks for nothing: tools that keep objects in sync may prune it.
    asked = request(owner) or (previous.requested_at if previous is not None else None) or None

    def fresh(lost: Loss | None) -> JobRecord:
        what = {**inputs, "requestedAt": asked or ""}
        if lost is not None:
            what["lost"] = str(lost)
        return JobRecord(
            name=job_name(owner, what),
            outcome="Running",
            requested_at=asked,
            lost=str(lost) if lost is not None else None,
        )

    if previous is None:
        return fresh(loss)
    repairs = Loss.parse(previous.lost) if previous.lost else None
    if previous.name not in (fresh(repairs).name, former):
        return fresh(loss)
    if previous.outcome not in ("Succeeded", "Failed"):
        return previous  # under way; what it makes is new in any case
    if loss is None:
        if previous.outcome == "Failed" and repairs is not None:
            return fresh(None)  # the content is back without our doing
        return previous.model_copy(
            update={
                "name": fresh(None).name,
                "requested_at": asked,
                "lost": None,
                "retry_time": None if repairs is not None else previous.retry_time,
            }
        )
    if repairs is None or repairs.digest != loss.digest or repairs.misses < loss.misses:
        return fresh(loss)
    if previous.outcome == "Succeeded" and not believed(previous, loss, now):
        return fresh(Loss(loss.digest, repairs.misses + 1))  # lost once more
    return previous
