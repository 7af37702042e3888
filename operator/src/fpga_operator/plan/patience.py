"""After which failures a Job runs again by itself, and when.

A failure has one of three ends. What passes by itself is tried again soon, and the object is at work meanwhile. What
ends outside of the object, such as a source that is not there yet, needs a person, so the object is Stalled; it is
looked at again slowly all the same, for nobody should have to touch the object once the fault has ended. Everything
else waits for an edit.
"""

from datetime import datetime

from fpga_operator.api.fpgamodel import JobRecord
from fpga_operator.config import Config
from fpga_operator.plan.jobs import stable_hash
from fpga_operator.plan.jobview import Failure
from fpga_operator.plan.types import parse_time

FIRST_RETRY_SECONDS = 15
FIRST_CHECK_SECONDS = 60
LONGEST_SECONDS = 600

# Says no more than that another object is not done: it is at work on it.
PASSING = {"ModelNotFound"}
# A person must act, and not on the object.
OUTSIDE = {
    "BaseNotFound",
    "DigestMismatch",
    "RegistryDenied",
    "RegistryFull",
    "RegistryReadOnly",
    "RegistrySecretInvalid",
    "SourceDenied",
    "SourceHasLinks",
    "SourceNotFound",
    "SourceSecretInvalid",
    "SourceUntrusted",
}
# The operator's limits were too low, or the input too large for them.
LIMITED = {
    "ArchiveBomb",
    "ArchiveTooManyFiles",
    "DeadlineExceeded",
    "OOMKilled",
    "SourceTooLarge",
    "SourceTooManyFiles",
    "WorkVolumeFull",
}


def passes(failure: Failure) -> bool:
    """Tell whether a failure is tried again soon."""
    return failure.retry or failure.reason in PASSING


def backoff_seconds(attempts: int) -> float:
    """Return the pause after that many failures that pass: 15, 30, 60 ... 600 seconds."""
    return float(min(FIRST_RETRY_SECONDS * 2 ** max(0, attempts - 1), LONGEST_SECONDS))


def check_seconds(attempts: int) -> float:
    """Return the pause after that many failures outside of the object: 60, 120, 240 ... 600 seconds."""
    return float(min(FIRST_CHECK_SECONDS * 2 ** max(0, attempts - 1), LONGEST_SECONDS))


def limits_of(failure: Failure, config: Config) -> str | None:
    """Return a mark of the limits that a failure is due to, None if it is due to other things."""
    return _mark(config) if failure.reason in LIMITED else None


def until_check(record: JobRecord, config: Config, now: datetime) -> float | None:
    """Return the seconds until a failed Job is looked at again; None: not before an edit."""
    if record.limits is not None and record.limits != _mark(config):
        return 0
    if record.retry_time is None:
        return None
    return max(0.0, (parse_time(record.retry_time) - now).total_seconds())


def _mark(config: Config) -> str:
    return stable_hash(config.jobs.model_dump(mode="json"))
