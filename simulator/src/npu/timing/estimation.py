"""From a played picture to an estimate: cycles per chain added up, the busiest engine named."""

from collections.abc import Sequence
from dataclasses import dataclass

from npu.chain import Chain, Files, Tensor
from npu.errors import SkuError
from npu.program import Program
from npu.sku import DEFAULT_SKU, Sku, check_fits, load_sku
from npu.timing.costs import Cost, tile_bytes
from npu.timing.engines import Machine, Picture, run, steady_period
from npu.timing.events import Event, timeline_of
from npu.timing.plan import costs_of, machine_of
from npu.timing.record import Estimate, LayerTime

__all__ = ["estimate", "timeline"]


def estimate(program: Program, sku: Sku | str = DEFAULT_SKU) -> Estimate:
    """Time one picture, and one of many. Raises SkuError if the program does not fit."""
    machine, costs, engines = _prepare(program, sku)
    picture = run(engines)
    period = steady_period(engines, picture)
    return _estimate(program, machine, costs, engines, picture, period)


def timeline(program: Program, sku: Sku | str = DEFAULT_SKU) -> tuple[Event, ...]:
    """What each engine does for one picture, events of no length left out. Raises as `estimate` does."""
    _, _, engines = _prepare(program, sku)
    picture = run(engines)
    return tuple(event for event in timeline_of(engines, picture, run(engines, picture)) if event.cycles)


def _prepare(program: Program, sku: Sku | str) -> tuple[Sku, list[Cost], Machine]:
    machine = load_sku(sku) if isinstance(sku, str) else sku
    if program.native_dim != machine.native_dim:
        raise SkuError(
            f"the program is compiled for a native dimension of {program.native_dim}; the SKU {machine.name} has "
            f"{machine.native_dim}. Compile the model for {machine.name}"
        )
    check_fits(program.need, machine)
    costs = costs_of(program, machine)
    return machine, costs, machine_of(program, machine, costs)


@dataclass(slots=True)
class _Sum:
    """One chain's cycles over its steps and loads."""

    busy: int = 0
    issue: int = 0
    dram: int = 0
    dram_stall: int = 0
    latency_stall: int = 0


def _estimate(
    program: Program, sku: Sku, costs: Sequence[Cost], engines: Machine, picture: Picture, period: int
) -> Estimate:
    sums = _sums(len(costs), engines, picture)
    layers = _layers(program, sku, costs, sums)
    ms = 1e3 / sku.clock_hz
    device = picture.device_end - picture.host_end
    host = engines.driver + engines.dma_in + sum(cycles for _, cycles in engines.outputs)
    mvm = sum(cost.mvm for cost in costs)
    macs = sum(cost.macs for cost in costs)
    busy = {
        "compute": mvm,
        "dram": sum(one.dram for one in sums),
        "issue": sum(one.issue for one in sums),
        "host": host,
        "latency": sum(one.latency_stall for one in sums),
    }
    path = {
        "host": picture.completed - device,
        "compute": mvm,
        "issue": sum(one.busy for one in sums) - mvm,
        "dram": sum(one.dram_stall for one in sums),
        "latency": busy["latency"],
    }
    seconds = picture.completed / sku.clock_hz
    return Estimate(
        sku=sku.name,
        precision=program.preset.name,
        latency_ms=picture.completed * ms,
        inferences_per_second=sku.clock_hz / period,
        bound_by=max(busy, key=lambda engine: busy[engine]),
        bottleneck=max(layers, key=lambda layer: layer.total_cycles).name,
        critical_path={engine: cycles * ms for engine, cycles in path.items()},
        tiles=program.need.matrix_memory,
        vectors=program.need.vector_memory,
        macs=macs,
        device_ms=device * ms,
        host_ms=host * ms,
        compute_ms=mvm * ms,
        issue_ms=busy["issue"] * ms,
        dram_ms=busy["dram"] * ms,
        tflops=2e-12 * macs / seconds,
        utilisation=macs / (seconds * sku.clock_hz * sku.macs),
        padded_utilisation=mvm / picture.completed,
        dram_bytes=program.need.matrix_memory * tile_bytes(program.preset, sku.native_dim)
        + program.need.vector_memory * 2 * sku.native_dim,
        matrix_rf=program.need.matrix_rf,
        initial_vrf=program.need.initial_vrf,
        addsub_vrf_0=program.need.addsub_vrf_0,
        addsub_vrf_1=program.need.addsub_vrf_1,
        multiply_vrf=program.need.multiply_vrf,
        layers=layers,
    )


def _sums(chains: int, engines: Machine, picture: Picture) -> list[_Sum]:
    sums = [_Sum() for _ in range(chains)]
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
    return sums


def _layers(program: Program, sku: Sku, costs: Sequence[Cost], sums: Sequence[_Sum]) -> tuple[LayerTime, ...]:
    marks = _marks(program.chains, program.tensors)
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
                dram_bytes_per_second=(cost.weight_bytes if one.dram else 0) / seconds,
                vrf_bytes_per_second=cost.activation_bytes / seconds,
                initial_vrf=marks[index][0],
                addsub_vrf_1=marks[index][1],
            )
        )
    return tuple(layers)


def _marks(chains: Sequence[Chain], tensors: Sequence[Tensor]) -> list[tuple[int, int]]:
    """The highest register in use in both vector files while each chain runs; streamed tensors count as one
    window of their reader's lines.
    """
    last: dict[int, int] = {}
    reader: dict[int, Chain] = {}
    for index, chain in enumerate(chains):
        for tensor in (chain.source, chain.residual):
            if tensor is not None:
                last[tensor] = index
                reader.setdefault(tensor, chain)
    live: dict[int, tuple[int, int]] = {}
    marks = []
    for index, chain in enumerate(chains):
        if chain.target in last:
            live[chain.target] = _end(tensors[chain.target], reader[chain.target])
        if index == 0 and tensors[0].files:
            live[0] = _end(tensors[0], reader[0])
        ends = live.values()
        marks.append((max((a for a, _ in ends), default=0), max((b for _, b in ends), default=0)))
        for tensor in (chain.source, chain.residual):
            if tensor is not None and last[tensor] == index:
                live.pop(tensor, None)
    return marks


def _end(tensor: Tensor, reader: Chain) -> tuple[int, int]:
    size = tensor.registers
    if Files.STREAMED in tensor.files:
        size = size // tensor.height * min(tensor.height, reader.extent[0])
    return (
        tensor.matrix_address + size if Files.MATRIX in tensor.files else 0,
        tensor.float16_address + size if Files.FLOAT16 in tensor.files else 0,
    )
