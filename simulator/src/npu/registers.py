"""Which vector registers hold which tensor, and what a SKU must have.

Tensors that do not fit whole are streamed (`npu.fusion`), concatenations run in place (`npu.families`); nothing is
ever spilled to DRAM.
"""

from collections.abc import Sequence
from dataclasses import replace

from npu.bfp import Accumulation
from npu.chain import Chain, Files, Need, Stage, Tensor
from npu.errors import CompileError, DoesNotFit
from npu.fusion import MAX_ROWS, groups_of, row_visits
from npu.liveness import FILES, uses_of
from npu.occupancy import occupancy
from npu.placement import Place, fit
from npu.schedule import MATRIX_BUFFER_TILES, tiles_of
from npu.sku import Sku
from npu.streaming import Streaming

__all__ = ["MATRIX_BUFFER_TILES", "allocate", "contradiction", "need_of"]


def allocate(
    chains: Sequence[Chain], tensors: Sequence[Tensor], names: Sequence[str], sku: Sku
) -> tuple[tuple[Chain, ...], tuple[Tensor, ...]]:
    """Return chains with their groups and tensors with their files, pitches and addresses.

    A tensor that nobody reads takes no register: it goes to the output queue as it is made. Raises CompileError,
    which names the layer and the vectors it needs, when even row-wise fusion does not help.
    """
    front = any(chain.accumulation is Accumulation.FP16_TAPS for chain in chains)
    try:
        return _allocated(chains, tensors, names, sku, front=front)
    except DoesNotFit:
        if not front:
            raise
        return _allocated(chains, tensors, names, sku, front=False)  # the front block is one group too large


def _allocated(
    chains: Sequence[Chain], tensors: Sequence[Tensor], names: Sequence[str], sku: Sku, *, front: bool
) -> tuple[tuple[Chain, ...], tuple[Tensor, ...]]:
    uses = uses_of(chains, len(tensors))
    bare = [replace(tensor, files=uses.files(index), pitch=0) for index, tensor in enumerate(tensors)]
    streaming = Streaming(chains, bare, uses, sku, front=front)
    while True:
        crowd = streaming.crowd()
        placed: list[tuple[Files, Place]] = []
        for file in () if crowd else FILES:
            found, stuck = fit(streaming.now.places[file], streaming.now.steps, streaming.capacity[file])
            placed += [(file, place) for place in found]
            crowd |= stuck
        if not crowd:
            return _placed(chains, streaming, placed)
        if not streaming.relieve(crowd):
            raise _too_large(chains, streaming, names, sku)


def contradiction(chains: Sequence[Chain], tensors: Sequence[Tensor]) -> str | None:
    """What is wrong with the files, pitches, groups and addresses of somebody's program; None if nothing."""
    uses = uses_of(chains, len(tensors))
    for index, tensor in enumerate(tensors):
        if tensor.files & ~Files.STREAMED != uses.files(index):
            return f"tensor {index} is not in the files that its readers read"
        if Files.STREAMED in tensor.files and (index == 0 or uses.last(index) < 0):
            return f"tensor {index} is streamed, but has no writer or no reader beside it"
    groups = groups_of(chains, tensors, uses)
    if groups != [chain.group for chain in chains]:
        return "its chains are not grouped as its streamed tensors demand"
    if row_visits(groups, chains, tensors, uses) > MAX_ROWS:
        return f"its fused chains have more rows than {MAX_ROWS}, counting each once for each reader"
    found = occupancy(chains, tensors, uses, placed=True)
    pitches = {index: tensors[family[-1]].depth for family in found.families for index in family}
    for index, tensor in enumerate(tensors):
        if tensor.pitch != pitches.get(index, 0):
            return f"tensor {index} has the pitch {tensor.pitch} where {pitches.get(index, 0)} is due"
    for file in FILES:
        living: list[Place] = []
        for place in sorted(found.places[file], key=lambda place: place.first):
            tensor = tensors[place.tensors[0]]
            address = tensor.matrix_address if file is Files.MATRIX else tensor.float16_address
            here = replace(place, address=address)
            living = [other for other in living if other.last >= here.first]
            for other in living:
                if here.overlaps(other):
                    one, two = sorted((other.tensors[-1], here.tensors[0]))
                    return f"tensors {one} and {two} share registers while both live"
            living.append(here)
    return None


