"""How long a program takes on a SKU, from its chains alone: no tensor is touched.

Three engines run beside each other. The matrix pipeline computes segment after segment, where a segment is
what one of the two matrix buffers holds: a layer, or as many of its output tiles as 64 weight tiles are. The
DRAM loader fills one buffer while the other computes. The host's DMA brings the picture and takes the result.
"""

from collections import defaultdict
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from math import ceil

from npu.bfp import Preset
from npu.chain import EXPANDER_KERNEL, EXPANDER_TILES, NATIVE_DIM, Chain, Files, Kind, Tensor, blocks
from npu.program import Program
from npu.registers import MATRIX_BUFFER_TILES
from npu.sku import DEFAULT_SKU, Sku, check_fits, load_sku

__all__ = ["Estimate", "LayerTime", "estimate"]

VECTOR_BYTES = 2 * NATIVE_DIM  # float16


@dataclass(frozen=True)
class LayerTime:
    """One chain. Cycles of the SKU's clock; `dram_stall` is waiting for this layer's weights."""

    name: str
    kind: str
    output: tuple[int, int, int]
    tiles: int
    vectors: int
    macs: int
    weight_bytes: int
    mvm_cycles: int
    issue_cycles: int
    dram_cycles: int
    dram_stall: int
    total_cycles: int
    bound_by: str
    utilisation: float


@dataclass(frozen=True)
class Estimate:
    """`latency_ms` is one picture alone; `inferences_per_second` is with the next picture's DMA beside the
    computing.
    """

    sku: str
    latency_ms: float
    inferences_per_second: float
    bound_by: str
    tiles: int
    vectors: int
    macs: int
    device_ms: float
    host_ms: float
    compute_ms: float
    dram_ms: float
    tflops: float
    utilisation: float
    initial_vrf: int
    addsub_vrf_1: int
    layers: tuple[LayerTime, ...]

    def to_dict(self) -> dict[str, object]:
        """The JSON form."""
        return asdict(self)


@dataclass(frozen=True)
class _Segment:
    layer: int
    compute: float
    load: float


def estimate(program: Program, sku: Sku | str = DEFAULT_SKU) -> Estimate:
    """Time one inference. Raises SkuError if the program does not fit."""
    machine = load_sku(sku) if isinstance(sku, str) else sku
    check_fits(program.need, machine)
    timer = _Timer(program, machine)
    return timer.estimate()


