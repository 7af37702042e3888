"""What of the registry may go: mark and sweep, as values.

A manifest that nothing refers to is marked with the time at which that was first seen, and goes when the mark is
older than the grace. Knows neither a registry nor a cluster: both were read into values before (`run.sweep`).
"""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from fpga_operator.plan.sweeprefs import References

Marks = Mapping[tuple[str, str], datetime]  # repository and digest: since when nothing refers to it

_VERSION = re.compile(r"v([1-9][0-9]{0,8})\Z")
_REFERRERS = re.compile(r"sha256-([a-f0-9]{64})(\..+)?\Z")


@dataclass(frozen=True)
class Stored:
    """One manifest of a repository. `children` are what an index lists; `ours` is false for what users pushed."""

    digest: str
    tags: frozenset[str] = frozenset()
    children: frozenset[str] = frozenset()
    is_index: bool = False
    ours: bool = True


@dataclass(frozen=True)
class Repository:
    """One repository as the registry holds it: every manifest that some tag leads to."""

    name: str
    manifests: Mapping[str, Stored] = field(default_factory=dict)  # by digest

    def tagged(self, tag: str) -> str | None:
        """Return the digest that a tag names."""
        return next((m.digest for m in self.manifests.values() if tag in m.tags), None)


@dataclass(frozen=True, order=True)
class Candidate:
    """A manifest that nothing refers to."""

    repository: str
    digest: str
    tags: tuple[str, ...]
    since: datetime
    why: str


@dataclass(frozen=True)
class Sweep:
    """What to do: `deletions` in this order, `marks` afterwards; `waiting` is not due yet."""

    deletions: tuple[Candidate, ...]
    waiting: tuple[Candidate, ...]
    marks: Marks


def subject_of(tag: str) -> str | None:
    """Return the digest that a tag such as `sha256-<hex>` or `sha256-<hex>.<more>` names besides its own."""
    found = _REFERRERS.match(tag)
    return f"sha256:{found.group(1)}" if found else None


def is_ours(name: str, *, ledger: Iterable[str] = (), sources: bool = False) -> bool:
    """Tell whether a repository is swept at all: models/NS/NAME, images/NS/NAME..., and those that we remember.

    `sources/` is what users pushed: theirs, unless they say otherwise.
    """
    parts = name.split("/")
    if parts[0] == "sources":
        return sources and len(parts) > 1
    if parts[0] == "models":
        return len(parts) == 3
    if parts[0] == "images":
        return len(parts) >= 3
    return name in ledger


def plan_sweep(
    repositories: Iterable[Repository], live: References, marks: Marks, now: datetime, grace: timedelta
) -> Sweep:
    """Return what goes now, what goes later, and the marks to remember."""
    due: list[Candidate] = []
    waiting: list[Candidate] = []
    for repository in sorted(repositories, key=lambda each: each.name):
        kept = _kept(repository, live)
        lost = [m for m in repository.manifests.values() if m.digest not in kept and m.ours]
        for manifest in sorted(lost, key=_order):
            since = min(marks.get((repository.name, manifest.digest), now), now)
            tags, why = tuple(sorted(manifest.tags)), _why(repository, manifest, live)
            candidate = Candidate(repository.name, manifest.digest, tags, since, why)
            (due if now - since >= grace else waiting).append(candidate)
    return Sweep(
        deletions=tuple(due),
        waiting=tuple(waiting),
        marks={(each.repository, each.digest): each.since for each in (*due, *waiting)},
    )


def _order(manifest: Stored) -> tuple[bool, bool, str]:
    """Delete what others lead to before them, so that a sweep which is cut short loses sight of nothing.

    First versions (their referrers' tag still names them), then records, and the indexes that list these at last.
    """
    return manifest.is_index, not any(_VERSION.match(tag) for tag in manifest.tags), manifest.digest


def _roots(repository: Repository, live: References) -> set[str]:
    name = repository.name
    roots = set(repository.manifests) & live.anywhere
    roots |= {digest for digest in repository.manifests if (name, digest) in live.digests}
    numbers: list[tuple[int, str]] = []
    for manifest in repository.manifests.values():
        if not manifest.ours or any((name, tag) in live.tags for tag in manifest.tags):
            roots.add(manifest.digest)
        numbers += [(int(v.group(1)), manifest.digest) for tag in manifest.tags if (v := _VERSION.match(tag))]
    if name in live.owned and numbers:
        roots.add(max(numbers)[1])  # the next version's number comes after it
    return roots


def _kept(repository: Repository, live: References) -> set[str]:
    """Return the digests that are referred to, directly or through an index or as a record of one that is."""
    if repository.name in live.whole:
        return set(repository.manifests)
    referrers = {tag: m.digest for m in repository.manifests.values() for tag in m.tags if subject_of(tag)}
    kept: set[str] = set()
    todo = list(_roots(repository, live))
    while todo:
        digest = todo.pop()
        manifest = repository.manifests.get(digest)
        if digest in kept or manifest is None:
            continue
        kept.add(digest)
        todo += manifest.children
        if index := referrers.get(digest.replace(":", "-")):
            todo.append(index)
    return kept


def _why(repository: Repository, manifest: Stored, live: References) -> str:
    parts = repository.name.split("/")
    owner = live.owned.get(repository.name)
    if owner is None:
        if parts[0] == "models":
            return f"no FpgaModel {parts[1]}/{parts[2]}"
        if parts[0] == "images" and len(parts) == 3:
            return f"no AccelImage {parts[1]}/{parts[2]}"
        if parts[0] == "sources":
            return "no FpgaModel has it as its source"
        return "no AccelImage writes here"
    versions = sorted(tag for tag in manifest.tags if _VERSION.match(tag))
    if versions:
        return f"{owner} no longer lists {', '.join(versions)}"
    return f"a record that {owner} no longer needs, or a push that was cut short"
