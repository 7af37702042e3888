"""Pods of ours that a hand took out of their set: nobody replaces, rolls or ends them, and each keeps an FPGA for ever.

A ReplicaSet lets go of a pod whose labels no longer match, and makes another. The name that it generated still says
whose the pod was.
"""

from collections.abc import Iterable

from fpga_operator.plan.types import IMAGE_LABEL, MODEL_LABEL, REVISION_LABEL, SERVICE_LABEL, Manifest

HASH_LABEL = "pod-template-hash"


def home(pod: Manifest) -> str:
    """Return the AccelService whose Deployment made this pod, or nothing for other pods."""
    meta = pod["metadata"]
    labels = meta.get("labels") or {}
    if MODEL_LABEL in labels or IMAGE_LABEL in labels:
        return ""
    # Generated: <Deployment>-<hash of the template>-<five letters>
    return str(meta.get("generateName") or "").rstrip("-").rpartition("-")[0]


def is_stray(pod: Manifest) -> bool:
    """Tell whether a hand changed the labels by which its set or the operator knows the pod."""
    meta = pod["metadata"]
    labels = meta.get("labels") or {}
    made_for = home(pod)
    if not made_for or "deletionTimestamp" in meta:
        return False
    let_go = HASH_LABEL not in labels and not any(
        reference.get("controller") for reference in meta.get("ownerReferences") or []
    )
    return labels.get(SERVICE_LABEL) != made_for or REVISION_LABEL not in labels or let_go


def strays_of(pods: Iterable[Manifest], service: str) -> tuple[Manifest, ...]:
    """Return the strays that were a service's, by name."""
    found = (pod for pod in pods if home(pod) == service and is_stray(pod))
    return tuple(sorted(found, key=lambda pod: str(pod["metadata"]["name"])))
