"""What goes into a planner and what comes out of it."""

from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from fpga_operator.api.base import GROUP

Manifest = dict[str, Any]  # the edge of the system: Kubernetes objects travel as JSON

MANAGED_BY = "app.kubernetes.io/managed-by"
OPERATOR = "fpga-operator"
MODEL_LABEL = f"{GROUP}/model"
IMAGE_LABEL = f"{GROUP}/image"
SERVICE_LABEL = f"{GROUP}/service"
REVISION_LABEL = f"{GROUP}/revision"
REQUESTED_AT = f"{GROUP}/requestedAt"


@dataclass(frozen=True)
class Ref:
    """One object, by name; uid guards against deleting its successor."""

    kind: str
    namespace: str
    name: str
    uid: str = ""


@dataclass(frozen=True)
class Owner:
    """The custom resource that a plan is for."""

    kind: str
    namespace: str
    name: str
    uid: str
    generation: int
    deleting: bool = False
    annotations: dict[str, str] = field(default_factory=dict)
    created: str = ""

    @classmethod
    def of(cls, body: Manifest) -> "Owner":
        """Read it from the live object."""
        meta = body["metadata"]
        return cls(
            kind=body["kind"],
            namespace=meta.get("namespace", ""),
            name=meta["name"],
            uid=meta["uid"],
            generation=int(meta.get("generation", 1)),
            deleting="deletionTimestamp" in meta,
            annotations=dict(meta.get("annotations") or {}),
            created=meta.get("creationTimestamp", ""),
        )

    def reference(self) -> Manifest:
        """Return the controller reference that children carry.

        blockOwnerDeletion is left out: it would need rights on the owner's finalizers, and nothing here waits.
        """
        return {
            "apiVersion": f"{GROUP}/v1alpha1",
            "kind": self.kind,
            "name": self.name,
            "uid": self.uid,
            "controller": True,
        }


@dataclass(frozen=True)
class KeysSecret:
    """The Secret with a service's keys. The keys themselves are derived where it is written, never in a plan."""

    name: str
    labels: dict[str, str]
    rotation: int = 0


@dataclass(frozen=True)
class Fault:
    """Why the last attempt to write children failed for good: shown as Stalled until it works."""

    reason: str
    message: str


@dataclass(frozen=True)
class Event:
    """One line for `kubectl describe`."""

    type: str  # Normal or Warning
    reason: str
    note: str


@dataclass(frozen=True)
class Plan:
    """What shall be. `requeue_after` in seconds; None means that an event will wake us."""

    status: Manifest
    children: tuple[Manifest, ...] = ()
    deletes: tuple[Ref, ...] = ()
    keys: KeysSecret | None = None
    requeue_after: float | None = None
    events: tuple[Event, ...] = ()
    waits_for_slot: bool = False


def parse_time(text: str) -> datetime:
    """Read an RFC 3339 time as the API server writes it."""
    return datetime.fromisoformat(text)


def format_time(moment: datetime) -> str:
    """Write a time as metav1.Time does: UTC, whole seconds."""
    return moment.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def labels_for(label: str, name: str) -> dict[str, str]:
    """Return the labels of a child: ours alone, never the parent's."""
    return {MANAGED_BY: OPERATOR, label: name}


def child(
    api_version: str, kind: str, owner: Owner, name: str, labels: dict[str, str], **body: Any
) -> Manifest:
    """Return a child's manifest with its owner reference."""
    return {
        "apiVersion": api_version,
        "kind": kind,
        "metadata": {
            "name": name,
            "namespace": owner.namespace,
            "labels": labels,
            "ownerReferences": [owner.reference()],
        },
        **body,
    }
