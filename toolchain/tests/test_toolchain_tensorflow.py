"""SavedModels: real conversions of tiny ones. All in one module, so that TensorFlow is imported once.

Models are written with plain TensorFlow: Keras would add seconds and nothing that its SavedModels do not show here
(decomposed batch normalisation, functions in functions).
"""

import json
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Callable
from itertools import takewhile
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from accel.oci import Reference, Registry, push_source
from accel_toolchain import conversion, jobs
from accel_toolchain.conditions import Terminal
from accel_toolchain.workspace import Workspace, write_note

pytestmark = [
    pytest.mark.tensorflow,
    pytest.mark.filterwarnings("ignore"),  # TensorFlow's own, at import
]

Make = Callable[..., str]
SIDE = 24


@pytest.fixture(scope="module")
def tf() -> Any:
    os.environ["TF_CPP_MIN_LOG_LEVEL"] = "3"
    import tensorflow as tf

    return tf


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


# Heads: how exporters write the decoding of pictures


def plain(tf: Any, v: Any, images: Any) -> Any:
    x = mapped(tf, lambda b: tf.image.resize(decoded(tf, b), [SIDE, SIDE]), images, [SIDE, SIDE, 3])
    return network(tf, v, x)


def any_format_scaled_first(tf: Any, v: Any, images: Any) -> Any:
    def one(data: Any) -> Any:
        picture = tf.io.decode_image(data, channels=3, expand_animations=False)
        picture = tf.image.convert_image_dtype(picture, tf.float32)
        return tf.image.resize(picture, [SIDE, SIDE])

    return network(tf, v, mapped(tf, one, images, [SIDE, SIDE, 3]) * 255.0)


