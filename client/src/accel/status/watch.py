"""Looking again and again until something is the case. Polls: one listing every two seconds while nothing happens.

A stream per kind would be four processes of kubectl that end now and then, for the same sight (decision 0081).
"""

import json
import re
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import typer

from accel.errors import KubectlError, MissingRight
from accel.kubectl import Kubectl
from accel.status.snapshot import Snapshot, read
from accel.status.words import printable

__all__ = ["Screen", "View", "seconds_of", "watch"]

INTERVAL_SECONDS = 2.0
WHOLE_SECONDS = 10.0  # pods, Jobs and events are looked at so often though no object has changed
_DURATION = re.compile(r"(?:(\d+)h)?(?:(\d+)m)?(?:(\d+(?:\.\d+)?)s?)?")


@dataclass(frozen=True)
class View:
    """What there is to show. `document` has no ages: an equal one is not shown again."""

    lines: list[str]
    document: Mapping[str, Any]
    ready: bool = True
    stalled: bool = False
    busy: bool = False  # a Job runs
    cause: str = ""  # kind and name of the object that keeps it from being ready


def seconds_of(text: str) -> float:
    """Read a duration as kubectl writes it (90, 90s, 10m, 1h30m); raises ValueError."""
    found = _DURATION.fullmatch(text.strip())
    if found is None or not any(found.groups()):
        raise ValueError(f"{text!r} is no duration: write 90s, 10m or 1h30m")
    hours, minutes, seconds = (float(part or 0) for part in found.groups())
    return hours * 3600 + minutes * 60 + seconds


class Screen:
    """Standard output: redrawn where it is a terminal, else a block for each change."""

    def __init__(self, *, as_json: bool, live: bool) -> None:
        self._json, self._live = as_json, live
        self._terminal = live and not as_json and sys.stdout.isatty()
        self._last: Mapping[str, Any] | None = None

    def show(self, view: View) -> None:
        """Show a view, unless it is the one that stands there."""
        same, lines = view.document == self._last, [printable(line) for line in view.lines]
        self._last = view.document
        if self._terminal:
            typer.echo("\x1b[H\x1b[2J" + "\n".join(lines))
        elif same:
            return
        elif self._json:
            typer.echo(json.dumps(view.document, indent=None if self._live else 2))
        else:
            moment = [f"--- {datetime.now(UTC):%Y-%m-%dT%H:%M:%SZ}"] if self._live else []
            typer.echo("\n".join([*moment, *lines]))
        sys.stdout.flush()


def watch(
    kubectl: Kubectl,
    look: Callable[[Snapshot], View],
    screen: Screen,
    *,
    everywhere: bool = False,
    whole: bool = True,
    until_ready: bool = False,
    timeout: float | None = None,
) -> int:
    """Show every change; return the exit code. Without `until_ready` only Ctrl-C, or `timeout` seconds, end it.

    `whole` is as for `read`. An API server that does not answer is told once and asked again; what is wrong at the
    first look is raised.
    """
    ends = None if timeout is None else time.monotonic() + timeout
    shown: Snapshot | None = None
    whole_at, told, view = 0.0, "", None
    while True:
        try:
            started = time.monotonic()
            due = view is None or view.busy or started - whole_at >= WHOLE_SECONDS
            light = None if due else read(kubectl, everywhere=everywhere, whole=False)
            if shown is None or light is None or light.versions() != shown.versions():
                shown, whole_at = read(kubectl, everywhere=everywhere, whole=whole), started
                view = look(shown)
            told = ""
        except MissingRight:
            raise
        except KubectlError as error:
            if view is None:
                raise
            if str(error) != told:
                told = str(error)
                typer.echo(f"{told}; asked again", err=True)
        assert view is not None
        screen.show(view)
        if until_ready and view.ready:
            return 0
        if until_ready and view.stalled:
            typer.echo(f"error: it will not become Ready by itself: mend {view.cause}", err=True)
            return 1
        left = INTERVAL_SECONDS if ends is None else min(INTERVAL_SECONDS, ends - time.monotonic())
        if left <= 0:
            if until_ready:
                typer.echo(f"error: not Ready within {timeout:.0f} s", err=True)
            return 0 if view.ready else 1
        time.sleep(left)
