"""Random weights: what calibration promises, and that three ways of computing a network agree."""

from dataclasses import replace

import numpy as np
import onnxruntime
import pytest
from accel_zoo import Kind, build_onnx, table
from accel_zoo.forward import apply, forward, walk
from accel_zoo.pictures import pictures
from accel_zoo.weights import blank_weights, random_weights

SMALL = {
    # name: side of the smallest sensible picture
    "resnet18": 64,
    "densenet121": 64,
}


@pytest.fixture(scope="module", params=SMALL)
def small(request):
    network = table(request.param, image=SMALL[request.param], classes=10)
    return network, random_weights(network)


def test_numpy_agrees_with_onnx_runtime(small):
    network, weights = small
    x = pictures(network, 2, seed=5)
    session = onnxruntime.InferenceSession(build_onnx(network, weights=weights).SerializeToString())
    found = session.run(None, {"image": x.transpose(0, 3, 1, 2)})[0]
    np.testing.assert_allclose(found, forward(network, weights, x)["predictions"][:, 0, 0], atol=1e-4)


def test_numbers_stay_in_range_and_answers_differ(small):
    network, weights = small
    seen = {}

    def watched(layer, inputs):
        seen[layer.name] = apply(layer, inputs, weights)
        return seen[layer.name]

    walk(network, pictures(network, 3, seed=6), watched)
    for layer in network.layers:
        if layer.kind is Kind.RELU:
            assert 0.05 < seen[layer.name].std() < 20, layer.name
            assert seen[layer.name].max() < 1000, layer.name
    logits = seen["logits"][:, 0, 0]
    assert np.abs(logits).max() < 30
    assert np.abs(logits[0] - logits[1]).max() > 0.1


def test_the_same_seed_gives_the_same_weights():
    network = table("resnet18", image=32, classes=3)
    network = replace(network, layers=network.layers[:12], outputs=(network.layers[11].name,))
    one, same, other = (random_weights(network, seed) for seed in (1, 1, 2))
    assert all(np.array_equal(one[name], same[name]) for name in one)
    assert not np.array_equal(one["resnet_v1_18/conv1/weights"], other["resnet_v1_18/conv1/weights"])
    assert {name: w.shape for name, w in one.items()} == dict(network.variables())
    assert {name: w.shape for name, w in blank_weights(network).items()} == dict(network.variables())


def test_l2_normalisation_and_boxes():
    network = table("ssd_vgg300")
    head = [layer for layer in network.layers if layer.name.startswith("block4_box")]
    head[0] = replace(head[0], inputs=("image",))
    heads = replace(
        network,
        picture=(5, 4, 512),
        layers=tuple(head),
        outputs=(head[2].name, head[4].name),
        means=(0.0,) * 3,
    )
    weights = {name: np.full(shape, 0.01, np.float32) for name, shape in heads.variables()}
    rng = np.random.default_rng(0)
    weights["ssd_300_vgg/block4_box/conv_cls/weights"] = rng.normal(0, 0.1, (3, 3, 512, 84)).astype(
        np.float32
    )
    x = rng.normal(0, 3, (1, 5, 4, 512)).astype(np.float32)
    expected = forward(heads, weights, x)
    assert expected["block4_box/Reshape_1"].shape == (1, 5, 4, 4, 21)
    session = onnxruntime.InferenceSession(build_onnx(heads, weights=weights).SerializeToString())
    for name, found in zip(heads.outputs, session.run(None, {"image": x.transpose(0, 3, 1, 2)}), strict=True):
        np.testing.assert_allclose(found, expected[name], atol=1e-5, err_msg=name)
