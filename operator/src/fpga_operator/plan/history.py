"""Which versions stay in a status: what is in use, and a number of others.

What no status names any more, the registry's sweep removes later; so the rule here is what may be lost.
"""

import math
from collections.abc import Callable, Sequence
from typing import Protocol, TypeVar

from fpga_operator.plan.words import counted

HISTORY = 10
MAX_VERSIONS = 256  # what the status holds
TOLD = 32  # what a Job is told of them


class Numbered(Protocol):
    """A version of a model or of an image."""

    @property
    def version(self) -> int:
        """Its number."""
        ...

    @property
    def digest(self) -> str:
        """Digest of its manifest."""
        ...


V = TypeVar("V", bound=Numbered)


def kept(versions: Sequence[V], in_use: Callable[[V], bool], limit: int | None) -> tuple[V, ...]:
    """Return the versions to keep, newest first: those in use, and the newest `limit` others.

    The highest number always stays: numbers are given by counting on from it, and none shall mean two things.
    """
    newest = max((v.version for v in versions), default=0)
    ordered = sorted(versions, key=lambda v: v.version, reverse=True)
    used = [v.version for v in ordered if in_use(v) or v.version == newest]
    others = [v.version for v in ordered if v.version not in used]
    room = min(HISTORY if limit is None else limit, max(0, MAX_VERSIONS - len(used)))
    stay = {*used, *others[:room]}
    return tuple(v for v in ordered if v.version in stay)[:MAX_VERSIONS]


def merged(known: Sequence[V], said: Sequence[V], made: V, *, cut: bool) -> tuple[V, ...]:
    """Return all versions after a Job, newest first.

    The Job said what the registry has; `cut` means that its message had no room for the older ones, which are taken
    from what is known.
    """
    found = {v.version: v for v in [*said, made]}
    if cut:
        oldest = min((v.version for v in said), default=math.inf)
        found |= {v.version: v for v in known if v.version < oldest and v.version not in found}
    return tuple(found[number] for number in sorted(found, reverse=True))


def remembered(versions: Sequence[Numbered]) -> dict[str, int]:
    """Return digest to number of the newest versions, for a Job whose registry may have lost them."""
    newest = sorted(versions, key=lambda v: v.version, reverse=True)[:TOLD]
    return {v.digest: v.version for v in newest}


def dropped_story(kind: str, name: str, version: int, versions: Sequence[Numbered], limit: int | None) -> str:
    """Return the sentence for a number that is asked for and not there, with the cure."""
    there = ", ".join(str(number) for number in sorted(v.version for v in versions)) or "none yet"
    if not versions or version > max(v.version for v in versions):
        return f"does not exist; versions of {kind} {name}: {there}"
    room = HISTORY if limit is None else limit
    return (
        f"is not kept any more: {kind} {name} keeps {counted(room, 'version')} that nothing uses (its "
        f"spec.historyLimit) and has {there}. Take one of them; or have the registry asked whether it still has it: "
        f'kubectl annotate {kind.lower()} {name} accel.dev/requestedAt="$(date -Is)" --overwrite'
    )
