"""Small ONNX networks, written like a recipe, for the simulator's tests."""

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import helper, numpy_helper

sys.path.insert(0, str(Path(__file__).parent))  # tests share `npu_layers`


class Net:
    """Builds an NCHW graph node by node; each method takes and returns tensor names."""

    def __init__(self, shape: tuple[Any, ...] = ("N", 3, 8, 8), seed: int = 0) -> None:
        self.rng = np.random.default_rng(seed)
        self.inputs = [helper.make_tensor_value_info("x", onnx.TensorProto.FLOAT, list(shape))]
        self.channels = {"x": shape[1]}
        self.nodes: list[Any] = []
        self.weights: list[Any] = []

    def constant(self, value: Any) -> str:
        name = f"w{len(self.weights)}"
        self.weights.append(numpy_helper.from_array(np.asarray(value), name))
        return name

    def op(self, kind: str, *inputs: str, channels: int | None = None, **attributes: Any) -> str:
        name = f"{kind.lower()}{len(self.nodes)}"
        self.nodes.append(helper.make_node(kind, list(inputs), [name], name=name, **attributes))
        self.channels[name] = self.channels.get(inputs[0], 0) if channels is None else channels
        return name

    def conv(
        self,
        x: str,
        out: int,
        kernel: tuple[int, int] = (3, 3),
        *,
        weights: Any = None,
        bias: Any = None,
        **attributes: Any,
    ) -> str:
        if weights is None:
            fan = self.channels[x] * kernel[0] * kernel[1]
            weights = self.rng.normal(0, fan**-0.5, (out, self.channels[x], *kernel))
        inputs = [x, self.constant(np.asarray(weights, np.float32))]
        if bias is not None:
            inputs.append(self.constant(np.asarray(bias, np.float32)))
        return self.op("Conv", *inputs, channels=out, kernel_shape=list(kernel), **attributes)

    def bn(self, x: str, **attributes: Any) -> str:
        c = self.channels[x]
        numbers = (
            self.rng.uniform(0.5, 1.5, c),
            self.rng.normal(0, 0.2, c),
            self.rng.normal(0, 0.2, c),
            self.rng.uniform(0.5, 1.5, c),
        )
        names = [self.constant(n.astype(np.float32)) for n in numbers]
        return self.op("BatchNormalization", x, *names, **attributes)

    def relu(self, x: str) -> str:
        return self.op("Relu", x)

    def pool(self, x: str, kernel: int = 2, stride: int = 2, **attributes: Any) -> str:
        return self.op("MaxPool", x, kernel_shape=[kernel] * 2, strides=[stride] * 2, **attributes)

    def model(self, *outputs: str, opset: int = 18) -> onnx.ModelProto:
        infos = [helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, None) for name in outputs]
        graph = helper.make_graph(self.nodes, "net", self.inputs, infos, initializer=self.weights)
        return helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=8)


@pytest.fixture
def net() -> Callable[..., Net]:
    return Net


@pytest.fixture
def small_residual() -> onnx.ModelProto:
    """Expander, batch normalisation, pool, residual block, global pool and softmax: every part once."""
    n = Net(("N", 3, 12, 12))
    x = n.pool(n.relu(n.bn(n.conv("x", 16, pads=[1, 1, 1, 1]))))
    y = n.relu(n.bn(n.conv(x, 16, pads=[1, 1, 1, 1], bias=np.linspace(-1, 1, 16))))
    y = n.bn(n.conv(y, 16, pads=[1, 1, 1, 1]))
    x = n.relu(n.op("Add", x, y))
    x = n.op("GlobalAveragePool", x)
    return n.model(n.op("Softmax", n.op("Flatten", x), axis=1))
