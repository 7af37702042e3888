"""`kubectl accel status`: which view the options ask for, and its exit code."""

from dataclasses import dataclass
from datetime import UTC, datetime

import typer

from accel.errors import AccelError
from accel.kubectl import Kubectl
from accel.status import report as reports
from accel.status import table as tables
from accel.status.page import page
from accel.status.snapshot import Snapshot, read
from accel.status.watch import Screen, View, seconds_of, watch
from accel.status.words import wrapped

__all__ = ["Wish", "status"]

READY, NOT_READY, UNKNOWN, INTERRUPTED = 0, 1, 2, 130


@dataclass(frozen=True)
class Wish:
    """The options."""

    name: str | None = None
    everywhere: bool = False
    events: int = 5
    as_json: bool = False
    watch: bool = False
    until_ready: bool = False
    timeout: str | None = None


def refused(wish: Wish) -> str:
    """Return what is wrong with the options; empty where nothing is."""
    if wish.name is not None and wish.everywhere:
        return "-A lists all namespaces: leave out the name, or choose its namespace with -n"
    if wish.name is None and wish.until_ready:
        return "--until-ready waits for one object: name it"
    if wish.timeout is not None and not (wish.watch or wish.until_ready):
        return "--timeout belongs to --watch or --until-ready"
    if wish.timeout is not None:
        try:
            seconds_of(wish.timeout)
        except ValueError as error:
            return f"--timeout: {error}"
    return ""


def status(kubectl: Kubectl, wish: Wish) -> int:
    """Show what was asked for; return the exit code."""
    if wrong := refused(wish):
        typer.echo(f"error: {wrong}", err=True)
        return UNKNOWN

    def look(snapshot: Snapshot) -> View:
        return _table(snapshot, wish) if wish.name is None else _page(snapshot, kubectl, wish)

    whole = wish.name is not None  # the table needs the objects only
    live = wish.watch or wish.until_ready
    screen = Screen(as_json=wish.as_json, live=live)
    try:
        if live:
            return watch(
                kubectl,
                look,
                screen,
                everywhere=wish.everywhere,
                whole=whole,
                until_ready=wish.until_ready,
                timeout=None if wish.timeout is None else seconds_of(wish.timeout),
            )
        view = look(read(kubectl, everywhere=wish.everywhere, whole=whole))
    except KeyboardInterrupt:
        return INTERRUPTED
    except AccelError as error:
        typer.echo(f"error: {error}", err=True)
        return UNKNOWN
    screen.show(view)
    return READY if view.ready else NOT_READY


def _page(snapshot: Snapshot, kubectl: Kubectl, wish: Wish) -> View:
    assert wish.name is not None
    found = reports.report_on(snapshot, wish.name, kubectl, events=wish.events)
    return View(
        lines=page(found, datetime.now(UTC)),
        document=reports.document(found),
        ready=found.named.ready,
        stalled=found.stalled,
        busy=found.busy,
        cause=found.cause.title,
    )


def _table(snapshot: Snapshot, wish: Wish) -> View:
    found = tables.rows(snapshot)
    lines = tables.table(found, datetime.now(UTC), everywhere=wish.everywhere)
    if not found:
        where = "in any namespace" if wish.everywhere else "in this namespace (-A looks in all)"
        lines = [f"No FpgaModel, AccelImage or AccelService {where}."]
    if snapshot.lacking:
        lines += ["", *wrapped(f"Not all is shown: you may not {', '.join(snapshot.lacking)}.", 0)]
    # A list that could be read is an answer: its exit code says nothing about the objects in it.
    return View(lines, tables.document(found, snapshot.lacking))
