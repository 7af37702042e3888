"""The tables against what is published of the networks: sizes, multiplications, parameters, names."""

import math

import onnx
import pytest
from accel_zoo import FIVE, Kind, build_onnx, table
from accel_zoo.network import Network
from accel_zoo.recipe import same

PUBLISHED = {
    # name: (parameters without batch normalisation's statistics, all of them trainable; GMAC of the device's part)
    "resnet18": (11_689_512, None),
    "resnet34": (21_797_672, None),
    "resnet50": (25_557_032, 3.46),
    "resnet101": (44_549_160, None),
    "resnet152": (60_192_808, 10.89),
    "vgg11": (132_863_336, None),
    "vgg16": (138_357_544, 15.35),
    "vgg19": (143_667_240, None),
    "densenet121": (7_978_856, None),
    "densenet169": (14_149_480, None),
    "densenet201": (20_013_928, None),
}


def parameters(network: Network) -> int:
    return sum(
        math.prod(shape)
        for name, shape in network.variables()
        if not name.split("/")[-1].startswith("moving")
    )


@pytest.mark.parametrize("name", PUBLISHED)
def test_parameters_and_multiplications_are_those_published(name):
    count, gmac = PUBLISHED[name]
    network = table(name)
    assert parameters(network) == count
    if gmac is not None:
        assert network.macs() / 1e9 == pytest.approx(gmac, abs=0.005)


SIZES = {
    # network: {layer: height, width, channels}
    "resnet50": {
        "conv1": (112, 112, 64),
        "pool1": (55, 55, 64),
        "block1/unit_2/bottleneck_v1": (55, 55, 256),
        "block1/unit_3/bottleneck_v1": (28, 28, 256),
        "block2/unit_4/bottleneck_v1": (14, 14, 512),
        "block3/unit_6/bottleneck_v1": (7, 7, 1024),
        "block4/unit_3/bottleneck_v1": (7, 7, 2048),
        "pool5": (1, 1, 2048),
    },
    "densenet121": {
        "conv1": (112, 112, 64),
        "pool1": (55, 55, 64),
        "dense_block1/conv_block6": (55, 55, 256),
        "transition_block1": (27, 27, 128),
        "transition_block2": (13, 13, 256),
        "transition_block3": (6, 6, 512),
        "final_block/Relu": (6, 6, 1024),
    },
    "vgg16": {"pool4": (14, 14, 512), "pool5": (7, 7, 512), "fc7": (1, 1, 4096)},
    "ssd_vgg300": {
        "conv4/conv4_3/Relu": (37, 37, 512),
        "conv6": (19, 19, 1024),
        "conv7": (19, 19, 1024),
        "block8/conv3x3": (10, 10, 512),
        "block9/conv3x3": (5, 5, 256),
        "block10/conv3x3": (3, 3, 256),
        "block11/conv3x3": (1, 1, 256),
    },
}


@pytest.mark.parametrize("name", SIZES)
def test_sizes(name):
    shapes = table(name).shapes()
    assert {layer: shapes[layer] for layer in SIZES[name]} == SIZES[name]


def test_ssd_has_twelve_heads_of_the_products_shapes():
    network = table("ssd_vgg300")
    model = build_onnx(network, calibrated=False)
    dims = [tuple(d.dim_value for d in o.type.tensor_type.shape.dim)[1:] for o in model.graph.output]
    grids = ((37, 37, 4), (19, 19, 6), (10, 10, 6), (5, 5, 6), (3, 3, 4), (1, 1, 4))
    assert dims == [(*grid, 21) for grid in grids] + [(*grid, 4) for grid in grids]
    assert sum(math.prod(grid) for grid in grids) == 8_432  # anchors
    assert network.outputs[0] == "block4_box/Reshape_1"
    assert network.outputs[6] == "block4_box/Reshape"


