"""Graphs that the toolchain converts out of Keras and TensorFlow hold the firmware's weight tiles and vectors.

Weights are what the libraries start with: structure does not depend on them. What would change it is a batch
normalisation that a converter folded, a pad that stayed an operator, or a transpose in the way.
"""

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from accel_toolchain.jobs import Conversion
from accel_toolchain.model import FloatModel
from accel_zoo import table
from npu.chain import Need
from npu.compiler import compile_model

pytestmark = [
    pytest.mark.tensorflow,
    pytest.mark.filterwarnings("ignore"),  # TensorFlow's own, at import
]

FULL = os.environ.get("ACCEL_TEST_FULL")
SLOW = ("DenseNet121", "resnet152", "ssd_vgg300")  # minutes on a busy machine
KERAS = {
    # network: (arguments, batch normalisations, weight tiles, vectors)
    "ResNet50": ({}, 53, 1_461, 422),
    "VGG16": ({"include_top": False, "input_shape": (224, 224, 3)}, 0, 916, 260),
    "DenseNet121": ({}, 121, 958, 770),
}


def silent(_: str) -> None:
    """Progress that nobody reads."""


def frozen(tf: Any, folder: Path, definition: Any, inputs: str, outputs: list[str]) -> FloatModel:
    from accel_toolchain.tf.frozen_graph import read_frozen_graph

    file = folder / "net.pb"
    file.write_bytes(definition.SerializeToString())
    conversion = Conversion(format="FrozenGraph", inputs=(inputs,), outputs=tuple(outputs))
    return read_frozen_graph(file, conversion, 1, silent)


def normalisations(model: FloatModel) -> int:
    return sum(node.op_type == "BatchNormalization" for node in model.proto.graph.node)


@pytest.mark.parametrize("name", [name for name in KERAS if FULL or name not in SLOW])
def test_keras_own_networks(name: str, tf: Any, tmp_path: Path) -> None:
    from accel_toolchain.tf.saved_model import read_saved_model

    arguments, batch_norms, tiles, vectors = KERAS[name]
    network = getattr(tf.keras.applications, name)(weights=None, **arguments)
    module = tf.Module()
    module.network = network
    side = tf.TensorSpec([None, *network.input_shape[1:]], tf.float32, name="image")
    serve = tf.function(lambda image: {"answer": network(image, training=False)}, input_signature=[side])
    tf.saved_model.save(module, str(tmp_path), signatures=serve)
    tf.keras.backend.clear_session()
    model = read_saved_model(tmp_path, Conversion(), 1, silent)
    assert normalisations(model) == batch_norms
    compiled = compile_model(model.proto)
    need = compiled.program.need
    assert (need.matrix_memory, need.vector_memory) == (tiles, vectors)
    if name == "ResNet50":  # padded pool, 56 x 56: more registers than the firmware's 55 x 55
        assert need == Need(9_408, 16, 12_544, 16, 128, 1_461, 422)


SLIM = {
    # network: (weight tiles, vectors, registers of the matrix unit and of the adders if they are known)
    "resnet50": (1_461, 422, (9_075, 12_100)),
    "resnet152": (3_569, 1_190, (9_075, 12_100)),
    "densenet121": (958, 770, None),
    "ssd_vgg300": (1_742, 377, None),
}


@pytest.mark.parametrize("name", [name for name in SLIM if FULL or name not in SLOW])
def test_graphs_of_tensorflow_1(name: str, tf: Any, tmp_path: Path) -> None:
    from accel_zoo.tensorflow.graph import build_graph

    network = table(name)
    with tf.Graph().as_default() as graph, tf.compat.v1.Session(graph=graph) as session:
        image = tf.compat.v1.placeholder(tf.float32, [None, *network.picture], name="image")
        tensors = build_graph(network, image)
        ends = [tf.identity(tensors[end], name=f"out_{at}").op.name for at, end in enumerate(network.outputs)]
        session.run(tf.compat.v1.global_variables_initializer())
        constants: Callable[..., Any] = tf.compat.v1.graph_util.convert_variables_to_constants
        definition = constants(session, graph.as_graph_def(), ends)
    model = frozen(tf, tmp_path, definition, "image:0", [f"{end}:0" for end in ends])
    assert normalisations(model) == sum(layer.epsilon > 1e-6 for layer in network.layers)
    need = compile_model(model.proto).program.need
    tiles, vectors, registers = SLIM[name]
    assert (need.matrix_memory, need.vector_memory) == (tiles, vectors)
    if registers is not None:
        assert (need.initial_vrf, need.addsub_vrf_1) == registers


def test_variables_take_a_checkpoint_by_its_names(tf: Any, tmp_path: Path) -> None:
    """A checkpoint with the public names is restored, and TensorFlow computes what the table's own arithmetic does."""
    import numpy as np
    from accel_zoo.forward import forward
    from accel_zoo.pictures import pictures
    from accel_zoo.tensorflow.graph import assign, build_graph, restore
    from accel_zoo.weights import random_weights

    network = table("resnet18", image=32, classes=5)
    weights, x = random_weights(network), pictures(network, 2, seed=3)
    expected = forward(network, weights, x)["predictions"][:, 0, 0]
    answers = []
    for filled in ("assigned", "restored"):
        with tf.Graph().as_default() as graph, tf.compat.v1.Session(graph=graph) as session:
            image = tf.compat.v1.placeholder(tf.float32, [None, *network.picture])
            answer = build_graph(network, image)["predictions"]
            if filled == "assigned":
                assign(session, network, weights)
                tf.compat.v1.train.Saver().save(session, str(tmp_path / "model.ckpt"))
            else:
                restore(session, network, str(tmp_path / "model.ckpt"))
            answers.append(session.run(answer, {image: x}).reshape(2, 5))
    names = {name for name, _ in tf.train.list_variables(str(tmp_path / "model.ckpt"))}
    assert names == {name for name, _ in network.variables()}
    for found in answers:
        np.testing.assert_allclose(found, expected, atol=1e-4)
