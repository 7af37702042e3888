"""When weights go from DRAM into the matrix registers: two buffers, one of which fills while the other computes.

A *fill* is what one buffer holds at a time: part of one chain, or the weights of chains that run row by row
together and therefore stay side by side. Loads that follow each other into the same buffer are one fill. Knows
nothing of time: `npu.timing` runs on this plan.
"""

from collections.abc import Iterator, Sequence
from itertools import groupby

from npu.chain import Chain, Kind, Load, Tensor
from npu.sku import Sku

__all__ = ["BANDS", "MATRIX_BUFFER_TILES", "bands_of", "load_contradiction", "plan_loads", "tiles_of"]

MATRIX_BUFFER_TILES = 64  # V: the firmware splits the matrix registers 0/64, whatever else the machine has

BANDS = (
    4  # of rows; a tile takes 232 cycles to load (D), a quarter of the rows of 37 x 37 takes 342 to compute
)


def plan_loads(chains: Sequence[Chain], tensors: Sequence[Tensor], sku: Sku) -> tuple[Load, ...]:
    """Return every load in the order of execution; none if all weights fit the registers and stay there.

    A chain alone is cut at output tiles, as many as fit a buffer; if one output tile's weights are more than a
    buffer, they come in parts along ky, kx, depth and the partial sums wait in the matrix unit. Each part takes
    the buffer that the part before does not compute from. Chains of one group share a fill, or take both
    buffers; a group with more weights than both hold runs in bands of rows, and all its weights come again for
    each. Never plans with more than the firmware's buffers, so that a plan for a larger SKU runs on a
    smaller one.
    """
    room = min(MATRIX_BUFFER_TILES, sku.matrix_rf // 2)
    if tiles_of(chains, tensors) <= 2 * room:
        return ()
    loads: list[Load] = []
    buffer = 0
    for _, members in groupby(range(len(chains)), key=lambda index: chains[index].group):
        group = list(members)
        bands = bands_of([chains[index] for index in group], tensors)
        if bands:
            fills = [fill for index in group for fill in _parts(index, chains, tensors, room)] * bands
        else:
            fills = list(_resident(group, chains, tensors, room))
        for fill in fills:
            loads += [Load(chain, first, tiles, buffer) for chain, first, tiles in fill]
            buffer = 1 - buffer
    return tuple(loads)


def load_contradiction(
    chains: Sequence[Chain], tensors: Sequence[Tensor], loads: Sequence[Load]
) -> str | None:
    """What is wrong with somebody's plan; None if it feeds every chain, in order, from buffers that are free."""
    if not loads:
        fits = tiles_of(chains, tensors) <= 2 * MATRIX_BUFFER_TILES
        return None if fits else "its weights are loaded nowhere and do not all fit the matrix registers"
    at = 0
    for _, found in groupby(range(len(chains)), key=lambda index: chains[index].group):
        group = list(found)
        bands = bands_of([chains[index] for index in group], tensors)
        stay = bands == 0
        start, fills, held = at, 0, 0
        for chain in group * max(1, bands):
            tiles = _tiles(chain, chains, tensors)
            done = 0
            while done < tiles:
                load = loads[at] if at < len(loads) else None
                if load is None or (load.chain, load.first) != (chain, done):
                    return f"load {at} is not of chain {chain} from tile {done} on"
                if load.buffer not in (0, 1):
                    return f"load {at} goes into buffer {load.buffer}, which is neither 0 nor 1"
                if at == 0 or loads[at - 1].buffer != load.buffer:
                    fills, held = fills + 1, 0
                elif at == start or not stay:
                    return f"load {at} goes into the buffer that chain {loads[at - 1].chain} computes from"
                held += load.tiles
                if not 0 < load.tiles <= tiles - done or held > MATRIX_BUFFER_TILES:
                    return f"load {at} has {load.tiles} tiles, or more than a buffer holds"
                at, done = at + 1, done + load.tiles
        if stay and fills > 2:
            return f"the group of chain {group[0]} is not in the matrix registers as a whole"
    return None if at == len(loads) else f"load {at} is of no chain"


def bands_of(group: Sequence[Chain], tensors: Sequence[Tensor]) -> int:
    """How often the weights of these chains, which run together, come from DRAM; 0 if they all come before and stay.

    A chain by itself needs each of its weights once.
    """
    if len(group) == 1:
        return 1
    if tiles_of(group, tensors) <= 2 * MATRIX_BUFFER_TILES:
        return 0
    return min(BANDS, tensors[group[-1].target].height)


def tiles_of(chains: Sequence[Chain], tensors: Sequence[Tensor]) -> int:
    """Weight tiles of all these chains."""
    return sum(chain.tiles(tensors[chain.source], tensors[chain.target]) for chain in chains)


def _tiles(index: int, chains: Sequence[Chain], tensors: Sequence[Tensor]) -> int:
    return tiles_of(chains[index : index + 1], tensors)


def _parts(
    index: int, chains: Sequence[Chain], tensors: Sequence[Tensor], room: int
) -> Iterator[list[tuple[int, int, int]]]:
    """Fills of one chain by itself: whole output tiles where possible."""
    tiles = _tiles(index, chains, tensors)
    matrix = chains[index].kind in (Kind.CONV, Kind.EXPAND)  # what else there is has one identity tile
    per_output = tiles // tensors[chains[index].target].depth if matrix else tiles
    outputs = range(0, tiles, per_output * max(1, room // per_output))
    for start, stop in zip(outputs, (*outputs[1:], tiles), strict=True):
        for first in range(start, stop, room):
            yield [(index, first, min(room, stop - first))]


def _resident(
    group: Sequence[int], chains: Sequence[Chain], tensors: Sequence[Tensor], room: int
) -> Iterator[list[tuple[int, int, int]]]:
    """Fills of a group that stays: chain behind chain, into one buffer if it is enough."""
    fill: list[tuple[int, int, int]] = []
    free = room
    for index in group:
        first, left = 0, _tiles(index, chains, tensors)
        while left:
            if not free:
                yield fill
                fill, free = [], room
            held = min(free, left)
            fill.append((index, first, held))
            first, left, free = first + held, left - held, free - held
    yield fill
