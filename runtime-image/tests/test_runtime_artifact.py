"""The model folder: what is refused, and in which words."""

import hashlib
from collections.abc import Callable
from typing import Any

import pytest
from accel_runtime.artifact import Artifact
from accel_runtime.errors import ArtifactError
from accel_runtime.pipeline import Pipeline
from runtime_harness import Packed

Document = dict[str, Any]


def put(*path: str | int, value: object) -> Callable[[Document], None]:
    def change(document: Document) -> None:
        target: Any = document
        for key in path[:-1]:
            target = target[key]
        target[path[-1]] = value

    return change


BROKEN = {
    # name: (change, words of the message)
    "another schema": (put("schema", value="accel.dev/artifact/v9"), "artifact/v9"),
    "no outputs": (lambda document: document.pop("outputs"), "lacks 'outputs'"),
    "unknown dtype": (put("inputs", 0, "dtype", value="bfloat16"), "unknown dtype 'bfloat16'"),
    "a part that is not there": (put("graph", "post", value="other.onnx"), "not in the model folder"),
    "a part outside": (put("graph", "program", value="../../etc/passwd"), "outside the model folder"),
    "a wrong digest": (put("files", value={"device.npu": "0" * 64}), "the image is damaged"),
    "a decode input that is none": (put("decode", "input", value="x:0"), "no input of the model"),
    "a tensor that nobody reads": (put("decode", "tensor", value="nobody"), "graph reads"),
    "an output that nobody makes": (put("outputs", 0, "name", value="x:0"), "nothing produces the outputs"),
    "a device input that nobody makes": (put("graph", "deviceInput", value="x"), "the device's input 'x'"),
}


@pytest.mark.parametrize("name", BROKEN)
def test_broken_artifacts_fail_at_load(packed: Packed, name: str) -> None:
    change, words = BROKEN[name]
    document = packed.document()
    change(document)
    packed.write(document)
    with pytest.raises(ArtifactError, match=words):
        Pipeline(Artifact.load(packed.folder))


def test_a_folder_without_a_model(packed: Packed) -> None:
    with pytest.raises(ArtifactError, match="is this an AccelImage"):
        Artifact.load(packed.folder.parent)


def test_model_json_that_is_no_json(packed: Packed) -> None:
    (packed.folder / "model.json").write_text("{")
    with pytest.raises(ArtifactError, match="cannot be read"):
        Artifact.load(packed.folder)


def test_a_graph_that_onnxruntime_refuses(packed: Packed) -> None:
    (packed.folder / "host_post.onnx").write_bytes(b"no graph")
    with pytest.raises(ArtifactError, match=r"host_post\.onnx cannot be executed"):
        Pipeline(Artifact.load(packed.folder))


def test_digests_that_are_right(packed: Packed) -> None:
    document = packed.document()
    digest = hashlib.sha256((packed.folder / "device.npu").read_bytes()).hexdigest()
    document["files"] = {"device.npu": digest}
    packed.write(document)
    assert Artifact.load(packed.folder).program_digest == f"sha256:{digest}"
