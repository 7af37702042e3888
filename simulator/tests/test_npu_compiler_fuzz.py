"""Strangers' files: compiled or refused, whatever they say, in little time and memory."""

import os
import tracemalloc

import numpy as np
import onnx
import pytest
from google.protobuf.message import DecodeError
from npu.compiler import compile_model
from npu.errors import CompileError, SkuError
from npu.program import Program
from onnx import helper, numpy_helper
from onnx_mutations import bytes_of, structure_of
from whole_models import REFUSALS, draw, infer, through_device

FULL = bool(os.environ.get("ACCEL_TEST_FULL"))
ROUNDS = 10_000 if FULL else 300
SAME = {"pads": [1, 1, 1, 1]}


@pytest.fixture
def models(net, small_residual):
    """Small files with every operator that the compiler knows, NCHW and NHWC."""
    n = net(("N", 3, 9, 9))
    x = n.pool(n.relu(n.conv("x", 6, strides=[2, 2], **SAME)), 2, 1)
    y = n.conv(n.op("Pad", x, n.constant(np.array([0, 0, 1, 1, 0, 0, 1, 1]))), 4)
    x = n.op("Concat", x, y, axis=1, channels=10)
    z = n.op("AveragePool", n.bn(x), kernel_shape=[2, 2], strides=[2, 2])
    z = n.op(
        "Clip", n.op("Mul", z, n.constant(np.full((10, 1, 1), 2, np.float32))), n.constant(np.float32(0))
    )
    head = n.op(
        "Reshape", n.op("Transpose", n.conv(x, 4), perm=[0, 2, 3, 1]), n.constant(np.array([0, -1, 4]))
    )
    dense = n.model(n.op("Softmax", head, axis=-1), n.op("Sub", z, n.constant(np.float32(1))))
    n = net((1, 8, 8, 3))
    x = n.op("Transpose", "x", perm=[0, 3, 1, 2], channels=3)
    weights = n.op("Transpose", n.constant(np.ones((3, 3, 3, 4), np.float32)), perm=[3, 2, 0, 1])
    x = n.op("Transpose", n.op("Conv", x, weights, channels=4, auto_pad="SAME_UPPER"), perm=[0, 2, 3, 1])
    x = n.op("Concat", x, n.op("Dropout", n.op("Identity", x)), axis=3)
    x = n.op("Div", n.op("Add", x, n.constant(np.arange(8, dtype=np.float32))), n.constant(np.float32(3)))
    x = n.conv(n.op("Transpose", x, perm=[0, 3, 1, 2], channels=8), 4, (1, 1))
    n.channels[x] = 4
    nhwc = n.model(n.op("Transpose", n.op("Add", x, n.conv(x, 4, **SAME)), perm=[0, 2, 3, 1]), opset=13)
    return [small_residual, dense, nhwc]


def compiled_or_refused(model):
    """Whether it compiled; then its program is one that a device takes."""
    try:
        program = compile_model(model).program
    except (CompileError, SkuError):
        return False
    data = program.to_bytes()
    assert Program.from_bytes(data).to_bytes() == data
    return True