def need_of(chains: Sequence[Chain], tensors: Sequence[Tensor]) -> Need:
    """The least SKU for these chains: high-water marks of every memory.

    Chains that add taps in float16 read their padding from DRAM, so zeros for the longest padded row lie there.
    """
    found = occupancy(chains, tensors, uses_of(chains, len(tensors)), placed=True)
    ends = {Files.MATRIX: 0, Files.FLOAT16: 0}
    for tensor, size in zip(tensors, found.sizes, strict=True):
        for file, address in zip(FILES, (tensor.matrix_address, tensor.float16_address), strict=True):
            if file in tensor.files:
                ends[file] = max(ends[file], address + size)
    tiles = tiles_of(chains, tensors)
    depths = [(chain.stage, tensors[chain.target].depth) for chain in chains]
    zeros = max((_padded_row(chain, tensors) for chain in chains), default=0)
    return Need(
        initial_vrf=ends[Files.MATRIX],
        addsub_vrf_0=max((depth for stage, depth in depths if Stage.BIAS in stage), default=0),
        addsub_vrf_1=ends[Files.FLOAT16],
        multiply_vrf=max((depth for stage, depth in depths if Stage.SCALE in stage), default=0),
        matrix_rf=min(tiles, 2 * MATRIX_BUFFER_TILES),
        matrix_memory=tiles,
        vector_memory=sum(chain.vectors(tensors[chain.target]) for chain in chains) + zeros,
    )


def _padded_row(chain: Chain, tensors: Sequence[Tensor]) -> int:
    """Vectors of one row of the source with its padding, if it is read as zeros from DRAM (V: VGG's 226)."""
    source = tensors[chain.source]
    after = chain.pad_after(source, tensors[chain.target])
    if chain.accumulation is not Accumulation.FP16_TAPS or max(*chain.pad, *after) <= 0:
        return 0
    return (source.width + chain.pad[1] + max(0, after[1])) * source.depth


def _placed(
    chains: Sequence[Chain], streaming: Streaming, placed: Sequence[tuple[Files, Place]]
) -> tuple[tuple[Chain, ...], tuple[Tensor, ...]]:
    tensors = streaming.tensors
    for family in streaming.now.families:
        for index in family:
            tensors[index] = replace(tensors[index], pitch=tensors[family[-1]].depth)
    for file, place in placed:
        for index in place.tensors:
            if file is Files.MATRIX:
                tensors[index] = replace(tensors[index], matrix_address=place.address)
            else:
                tensors[index] = replace(tensors[index], float16_address=place.address)
    groups = streaming.now.groups
    return tuple(replace(chain, group=group) for chain, group in zip(chains, groups, strict=True)), tuple(
        tensors
    )


def _too_large(chains: Sequence[Chain], streaming: Streaming, names: Sequence[str], sku: Sku) -> CompileError:
    crowd, now = streaming.hopeless
    # The youngest of what lives there, or the largest of those, is what finds no room: the layer that makes it.
    layers = {chain.target: name for chain, name in zip(chains, names, strict=True)}
    places = [place for file in FILES for place in now.places[file] if crowd & set(place.tensors)]
    latest = max(places, key=lambda place: (place.first, place.size))
    needed = {
        file: sum(place.size for place in now.places[file] if crowd & set(place.tensors)) for file in FILES
    }
    layer = layers.get(latest.tensors[0], "input")
    return DoesNotFit(
        f"layer {layer!r} with what must be kept beside it needs {needed[Files.MATRIX]} matrix and "
        f"{needed[Files.FLOAT16]} float16 vectors at once; the SKU {sku.name} has {sku.initial_vrf} and "
        f"{sku.addsub_vrf_1}, and row-wise fusion with its readers is not possible there. "
        "Use smaller pictures or fewer channels"
    )
