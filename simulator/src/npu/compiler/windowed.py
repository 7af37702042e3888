"""Rules for operators that look at windows: convolutions, pools, and the zeros in front of them."""

import math
from collections.abc import Sequence

from npu.chain import MAX_KERNEL, MAX_SIDE, NATIVE_DIM, blocks
from npu.compiler.geometry import Layout, Window, count_overhang, padded, pads_of_pad, windows
from npu.compiler.graph import Graph
from npu.compiler.verdicts import VIEW, WORK, Candidate, Role, Verdict, on_host
from npu.schedule import MATRIX_BUFFER_TILES

__all__ = ["average_pool", "conv", "fits_behind", "max_pool", "pad"]

MOST_MAKERS = 300  # looked at to know that a tensor is not negative: a dense block has about 60


def conv(asked: Candidate) -> Verdict:
    """A convolution with constant weights; the matrix unit multiplies whole native vectors, so no groups."""
    node = asked.node
    if any(name and name not in asked.graph.constants for name in node.input[1:]):
        return on_host("its weights are not constant")
    if not asked.graph.are_float32(node.input[1:]):
        return on_host("its weights are not float32")
    weights = asked.graph.shapes[node.input[1]]
    channels, out = asked.graph.shapes[node.input[0]][1], asked.graph.shapes[node.output[0]][1]
    group = asked.given.get("group", 1)
    if group != 1:
        what = "depthwise" if group == channels else "grouped"
        return on_host(f"{what} convolutions do not map to the matrix unit")
    if len(weights) != 4 or weights[1] != channels or weights[0] != out:
        return on_host("its weights do not fit its input")
    if len(node.input) > 2 and node.input[2] and asked.graph.shapes[node.input[2]] != (weights[0],):
        return on_host("its bias does not fit its output")
    window = windows(asked.graph, asked.index)
    if window.kernel != weights[2:]:
        return on_host("its kernel_shape is not its weights'")
    if _is_fully_connected(window, asked.graph.shapes[node.input[0]], weights):
        return on_host("fully connected layers are computed on the host")
    return _check(window)


def max_pool(asked: Candidate) -> Verdict:
    """A pool of square or other windows; ONNX pads with minus infinity, the device with zeros."""
    window, given = windows(asked.graph, asked.index), asked.given
    if not _same_channels(asked):
        return on_host("its output does not have its input's channels")
    if window.dilation != (1, 1) or given.get("storage_order", 0):
        return on_host("it is dilated or column-major")
    if max(window.pads) > 0 and not _non_negative(asked.graph, asked.node.input[0], asked.verdicts):
        return on_host("the device pads pools with zeros, and its input may be negative")
    return _check(window)


def average_pool(asked: Candidate) -> Verdict:
    """The device divides by the number of a window's places, so its padding must count."""
    window, given = windows(asked.graph, asked.index), asked.given
    if not _same_channels(asked):
        return on_host("its output does not have its input's channels")
    if window.dilation != (1, 1):
        return on_host("it is dilated")
    if min(window.pads) < 0 and given.get("auto_pad", b"NOTSET") in (b"SAME_UPPER", b"SAME_LOWER"):
        return on_host("its stride passes over pixels, and runtimes differ in what `SAME` means then")
    if max(window.pads) > 0:
        if not given.get("count_include_pad", 0):
            return on_host("its padding does not count, and the device divides by the whole window")
        if count_overhang(asked.graph, asked.index, window):
            return on_host(
                "its last windows end beyond the padding, and the device divides by the whole window"
            )
    return _check(window)


def pad(asked: Candidate) -> Verdict:
    """Zeros around the picture; whether windows take them as their padding is judged afterwards."""
    node = asked.node
    layout = asked.known[node.input[0]]
    pads = pads_of_pad(asked.graph, asked.index, layout)
    if pads is None or asked.known[node.output[0]] is not layout:
        return on_host("it does not write zeros around the picture")
    before, after = asked.graph.shapes[node.input[0]], asked.graph.shapes[node.output[0]]
    more = {layout.spatial_axes[0]: pads[0] + pads[2], layout.spatial_axes[1]: pads[1] + pads[3]}
    if any(after[axis] != (before[axis] or 0) + more.get(axis, 0) for axis in (1, 2, 3)):
        return on_host("its output does not have the size that its zeros give")
    return VIEW


def fits_behind(graph: Graph, zeros: int, reader: int, known: dict[str, Layout]) -> Verdict:
    """Whether a window can take the zeros of a Pad node as part of its own padding."""
    more = pads_of_pad(graph, zeros, known[graph.nodes[zeros].input[0]])
    assert more is not None
    return _check(padded(windows(graph, reader), more))


def _check(window: Window) -> Verdict:
    if max(window.kernel) > MAX_KERNEL:
        return on_host(f"its kernel is larger than {MAX_KERNEL}")
    if max(*window.stride, *window.dilation, *window.pads) > MAX_SIDE:
        return on_host("its stride, dilation or padding is beyond any picture")
    top, left, bottom, right = window.pads
    for axis, (before, after) in enumerate(((top, bottom), (left, right))):
        extent = (window.kernel[axis] - 1) * window.dilation[axis] + 1
        if before < 0 or max(before, after) >= extent or after <= -window.stride[axis]:
            return on_host("a window lies in the padding altogether")
    return WORK


def _is_fully_connected(
    window: Window, picture: tuple[int | None, ...], weights: tuple[int | None, ...]
) -> bool:
    """Whether the window is the whole picture, and its weights, each used once, would come from DRAM.

    TensorFlow's VGG has its first fully connected layer as such a convolution; the firmware ends in front of it.
    """
    tiles = (
        blocks(weights[0] or 0, NATIVE_DIM) * blocks(weights[1] or 0, NATIVE_DIM) * math.prod(window.kernel)
    )
    return window.kernel == picture[2:] and max(window.pads) <= 0 and tiles > 2 * MATRIX_BUFFER_TILES


def _same_channels(asked: Candidate) -> bool:
    return bool(asked.graph.shapes[asked.node.input[0]][1] == asked.graph.shapes[asked.node.output[0]][1])


def _non_negative(graph: Graph, tensor: str, verdicts: Sequence[Verdict]) -> bool:
    """Whether every number of the tensor is known to be zero or more."""
    todo, seen = [tensor], set()
    while todo:
        name = todo.pop()
        if name in seen:
            continue
        seen.add(name)
        if name not in graph.producer or len(seen) > MOST_MAKERS:
            return False
        index = graph.producer[name]
        node, role = graph.nodes[index], verdicts[index].role
        if role is Role.HOST:
            return False
        if node.op_type in ("Relu", "Clip"):
            continue
        if node.op_type == "MaxPool" and max(windows(graph, index).pads) > 0:
            continue  # on the device only because its input is not negative
        keeps = node.op_type in ("MaxPool", "AveragePool", "Concat") or role is Role.VIEW
        if not keeps or any(reads not in graph.producer for reads in graph.inputs_of(index)):
            return False
        if node.op_type == "Concat" and len(graph.inputs_of(index)) != len(node.input):
            return False  # constants may be negative
        todo += graph.inputs_of(index)
    return True
