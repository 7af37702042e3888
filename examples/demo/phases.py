"""How the demo tells what it is doing: numbered phases with times, and a sign of life when a step takes
long.
"""

import contextlib
import subprocess
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

SILENCE_S = 10.0  # after this long without a line, say that it goes on
WIDTH = 100


class StepFailed(Exception):
    """A step of the demo failed; the message says which and what it said."""


class Phases:
    """Prints phases and lines to standard output, and remembers how long each phase took."""

    def __init__(self) -> None:
        self.times: list[tuple[str, float]] = []
        self._lock = threading.Lock()
        self._last = time.monotonic()
        self._doing = ""

    def say(self, line: str = "") -> None:
        """Print one line of the current phase."""
        with self._lock:
            print(f"   {line}".rstrip(), flush=True)
            self._last = time.monotonic()

    def doing(self, what: str) -> None:
        """Set what the sign of life names."""
        self._doing = what

    @contextlib.contextmanager
    def phase(self, title: str) -> Iterator[None]:
        """Announce a phase, keep it audible, and print how long it took."""
        head = f"── {len(self.times) + 1}  {title} "
        print(f"\n{head}{'─' * max(3, WIDTH - len(head))}", flush=True)
        started = self._last = time.monotonic()
        self._doing = title
        ended = threading.Event()

        def pulse() -> None:
            while not ended.wait(1.0):
                if time.monotonic() - self._last >= SILENCE_S:
                    self.say(f"… {self._doing} ({time.monotonic() - started:.0f} s)")

        beat = threading.Thread(target=pulse, daemon=True)
        beat.start()
        try:
            yield
        finally:
            ended.set()
            beat.join()
        took = time.monotonic() - started
        self.times.append((title, took))
        self.say(f"✓ {took:.1f} s")

    def run(
        self,
        command: Sequence[str],
        *,
        cwd: Path | None = None,
        env: dict[str, str] | None = None,
        show: Callable[[str], str | None] = str,
        errors: bool = True,
    ) -> list[str]:
        """Run a program and print its lines as they come; return them.

        `show` may change a line or, with None, leave it out. With `errors` False standard error is only told
        when the program fails. Raises StepFailed with the end of what it said.
        """
        lines: list[str] = []
        told: list[str] = []
        with subprocess.Popen(
            command,
            cwd=cwd,
            env=env,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT if errors else subprocess.PIPE,
            text=True,
        ) as process:
            drain = threading.Thread(target=lambda: told.extend(process.stderr or ()), daemon=True)
            drain.start()
            for raw in process.stdout or ():
                line = raw.rstrip()
                lines.append(line)
                shown = show(line)
                if shown is not None:
                    self.say(shown)
            drain.join()
        if process.returncode != 0:
            said = "\n".join([*lines, *(line.rstrip() for line in told)][-25:])
            raise StepFailed(f"`{' '.join(command[:6])}` ended with {process.returncode}:\n{said}")
        return lines
