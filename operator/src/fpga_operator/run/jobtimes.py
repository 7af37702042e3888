"""How long a Job took; counted with the status that takes its result in, and so once, whoever restarts."""

from dataclasses import dataclass

from fpga_operator.plan.types import Manifest, parse_time

OUTCOMES = {"Succeeded": "succeeded", "Failed": "failed", "Retrying": "retried"}


@dataclass(frozen=True)
class Ended:
    """A Job whose result a status takes in."""

    name: str
    outcome: str


def ended(before: Manifest, after: Manifest) -> Ended | None:
    """Return the Job that ended between two statuses of its object, or None."""
    old, new = before.get("job") or {}, after.get("job") or {}
    outcome = OUTCOMES.get(new.get("outcome", ""))
    if outcome is None:
        return None
    if all(old.get(field) == new.get(field) for field in ("name", "outcome", "attempts")):
        return None
    # A look at a fault that still stands is no news: one wrong tag must not look like many failures.
    again = outcome == "failed" and old.get("outcome") == "Checking"
    return Ended(new["name"], "checked" if again else outcome)


def seconds(job: Manifest) -> float | None:
    """Return the seconds from a Job's start to its end; None while either is not known."""
    status = job.get("status") or {}
    begin = status.get("startTime")
    end = status.get("completionTime") or next(
        (c.get("lastTransitionTime") for c in status.get("conditions") or [] if c["type"] == "Failed"), None
    )
    return max(0.0, (parse_time(end) - parse_time(begin)).total_seconds()) if begin and end else None
