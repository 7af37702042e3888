"""Tables as text: for people, in columns."""

from collections.abc import Sequence

__all__ = ["columns", "printable"]


def columns(rows: Sequence[Sequence[str]]) -> str:
    """Rows of as many cells each, the first is the heading; every column as wide as its widest cell."""
    rows = [[printable(cell) for cell in row] for row in rows]
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    lines = [
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows
    ]
    return "\n".join(lines) + "\n"


def printable(text: str) -> str:
    """The text on one line without a terminal's commands: names come from strangers' models."""
    return "".join(letter if letter.isprintable() else "?" for letter in text)