def preprocess_array(tf: Any, v: Any, images: Any) -> Any:
    """Azure's: the smallest side becomes 256, the centre is cut, means are subtracted, channels reversed."""

    def one(data: Any) -> Any:
        picture = tf.cast(decoded(tf, data), tf.float32)
        shape = tf.shape(picture)
        height, width = shape[0], shape[1]
        smallest = tf.minimum(height, width)
        size = tf.stack([height * 256 // smallest, width * 256 // smallest])
        picture = tf.compat.v1.image.resize_bilinear(picture[tf.newaxis], size)[0]
        top, left = (size[0] - 224) // 2, (size[1] - 224) // 2
        return tf.slice(picture, [top, left, 0], [224, 224, 3]) - tf.constant([123.68, 116.779, 103.939])

    x = mapped(tf, one, images, [224, 224, 3])
    return network(tf, v, tf.reverse(x, [-1]))


def library_crop(tf: Any, v: Any, images: Any) -> Any:
    def one(data: Any) -> Any:
        return tf.image.resize_with_crop_or_pad(decoded(tf, data), SIDE, SIDE)

    return network(tf, v, tf.cast(mapped(tf, one, images, [SIDE, SIDE, 3], tf.uint8), tf.float32))


def reversed_in_the_map(tf: Any, v: Any, images: Any) -> Any:
    def one(data: Any) -> Any:
        return tf.image.resize(decoded(tf, data), [SIDE, SIDE])[..., ::-1] * [1.0, 0.5, 2.0] + 3.0

    return network(tf, v, mapped(tf, one, images, [SIDE, SIDE, 3]))


def whole_numbers_in_between(tf: Any, v: Any, images: Any) -> Any:
    def one(data: Any) -> Any:
        picture = tf.cast(tf.image.resize(decoded(tf, data), [SIDE, SIDE]), tf.uint8)
        return tf.cast(picture, tf.float32) / 2.0

    return network(tf, v, mapped(tf, one, images, [SIDE, SIDE, 3]))


def nearest_uint8_in_a_function(tf: Any, v: Any, images: Any) -> Any:
    @tf.function
    def one(data: Any) -> Any:
        return tf.cast(tf.image.resize(decoded(tf, data), [SIDE, SIDE], "nearest"), tf.uint8)

    x = mapped(tf, one, images, [SIDE, SIDE, 3], tf.uint8)
    return network(tf, v, tf.cast(x, tf.float32))


def batch_size_of_the_strings(tf: Any, v: Any, images: Any) -> Any:
    x = mapped(tf, lambda b: tf.image.resize(decoded(tf, b), [SIDE, SIDE]), images, [SIDE, SIDE, 3])
    return tf.reshape(network(tf, v, x, fused=True), tf.stack([tf.shape(images)[0], 4]))


HEADS: dict[str, tuple[Callable[..., Any], str, list[dict[str, Any]]]] = {
    # name: (head, dtype that the server hands over, steps)
    "resize": (plain, "float32", [{"op": "resize", "height": SIDE, "halfPixelCenters": True}]),
    "decode_image, scaled before the resize": (
        any_format_scaled_first,
        "float32",
        [{"op": "resize", "height": SIDE}],
    ),
    "smallest side, central crop, means": (
        preprocess_array,
        "float32",
        [
            {"op": "resizeSmallest", "side": 256, "halfPixelCenters": False},
            {"op": "crop", "height": 224, "width": 224},
        ],
    ),
    "crop by the library": (library_crop, "uint8", [{"op": "crop", "height": SIDE, "width": SIDE}]),
    "channels reversed in the map": (reversed_in_the_map, "float32", [{"op": "resize", "height": SIDE}]),
    "truncated to whole numbers": (whole_numbers_in_between, "uint8", [{"op": "resize", "height": SIDE}]),
    "nearest, inside a function": (
        nearest_uint8_in_a_function,
        "uint8",
        [{"op": "resize", "method": "nearest"}],
    ),
    "batch size read from the strings": (
        batch_size_of_the_strings,
        "float32",
        [{"op": "resize", "height": SIDE}],
    ),
}


@pytest.mark.parametrize(("serve", "dtype", "steps"), HEADS.values(), ids=HEADS)
def test_a_picture_head_becomes_parameters(
    serve: Callable[..., Any],
    dtype: str,
    steps: list[dict[str, Any]],
    tf: Any,
    convert_job: Make,
    work: Workspace,
    tmp_path: Path,
) -> None:
    report = convert(save(tf, tmp_path / "model", serve), work, convert_job())
    decode = report["decode"]
    assert (decode["input"], decode["channels"], decode["dtype"]) == ("serving_default_images:0", 3, dtype)
    assert len(decode["steps"]) == len(steps)
    for step, expected in zip(decode["steps"], steps, strict=True):
        assert step | expected == step
    assert report["floatParity"]["maxRel"] < 1e-4
    assert report["parity"]["maxRel"] < 0.2
    assert report["inputs"] == [
        {"name": "serving_default_images:0", "alias": "images", "dtype": "string", "shape": [-1]}
    ]
    assert report["outputs"][0]["alias"] == "output_alias"
    assert report["outputs"][0]["shape"] == [-1, 4]
    composed = onnx.load(work.artifact / "model.onnx")
    assert (composed.graph.node[0].domain, composed.graph.node[0].op_type) == ("accel", "DecodeImage")
    assert report["device"]["offloadedOps"] >= 4, "convolution, normalisation, ReLU and pool"


def test_a_grey_picture(tf: Any, convert_job: Make, work: Workspace, tmp_path: Path) -> None:
    def serve(tf: Any, v: Any, images: Any) -> Any:
        x = mapped(
            tf,
            lambda b: tf.image.resize(tf.io.decode_png(b, channels=1), [SIDE, SIDE]),
            images,
            [SIDE, SIDE, 1],
        )
        return network(tf, v, x)

    report = convert(save(tf, tmp_path / "model", serve, channels=1), work, convert_job())
    assert report["decode"]["channels"] == 1
    assert report["floatParity"]["maxRel"] < 1e-3


BAD_HEADS: dict[str, tuple[Callable[[Any, Any], Any], str]] = {
    # name: (what is done to one string, operator that the message names)
    "bicubic": (lambda tf, b: tf.image.resize(decoded(tf, b), [SIDE, SIDE], "bicubic"), "ResizeBicubic"),
    "antialias": (
        lambda tf, b: tf.image.resize(decoded(tf, b), [SIDE, SIDE], antialias=True),
        "ScaleAndTranslate",
    ),
    "channels of the file": (lambda tf, b: tf.image.resize(decoded(tf, b, 0), [SIDE, SIDE]), "channels=0"),
    "standardised by its own mean": (
        lambda tf, b: tf.image.resize(tf.image.per_image_standardization(decoded(tf, b)), [SIDE, SIDE]),
        "depend on the picture",
    ),
    "cut from the corner": (lambda tf, b: tf.cast(decoded(tf, b)[:SIDE, :SIDE], tf.float32), "which cuts"),
    "base64": (
        lambda tf, b: tf.image.resize(decoded(tf, tf.io.decode_base64(b)), [SIDE, SIDE]),
        "could not be",
    ),
}


@pytest.mark.parametrize(("one", "named"), BAD_HEADS.values(), ids=BAD_HEADS)
def test_a_picture_head_that_no_server_knows_is_refused(
    one: Callable[[Any, Any], Any], named: str, tf: Any, convert_job: Make, work: Workspace, tmp_path: Path
) -> None:
    def serve(tf: Any, v: Any, images: Any) -> Any:
        x = mapped(tf, lambda b: tf.ensure_shape(one(tf, b), [SIDE, SIDE, 3]), images, [SIDE, SIDE, 3])
        return network(tf, v, x)

    with pytest.raises(Terminal) as raised:
        convert(save(tf, tmp_path / "model", serve), work, convert_job())
    assert raised.value.reason in ("UnsupportedOperator", "InvalidModel")
    if raised.value.reason == "UnsupportedOperator":
        assert named in raised.value.message


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


def test_tensorflow_1_by_its_signature(tf: Any, convert_job: Make, work: Workspace, tmp_path: Path) -> None:
    report = convert(save_tensorflow1(tf, tmp_path / "model"), work, convert_job())
    assert report["inputs"][0]["name"] == "image_bytes:0"
    assert report["outputs"] == [
        {
            "name": "classifier/predictions/Softmax:0",
            "alias": "output_alias",
            "dtype": "float32",
            "shape": [-1, 4],
        }
    ]
    assert [step["op"] for step in report["decode"]["steps"]] == ["resize"]
    assert report["floatParity"]["maxRel"] < 1e-4


def test_tensorflow_1_cut_at_a_tensor(tf: Any, convert_job: Make, work: Workspace, tmp_path: Path) -> None:
    source = save_tensorflow1(tf, tmp_path / "model")
    text = convert_job(inputs=["image_bytes:0"], outputs=["classifier/Mean:0"])
    report = convert(source, work, text)
    assert report["outputs"] == [
        {"name": "classifier/Mean:0", "alias": "classifier/Mean", "dtype": "float32", "shape": [-1, 8]}
    ]


def test_arrays_in_and_some_of_the_outputs_out(
    tf: Any, convert_job: Make, work: Workspace, tmp_path: Path
) -> None:
    module = tf.Module()
    module.v = variables(tf)

    def serve(x: Any) -> Any:
        scores = network(tf, module.v, x, fused=True)
        return {"scores": scores, "double": scores * 2.0}

    signature = [tf.TensorSpec([None, SIDE, SIDE, 3], tf.float32, name="pixels")]
    tf.saved_model.save(
        module, str(tmp_path / "model"), {"serving_default": tf.function(serve, input_signature=signature)}
    )
    report = convert(tmp_path / "model", work, convert_job(outputs=["double"]))
    assert report["decode"] is None
    assert report["inputs"] == [
        {
            "name": "serving_default_pixels:0",
            "alias": "pixels",
            "dtype": "float32",
            "shape": [-1, SIDE, SIDE, 3],
        }
    ]
    assert [output["alias"] for output in report["outputs"]] == ["double"]
    assert report["floatParity"]["maxRel"] < 1e-5


# What is refused


def reads_a_file(tf: Any, v: Any, images: Any) -> Any:
    secret = tf.strings.length(tf.io.read_file("/etc/hostname"))
    return plain(tf, v, images) + tf.cast(secret, tf.float32) * 0.0


def runs_python(tf: Any, v: Any, images: Any) -> Any:
    return tf.py_function(lambda x: x, [plain(tf, v, images)], tf.float32)


def prints_to_a_file(tf: Any, v: Any, images: Any) -> Any:
    tf.print("x", output_stream="file:///tmp/evil")
    return plain(tf, v, images)


def decomposes(tf: Any, v: Any, images: Any) -> Any:
    x = mapped(tf, lambda b: tf.image.resize(decoded(tf, b), [SIDE, SIDE]), images, [SIDE, SIDE, 3])
    return tf.linalg.svd(tf.nn.conv2d(x, v["w"], 1, "SAME"), compute_uv=False)[:, 0, :4]


def only_arithmetic(tf: Any, v: Any, images: Any) -> Any:
    x = mapped(tf, lambda b: tf.image.resize(decoded(tf, b), [SIDE, SIDE]), images, [SIDE, SIDE, 3])
    return tf.reduce_mean(tf.sin(x), [1, 2])


def two_uses(tf: Any, v: Any, images: Any) -> Any:
    return plain(tf, v, images) + tf.cast(tf.strings.length(images), tf.float32)[:, tf.newaxis]


REFUSED: dict[str, tuple[Callable[..., Any], dict[str, Any], str, str]] = {
    # name: (model, options, reason, what the message says)
    "reads a file": (reads_a_file, {}, "ForbiddenOperator", "ReadFile"),
    "runs Python": (runs_python, {}, "ForbiddenOperator", "EagerPyFunc"),
    "prints to a file": (prints_to_a_file, {}, "ForbiddenOperator", "PrintV2"),
    "operator unknown to ONNX": (decomposes, {}, "UnsupportedOperator", "Svd"),
    "nothing for the FPGA": (only_arithmetic, {}, "NothingToOffload", "requireFpga"),
    "strings used twice": (two_uses, {}, "UnsupportedOperator", "more than one"),
    "unknown output": (
        plain,
        {"outputs": ["nope:0"]},
        "UnknownTensor",
        "StatefulPartitionedCall:0 (alias output_alias)",
    ),
    "unknown input": (
        plain,
        {"inputs": ["Placeholder"]},
        "UnknownTensor",
        "serving_default_images:0 (alias images)",
    ),
    "unknown signature": (plain, {"signature": "predict"}, "InvalidModel", "serving_default"),
}


@pytest.mark.parametrize(("serve", "options", "reason", "message"), REFUSED.values(), ids=REFUSED)
def test_refused(
    serve: Callable[..., Any],
    options: dict[str, Any],
    reason: str,
    message: str,
    tf: Any,
    convert_job: Make,
    work: Workspace,
    tmp_path: Path,
) -> None:
    with pytest.raises(Terminal) as raised:
        convert(save(tf, tmp_path / "model", serve), work, convert_job(**options))
    assert (raised.value.reason, message in raised.value.message) == (reason, True), raised.value.message


def test_a_tensorflow_1_graph_names_similar_tensors(
    tf: Any, convert_job: Make, work: Workspace, tmp_path: Path
) -> None:
    text = convert_job(outputs=["classifier/prediction/Softmax:0"])
    with pytest.raises(Terminal, match="Similar in the graph: classifier/predictions/Softmax:0") as raised:
        convert(save_tensorflow1(tf, tmp_path / "model"), work, text)
    assert raised.value.reason == "UnknownTensor"


DAMAGE: dict[str, tuple[Callable[[Path], object], str]] = {
    # name: (what happens to the folder, reason)
    "graph is garbage": (lambda m: (m / "saved_model.pb").write_bytes(b"\xff" * 99), "NotASavedModel"),
    "graph is empty": (lambda m: (m / "saved_model.pb").write_bytes(b""), "NotASavedModel"),
    "variables are missing": (lambda m: (m / "variables" / "variables.index").unlink(), "InvalidModel"),
    "variables are truncated": (
        lambda m: (m / "variables" / "variables.data-00000-of-00001").write_bytes(b"x"),
        "InvalidModel",
    ),
}


@pytest.mark.parametrize(("harm", "reason"), DAMAGE.values(), ids=DAMAGE)
def test_a_damaged_savedmodel_is_a_clean_condition(
    harm: Callable[[Path], object], reason: str, tf: Any, convert_job: Make, work: Workspace, tmp_path: Path
) -> None:
    source = save(tf, tmp_path / "model", plain)
    harm(source)
    with pytest.raises(Terminal) as raised:
        convert(source, work, convert_job())
    assert raised.value.reason == reason
    assert "Traceback" not in raised.value.message


SAVERS = {
    # name: (operator that asks the saver's RestoreV2, what is served, forbidden)
    "the saver alone": ("save/restore_all", "b:0", False),
    "served": ("save/restore_all", "r:0", True),
    "served from behind": ("save/restore_all", "a:0", True),
    "run at loading": ("other", "b:0", True),
}


@pytest.mark.parametrize(("restore_op", "served", "forbidden"), SAVERS.values(), ids=SAVERS)
def test_restoring_is_the_savers_alone(restore_op: str, served: str, forbidden: bool, tf: Any) -> None:
    from accel_toolchain.tf.screening import screen
    from tensorflow.core.protobuf import meta_graph_pb2

    meta_graph = meta_graph_pb2.MetaGraphDef()
    nodes = (
        ("r", "RestoreV2", []),
        ("save/restore_all", "NoOp", ["^r"]),
        ("a", "Identity", ["r"]),
        ("b", "Identity", []),
    )
    for name, op, inputs in nodes:
        meta_graph.graph_def.node.add(name=name, op=op, input=inputs)
    meta_graph.saver_def.restore_op_name = restore_op
    if forbidden:
        with pytest.raises(Terminal, match="RestoreV2"):
            screen(meta_graph, [served])
    else:
        screen(meta_graph, [served])


def grabbing(tf: Any) -> Any:
    """A resource that TensorFlow initialises while it loads the model: by reading from a bucket on the network."""

    class Resource(tf.saved_model.experimental.TrackableResource):  # type: ignore[misc]
        def _create_resource(self) -> Any:
            return tf.raw_ops.MutableHashTableV2(key_dtype=tf.string, value_dtype=tf.float32)

        @tf.function(input_signature=[])
        def _initialize(self) -> Any:
            return tf.raw_ops.RestoreV2(
                prefix="gs://bucket/w", tensor_names=["w"], shape_and_slices=[""], dtypes=[tf.float32]
            )[0]

    return Resource()


def test_a_model_that_reaches_out_while_it_is_loaded(
    tf: Any, convert_job: Make, work: Workspace, tmp_path: Path
) -> None:
    module = tf.Module()
    module.v, module.resource = variables(tf), grabbing(tf)
    signature = [tf.TensorSpec([None], tf.string, name="images")]
    function = tf.function(lambda images: {"y": plain(tf, module.v, images)}, input_signature=signature)
    tf.saved_model.save(module, str(tmp_path / "model"), signatures={"serving_default": function})
    with pytest.raises(Terminal, match="RestoreV2") as raised:
        convert(tmp_path / "model", work, convert_job())
    assert raised.value.reason == "ForbiddenOperator"


def reaches_out(tf: Any, v: Any, images: Any) -> Any:
    fetched = tf.strings.length(tf.io.read_file("gs://bucket/weights"))
    return plain(tf, v, images) + tf.cast(fetched, tf.float32) * 0.0


# The converting child without its screening: only the filter is left. `verify` is what notices that it is missing.
UNSCREENED = """
import os
os.environ |= {"TF_CPP_MIN_LOG_LEVEL": "0", "TF_CPP_VMODULE": "retrying_utils=1"}
from accel_toolchain import conversion, sandbox
from accel_toolchain.tf import saved_model
saved_model.screen = lambda *_: None
sandbox.verify = lambda: None
raise SystemExit(conversion.main())
"""
CONFINED = """
import sys
from accel_toolchain import cli, convert
convert._CHILD[1:] = ["-c", sys.argv[1]]
cli.main(["convert"])
"""


@pytest.mark.parametrize(
    "confined", [False, True], ids=["without the filter it connects", "with the filter it cannot"]
)
def test_a_model_that_reaches_out_while_it_is_run(
    confined: bool, tf: Any, convert_job: Make, work: Workspace, tmp_path: Path
) -> None:
    """The way out is an HTTPS proxy of ours, so that nothing else is asked, and a connection is seen."""
    save(tf, tmp_path / "model", reaches_out).rename(work.source)
    write_note(work.source_note, {"sha256": "5" * 64, "known": False})
    with socket.create_server(("127.0.0.1", 0)) as proxy:
        environment = {
            **os.environ,
            "ACCEL_JOB": convert_job(),
            "ACCEL_WORK": str(work.root),
            "ACCEL_TERMINATION_LOG": str(work.root / "termination"),
            "https_proxy": f"http://127.0.0.1:{proxy.getsockname()[1]}",
            "NO_GCE_CHECK": "true",
        }
        command = [sys.executable, "-c", *([CONFINED] if confined else []), UNSCREENED]
        with subprocess.Popen(
            command,
            env=environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        ) as converter:
            try:
                if confined:
                    assert converter.stdout is not None
                    # Having tried and failed, TensorFlow says this, and would go on trying for minutes.
                    said = list(takewhile(lambda line: "automatically retried" not in line, converter.stdout))
                    assert converter.poll() is None, "".join(said[-20:])
                    proxy.setblocking(False)
                    with pytest.raises(BlockingIOError):
                        proxy.accept()
                else:
                    proxy.settimeout(100)
                    connection, _ = proxy.accept()
                    with connection:
                        assert connection.recv(100).startswith(b"CONNECT storage.googleapis.com")
            finally:
                os.killpg(converter.pid, signal.SIGKILL)


# The whole way


def run(step: str, text: str, work: Workspace) -> dict[str, Any]:
    result = work.root / "termination"
    environment = {
        **os.environ,
        "ACCEL_JOB": text,
        "ACCEL_WORK": str(work.root),
        "ACCEL_TERMINATION_LOG": str(result),
    }
    command = [sys.executable, "-m", "accel_toolchain.cli", step]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=280)
    assert done.returncode == 0, done.stdout + done.stderr
    return dict(json.loads(result.read_text()))


def test_the_same_savedmodel_is_one_version_and_one_digest_and_changed_weights_are_the_next(
    tf: Any, endpoint: str, convert_job: Make, work: Workspace, tmp_path: Path
) -> None:
    with Registry(endpoint) as registry:
        for tag, seed in (("a", 1), ("b", 2)):
            source = save(tf, tmp_path / tag, plain, seed=seed)
            push_source(registry, source, Reference.parse(f"oci:///sources/whole:{tag}"))

    def register(tag: str, repository: str) -> dict[str, Any]:
        job = json.loads(convert_job(f"oci:///sources/whole:{tag}"))
        job["target"]["repository"] = repository
        for step in ("fetch", "convert"):
            run(step, json.dumps(job), work)
        return run("push", json.dumps(job), work)

    first = register("a", "models/test/whole")
    elsewhere = register("a", "models/test/elsewhere")
    assert elsewhere["model"]["digest"] == first["model"]["digest"], "converted twice, in two processes"
    assert register("a", "models/test/whole") == first
    second = register("b", "models/test/whole")
    assert second["model"]["version"] == 2
    assert second["model"]["digest"] != first["model"]["digest"]
    assert register("a", "models/test/whole")["model"] == first["model"]
