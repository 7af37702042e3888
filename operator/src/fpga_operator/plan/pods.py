"""A service's pods as the planner needs them: which revision, placed or not, ready or why not."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from fpga_operator.plan.types import REVISION_LABEL, Manifest, parse_time

EXIT_REFUSED = 78  # the model server's word for it
REFUSAL_CHARACTERS = 512
_STUCK = (
    "ImagePullBackOff",
    "ErrImagePull",
    "InvalidImageName",
    "CreateContainerConfigError",
    "CrashLoopBackOff",
)


@dataclass(frozen=True)
class PodView:
    """One pod. Times are None while the condition is not there."""

    name: str
    uid: str
    revision: str
    node: str
    ready: bool
    failed: bool
    terminating: bool
    scheduled: bool
    placed_at: datetime | None  # when it got its node
    unready_at: datetime | None  # when it last stopped being ready, or began
    unplaced_at: datetime | None  # since when the scheduler finds no node
    unplaced_why: str
    sandboxed: bool | None  # whether volumes and network are there; None where the kubelet does not say
    trouble: str  # what its container waits for or died of
    failure: str = ""  # why the whole pod ended, in the kubelet's words
    refusal: tuple[str, str] | None = (
        None  # reason and words with which its card refuses the program for good
    )

    @property
    def alive(self) -> bool:
        """Tell whether it serves, or may still come to."""
        return not self.failed and not self.terminating

    def clock(self) -> datetime | None:
        """Return when the deadline's clock began: never while it waits for a device."""
        if self.placed_at is None:
            return None
        return max(self.placed_at, self.unready_at or self.placed_at)


def _trouble(container: Manifest) -> str:
    state = container.get("state") or {}
    waiting = state.get("waiting") or {}
    last = (container.get("lastState") or {}).get("terminated") or state.get("terminated") or {}
    words: list[str] = []
    if waiting.get("reason") in _STUCK:
        words.append(waiting["reason"])
        if waiting["reason"] != "CrashLoopBackOff" and waiting.get("message"):
            words.append(waiting["message"])
    if last:
        said = " ".join((last.get("message") or "").split())[-400:]
        words.append(
            f"ended with {last.get('reason', 'exit')} (exit code {last.get('exitCode')})"
            + (f": {said}" if said else "")
        )
    return ": ".join(words)


def _refusal(container: Manifest) -> tuple[str, str] | None:
    """Return reason and words of a server that ended because its card will never run its program."""
    state = container.get("state") or {}
    ended = state.get("terminated") or (container.get("lastState") or {}).get("terminated") or {}
    if ended.get("exitCode") != EXIT_REFUSED:
        return None
    said = " ".join((ended.get("message") or "").split())
    reason, colon, words = said.partition(": ")
    if colon and reason.isalpha() and reason[:1].isupper():
        return reason[:64], words[-REFUSAL_CHARACTERS:]
    return "ProgramRefused", said[-REFUSAL_CHARACTERS:] or "it did not say why"


def pod_view(pod: Manifest) -> PodView:
    """Read one pod."""
    meta, status = pod["metadata"], pod.get("status", {})
    conditions = {condition["type"]: condition for condition in status.get("conditions") or []}

    def since(kind: str, value: str) -> datetime | None:
        found = conditions.get(kind)
        if found is None or found["status"] != value or not found.get("lastTransitionTime"):
            return None
        return parse_time(found["lastTransitionTime"])

    sandbox = conditions.get("PodReadyToStartContainers")
    node = pod.get("spec", {}).get("nodeName", "")
    containers = status.get("containerStatuses") or []
    return PodView(
        name=meta["name"],
        uid=meta["uid"],
        revision=(meta.get("labels") or {}).get(REVISION_LABEL, ""),
        node=node,
        ready=conditions.get("Ready", {}).get("status") == "True",
        failed=status.get("phase") in ("Failed", "Succeeded"),
        terminating="deletionTimestamp" in meta,
        scheduled=bool(node),
        placed_at=since("PodScheduled", "True"),
        unready_at=since("Ready", "False"),
        unplaced_at=since("PodScheduled", "False"),
        unplaced_why=conditions.get("PodScheduled", {}).get("message", "") if not node else "",
        sandboxed=None if sandbox is None else sandbox["status"] == "True",
        trouble=next((text for container in containers if (text := _trouble(container))), ""),
        refusal=next((told for container in containers if (told := _refusal(container))), None),
        failure=": ".join(text for text in (status.get("reason"), status.get("message")) if text),
    )


def pod_views(pods: Sequence[Manifest]) -> tuple[PodView, ...]:
    """Read all, by name."""
    return tuple(sorted((pod_view(pod) for pod in pods), key=lambda pod: pod.name))
