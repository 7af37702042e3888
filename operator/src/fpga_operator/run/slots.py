"""Job slots: at most so many Jobs at once, in turn by namespace, without a race between workers.

A slot goes to the namespace with the fewest Jobs; among those with as few, to the one whose turn is longest ago. So
two hundred objects applied at once hold up nobody else's one. Within a namespace it goes by age, behind those that have
failed less often: otherwise a few objects whose sources cannot be reached would keep it to themselves.
"""

from collections import Counter
from collections.abc import Callable, Iterator

from fpga_operator.run.store import Key, Store

Place = tuple[int, str]  # failures so far, creation time: the order within a namespace


class JobSlots:
    """Counts running Jobs in the store and those about to be created.

    wake: called with those who may have a slot that somebody else did not use.
    """

    def __init__(self, store: Store, limit: int) -> None:
        self._store = store
        self._limit = limit
        self._reserved: set[Key] = set()
        self._waiting: dict[Key, Place] = {}
        self._turns: dict[str, int] = {}  # namespace -> when it last had its turn, counted in turns
        self._turn = 0
        self.wake: Callable[[Key], None] = lambda _: None

    def running(self) -> int:
        """Count Jobs that run or are about to."""
        return len(self._store.running_jobs()) + len(self._reserved)

    def reserve(self, key: Key, place: Place) -> bool:
        """Take a slot for the time of one reconcile, if this object is among the first that may have one."""
        if key not in self._first({**self._waiting, key: place}):
            return False
        self._reserved.add(key)
        self._turn += 1
        self._turns[key.namespace] = self._turn
        return True

    def release(self, key: Key) -> None:
        """Give the reservation back: by now the Job is in the store, or was not made and others may have the slot."""
        if key in self._reserved:
            self._reserved.discard(key)
            self._waiting.pop(key, None)
            self._pass_on()

    def waits(self, key: Key, place: Place) -> None:
        """Remember that this object waits for a slot."""
        self._waiting[key] = place

    def settled(self, key: Key) -> None:
        """Remember that it does not wait any more; a slot that was offered to it goes to others."""
        if self._waiting.pop(key, None) is not None:
            self._pass_on()

    def _pass_on(self) -> None:
        for other in self.next():
            self.wake(other)

    def next(self) -> list[Key]:
        """Return who may have the slots that are free now."""
        return list(self._first(self._waiting))

    def waiting(self) -> int:
        """Count those who wait."""
        return len(self._waiting)

    def _first(self, line: dict[Key, Place]) -> Iterator[Key]:
        jobs = Counter(job["metadata"]["namespace"] for job in self._store.running_jobs())
        jobs.update(key.namespace for key in self._reserved)
        rows: dict[str, list[Key]] = {}
        for key in sorted(line, key=lambda key: (line[key], key), reverse=True):
            rows.setdefault(key.namespace, []).append(key)
        turns, turn = dict(self._turns), self._turn
        for _ in range(max(0, self._limit - jobs.total())):
            if not rows:
                return
            chosen = min(
                rows, key=lambda there: (jobs[there], turns.get(there, 0), line[rows[there][-1]], there)
            )
            yield rows[chosen].pop()
            jobs[chosen] += 1
            turn += 1
            turns[chosen] = turn
            if not rows[chosen]:
                del rows[chosen]
