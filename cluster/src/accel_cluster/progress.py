"""What a person reads while a command works: one line per step, and a sign of life at least every 15 s."""

import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

HEARTBEAT_S = 15.0


def say(line: str) -> None:
    """Print one line to standard error: standard output belongs to what a command returns."""
    print(line, file=sys.stderr, flush=True)


@contextmanager
def step(name: str) -> Iterator[None]:
    """Announce a step, print its elapsed time every HEARTBEAT_S, and how long it took."""
    started = time.monotonic()
    done = threading.Event()

    def beat() -> None:
        while not done.wait(HEARTBEAT_S):
            say(f"   … {name}: {time.monotonic() - started:.0f} s")

    say(f"── {name}")
    pulse = threading.Thread(target=beat, daemon=True)
    pulse.start()
    try:
        yield
    finally:
        done.set()
        pulse.join()
    elapsed = time.monotonic() - started
    if elapsed >= 1:
        say(f"   {name}: done in {elapsed:.0f} s")
