"""Job slots: at most so many Jobs at once, first come first served, without a race between workers."""

from fpga_operator.run.store import Key, Store

Place = tuple[int, str]  # transient failures so far, creation time: the order of the line


class JobSlots:
    """Counts running Jobs in the store and those about to be created."""

    def __init__(self, store: Store, limit: int) -> None:
        self._store = store
        self._limit = limit
        self._reserved: set[Key] = set()
        self._waiting: dict[Key, Place] = {}

    def running(self) -> int:
        """Count Jobs that run or are about to."""
        return len(self._store.running_jobs()) + len(self._reserved)

    def reserve(self, key: Key, place: Place) -> bool:
        """Take a slot for the time of one reconcile, if this object is among the first that may have one."""
        free = self._limit - self.running()
        if free <= 0:
            return False
        line = sorted({**self._waiting, key: place}.items(), key=lambda item: (item[1], item[0]))
        if key not in [waiting for waiting, _ in line[:free]]:
            return False
        self._reserved.add(key)
        return True

    def release(self, key: Key) -> None:
        """Give the reservation back: by now the Job is in the store, or was not made."""
        self._reserved.discard(key)

    def waits(self, key: Key, place: Place) -> None:
        """Remember that this object waits for a slot."""
        self._waiting[key] = place

    def settled(self, key: Key) -> None:
        """Remember that it does not wait any more."""
        self._waiting.pop(key, None)

    def next(self) -> list[Key]:
        """Return who may have the slots that are free now."""
        free = max(0, self._limit - self.running())
        line = sorted(self._waiting.items(), key=lambda item: (item[1], item[0]))
        return [key for key, _ in line[:free]]

    def waiting(self) -> int:
        """Count those who wait."""
        return len(self._waiting)
