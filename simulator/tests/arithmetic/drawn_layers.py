"""Recipes of small random programs (`draw.py` draws their numbers): every kind of chain, and the arrangements
in which a mistake shows.
"""

import random
from collections.abc import Callable

from draw import AFFINE, ONE, Draw
from exact_numbers import EXPONENTS, Picture, Vector
from npu.chain import Kind, Stage
from npu.program import Program


def conv(d: Draw) -> None:
    side = d.choose(2, 3, 4)
    channels = d.choose(3, 17, 40) if side > 2 else d.choose(5, 129, 150)
    d.input(side, side, channels)
    d.add(Kind.CONV, 0, 1 + d.below(2), stage=d.stage(), **d.window(side, dilated=True))


def taps(d: Draw) -> None:
    """3 x 3 with padding and bias: what the float16 taps are for; other modes get it too."""
    d.input(2 + d.below(2), 3, d.choose(4, 12, 20))
    d.add(
        Kind.CONV,
        0,
        2,
        stage=Stage.BIAS | d.choose(Stage.NONE, Stage.RELU),
        kernel=(3, 3),
        pad=ONE,
        stride=d.choose(ONE, (2, 2)),
    )


def expand(d: Draw) -> None:
    side = 4 + d.below(4)
    d.input(side, side, 1 + d.below(3))
    k = d.choose(1, 3, 5, 7) if side > 6 else d.choose(1, 2, 3)
    stride = d.choose(2, 3)
    d.add(
        Kind.EXPAND,
        0,
        1 + d.below(2),
        stage=d.stage(),
        kernel=(k, k),
        stride=(stride, stride),
        pad=(k // 2, (k - 1) // 2),
    )


def max_pool(d: Draw) -> None:
    side = d.choose(3, 4)
    d.input(side, side + 1, d.choose(2, 9, 20))
    window = d.window(side)
    d.add(Kind.MAX_POOL, 0, **window)


def average_pool(d: Draw) -> None:
    side = d.choose(3, 4)
    d.input(side, side + 1, d.choose(2, 9, 20))
    d.add(Kind.AVERAGE_POOL, 0, stage=Stage.SCALE, **d.window(side))


def identity(d: Draw) -> None:
    d.input(2, 2, d.choose(7, 16, 33, 130))
    d.add(Kind.IDENTITY, 0, stage=d.choose(Stage.RELU, Stage.BIAS, AFFINE, AFFINE | Stage.RELU))


def residual(d: Draw) -> None:
    """A short cut that skips rows and columns, from the input itself."""
    step = d.choose(1, 2, 3)
    channels = d.choose(2, 4)
    d.input(3, 4, channels)
    d.add(
        Kind.CONV, 0, channels, stage=d.stage(), stride=(step, step), residual=0, residual_stride=(step, step)
    )


def concat(d: Draw) -> None:
    """A dense block's step: new numbers behind old ones, and all of them normalised."""
    d.input(2, 2, d.choose(3, 14, 30))
    k = d.choose(1, 2)
    new = d.add(Kind.CONV, 0, d.choose(2, 5), stage=d.stage(), kernel=(k, k), after=(k - 1, k - 1))
    both = d.add(Kind.CONCAT, 0, residual=new)
    last = d.add(Kind.IDENTITY, both, stage=AFFINE | Stage.RELU)
    d.outputs = d.choose((), (both, last), (last, new))


def network(d: Draw) -> None:
    """Many kinds one behind the other, and several outputs."""
    d.input(7, 7, 3)
    x = d.add(Kind.EXPAND, 0, 2, stage=Stage.BIAS | Stage.RELU, kernel=(3, 3), stride=(2, 2), pad=ONE)
    y = d.add(Kind.CONV, x, 2, stage=Stage.BIAS | Stage.RELU, kernel=(3, 3), pad=ONE)
    z = d.add(Kind.MAX_POOL, y, kernel=(2, 2), stride=(2, 2))
    w = d.add(Kind.CONV, z, 2, stage=AFFINE | Stage.RELU, residual=z)
    v = d.add(Kind.CONCAT, w, residual=z)
    u = d.add(Kind.AVERAGE_POOL, v, stage=Stage.SCALE, kernel=(2, 2), stride=(2, 2))
    d.outputs = d.choose((), (u, y), (y, w, u))


def extremes(d: Draw) -> None:
    """Weights with exponents that no compiler gives and any program may: sums beyond float32 and below it."""
    d.input(2, 2, d.choose(3, 20))
    d.add(Kind.CONV, 0, 4, stage=d.stage(), kernel=d.choose(ONE, (1, 2)))
    least, greatest = d.exponents_of_weights = EXPONENTS[d.form.exponent_bits]
    if d.chance(0.5):  # around what float32 just loses, or where the format ends
        d.exponents_of_weights = (
            (max(-150, least), max(-100, least + 8)) if d.chance(0.5) else (greatest - 8, greatest)
        )


def cancelling(d: Draw) -> None:
    """Taps that cancel in pairs with a span of some 40 bits: every addition loses something else."""
    d.input(3, 3, 3)
    d.add(Kind.CONV, 0, 2, stage=Stage.BIAS, kernel=(3, 3))
    d.vectors[0] = [0.0] * 2
    for filters in d.filters[0]:
        for one, other in pairs(d):
            filters[one] = d.vector(3, 20)
            filters[other] = [-w for w in filters[one]]


def pairs(d: Draw) -> list[tuple[int, int]]:
    """The taps of a 3 x 3 window without its middle, in pairs; the same whenever it is asked for."""
    order = [0, 1, 2, 3, 5, 6, 7, 8]
    random.Random(d.name).shuffle(order)
    return list(zip(order[::2], order[1::2], strict=True))


def cancelling_picture(d: Draw) -> Picture:
    """The same numbers under the taps whose weights cancel, and none in the middle."""
    picture = Draw.picture(d)
    for one, other in pairs(d):
        picture[other // 3][other % 3] = picture[one // 3][one % 3]
    picture[1][1] = [0.0] * 3
    return picture


def far_apart(d: Draw) -> None:
    """Three blocks along the depth: as much as there can be, as little, and the first one away again."""
    box = d.form.box
    d.input(1, 1, 2 * box + 1 + d.below(3))
    d.add(Kind.CONV, 0, 2, stage=Stage.BIAS)
    d.vectors[0] = [0.0] * 2
    for filters in d.filters[0]:
        filters[0] = arranged(d, 30000.0, d.number(0), -30000.0)


def far_apart_picture(d: Draw) -> Picture:
    return [[arranged(d, 30000.0, d.number(-14), 30000.0)]]


def arranged(d: Draw, much: float, little: float, away: float) -> Vector:
    """The three blocks' numbers, in the order that belongs to this program."""
    box, length = d.form.box, d.tensors[0].channels
    rest = length - 2 * box
    parts = [[number] * rest + [0.0] * (box - rest) for number in (much, little, away)]
    random.Random(d.name).shuffle(parts)
    return [number for part in parts for number in part][:length]


def zeros(d: Draw) -> None:
    """Zeros of both signs through everything that can tell them apart."""
    d.input(3, 3, 3)
    signed = d.add(Kind.IDENTITY, 0, stage=AFFINE)
    d.vectors[-1] = [-1.0, 1.0, -0.5] + [-0.0] * 3
    traces = d.add(Kind.CONV, 0, 3, stage=Stage.BIAS, residual=d.choose(None, 0))
    d.filters[-1] = [[[0.0, -(2.0**-16), 0.0]], [[0.0, 0.0, -(2.0**-16)]], [[2.0**-16, -(2.0**-16), 0.0]]]
    d.vectors[-1] = [-0.0] * 3
    pooled = d.add(Kind.MAX_POOL, signed, kernel=(2, 2))
    averaged = d.add(Kind.AVERAGE_POOL, signed, stage=Stage.SCALE, kernel=(1, 2))
    both = d.add(Kind.CONCAT, signed, residual=0)
    more = d.add(Kind.CONCAT, both, residual=signed)
    positive = d.add(Kind.IDENTITY, signed, stage=Stage.RESIDUAL | Stage.RELU, residual=signed)
    d.outputs = (traces, pooled, averaged, both, more, positive)


def zeros_picture(d: Draw) -> Picture:
    return [
        [[d.choose(0.0, -0.0, -0.0, -1.0, 2.0**-16) for _ in range(3)] for _ in range(3)] for _ in range(3)
    ]


def tie(d: Draw) -> None:
    """Three taps: a number, half a unit of its last float16 digit, and a trace of either sign."""
    d.input(1, 3, 2)
    d.add(Kind.CONV, 0, 1, stage=Stage.BIAS, kernel=(1, 3))
    d.filters[0] = [[[1.0, 0.0], [1.0, 0.0], [2.0**-12, 0.0]]]
    d.vectors[0] = [d.choose(0.0, -0.0)]


def tie_picture(d: Draw) -> Picture:
    exponent = 6 + d.below(6)
    trace = d.choose(-1, 1) * 2.0**-12
    return [[[(4 + d.below(4)) * 2.0 ** (exponent - 2), 0.0], [2.0 ** (exponent - 11), 0.0], [trace, 0.0]]]


RECIPES: dict[str, Callable[[Draw], None]] = {
    recipe.__name__: recipe
    for recipe in (
        conv,
        taps,
        expand,
        max_pool,
        average_pool,
        identity,
        residual,
        concat,
        network,
        cancelling,
        far_apart,
        extremes,
        zeros,
        tie,
    )
}
PICTURES = {
    "cancelling": cancelling_picture,
    "far_apart": far_apart_picture,
    "zeros": zeros_picture,
    "tie": tie_picture,
}


def drawn(name: str, seed: int) -> tuple[Program, Picture]:
    """The program of that recipe and seed, and its input."""
    draw = Draw(name, seed)
    RECIPES[name](draw)
    picture = PICTURES.get(name, Draw.picture)(draw)
    return draw.program(), picture
