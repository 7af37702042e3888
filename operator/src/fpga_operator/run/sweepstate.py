"""What the sweep remembers across restarts: marks and the ledger of repositories, in one ConfigMap of its own.

Written only when it changed. Lost or unreadable it costs a grace period and no more.
"""

import json
import logging
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime

from fpga_operator.plan.types import MANAGED_BY, OPERATOR, Manifest, format_time, parse_time
from fpga_operator.run.cluster import Cluster

log = logging.getLogger(__name__)

NAME = "fpga-operator-sweep"
ENTRY = "state.json"
VERSION = 1
MAX_BYTES = 900_000  # the API server takes 1 MiB


@dataclass(frozen=True)
class State:
    """Marks (see plan.sweep), and repositories that an object of this cluster had."""

    marks: Mapping[tuple[str, str], datetime] = field(default_factory=dict)
    ledger: frozenset[str] = frozenset()


def dump(state: State) -> str:
    """Return the text; marks that there is no room for are left out, newest first, and start again."""
    marks = sorted(state.marks.items(), key=lambda entry: (entry[1], entry[0]))
    while True:
        text = _text(marks, state.ledger)
        if len(text) <= MAX_BYTES or not marks:
            return text
        log.warning("%d marks are too many for ConfigMap %s: the newest start again", len(marks), NAME)
        marks = marks[: len(marks) * 3 // 4]


def _text(marks: list[tuple[tuple[str, str], datetime]], ledger: frozenset[str]) -> str:
    grouped: dict[str, dict[str, list[str]]] = {}
    for (repository, digest), since in marks:
        grouped.setdefault(repository, {}).setdefault(format_time(since), []).append(digest)
    document = {"version": VERSION, "marks": grouped, "ledger": sorted(ledger)}
    return json.dumps(document, sort_keys=True, separators=(",", ":"))


def load(text: str) -> State:
    """Read the text of this release or the one before; anything else is as good as none."""
    try:
        document = json.loads(text)
        marks = {
            (repository, digest): parse_time(since)
            for repository, times in document["marks"].items()
            for since, digests in times.items()
            for digest in digests
        }
        return State(marks, frozenset(document["ledger"]))
    except (ValueError, KeyError, TypeError, AttributeError):
        return State()


class Memory:
    """The ConfigMap."""

    def __init__(self, cluster: Cluster, namespace: str) -> None:
        self._cluster = cluster
        self._namespace = namespace

    async def load(self) -> State:
        """Return what was remembered last, by whichever process.

        Raises:
            ApiFailure: the API server does not answer or refuses.
        """
        found = await self._cluster.get("ConfigMap", self._namespace, NAME)
        return load((found or {}).get("data", {}).get(ENTRY, ""))

    async def save(self, before: State, after: State) -> None:
        """Write the state if its text differs.

        Raises:
            ApiFailure: the API server does not answer or refuses.
        """
        text = dump(after)
        if text == dump(before):
            return
        manifest: Manifest = {
            "apiVersion": "v1",
            "kind": "ConfigMap",
            "metadata": {"name": NAME, "namespace": self._namespace, "labels": {MANAGED_BY: OPERATOR}},
            "data": {ENTRY: text},
        }
        await self._cluster.apply(manifest, force=True)
