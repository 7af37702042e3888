"""The four engines: against a longest path through the same rules, and what must hold whatever the machine is."""

import dataclasses
import os
import random
from itertools import pairwise

import pytest
from npu.errors import ProgramError
from npu.timing.engines import LOADED_BEFORE, Machine, Step, Transfer, run, steady_period
from npu.timing.events import Track, timeline_of

COUNT = 2000 if os.environ.get("ACCEL_TEST_FULL") else 150
PICTURES = 3


def drawn(seed: int) -> Machine:
    """A machine as `npu.timing.plan` makes them: fills that alternate, groups that wait for several loads."""
    r = random.Random(seed)
    chains = r.randint(1, 9)
    steps, loads, served, buffers = [], [], [], []
    buffer = r.randint(0, 1)
    for chain in range(chains):
        reads = tuple({r.randint(0, chain) for _ in range(r.randint(1, 2))})
        parts = r.choice((1, 1, 1, 2, 3))
        together = parts == 1 and r.random() < 0.3  # several loads into one buffer for one step
        for part in range(parts):
            for _ in range(r.randint(2, 3) if together else 1 if r.random() < 0.9 else 0):
                loads.append((chain, r.randint(1, 400)))
                served.append(len(steps))
                buffers.append(buffer)
            buffer = 1 - buffer if loads and served[-1] == len(steps) else buffer
            last = part == parts - 1
            steps.append(
                Step(
                    chain=chain,
                    mvm=r.randint(1, 300),
                    issue=r.choice((0, 10, r.randint(1, 400))),
                    needs=len(loads) - 1,
                    reads=reads if part == 0 else (),
                    writes=chain + 1 if last else -1,
                )
            )
    transfers = []
    for index, (chain, cycles) in enumerate(loads):
        same = [at for at, other in enumerate(buffers) if other == buffers[index]]
        fill = next(at for at in range(index, -1, -1) if at == 0 or buffers[at - 1] != buffers[index])
        before = [served[at] for at in same if at < fill]
        transfers.append(
            Transfer(
                chain,
                tiles=1,
                cycles=cycles,
                release=max(before, default=LOADED_BEFORE),
                last_use=max(served[at] for at in same),
            )
        )
    outputs = [
        (chain + 1, r.randint(1, 200)) for chain in range(chains) if chain == chains - 1 or r.random() < 0.2
    ]
    return Machine(steps, transfers, outputs, r.randint(0, 20), r.randint(1, 300), r.choice((0, 1, 100)))


def longest_paths(machine: Machine) -> dict[tuple, int]:
    """Ends of everything in PICTURES pictures, by relaxing the rules until nothing moves: no order is assumed."""
    ends: dict[tuple, int] = {}

    def end(*event):
        return ends.get(event, 0)

    def relaxed():
        steps, loads = machine.steps, machine.loads
        made = {step.writes: at for at, step in enumerate(steps) if step.writes >= 0}
        order = sorted(machine.outputs, key=lambda output: made[output[0]])
        for p in range(PICTURES):
            begun = end("step", p - 1, 0) - max(steps[0].mvm, steps[0].issue) if p else 0
            yield ("host", p), max(end("host", p - 1), begun) + machine.driver + machine.dma_in
            for at, load in enumerate(loads):
                if p == 0 and load.release == LOADED_BEFORE:
                    yield ("load", p, at), 0
                    continue
                free = (
                    ("step", p - 1, load.last_use)
                    if load.release == LOADED_BEFORE
                    else ("step", p, load.release)
                )
                before = ("load", p, at - 1) if at else ("load", p - 1, len(loads) - 1)
                yield ("load", p, at), max(end(*before), end(*free)) + load.cycles
            for at, step in enumerate(steps):
                start = max(
                    end("host", p), end("step", p, at - 1) if at else end("step", p - 1, len(steps) - 1)
                )
                if step.needs >= 0:
                    start = max(start, end("load", p, step.needs))
                for tensor in step.reads:
                    if tensor in made and made[tensor] < at:
                        start = max(start, end("step", p, made[tensor]) + machine.pipeline)
                yield ("step", p, at), start + max(step.mvm, step.issue)
            for at, (tensor, cycles) in enumerate(order):
                ready = end("step", p, made[tensor]) + machine.pipeline
                before = ("out", p, at - 1) if at else ("out", p - 1, len(order) - 1)
                yield ("out", p, at), max(ready, end(*before)) + cycles

    moved = True
    while moved:
        moved = False
        for event, value in relaxed():
            moved |= ends.get(event) != value
            ends[event] = value
    return ends


def pictures(machine: Machine):
    played = [run(machine)]
    while len(played) < PICTURES:
        played.append(run(machine, played[-1]))
    return played


def test_the_engines_play_what_the_rules_say():
    for seed in range(COUNT):
        machine = drawn(seed)
        expected = longest_paths(machine)
        for p, picture in enumerate(pictures(machine)):
            assert picture.host_end == expected["host", p], seed
            assert picture.ends == [expected["step", p, at] for at in range(len(machine.steps))], seed
            assert picture.load_ends == [expected["load", p, at] for at in range(len(machine.loads))], seed
            assert picture.out_ends == [expected["out", p, at] for at in range(len(machine.outputs))], seed


