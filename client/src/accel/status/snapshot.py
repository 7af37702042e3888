"""What a namespace holds at one moment, as far as the user may see it. Two calls of kubectl, whatever is in it."""

from collections.abc import Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any

from accel.errors import MissingRight
from accel.kubectl import Kubectl

__all__ = ["KINDS", "Key", "Object", "Snapshot", "key_of", "owned_by", "read"]

Object = Mapping[str, Any]
Key = tuple[str, str, str]  # kind, namespace, name

KINDS = {  # in the order of the flow
    "FpgaModel": "fpgamodels.accel.dev",
    "AccelImage": "accelimages.accel.dev",
    "AccelService": "accelservices.accel.dev",
}
OURS = "app.kubernetes.io/managed-by=fpga-operator"


@dataclass(frozen=True)
class Snapshot:
    """Everything a page is made of. `lacking` names the rights without which something is not in it."""

    objects: Mapping[Key, Object] = field(default_factory=dict)
    jobs: tuple[Object, ...] = ()
    pods: tuple[Object, ...] = ()
    events: tuple[Object, ...] = ()
    nodes: tuple[Object, ...] = ()
    lacking: tuple[str, ...] = ()

    def of_kind(self, kind: str) -> list[Object]:
        """Return the objects of one kind, by namespace and name."""
        return [self.objects[key] for key in sorted(self.objects) if key[0] == kind]

    def versions(self) -> frozenset[tuple[str, str]]:
        """Return what changes when one of the objects does: uids and resourceVersions."""
        metas = [found["metadata"] for found in self.objects.values()]
        return frozenset((meta["uid"], meta["resourceVersion"]) for meta in metas)


def key_of(found: Object) -> Key:
    """Return an object's kind, namespace and name."""
    meta = found["metadata"]
    return (found["kind"], meta.get("namespace", ""), meta["name"])


def owned_by(uid: str, things: Iterable[Object]) -> list[Object]:
    """Return the things with that owner, newest first."""
    found = [
        thing
        for thing in things
        if any(owner.get("uid") == uid for owner in thing["metadata"].get("ownerReferences") or ())
    ]
    return sorted(found, key=lambda thing: str(thing["metadata"].get("creationTimestamp", "")), reverse=True)


def read(kubectl: Kubectl, *, everywhere: bool = False, whole: bool = True) -> Snapshot:
    """Read the namespace; `whole` False leaves out Jobs, pods and events.

    Raises MissingRight where the user may see none of the three kinds, KubectlError where kubectl fails.
    """
    with ThreadPoolExecutor(2) as pool:
        kinds = [*KINDS.values(), *(["fpganodes.accel.dev", "events"] if whole else [])]
        first = pool.submit(kubectl.listing, kinds, everywhere=everywhere)
        second = pool.submit(kubectl.listing, ["jobs", "pods"], selector=OURS) if whole else None
        listed, ours = first.result(), second.result() if second is not None else None
    own = [f"list {resource.partition('.')[0]}" for resource in KINDS.values()]
    if all(right in listed.lacking for right in own):
        raise MissingRight(
            f"you may not {', '.join(own)}: ask for a Role with these rights, or choose a namespace with -n",
            own[0],
        )
    everything = [*listed.items, *(ours.items if ours is not None else ())]
    by_kind: dict[str, list[Object]] = {}
    for item in everything:
        by_kind.setdefault(item["kind"], []).append(item)
    return Snapshot(
        objects={key_of(item): item for kind in KINDS for item in by_kind.get(kind, ())},
        jobs=tuple(by_kind.get("Job", ())),
        pods=tuple(by_kind.get("Pod", ())),
        events=tuple(by_kind.get("Event", ())),
        nodes=tuple(by_kind.get("FpgaNode", ())),
        lacking=tuple(dict.fromkeys([*listed.lacking, *(ours.lacking if ours is not None else ())])),
    )
