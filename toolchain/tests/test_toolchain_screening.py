"""SavedModels that are refused, by what they hold and by what was done to them, and two that reach out."""

import os
import signal
import socket
import subprocess
import sys
from collections.abc import Callable
from itertools import takewhile
from pathlib import Path
from typing import Any

import pytest
from accel_toolchain.conditions import Terminal
from accel_toolchain.workspace import Workspace, write_note
from tf_models import SIDE, convert, decoded, mapped, plain, save, variables

pytestmark = [
    pytest.mark.tensorflow,
    pytest.mark.filterwarnings("ignore"),  # TensorFlow's own, at import
]

Make = Callable[..., str]


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
