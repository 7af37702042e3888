"""Tiles, vectors and registers of whole networks, against the tables of the public firmware."""

import dataclasses
import math

import pytest
from npu.chain import Kind, Need
from npu.fusion import members
from npu.registers import allocate, contradiction, need_of
from npu.schedule import load_contradiction, plan_loads, tiles_of
from npu.sku import load_sku
from npu_layers import densenet, keras_resnet50, slim_resnet, ssd_vgg300, vgg16

# The minimum SKU that the public firmware demands: matrix and float16 vectors, weight tiles, vectors in DRAM.
RESNETS = {
    "ResNet-50": ((3, 4, 6, 3), Need(9075, 16, 12100, 16, 128, 1461, 422)),
    "ResNet-152": ((3, 8, 36, 3), Need(9075, 16, 12100, 16, 128, 3569, 1190)),
}


@pytest.mark.parametrize(("units", "need"), RESNETS.values(), ids=RESNETS)
def test_resnets_equal_the_firmware(units, need):
    program = slim_resnet(units).program()
    assert program.need == need
    assert fused(program) == [(0, 1, 3)]  # conv1 and pool1
    assert sum(load.tiles for load in program.loads) == need.matrix_memory


def test_keras_resnet50_fits_at_56_pixels():
    assert keras_resnet50().program().need == Need(9408, 16, 12544, 16, 128, 1461, 422)


def test_vgg16_keeps_its_front_block_resident():
    program = vgg16().program()
    need = program.need
    assert (need.matrix_memory, need.vector_memory, need.matrix_rf) == (916, 260, 128)
    assert (need.addsub_vrf_0, need.multiply_vrf) == (4, 0)
    assert fused(program) == [(0, 9, 122)]  # conv1_1 to pool3
    front = [load for load in program.loads if load.chain < 10]
    assert {load.buffer for load in front[:8]} == {0}
    assert {load.buffer for load in front[8:]} == {1}
    assert sum(load.tiles for load in front) == 122
    assert (need.initial_vrf, need.addsub_vrf_1) == (
        6272,
        3136,
    )  # ours; the firmware's hand-made: 9,204 and 3,808


DENSENETS = {
    # The growing tensor, its bottleneck and a line of BN-ReLU of the first block are the fullest step.
    "VALID pools": (True, (6, 12, 24, 16), 2 * 55**2 + 55**2 + 2 * 55, 55**2, 958, 770),
    "padded pools": (False, (6, 12, 24, 16), 2 * 56**2 + 56**2 + 2 * 56, 56**2, 958, 770),
    "DenseNet-201": (True, (6, 12, 48, 32), 2 * 55**2 + 55**2 + 2 * 55, 55**2, 1994, 1982),
}


@pytest.mark.parametrize(
    ("valid", "units", "matrix", "half", "tiles", "vectors"), DENSENETS.values(), ids=DENSENETS
)
def test_densenets_grow_in_place(valid, units, matrix, half, tiles, vectors):
    program = densenet(units, valid=valid).program()
    need = program.need
    assert (need.initial_vrf, need.addsub_vrf_1) == (matrix, half)
    assert (need.matrix_memory, need.vector_memory) == (tiles, vectors)
    tensors = program.tensors
    for chain in program.chains:
        if chain.kind is Kind.CONCAT:
            source, target = tensors[chain.source], tensors[chain.target]
            assert (source.matrix_address, source.pitch) == (target.matrix_address, target.pitch)
    assert [tensors[i].pitch for i in range(1, len(tensors)) if tensors[i].pitch > tensors[i - 1].pitch][
        :1
    ] == [2]


def test_ssd_fits_with_bands():
    layers, outputs = ssd_vgg300()
    program = layers.program(outputs)
    need = program.need
    # Weights of conv4_1 with conv4_2, and of conv4_3 with pool4, exceed the matrix registers: four times each.
    assert fused(program) == [(0, 9, 122), (10, 11, 216), (12, 13, 145)]
    assert sum(load.tiles for load in program.loads) == need.matrix_memory + 3 * (216 + 145)
    assert need.initial_vrf <= 10_240
    assert need.vector_memory - sum(c.vectors(program.tensors[c.target]) for c in program.chains) == 302
    heads = [program.tensors[index] for index in outputs[1:]]
    assert not any(head.files for head in heads)  # to the output queue as they are made


def fused(program):
    """First and last chain of each group, and its weight tiles; the plan of loads holds."""
    assert contradiction(program.chains, program.tensors) is None
    assert load_contradiction(program.chains, program.tensors, program.loads) is None
    found = []
    for run in members([chain.group for chain in program.chains]):
        tiles = tiles_of([program.chains[index] for index in run], program.tensors)
        found += [(run[0], run[-1], tiles)] if len(run) > 1 else []
    return found


@pytest.mark.parametrize("sku", ["bw-a10", "bw-s10", "bw-s5"])
def test_other_native_dimensions_have_their_own_structure(sku):
    machine = load_sku(sku)
    n = slim_resnet((3, 4, 6, 3))
    n.tensors = [dataclasses.replace(t, native_dim=machine.native_dim) for t in n.tensors]
    roomy = dataclasses.replace(machine, initial_vrf=1 << 20, addsub_vrf_1=1 << 20)
    chains, tensors = allocate(n.chains, n.tensors, n.names, roomy)
    assert contradiction(chains, tensors) is None
    tiles = 0
    for chain in chains:
        source, target = tensors[chain.source].channels, tensors[chain.target].channels
        per_tap = math.ceil(source / machine.native_dim) * math.ceil(target / machine.native_dim)
        tiles += chain.kernel[0] ** 2 * per_tap if chain.kind is Kind.CONV else 0
    image = chains[0].tiles(tensors[0], tensors[1])
    assert need_of(chains, tensors).matrix_memory == tiles + image + 1
    assert load_contradiction(chains, tensors, plan_loads(chains, tensors, machine)) is None
