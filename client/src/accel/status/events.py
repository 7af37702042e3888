"""What happened last to the objects of a page, their Jobs and their pods."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

from accel.status.entry import Entry
from accel.status.quotes import cut
from accel.status.snapshot import Object

__all__ = ["Event", "latest"]

# The kubelet's and the controllers' chatter: what it says stands in the page's lines about pods and progress.
CHATTER = (
    *("Scheduled", "Pulling", "Pulled", "Created", "Started", "Killing"),
    *("SuccessfulCreate", "SuccessfulDelete", "ScalingReplicaSet", "Completed"),
)
# The operator's message tells these better: with the holders, with the cure.
RETOLD = ("FailedScheduling", "PodFailurePolicy", "BackoffLimitExceeded")


@dataclass(frozen=True)
class Event:
    """One thing that happened, last at `time` (RFC 3339) and `count` times in all."""

    time: str
    type: str
    reason: str
    about: str  # kind and name
    message: str
    count: int = 1


def _event(found: Object) -> Event:
    about, series = found.get("involvedObject") or {}, found.get("series") or {}
    time = (
        series.get("lastObservedTime")
        or found.get("lastTimestamp")
        or found.get("eventTime")
        or found["metadata"].get("creationTimestamp")
    )
    return Event(
        time=str(time or ""),
        type=found.get("type") or "Normal",
        reason=found.get("reason") or "",
        about=f"{about.get('kind')} {about.get('name')}",
        message=" ".join(str(found.get("message") or "").split()),
        count=int(series.get("count") or found.get("count") or 1),
    )


def latest(
    events: Iterable[Object], uids: frozenset[str], entries: Sequence[Entry], count: int
) -> tuple[Event, ...]:
    """Return the newest `count` events about these uids, each once, without what the page says anyway."""
    serving = {f"Pod {pod.name}" for entry in entries for pod in entry.pods if pod.state == "serves"}
    follows = {entry.title: entry.follows for entry in entries}
    said = {(entry.title, entry.reason, entry.message) for entry in entries}
    found: dict[tuple[str, str, str], Event] = {}
    for raw in events:
        if (raw.get("involvedObject") or {}).get("uid") not in uids:
            continue
        event = _event(raw)
        key = (event.about, event.reason, event.message)
        chatter = event.type == "Normal" and event.reason in CHATTER
        past = event.reason == "Unhealthy" and event.about in serving  # of the time when it was starting
        if (
            chatter
            or past
            or event.reason in RETOLD
            or key in said
            or (key in found and found[key].time >= event.time)
        ):
            continue
        found[key] = replace(event, message=cut(event.message, follows.get(event.about, "")))
    return tuple(sorted(found.values(), key=lambda event: event.time, reverse=True)[:count])
