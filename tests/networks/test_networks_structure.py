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
    assert bare.need == made.need
    assert estimate(bare).latency_ms == pytest.approx(estimate(made).latency_ms, rel=0.01)
    if name != "ssd_vgg300":  # whose heads the compiler puts into another order
        assert (bare.chains, bare.tensors, bare.loads) == (made.chains, made.tensors, made.loads)
