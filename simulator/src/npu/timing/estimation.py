"""From a played picture to an estimate: cycles per chain added up, the busiest engine named."""

from collections.abc import Sequence

from npu.errors import SkuError
from npu.program import Program
from npu.sku import DEFAULT_SKU, Sku, check_fits, load_sku
from npu.timing.costs import Cost, tile_bytes
from npu.timing.engines import Machine, Picture, run, steady_period
from npu.timing.events import Event, timeline_of
from npu.timing.layers import layers_of, sums_of
from npu.timing.plan import costs_of, machine_of
from npu.timing.record import Estimate

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


def _estimate(
    program: Program, sku: Sku, costs: Sequence[Cost], engines: Machine, picture: Picture, period: int
) -> Estimate:
    sums = sums_of(len(costs), engines, picture)
    layers = layers_of(program, sku, costs, sums)
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