class _Timer:
    def __init__(self, program: Program, sku: Sku) -> None:
        self.program, self.sku = program, sku
        self.pairs = [(program.tensors[c.source], program.tensors[c.target]) for c in program.chains]
        # Weights that fit the matrix registers altogether are loaded with the model, not with each picture.
        self.resident = program.need.matrix_memory <= sku.matrix_rf
        self.load_per_tile = tile_bytes(program.preset) / sku.dram_bytes_per_second * sku.clock_hz

    def estimate(self) -> Estimate:
        program, sku = self.program, self.sku
        segments = list(self._segments())
        stalls, period = _overlap(segments)
        layers = tuple(self._layer(index, stalls[index]) for index in range(len(program.chains)))
        host_in, host_out = self._dma()
        device = period / sku.clock_hz
        latency = device + host_in + host_out + sku.host_seconds
        stage = max(device, host_in, host_out)
        macs = sum(layer.macs for layer in layers)
        busy = {
            "compute": sum(layer.mvm_cycles for layer in layers) / sku.clock_hz,
            "dram": sum(layer.dram_cycles for layer in layers) / sku.clock_hz,
            "issue": sum(layer.issue_cycles for layer in layers) / sku.clock_hz,
            "host": host_in + host_out,
        }
        return Estimate(
            sku=sku.name,
            latency_ms=1e3 * latency,
            inferences_per_second=1 / stage,
            bound_by=max(busy, key=lambda engine: busy[engine]),
            tiles=program.need.matrix_memory,
            vectors=program.need.vector_memory,
            macs=macs,
            device_ms=1e3 * device,
            host_ms=1e3 * (host_in + host_out + sku.host_seconds),
            compute_ms=1e3 * sum(segment.compute for segment in segments) / sku.clock_hz,
            dram_ms=1e3 * sum(segment.load for segment in segments) / sku.clock_hz,
            tflops=2e-12 * macs / latency,
            utilisation=macs / (latency * sku.clock_hz * sku.macs),
            initial_vrf=program.need.initial_vrf,
            addsub_vrf_1=program.need.addsub_vrf_1,
            layers=layers,
        )

    def _segments(self) -> Iterator[_Segment]:
        """Cut each layer at output tiles into parts of at most one buffer's weight tiles."""
        for index, (chain, (source, target)) in enumerate(zip(self.program.chains, self.pairs, strict=True)):
            tiles = chain.tiles(source, target)
            compute = (
                max(self._mvm(chain, source, target), self._issue(chain, target)) + self.sku.pipeline_cycles
            )
            rows = target.depth if chain.kind in (Kind.CONV, Kind.EXPAND) else 1
            per_row = tiles // rows
            at_once = per_row * max(1, MATRIX_BUFFER_TILES // per_row)
            if (
                per_row > MATRIX_BUFFER_TILES
            ):  # one output tile's weights are more than a buffer: partial sums wait
                at_once = MATRIX_BUFFER_TILES
            for start in range(0, tiles, at_once):
                held = min(at_once, tiles - start)
                load = 0.0 if self.resident else held * self.load_per_tile
                yield _Segment(index, compute * held / tiles, load)

    def _layer(self, index: int, stall: float) -> LayerTime:
        chain, (source, target) = self.program.chains[index], self.pairs[index]
        tiles, macs = chain.tiles(source, target), chain.macs(source, target)
        mvm, issue = self._mvm(chain, source, target), self._issue(chain, target)
        dram = 0.0 if self.resident else tiles * self.load_per_tile
        compute = max(mvm, issue) + self.sku.pipeline_cycles
        total = compute + stall
        return LayerTime(
            name=self.program.chain_names[index],
            kind=chain.kind.name.lower(),
            output=target.shape,
            tiles=tiles,
            vectors=chain.vectors(target),
            macs=macs,
            weight_bytes=tiles * tile_bytes(self.program.preset),
            mvm_cycles=ceil(mvm),
            issue_cycles=issue,
            dram_cycles=ceil(dram),
            dram_stall=ceil(stall),
            total_cycles=ceil(total),
            bound_by=max((mvm, "compute"), (dram, "dram"), (issue, "issue"))[1],
            utilisation=macs / (total * self.sku.macs),
        )

    def _mvm(self, chain: Chain, source: Tensor, target: Tensor) -> float:
        """Cycles of the matrix unit, positions rounded up to its granularity."""
        return self.sku.cycles_per_tile * sum(
            ceil(positions / self.sku.channels) * self.sku.channels * tiles
            for positions, tiles in tile_operations(chain, source, target)
        )

    def _issue(self, chain: Chain, target: Tensor) -> int:
        """Cycles of the control processor: read, multiply, each vector operation, and writes, once per output
        tile.
        """
        if chain.kind is Kind.MAX_POOL:
            per_tile = 4 * (sum(chain.kernel) - 1)  # read, identity, maximum, write per pass; a copy back
        else:
            writes = max(1, (Files.MATRIX in target.files) + (Files.FLOAT16 in target.files))
            per_tile = 2 + int(chain.stage).bit_count() + writes
        return per_tile * target.depth * self.sku.issue_cycles

    def _dma(self) -> tuple[float, float]:
        """Seconds for the picture in and the result out."""
        out = self.program.tensors[self.program.chains[-1].target].vectors
        speed = self.sku.pcie_bytes_per_second
        return input_vectors(self.program) * VECTOR_BYTES / speed, out * VECTOR_BYTES / speed


def tile_operations(chain: Chain, source: Tensor, target: Tensor) -> list[tuple[int, int]]:
    """How many positions meet how many tiles each.

    A pool passes its row once per further column plus one copy back, then the columns once per further row.
    """
    if chain.kind is Kind.CONV:
        return [(target.positions, source.depth * chain.kernel[0] * chain.kernel[1] * target.depth)]
    if chain.kind is Kind.EXPAND:
        return [(target.positions, EXPANDER_TILES * target.depth)]
    if chain.kind is Kind.IDENTITY:
        return [(target.positions, target.depth)]
    rows, columns = max(1, chain.kernel[0] - 1), max(1, chain.kernel[1] - 1)
    return [
        (source.height * target.width, (columns + 1) * target.depth),
        (target.positions, rows * target.depth),
    ]


def tile_bytes(preset: Preset) -> int:
    """Bytes of one weight tile in DRAM: signs, mantissas and exponents of a row per output channel."""
    return blocks(NATIVE_DIM * preset.bits(NATIVE_DIM), 8)


def input_vectors(program: Program) -> int:
    """Native vectors that the host sends: the padded picture in one piece, or the input's own vectors."""
    image = program.tensors[0]
    readers = [chain for chain in program.chains if chain.kind is Kind.EXPAND]
    if not readers:
        return image.vectors
    sizes = []
    for chain in readers:
        after = chain.pad_after(image, program.tensors[chain.target])
        rows, columns = (
            side + before + max(0, behind) + EXPANDER_KERNEL - kernel
            for side, before, behind, kernel in zip(image.shape, chain.pad, after, chain.kernel, strict=False)
        )
        sizes.append(blocks(rows * columns * image.channels, NATIVE_DIM))
    return max(sizes)


def _overlap(segments: list[_Segment]) -> tuple[dict[int, float], float]:
    """Run loader and pipeline over one picture of many; returns each layer's stall and the cycles per
    picture.

    Segment 0 is loaded behind the picture before, and the next picture's segment 0 behind this one. A buffer
    is free when the segment before the last one has been computed.
    """
    stalls: dict[int, float] = defaultdict(float)
    loaded = computed = before = 0.0
    for at, segment in enumerate(segments):
        if at > 0:
            loaded = max(loaded, before) + segment.load
        waiting = max(0.0, loaded - computed)
        stalls[segment.layer] += waiting
        before, computed = computed, computed + waiting + segment.compute
    # The next picture's first weights load beside the last segment.
    first = max(loaded, before) + segments[0].load if len(segments) > 1 else 0.0
    stalls[segments[0].layer] += max(0.0, first - computed)
    return stalls, max(computed, first)
