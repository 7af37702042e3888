"""A roofline picture: what each layer reaches of what arithmetic and DRAM allow, as SVG.

Across: operations per byte of weights from DRAM. Up: operations per second. Both logarithmic. Layers that lie on
each other are one circle; its area is their share of the time, its colour what bounds them. A layer lies above the
DRAM's roof when its weights came while the layer before computed.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field
from math import log10, sqrt
from xml.sax.saxutils import escape

from npu.drawing import FONT, Box, amount, label, length, pieces_of, text, ticks
from npu.sku import Sku
from npu.timing import Estimate, LayerTime

__all__ = ["render"]

WIDTH, HEIGHT = 960, 600
LEFT, RIGHT, TOP, BOTTOM = 80.0, 930.0, 90.0, 530.0
COLOURS = {
    "compute": "#4f46e5",
    "dram": "#dc2626",
    "issue": "#d97706",
    "latency": "#0891b2",
    "host": "#64748b",
}
FRAME = Box(LEFT, TOP, RIGHT, BOTTOM)
LABELS = 10
FAMILY = 'font-family="DejaVu Sans, Helvetica, Arial, sans-serif"'
MARGIN = 0.35  # decades around the points
NEAR = 7.0  # layers whose circles' middles are closer are one circle
LONGEST = 34  # letters of a name


@dataclass
class _Point:
    """Layers at one place: pixels, share of the time."""

    x: float
    y: float
    bound_by: str
    share: float = 0.0
    layers: list[LayerTime] = field(default_factory=list)

    @property
    def radius(self) -> float:
        return 3.0 + 40.0 * sqrt(self.share) / sqrt(10)

    @property
    def box(self) -> Box:
        r = self.radius
        return Box(self.x - r, self.y - r, self.x + r, self.y + r)

    @property
    def circle(self) -> tuple[float, float, float]:
        return self.x, self.y, self.radius

    @property
    def label(self) -> str:
        name = max(self.layers, key=lambda layer: layer.total_cycles).name
        name = "".join(letter if letter.isprintable() else "?" for letter in name)
        name = name if len(name) <= LONGEST else "…" + name[1 - LONGEST :]
        more = len(self.layers) - 1
        return f"{name} and {more} more" if more else name


class _Axes:
    """From operations per byte and per second to pixels."""

    def __init__(self, sku: Sku, layers: list[LayerTime]) -> None:
        self.peak = 2.0 * sku.macs * sku.clock_hz
        self.bandwidth = float(sku.dram_bytes_per_second)
        across = [_intensity(layer) for layer in layers] + [self.peak / self.bandwidth]
        up = [_speed(layer, sku) for layer in layers] + [self.peak]
        self.x0, self.x1 = log10(min(across)) - MARGIN, log10(max(across)) + MARGIN
        self.y0, self.y1 = log10(min(up)) - MARGIN, log10(max(up)) + MARGIN

    def x(self, operations_per_byte: float) -> float:
        part = (log10(operations_per_byte) - self.x0) / (self.x1 - self.x0)
        return LEFT + part * (RIGHT - LEFT)

    def y(self, per_second: float) -> float:
        part = (log10(per_second) - self.y0) / (self.y1 - self.y0)
        return BOTTOM - part * (BOTTOM - TOP)

    def roof(self) -> list[tuple[float, float]]:
        """The roof's corners, cut off at the picture's edges."""
        start = max(10.0**self.x0, 10.0**self.y0 / self.bandwidth)
        ridge = self.peak / self.bandwidth
        return [
            (self.x(start), self.y(start * self.bandwidth)),
            (self.x(ridge), self.y(self.peak)),
            (RIGHT, self.y(self.peak)),
        ]


def render(estimate: Estimate, sku: Sku) -> str:
    """The picture of one estimate; layers without multiplications have no place in it."""
    layers = [layer for layer in estimate.layers if layer.macs]
    axes = _Axes(sku, layers)
    points = _points(layers, axes, sku)
    roof = axes.roof()
    corner = roof[1]
    line = " ".join(f"{x:.1f},{y:.1f}" for x, y in roof)
    bandwidth = f"DRAM, {sku.dram_bytes_per_second / 1e9:g} GB/s"
    peak = f"matrix unit, {axes.peak / 1e12:.2f} TOPS"
    taken = [*pieces_of(roof), *(point.box for point in points)]
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" {FAMILY} font-size="{FONT}">',
        f'<rect width="{WIDTH}" height="{HEIGHT}" fill="#ffffff"/>',
        text(LEFT, 28, f"Roofline: {estimate.precision} on {sku.name}", size=17, weight="bold"),
        text(
            LEFT,
            50,
            f"{estimate.latency_ms:.3f} ms a picture, {estimate.inferences_per_second:.0f} a second, "
            f"bound by {estimate.bound_by}",
        ),
        *_grid(axes),
        f'<polyline points="{line}" fill="none" stroke="#0f172a" stroke-width="2"/>',
    ]
    for words, spots in (
        (peak, _along(corner, length(peak))),
        (bandwidth, _beside(roof[0], corner, length(bandwidth))),
    ):
        parts += label(words, spots, taken, FRAME, "#0f172a")
    labels: list[str] = []
    for point in points[:LABELS]:
        labels += label(point.label, _around(point), taken, FRAME, COLOURS[point.bound_by], point.circle)
    parts += [
        f'<circle cx="{point.x:.1f}" cy="{point.y:.1f}" r="{point.radius:.1f}" fill="{COLOURS[point.bound_by]}" '
        f'fill-opacity="0.45" stroke="{COLOURS[point.bound_by]}"><title>{escape(point.label)}: '
        f"{100 * point.share:.1f} % of the time</title></circle>"
        for point in points
    ]
    parts += labels
    parts += _legend({point.bound_by for point in points})
    return "\n".join([*parts, "</svg>"]) + "\n"


def _points(layers: list[LayerTime], axes: _Axes, sku: Sku) -> list[_Point]:
    """Circles, those with the most time first."""
    whole = sum(layer.total_cycles for layer in layers)
    points: list[_Point] = []
    for layer in sorted(layers, key=lambda layer: -layer.total_cycles):
        x, y = axes.x(_intensity(layer)), axes.y(_speed(layer, sku))
        for point in points:
            if point.bound_by == layer.bound_by and abs(point.x - x) + abs(point.y - y) < NEAR:
                break
        else:
            point = _Point(x, y, layer.bound_by)
            points.append(point)
        point.share += layer.total_cycles / whole
        point.layers.append(layer)
    return sorted(points, key=lambda point: -point.share)


def _intensity(layer: LayerTime) -> float:
    return 2 * layer.macs / (layer.loaded_bytes or layer.weight_bytes)


def _speed(layer: LayerTime, sku: Sku) -> float:
    return 2 * layer.macs * sku.clock_hz / layer.total_cycles


def _grid(axes: _Axes) -> Iterator[str]:
    yield (
        f'<rect x="{LEFT}" y="{TOP}" width="{RIGHT - LEFT}" height="{BOTTOM - TOP}" fill="none" stroke="#cbd5e1"/>'
    )
    for value in ticks(axes.x0, axes.x1):
        x = axes.x(value)
        yield f'<path d="M{x:.1f} {TOP}V{BOTTOM}" stroke="#e2e8f0"/>'
        yield text(x, BOTTOM + 18, amount(value), anchor="middle", colour="#475569")
    for value in ticks(axes.y0, axes.y1):
        y = axes.y(value)
        yield f'<path d="M{LEFT} {y:.1f}H{RIGHT}" stroke="#e2e8f0"/>'
        yield text(LEFT - 8, y + 4, amount(value), anchor="end", colour="#475569")
    middle = (LEFT + RIGHT) / 2
    yield text(middle, BOTTOM + 40, "operations per byte of weights from DRAM", anchor="middle")
    yield text(LEFT, TOP - 8, "operations a second", anchor="start", colour="#475569")


def _along(corner: tuple[float, float], wide: float) -> Iterator[tuple[float, float]]:
    """Where the flat roof's label may begin: above it or below, from the right to the corner."""
    for y in (corner[1] - 8, corner[1] + FONT + 6, corner[1] - 26):
        x = RIGHT - wide - 4
        while x > corner[0] - wide / 2:
            yield x, y
            x -= 12


