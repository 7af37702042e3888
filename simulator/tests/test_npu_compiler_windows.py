"""Windows of every kind, drawn at random: the three parts see the pixels that ONNX Runtime sees."""

import os

import numpy as np
import pytest
from npu.compiler import compile_model
from npu.errors import CompileError
from whole_models import REFUSALS, draw, infer, through_device

BATCHES = 25 if os.environ.get("ACCEL_TEST_FULL") else 1
AT_A_TIME = 20
OPERATORS = ("Conv", "first Conv", "MaxPool", "AveragePool")


def drawn_window(rng, operator):
    """Attributes of a window, and its kernel."""
    kernel = [int(side) for side in rng.integers(1, 6, 2)]
    given = {"strides": [int(step) for step in rng.integers(1, 5, 2)]}
    spelling = rng.random()
    if spelling < 0.5:
        given["pads"] = [int(rng.integers(0, side)) for side in kernel * 2]
    elif spelling < 0.8:
        given["auto_pad"] = str(rng.choice(["SAME_UPPER", "SAME_LOWER", "VALID"]))
        # ONNX Runtime begins a row too low where SAME means less than no padding; ONNX's own evaluator does not.
        given["strides"] = [min(step, side) for step, side in zip(given["strides"], kernel, strict=True)]
    if "Conv" in operator and rng.random() < 0.4:
        given["dilations"] = [int(step) for step in rng.integers(1, 4, 2)]
    if "Pool" in operator and rng.random() < 0.5:
        given["ceil_mode"] = 1
    if operator == "AveragePool" and rng.random() < 0.7:
        given["count_include_pad"] = 1
    return kernel, given


def drawn_model(net, rng, operator):
    height, width = (int(side) for side in rng.integers(5, 14, 2))
    n = net((1, 3, height, width), seed=int(rng.integers(1 << 30)))
    kernel, given = drawn_window(rng, operator)
    x = "x" if operator == "first Conv" else n.relu(n.conv("x", 5, (1, 1)))
    if rng.random() < 0.3:
        pads = [0, 0, *rng.integers(0, 3, 2), 0, 0, *rng.integers(0, 3, 2)]
        x = n.op("Pad", x, n.constant(np.array(pads, np.int64)))
    convolve = "Conv" in operator
    x = n.conv(x, 4, tuple(kernel), **given) if convolve else n.op(operator, x, kernel_shape=kernel, **given)
    return n.model(x, opset=int(rng.choice([11, 13, 18, 19, 22])))


@pytest.mark.parametrize("operator", OPERATORS)
def test_drawn_windows_see_what_onnx_runtime_sees(net, operator):
    rng = np.random.default_rng(OPERATORS.index(operator))
    compared = 0
    for turn in range(BATCHES * AT_A_TIME):
        model = drawn_model(net, rng, operator)
        try:
            feeds = draw(model)
            expected = infer(model, feeds)
            compiled = compile_model(model, precision="msfp16")
        except (
            CompileError,
            *REFUSALS,
        ):  # a kernel larger than the picture, or a first convolution on the host
            continue
        found = through_device(compiled, feeds)
        for name, tensor in expected.items():
            assert found[name].shape == tensor.shape, f"turn {turn}"
            error = np.linalg.norm(found[name] - tensor)
            assert error <= 0.06 * np.linalg.norm(tensor) + 1e-6, f"turn {turn}: {model.graph.node}"
        compared += not any(entry.operator == operator.split()[-1] for entry in compiled.host_counts)
    assert compared > BATCHES * AT_A_TIME / 4
