"""From a program to what the engines play: steps of chains, loads into buffers, transfers of the host."""

from collections.abc import Sequence

from npu.chain import Chain, Load
from npu.program import Program
from npu.schedule import MATRIX_BUFFER_TILES, plan_loads
from npu.sku import Sku
from npu.timing.costs import Cost, cost, input_vectors, tile_bytes
from npu.timing.engines import LOADED_BEFORE, Machine, Step, Transfer

__all__ = ["costs_of", "machine_of"]

FLOAT16 = 2  # bytes


def costs_of(program: Program, sku: Sku) -> list[Cost]:
    """Each chain's demands; the instructions that load its weights come in `machine_of`."""
    tensors, chains = program.tensors, program.chains
    groups = [chain.group for chain in chains]
    return [
        cost(
            chain,
            tensors[chain.source],
            tensors[chain.target],
            program.preset,
            sku,
            by_rows=chain.group in (groups[index - 1] if index else None, *groups[index + 1 : index + 2]),
        )
        for index, chain in enumerate(chains)
    ]


def machine_of(program: Program, sku: Sku, costs: Sequence[Cost]) -> Machine:
    """Everything that repeats with each picture.

    Chains of one group whose weights fit both buffers wait together for all of them, which stay until the group's
    end; they are played one behind the other, though they take turns row by row.
    """
    loads = program.loads or plan_loads(program.chains, program.tensors, sku)
    steps, served = _steps(program, costs, loads, sku)
    per_second = sku.pcie_bytes_per_second / sku.clock_hz
    vector = FLOAT16 * sku.native_dim
    return Machine(
        steps=steps,
        loads=_transfers(loads, served, program, sku),
        outputs=[
            (index, _whole(program.tensors[index].vectors * vector / per_second))
            for index in program.output_tensors
        ],
        driver=_whole(sku.host_seconds * sku.clock_hz),
        dma_in=_whole(input_vectors(program) * vector / per_second),
        pipeline=sku.pipeline_cycles,
    )


def _steps(
    program: Program, costs: Sequence[Cost], loads: Sequence[Load], sku: Sku
) -> tuple[list[Step], list[int]]:
    """The steps, and for each load the last step that uses its buffer."""
    chains = program.chains
    # Tiles a picture: more than the chain has, if they come again for each band of rows.
    loaded = [0] * len(chains)
    for load in loads:
        loaded[load.chain] += load.tiles
    steps: list[Step] = []
    served: list[int] = []
    index = at = 0
    while index < len(chains):
        group = chains[index].group
        end, until = index, at
        while end < len(chains) and chains[end].group == group:
            end += 1
        while until < len(loads) and loads[until].chain < end:
            until += 1
        tiles = sum(loaded[index:end])
        if at == until or (end - index > 1 and tiles <= 2 * MATRIX_BUFFER_TILES):
            issues = [load.chain for load in loads[at:until]]
            for chain in range(index, end):
                issue = costs[chain].issue + issues.count(chain) * sku.issue_cycles
                needs, reads = until - 1 if until > at else -1, _reads(chains[chain])
                steps.append(Step(chain, costs[chain].mvm, issue, needs, reads, chains[chain].target))
            served += [len(steps) - 1] * (until - at)
        else:
            _serve(program, costs, loads, range(at, until), loaded, sku, steps)
            served += range(len(steps) - (until - at), len(steps))
        index, at = end, until
    return steps, served


def _serve(
    program: Program,
    costs: Sequence[Cost],
    loads: Sequence[Load],
    parts: range,
    loaded: Sequence[int],
    sku: Sku,
    steps: list[Step],
) -> None:
    """One step per load: a chain cut at output tiles, or chains that take turns in bands of rows."""
    done = dict.fromkeys((loads[part].chain for part in parts), 0)
    for part in parts:
        load = loads[part]
        chain, demand, whole = program.chains[load.chain], costs[load.chain], loaded[load.chain]
        before, after = done[load.chain], done[load.chain] + load.tiles
        done[load.chain] = after
        first = part == parts.start or loads[part - 1].chain != load.chain
        last = part == parts.stop - 1 or loads[part + 1].chain != load.chain
        steps.append(
            Step(
                chain=load.chain,
                mvm=demand.mvm * after // whole - demand.mvm * before // whole,
                issue=demand.issue * after // whole - demand.issue * before // whole + sku.issue_cycles,
                needs=part,
                reads=_reads(chain) if first else (),
                writes=chain.target if last else -1,
            )
        )


def _reads(chain: Chain) -> tuple[int, ...]:
    return (chain.source,) if chain.residual is None else (chain.source, chain.residual)


def _transfers(loads: Sequence[Load], served: Sequence[int], program: Program, sku: Sku) -> list[Transfer]:
    """A fill, which is loads in a row into one buffer, waits until the buffer's fill before has been used."""
    cycles = tile_bytes(program.preset, sku.native_dim) * sku.clock_hz / sku.dram_bytes_per_second
    last_use: dict[int, int] = {}
    for load, step in zip(loads, served, strict=True):
        last_use[load.buffer] = max(step, last_use.get(load.buffer, 0))
    free = dict.fromkeys(
        last_use, LOADED_BEFORE
    )  # behind which step each buffer is free for the fill at hand
    used = dict(free)
    transfers = []
    for index, (load, step) in enumerate(zip(loads, served, strict=True)):
        if index == 0 or loads[index - 1].buffer != load.buffer:
            free[load.buffer] = used[load.buffer]
        used[load.buffer] = step
        transfers.append(
            Transfer(
                load.chain, load.tiles, _whole(load.tiles * cycles), free[load.buffer], last_use[load.buffer]
            )
        )
    return transfers


def _whole(cycles: float) -> int:
    """Rounded up, but not for a float's last bit."""
    return -int(-(cycles - 1e-6) // 1)
