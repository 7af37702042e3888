"""What the axes of the graph's tensors mean, and which pixels an operator's window sees.

ONNX says NCHW, TensorFlow's graphs arrive with transposes to and from NHWC, and padding comes in four
spellings. Here all of it becomes a layout per tensor and a `Window` per operator.
"""

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, replace
from enum import Enum
from typing import Any

import numpy as np

from npu.compiler.graph import Graph, attributes

__all__ = [
    "NCHW_OPERATORS",
    "TO_NCHW",
    "TO_NHWC",
    "Layout",
    "Pads",
    "Window",
    "WindowError",
    "count_overhang",
    "layouts",
    "padded",
    "pads_of_pad",
    "picture_shape",
    "windows",
]

Pads = tuple[int, int, int, int]  # top, left, bottom, right
TO_NHWC, TO_NCHW = [0, 2, 3, 1], [0, 3, 1, 2]
AUTO_PAD = (b"NOTSET", b"VALID", b"SAME_UPPER", b"SAME_LOWER")
NCHW_OPERATORS = frozenset(
    {
        "AveragePool",
        "BatchNormalization",
        "Conv",
        "ConvTranspose",
        "GlobalAveragePool",
        "InstanceNormalization",
    }
    | {"GlobalMaxPool", "LRN", "MaxPool"}
)
SAME_LAYOUT = frozenset(
    {"Add", "Cast", "Clip", "Concat", "Div", "Dropout", "Elu", "HardSigmoid", "HardSwish", "Identity"}
    | {
        "LeakyRelu",
        "Max",
        "Min",
        "Mul",
        "PRelu",
        "Pad",
        "Relu",
        "Sigmoid",
        "Softplus",
        "Sqrt",
        "Sub",
        "Sum",
        "Tanh",
    }
)


class Layout(Enum):
    """The meaning of a picture tensor's axes; the value is the channel axis."""

    NCHW = 1
    NHWC = 3

    @property
    def channel_axis(self) -> int:
        """Where the channels are."""
        return self.value

    @property
    def spatial_axes(self) -> tuple[int, int]:
        """Where height and width are."""
        return (2, 3) if self is Layout.NCHW else (1, 2)


@dataclass(frozen=True)
class Window:
    """A convolution's or pool's geometry; pads are top, left, bottom, right."""

    kernel: tuple[int, int]
    stride: tuple[int, int]
    dilation: tuple[int, int]
    pads: Pads


class WindowError(ValueError):
    """A window that contradicts itself or the shapes around it; the message is a reason to stay on the host."""


def layouts(graph: Graph) -> dict[str, Layout]:
    """What the axes of rank-4 tensors mean, as far as convolutions, pools and transposes tell."""
    found: dict[str, Layout] = {}
    todo: deque[tuple[str, Layout]] = deque()
    for node in graph.nodes:
        if node.op_type in NCHW_OPERATORS:
            todo += [(node.input[0], Layout.NCHW), (node.output[0], Layout.NCHW)]
    while todo:
        tensor, layout = todo.popleft()
        if tensor in found or len(graph.shapes.get(tensor, ())) != 4:
            continue
        found[tensor] = layout
        near = list(graph.consumers.get(tensor, []))
        if tensor in graph.producer:
            near.append(graph.producer[tensor])
        for index in near:
            node = graph.nodes[index]
            ends = [*graph.inputs_of(index), *node.output]
            if node.op_type == "Transpose" and attributes(node).get("perm") in (TO_NHWC, TO_NCHW):
                other = Layout.NHWC if layout is Layout.NCHW else Layout.NCHW
                todo += [(end, other) for end in ends if end != tensor]
            elif node.op_type in SAME_LAYOUT or (node.op_type == "Reshape" and _changes_nothing(graph, node)):
                todo += [(end, layout) for end in ends]
    return found


def _changes_nothing(graph: Graph, node: Any) -> bool:
    before, after = (graph.shapes.get(name, ()) for name in (node.input[0], node.output[0]))
    return len(before) == 4 and before[1:] == after[1:] and None not in before[1:]