NAMES = {
    # network: variables of the public checkpoints, with their shapes
    "resnet50": {
        "resnet_v1_50/conv1/weights": (7, 7, 3, 64),
        "resnet_v1_50/block1/unit_1/bottleneck_v1/shortcut/BatchNorm/gamma": (256,),
        "resnet_v1_50/block4/unit_3/bottleneck_v1/conv2/BatchNorm/moving_variance": (512,),
        "resnet_v1_50/logits/weights": (1, 1, 2048, 1000),
        "resnet_v1_50/logits/biases": (1000,),
    },
    "vgg16": {
        "vgg_16/conv1/conv1_1/weights": (3, 3, 3, 64),
        "vgg_16/conv5/conv5_3/biases": (512,),
        "vgg_16/fc6/weights": (7, 7, 512, 4096),
        "vgg_16/fc8/weights": (1, 1, 4096, 1000),
    },
    "densenet121": {
        "densenet121/BatchNorm/moving_mean": (64,),
        "densenet121/dense_block1/conv_block1/x1/BatchNorm/beta": (64,),
        "densenet121/dense_block1/conv_block1/x1/Conv/weights": (1, 1, 64, 128),
        "densenet121/dense_block4/conv_block16/x2/Conv/weights": (3, 3, 128, 32),
        "densenet121/transition_block3/blk/Conv/weights": (1, 1, 1024, 512),
        "densenet121/final_block/BatchNorm/gamma": (1024,),
    },
    "ssd_vgg300": {
        "ssd_300_vgg/conv6/weights": (3, 3, 512, 1024),
        "ssd_300_vgg/block8/conv3x3/biases": (512,),
        "ssd_300_vgg/block4_box/L2Normalization/gamma": (512,),
        "ssd_300_vgg/block11_box/conv_cls/weights": (3, 3, 256, 84),
    },
}


@pytest.mark.parametrize("name", NAMES)
def test_variables_have_the_names_of_public_checkpoints(name):
    known = dict(table(name).variables())
    assert {variable: known.get(variable) for variable in NAMES[name]} == NAMES[name]


@pytest.mark.parametrize("name", FIVE)
def test_strides_epsilons_and_biases(name):
    network = table(name)
    epsilons = {layer.epsilon for layer in network.layers if layer.kind is Kind.BATCH_NORM}
    assert epsilons == ({"r": {1e-5}, "d": {1.1e-5}}.get(name[0], set()))
    device = [layer for layer in network.layers if layer.kind is Kind.CONV and not layer.host]
    assert {layer.bias for layer in device} == {name in ("vgg16", "ssd_vgg300")}
    strided = [layer.name for layer in device if layer.stride != (1, 1)]
    expected = {
        "resnet50": [
            "conv1",
            *(f"block{b}/unit_{u}/bottleneck_v1/conv2" for b, u in ((1, 3), (2, 4), (3, 6))),
        ],
        "resnet152": [
            "conv1",
            *(f"block{b}/unit_{u}/bottleneck_v1/conv2" for b, u in ((1, 3), (2, 8), (3, 36))),
        ],
        "densenet121": ["conv1"],
        "vgg16": [],
        "ssd_vgg300": ["block8/conv3x3", "block9/conv3x3"],
    }
    assert strided == expected[name]


def test_the_dilated_convolution_keeps_its_size():
    layer = table("ssd_vgg300").layer("conv6")
    assert (layer.dilation, layer.pads, same(3, 6)) == ((6, 6), (6, 6, 6, 6), (6, 6, 6, 6))


def test_other_sizes_and_classes():
    network = table("resnet50", image=64, classes=7)
    assert network.shapes()["predictions"] == (1, 1, 7)
    assert network == table("resnet50").resized(64).with_classes(7)
    with pytest.raises(ValueError, match="too small"):
        table("densenet121", image=16).shapes()
    with pytest.raises(ValueError, match="no classifier"):
        table("ssd_vgg300").with_classes(5)
    for wrong in ("resnet51", "lenet5", "vgg", ""):
        with pytest.raises(ValueError, match="densenet121"):
            table(wrong)
    with pytest.raises(KeyError, match="no layer 'conv9'"):
        network.layer("conv9")


def test_the_device_part_ends_where_the_host_reads():
    ends = {name: table(name).device_part().outputs for name in FIVE}
    assert ends["resnet50"] == ("block4/unit_3/bottleneck_v1",)
    assert ends["densenet121"] == ("final_block/Relu",)
    assert ends["vgg16"] == ("pool5",)
    assert len(ends["ssd_vgg300"]) == 11
    assert ends["ssd_vgg300"][0] == "conv4/conv4_3/Relu"


@pytest.mark.parametrize("name", ["resnet18", "resnet50", "densenet121", "vgg11", "ssd_vgg300"])
def test_every_table_becomes_a_valid_model(name):
    model = build_onnx(table(name).device_part(), calibrated=False, image=300 if "ssd" in name else 96)
    onnx.checker.check_model(model, full_check=True)
    counted = sum(node.op_type == "BatchNormalization" for node in model.graph.node)
    assert counted == sum(layer.kind is Kind.BATCH_NORM for layer in table(name).layers)
