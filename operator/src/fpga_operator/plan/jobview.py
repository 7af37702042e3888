"""What a Job and its pods say: running, waiting for something, done, or failed for a reason with a cure."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from enum import Enum

from fpga_operator.config import Config
from fpga_operator.plan.results import JobResult, parse_result
from fpga_operator.plan.types import Manifest


class Phase(Enum):
    """Where a Job stands."""

    MISSING = "missing"
    ACTIVE = "active"
    SUCCEEDED = "succeeded"
    FAILED = "failed"


@dataclass(frozen=True)
class Failure:
    """Why it failed; `retry` means that waiting may cure it."""

    step: str
    reason: str
    message: str
    retry: bool


@dataclass(frozen=True)
class JobView:
    """A Job as the planners see it. `progress` is a reason and a sentence while it is active."""

    phase: Phase
    progress: tuple[str, str] = ("", "")
    result: JobResult | None = None
    failure: Failure | None = None
    uid: str = ""


STEPS = {
    # container: (reason while it runs, what it does)
    "fetch": ("Fetching", "fetching the source"),
    "convert": ("Converting", "converting and compiling the model"),
    "push": ("Pushing", "pushing the version to the registry"),
    "build": ("Building", "building the image"),
}
_STUCK = {
    "ImagePullBackOff",
    "ErrImagePull",
    "InvalidImageName",
    "CreateContainerConfigError",
    "CreateContainerError",
}
OOM_EXIT = 137


def finished(job: Manifest) -> bool:
    """Tell whether a Job has ended, well or not."""
    return _ended(job) is not None


def _ended(job: Manifest) -> Manifest | None:
    for condition in job.get("status", {}).get("conditions") or []:
        if condition["type"] in ("Complete", "Failed") and condition["status"] == "True":
            found: Manifest = condition
            return found
    return None


def _containers(pod: Manifest) -> Iterator[Manifest]:
    status = pod.get("status", {})
    yield from status.get("initContainerStatuses") or []
    yield from status.get("containerStatuses") or []


def _newest_first(pods: Sequence[Manifest]) -> list[Manifest]:
    return sorted(pods, key=lambda pod: str(pod["metadata"].get("creationTimestamp", "")), reverse=True)


def _pod_failure(pod: Manifest, config: Config) -> Failure | None:
    for container in _containers(pod):
        ended = (container.get("state") or {}).get("terminated")
        if ended is None or ended.get("exitCode") == 0:
            continue
        name = container["name"]
        said = parse_result(ended.get("message") or "")
        if said is not None and not said.ok:
            return Failure(said.step, said.reason, said.message or f"{name} failed", said.retry)
        if ended.get("reason") == "OOMKilled" or (name == "convert" and ended.get("exitCode") == OOM_EXIT):
            limit = config.jobs.convert_memory if name == "convert" else "its limit"
            return Failure(
                name,
                "OOMKilled",
                f"{name} was killed because it used more memory than {limit}: raise jobs.convertMemory in the "
                "operator's configuration, or use a smaller model",
                retry=False,
            )
        tail = " ".join((ended.get("message") or "").split())[-400:]
        return Failure(
            name,
            "JobFailed",
            f"{name} ended with exit code {ended.get('exitCode')} without saying why"
            + (f": {tail}" if tail else f"; see kubectl logs {pod['metadata']['name']} -c {name}"),
            retry=False,
        )
    return None


def _progress(pods: Sequence[Manifest], config: Config) -> tuple[str, str]:
    newest = _newest_first(pods)
    for pod in newest:
        if pod.get("status", {}).get("phase") == "Failed":
            failure = _pod_failure(pod, config)
            if failure is not None and failure.retry:
                # Said until it is over: a reason that flips with each new pod would be noise.
                return failure.reason, f"{failure.message.rstrip('.')}; tried again"
    return _pod_progress(newest[0]) if newest else ("JobStarting", "the Job is starting")


def _pod_progress(pod: Manifest) -> tuple[str, str]:
    for condition in pod.get("status", {}).get("conditions") or []:
        if condition["type"] == "PodScheduled" and condition["status"] == "False":
            return "JobUnschedulable", f"the Job's pod cannot be scheduled: {condition.get('message', '')}"
    first = next((container["name"] for container in _containers(pod)), "")
    for container in _containers(pod):
        state = container.get("state") or {}
        waiting = state.get("waiting") or {}
        if waiting.get("reason") in _STUCK:
            return "ImagePullFailed" if "mage" in waiting["reason"] else "ContainerNotStarted", (
                f"{container['name']} cannot start: {waiting['reason']}: {waiting.get('message', '')}"
            )
        if "terminated" not in state and container["name"] in STEPS:
            reason, what = STEPS[container["name"]]
            begun = "running" in state or container["name"] != first
            return (reason, what) if begun else ("JobStarting", "the Job is starting")
    return "JobStarting", "the Job is starting"


def view(job: Manifest | None, pods: Sequence[Manifest], config: Config) -> JobView:
    """Judge a Job by its conditions and its pods' containers."""
    if job is None:
        return JobView(Phase.MISSING)
    uid = job["metadata"]["uid"]
    end = _ended(job)
    if end is None:
        return JobView(Phase.ACTIVE, progress=_progress(pods, config), uid=uid)
    if end["type"] == "Complete":
        return JobView(Phase.SUCCEEDED, result=_success(pods), uid=uid)
    return JobView(Phase.FAILED, failure=_failure(end, pods, config), uid=uid)


def _success(pods: Sequence[Manifest]) -> JobResult | None:
    for pod in _newest_first(pods):
        for container in _containers(pod):
            ended = (container.get("state") or {}).get("terminated")
            said = parse_result(ended.get("message") or "") if ended else None
            if said is not None and said.ok and said.step in ("push", "build"):
                return said
    return None


def _failure(end: Manifest, pods: Sequence[Manifest], config: Config) -> Failure:
    if end.get("reason") == "DeadlineExceeded":
        return Failure(
            "job",
            "DeadlineExceeded",
            f"the Job took longer than {config.jobs.deadline_seconds} s: raise jobs.deadlineSeconds in the operator's "
            "configuration, or use a smaller model",
            retry=False,
        )
    for pod in _newest_first(pods):
        failure = _pod_failure(pod, config)
        if failure is not None:
            return failure
    # Its pods are gone (a node was removed): nothing about the input is known to be wrong.
    return Failure(
        "job", "JobLost", f"the Job failed and its pods are gone: {end.get('message', '')}", retry=True
    )