def test_damaged_bytes_are_compiled_or_refused(models):
    rng = np.random.default_rng(11)
    files = [model.SerializeToString() for model in models]
    outcomes = set()
    for turn in range(ROUNDS // 2):
        try:
            model = onnx.load_model_from_string(bytes_of(files[turn % len(files)], rng))
        except DecodeError:
            continue
        outcomes.add(compiled_or_refused(model))
    assert outcomes == {True, False}


def test_models_that_say_something_else_are_compiled_or_refused(models):
    rng = np.random.default_rng(12)
    outcomes = [
        compiled_or_refused(structure_of(models[turn % len(models)], rng)) for turn in range(ROUNDS // 2)
    ]
    assert 0.1 < np.mean(outcomes) < 0.9


def has_huge_numbers(model):
    """Beyond float16, where the device saturates."""
    floats = [numpy_helper.to_array(tensor) for tensor in model.graph.initializer if tensor.data_type == 1]
    return any(not np.abs(numbers).max(initial=0) < 1_000 for numbers in floats)


def test_what_compiles_still_answers_like_float32(models):
    """Damage that ONNX Runtime computes without complaint: the three parts must compute it too."""
    rng = np.random.default_rng(13)
    compared = 0
    for turn in range(2_000 if FULL else 60):
        model = structure_of(models[turn % len(models)], rng, changes=1)
        sides = [dim.dim_value for value in model.graph.input for dim in value.type.tensor_type.shape.dim]
        if not all(0 <= side < 100 for side in sides):
            continue
        try:
            compiled = compile_model(model, precision="msfp16")
            feeds = draw(model)
            expected = infer(model, feeds)
        except (CompileError, SkuError, *REFUSALS):
            continue
        largest = max(np.abs(tensor).max() for tensor in expected.values())
        host = compiled.post.graph.node if compiled.post is not None else ()
        quotient = any(node.op_type == "Div" for node in host)  # magnifies errors
        if not largest < 1_000 or quotient or has_huge_numbers(model):
            continue
        found = through_device(compiled, feeds)
        for name, tensor in expected.items():
            assert found[name].shape == tensor.shape
            error = np.linalg.norm(found[name] - tensor)
            assert error < 0.05 * np.linalg.norm(tensor) + 1e-3, f"turn {turn}: {name}"
        compared += 1
    assert compared > (400 if FULL else 12)


def huge_pads(n):
    pads = n.constant(np.array([0, 0, 1 << 30, 1 << 30, 0, 0, 1 << 30, 1 << 30]))
    return n.conv(n.op("Pad", "x", pads), 4)


def huge_padding(n):
    return n.conv("x", 4, pads=[1 << 40] * 4)


def huge_stride(n):
    return n.conv("x", 4, strides=[1 << 50, 1])


def huge_dilation(n):
    return n.conv("x", 4, dilations=[1 << 28, 1 << 28], pads=[1 << 28] * 4)


def huge_kernel(n):
    return n.op(
        "Conv",
        "x",
        n.constant(np.ones((4, 3, 3, 3), np.float32)),
        kernel_shape=[1 << 31, 1 << 31],
        channels=4,
    )


def huge_pool(n):
    return n.pool(n.relu(n.conv("x", 4)), 1 << 30, 1, pads=[1 << 29] * 4)


def huge_broadcast(n):
    one, other = np.ones((60_000, 1), np.float32), np.ones((1, 60_000), np.float32)
    return n.op("Add", n.conv("x", 4), n.op("Mul", n.constant(one), n.constant(other)))


def huge_shape_of_a_constant(n):
    name = n.constant(np.ones((4, 3, 3, 3), np.float32))
    n.weights[-1].dims[:] = [1 << 31, 1 << 31, 3, 3]
    return n.op("Conv", "x", name, channels=4)


def huge_fill(n):
    size = n.constant(np.array([1 << 12, 3, 1 << 10, 1 << 10]))
    return n.op("Conv", "x", n.op("ConstantOfShape", size), channels=4)


def huge_tile(n):
    weights = n.op(
        "Tile", n.constant(np.ones((4, 3, 3, 3), np.float32)), n.constant(np.array([1 << 20, 1, 1, 1]))
    )
    return n.op("Conv", "x", weights, channels=4)


def many_transposes_of_much(n):
    x = n.constant(np.ones((64, 3, 64, 64), np.float32))
    for _ in range(200):
        x = n.op("Transpose", x, perm=[0, 1, 3, 2])
    return n.op("Conv", "x", x, channels=64)


def many_views(n):
    x = n.conv("x", 4)
    for _ in range(800):
        x = n.op("Identity", x)
    return n.conv(x, 4)


def much_from_few_weights(n):
    x = n.conv("x", 2_000, (1, 1))
    weights = n.constant(np.ones((2_000, 2_000, 1, 1), np.float32))
    for _ in range(260):
        x = n.op("Conv", x, weights)
    return x


HOSTILE = (
    huge_pads, huge_padding, huge_stride, huge_dilation, huge_kernel, huge_pool, huge_broadcast,
    huge_shape_of_a_constant, huge_fill, huge_tile, many_transposes_of_much, many_views,
    much_from_few_weights,
)  # fmt: skip


@pytest.mark.parametrize("recipe", HOSTILE, ids=lambda recipe: recipe.__name__)
def test_small_files_do_not_become_much(net, recipe):
    n = net((1, 3, 16, 16))
    model = n.model(recipe(n))
    tracemalloc.start()
    try:
        compiled_or_refused(model)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 10 * model.ByteSize() + (200 << 20)


def test_a_picture_larger_than_any_device_is_refused(net):
    n = net((1, 3, 1 << 20, 1 << 20))
    with pytest.raises(CompileError, match="larger than any device"):
        compile_model(n.model(n.conv("x", 4)))
    model = helper.make_model(
        helper.make_graph(
            [helper.make_node("Relu", [f"t{i}"], [f"t{i + 1}"]) for i in range(20_001)],
            "long",
            [helper.make_tensor_value_info("t0", 1, [1, 3, 8, 8])],
            [helper.make_tensor_value_info("t20001", 1, None)],
        )
    )
    with pytest.raises(CompileError, match="at most 20000"):
        compile_model(model)


def test_more_chains_than_a_program_may_have_are_refused(net):
    n = net((1, 3, 4, 4))
    x, weights = "x", n.constant(np.ones((3, 3, 1, 1), np.float32))
    for _ in range(2_049):
        x = n.op("Conv", x, weights)
    with pytest.raises(CompileError, match="at most 2048"):
        compile_model(n.model(x))
