"""How many requests may be inside at once. One FPGA computes one picture at a time, so the rest waits, and
waiting is only useful up to a point: behind it the client is told to come back or to ask another replica.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from accel_runtime.errors import Overloaded

__all__ = ["Admission"]


class Admission:
    """A bounded count of requests and of their bytes, with an estimate of how long the queue is in time.

    Used on one thread only.
    """

    def __init__(self, limit: int, max_bytes: int, on_change: Callable[[int], object]) -> None:
        self._limit = limit
        self._max_bytes = max_bytes
        self._on_change = on_change
        self._depth = 0
        self._bytes = 0
        self._seconds = 0.05  # moving average of a request's time at the device; the start is a guess

    @contextmanager
    def enter(self, size: int) -> Iterator[None]:
        """Hold a place for a request of `size` bytes; raises Overloaded if there is none."""
        if self._depth >= self._limit or (self._depth and self._bytes + size > self._max_bytes):
            wait_ms = max(1, round(self._depth * self._seconds * 1000))
            raise Overloaded(
                f"{self._depth} requests of {self._bytes} bytes wait for this FPGA already; "
                f"try again in about {wait_ms} ms or run more replicas",
                wait_ms,
            )
        self._move(1, size)
        try:
            yield
        finally:
            self._move(-1, -size)

    def computed(self, seconds: float) -> None:
        """Note how long one request held the device."""
        self._seconds += 0.1 * (seconds - self._seconds)

    def _move(self, count: int, size: int) -> None:
        self._depth += count
        self._bytes += size
        self._on_change(self._depth)
