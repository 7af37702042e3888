"""Four engines beside each other: host DMA, DRAM loader, instruction issue, matrix pipeline.

Times are whole cycles. Every start is the maximum of ends, every end a start plus a duration: nothing decides,
so a longer duration anywhere can only make things later. The engines know steps and loads by number, and neither
chains' geometry nor layers' names.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field

from npu.errors import ProgramError

__all__ = ["Machine", "Picture", "Step", "Transfer", "run", "steady_period"]

LOADED_BEFORE = -1  # release of a buffer that nothing of this picture has used yet
MAX_PICTURES = 16  # until the period repeats; four are usual


@dataclass(frozen=True, slots=True)
class Step:
    """A chain, or as much of it as the weights of one load serve.

    `needs` is the last load that must have arrived, -1 for none. `reads` are tensors whose last results must
    have left the pipeline; `writes` is complete behind the step, -1 if more steps of the chain follow.
    """

    chain: int
    mvm: int
    issue: int
    needs: int
    reads: tuple[int, ...]
    writes: int


@dataclass(frozen=True, slots=True)
class Transfer:
    """One load: its cycles, and the step behind which its matrix buffer is free (LOADED_BEFORE: the picture's
    first use of the buffer, which then waits for `last_use`, the picture before's last one).
    """

    chain: int
    tiles: int
    cycles: int
    release: int
    last_use: int


@dataclass(frozen=True, slots=True)
class Machine:
    """Everything that repeats with each picture. Output transfers are (tensor, cycles), in the queue's order."""

    steps: Sequence[Step]
    loads: Sequence[Transfer]
    outputs: Sequence[tuple[int, int]]
    driver: int
    dma_in: int
    pipeline: int


@dataclass(slots=True)
class Picture:
    """When everything of one picture happened. Cycles; lists by step, load or output."""

    host_start: int
    host_end: int
    starts: list[int] = field(default_factory=list)
    ends: list[int] = field(default_factory=list)
    dram_stalls: list[int] = field(default_factory=list)
    latency_stalls: list[int] = field(default_factory=list)
    load_starts: list[int] = field(default_factory=list)
    load_ends: list[int] = field(default_factory=list)
    out_starts: list[int] = field(default_factory=list)
    out_ends: list[int] = field(default_factory=list)
    device_end: int = 0

    @property
    def completed(self) -> int:
        """When the host has everything."""
        return max(self.out_ends)


def run(machine: Machine, before: Picture | None = None) -> Picture:
    """One picture: the first on an idle device, whose first weights were loaded behind the last, or the one after
    `before`.

    The host sends a picture when the one before is being computed. Raises ProgramError for loads into a buffer
    that is never free.
    """
    sent = max(before.host_end, before.starts[0]) if before else 0
    now = Picture(sent, sent + machine.driver + machine.dma_in)
    free = before.ends[-1] if before else 0
    free = max(free, now.host_end)
    loader = before.load_ends[-1] if before and before.load_ends else 0
    pipeline, loads = machine.pipeline, machine.loads
    starts, ends, load_ends = now.starts, now.ends, now.load_ends
    ready: dict[int, int] = {}
    count = 0
    for step in machine.steps:
        while count <= step.needs:
            load = loads[count]
            if load.release == LOADED_BEFORE:
                begin = max(loader, before.ends[load.last_use]) if before else 0
                loader = begin + load.cycles if before else 0
            elif load.release < len(ends):
                begin = max(loader, ends[load.release])
                loader = begin + load.cycles
            else:
                raise ProgramError(
                    f"load {count} waits for a matrix buffer that its own chain must free first; compile it again"
                )
            now.load_starts.append(begin)
            load_ends.append(loader)
            count += 1
        start = free
        for tensor in step.reads:
            known = ready.get(tensor, 0)
            start = max(start, known)
        now.latency_stalls.append(start - free)
        arrived = load_ends[step.needs] if step.needs >= 0 else 0
        now.dram_stalls.append(arrived - start if arrived > start else 0)
        start = max(start, arrived)
        starts.append(start)
        free = start + max(step.issue, step.mvm)
        ends.append(free)
        if step.writes >= 0:
            ready[step.writes] = free + pipeline
    now.device_end = free + pipeline
    out = before.out_ends[-1] if before else 0
    for tensor, cycles in sorted(machine.outputs, key=lambda output: ready[output[0]]):
        begin = max(out, ready[tensor])
        out = begin + cycles
        now.out_starts.append(begin)
        now.out_ends.append(out)
    return now


def steady_period(machine: Machine, first: Picture) -> int:
    """Cycles from picture to picture when the next one is always there."""
    before, period = first, 0
    for _ in range(MAX_PICTURES):
        after = run(machine, before)
        found = after.completed - before.completed
        if found == period:
            return found
        before, period = after, found
    return period
