"""What is told to an object that waits in line for a Job slot: how many slots there are, and who has them.

The names are those of the moment in which the waiting began. Names of the present would be written anew to all who wait
whenever a Job ends, hundreds of writes that nobody reads.
"""

from collections.abc import Iterable
from dataclasses import dataclass

from fpga_operator.api.base import Condition

REASON = "WaitingForJobSlot"
NAMED = 3


@dataclass(frozen=True)
class JobHolder:
    """The object whose Job has a slot."""

    kind: str
    namespace: str
    name: str


def story(limit: int, holders: Iterable[JobHolder], namespace: str) -> tuple[str, str]:
    """Return reason and sentence for an object of that namespace; those of other namespaces stay unnamed."""
    found = set(holders)
    here = sorted(f"{holder.kind} {holder.name}" for holder in found if holder.namespace == namespace)
    shown = here[:NAMED]
    if (more := len(here) - NAMED) > 0:
        shown.append(f"{more} more of this namespace")
    if elsewhere := len(found) - len(here):
        shown.append("one of another namespace" if elsewhere == 1 else f"{elsewhere} of other namespaces")
    text = f"waits for a Job slot: at most {limit} Jobs run at once"
    return REASON, text + (f"; as it began to wait, they were those of {', '.join(shown)}" if shown else "")


def steady(progress: tuple[str, str], before: Condition | None) -> tuple[str, str]:
    """Return the progress; of an object that waits on, what was said as it began to."""
    if progress[0] == REASON and before is not None and before.reason == REASON:
        return REASON, before.message
    return progress
