"""The data flow through a model, with the simulator's oracle as the device."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import onnxruntime
import pytest
from accel_runtime.artifact import Artifact
from accel_runtime.decode import decode_pictures
from accel_runtime.errors import ArtifactError, InvalidInput
from accel_runtime.pipeline import Clocks, Pipeline
from numpy.typing import NDArray
from runtime_harness import Packed, jpeg, strings


@dataclass(frozen=True)
class Run:
    output: NDArray[Any]
    simulated_seconds: float = 0.001
    wall_seconds: float = 0.5
    device_id: str = "oracle"


class Oracle:
    """The simulator's own arithmetic, without a process."""

    def __init__(self, program: bytes) -> None:
        from npu.program import Program

        self._program = Program.from_bytes(program)

    def run(self, x: NDArray[np.float32]) -> Run:
        from npu import oracle

        return Run(oracle.run(self._program, x))


@pytest.fixture(scope="module")
def pipeline(compiled_folder: Packed) -> Pipeline:
    artifact = Artifact.load(compiled_folder.folder)
    assert artifact.graph.program is not None
    return Pipeline(artifact, Oracle(artifact.graph.program), threads=1, max_batch=4)


@pytest.fixture(scope="module")
def float32(compiled_folder: Packed) -> Any:
    session = onnxruntime.InferenceSession(compiled_folder.network.SerializeToString())
    return lambda pixels: session.run(None, {"pixels": pixels})[0]


def test_pictures_come_out_close_to_float32_and_not_equal(pipeline: Pipeline, float32: Any) -> None:
    pictures = strings(jpeg(1), jpeg(2), jpeg(3))
    head = pipeline.artifact.decode
    assert head is not None
    clocks = Clocks()
    answer = pipeline.run({"images": pictures}, clocks=clocks)["probabilities:0"]
    expected = float32(decode_pictures(head, pictures))
    np.testing.assert_allclose(answer, expected, atol=0.05)
    assert not np.array_equal(answer, expected), "the device's numbers are coarser than float32's"
    assert clocks.inferences == 3
    assert clocks.simulated == pytest.approx(0.003)
    assert clocks.device_wall == pytest.approx(1.5)
    assert clocks.device_id == "oracle"
    assert min(clocks.decode, clocks.post) > 0


def test_a_batch_is_its_pictures(pipeline: Pipeline) -> None:
    batch = pipeline.run({"image_bytes:0": strings(jpeg(1), jpeg(2))})["probabilities:0"]
    for place, seed in enumerate((1, 2)):
        single = pipeline.run({"images": strings(jpeg(seed))})["probabilities:0"]
        np.testing.assert_allclose(batch[place], single[0], rtol=1e-5)


def test_decoded_pictures_are_taken_too(pipeline: Pipeline) -> None:
    head = pipeline.artifact.decode
    assert head is not None
    pixels = decode_pictures(head, strings(jpeg(1)))
    answer = pipeline.run({"pixels": pixels})["probabilities:0"]
    np.testing.assert_array_equal(answer, pipeline.run({"images": strings(jpeg(1))})["probabilities:0"])


ONE = strings(jpeg())
WRONG = {
    # name: (inputs, words of the message)
    "unknown name": (
        {"picture": ONE},
        r"no input 'picture'; its inputs are 'images' \(tensor 'image_bytes:0'\)",
    ),
    "nothing": ({}, "input 'images' is missing"),
    "twice": ({"images": ONE, "image_bytes:0": ONE}, "given twice"),
    "numbers": (
        {"images": np.zeros((1, 16, 16, 3), np.float32)},
        r"must be string \(DT_STRING\), got float32",
    ),
    "two dimensions": ({"images": ONE.reshape(1, 1)}, r"shape \[-1\] \(-1: any\), got \[1, 1\]"),
    "no picture": ({"images": ONE[:0]}, "is empty"),
    "too many": ({"images": strings(*[b"x"] * 5)}, "a batch of 5; at most 4"),
    "decoded, wrong type": (
        {"pixels": np.zeros((1, 16, 16, 3), np.uint8)},
        "takes decoded pictures: float32",
    ),
    "decoded, wrong size": ({"pixels": np.zeros((1, 9, 9, 5), np.float32)}, "graph refuses these inputs"),
}


@pytest.mark.parametrize("name", WRONG)
def test_wrong_inputs(pipeline: Pipeline, name: str) -> None:
    inputs, words = WRONG[name]
    with pytest.raises(InvalidInput, match=words):
        pipeline.run(inputs)


def test_a_device_part_needs_a_device(compiled_folder: Packed) -> None:
    pipeline = Pipeline(Artifact.load(compiled_folder.folder))
    with pytest.raises(ArtifactError, match="no device"):
        pipeline.run({"images": ONE})


def test_a_model_without_a_device_part(packed: Packed, float32: Any) -> None:
    (packed.folder / "whole.onnx").write_bytes(packed.network.SerializeToString())
    document = packed.document()
    document["graph"] = {"pre": "whole.onnx", "program": None, "post": None}
    packed.write(document)
    pipeline = Pipeline(Artifact.load(packed.folder))
    head = pipeline.artifact.decode
    assert head is not None
    answer = pipeline.run({"images": ONE})["probabilities:0"]
    np.testing.assert_array_equal(answer, float32(decode_pictures(head, ONE)))
