"""One object of the chain as the page tells it. Pure: absolute times, no width, no clock."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from accel.status.chain import pinned, upstream_key
from accel.status.jobs import Progress, progress_of
from accel.status.pods import Pod, pods_of
from accel.status.quotes import waits_for
from accel.status.snapshot import Object, Snapshot, owned_by

__all__ = ["Device", "Entry", "HostReason", "cause", "entry_of"]

FAILING_WHEN_TRUE = ("Stalled", "CapacityLimited")
SUMMARY = ("Ready", "Available", "Reconciling", "Stalled")
_LONG_DIGEST = re.compile(r"(sha256:[0-9a-f]{12})[0-9a-f]{52}")
NOT_SEEN = "the operator has not looked at it: is it running? kubectl get pods -n accel-system"


@dataclass(frozen=True)
class HostReason:
    """Operators that stay on the host for one reason."""

    operator: str
    count: int
    reason: str


@dataclass(frozen=True)
class Device:
    """What the compiler said of a model on an FPGA; the time is simulated, milliseconds a picture.

    `sku` is the kind of card. There are no figures of what does not fit it (`fits` False), nor where the host computes
    everything.
    """

    offloaded_ops: int
    host_ops: int
    latency_ms: float | None
    bound_by: str
    sku: str = ""
    fits: bool | None = None
    tiles: int | None = None
    vectors: int | None = None
    inferences_per_second: float | None = None
    host_reasons: tuple[HostReason, ...] = ()


@dataclass(frozen=True)
class Entry:
    """One object. `state` is New, Edited, Working, Waiting, Degraded, Failed, Deleting, Ready or Suspended."""

    kind: str
    namespace: str
    name: str
    state: str
    ready: bool
    stalled: bool
    generation: int
    reason: str
    message: str
    since: str | None = None  # when Ready last changed
    follows: str = ""  # kind and name of what it stands on
    pinned: int | None = None  # version of that which it is held at
    version: int | None = None  # of the model or the image; of a service: of the image that it runs
    model_version: int | None = None  # in the image, or served
    digest: str = ""
    size_bytes: int | None = None
    revision: str = ""
    address: str = ""
    replicas: int | None = None  # wanted
    ready_replicas: int | None = None
    device: Device | None = None
    notes: tuple[str, ...] = ()  # further conditions that are not as they should be
    progress: Progress | None = None
    pods: tuple[Pod, ...] = ()
    more: str = ""  # the command that shows more about a failure

    @property
    def title(self) -> str:
        """Kind and name."""
        return f"{self.kind} {self.name}"


def _conditions(status: Mapping[str, Any]) -> dict[str, Mapping[str, Any]]:
    return {entry["type"]: entry for entry in status.get("conditions") or ()}


def _state(found: Object, conditions: Mapping[str, Mapping[str, Any]]) -> tuple[str, str, str]:
    """Return state, reason and message."""
    meta, status = found["metadata"], found.get("status") or {}
    ready = conditions.get("Ready")
    if ready is None or status.get("observedGeneration", -1) == -1:
        return "New", "NotSeen", NOT_SEEN
    if status["observedGeneration"] != meta.get("generation", 1):
        return "Edited", "NotSeen", "edited since; the operator has not looked at that yet"
    reason, message = str(ready.get("reason", "")), str(ready.get("message", ""))
    if ready["status"] == "True":
        state = "Suspended" if reason == "Suspended" else "Ready"
    elif conditions.get("Stalled", {}).get("status") == "True":
        state = "Failed"
    elif reason == "Deleting":
        state = "Deleting"
    elif status.get("state") == "Unhealthy":
        state = "Degraded"
    elif status.get("state") == "Unschedulable" or message.startswith("waits for") or "Waiting" in reason:
        state = "Waiting"
    else:
        state = "Working"
    return state, reason, message


def _notes(conditions: Mapping[str, Mapping[str, Any]], message: str) -> tuple[str, ...]:
    """Return what else is wrong, where the summary does not say it already."""
    notes = []
    for kind, entry in conditions.items():
        wrong = entry["status"] == ("True" if kind in FAILING_WHEN_TRUE else "False")
        said = str(entry.get("message", ""))
        by_choice = entry.get("reason") in ("RegisterOnly", "RollingOut", "NoReplicaReady", "NoAddress")
        if kind not in SUMMARY and wrong and not by_choice and said not in message:
            notes.append(f"{kind}: {entry.get('reason')}: {said}")
    available = conditions.get("Available", {})
    if conditions.get("Stalled", {}).get("status") == "True" and available.get("status") == "True":
        # The whole digest would fill a line of its own; `digest` has it.
        notes.append(_LONG_DIGEST.sub(r"\1", f"meanwhile: {available.get('message')}"))
    return tuple(notes)


def entry_of(found: Object, snapshot: Snapshot, flags: str = "") -> Entry:
    """Tell one object; `flags` are the options of kubectl with which the user reaches it."""
    meta, status = found["metadata"], found.get("status") or {}
    conditions = _conditions(status)
    state, reason, message = _state(found, conditions)
    seen = state not in ("New", "Edited")
    upstream = upstream_key(found)
    entry = Entry(
        kind=found["kind"],
        namespace=meta.get("namespace", ""),
        name=meta["name"],
        state=state,
        ready=state in ("Ready", "Suspended"),
        stalled=state == "Failed",
        generation=int(meta.get("generation", 1)),
        reason=reason,
        message=message,
        since=conditions.get("Ready", {}).get("lastTransitionTime"),
        follows=f"{upstream[0]} {upstream[2]}" if upstream else "",
        pinned=pinned(found),
        notes=_notes(conditions, message) if seen else (),
    )
    if entry.kind == "AccelService":
        return _service(entry, found, snapshot, flags)
    entry = _versioned(entry, status)
    jobs = owned_by(meta["uid"], snapshot.jobs)
    progress, failed = progress_of(jobs, snapshot.pods, status.get("job") or {})
    if entry.ready:
        return entry
    return replace(entry, progress=progress, more=_command(entry, failed, flags))


def _versioned(entry: Entry, status: Mapping[str, Any]) -> Entry:
    number = status.get("latestVersion" if entry.kind == "FpgaModel" else "imageVersion")
    versions = {version["version"]: version for version in status.get("versions") or ()}
    chosen = versions.get(number, {})
    return replace(
        entry,
        version=number,
        model_version=status.get("modelVersion"),
        digest=chosen.get("digest", "") or str(status.get("image") or "").rpartition("@")[2],
        size_bytes=chosen.get("sizeBytes"),
        device=_device(status.get("device") or {}),
    )


def _device(told: Mapping[str, Any]) -> Device | None:
    """Return what a status says of the device; None where it says nothing."""
    if "latencyMs" not in told and told.get("fits") is not False and not told.get("hostReasons"):
        return None
    return Device(
        offloaded_ops=told.get("offloadedOps", 0),
        host_ops=told.get("hostOps", 0),
        latency_ms=told.get("latencyMs"),
        bound_by=told.get("boundBy", ""),
        sku=told.get("sku", ""),
        fits=told.get("fits"),
        tiles=told.get("tiles"),
        vectors=told.get("vectors"),
        inferences_per_second=told.get("inferencesPerSecond"),
        host_reasons=tuple(
            HostReason(entry["operator"], entry["count"], entry["reason"])
            for entry in told.get("hostReasons") or ()
        ),
    )


def _service(entry: Entry, found: Object, snapshot: Snapshot, flags: str) -> Entry:
    status, spec = found.get("status") or {}, found.get("spec") or {}
    pods = pods_of(found, snapshot)
    revisions = {pod.revision for pod in pods if pod.revision}
    good = status.get("lastGood") or {}
    revision = revisions.pop() if len(revisions) == 1 else ""
    if not revision and good.get("image") == status.get("image"):
        revision = good.get("revision", "")
    # One that only "holds" was not seen itself: its log may be gone.
    quiet = ("serves", "stopping", "holds")
    troubled = next((pod for pod in pods if pod.state not in quiet and pod.placed), None)
    more = ""
    if troubled is not None and not entry.ready:
        previous = " --previous" if troubled.restarts else ""
        more = f"kubectl logs{flags} {troubled.name}{previous}"
    elif entry.stalled:
        more = _command(entry, "", flags)
    digest = str(status.get("image") or "").rpartition("@")[2]
    return replace(
        entry,
        version=_image_version(found, digest, snapshot),
        model_version=status.get("modelVersion"),
        digest=digest,
        revision=revision,
        address=status.get("scoringUri", ""),
        replicas=0 if spec.get("suspend") else spec.get("replicas", 1),
        ready_replicas=status.get("readyReplicas", 0),
        pods=pods,
        more=more,
    )


def _image_version(service: Object, digest: str, snapshot: Snapshot) -> int | None:
    """Return the number that the image it runs has in its AccelImage; None where that does not have it."""
    key = upstream_key(service)
    status = snapshot.objects.get(key, {}).get("status") or {} if key is not None else {}
    numbers = (v["version"] for v in status.get("versions") or () if v.get("digest") == digest)
    return next(numbers, None)


def _command(entry: Entry, failed: str, flags: str) -> str:
    if failed:
        return f"kubectl logs{flags} {failed}"
    return f"kubectl describe{flags} {entry.kind.lower()} {entry.name}" if entry.stalled else ""


def cause(chain: Sequence[Entry]) -> Entry:
    """Return the first object of a chain (models first) that the last one waits for, or the last one itself.

    An upstream object that is not Ready is no cause where the version below it is pinned.
    """
    found = chain[-1]
    for above in reversed(chain[:-1]):
        if above.ready or found.follows != above.title or not waits_for(found.message, above.title):
            break
        found = above
    return found
