"""The compiled networks hold as many weight tiles, vectors and registers as the accelerator's firmware asks for.

Weights are zeros: structure does not depend on them. The second half counts by rule, from the tables alone.
"""

from functools import cache

import pytest
from accel_zoo import Kind, build_onnx, table
from accel_zoo.network import PICTURE, Network
from npu.chain import Need
from npu.compiler import Compiled, compile_model
from npu.sku import check_fits, load_sku

NATIVE = 128

FIRMWARE = {
    # network: what its public firmware demands at least. VGG's registers are hand-made line buffers: not comparable.
    "resnet50": Need(9_075, 16, 12_100, 16, 128, 1_461, 422),
    "resnet152": Need(9_075, 16, 12_100, 16, 128, 3_569, 1_190),
    "vgg16": Need(0, 4, 0, 0, 128, 916, 260),
}
DERIVED = {
    # network: (weight tiles, vectors, native vectors in the output queue); docs/networks.md has the derivation
    "densenet121": (958, 770, 288),
    "ssd_vgg300": (1_742, 75 + 302, 37 * 37 * 4 + 2 * (361 + 100 + 25 + 9 + 1)),
}
OUTPUTS = {"resnet50": 784, "resnet152": 784, "vgg16": 196, "densenet121": 288}


@cache
def compiled(name: str, image: int | None = None) -> Compiled:
    network = table(name) if image is None else table(name, image=image)
    return compile_model(build_onnx(network.device_part(), calibrated=False))


@pytest.mark.parametrize("name", FIRMWARE)
def test_structure_equals_the_firmware(name):
    need, golden = compiled(name).program.need, FIRMWARE[name]
    assert (need.matrix_memory, need.vector_memory) == (golden.matrix_memory, golden.vector_memory)
    if name != "vgg16":
        assert need == golden
    else:
        assert (need.addsub_vrf_0, need.multiply_vrf, need.matrix_rf) == (4, 0, 128)


@pytest.mark.parametrize("name", DERIVED)
def test_structure_of_the_networks_without_public_firmware(name):
    need = compiled(name).program.need
    assert (need.matrix_memory, need.vector_memory) == DERIVED[name][:2]


@pytest.mark.parametrize("name", [*FIRMWARE, *DERIVED])
def test_everything_goes_to_the_device_and_fits(name):
    made = compiled(name)
    assert made.host_ops == len(table(name).device_part().outputs) - 1 or made.host_ops == 0
    check_fits(made.program.need, load_sku())
    program = made.program
    queue = sum(program.tensors[index].vectors for index in program.output_tensors)
    assert queue == (OUTPUTS[name] if name in OUTPUTS else DERIVED[name][2])


def counted(network: Network) -> tuple[int, int]:
    """Weight tiles and vectors by the counting rules, read off the table: no compiler takes part."""
    shapes, device = network.shapes(), network.device_part().layers
    readers = {name: [layer for layer in device if name in layer.inputs] for name in shapes}
    makers = {layer.name: layer for layer in device}

    def tiles_of(channels: int) -> int:
        return -(-channels // NATIVE)

    tiles = vectors = 0
    for layer in device:
        into, out = shapes[layer.inputs[0]][2], shapes[layer.name][2]
        match layer.kind:
            case Kind.CONV:
                taps = layer.kernel[0] * layer.kernel[1]
                tiles += (2 if layer.inputs == (PICTURE,) else tiles_of(into) * taps) * tiles_of(out)
                normalised = [reader.kind for reader in readers[layer.name]] == [Kind.BATCH_NORM]
                vectors += tiles_of(out) * (2 if normalised else 1)
            case Kind.BATCH_NORM:
                maker = makers.get(layer.inputs[0])
                if maker is None or maker.kind is not Kind.CONV:
                    tiles, vectors = tiles + 1, vectors + 2 * tiles_of(out)
            case Kind.MAX_POOL if layer.kernel != (1, 1):
                tiles += 1
            case Kind.CONCAT:
                tiles += 1
            case Kind.AVERAGE_POOL:
                tiles, vectors = tiles + 1, vectors + tiles_of(out)
    return tiles, vectors


PUBLISHED = {
    "resnet50": (1_461, 422),
    "resnet152": (3_569, 1_190),
    "vgg16": (916, 34),
    "densenet121": (958, 770),
}


@pytest.mark.parametrize("name", PUBLISHED)
def test_the_counting_rules_give_the_published_numbers(name):
    assert counted(table(name)) == PUBLISHED[name]


@pytest.mark.parametrize("name", ["resnet18", "resnet34", "vgg11", "densenet169"])
def test_other_networks_compile_to_what_the_rules_count(name):
    """At 64 pixels, so that no line-buffered block with its row of zeros is in the way."""
    need = compiled(name, 64).program.need
    assert (need.matrix_memory, need.vector_memory) == counted(table(name, image=64))
