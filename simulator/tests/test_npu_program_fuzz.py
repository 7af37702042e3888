"""Mutated programs: each is run, or refused with a reason; never a crash, a hang, a read out of bounds or a
balloon of memory. ACCEL_TEST_FULL=1 takes 10,000 of them.
"""

import os
import resource
import tracemalloc
from collections import Counter
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from npu.device import engine
from npu.device.errors import ProgramRejected
from npu.errors import ProgramError, SkuError
from npu.program import Program
from program_mutations import MUTATIONS
from program_samples import samples

COUNT = 10_000 if os.environ.get("ACCEL_TEST_FULL") else 300
SMALL = 1 << 18  # numbers in an array, so that running one takes milliseconds
WORK = 1 << 24  # multiplications, likewise
ROOM = 1 << 30  # bytes of address space beside what the process has when a test begins
PER_BYTE, FLOOR = 64, 1 << 18  # what reading may take beside the bytes themselves


@pytest.fixture(scope="module")
def programs():
    found = samples()
    return found | {"version 1": replace(found["loads"], version=1)}


@pytest.fixture(autouse=True)
def bounded():
    """A balloon ends in MemoryError here, and not in the machine's running out of memory."""
    now, most = resource.getrlimit(resource.RLIMIT_AS)
    held = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (held + ROOM, most))
    yield
    resource.setrlimit(resource.RLIMIT_AS, (now, most))


def verdict(data: bytes, rng: np.random.Generator) -> str:
    """Read the bytes, load them as a card does and run them, if they are small; how far they came."""
    try:
        program = Program.from_bytes(data)
    except (ProgramError, SkuError) as error:
        return "refused" if str(error) else "refused without a reason"
    assert program.to_bytes() == data, "two spellings of one program"
    try:
        loaded = engine.load(data, program.digest, program.sku)
    except ProgramRejected as error:
        return "rejected by the card" if str(error) else "rejected without a reason"
    tensors = program.tensors
    pairs = [(chain, tensors[chain.source], tensors[chain.target]) for chain in program.chains]
    if max(chain.workspace(source, target) for chain, source, target in pairs) > SMALL:
        return "large"
    if sum(chain.macs(source, target) for chain, source, target in pairs) > WORK:
        return "large"
    output = loaded.compute(rng.normal(0, 1, program.input_shape))
    loaded.close()
    assert output.shape == program.output_shape == loaded.output_shape
    assert np.isfinite(output).all()
    return "run"


def test_mutated_programs_are_run_or_refused(programs, capsys):
    rng = np.random.default_rng(2026)
    seen = Counter()
    for count in range(COUNT):
        mutate = MUTATIONS[count % len(MUTATIONS)]
        name = [*programs][rng.integers(len(programs))]
        data = mutate(rng, programs[name])
        try:
            seen[mutate.__name__, verdict(data, rng)] += 1
        except Exception as error:
            raise AssertionError(f"mutation {count}, {mutate.__name__} of {name!r}: {error!r}") from error
    outcomes = Counter({v: sum(n for (_, w), n in seen.items() if w == v) for _, v in seen})
    with capsys.disabled():
        if COUNT > 300:
            print(f"\n{COUNT} mutated programs: {dict(outcomes)}")
    assert outcomes["run"] > COUNT / 50, f"the mutations hardly ever get past the reader: {seen}"
    assert outcomes["refused"] > COUNT / 3, seen


def test_reading_takes_memory_in_proportion_to_the_bytes(programs):
    rng = np.random.default_rng(7)
    for count in range(COUNT // 4):
        program = [*programs.values()][rng.integers(len(programs))]
        data = MUTATIONS[count % len(MUTATIONS)](rng, program)
        tracemalloc.start()
        try:
            Program.from_bytes(data)
        except (ProgramError, SkuError):
            pass
        finally:
            _, peak = tracemalloc.get_traced_memory()
            tracemalloc.stop()
        assert peak < FLOOR + PER_BYTE * len(data), f"{peak} bytes to read {len(data)}: mutation {count}"
