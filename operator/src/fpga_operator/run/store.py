"""What the operator knows of the cluster: the watches' objects, with its own writes in them at once.

A reconcile right after a write would otherwise look at the world before it; versions decide which copy is newer.
"""

from collections import OrderedDict
from collections.abc import Hashable, Iterator
from dataclasses import dataclass
from typing import NamedTuple, TypeVar

from fpga_operator.api.base import GROUP
from fpga_operator.plan.jobview import finished
from fpga_operator.plan.types import Manifest
from fpga_operator.run.drift import foreign_fields

TOMBSTONES = 4096
H = TypeVar("H", bound=Hashable)


Mark = tuple[str, str, str, str]  # kind, namespace, label, value


class Key(NamedTuple):
    """One object by name: what the queue works on."""

    kind: str
    namespace: str
    name: str


@dataclass(frozen=True)
class Record:
    """A live object without its managedFields, and the fields in it that are not ours."""

    body: Manifest
    foreign: tuple[Manifest, ...]
    version: int
    uid: str


def _slim(body: Manifest) -> Manifest:
    """Drop what nobody reads: managedFields always, most of a pod's spec."""
    meta = {key: value for key, value in body["metadata"].items() if key != "managedFields"}
    if body.get("kind") == "Pod":
        spec = {"nodeName": body.get("spec", {}).get("nodeName", "")}
        return {"kind": "Pod", "metadata": meta, "spec": spec, "status": body.get("status", {})}
    return {**body, "metadata": meta}


def _version(body: Manifest) -> int:
    text = body["metadata"].get("resourceVersion", "0")
    return int(text) if text.isdigit() else 0


def owner_uids(body: Manifest) -> Iterator[str]:
    """Yield the uids of an object's owners."""
    for reference in body["metadata"].get("ownerReferences") or []:
        yield reference["uid"]


def marks(body: Manifest) -> Iterator[Mark]:
    """Yield our own labels of an object; others are not looked up."""
    meta = body["metadata"]
    for label, value in (meta.get("labels") or {}).items():
        if label.startswith(f"{GROUP}/"):
            yield body["kind"], meta.get("namespace", ""), label, value


def key_of(body: Manifest) -> Key:
    """Return an object's key."""
    return Key(body["kind"], body["metadata"].get("namespace", ""), body["metadata"]["name"])


class Store:
    """The cache."""

    def __init__(self) -> None:
        self._kinds: dict[str, dict[tuple[str, str], Record]] = {}
        self._owned: dict[str, set[Key]] = {}
        self._labelled: dict[Mark, set[Key]] = {}
        self._gone: OrderedDict[str, None] = OrderedDict()  # uids: a late event must not bring one back

    def put(self, body: Manifest) -> bool:
        """Take in an object unless it is older than what is known; tell whether anything changed."""
        key = key_of(body)
        uid, version = body["metadata"]["uid"], _version(body)
        if uid in self._gone:
            return False
        kind = self._kinds.setdefault(key.kind, {})
        known = kind.get((key.namespace, key.name))
        if known is not None and known.uid == uid and known.version >= version > 0:
            return False
        if known is not None:
            self._disown(key, known)
        record = Record(_slim(body), tuple(foreign_fields(body)), version, uid)
        kind[key.namespace, key.name] = record
        for owner in owner_uids(body):
            self._owned.setdefault(owner, set()).add(key)
        for mark in marks(body):
            self._labelled.setdefault(mark, set()).add(key)
        return True

    def remove(self, key: Key, uid: str) -> bool:
        """Forget an object that was deleted; tell whether it was known."""
        self._gone[uid] = None
        while len(self._gone) > TOMBSTONES:
            self._gone.popitem(last=False)
        known = self._kinds.get(key.kind, {}).get((key.namespace, key.name))
        if known is None or known.uid != uid:
            return False
        self._disown(key, known)
        del self._kinds[key.kind][key.namespace, key.name]
        return True

    def _disown(self, key: Key, record: Record) -> None:
        for owner in owner_uids(record.body):
            _discard(self._owned, owner, key)
        for mark in marks(record.body):
            _discard(self._labelled, mark, key)

    def get(self, key: Key) -> Record | None:
        """Return an object, or None."""
        return self._kinds.get(key.kind, {}).get((key.namespace, key.name))

    def body(self, key: Key) -> Manifest | None:
        """Return an object's body, or None."""
        record = self.get(key)
        return record.body if record is not None else None

    def all(self, kind: str, namespace: str | None = None) -> list[Manifest]:
        """Return all objects of a kind, or those of one namespace."""
        return [
            record.body
            for (there, _), record in self._kinds.get(kind, {}).items()
            if namespace is None or there == namespace
        ]

    def keys(self, kind: str) -> list[Key]:
        """Return the keys of a kind."""
        return [Key(kind, namespace, name) for namespace, name in self._kinds.get(kind, {})]

    def uids(self, kind: str) -> dict[str, Key]:
        """Return uid to key of a kind."""
        return {
            record.uid: Key(kind, namespace, name)
            for (namespace, name), record in self._kinds.get(kind, {}).items()
        }

    def owned(self, uid: str, kind: str) -> list[Manifest]:
        """Return the objects of a kind that have this owner, by name."""
        keys = sorted(key for key in self._owned.get(uid, ()) if key.kind == kind)
        return [body for key in keys if (body := self.body(key)) is not None]

    def labelled(self, kind: str, namespace: str, label: str, value: str) -> list[Manifest]:
        """Return the objects of a kind that carry a label of ours, by name."""
        keys = sorted(self._labelled.get((kind, namespace, label, value), ()))
        return [body for key in keys if (body := self.body(key)) is not None]

    def running_jobs(self) -> list[Manifest]:
        """Return the Jobs of ours that have not ended."""
        return [
            job for job in self.all("Job") if not finished(job) and "deletionTimestamp" not in job["metadata"]
        ]

    def count(self, kind: str) -> int:
        """Return how many objects of a kind are known."""
        return len(self._kinds.get(kind, {}))


def _discard(index: dict[H, set[Key]], entry: H, key: Key) -> None:
    """Take a key out of an index, and the entry with its last key."""
    keys = index.get(entry, set())
    keys.discard(key)
    if not keys:
        index.pop(entry, None)
