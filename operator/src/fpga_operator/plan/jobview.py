"""What a Job and its pods say: running, waiting for something, done, or failed for a reason with a cure."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import Enum

from fpga_operator.config import Config
from fpga_operator.plan.jobwaits import (
    Wait,
    look_again,
    look_again_without_pod,
    waiting,
    without_pod,
)
from fpga_operator.plan.results import JobResult, parse_result
from fpga_operator.plan.types import IMAGE_LABEL, Manifest, parse_time


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
    """A Job as the planners see it. `progress` is a reason and a sentence while it is active.

    `given_up` means that it failed while it waited to begin, and is still there. `look_again` is in seconds.
    """

    phase: Phase
    progress: tuple[str, str] = ("", "")
    result: JobResult | None = None
    failure: Failure | None = None
    uid: str = ""
    given_up: bool = False
    look_again: float | None = None
    suspended: bool = False


STEPS = {
    # container: (reason while it runs, what it does)
    "fetch": ("Fetching", "fetching the source"),
    "convert": ("Converting", "converting and compiling the model"),
    "push": ("Pushing", "pushing the version to the registry"),
    "build": ("Building", "building the image"),
}
OOM_EXIT = 137
ADMISSION_SECONDS = 5.0  # what suspends new Jobs does so before their controller sees them
NOT_ADMITTED = (
    "JobSuspended",
    "the Job is suspended and holds no slot: what queues Jobs in this cluster has yet to admit it",
)


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


def _pod_failure(pod: Manifest, job: Manifest) -> Failure | None:
    for container in _containers(pod):
        ended = (container.get("state") or {}).get("terminated")
        if ended is None or ended.get("exitCode") == 0:
            continue
        name = container["name"]
        said = parse_result(ended.get("message") or "")
        if said is not None and not said.ok:
            return Failure(said.step, said.reason, said.message or f"{name} failed", said.retry)
        if ended.get("reason") == "OOMKilled" or (name == "convert" and ended.get("exitCode") == OOM_EXIT):
            return Failure(name, "OOMKilled", _out_of_memory(name, job), retry=False)
        tail = " ".join((ended.get("message") or "").split())[-400:]
        return Failure(
            name,
            "JobFailed",
            f"{name} ended with exit code {ended.get('exitCode')} without saying why"
            + (f": {tail}" if tail else f"; see kubectl logs {pod['metadata']['name']} -c {name}"),
            retry=False,
        )
    return None


def _out_of_memory(name: str, job: Manifest) -> str:
    pod = job.get("spec", {}).get("template", {}).get("spec", {})
    containers = {c["name"]: c for c in [*(pod.get("initContainers") or []), *(pod.get("containers") or [])]}
    limit = containers.get(name, {}).get("resources", {}).get("limits", {}).get("memory", "its limit")
    if name == "convert":
        return (
            f"the converter was killed because it used more memory than {limit}: raise "
            "spec.conversion.limits.memory (about 14 times the model's float32 weights and 1Gi are needed)"
        )
    return f"{name} was killed because it used more memory than {limit}: use a smaller model, or report this"


def _progress(pods: Sequence[Manifest], job: Manifest, wait: Wait | None) -> tuple[str, str]:
    newest = _newest_first(pods)
    for pod in newest:
        if pod.get("status", {}).get("phase") == "Failed":
            failure = _pod_failure(pod, job)
            if failure is not None and failure.retry:
                # Said until it is over: a reason that flips with each new pod would be noise.
                return failure.reason, f"{failure.message.rstrip('.')}; tried again"
    if wait is not None:
        return wait.reason, wait.message
    return _pod_progress(newest[0]) if newest else ("JobStarting", "the Job is starting")


def _pod_progress(pod: Manifest) -> tuple[str, str]:
    first = next((container["name"] for container in _containers(pod)), "")
    for container in _containers(pod):
        state = container.get("state") or {}
        if (state.get("terminated") or {}).get("exitCode", 0) != 0:
            # The next container is not begun: the Job is about to say why.
            return STEPS.get(container["name"], ("JobStarting", ""))[0], f"{container['name']} has failed"
        if "terminated" not in state and container["name"] in STEPS:
            reason, what = STEPS[container["name"]]
            begun = "running" in state or container["name"] != first
            return (reason, what) if begun else ("JobStarting", "the Job is starting")
    # All of them have ended well: the Job is about to be complete.
    last = next((container["name"] for container in reversed(list(_containers(pod)))), "")
    return STEPS.get(last, ("JobStarting", "the Job is starting"))


def view(job: Manifest | None, pods: Sequence[Manifest], config: Config, now: datetime) -> JobView:
    """Judge a Job by its conditions and its pods' containers."""
    if job is None:
        return JobView(Phase.MISSING)
    uid = job["metadata"]["uid"]
    end = _ended(job)
    if end is None:
        return _active(job, pods, uid, config, now)
    if end["type"] == "Complete":
        return JobView(Phase.SUCCEEDED, result=_success(pods), uid=uid)
    return JobView(Phase.FAILED, failure=_failure(end, job, pods, config), uid=uid)


