"""Whether an upstream object has settled: what keeps `kubectl wait` on a downstream object from returning early."""

from dataclasses import dataclass

from fpga_operator.api.base import StatusBase
from fpga_operator.plan.conditions import Situation
from fpga_operator.plan.types import Fault, Owner


@dataclass(frozen=True)
class Upstream:
    """An object that another one follows, as it is now."""

    kind: str
    name: str
    generation: int
    status: StatusBase

    @property
    def settled(self) -> bool:
        """Tell whether its newest spec is fully done."""
        return self.status.observed_generation == self.generation and self.status.holds("Ready")

    @property
    def stalled(self) -> bool:
        """Tell whether its newest spec needs a person."""
        return self.status.observed_generation == self.generation and self.status.holds("Stalled")

    def story(self) -> str:
        """Return what it says of itself, for the message of the object that waits."""
        ready = self.status.condition("Ready")
        if self.status.observed_generation != self.generation or ready is None:
            return f"{self.kind} {self.name}, whose newest spec is not done yet"
        return f"{self.kind} {self.name}: {ready.reason}: {ready.message}"


@dataclass(frozen=True)
class Verdict:
    """What holds an object up: the row of the table, a reason and a sentence."""

    situation: Situation
    reason: str
    message: str


def waiting_for(upstream: Upstream, reason: str) -> tuple[str, str]:
    """Return reason and message for an object that has been ready and whose upstream moves, or has failed."""
    if upstream.stalled:
        return reason, f"waits for {upstream.story()}"
    return "UpstreamChanged", f"waits for {upstream.story()}"


def interruption(owner: Owner, fault: Fault | None, what: str) -> Verdict | None:
    """Return what holds up everything else about an object: that it goes, or that its children cannot be written."""
    if owner.deleting:
        return Verdict(Situation.WORKING, "Deleting", f"the {what} is being deleted")
    if fault is not None:
        return Verdict(Situation.FAILED, fault.reason, fault.message)
    return None
