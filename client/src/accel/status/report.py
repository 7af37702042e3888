"""One object with its whole chain: what a page shows and what scripts read."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, fields, is_dataclass, replace
from typing import Any

from accel.errors import KubectlError, MissingRight
from accel.kubectl import Kubectl
from accel.status.chain import below, find, upstreams
from accel.status.entry import Entry, cause, entry_of
from accel.status.events import Event, latest
from accel.status.jobs import last_line
from accel.status.quotes import cut, without_gone_logs
from accel.status.snapshot import Object, Snapshot, owned_by

__all__ = ["SCHEMA", "Report", "document", "json_of", "report_on"]

SCHEMA = "accel.dev/status/v1"
Tail = Callable[[str, str], str]  # pod and container to the end of a log


@dataclass(frozen=True)
class Report:
    """The chain, the models first. `named` is the entry that was asked about."""

    named: Entry
    entries: tuple[Entry, ...]
    events: tuple[Event, ...]
    lacking: tuple[str, ...]
    cause: Entry  # what `named` waits for in the end; itself where it waits for nothing above it

    @property
    def stalled(self) -> bool:
        """Tell whether a person must act before `named` can become Ready."""
        return not self.named.ready and self.cause.stalled

    @property
    def busy(self) -> bool:
        """Tell whether a Job runs: its progress moves without a change of any object."""
        return any(entry.progress is not None for entry in self.entries)


def report_on(
    snapshot: Snapshot, name: str, kubectl: Kubectl, *, events: int, tail: Tail | None = None
) -> Report:
    """Tell about the object that `name` means; raises NotFound. `tail` reads logs, kubectl's by default."""
    found = find(snapshot, name)
    namespace = found["metadata"].get("namespace", "")
    flags = f" -n {namespace}" + (f" --context {kubectl.context}" if kubectl.context else "")
    above, chain = upstreams(snapshot, found), below(snapshot, found)
    lacking = list(snapshot.lacking)
    entries = []
    for one in [*above, *chain]:
        entry = entry_of(one, snapshot, flags)
        try:
            entries.append(_with_log(entry, tail or kubectl.log_tail))
        except MissingRight as missing:
            entries.append(entry)
            lacking.append(missing.right)
    named = entries[len(above)]
    return Report(
        named=named,
        entries=_edited(entries, snapshot),
        events=latest(snapshot.events, _uids([*above, *chain], snapshot), entries, events),
        lacking=tuple(dict.fromkeys(lacking)),
        cause=cause(entries[: len(above) + 1]),
    )


def _edited(entries: Sequence[Entry], snapshot: Snapshot) -> tuple[Entry, ...]:
    """Return the entries with messages for one page: without what stands above, and without logs that are gone."""
    titles = {entry.title for entry in entries}
    pods = {pod["metadata"]["name"] for pod in snapshot.pods if "deletionTimestamp" not in pod["metadata"]}
    edited = []
    for entry in entries:
        message = cut(entry.message, entry.follows) if entry.follows in titles else entry.message
        if "list pods" not in snapshot.lacking:
            message = without_gone_logs(message, pods)
        edited.append(replace(entry, message=message))
    return tuple(edited)


def _with_log(entry: Entry, tail: Tail) -> Entry:
    progress = entry.progress
    if progress is None or not progress.container:
        return entry
    try:
        line = last_line(tail(progress.pod, progress.container))
    except MissingRight:
        raise
    except KubectlError:  # the container has just begun, or has just ended: the next look will tell
        return entry
    return replace(entry, progress=replace(progress, line=line))


def _uids(chain: Iterable[Object], snapshot: Snapshot) -> frozenset[str]:
    """Return the uids of the objects, their Jobs and all their pods."""
    uids: set[str] = set()
    for found in chain:
        meta = found["metadata"]
        uids.add(meta["uid"])
        for job in owned_by(meta["uid"], snapshot.jobs):
            uids.add(job["metadata"]["uid"])
            uids |= {pod["metadata"]["uid"] for pod in owned_by(job["metadata"]["uid"], snapshot.pods)}
        if found["kind"] == "AccelService":
            uids |= {
                pod["metadata"]["uid"]
                for pod in snapshot.pods
                if (pod["metadata"].get("labels") or {}).get("accel.dev/service") == meta["name"]
                and pod["metadata"].get("namespace") == meta.get("namespace")
            }
    return frozenset(uids)


def json_of(value: Any) -> Any:
    """Return dataclasses as JSON: camelCase keys, nothing that is absent or empty."""
    if is_dataclass(value):
        pairs = {field.name: json_of(getattr(value, field.name)) for field in fields(value)}
        return {_camel(name): told for name, told in pairs.items() if told not in (None, "", [])}
    if isinstance(value, tuple):
        return [json_of(item) for item in value]
    return value


def _camel(name: str) -> str:
    head, *rest = name.split("_")
    return head + "".join(word.capitalize() for word in rest)


def document(report: Report) -> Mapping[str, Any]:
    """Return the report for scripts (docs/client.md); it holds no age, so equal documents mean no change."""
    return {
        "schema": SCHEMA,
        "kind": report.named.kind,
        "namespace": report.named.namespace,
        "name": report.named.name,
        "ready": report.named.ready,
        "stalled": report.stalled,
        "objects": json_of(report.entries),
        "events": json_of(report.events),
        "missingRights": list(report.lacking),
    }
