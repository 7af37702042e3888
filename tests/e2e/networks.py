"""Small networks for the tests, as a user would bring them; seeded: the same call gives the same bytes."""

from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

CLASSES = 5
SIDE = 16


def cnn(seed: int) -> onnx.ModelProto:
    """Return conv-BN-relu, pool, conv-relu, global pool, dense, softmax over float32 [N, 3, 16, 16]."""
    rng = np.random.default_rng(seed)

    def constant(name: str, *shape: int, low: float = -0.5, high: float = 0.5) -> TensorProto:
        return numpy_helper.from_array(rng.uniform(low, high, shape).astype(np.float32), name)

    weights = [
        constant("w1", 16, 3, 3, 3),
        constant("scale", 16, low=0.5, high=1.5),
        constant("shift", 16),
        constant("mean", 16),
        constant("variance", 16, low=0.5, high=1.5),
        constant("w2", 32, 16, 3, 3),
        constant("b2", 32),
        constant("w3", 32, CLASSES, low=-2, high=2),
        constant("b3", CLASSES),
    ]
    nodes = [
        helper.make_node("Conv", ["image", "w1"], ["c1"], name="conv1", pads=[1, 1, 1, 1]),
        helper.make_node(
            "BatchNormalization", ["c1", "scale", "shift", "mean", "variance"], ["n1"], name="bn1"
        ),
        helper.make_node("Relu", ["n1"], ["r1"], name="relu1"),
        helper.make_node("MaxPool", ["r1"], ["p1"], name="pool1", kernel_shape=[2, 2], strides=[2, 2]),
        helper.make_node("Conv", ["p1", "w2", "b2"], ["c2"], name="conv2", pads=[1, 1, 1, 1]),
        helper.make_node("Relu", ["c2"], ["r2"], name="relu2"),
        helper.make_node("GlobalAveragePool", ["r2"], ["g"], name="pool2"),
        helper.make_node("Flatten", ["g"], ["f"], name="flatten"),
        helper.make_node("Gemm", ["f", "w3", "b3"], ["logits"], name="dense"),
        helper.make_node("Softmax", ["logits"], ["probabilities"], name="softmax"),
    ]
    return model(nodes, ["N", 3, SIDE, SIDE], ["N", CLASSES], weights)


def dense(seed: int) -> onnx.ModelProto:
    """Return a network with nothing for an FPGA: [N, 3, 16, 16] flattened into one dense layer."""
    weight = np.random.default_rng(seed).normal(size=(3 * SIDE * SIDE, CLASSES)).astype(np.float32)
    nodes = [
        helper.make_node("Flatten", ["image"], ["f"]),
        helper.make_node("MatMul", ["f", "w"], ["probabilities"]),
    ]
    return model(nodes, ["N", 3, SIDE, SIDE], ["N", CLASSES], [numpy_helper.from_array(weight, "w")])


def model(
    nodes: list[onnx.NodeProto],
    input_shape: list[int | str],
    output_shape: list[int | str],
    weights: list[TensorProto],
) -> onnx.ModelProto:
    """Wrap nodes from `image` to `probabilities` into a checked model of opset 18."""
    graph = helper.make_graph(
        nodes,
        "net",
        [helper.make_tensor_value_info("image", TensorProto.FLOAT, input_shape)],
        [helper.make_tensor_value_info("probabilities", TensorProto.FLOAT, output_shape)],
        weights,
    )
    made = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=8)
    onnx.checker.check_model(made)
    return made


def folder(at: Path, network: onnx.ModelProto) -> Path:
    """Write a network as the source folder that `kubectl accel push` takes."""
    at.mkdir(parents=True, exist_ok=True)
    (at / "model.onnx").write_bytes(network.SerializeToString())
    return at


def pictures(count: int, seed: int = 0) -> np.ndarray:
    """Return float32 pictures [count, 3, 16, 16]."""
    return np.random.default_rng(seed).uniform(-1, 1, (count, 3, SIDE, SIDE)).astype(np.float32)
