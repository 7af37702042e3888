"""What the card holds of a program, until it holds another."""

import hashlib
from collections.abc import Callable

import numpy as np
import pytest
from device_process import DeviceProcess, picture
from npu import oracle
from npu.device import engine
from npu.errors import KernelClosed
from npu.program import Program
from npu.sku import DEFAULT_SKU


def test_a_loaded_program_computes_until_it_is_closed(program: Program) -> None:
    data = program.to_bytes()
    loaded = engine.load(data, hashlib.sha256(data).hexdigest(), DEFAULT_SKU)
    np.testing.assert_array_equal(loaded.compute(picture(program)), oracle.run(program, picture(program)))
    loaded.close()
    with pytest.raises(KernelClosed):
        loaded.compute(picture(program))


def test_programs_take_turns_on_one_card(
    device: Callable[..., DeviceProcess], program: Program, other_program: Program
) -> None:
    client = device().client()
    for wanted in (program, other_program, program):
        client.load(wanted.to_bytes())
        output = client.run(picture(wanted)).output
        np.testing.assert_array_equal(output, oracle.run(wanted, picture(wanted)))
    client.close()
