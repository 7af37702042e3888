"""Frozen graphs: converted by the tensors that the user names; damaged and hostile ones are refused before they run."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from accel_toolchain.conditions import Terminal
from accel_toolchain.workspace import Workspace
from tf_models import SIDE, convert, network, weights

pytestmark = [
    pytest.mark.tensorflow,
    pytest.mark.filterwarnings("ignore"),  # TensorFlow's own, at import
]

Make = Callable[..., str]


NAMED = {"inputs": ["pixels"], "outputs": ["scores:0"]}


def frozen(tf: Any, change: Callable[[Any, Any], None] = lambda _tf, _graph: None) -> bytes:
    """Return a GraphDef with constants for weights: pixels:0 [N, side, side, 3] to scores:0."""
    with tf.Graph().as_default() as graph:
        pixels = tf.compat.v1.placeholder(tf.float32, [None, SIDE, SIDE, 3], name="pixels")
        values = {name: tf.constant(value) for name, value in weights().items()}
        tf.identity(network(tf, values, pixels, fused=True), name="scores")
    definition = graph.as_graph_def()
    change(tf, definition)
    content: bytes = definition.SerializeToString()
    return content


def source(folder: Path, content: bytes) -> Path:
    folder.mkdir()
    (folder / "net.pb").write_bytes(content)
    return folder


@pytest.mark.parametrize("wanted", ["FrozenGraph", "Auto"])
def test_converted_by_its_tensors(
    wanted: str, tf: Any, convert_job: Make, work: Workspace, tmp_path: Path
) -> None:
    report = convert(source(tmp_path / "m", frozen(tf)), work, convert_job(format=wanted, **NAMED))
    assert report["inputs"] == [
        {"name": "pixels:0", "alias": "pixels", "dtype": "float32", "shape": [-1, SIDE, SIDE, 3]}
    ]
    assert report["outputs"] == [
        {"name": "scores:0", "alias": "scores", "dtype": "float32", "shape": [-1, 4]}
    ]
    assert report["floatParity"]["maxRel"] < 1e-5
    assert report["device"]["offloadedOps"] >= 4


def remove_the_pool(_: Any, graph: Any) -> None:
    kept = [node for node in graph.node if node.op != "MaxPool"]
    del graph.node[:]
    graph.node.extend(kept)


def read_a_file(tf: Any, graph: Any) -> None:
    name = graph.node.add(name="name", op="Const")
    name.attr["dtype"].type = tf.string.as_datatype_enum
    name.attr["value"].tensor.CopyFrom(tf.make_tensor_proto("/etc/hostname"))
    graph.node.add(name="content", op="ReadFile", input=["name"])


def restore(tf: Any, graph: Any) -> None:
    graph.node.add(name="w", op="RestoreV2", input=["pixels", "pixels", "pixels"])


REFUSED: dict[str, tuple[Callable[[Any, Any], None], dict[str, Any], str, str]] = {
    # name: (what is done to the graph, options, reason, what the message says)
    "no inputs named": (lambda *_: None, {"outputs": ["scores:0"]}, "InvalidModel", "the inputs pixels:0"),
    "no outputs named": (lambda *_: None, {"inputs": ["pixels"]}, "InvalidModel", "ends in scores:0"),
    "unknown input": (lambda *_: None, NAMED | {"inputs": ["image:0"]}, "UnknownTensor", "It has pixels:0"),
    "unknown output": (lambda *_: None, NAMED | {"outputs": ["score"]}, "UnknownTensor", "It has scores:0"),
    "an output that the node has not": (lambda *_: None, NAMED | {"outputs": ["scores:7"]}, "InvalidModel", "scores"),
    "nodes missing": (remove_the_pool, NAMED, "InvalidModel", "MaxPool"),
    "reads a file": (read_a_file, NAMED, "ForbiddenOperator", "ReadFile"),
    "restores": (restore, NAMED, "ForbiddenOperator", "RestoreV2"),
}  # fmt: skip


@pytest.mark.parametrize(("change", "options", "reason", "words"), REFUSED.values(), ids=REFUSED)
def test_a_frozen_graph_is_refused(
    change: Callable[[Any, Any], None],
    options: dict[str, Any],
    reason: str,
    words: str,
    tf: Any,
    convert_job: Make,
    work: Workspace,
    tmp_path: Path,
) -> None:
    with pytest.raises(Terminal) as raised:
        convert(source(tmp_path / "m", frozen(tf, change)), work, convert_job(**options))
    assert (raised.value.reason, words in raised.value.message) == (reason, True), raised.value.message


@pytest.mark.parametrize("content", [b"\xff" * 99, b""], ids=["garbage", "empty"])
def test_a_file_that_is_no_graph(
    content: bytes, tf: Any, convert_job: Make, work: Workspace, tmp_path: Path
) -> None:
    with pytest.raises(Terminal) as raised:
        convert(source(tmp_path / "m", content), work, convert_job(**NAMED))
    assert raised.value.reason == "InvalidModel"