def _beside(
    start: tuple[float, float], end: tuple[float, float], wide: float
) -> Iterator[tuple[float, float]]:
    """Where a slope's label may begin: left of it, right of it, along its length."""
    for part in (0.5, 0.6, 0.4, 0.7, 0.3, 0.8, 0.2, 0.9):
        x, y = start[0] + part * (end[0] - start[0]), start[1] + part * (end[1] - start[1])
        yield x - wide - 12, y
        yield x + 12, y + FONT


def _around(point: _Point) -> Iterator[tuple[float, float]]:
    """Where a label may begin: right, left, below, above, then farther off."""
    wide = length(point.label)
    for away in (4.0, 16.0, 30.0, 46.0, 64.0):
        r = point.radius + away
        for dy in (4.0, 4 + away, 4 - away):
            yield point.x + r, point.y + dy
            yield point.x - r - wide, point.y + dy
        for dx in (-wide / 2, -wide, 0.0):
            yield point.x + dx, point.y + r + FONT
            yield point.x + dx, point.y - r


def _legend(used: set[str]) -> Iterator[str]:
    x = LEFT
    for name, colour in COLOURS.items():
        if name in used:
            paint = f'fill="{colour}" fill-opacity="0.45" stroke="{colour}"'
            yield f'<circle cx="{x + 6:.0f}" cy="{HEIGHT - 11}" r="6" {paint}/>'
            yield text(x + 18, HEIGHT - 7, f"bound by {name}", colour="#0f172a")
            x += 40 + length(f"bound by {name}")