def _active(job: Manifest, pods: Sequence[Manifest], uid: str, config: Config, now: datetime) -> JobView:
    if (job.get("spec") or {}).get("suspend"):
        return JobView(Phase.ACTIVE, progress=NOT_ADMITTED, uid=uid, suspended=_stopped_later(job))
    newest = next(iter(_newest_first(pods)), None)
    wait = waiting(newest, now) if newest is not None else without_pod(job, now)
    # Before the Job's own deadline, which would be taken for a conversion that is too slow.
    if wait is not None and wait.age >= min(wait.patience, _deadline(job, config) / 2):
        failure = Failure("fetch", wait.reason, wait.message, retry=True)
        return JobView(Phase.FAILED, failure=failure, uid=uid, given_up=True)
    full = next((told for pod in _newest_first(pods) if (told := _evicted_for_disk(pod))), None)
    if full is not None:
        # An eviction counts as a disruption, so the Job would run into the same wall until its deadline.
        failure = Failure(
            "job",
            "WorkVolumeFull",
            f"the conversion needs more scratch space than it has ({full}): use a smaller model, or have "
            "operator.jobs.workVolume of the chart raised",
            retry=False,
        )
        return JobView(Phase.FAILED, failure=failure, uid=uid, given_up=True)
    again = look_again(newest, now) if newest is not None else look_again_without_pod(job, now)
    return JobView(Phase.ACTIVE, progress=_progress(pods, job, wait), uid=uid, look_again=again)


def _stopped_later(job: Manifest) -> bool:
    """Tell a Job that a hand suspended from one that a queueing system holds back from the beginning."""
    created = job["metadata"].get("creationTimestamp")
    for condition in job.get("status", {}).get("conditions") or []:
        if condition["type"] == "Suspended" and condition["status"] == "True" and created:
            since = parse_time(condition["lastTransitionTime"]) - parse_time(created)
            return since.total_seconds() > ADMISSION_SECONDS
    return False  # its controller has not said so yet


def _evicted_for_disk(pod: Manifest) -> str:
    """Return what the kubelet said when it evicted a pod for its own use of disk, and not for the node's need."""
    status = pod.get("status", {})
    told = " ".join(str(status.get("message", "")).split()).rstrip(".")
    own = "EmptyDir volume" in told or "ephemeral local storage usage exceeds" in told
    return told if status.get("reason") == "Evicted" and own else ""


def _deadline(job: Manifest, config: Config) -> int:
    return int(job.get("spec", {}).get("activeDeadlineSeconds") or config.jobs.deadline_seconds)


def _success(pods: Sequence[Manifest]) -> JobResult | None:
    for pod in _newest_first(pods):
        for container in _containers(pod):
            ended = (container.get("state") or {}).get("terminated")
            said = parse_result(ended.get("message") or "") if ended else None
            if said is not None and said.ok and said.step in ("push", "build"):
                return said
    return None


def _failure(end: Manifest, job: Manifest, pods: Sequence[Manifest], config: Config) -> Failure:
    if end.get("reason") == "DeadlineExceeded":
        builds = job["metadata"].get("labels", {}).get(IMAGE_LABEL) is not None
        cure = (
            "have operator.jobs.deadlineSeconds of the chart raised"
            if builds
            else "raise spec.conversion.limits.deadlineSeconds, or use a smaller model"
        )
        took = f"the Job took longer than {_deadline(job, config)} s"
        return Failure("job", "DeadlineExceeded", f"{took}: {cure}", retry=False)
    for pod in _newest_first(pods):
        failure = _pod_failure(pod, job)
        if failure is not None:
            return failure
    # Its pods are gone (a node was removed): nothing about the input is known to be wrong.
    return Failure(
        "job", "JobLost", f"the Job failed and its pods are gone: {end.get('message', '')}", retry=True
    )
