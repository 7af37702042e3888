"""Small texts that the page and the table share: ages, sizes, digests, wrapped sentences."""

import textwrap
from datetime import UTC, datetime

__all__ = ["WIDTH", "age", "clip", "printable", "short_digest", "size", "wrapped"]

WIDTH = 108


def age(time: str | None, now: datetime) -> str:
    """Return how long ago an RFC 3339 time was, in kubectl's short form; empty where it is not known."""
    if not time:
        return ""
    seconds = max(0, int((now - datetime.fromisoformat(time).astimezone(UTC)).total_seconds()))
    for unit, length in (("d", 86400), ("h", 3600), ("m", 60)):
        if seconds >= 2 * length:
            return f"{seconds // length}{unit}"
    return f"{seconds}s"


def size(count: int | None) -> str:
    """Return a number of bytes for people."""
    if count is None:
        return ""
    amount = float(count)
    for unit in ("B", "kB", "MB", "GB"):
        if amount < 1000 or unit == "GB":
            break
        amount /= 1000
    return f"{amount:.3g} {unit}"


def short_digest(digest: str) -> str:
    """Return enough of a digest to tell it from others; the whole one is in `-o json`."""
    return digest[: len("sha256:") + 12]


def clip(text: str, width: int) -> str:
    """Return the text in one line of at most `width` characters."""
    line = " ".join(text.split())
    return line if len(line) <= width else line[: max(1, width - 1)].rstrip() + "…"


def printable(line: str) -> str:
    """Return the line without what would steer a terminal: logs and messages quote what users' models contain."""
    return "".join(letter if letter.isprintable() else "?" for letter in line)


def wrapped(text: str, indent: int, hanging: int = 0) -> list[str]:
    """Return the text broken at WIDTH, indented; a word that is too long (a command, a path) is left whole."""
    lines = textwrap.wrap(
        text,
        width=WIDTH,
        initial_indent=" " * indent,
        subsequent_indent=" " * (indent + hanging),
        break_long_words=False,
        break_on_hyphens=False,
    )
    return lines or []
