"""How far a running Job is, and where the log of a failed one lies."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from accel.status.snapshot import Object, owned_by

__all__ = ["PREFIX", "Progress", "last_line", "progress_of"]

PREFIX = "accel: "  # lines of a Job's log that are for people begin so


@dataclass(frozen=True)
class Progress:
    """The container that runs, as number `step` of `steps`. `container` is empty until the first one runs."""

    job: str
    attempt: int
    pod: str = ""
    container: str = ""
    step: int = 0
    steps: int = 0
    since: str | None = None
    waits: str = ""  # what keeps the pod from starting
    line: str = ""  # the last line of its log that is for people, without its prefix


def last_line(log: str) -> str:
    """Return the last line that is for people; empty where there is none."""
    return next(
        (line.removeprefix(PREFIX).strip() for line in reversed(log.splitlines()) if line.startswith(PREFIX)),
        "",
    )


def _ended(job: Object) -> bool:
    conditions = (job.get("status") or {}).get("conditions") or ()
    return any(entry["type"] in ("Complete", "Failed") and entry["status"] == "True" for entry in conditions)


def _containers(pod: Object) -> Iterator[tuple[str, Mapping[str, Any]]]:
    """Yield name and state, in the order in which they run."""
    spec, status = pod.get("spec") or {}, pod.get("status") or {}
    states = {
        entry["name"]: entry.get("state") or {}
        for field in ("initContainerStatuses", "containerStatuses")
        for entry in status.get(field) or ()
    }
    for field in ("initContainers", "containers"):
        for container in spec.get(field) or ():
            yield container["name"], states.get(container["name"], {})


def progress_of(
    jobs: Sequence[Object], pods: Sequence[Object], record: Mapping[str, Any]
) -> tuple[Progress | None, str]:
    """Return the progress of an object's Job, and pod and container of its last failure as `logs` takes them.

    `record` is `status.job`; `jobs` are the object's, newest first.
    """
    for job in jobs:
        attempt = int(record.get("attempts", 0)) + 1 if record.get("name") == job["metadata"]["name"] else 1
        mine = owned_by(job["metadata"]["uid"], pods)
        failed = next((told for pod in mine if (told := _failed(pod))), "")
        if _ended(job):
            return None, failed
        begun = Progress(job["metadata"]["name"], attempt)
        return (_running(mine[0], begun) if mine else begun), failed
    return None, ""


def _failed(pod: Object) -> str:
    if "deletionTimestamp" in pod["metadata"]:
        return ""  # gone before anybody can ask for its log
    for name, state in _containers(pod):
        if (state.get("terminated") or {}).get("exitCode", 0) != 0:
            return f"{pod['metadata']['name']} -c {name}"
    return ""


def _running(pod: Object, begun: Progress) -> Progress:
    containers = list(_containers(pod))
    name, status = pod["metadata"]["name"], pod.get("status") or {}
    for condition in status.get("conditions") or ():
        if condition["type"] == "PodScheduled" and condition["status"] == "False":
            return Progress(begun.job, begun.attempt, pod=name, waits=condition.get("message", ""))
    for number, (container, state) in enumerate(containers, start=1):
        if "running" in state:
            since = state["running"].get("startedAt")
            return Progress(begun.job, begun.attempt, name, container, number, len(containers), since)
        waiting = state.get("waiting") or {}
        if waiting.get("reason") not in (None, "PodInitializing", "ContainerCreating"):
            waits = ": ".join(filter(None, (waiting["reason"], waiting.get("message", ""))))
            return Progress(begun.job, begun.attempt, pod=name, waits=waits)
    return Progress(begun.job, begun.attempt, pod=name)