def test_what_must_hold_of_every_machine():
    for seed in range(COUNT):
        machine = drawn(seed)
        first = run(machine)
        busy = {
            "matrix": sum(step.mvm for step in machine.steps),
            "issue": sum(step.issue for step in machine.steps),
            "dram": sum(load.cycles for load in machine.loads),
            "in": machine.driver + machine.dma_in,
            "out": sum(cycles for _, cycles in machine.outputs),
        }
        later = sum(load.cycles for load in machine.loads if load.release != LOADED_BEFORE)
        assert first.completed >= max(busy["matrix"], busy["issue"], later) + busy["in"], seed
        pipeline = machine.pipeline * (len(machine.steps) + 1)
        assert first.completed <= sum(busy.values()) + pipeline, seed
        # Time on the device is work and stalls, nothing else.
        work = sum(max(step.mvm, step.issue) for step in machine.steps)
        stalls = sum(first.dram_stalls) + sum(first.latency_stalls)
        assert first.device_end - first.host_end == work + stalls + machine.pipeline, seed
        period = steady_period(machine, first)
        assert max(busy.values()) <= period <= first.completed + busy["dram"], seed


def test_no_time_travel():
    for seed in range(COUNT):
        machine = drawn(seed)
        for picture in pictures(machine):
            assert all(end >= start for start, end in zip(picture.starts, picture.ends, strict=True))
            assert all(later >= end for end, later in zip(picture.ends, picture.starts[1:], strict=False))
            assert min(picture.dram_stalls, default=0) >= 0 <= min(picture.latency_stalls)
            assert picture.starts[0] >= picture.host_end
            for step, start in zip(machine.steps, picture.starts, strict=True):
                assert step.needs < 0 or start >= picture.load_ends[step.needs]


LONGER = {
    "matrix unit": lambda m, d: dataclasses.replace(
        m, steps=[dataclasses.replace(s, mvm=s.mvm + d) for s in m.steps]
    ),
    "issue": lambda m, d: dataclasses.replace(
        m, steps=[dataclasses.replace(s, issue=s.issue + d) for s in m.steps]
    ),
    "DRAM": lambda m, d: dataclasses.replace(
        m, loads=[dataclasses.replace(t, cycles=t.cycles + d) for t in m.loads]
    ),
    "host": lambda m, d: dataclasses.replace(m, dma_in=m.dma_in + d),
    "driver": lambda m, d: dataclasses.replace(m, driver=m.driver + d),
    "pipeline": lambda m, d: dataclasses.replace(m, pipeline=m.pipeline + d),
}


@pytest.mark.parametrize("longer", LONGER.values(), ids=LONGER)
def test_a_slower_engine_never_makes_anything_earlier(longer):
    for seed in range(COUNT // 3):
        machine = drawn(seed)
        slow = longer(machine, 1 + seed % 50)
        for before, after in zip(pictures(machine), pictures(slow), strict=True):
            for at in ("ends", "load_ends", "out_ends"):
                pairs = zip(getattr(before, at), getattr(after, at), strict=True)
                assert all(a <= b for a, b in pairs), (seed, at)


def test_the_period_is_that_of_many_pictures():
    for seed in range(COUNT // 5):
        machine = drawn(seed)
        picture, ends = run(machine), []
        period = steady_period(machine, picture)
        for _ in range(24):
            picture = run(machine, picture)
            ends.append(picture.completed)
        assert (ends[-1] - ends[11]) / 12 == pytest.approx(period, rel=0.01), seed


def test_no_engine_does_two_things_at_once():
    for seed in range(COUNT):
        machine = drawn(seed)
        first = run(machine)
        events = [event for event in timeline_of(machine, first, run(machine, first)) if event.cycles]
        for track in Track:
            mine = sorted((e.start, e.cycles) for e in events if e.track is track)
            assert all(a + cycles <= b for (a, cycles), (b, _) in pairwise(mine)), (
                seed,
                track,
            )
        spent = {track: sum(e.cycles for e in events if e.track is track) for track in Track}
        assert spent[Track.MATRIX] == sum(step.mvm for step in machine.steps)
        assert spent[Track.DRAM] == sum(load.cycles for load in machine.loads)
        device = first.device_end - first.host_end
        assert spent[Track.MATRIX] + spent[Track.WAIT] == device, seed


def test_a_load_that_waits_for_itself_is_an_error():
    step = Step(0, 10, 10, needs=1, reads=(0,), writes=1)
    loads = [Transfer(0, 1, 5, LOADED_BEFORE, 0), Transfer(0, 1, 5, 0, 0)]
    with pytest.raises(ProgramError, match="load 1 waits for a matrix buffer"):
        run(Machine([step], loads, [(1, 4)], 1, 1, 0))
