"""All objects of a namespace, one chain per row."""

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from accel.status.chain import upstream_key, upstreams
from accel.status.entry import Entry, cause, entry_of
from accel.status.report import json_of
from accel.status.snapshot import Object, Snapshot, key_of
from accel.status.words import WIDTH, age, clip

__all__ = ["SCHEMA", "Row", "document", "rows", "table"]

SCHEMA = "accel.dev/status-table/v1"
_FIGURES = re.compile(r"^\d+ of \d+ replicas serve(; )?")
LAST, MESSAGE_WIDTH = "WAITS FOR", 30


@dataclass(frozen=True)
class Row:
    """One chain: a service with what it stands on, or an image or a model that nothing stands on yet."""

    namespace: str
    service: str = ""
    image: str = ""
    model: str = ""
    version: str = (
        ""  # of the model that is served (or built, or converted); 1>2: 2 is there and not served yet
    )
    state: str = ""
    ready: bool = False
    replicas: str = ""  # ready/wanted
    devices: tuple[str, ...] = ()  # node/device
    created: str = ""
    waits_for: str = ""  # the first object of the chain that is not Ready, and its reason


def rows(snapshot: Snapshot) -> list[Row]:
    """Return the rows by namespace and name; services first, then what nobody uses."""
    used = {upstream_key(found) for found in snapshot.objects.values()}
    ends: list[Object] = []
    for kind in ("AccelService", "AccelImage", "FpgaModel"):
        ends += [found for found in snapshot.of_kind(kind) if key_of(found) not in used]
    return sorted(
        (_row(snapshot, end) for end in ends),
        key=lambda row: (row.namespace, not row.service, not row.image, row.service, row.image, row.model),
    )


def _row(snapshot: Snapshot, end: Object) -> Row:
    chain = [entry_of(found, snapshot) for found in [*upstreams(snapshot, end), end]]
    last = chain[-1]
    names = {entry.kind: entry.name for entry in chain}
    for found in [*upstreams(snapshot, end), end]:
        upstream = upstream_key(found)
        if upstream is not None:
            names.setdefault(upstream[0], upstream[2])
    versions = {entry.kind: _version(entry) for entry in chain}
    newest = versions.get("FpgaModel") if all(entry.pinned is None for entry in chain) else None
    shown = versions[last.kind]
    version = f"{shown}>{newest}" if shown and newest and newest != shown else str(shown or newest or "")
    status = end.get("status") or {}
    return Row(
        namespace=last.namespace,
        service=names.get("AccelService", ""),
        image=names.get("AccelImage", ""),
        model=names.get("FpgaModel", ""),
        version=version,
        state=last.state,
        ready=last.ready,
        replicas=f"{last.ready_replicas}/{last.replicas}" if last.kind == "AccelService" else "",
        devices=tuple(f"{entry['node']}/{entry['device']}" for entry in status.get("devices") or ()),
        created=end["metadata"].get("creationTimestamp", ""),
        waits_for=_waits(chain),
    )


def _version(entry: Entry) -> int | None:
    return entry.version if entry.kind == "FpgaModel" else entry.model_version


def _waits(chain: Sequence[Entry]) -> str:
    if chain[-1].ready:
        return ""
    first = cause(chain)
    if first is not chain[-1]:
        return f"{first.title}{' failed' if first.stalled else ''}: {first.reason}"
    # The figures stand in the column READY, and "waits for" in the column's name.
    message = _FIGURES.sub("", first.message).removeprefix("waits for ")
    if not message:
        return first.reason
    return message if first.reason.startswith("Waiting") else f"{first.reason}: {message}"


def table(found: Sequence[Row], now: datetime, *, everywhere: bool) -> list[str]:
    """Return the rows as aligned columns; a column that nobody fills is left out, the last one gets what is left."""
    if not found:
        return []
    cells = [dict(_cells(row, now)) for row in found]
    heads = [head for head in cells[0] if any(cell[head] for cell in cells)]
    heads = [head for head in heads if head != "NAMESPACE" or everywhere]
    widths = {head: max(len(head), *(len(cell[head] or "-") for cell in cells)) for head in heads}
    widths[LAST] = max(MESSAGE_WIDTH, WIDTH - sum(widths[head] + 2 for head in heads if head != LAST))
    lines = [{head: head for head in heads}, *cells]
    return [
        "  ".join(clip(line[head] or "-", widths[head]).ljust(widths[head]) for head in heads).rstrip()
        for line in lines
    ]


def _cells(row: Row, now: datetime) -> Iterator[tuple[str, str]]:
    yield "NAMESPACE", row.namespace
    yield "SERVICE", row.service
    yield "IMAGE", row.image
    yield "MODEL", row.model
    yield "VERSION", row.version
    yield "STATE", row.state
    yield "READY", row.replicas
    few = row.devices if len(row.devices) <= 1 else (row.devices[0], f"+{len(row.devices) - 1}")
    yield "DEVICES", ",".join(few)
    yield "AGE", age(row.created, now)
    yield LAST, row.waits_for


def document(found: Sequence[Row], lacking: Sequence[str]) -> Mapping[str, Any]:
    """Return the rows for scripts (docs/client.md)."""
    return {
        "schema": SCHEMA,
        "chains": [json_of(row) for row in found],
        "missingRights": list(lacking),
    }
