"""Where tensors lie in a register file, and for how long: steps of time are the groups of chains."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

__all__ = ["Place", "fit", "loads_of"]


@dataclass(frozen=True)
class Place:
    """Registers for tensors that share them: size in vectors, first and last step of life, address once found."""

    tensors: tuple[int, ...]
    size: int
    first: int
    last: int
    address: int = 0

    def meets(self, other: "Place") -> bool:
        """Whether both live at some step."""
        return self.first <= other.last and other.first <= self.last

    def overlaps(self, other: "Place") -> bool:
        """Whether they have a register in common."""
        return self.address < other.address + other.size and other.address < self.address + self.size


def loads_of(places: Iterable[Place], steps: int) -> list[int]:
    """Vectors that live at each step."""
    changes = [0] * (steps + 1)
    for place in places:
        changes[place.first] += place.size
        changes[place.last + 1] -= place.size
    total, loads = 0, []
    for change in changes[:-1]:
        total += change
        loads.append(total)
    return loads


def fit(places: Sequence[Place], steps: int, capacity: int) -> tuple[list[Place], set[int]]:
    """Give every place an address, in as few registers as can be found; or name the tensors that are in the way.

    The least that could do is what lives at the fullest step, which must not be more than the capacity. First come,
    first placed usually reaches it; where that leaves gaps, the largest first; and then both with more room.
    """
    least = max(loads_of(places, steps), default=0)
    orders = (
        sorted(places, key=lambda place: (place.first, place.tensors)),
        sorted(places, key=lambda place: (-place.size, place.first, place.tensors)),
    )
    stuck: set[int] = set()
    for limit in sorted({least + (capacity - least) * share // 4 for share in range(5)}):
        for order in orders:
            found, stuck = _fit(order, limit)
            if not stuck:
                return found, set()
    return [], stuck


def _fit(wanted: Sequence[Place], limit: int) -> tuple[list[Place], set[int]]:
    """Put each place in a gap, at an end of memory where possible.

    Keeping to the ends leaves one gap in the middle, which is what lets a layer's input, middle and output
    take turns in exactly the room that they need.
    """
    found: list[Place] = []
    for place in wanted:
        near = [other for other in found if other.meets(place)]
        taken = sorted((other.address, other.address + other.size) for other in near)
        starts, ends = [0], []
        for start, end in taken:
            ends.append(start)
            starts.append(max(starts[-1], end))
        ends.append(limit)
        gaps = [(start, end) for start, end in zip(starts, ends, strict=True) if end - start >= place.size]
        spots = [spot for start, end in gaps for spot in (start, end - place.size)]
        if not spots:
            return found, {tensor for other in (*near, place) for tensor in other.tensors}
        best = min(spots, key=lambda spot: (spot not in (0, limit - place.size), spot))
        found.append(replace(place, address=best))
    return found, set()
