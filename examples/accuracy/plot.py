"""Accuracy against mantissa bits, as an SVG drawn by hand: no library, the same bytes everywhere.

The vertical axis is the logarithm of the error, so that 99 % and 99.5 % can be told apart.
"""

from math import log10
from pathlib import Path

from npu import bfp

from examples.accuracy.results import FLOAT32, TUNED, NetworkResult

__all__ = ["FILE", "svg"]

FILE = Path(__file__).resolve().parents[2] / "docs" / "accuracy.svg"
WIDTH, HEIGHT = 740, 420
LEFT, RIGHT, TOP, BOTTOM = 76, 206, 44, 56
COLOURS = ("#1f5fa8", "#c4561b", "#3d7d3d")
TICKS = (0.0, 0.5, 0.8, 0.9, 0.95, 0.98, 0.99, 0.995, 0.998, 0.999)
BITS = range(1, 8)


def svg(results: list[NetworkResult]) -> str:
    """The picture: a curve per network, float32 as a dashed line, the formats of other boxes and tuning as marks."""
    shares = [outcome.accuracy for r in results for outcome in r.outcomes]
    ticks = _ticks(min(shares), max(shares))
    low, high = _height(ticks[0]), _height(ticks[-1])

    def x(bits: float) -> float:
        return LEFT + (bits - 0.5) / 7 * (WIDTH - LEFT - RIGHT)

    def y(share: float) -> float:
        return HEIGHT - BOTTOM - (_height(share) - low) / (high - low) * (HEIGHT - TOP - BOTTOM)

    parts = [_text(LEFT, 24, "Accuracy on held-out pictures against mantissa bits", size=15, weight="bold")]
    for tick in ticks:
        parts.append(_line(LEFT, y(tick), WIDTH - RIGHT, y(tick), "#dddddd"))
        parts.append(_text(LEFT - 8, y(tick) + 4, f"{100 * tick:g} %", anchor="end"))
    parts += [_text(x(bits), HEIGHT - BOTTOM + 18, str(bits), anchor="middle") for bits in BITS]
    for name in ("ms-fp8", "ms-fp9", "msfp-a10"):
        place = x(bfp.PRESETS[name].mantissa_bits)
        parts.append(_line(place, TOP, place, HEIGHT - BOTTOM, "#eeeeee"))
        parts.append(_text(place, HEIGHT - BOTTOM + 32, name, anchor="middle", colour="#666666", size=11))
    middle = (LEFT + WIDTH - RIGHT) / 2
    parts.append(
        _text(middle, HEIGHT - 8, "mantissa bits; one 5-bit exponent per 128 numbers", anchor="middle")
    )
    legend = TOP + 8.0
    for result, colour in zip(results, COLOURS, strict=False):
        curve = sorted((o.mantissa_bits or 0, o.accuracy) for o in result.outcomes if not o.official)
        points = " ".join(f"{x(bits):.1f},{y(share):.1f}" for bits, share in curve)
        parts.append(f'<polyline points="{points}" fill="none" stroke="{colour}" stroke-width="2"/>')
        parts += [_circle(x(bits), y(share), colour) for bits, share in curve]
        level = y(result.outcome(FLOAT32).accuracy)
        parts.append(_line(LEFT, level, WIDTH - RIGHT, level, colour, dashed=True))
        parts += [
            _square(x(bfp.PRESETS[name].mantissa_bits), y(result.outcome(name).accuracy), colour)
            for name in ("msfp12", "msfp16")
        ]
        tuned = result.outcome(TUNED)
        parts.append(_diamond(x(tuned.mantissa_bits or 0), y(tuned.accuracy), colour))
        legend = _legend(parts, result.network, colour, legend)
    parts.append(_line(LEFT, TOP, LEFT, HEIGHT - BOTTOM, "#444444"))
    parts.append(_line(LEFT, HEIGHT - BOTTOM, WIDTH - RIGHT, HEIGHT - BOTTOM, "#444444"))
    body = "\n".join(parts)
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" width="{WIDTH}" height="{HEIGHT}" '
        f'font-family="sans-serif" font-size="12">\n<rect width="{WIDTH}" height="{HEIGHT}" fill="white"/>\n'
        f"{body}\n</svg>\n"
    )


def _legend(parts: list[str], name: str, colour: str, top: float) -> float:
    left = WIDTH - RIGHT + 16.0
    parts.append(_text(left, top, f"network {name}", weight="bold", colour=colour))
    for row, (mark, label) in enumerate(
        (
            (_circle(left + 8, 0, colour), "as trained"),
            (_diamond(left + 8, 0, colour), "ms-fp8, fine-tuned"),
            (_square(left + 8, 0, colour), "msfp12, msfp16 (box 16)"),
            (_line(left, 0, left + 16, 0, colour, dashed=True), "float32"),
        ),
        1,
    ):
        parts.append(f'<g transform="translate(0 {top + 18 * row - 4:.1f})">{mark}</g>')
        parts.append(_text(left + 24, top + 18 * row, label))
    return top + 18 * 5 + 16


def _ticks(lowest: float, highest: float) -> list[float]:
    """Those of TICKS that span the shares, with one to spare where there is one."""
    first = max(i for i, tick in enumerate(TICKS) if tick <= lowest)
    last = next((i for i, tick in enumerate(TICKS) if tick > highest), len(TICKS) - 1)
    return list(TICKS[first : last + 1])


def _height(share: float) -> float:
    return -log10(max(1 - share, 1e-4))


def _text(
    x: float,
    y: float,
    text: str,
    *,
    anchor: str = "start",
    colour: str = "#222222",
    size: int = 12,
    weight: str = "",
) -> str:
    style = f'text-anchor="{anchor}" fill="{colour}" font-size="{size}"' + (
        f' font-weight="{weight}"' if weight else ""
    )
    return f'<text x="{x:.1f}" y="{y:.1f}" {style}>{text}</text>'


def _line(x1: float, y1: float, x2: float, y2: float, colour: str, *, dashed: bool = False) -> str:
    dash = ' stroke-dasharray="5 4"' if dashed else ""
    return f'<line x1="{x1:.1f}" y1="{y1:.1f}" x2="{x2:.1f}" y2="{y2:.1f}" stroke="{colour}"{dash}/>'


def _circle(x: float, y: float, colour: str) -> str:
    return f'<circle cx="{x:.1f}" cy="{y:.1f}" r="4" fill="{colour}"/>'


def _square(x: float, y: float, colour: str) -> str:
    return (
        f'<rect x="{x - 4.5:.1f}" y="{y - 4.5:.1f}" width="9" height="9" fill="white" stroke="{colour}" '
        'stroke-width="2"/>'
    )


def _diamond(x: float, y: float, colour: str) -> str:
    points = f"{x:.1f},{y - 7:.1f} {x + 7:.1f},{y:.1f} {x:.1f},{y + 7:.1f} {x - 7:.1f},{y:.1f}"
    return f'<polygon points="{points}" fill="white" stroke="{colour}" stroke-width="2"/>'
