"""Which nodes the device can run, and for each that it cannot, the sentence that says why.

*Work* becomes chains. *Views* (transposes between NCHW and NHWC, identities, zero padding in front of a
window) vanish in the compiler's own layout.
"""

import math
from dataclasses import dataclass
from enum import Enum
from typing import Any

import numpy as np

from npu.chain import EXPANDER_CHANNELS, EXPANDER_KERNEL, MAX_KERNEL, MAX_NUMBERS, MAX_SIDE, Kind
from npu.compiler.geometry import TO_NCHW, TO_NHWC, Layout, Window, layouts, pads_of_pad, windows
from npu.compiler.graph import Graph, attributes

__all__ = ["Layout", "Role", "Verdict", "judge", "layouts", "pads_of_pad", "windows"]

FLOAT = 1  # onnx.TensorProto.FLOAT


class Role(Enum):
    """What becomes of a node."""

    WORK = "work"
    VIEW = "view"
    HOST = "host"


@dataclass(frozen=True)
class Verdict:
    """A role, and for HOST the reason."""

    role: Role
    reason: str = ""


WORK, VIEW = Verdict(Role.WORK), Verdict(Role.VIEW)


def _host(reason: str) -> Verdict:
    return Verdict(Role.HOST, reason)


def judge(graph: Graph) -> list[Verdict]:
    """One verdict per node. Nodes are judged in order, so a rule may look at what made its input."""
    known = layouts(graph)
    verdicts: list[Verdict] = []
    for index in range(len(graph.nodes)):
        verdicts.append(_judge(graph, index, known, verdicts))
    for index, node in enumerate(graph.nodes):
        if node.op_type == "Pad" and verdicts[index].role is Role.VIEW:
            readers = real_readers(graph, verdicts, node.output[0])
            if not readers or any(graph.nodes[r].op_type not in ("Conv", "MaxPool") for r in readers):
                verdicts[index] = _host("its zeros are needed by an operator without a window")
    return verdicts


def real_readers(graph: Graph, verdicts: list[Verdict], tensor: str) -> list[int]:
    """Nodes that read the tensor, seen through views; a graph output counts as the index -1."""
    readers = [-1] if tensor in graph.output_names() else []
    for index in graph.consumers.get(tensor, []):
        if (
            index < len(verdicts)
            and verdicts[index].role is Role.VIEW
            and graph.nodes[index].op_type != "Pad"
        ):
            readers += real_readers(graph, verdicts, graph.nodes[index].output[0])
        else:
            readers.append(index)
    return readers


def expands(chain_input: bool, channels: int, kernel: tuple[int, int], dilation: tuple[int, int]) -> Kind:
    """The Expander takes the program's input if that is an image and the kernel fits its windows."""
    if (
        chain_input
        and channels <= EXPANDER_CHANNELS
        and max(kernel) <= EXPANDER_KERNEL
        and dilation == (1, 1)
    ):
        return Kind.EXPAND
    return Kind.CONV


def _judge(graph: Graph, index: int, known: dict[str, Layout], verdicts: list[Verdict]) -> Verdict:
    node = graph.nodes[index]
    if node.domain not in ("", "ai.onnx") or node.op_type not in _RULES:
        return _host("the device has no such operator")
    if len([name for name in node.output if name]) != 1:
        return _host("it has more than one output")
    for name in [*graph.inputs_of(index), node.output[0]]:
        shape = graph.shapes.get(name, ())
        if len(shape) != 4 or None in shape[1:]:
            return _host(f"{name!r} is not a picture of known height, width and channels")
        lengths = [length or 0 for length in shape[1:]]
        if max(lengths) > MAX_SIDE or math.prod(lengths) > MAX_NUMBERS:
            return _host(f"{name!r} is larger than any device")
        info = graph.infos.get(name)
        if info is not None and info.type.tensor_type.elem_type not in (0, FLOAT):
            return _host(f"{name!r} is not float32")
        if name not in known:
            return _host(f"the channel axis of {name!r} is not known")
    if not graph.inputs_of(index):
        return _host("its inputs are constants")
    return _RULES[node.op_type](graph, index, known, verdicts)


def _conv(graph: Graph, index: int, _known: dict[str, Layout], _verdicts: list[Verdict]) -> Verdict:
    node, given = graph.nodes[index], attributes(graph.nodes[index])
    if any(name and name not in graph.constants for name in node.input[1:]):
        return _host("its weights are not constant")
    weights = graph.shapes[node.input[1]]
    channels = graph.shapes[node.input[0]][1]
    if given.get("group", 1) != 1:
        return _host("grouped convolutions do not map to the matrix unit")
    if len(weights) != 4 or weights[1] != channels or weights[0] != graph.shapes[node.output[0]][1]:
        return _host("its weights do not fit its input")
    if len(node.input) > 2 and node.input[2] and graph.shapes[node.input[2]] != (weights[0],):
        return _host("its bias does not fit its output")
    window = windows(graph, index)
    if max(window.kernel) > MAX_KERNEL:
        return _host(f"its kernel is larger than {MAX_KERNEL}")
    return _check_pads(window)


def _max_pool(graph: Graph, index: int, _known: dict[str, Layout], verdicts: list[Verdict]) -> Verdict:
    window, given = windows(graph, index), attributes(graph.nodes[index])
    if window.dilation != (1, 1) or given.get("storage_order", 0) or max(window.kernel) > MAX_KERNEL:
        return _host("it is dilated, column-major or too large")
    if max(window.pads) > 0 and not _non_negative(graph, graph.nodes[index].input[0], verdicts):
        return _host("the device pads pools with zeros, and its input may be negative")
    return _check_pads(window)


