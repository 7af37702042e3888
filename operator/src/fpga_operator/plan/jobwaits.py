"""What a Job's pod waits for that has not begun: a node, a claim, an image.

None of it says anything about the input, and none of it ends by itself within a Job: after some patience the Job is
given up for now, so that its slot is somebody else's, and made again later.
"""

import re
from dataclasses import dataclass
from datetime import datetime

from fpga_operator.plan.types import Manifest, parse_time

MOUNT_SECONDS = 10.0  # mounting takes a moment; beyond it, something is missing
CLAIM_SECONDS, IMAGE_SECONDS, MOUNT_PATIENCE_SECONDS = 120.0, 300.0, 300.0
POD_SECONDS, POD_PATIENCE_SECONDS = 15.0, 120.0  # a controller makes a pod in the blink of an eye, if it may
NODE_SECONDS = 600.0  # a cluster autoscaler needs minutes to bring a node

_NO_CLAIM = re.compile(r'persistentvolumeclaim "([^"]+)" not found')
_CLAIM_TROUBLE = ("PersistentVolumeClaim", "persistent volume", "volume node affinity")
_STUCK = {
    "ImagePullBackOff",
    "ErrImagePull",
    "InvalidImageName",
    "CreateContainerConfigError",
    "CreateContainerError",
}


@dataclass(frozen=True)
class Wait:
    """What for (a reason and a sentence), for how long already, and for how long at most; seconds."""

    reason: str
    message: str
    age: float
    patience: float


def waiting(pod: Manifest, now: datetime) -> Wait | None:
    """Return what keeps a pod from beginning; None once it has begun, or when nothing is known to be wrong."""
    status = pod.get("status", {})
    conditions = {condition["type"]: condition for condition in status.get("conditions") or []}
    containers = [*(status.get("initContainerStatuses") or []), *(status.get("containerStatuses") or [])]
    if any((container.get("state") or {}).keys() & {"running", "terminated"} for container in containers[:1]):
        return None
    scheduled = conditions.get("PodScheduled", {})
    if scheduled.get("status") == "False":
        return _unscheduled(pod, scheduled.get("message", ""), _age(pod, scheduled, now))
    for container in containers[:1]:
        told = (container.get("state") or {}).get("waiting") or {}
        if told.get("reason") in _STUCK:
            reason = "ImagePullFailed" if "mage" in told["reason"] else "ContainerNotStarted"
            message = f"{container['name']} cannot start: {told['reason']}: {told.get('message', '')}"
            return Wait(reason, message, _age(pod, scheduled, now), IMAGE_SECONDS)
    ready = conditions.get("PodReadyToStartContainers", {})
    age = _age(pod, ready, now)
    if ready.get("status") == "False" and (claim := _claim(pod)) is not None and age >= MOUNT_SECONDS:
        return Wait(
            "SourceClaimNotMounted",
            f"spec.source.uri: PersistentVolumeClaim {claim} is not mounted yet; see kubectl describe pod "
            f"{pod['metadata']['name']} for the volume's trouble",
            age,
            MOUNT_PATIENCE_SECONDS,
        )
    return None


def look_again(pod: Manifest, now: datetime) -> float | None:
    """Return the seconds after which the passing of time alone changes what is said of a pod that has not begun."""
    if (wait := waiting(pod, now)) is not None:
        return max(1.0, wait.patience - wait.age)
    for condition in pod.get("status", {}).get("conditions") or []:
        if condition["type"] == "PodReadyToStartContainers" and condition["status"] == "False":
            left = MOUNT_SECONDS - _age(pod, condition, now)
            return left + 0.5 if left > 0 and _claim(pod) is not None else None
    return None


def without_pod(job: Manifest, now: datetime) -> Wait | None:
    """Return what is known of a Job that has no pod; None for one that is young."""
    name, namespace = job["metadata"]["name"], job["metadata"].get("namespace", "")
    age = _job_age(job, now)
    if age < POD_SECONDS:
        return None
    return Wait(
        "JobPodRefused",
        f"the Job's pod is not made: a ResourceQuota, a LimitRange or a policy of namespace {namespace} refuses it; "
        f"kubectl describe job {name} -n {namespace} says which",
        age,
        POD_PATIENCE_SECONDS,
    )


def look_again_without_pod(job: Manifest, now: datetime) -> float:
    """Return the seconds after which the passing of time alone changes what is said of a Job without a pod."""
    age = _job_age(job, now)
    return max(1.0, (POD_SECONDS if age < POD_SECONDS else POD_PATIENCE_SECONDS) - age + 0.5)


def _job_age(job: Manifest, now: datetime) -> float:
    status = job.get("status") or {}
    if status.get("active") or status.get("succeeded") or status.get("failed"):
        return 0.0  # it has a pod, which the watch has not shown yet, or that has gone
    begun = status.get("startTime")  # absent: its controller has not looked at it
    return max(0.0, (now - parse_time(begun)).total_seconds()) if begun else 0.0


def _unscheduled(pod: Manifest, told: str, age: float) -> Wait:
    namespace = pod["metadata"].get("namespace", "")
    if missing := _NO_CLAIM.search(told):
        return Wait(
            "SourceClaimMissing",
            f"spec.source.uri: PersistentVolumeClaim {missing[1]} does not exist in namespace {namespace}; create it, "
            f"or correct the name behind pvc:// (kubectl get pvc -n {namespace} lists those that exist)",
            age,
            CLAIM_SECONDS,
        )
    if (claim := _claim(pod)) is not None and any(words in told for words in _CLAIM_TROUBLE):
        return Wait(
            "SourceClaimUnbound",
            f"spec.source.uri: PersistentVolumeClaim {claim} has no volume that the Job's pod can use ({told}); "
            f"see kubectl describe pvc {claim} -n {namespace}",
            age,
            CLAIM_SECONDS,
        )
    return Wait("JobUnschedulable", f"the Job's pod cannot be scheduled: {told}", age, NODE_SECONDS)


def _claim(pod: Manifest) -> str | None:
    for volume in pod.get("spec", {}).get("volumes") or []:
        if "persistentVolumeClaim" in volume:
            return str(volume["persistentVolumeClaim"]["claimName"])
    return None


def _age(pod: Manifest, condition: Manifest, now: datetime) -> float:
    since = condition.get("lastTransitionTime") or pod["metadata"].get("creationTimestamp")
    return max(0.0, (now - parse_time(since)).total_seconds()) if since else 0.0
