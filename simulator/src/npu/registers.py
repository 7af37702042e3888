"""Which vector registers hold which tensor, row-wise fusion where a layer does not fit, and what a SKU must
have.

A tensor that does not fit is *streamed*: its one reader follows at once and consumes it row by row, so only
the lines under one window exist. That changes when things happen, and never a bit of the result.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

from npu.chain import Chain, Files, Kind, Need, Stage, Tensor
from npu.errors import CompileError, DoesNotFit
from npu.schedule import MATRIX_BUFFER_TILES
from npu.sku import Sku

__all__ = ["MATRIX_BUFFER_TILES", "allocate", "contradiction", "need_of"]

FILES = (Files.MATRIX, Files.FLOAT16)


@dataclass(frozen=True)
class _Place:
    """One tensor in one file: size in vectors, first and last step at which it lives, address once found."""

    tensor: int
    size: int
    first: int
    last: int
    address: int = 0

    def meets(self, other: "_Place") -> bool:
        return self.first <= other.last and other.first <= self.last

    def overlaps(self, other: "_Place") -> bool:
        return self.address < other.address + other.size and other.address < self.address + self.size


def allocate(
    chains: Sequence[Chain], tensors: Sequence[Tensor], names: Sequence[str], sku: Sku
) -> tuple[tuple[Chain, ...], tuple[Tensor, ...]]:
    """Return chains with their groups and tensors with their files and addresses.

    Raises CompileError, which names the layer and the vectors it needs, when even row-wise fusion does not
    help.
    """
    kept = [replace(tensor, files=_files(index, chains)) for index, tensor in enumerate(tensors)]
    while True:
        grouped = _group(chains, kept)
        tight: set[int] = set()
        for file in FILES:
            places, missing = _place(grouped, kept, file, sku)
            tight |= missing
            for place in places:
                tensor = kept[place.tensor]
                if file is Files.MATRIX:
                    kept[place.tensor] = replace(tensor, matrix_address=place.address)
                else:
                    kept[place.tensor] = replace(tensor, float16_address=place.address)
        if not tight:
            return tuple(grouped), tuple(kept)
        candidates = [index for index in tight if _may_stream(index, grouped, kept)]
        if not candidates:
            raise _too_large(tight, chains, kept, names, sku)
        chosen = max(candidates, key=lambda index: (kept[index].vectors, -index))
        kept[chosen] = replace(kept[chosen], files=kept[chosen].files | Files.STREAMED)


def contradiction(chains: Sequence[Chain], tensors: Sequence[Tensor]) -> str | None:
    """What is wrong with the files, groups and addresses of somebody's program; None if nothing."""
    for index, tensor in enumerate(tensors):
        if tensor.files & ~Files.STREAMED != _files(index, chains):
            return f"tensor {index} is not in the files that its readers read"
        if Files.STREAMED in tensor.files and (index == 0 or _reader_that_follows(index, chains) is None):
            return f"tensor {index} is streamed, but no single reader follows"
    if _group(chains, tensors) != list(chains):
        return "its chains are not grouped as its streamed tensors demand"
    for file in FILES:
        places = _wanted(chains, tensors, file)
        for at, place in enumerate(places):
            for other in places[:at]:
                if place.meets(other) and place.overlaps(other):
                    return f"tensors {other.tensor} and {place.tensor} share registers while both live"
    return None


def need_of(chains: Sequence[Chain], tensors: Sequence[Tensor]) -> Need:
    """The least SKU for these chains: high-water marks of every memory."""
    ends = {Files.MATRIX: 0, Files.FLOAT16: 0}
    for index, tensor in enumerate(tensors):
        for file, address in zip(FILES, (tensor.matrix_address, tensor.float16_address), strict=True):
            if file in tensor.files:
                ends[file] = max(ends[file], address + _size(index, chains, tensors))
    tiles = sum(chain.tiles(tensors[chain.source], tensors[chain.target]) for chain in chains)
    depths = [(chain.stage, tensors[chain.target].depth) for chain in chains]
    return Need(
        initial_vrf=ends[Files.MATRIX],
        addsub_vrf_0=max((depth for stage, depth in depths if Stage.BIAS in stage), default=0),
        addsub_vrf_1=ends[Files.FLOAT16],
        multiply_vrf=max((depth for stage, depth in depths if Stage.SCALE in stage), default=0),
        matrix_rf=min(tiles, 2 * MATRIX_BUFFER_TILES),
        matrix_memory=tiles,
        vector_memory=sum(chain.vectors(tensors[chain.target]) for chain in chains),
    )


def _files(tensor: int, chains: Sequence[Chain]) -> Files:
    files = Files.NONE
    for chain in chains:
        if chain.source == tensor and chain.kind is not Kind.EXPAND:
            files |= Files.MATRIX
        if chain.residual == tensor or (chain.source == tensor and chain.kind is Kind.MAX_POOL):
            files |= Files.FLOAT16  # a pool's left operand is quantised, its right one is not
    return files


def _readers(tensor: int, chains: Sequence[Chain], file: Files) -> list[int]:
    return [
        index
        for index, chain in enumerate(chains)
        if (file is Files.FLOAT16 and chain.residual == tensor)
        or (
            chain.source == tensor
            and chain.kind is not Kind.EXPAND
            and (file is Files.MATRIX or chain.kind is Kind.MAX_POOL)
        )
    ]