def _check_pads(window: Window) -> Verdict:
    if max(*window.stride, *window.dilation) > MAX_SIDE:
        return _host("its stride or dilation is beyond any picture")
    top, left, bottom, right = window.pads
    for axis, (before, after) in enumerate(((top, bottom), (left, right))):
        extent = (window.kernel[axis] - 1) * window.dilation[axis] + 1
        if before < 0 or max(before, after) >= extent or after <= -window.stride[axis]:
            return _host("a window lies in the padding altogether")
    return WORK


def _non_negative(graph: Graph, tensor: str, verdicts: list[Verdict]) -> bool:
    while tensor in graph.producer:
        index = graph.producer[tensor]
        node = graph.nodes[index]
        if node.op_type == "Relu":
            return True
        if node.op_type != "MaxPool" and verdicts[index].role is not Role.VIEW:
            return False
        tensor = node.input[0]
    return False


def _affine(graph: Graph, index: int, known: dict[str, Layout], verdicts: list[Verdict]) -> Verdict:
    """Mul or Add: with constants the rest of a convolution or batch normalisation; Add of two tensors a
    residual.
    """
    node = graph.nodes[index]
    varying = graph.inputs_of(index)
    if len(varying) == 2:
        if node.op_type == "Mul":
            return _host("the device multiplies by constants only")
        if (
            graph.shapes[varying[0]][1:] != graph.shapes[varying[1]][1:]
            or known[varying[0]] is not known[varying[1]]
        ):
            return _host("its operands differ in shape or layout")
        return WORK
    layout = known[varying[0]]
    if per_channel(graph, index, layout) is None:
        return _host("its constant is not one number per channel")
    maker = _real_maker(graph, varying[0], verdicts)
    if maker is None or verdicts[maker].role is not Role.WORK or graph.nodes[maker].op_type == "MaxPool":
        return _host("it follows no convolution")
    return WORK


def per_channel(graph: Graph, index: int, layout: Layout) -> Any:
    """The constant operand as one float64 per channel; None if it varies over positions or broadcasts the
    shape.
    """
    node = graph.nodes[index]
    varying = graph.inputs_of(index)[0]
    constants = [name for name in node.input if name in graph.constants]
    channels = graph.shapes[varying][layout.channel_axis]
    value = graph.constant(constants[0])
    if value.ndim > 4 or channels is None:
        return None
    value = value.reshape((1,) * (4 - value.ndim) + value.shape)
    if value.size not in (1, value.shape[layout.channel_axis]) or value.size not in (1, channels):
        return None
    return np.broadcast_to(value.ravel().astype(np.float64), (channels,))


def _real_maker(graph: Graph, tensor: str, verdicts: list[Verdict]) -> int | None:
    while tensor in graph.producer:
        index = graph.producer[tensor]
        if verdicts[index].role is not Role.VIEW:
            return index
        tensor = graph.nodes[index].input[0]
    return None


def _batch_norm(graph: Graph, index: int, _known: dict[str, Layout], _verdicts: list[Verdict]) -> Verdict:
    node = graph.nodes[index]
    if any(name not in graph.constants for name in node.input[1:]):
        return _host("its statistics are not constant")
    channels = graph.shapes[node.input[0]][1]
    if any(graph.shapes[name] != (channels,) for name in node.input[1:]):
        return _host("its statistics do not fit its input")
    if attributes(node).get("training_mode", 0):
        return _host("it is in training mode")
    return WORK


def _relu(_graph: Graph, _index: int, _known: dict[str, Layout], _verdicts: list[Verdict]) -> Verdict:
    return WORK


def _transpose(graph: Graph, index: int, known: dict[str, Layout], _verdicts: list[Verdict]) -> Verdict:
    node = graph.nodes[index]
    perm = attributes(node).get("perm")
    if (known[node.input[0]], perm) in ((Layout.NCHW, TO_NHWC), (Layout.NHWC, TO_NCHW)):
        return VIEW
    return _host("it is no change between NCHW and NHWC")


def _identity(_graph: Graph, _index: int, _known: dict[str, Layout], _verdicts: list[Verdict]) -> Verdict:
    return VIEW


def _dropout(graph: Graph, index: int, _known: dict[str, Layout], _verdicts: list[Verdict]) -> Verdict:
    inputs = graph.nodes[index].input
    if (
        len(inputs) > 2
        and inputs[2]
        and not (inputs[2] in graph.constants and not graph.constant(inputs[2]).any())
    ):
        return _host("it is in training mode")
    return VIEW


def _pad(graph: Graph, index: int, known: dict[str, Layout], _verdicts: list[Verdict]) -> Verdict:
    if pads_of_pad(graph, index, known[graph.nodes[index].input[0]]) is None:
        return _host("it does not write zeros around the picture")
    return VIEW


_RULES = {
    "Add": _affine,
    "BatchNormalization": _batch_norm,
    "Conv": _conv,
    "Dropout": _dropout,
    "Identity": _identity,
    "MaxPool": _max_pool,
    "Mul": _affine,
    "Pad": _pad,
    "Relu": _relu,
    "Transpose": _transpose,
}
