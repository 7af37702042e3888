"""One record per chain: its steps' and loads' cycles added up, what bounds it, what it reaches."""

from collections.abc import Sequence
from dataclasses import dataclass

from npu.program import Program
from npu.sku import Sku
from npu.timing.costs import Cost, tile_bytes
from npu.timing.engines import Machine, Picture
from npu.timing.highwater import marks_of
from npu.timing.record import LayerTime

__all__ = ["Sum", "layers_of", "sums_of"]


@dataclass(slots=True)
class Sum:
    """One chain's cycles over its steps and loads."""

    busy: int = 0
    issue: int = 0
    dram: int = 0
    loaded: int = 0  # tiles
    dram_stall: int = 0
    latency_stall: int = 0


def sums_of(chains: int, engines: Machine, picture: Picture) -> list[Sum]:
    """Add up one picture, chain by chain."""
    sums = [Sum() for _ in range(chains)]
    for step, start, end, dram, latency in zip(
        engines.steps, picture.starts, picture.ends, picture.dram_stalls, picture.latency_stalls, strict=True
    ):
        one = sums[step.chain]
        one.busy += end - start
        one.issue += step.issue
        one.dram_stall += dram
        one.latency_stall += latency
    sums[-1].latency_stall += engines.pipeline  # the last result leaves the pipeline
    for load in engines.loads:
        sums[load.chain].dram += load.cycles
        sums[load.chain].loaded += load.tiles
    return sums


def layers_of(
    program: Program, sku: Sku, costs: Sequence[Cost], sums: Sequence[Sum]
) -> tuple[LayerTime, ...]:
    """What the estimate says of each chain."""
    marks = marks_of(program.chains, program.tensors)
    per_tile = tile_bytes(program.preset, sku.native_dim)
    layers = []
    for index, (chain, cost, one) in enumerate(zip(program.chains, costs, sums, strict=True)):
        target = program.tensors[chain.target]
        total = one.busy + one.dram_stall + one.latency_stall
        seconds = total / sku.clock_hz
        bounds = (
            (cost.mvm, "compute"),
            (one.dram, "dram"),
            (one.issue, "issue"),
            (one.latency_stall, "latency"),
        )
        layers.append(
            LayerTime(
                name=program.chain_names[index],
                kind=chain.kind.name.lower(),
                output=target.shape,
                tiles=cost.tiles,
                vectors=chain.vectors(target),
                macs=cost.macs,
                weight_bytes=cost.weight_bytes,
                loaded_bytes=one.loaded * per_tile,
                activation_bytes=cost.activation_bytes,
                mvm_cycles=cost.mvm,
                issue_cycles=one.issue,
                dram_cycles=one.dram,
                dram_stall=one.dram_stall,
                latency_stall=one.latency_stall,
                total_cycles=total,
                bound_by=max(bounds)[1],
                utilisation=cost.macs / (total * sku.macs),
                padded_utilisation=cost.mvm / total,
                dram_bytes_per_second=one.loaded * per_tile / seconds,
                vrf_bytes_per_second=cost.activation_bytes / seconds,
                initial_vrf=marks[index][0],
                addsub_vrf_1=marks[index][1],
            )
        )
    return tuple(layers)
