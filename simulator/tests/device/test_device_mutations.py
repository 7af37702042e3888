"""Mutated programs sent to a card in a process of its own: each is loaded or rejected, and the card goes on."""

import os

import numpy as np
from device_process import DeviceProcess
from npu import oracle
from npu.device.client import ProgramRejected
from npu.program import Program
from program_mutations import MUTATIONS
from program_samples import samples

COUNT = 1_000 if os.environ.get("ACCEL_TEST_FULL") else 40


def test_a_card_survives_mutated_programs(shared: DeviceProcess) -> None:
    rng = np.random.default_rng(41)
    programs = [program for program in samples().values() if program.native_dim == 128]
    client = shared.client()
    taken, refusals = 0, []
    for count in range(COUNT):
        data = MUTATIONS[count % len(MUTATIONS)](rng, programs[count % len(programs)])
        try:
            client.load(data)
        except ProgramRejected as error:
            refusals.append(str(error))
            continue
        program = Program.from_bytes(data)
        if max(program.input_shape) < 256:
            taken += 1
            x = rng.normal(0, 1, program.input_shape).astype(np.float32)
            np.testing.assert_array_equal(client.run(x).output, oracle.run(program, x))
    client.close()
    assert taken > COUNT / 40
    assert all(refusals)
    assert shared.process.poll() is None
