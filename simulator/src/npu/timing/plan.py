"""From a program to what the engines play: steps of chains, loads into buffers, transfers of the host."""

from collections.abc import Sequence

from npu.chain import Load
from npu.program import Program
from npu.schedule import plan_loads
from npu.sku import Sku
from npu.timing.costs import Cost, cost, input_vectors, tile_bytes
from npu.timing.engines import LOADED_BEFORE, Machine, Step, Transfer

__all__ = ["costs_of", "machine_of"]

FLOAT16 = 2  # bytes


def costs_of(program: Program, sku: Sku) -> list[Cost]:
    """Each chain's demands, its loads' instructions among them."""
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

    Chains of one group wait together for all their weights, which stay until the group's end; they are played
    one behind the other, though they take turns row by row.
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
    mine: list[list[int]] = [[] for _ in chains]
    for index, load in enumerate(loads):
        mine[load.chain].append(index)
    last_of: dict[int, int] = {chain.group: index for index, chain in enumerate(chains)}
    steps: list[Step] = []
    served = [0] * len(loads)
    together: list[int] = []  # loads of the group so far
    for index, chain in enumerate(chains):
        needed, demand = mine[index], costs[index]
        alone = last_of[chain.group] == index and not together
        parts = needed if alone and needed else [-1]
        if alone:
            group_needs = -1
        else:  # every member waits for the group's last weights
            group_needs = max(
                (k for k, load in enumerate(loads) if chains[load.chain].group == chain.group), default=-1
            )
            together += needed
        reads = (chain.source,) if chain.residual is None else (chain.source, chain.residual)
        done_mvm = done_issue = tiles = 0
        issue = demand.issue + len(needed) * sku.issue_cycles  # each load is an instruction too
        for part in parts:
            tiles += loads[part].tiles if part >= 0 else demand.tiles
            mvm_until, issue_until = demand.mvm * tiles // demand.tiles, issue * tiles // demand.tiles
            if part == parts[-1]:
                mvm_until, issue_until = demand.mvm, issue
            steps.append(
                Step(
                    chain=index,
                    mvm=mvm_until - done_mvm,
                    issue=issue_until - done_issue,
                    needs=part if alone else group_needs,
                    reads=reads if part == parts[0] else (),
                    writes=chain.target if part == parts[-1] else -1,
                )
            )
            done_mvm, done_issue = mvm_until, issue_until
            if part >= 0:
                served[part] = len(steps) - 1
        if last_of[chain.group] == index:
            for load_index in together:
                served[load_index] = len(steps) - 1
            together = []
    return steps, served


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
        used[load.buffer] = max(used[load.buffer], step)
        transfers.append(
            Transfer(load.chain, _whole(load.tiles * cycles), free[load.buffer], last_use[load.buffer])
        )
    return transfers


def _whole(cycles: float) -> int:
    """Rounded up, but not for a float's last bit."""
    return -int(-(cycles - 1e-6) // 1)
