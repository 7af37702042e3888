"""Which objects belong to the one that was named: what it stands on, and what stands on it."""

from collections.abc import Mapping

from accel.errors import NotFound
from accel.status.snapshot import KINDS, Key, Object, Snapshot, key_of

__all__ = ["below", "find", "parse", "pinned", "upstream_key", "upstreams"]

_SHORT: Mapping[str, str] = {
    "fpgamodel": "FpgaModel",
    "fmodel": "FpgaModel",
    "model": "FpgaModel",
    "accelimage": "AccelImage",
    "aimg": "AccelImage",
    "image": "AccelImage",
    "accelservice": "AccelService",
    "asvc": "AccelService",
    "service": "AccelService",
}
_REFERENCE = {"AccelService": ("AccelImage", "imageRef"), "AccelImage": ("FpgaModel", "modelRef")}


def parse(name: str) -> tuple[str | None, str]:
    """Split `kind/name`, as kubectl reads it; no kind is None."""
    kind, slash, rest = name.partition("/")
    if not slash:
        return None, name
    known = _SHORT.get(kind.lower().partition(".")[0].removesuffix("s"))
    if known is None:
        raise NotFound(f"unknown kind {kind!r}; known are {', '.join(full.lower() for full in KINDS)}")
    return known, rest


def find(snapshot: Snapshot, name: str) -> Object:
    """Return the object that `name` or `kind/name` means; of equal names the one nearest to the clients."""
    kind, rest = parse(name)
    for wanted in reversed(KINDS) if kind is None else [kind]:
        for key in sorted(snapshot.objects):
            if key[0] == wanted and key[2] == rest:
                return snapshot.objects[key]
    words = "AccelService, AccelImage or FpgaModel" if kind is None else kind
    raise NotFound(f"no {words} is named {rest!r} in this namespace; `kubectl accel status` lists them")


def upstream_key(found: Object) -> Key | None:
    """Return what an object follows or pins; None for a model, or a service of an image by digest."""
    kind, field = _REFERENCE.get(found["kind"], ("", ""))
    reference = found.get("spec", {}).get(field) if field else None
    return (kind, found["metadata"].get("namespace", ""), reference["name"]) if reference else None


def pinned(found: Object) -> int | None:
    """Return the version that it is held at; None where it follows."""
    _, field = _REFERENCE.get(found["kind"], ("", ""))
    version = (found.get("spec", {}).get(field) or {}).get("version") if field else None
    return int(version) if version is not None else None


def upstreams(snapshot: Snapshot, found: Object) -> list[Object]:
    """Return what an object stands on, the model first."""
    chain: list[Object] = []
    key = upstream_key(found)
    while key is not None and key in snapshot.objects:
        chain.insert(0, snapshot.objects[key])
        key = upstream_key(chain[0])
    return chain


def below(snapshot: Snapshot, found: Object) -> list[Object]:
    """Return an object and what stands on it, each before those that stand on it."""
    me = key_of(found)
    chain = [found]
    for other in snapshot.objects.values():
        if upstream_key(other) == me:
            chain += below(snapshot, other)
    return chain
