"""Tiles, vectors and registers of whole networks, against the tables of the public firmware."""

import pytest
from npu.chain import Need
from npu.schedule import load_contradiction
from npu_layers import keras_resnet50, slim_resnet

# The minimum SKU that the public firmware demands: matrix and float16 vectors, weight tiles, vectors in DRAM.
GOLDEN = {
    "ResNet-50": ((3, 4, 6, 3), Need(9075, 16, 12100, 16, 128, 1461, 422)),
    "ResNet-152": ((3, 8, 36, 3), Need(9075, 16, 12100, 16, 128, 3569, 1190)),
}


@pytest.mark.parametrize(("units", "need"), GOLDEN.values(), ids=GOLDEN)
def test_structure_equals_the_firmware(units, need):
    program = slim_resnet(units).program()
    assert program.need == need
    assert sum(load.tiles for load in program.loads) == need.matrix_memory
    assert max(load.tiles for load in program.loads) == 64
    assert load_contradiction(program.chains, program.tensors, program.loads) is None


def test_keras_resnet50_fits_at_56_pixels():
    assert keras_resnet50().program().need == Need(9408, 16, 12544, 16, 128, 1461, 422)
