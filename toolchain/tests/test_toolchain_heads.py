"""A detector's many heads: one output queue on the device, cut up on the host, served by the model server's code."""

from collections.abc import Callable

import numpy as np
import pytest
from accel_runtime.artifact import Artifact
from accel_runtime.pipeline import Pipeline
from accel_toolchain import conversion, jobs
from accel_toolchain.verification import OracleDevice
from accel_toolchain.workspace import Workspace, write_note
from accel_zoo import Network, build_onnx
from accel_zoo.forward import forward
from accel_zoo.pictures import pictures
from accel_zoo.recipe import Recipe
from accel_zoo.weights import random_weights
from npu.program import Program

Make = Callable[..., str]
BOXES, CLASSES, OFFSETS = 4, 5, 4


def detector() -> Network:
    """SSD in small: a backbone, a dilated convolution, three scales, and a first scale whose heads stay on the host."""
    r = Recipe("detector")
    x = r.relu(r.conv(r.picture, "conv1", 16, 3, bias=True), "conv1/Relu")
    x = r.max_pool(x, "pool1", 2, 2)
    x = first = r.relu(r.conv(x, "conv2", 24, 3, bias=True), "conv2/Relu")
    x = r.max_pool(x, "pool2", 2, 2, (0, 0, 1, 1))
    x = middle = r.relu(r.conv(x, "conv3", 32, 3, dilation=3, bias=True), "conv3/Relu")
    x = r.relu(r.conv(x, "conv4", 24, 3, 2, (1, 1, 1, 1), bias=True), "conv4/Relu")
    heads = []
    for name, tensor in (("first", r.l2_norm(first, "L2Normalization")), ("middle", middle), ("last", x)):
        for kind, numbers in (("cls", CLASSES), ("loc", OFFSETS)):
            host = name == "first"
            y = r.conv(tensor, f"{name}/{kind}", BOXES * numbers, 3, bias=True, host=host)
            heads.append(r.boxes(y, f"{name}/{kind}/boxes", numbers))
    return Network("detector", (22, 22, 3), tuple(r.layers), tuple(heads), factor=0.02)


@pytest.fixture(scope="module")
def network() -> Network:
    return detector()


def test_a_detector_is_converted_and_served(network: Network, convert_job: Make, work: Workspace) -> None:
    weights = random_weights(network)
    work.source.mkdir()
    (work.source / "detector.onnx").write_bytes(build_onnx(network, weights=weights).SerializeToString())
    write_note(work.source_note, {"sha256": "5" * 64, "known": False})
    report = conversion.run(jobs.parse_convert(convert_job()), work)
    assert [tuple(output["shape"]) for output in report["outputs"]] == [
        (-1, side, side, BOXES, numbers) for side in (11, 6, 3) for numbers in (CLASSES, OFFSETS)
    ]
    assert report["floatParity"]["maxRel"] < 1e-5
    assert 0 < report["parity"]["maxRel"] < 0.3

    artifact = Artifact.load(work.artifact)
    assert artifact.graph.program is not None
    program = Program.from_bytes(artifact.graph.program)
    queue = [program.tensors[index].shape for index in program.output_tensors]
    assert sorted(queue) == sorted([(11, 11, 24), (6, 6, 20), (6, 6, 16), (3, 3, 20), (3, 3, 16)]), (
        "what the first scale's normalisation reads, and four heads; the host's own heads are not on the device"
    )
    pipeline = Pipeline(artifact, OracleDevice(artifact.graph.program), threads=1)
    x = pictures(network, 2, seed=8)
    answers = pipeline.run({"image": x.transpose(0, 3, 1, 2)})
    for name, expected in forward(network, weights, x).items():
        error = np.linalg.norm(answers[name] - expected) / np.linalg.norm(expected)
        assert 0 < error < 0.2, (name, error)
