"""What stays on the host, counted by operator and reason: for people, status fields and reports."""

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass

__all__ = ["OnHost", "count", "sentence"]


@dataclass(frozen=True, order=True)
class OnHost:
    """So many nodes of one operator, for one reason; `first` is the name of the first of them."""

    operator: str
    reason: str
    count: int
    first: str


def count(nodes: Iterable[tuple[str, str, str]]) -> tuple[OnHost, ...]:
    """Operator, name and reason of each node -> one entry per operator and reason, the most frequent first."""
    counts: Counter[tuple[str, str]] = Counter()
    first: dict[tuple[str, str], str] = {}
    for operator, name, reason in nodes:
        counts[operator, reason] += 1
        first.setdefault((operator, reason), name)
    entries = (OnHost(*key, number, first[key]) for key, number in counts.items())
    return tuple(sorted(entries, key=lambda entry: (-entry.count, entry)))


def sentence(entries: Iterable[OnHost]) -> str:
    """`2 Gemm: ...; 1 Softmax: ...`."""
    return "; ".join(f"{entry.count} {entry.operator}: {entry.reason}" for entry in entries)