def _group(chains: Sequence[Chain], tensors: Sequence[Tensor]) -> list[Chain]:
    """Number the groups: a chain that reads a streamed tensor belongs to its writer's group."""
    grouped: list[Chain] = []
    for index, chain in enumerate(chains):
        before = grouped[-1].group if grouped else -1
        follows = index > 0 and Files.STREAMED in tensors[chain.source].files
        grouped.append(replace(chain, group=before if follows else before + 1))
    return grouped


def _size(tensor: int, chains: Sequence[Chain], tensors: Sequence[Tensor]) -> int:
    """Vectors that the tensor takes in a file: all, or the lines under its reader's window."""
    whole = tensors[tensor]
    if Files.STREAMED not in whole.files:
        return whole.vectors
    reader = next(chain for chain in chains if chain.source == tensor)
    return min(whole.height, reader.extent[0]) * whole.width * whole.depth


def _wanted(chains: Sequence[Chain], tensors: Sequence[Tensor], file: Files) -> list[_Place]:
    """Who needs how much of a file, and when: groups are the steps of time."""
    writers = {chain.target: chain.group for chain in chains}
    wanted = []
    for index, tensor in enumerate(tensors):
        readers = _readers(index, chains, file) if file in tensor.files else []
        if readers:
            address = tensor.matrix_address if file is Files.MATRIX else tensor.float16_address
            size, last = _size(index, chains, tensors), chains[readers[-1]].group
            wanted.append(_Place(index, size, writers.get(index, 0), last, address))
    return sorted(wanted, key=lambda place: (place.first, place.tensor))


def _place(
    chains: Sequence[Chain], tensors: Sequence[Tensor], file: Files, sku: Sku
) -> tuple[list[_Place], set[int]]:
    """Addresses in one file; or the tensors that live at the step where it is too small."""
    wanted = _wanted(chains, tensors, file)
    steps = range(chains[-1].group + 1)
    least = max(sum(p.size for p in wanted if p.first <= step <= p.last) for step in steps)
    capacity = sku.initial_vrf if file is Files.MATRIX else sku.addsub_vrf_1
    found, missing = _fit(wanted, min(least, capacity))
    if missing and least < capacity:
        found, missing = _fit(wanted, capacity)
    return found, missing


def _fit(wanted: Sequence[_Place], limit: int) -> tuple[list[_Place], set[int]]:
    """Place each tensor in a gap, at an end of memory where possible.

    Keeping to the ends leaves one gap in the middle, which is what lets a layer's input, middle and output
    take turns in exactly the room that they need.
    """
    found: list[_Place] = []
    for place in wanted:
        taken = sorted((p.address, p.address + p.size) for p in found if p.meets(place))
        starts = [0, *(end for _, end in taken)]
        ends = [*(start for start, _ in taken), limit]
        gaps = [(start, end) for start, end in zip(starts, ends, strict=True) if end - start >= place.size]
        spots = [spot for start, end in gaps for spot in (start, end - place.size)]
        if not spots:
            return found, {p.tensor for p in (*found, place) if p.meets(place)}
        best = min(spots, key=lambda spot: (spot not in (0, limit - place.size), spot))
        found.append(replace(place, address=best))
    return found, set()


def _may_stream(tensor: int, chains: Sequence[Chain], tensors: Sequence[Tensor]) -> bool:
    """Whether one reader follows at once, and the group's weights stay in the matrix registers meanwhile."""
    if tensor == 0 or Files.STREAMED in tensors[tensor].files:
        return False
    reader = _reader_that_follows(tensor, chains)
    if reader is None:
        return False
    groups = {chains[reader - 1].group, chains[reader].group}
    tiles = sum(c.tiles(tensors[c.source], tensors[c.target]) for c in chains if c.group in groups)
    return tiles <= 2 * MATRIX_BUFFER_TILES


def _reader_that_follows(tensor: int, chains: Sequence[Chain]) -> int | None:
    """The index of the only chain that reads the tensor, if it comes right after the writer."""
    writer = next(index for index, chain in enumerate(chains) if chain.target == tensor)
    readers = [i for i, chain in enumerate(chains) if tensor in (chain.source, chain.residual)]
    if readers != [writer + 1] or chains[writer + 1].residual == tensor:
        return None
    return writer + 1


def _too_large(
    tight: set[int], chains: Sequence[Chain], tensors: Sequence[Tensor], names: Sequence[str], sku: Sku
) -> CompileError:
    largest = max(tight, key=lambda tensor: (tensors[tensor].vectors, -tensor))
    layer = next(
        (name for name, chain in zip(names, chains, strict=True) if chain.target == largest), "the input"
    )
    needed = {file: sum(tensors[t].vectors for t in tight if file in tensors[t].files) for file in FILES}
    return DoesNotFit(
        f"layer {layer!r} with what must be kept beside it needs {needed[Files.MATRIX]} matrix and "
        f"{needed[Files.FLOAT16]} float16 vectors at once; the SKU {sku.name} has {sku.initial_vrf} and "
        f"{sku.addsub_vrf_1}, and row-wise fusion with its reader is not possible there. "
        "Use smaller pictures or fewer channels"
    )
