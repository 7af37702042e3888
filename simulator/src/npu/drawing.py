"""Text and lines of a picture as SVG: labels that keep off each other, ticks of logarithmic axes."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import pairwise
from math import ceil, floor, hypot, log10
from xml.sax.saxutils import escape

__all__ = ["FONT", "Box", "amount", "label", "length", "pieces_of", "text", "ticks"]

FONT = 12
ADVANCE = 0.62  # of the font's size: the mean width of a letter, generously


@dataclass(frozen=True)
class Box:
    """A rectangle in pixels; down is larger."""

    left: float
    top: float
    right: float
    bottom: float

    def meets(self, other: "Box") -> bool:
        """Whether they share any pixel."""
        return (
            self.left < other.right
            and other.left < self.right
            and self.top < other.bottom
            and other.top < self.bottom
        )

    def covers(self, circle: tuple[float, float, float]) -> bool:
        """Whether the circle's middle lies inside."""
        return self.left < circle[0] < self.right and self.top < circle[1] < self.bottom

    def holds(self, other: "Box") -> bool:
        """Whether the other lies inside."""
        return (
            self.left <= other.left
            and other.right <= self.right
            and self.top <= other.top
            and other.bottom <= self.bottom
        )


def label(
    words: str,
    spots: Iterable[tuple[float, float]],
    taken: list[Box],
    frame: Box,
    colour: str,
    circle: tuple[float, float, float] | None = None,
) -> list[str]:
    """The words at the first spot (where they begin) that is free and in the frame, or nothing; `taken` grows by it.

    Far off, a line leads to the circle (x, y, radius) that they name.
    """
    for x, y in spots:
        box = Box(x - 2, y - FONT, x + length(words) + 2, y + 4)
        line = _leader(box, circle) if circle else []
        dots = list(pieces_of(line, 1))
        others = [other for other in taken if circle is None or not other.covers(circle)]
        if frame.holds(box) and not any(
            mine.meets(other)
            for mine, against in ((box, taken), *((dot, others) for dot in dots))
            for other in against
        ):
            taken += [box, *dots]
            return [*_drawn(line, colour), text(x, y, words, colour=colour)]
    return []


def _leader(box: Box, circle: tuple[float, float, float]) -> list[tuple[float, float]]:
    """From the circle's edge to the box, if that is far."""
    middle_x, middle_y, radius = circle
    x, y = min(max(middle_x, box.left), box.right), min(max(middle_y, box.top), box.bottom)
    far = hypot(x - middle_x, y - middle_y)
    if far <= radius + 8:
        return []
    return [(middle_x + (x - middle_x) * radius / far, middle_y + (y - middle_y) * radius / far), (x, y)]


def _drawn(line: list[tuple[float, float]], colour: str) -> Iterator[str]:
    if line:
        (x0, y0), (x, y) = line
        yield f'<path d="M{x0:.1f} {y0:.1f}L{x:.1f} {y:.1f}" stroke="{colour}" stroke-opacity="0.6"/>'


def pieces_of(corners: list[tuple[float, float]], half: float = 4) -> Iterator[Box]:
    """Small boxes along a line of these corners, so that labels keep off it; `half` is half their side."""
    for (x0, y0), (x1, y1) in pairwise(corners):
        pieces = max(1, int(max(abs(x1 - x0), abs(y1 - y0)) // 6))
        for piece in range(pieces + 1):
            x, y = x0 + (x1 - x0) * piece / pieces, y0 + (y1 - y0) * piece / pieces
            yield Box(x - half, y - half, x + half, y + half)


def ticks(low: float, high: float) -> Iterator[float]:
    """1, 2 and 5 times the powers of ten; the powers alone where there are many."""
    digits = (1, 2, 5) if high - low < 3.5 else (1,)
    for power in range(floor(low), ceil(high)):
        for digit in digits:
            if low <= log10(digit) + power <= high:
                yield digit * 10.0**power


def amount(value: float) -> str:
    """The number with k, M, G or T."""
    for size, unit in ((1e12, "T"), (1e9, "G"), (1e6, "M"), (1e3, "k")):
        if value >= size:
            return f"{value / size:g} {unit}"
    return f"{value:g}"


def length(words: str) -> float:
    """Pixels that the words take, rather too many than too few."""
    return ADVANCE * FONT * len(words)


def text(
    x: float,
    y: float,
    words: str,
    *,
    anchor: str = "start",
    size: int = FONT,
    weight: str = "normal",
    colour: str = "#0f172a",
) -> str:
    """Words at a place; `anchor` is SVG's."""
    return (
        f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}" font-size="{size}" font-weight="{weight}" '
        f'fill="{colour}">{escape(words)}</text>'
    )
