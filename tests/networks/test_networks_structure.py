"""What bench/ times without weights is what the compiler makes of the same table."""

import pytest
from accel_zoo import FIVE, build_onnx, table
from npu.compiler import compile_model
from npu.timing import estimate

from bench.structure import program_of

pytestmark = pytest.mark.network


@pytest.mark.parametrize("name", FIVE)
def test_programs_without_weights_are_the_compilers(name: str) -> None:
    made = compile_model(build_onnx(table(name).device_part(), calibrated=False)).program
    bare = program_of(table(name), "msfp-a10")
    assert (bare.need, bare.outputs) == (made.need, made.output_tensors)
    assert (bare.chains, bare.tensors, bare.loads) == (made.chains, made.tensors, made.loads)
    assert estimate(bare).latency_ms == estimate(made).latency_ms
