"""Rules for operators that treat every pixel alike, and for those that only lay tensors out anew."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from npu.compiler.geometry import TO_NCHW, TO_NHWC, Layout
from npu.compiler.graph import Graph
from npu.compiler.verdicts import VIEW, WORK, Candidate, Role, Verdict, on_host, real_maker
from npu.float16 import LARGEST

__all__ = [
    "affine", "affine_of", "batch_norm", "cast", "clip", "concat", "dropout", "identity", "relu", "reshape",
    "transpose",
]  # fmt: skip

Float64 = NDArray[np.float64]
FLOAT = 1  # onnx.TensorProto.FLOAT


def affine(asked: Candidate) -> Verdict:
    """Add, Sub, Mul and Div by constants per channel are the float16 stage's; Add of two tensors a residual."""
    node = asked.node
    varying = asked.graph.inputs_of(asked.index)
    if len(node.input) != 2:
        return on_host("the device adds two tensors at a time")
    if len(varying) == 2:
        if node.op_type not in ("Add", "Sum"):
            return on_host("with two tensors that are no constants the device can only add")
        if not all(asked.same_picture(name, node.output[0]) for name in varying):
            return on_host("its operands differ in shape or layout")
        return WORK
    if not asked.same_picture(varying[0], node.output[0]):
        return on_host("its output has another shape than its input")
    if not asked.graph.are_float32(node.input):
        return on_host("its constant is not float32")
    pair = affine_of(asked.graph, asked.index, asked.known[varying[0]])
    if pair is None:
        return on_host("its constant is not one number per channel")
    if not all(np.isfinite(numbers).all() for numbers in pair if numbers is not None):
        return on_host("its constant is not finite")
    maker = real_maker(asked.graph, asked.verdicts, varying[0])
    if maker is None or asked.verdicts[maker].role is not Role.WORK:
        return on_host("it follows no convolution")
    return WORK


def affine_of(graph: Graph, index: int, layout: Layout) -> tuple[Float64 | None, Float64 | None] | None:
    """Scale and bias per channel of a node with one constant operand; None where it is something else."""
    node = graph.nodes[index]
    first = node.input[0] in graph.constants
    constant = _per_channel(graph, node.input[0 if first else 1], graph.inputs_of(index)[0], layout)
    if constant is None:
        return None
    match node.op_type:
        case "Mul":
            return constant, None
        case "Add" | "Sum":
            return None, constant
        case "Sub":
            return (np.full_like(constant, -1), constant) if first else (None, -constant)
        case "Div" if not first:
            with np.errstate(divide="ignore"):
                return 1 / constant, None
    return None


def _per_channel(graph: Graph, constant: str, varying: str, layout: Layout) -> Float64 | None:
    """The constant as one number per channel; None if it varies over positions or broadcasts the shape."""
    shape, channels = graph.shapes[constant], graph.shapes[varying][layout.channel_axis]
    if len(shape) > 4 or channels is None:
        return None
    value = graph.constant(constant)
    value = value.reshape((1,) * (4 - value.ndim) + value.shape)
    if value.size not in (1, value.shape[layout.channel_axis]) or value.size not in (1, channels):
        return None
    numbers: Float64 = np.broadcast_to(value.ravel().astype(np.float64), (channels,))
    return numbers


def batch_norm(asked: Candidate) -> Verdict:
    """Constant statistics become scale and bias."""
    node = asked.node
    if any(name not in asked.graph.constants for name in node.input[1:]):
        return on_host("its statistics are not constant")
    if not asked.graph.are_float32(node.input[1:]):
        return on_host("its statistics are not float32")
    channels = asked.graph.shapes[node.input[0]][1]
    if len(node.input) != 5 or any(asked.graph.shapes[name] != (channels,) for name in node.input[1:]):
        return on_host("its statistics do not fit its input")
    if asked.given.get("training_mode", 0):
        return on_host("it is in training mode")
    return _unchanged(asked, WORK)


def relu(asked: Candidate) -> Verdict:
    """The device's one activation."""
    return _unchanged(asked, WORK)


def clip(asked: Candidate) -> Verdict:
    """From zero to beyond float16: a Relu. Limits are attributes up to opset 10, then inputs."""
    node, given = asked.node, asked.given
    limits: list[Any] = [given.get("min"), given.get("max")]
    for place, name in enumerate(node.input[1:3]):
        if name and name not in asked.graph.constants:
            return on_host("its limits are not constant")
        if name:
            value = asked.graph.constant(name).ravel()
            limits[place] = value[0] if value.size == 1 else np.nan
    least, most = limits
    if least != 0 or (most is not None and not most >= LARGEST):
        return on_host("the device's only activation is Relu; its limits are not zero and infinity")
    return _unchanged(asked, WORK)


def concat(asked: Candidate) -> Verdict:
    """Tensors behind each other's channels; anything else is the host's."""
    node = asked.node
    if len(asked.graph.inputs_of(asked.index)) != len(node.input):
        return on_host("it joins constants")
    layout, out = asked.known[node.output[0]], asked.graph.shapes[node.output[0]]
    axis = asked.given.get("axis", 1)
    if not -4 <= axis < 4 or axis % 4 != layout.channel_axis:
        return on_host("it joins something else than channels")
    shapes = [asked.graph.shapes[name] for name in node.input]
    alike = all(shape[axis] == out[axis] for shape in shapes for axis in layout.spatial_axes)
    channels = sum(shape[layout.channel_axis] or 0 for shape in shapes)
    if (
        not alike
        or channels != out[layout.channel_axis]
        or any(asked.known[n] is not layout for n in node.input)
    ):
        return on_host("its operands differ in shape or layout")
    return WORK if len(node.input) > 1 else VIEW


def transpose(asked: Candidate) -> Verdict:
    """A converter's change between NCHW and NHWC is nothing to the device."""
    node = asked.node
    perm, layout = list(asked.given.get("perm", ())), asked.known[node.input[0]]
    other = {Layout.NCHW: (TO_NHWC, Layout.NHWC), Layout.NHWC: (TO_NCHW, Layout.NCHW)}[layout]
    if (perm, asked.known[node.output[0]]) != other:
        return on_host("it is no change between NCHW and NHWC")
    before, after = asked.graph.shapes[node.input[0]], asked.graph.shapes[node.output[0]]
    if any(after[at] != before[axis] for at, axis in enumerate(perm) if at):
        return on_host("its output does not have its input's shape")
    return VIEW


def identity(asked: Candidate) -> Verdict:
    """Nothing to do."""
    return _unchanged(asked, VIEW)


def cast(asked: Candidate) -> Verdict:
    """From float32 (`judge` saw to that) to float32: nothing to do."""
    if asked.given.get("to") != FLOAT:
        return on_host("its numbers are not float32")
    return _unchanged(asked, VIEW)


def reshape(asked: Candidate) -> Verdict:
    """A reshape to the same picture, as exporters leave behind."""
    return VIEW if asked.keeps_picture else on_host("it makes something else than a picture")


def dropout(asked: Candidate) -> Verdict:
    """Nothing to do when a model is used."""
    inputs = asked.node.input
    training = inputs[2] if len(inputs) > 2 else ""
    if training and not (training in asked.graph.constants and not asked.graph.constant(training).any()):
        return on_host("it is in training mode")
    return _unchanged(asked, VIEW)


def _unchanged(asked: Candidate, verdict: Verdict) -> Verdict:
    return verdict if asked.keeps_picture else on_host("its output has another shape than its input")
