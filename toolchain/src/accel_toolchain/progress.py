"""Lines for whoever watches a Job: `accel: fetched 120 MB of 480 MB`, at most one in five seconds.

The operator publishes none of it; `kubectl accel status` reads the tail of the container's log.
"""

import sys
import time
from collections.abc import Callable
from typing import Final, TextIO

PREFIX: Final = "accel: "
INTERVAL_SECONDS: Final = 5.0


class Progress:
    """Writes lines and leaves out those that come too soon after the last one."""

    def __init__(self, stream: TextIO | None = None, clock: Callable[[], float] = time.monotonic) -> None:
        self._stream = stream
        self._clock = clock
        self._last: float | None = None

    def say(self, text: str) -> None:
        """Write one line, unless one was written within the last five seconds."""
        now = self._clock()
        if self._last is not None and now - self._last < INTERVAL_SECONDS:
            return
        self._last = now
        print(f"{PREFIX}{text}", file=self._stream or sys.stderr, flush=True)

    def moved(self, verb: str, done: int, total: int | None) -> None:
        """Say how many bytes of how many; None where the total is not known."""
        self.say(f"{verb} {megabytes(done)}" + (f" of {megabytes(total)}" if total else ""))


def megabytes(count: int) -> str:
    """Return a size as people say it."""
    return f"{count / 1e6:.0f} MB" if count >= 10_000_000 else f"{count / 1e6:.1f} MB"


progress: Final = Progress()  # of this process, which runs one step
