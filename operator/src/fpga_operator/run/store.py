"""What the operator knows of the cluster: the watches' objects, with its own writes in them at once.

A reconcile right after a write would otherwise look at the world before it; versions decide which copy is newer.
"""

from collections import Counter, OrderedDict
from collections.abc import Callable, Hashable, Iterator
from dataclasses import dataclass
from typing import Any, NamedTuple, TypeVar

from fpga_operator.api.base import GROUP
from fpga_operator.plan.jobview import finished
from fpga_operator.plan.types import Manifest
from fpga_operator.run.drift import foreign_fields

TOMBSTONES = 4096
H = TypeVar("H", bound=Hashable)
T = TypeVar("T")


Mark = tuple[str, str, str, str]  # kind, namespace, label or field, value
MODEL_REF, IMAGE_REF = "spec.modelRef.name", "spec.imageRef.name"
_REFERENCES = {"AccelImage": ("modelRef", MODEL_REF), "AccelService": ("imageRef", IMAGE_REF)}
# What kubectl leaves: the whole object once more.
_UNREAD_ANNOTATION = "kubectl.kubernetes.io/last-applied-configuration"
_NODE_STATUS = ("conditions", "addresses")  # not the list of all images


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
    """Drop what nobody reads: managedFields, most of the specs of pods and Jobs, a node's images."""
    meta = {key: value for key, value in body["metadata"].items() if key != "managedFields"}
    if _UNREAD_ANNOTATION in (meta.get("annotations") or {}):
        meta["annotations"] = {k: v for k, v in meta["annotations"].items() if k != _UNREAD_ANNOTATION}
    kind, status = body.get("kind"), body.get("status") or {}
    if kind == "Pod":
        whole = body.get("spec") or {}
        claims = [volume for volume in whole.get("volumes") or [] if "persistentVolumeClaim" in volume]
        spec = {"nodeName": whole.get("nodeName", ""), **({"volumes": claims} if claims else {})}
        return {"kind": kind, "metadata": meta, "spec": spec, "status": status}
    if kind == "Job":  # a Job's name says all about its inputs; messages name the limits that it had
        return {"kind": kind, "metadata": meta, "spec": _job_limits(body.get("spec") or {}), "status": status}
    if kind == "Node":
        status = {field: status[field] for field in _NODE_STATUS if field in status}
        return {"kind": kind, "metadata": meta, "spec": body.get("spec") or {}, "status": status}
    return {**body, "metadata": meta}


def _job_limits(spec: Manifest) -> Manifest:
    """Return of a Job's spec the deadline and the resources of its containers."""
    pod = (spec.get("template") or {}).get("spec") or {}
    limits = {
        field: [{"name": c["name"], "resources": c.get("resources") or {}} for c in pod.get(field) or []]
        for field in ("initContainers", "containers")
    }
    found: Manifest = {
        "activeDeadlineSeconds": spec.get("activeDeadlineSeconds"),
        "template": {"spec": limits},
    }
    return {**found, "suspend": True} if spec.get("suspend") else found


def _version(body: Manifest) -> int:
    text = body["metadata"].get("resourceVersion", "0")
    return int(text) if text.isdigit() else 0


def owner_uids(body: Manifest) -> Iterator[str]:
    """Yield the uids of an object's owners."""
    for reference in body["metadata"].get("ownerReferences") or []:
        yield reference["uid"]


def marks(body: Manifest) -> Iterator[Mark]:
    """Yield what an object is looked up by: labels of ours, and the name of the object that it is made of."""
    meta = body["metadata"]
    if body["kind"] in _REFERENCES:
        field, mark = _REFERENCES[body["kind"]]
        if name := ((body.get("spec") or {}).get(field) or {}).get("name"):
            yield body["kind"], meta.get("namespace", ""), mark, name
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
        self._running: set[Key] = set()  # Jobs that have not ended
        self._revisions: Counter[str] = Counter()  # changes by kind
        self._derived: dict[str, tuple[tuple[int, ...], Any]] = {}
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
        self._revisions[key.kind] += 1
        if key.kind == "Job":
            ended = (
                finished(body)
                or "deletionTimestamp" in body["metadata"]
                or body.get("spec", {}).get("suspend", False)
            )
            (self._running.discard if ended else self._running.add)(key)
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
        self._running.discard(key)
        self._revisions[key.kind] += 1
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
        """Return the objects of a kind that carry a label of ours, or refer to that name, by name."""
        keys = sorted(self._labelled.get((kind, namespace, label, value), ()))
        return [body for key in keys if (body := self.body(key)) is not None]

    def running_jobs(self) -> list[Manifest]:
        """Return the Jobs of ours that have not ended."""
        return [body for key in sorted(self._running) if (body := self.body(key)) is not None]

    def derived(self, name: str, kinds: tuple[str, ...], compute: Callable[[], T]) -> T:
        """Return what was computed from all objects of some kinds, anew only when one of them has changed.

        Many services ask for the same view of the cluster, each once per resync: without this, the cost of a resync
        would grow with the square of their number.
        """
        revisions = tuple(self._revisions[kind] for kind in kinds)
        known = self._derived.get(name)
        if known is None or known[0] != revisions:
            known = self._derived[name] = (revisions, compute())
        value: T = known[1]
        return value

    def count(self, kind: str) -> int:
        """Return how many objects of a kind are known."""
        return len(self._kinds.get(kind, {}))


def _discard(index: dict[H, set[Key]], entry: H, key: Key) -> None:
    """Take a key out of an index, and the entry with its last key."""
    keys = index.get(entry, set())
    keys.discard(key)
    if not keys:
        index.pop(entry, None)