def windows(graph: Graph, index: int) -> Window:
    """The geometry of a convolution or pool, `auto_pad` and `ceil_mode` resolved from the shapes.

    Raises WindowError where the attributes are no window, or the output does not have the size it gives.
    """
    node = graph.nodes[index]
    given = attributes(node)
    kernel = _pair(given, "kernel_shape", graph.shapes[node.input[1]][2:] if len(node.input) > 1 else ())
    stride, dilation = _pair(given, "strides", (1, 1)), _pair(given, "dilations", (1, 1))
    size, out = graph.shapes[node.input[0]][2:], graph.shapes[node.output[0]][2:]
    declared = tuple(given.get("pads", (0, 0, 0, 0)))
    auto = given.get("auto_pad", b"NOTSET")
    if len(declared) != 4 or min(declared) < 0 or auto not in AUTO_PAD:
        raise WindowError("its padding is not four numbers of zeros")
    before, after = [], []
    for axis in (0, 1):
        length, count = size[axis] or 0, out[axis] or 0
        total = (count - 1) * stride[axis] + (kernel[axis] - 1) * dilation[axis] + 1 - length
        if auto in (b"SAME_UPPER", b"SAME_LOWER"):
            both = max(total, 0)
            before.append(both // 2 if auto == b"SAME_UPPER" else both - both // 2)
            right = count == -(-length // stride[axis])
        else:
            before.append(declared[axis] if auto == b"NOTSET" else 0)
            unread = (declared[axis + 2] if auto == b"NOTSET" else 0) - (total - before[axis])
            right = (
                -stride[axis] < unread <= stride[axis]
                if given.get("ceil_mode", 0)
                else (0 <= unread < stride[axis])
            )
        if not right:
            raise WindowError("its output does not have the size that its window gives")
        after.append(total - before[axis])
    return Window(kernel, stride, dilation, (before[0], before[1], after[0], after[1]))


def count_overhang(graph: Graph, index: int, window: Window) -> bool:
    """Whether windows end beyond the padding that the node declares, as `ceil_mode` lets them."""
    given = attributes(graph.nodes[index])
    if given.get("auto_pad", b"NOTSET") in (b"SAME_UPPER", b"SAME_LOWER"):
        return False
    declared = tuple(given.get("pads", (0, 0, 0, 0)))
    return any(window.pads[2 + axis] > declared[2 + axis] for axis in (0, 1))


def padded(window: Window, more: Pads) -> Window:
    """The window with more zeros around its picture."""
    one = window.pads
    return replace(window, pads=(one[0] + more[0], one[1] + more[1], one[2] + more[2], one[3] + more[3]))


def _pair(given: dict[str, Any], key: str, default: Sequence[int | None]) -> tuple[int, int]:
    numbers = tuple(given.get(key, default))
    if len(numbers) != 2 or not all(isinstance(n, int) and n > 0 for n in numbers):
        raise WindowError(f"its {key} is not two positive numbers: it does not look at pictures")
    return numbers[0], numbers[1]


def pads_of_pad(graph: Graph, index: int, layout: Layout) -> Pads | None:
    """Top, left, bottom, right of a Pad node that writes zeros around the picture; None for any other Pad."""
    node = graph.nodes[index]
    given = attributes(node)
    if given.get("mode", b"constant") != b"constant" or any(
        name and name not in graph.constants for name in node.input[1:]
    ):
        return None
    value = (
        graph.constant(node.input[2]) if len(node.input) > 2 and node.input[2] else given.get("value", 0.0)
    )
    if np.any(np.asarray(value) != 0):
        return None
    amounts = graph.constant(node.input[1]) if len(node.input) > 1 else np.asarray(given.get("pads", ()))
    axes = [0, 1, 2, 3]
    if len(node.input) > 3 and node.input[3]:
        named = graph.constant(node.input[3])
        axes = [int(axis) % 4 for axis in named.ravel()] if named.dtype.kind == "i" else []
    if amounts.dtype.kind != "i" or amounts.size != 2 * len(axes) or (amounts < 0).any():
        return None
    numbers = [int(amount) for amount in amounts.ravel()]
    around = {axis: (numbers[i], numbers[i + len(axes)]) for i, axis in enumerate(axes)}
    rows, columns = (around.pop(axis, (0, 0)) for axis in layout.spatial_axes)
    if any(amount != (0, 0) for amount in around.values()):
        return None
    return rows[0], columns[0], rows[1], columns[1]


def picture_shape(graph: Graph, tensor: str, layout: Layout) -> tuple[int, int, int]:
    """Height, width, channels of a tensor whose layout is known."""
    height, width, channels = (
        graph.shapes[tensor][axis] for axis in (*layout.spatial_axes, layout.channel_axis)
    )
    assert height is not None
    assert width is not None
    assert channels is not None
    return height, width, channels
