"""When weights go from DRAM into the matrix registers: two buffers, one of which fills while the other computes.

A *fill* is what one buffer holds at a time: part of one chain, or the weights of chains that run row by row
together and therefore stay side by side. Loads that follow each other into the same buffer are one fill. Knows
nothing of time: `npu.timing` runs on this plan.
"""

from collections.abc import Iterator, Sequence
from itertools import groupby

from npu.chain import Chain, Kind, Load, Tensor
from npu.sku import Sku

__all__ = ["MATRIX_BUFFER_TILES", "load_contradiction", "plan_loads", "tiles_of"]

MATRIX_BUFFER_TILES = 64  # V: the firmware splits the matrix registers 0/64, whatever else the machine has


def plan_loads(chains: Sequence[Chain], tensors: Sequence[Tensor], sku: Sku) -> tuple[Load, ...]:
    """Return every load in the order of execution; none if all weights fit the registers and stay there.

    A chain alone is cut at output tiles, as many as fit a buffer; if one output tile's weights are more than a
    buffer, they come in parts along ky, kx, depth and the partial sums wait in the matrix unit. Each part takes
    the buffer that the part before does not compute from. Chains of one group share a fill, or take both
    buffers. Never plans with more than the firmware's buffers, so that a plan for a larger SKU runs on a
    smaller one.
    """
    room = min(MATRIX_BUFFER_TILES, sku.matrix_rf // 2)
    if tiles_of(chains, tensors) <= 2 * room:
        return ()
    loads: list[Load] = []
    buffer = 0
    for _, members in groupby(range(len(chains)), key=lambda index: chains[index].group):
        group = list(members)
        fills = (
            _resident(group, chains, tensors, room)
            if len(group) > 1
            else _parts(group[0], chains, tensors, room)
        )
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
    expected, held = (0, 0), 0  # the next chain and tile; tiles in the fill at hand
    for index, load in enumerate(loads):
        before = loads[index - 1] if index else None
        chain, first = expected
        if chain == len(chains) or (load.chain, load.first) != expected or load.buffer not in (0, 1):
            return (
                f"load {index} is not of chain {chain} from tile {first} on, or its buffer is neither 0 nor 1"
            )
        left = _tiles(chain, chains, tensors) - first
        same = before is not None and before.buffer == load.buffer
        if before is not None and same and chains[before.chain].group != chains[chain].group:
            return f"load {index} goes into the buffer that chain {before.chain} computes from"
        if before is not None and same and before.chain == chain:
            return f"load {index} continues the load before it"
        held = load.tiles + (held if same else 0)
        if not 0 < load.tiles <= left or held > MATRIX_BUFFER_TILES:
            return f"load {index} has {load.tiles} tiles, or more than a buffer holds"
        expected = (chain + 1, 0) if load.tiles == left else (chain, first + load.tiles)
    if expected != (len(chains), 0):
        return f"chain {expected[0]} is not loaded whole"
    for _, members in groupby(loads, key=lambda load: chains[load.chain].group):
        run = list(members)
        together = len({load.chain for load in run}) > 1
        if together and len(list(groupby(load.buffer for load in run))) > 2:
            return f"the group of chain {run[0].chain} is not in the matrix registers as a whole"
    return None


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
