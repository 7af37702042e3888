"""The replicas of a service and the FPGAs that they hold."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from accel.status.snapshot import Object, Snapshot

__all__ = ["Held", "Pod", "pods_of"]

SERVICE_LABEL, REVISION_LABEL = "accel.dev/service", "accel.dev/revision"


@dataclass(frozen=True)
class Held:
    """One FPGA. State and reason come from FpgaNodes, which not everybody may read."""

    node: str
    device: str
    health: str = ""
    state: str = ""
    reason: str = ""


@dataclass(frozen=True)
class Pod:
    """One replica. `state` is serves, starting, waits, stopping, failed, or holds where only the device is known."""

    name: str
    state: str
    revision: str = ""
    placed: bool = True
    restarts: int = 0
    trouble: str = ""
    device: Held | None = None


def _pod(pod: Object) -> Pod:
    meta, status = pod["metadata"], pod.get("status") or {}
    conditions = {entry["type"]: entry for entry in status.get("conditions") or ()}
    placed = bool((pod.get("spec") or {}).get("nodeName"))
    if "deletionTimestamp" in meta:
        state = "stopping"
    elif status.get("phase") in ("Failed", "Succeeded"):
        state = "failed"
    elif conditions.get("Ready", {}).get("status") == "True":
        state = "serves"
    else:
        state = "starting" if placed else "waits"
    containers = status.get("containerStatuses") or ()
    trouble = "" if state in ("serves", "stopping") else next(filter(None, map(_trouble, containers)), "")
    if state == "failed" and not trouble:
        trouble = ": ".join(filter(None, (status.get("reason"), status.get("message"))))
    return Pod(
        name=meta["name"],
        state=state,
        revision=(meta.get("labels") or {}).get(REVISION_LABEL, ""),
        placed=placed,
        restarts=max((int(container.get("restartCount", 0)) for container in containers), default=0),
        trouble=trouble,
    )


def _trouble(container: Mapping[str, Any]) -> str:
    state = container.get("state") or {}
    waiting = state.get("waiting") or {}
    ended = state.get("terminated") or (container.get("lastState") or {}).get("terminated") or {}
    words = []
    if waiting.get("reason") not in (None, "PodInitializing", "ContainerCreating"):
        words.append(waiting["reason"])
    if ended:
        said = " ".join((ended.get("message") or "").split())
        words.append(f"ended with exit code {ended.get('exitCode')}" + (f": {said}" if said else ""))
    return ", ".join(words)


def _held(service: Object, snapshot: Snapshot) -> dict[str, Held]:
    """Return who holds what: as the service's status says, and newer and fuller where FpgaNodes can be read."""
    found = {
        entry["pod"]: Held(entry["node"], entry["device"], entry.get("health", ""))
        for entry in (service.get("status") or {}).get("devices") or ()
    }
    namespace = service["metadata"].get("namespace", "")
    for node in snapshot.nodes:
        for device in (node.get("status") or {}).get("devices") or ():
            holder = device.get("holder") or {}
            if holder.get("namespace") == namespace:
                found[holder["pod"]] = Held(
                    node["metadata"]["name"],
                    device["id"],
                    device.get("health", ""),
                    device.get("state", ""),
                    device.get("reason", ""),
                )
    return found


def pods_of(service: Object, snapshot: Snapshot) -> tuple[Pod, ...]:
    """Return a service's replicas, by name; where pods cannot be read, those that the service names as holders."""
    meta = service["metadata"]
    held = _held(service, snapshot)
    mine = [
        _pod(pod)
        for pod in snapshot.pods
        if (pod["metadata"].get("labels") or {}).get(SERVICE_LABEL) == meta["name"]
        and pod["metadata"].get("namespace", "") == meta.get("namespace", "")
    ]
    if not mine:
        named = (entry["pod"] for entry in (service.get("status") or {}).get("devices") or ())
        mine = [Pod(name, "holds") for name in named]
    return tuple(replace(pod, device=held.get(pod.name)) for pod in sorted(mine, key=lambda pod: pod.name))
