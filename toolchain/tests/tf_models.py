"""Tiny SavedModels, written with plain TensorFlow: Keras would add seconds and nothing that its SavedModels do not
show here (decomposed batch normalisation, functions in functions).
"""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from accel_toolchain import conversion, jobs
from accel_toolchain.workspace import Workspace, write_note

SIDE = 24


def weights(channels: int = 3, seed: int = 1) -> dict[str, Any]:
    random = np.random.default_rng(seed)
    values = {
        "w": random.normal(0, 0.3, (3, 3, channels, 8)),
        "gamma": random.uniform(0.5, 2, 8),
        "beta": random.normal(0, 1, 8),
        "mean": random.normal(0, 1, 8),
        "var": random.uniform(0.5, 2, 8),
        "dense": random.normal(0, 0.3, (8, 4)),
    }
    return {name: value.astype(np.float32) for name, value in values.items()}


def variables(tf: Any, channels: int = 3, seed: int = 1) -> dict[str, Any]:
    return {name: tf.Variable(value, name=name) for name, value in weights(channels, seed).items()}


def network(tf: Any, v: dict[str, Any], x: Any, fused: bool = False) -> Any:
    """Convolution, normalisation (one operator, or written out as Keras 3 does), ReLU, pool, classifier."""
    x = tf.nn.conv2d(x / 127.5 - 1.0, v["w"], 1, "SAME")
    if fused:
        x = tf.compat.v1.nn.fused_batch_norm(
            x, v["gamma"], v["beta"], mean=v["mean"], variance=v["var"], epsilon=1e-3, is_training=False
        )[0]
    else:
        x = tf.nn.batch_normalization(x, v["mean"], v["var"], v["beta"], v["gamma"], 1e-3)
    x = tf.nn.max_pool2d(tf.nn.relu(x), 2, 2, "VALID")
    return tf.nn.softmax(tf.matmul(tf.reduce_mean(x, [1, 2]), v["dense"]))


def mapped(tf: Any, one: Callable[[Any], Any], images: Any, shape: list[Any], dtype: Any = None) -> Any:
    return tf.map_fn(one, images, fn_output_signature=tf.TensorSpec(shape, dtype or tf.float32))


def decoded(tf: Any, data: Any, channels: int = 3) -> Any:
    return tf.io.decode_jpeg(data, channels=channels)


def save(
    tf: Any, folder: Path, serve: Callable[[Any, dict[str, Any], Any], Any], seed: int = 1, channels: int = 3
) -> Path:
    """Export a module whose `serve(tf, variables, images)` takes strings and gives class scores."""
    module = tf.Module()
    module.v = variables(tf, channels, seed)
    signature = [tf.TensorSpec([None], tf.string, name="images")]
    function = tf.function(
        lambda images: {"output_alias": serve(tf, module.v, images)}, input_signature=signature
    )
    tf.saved_model.save(module, str(folder), signatures={"serving_default": function})
    return folder


def convert(source: Path, work: Workspace, text: str) -> dict[str, Any]:
    source.rename(work.source)
    write_note(work.source_note, {"sha256": "5" * 64, "known": False})
    return conversion.run(jobs.parse_convert(text), work)


def plain(tf: Any, v: Any, images: Any) -> Any:
    x = mapped(tf, lambda b: tf.image.resize(decoded(tf, b), [SIDE, SIDE]), images, [SIDE, SIDE, 3])
    return network(tf, v, x)


def save_tensorflow1(tf: Any, folder: Path) -> Path:
    """A graph of TensorFlow 1: its loops, its variables, its saver, no functions."""
    tf.compat.v1.disable_control_flow_v2()
    tf.compat.v1.disable_resource_variables()
    try:
        with tf.Graph().as_default(), tf.compat.v1.Session() as session:
            images = tf.compat.v1.placeholder(tf.string, [None], name="image_bytes")
            v = {
                name: tf.compat.v1.get_variable(name, initializer=tf.constant(value))
                for name, value in weights().items()
            }

            def one(data: Any) -> Any:
                picture = tf.cast(tf.io.decode_jpeg(data, channels=3), tf.float32)
                return tf.compat.v1.image.resize_bilinear(picture[tf.newaxis], [SIDE, SIDE])[0] - 100.0

            x = tf.compat.v1.map_fn(one, images, dtype=tf.float32)
            x.set_shape([None, SIDE, SIDE, 3])
            with tf.name_scope("classifier"):
                scores = tf.identity(network(tf, v, x, fused=True), name="predictions/Softmax")
            session.run(tf.compat.v1.global_variables_initializer())
            tf.compat.v1.saved_model.simple_save(
                session, str(folder), {"images": images}, {"output_alias": scores}
            )
    finally:
        tf.compat.v1.enable_control_flow_v2()
        tf.compat.v1.enable_resource_variables()
    return folder
