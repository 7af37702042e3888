"""One value that many tasks wait on: something changed, look again. Bursts are seen once; nobody misses the
last one.
"""

import asyncio

__all__ = ["Changes"]


class Changes:
    """A counter that can be awaited. Bound to the running event loop by its first waiter."""

    def __init__(self) -> None:
        self.count = 0
        self._waiters: set[asyncio.Future[None]] = set()

    def notify(self) -> None:
        """Wake everybody who waits."""
        self.count += 1
        for waiter in self._waiters:
            if not waiter.done():
                waiter.set_result(None)
        self._waiters.clear()

    async def wait(self, seen: int) -> int:
        """Return the count as soon as it differs from `seen`."""
        while self.count == seen:
            waiter: asyncio.Future[None] = asyncio.get_running_loop().create_future()
            self._waiters.add(waiter)
            try:
                await waiter
            finally:
                self._waiters.discard(waiter)
        return self.count
