"""A keyed work queue: what kopf lacks for level-triggered work.

A key waits at most once, is worked on by at most one worker at a time, and is worked on again when it was added
meanwhile. Failures back off per key. Time comes from the loop (or a given clock), so tests run on fake time.
"""

import asyncio
import heapq
import itertools
from collections import OrderedDict
from collections.abc import Callable, Hashable
from dataclasses import dataclass
from typing import Generic, Protocol, TypeVar

K = TypeVar("K", bound=Hashable)
K_contra = TypeVar("K_contra", bound=Hashable, contravariant=True)

FIRST_BACKOFF_SECONDS = 0.5
LAST_BACKOFF_SECONDS = 300.0
SPARE = 64  # outdated entries that are not worth tidying up


@dataclass(frozen=True)
class Taken(Generic[K]):
    """A key handed to a worker; `waited` seconds since it became due."""

    key: K
    waited: float


class Observer(Protocol[K_contra]):
    """Is told what happens to keys, as client-go's queues tell their metrics."""

    def added(self, key: K_contra) -> None:
        """It waits for a worker; told again while it waits already."""

    def taken(self, key: K_contra) -> None:
        """A worker has it."""

    def ended(self, key: K_contra) -> None:
        """The worker gave it back."""

    def delayed(self, key: K_contra) -> None:
        """It comes again after a while."""

    def dropped(self, key: K_contra) -> None:
        """It was added while it was worked on, and backs off instead."""


class _Nobody:
    def __getattr__(self, _: str) -> Callable[[object], None]:
        return lambda _: None


class WorkQueue(Generic[K]):
    """The queue. Not thread-safe: it lives in one event loop."""

    def __init__(self, clock: Callable[[], float] | None = None, observer: Observer[K] | None = None) -> None:
        self._clock = clock or (lambda: asyncio.get_running_loop().time())
        self._observer: Observer[K] = observer if observer is not None else _Nobody()
        self._ready: OrderedDict[K, float] = OrderedDict()  # key -> when it became due
        self._working: dict[K, float] = {}  # key -> since when
        self._again: set[K] = set()  # added while being worked on
        self._due: dict[K, float] = {}  # key -> the one time at which it is added later
        self._heap: list[tuple[float, int, K]] = []  # may hold outdated entries; _due decides
        self._order = itertools.count()
        self._failures: dict[K, int] = {}
        self._wake = asyncio.Event()

    # -- adding ---------------------------------------------------------------------------------------------

    def add(self, key: K) -> None:
        """Have the key worked on as soon as a worker is free."""
        self._observer.added(key)
        self._due.pop(key, None)
        if key in self._working:
            self._again.add(key)
        elif key not in self._ready:
            self._ready[key] = self._clock()
            self._wake.set()

    def add_after(self, key: K, seconds: float) -> None:
        """Have it worked on after a while, or earlier if an earlier time is set already."""
        due = self._clock() + max(0.0, seconds)
        if key in self._ready or self._due.get(key, float("inf")) <= due:
            return
        self._observer.delayed(key)
        self._due[key] = due
        heapq.heappush(self._heap, (due, next(self._order), key))
        if len(self._heap) > 2 * len(self._due) + SPARE:
            # Keys that are woken often before their time would pile up outdated entries until those come due.
            self._heap = [(at, next(self._order), waiting) for waiting, at in self._due.items()]
            heapq.heapify(self._heap)
        self._wake.set()

    # -- working --------------------------------------------------------------------------------------------

    async def take(self) -> Taken[K]:
        """Wait for a key that is due; it must be given back by done() or failed()."""
        while True:
            self._release_due()
            if self._ready:
                key, since = self._ready.popitem(last=False)
                now = self._clock()
                self._working[key] = now
                self._observer.taken(key)
                if self._ready:
                    self._wake.set()
                return Taken(key, now - since)
            self._wake.clear()
            # A timer may fire a hair early; without a least pause the loop would spin until the clock caught up.
            pause = max(0.001, self._heap[0][0] - self._clock()) if self._heap else None
            try:
                async with asyncio.timeout(pause):
                    await self._wake.wait()
            except TimeoutError:
                continue

    def done(self, key: K, requeue_after: float | None = None) -> None:
        """Give a key back after success."""
        self._failures.pop(key, None)
        self._give_back(key, requeue_after)

    def failed(self, key: K) -> float:
        """Give a key back after a failure; return the pause before it is tried again, in seconds."""
        count = self._failures.get(key, 0)
        self._failures[key] = count + 1
        pause = min(FIRST_BACKOFF_SECONDS * 2.0 ** min(count, 32), LAST_BACKOFF_SECONDS)
        # Nothing that came during the work cuts the backoff short: it may well be of our own half-done writes.
        self._due.pop(key, None)
        if key in self._again:
            self._again.discard(key)
            self._observer.dropped(key)
        self._give_back(key, pause)
        return pause

    def forget(self, key: K) -> None:
        """Drop what is remembered about a key whose object is gone."""
        self._failures.pop(key, None)
        self._due.pop(key, None)

    def _give_back(self, key: K, requeue_after: float | None) -> None:
        del self._working[key]
        self._observer.ended(key)
        if key in self._again:
            self._again.discard(key)
            self.add(key)
        elif requeue_after is not None:
            self.add_after(key, requeue_after)

    def _release_due(self) -> None:
        now = self._clock()
        while self._heap and self._heap[0][0] <= now:
            due, _, key = heapq.heappop(self._heap)
            if self._due.get(key) == due:
                self.add(key)
        while self._heap and self._due.get(self._heap[0][2]) != self._heap[0][0]:
            heapq.heappop(self._heap)

    # -- looking --------------------------------------------------------------------------------------------

    def depth(self) -> int:
        """Count the keys that wait for a worker."""
        return len(self._ready)

    def working(self) -> int:
        """Count the keys being worked on."""
        return len(self._working)

    def oldest_wait(self) -> float:
        """Return for how long the first waiting key has been due, seconds."""
        return self._clock() - next(iter(self._ready.values())) if self._ready else 0.0

    def longest_work(self) -> float:
        """Return for how long the slowest worker has been at its key, seconds."""
        return self._clock() - min(self._working.values()) if self._working else 0.0
