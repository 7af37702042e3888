"""What the axes of the graph's tensors mean, and which pixels an operator's window sees.

ONNX says NCHW, TensorFlow's graphs arrive with transposes to and from NHWC, and padding comes in four
spellings. Here all of it becomes a layout per tensor and a `Window` per operator.
"""

from dataclasses import dataclass
from enum import Enum

import numpy as np

from npu.compiler.graph import Graph, attributes

__all__ = [
    "TO_NCHW",
    "TO_NHWC",
    "Layout",
    "Pads",
    "Window",
    "layouts",
    "pads_of_pad",
    "picture_shape",
    "windows",
]

Pads = tuple[int, int, int, int]  # top, left, bottom, right
TO_NHWC, TO_NCHW = [0, 2, 3, 1], [0, 3, 1, 2]


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


def layouts(graph: Graph) -> dict[str, Layout]:
    """What the axes of rank-4 tensors mean, as far as convolutions, pools and transposes tell."""
    found: dict[str, Layout] = {}
    todo: list[tuple[str, Layout]] = []
    for node in graph.nodes:
        if node.op_type in ("Conv", "MaxPool", "BatchNormalization"):
            todo += [(node.input[0], Layout.NCHW), (node.output[0], Layout.NCHW)]
    while todo:
        tensor, layout = todo.pop()
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
            elif node.op_type in ("Add", "Mul", "Relu", "Identity", "Dropout", "Pad"):
                todo += [(end, layout) for end in ends]
    return found


def windows(graph: Graph, index: int) -> Window:
    """The geometry of a Conv or MaxPool node, `auto_pad` and `ceil_mode` resolved from the shapes."""
    node = graph.nodes[index]
    given = attributes(node)
    shape = given.get("kernel_shape") or graph.shapes[node.input[1]][2:]
    kernel = (int(shape[0] or 1), int(shape[1] or 1))
    stride = tuple(given.get("strides", (1, 1)))
    dilation = tuple(given.get("dilations", (1, 1)))
    size, out = graph.shapes[node.input[0]][2:], graph.shapes[node.output[0]][2:]
    top_left = list(given.get("pads", (0, 0, 0, 0)))[:2]
    auto = given.get("auto_pad", b"NOTSET")
    after = []
    for axis in (0, 1):
        length, count = size[axis], out[axis]
        assert length is not None
        assert count is not None
        total = (count - 1) * stride[axis] + (kernel[axis] - 1) * dilation[axis] + 1 - length
        if auto in (b"SAME_UPPER", b"SAME_LOWER"):
            both = max(total, 0)
            top_left[axis] = both // 2 if auto == b"SAME_UPPER" else both - both // 2
        elif auto == b"VALID":
            top_left[axis] = 0
        after.append(total - top_left[axis])
    return Window(
        kernel,
        (stride[0], stride[1]),
        (dilation[0], dilation[1]),
        (top_left[0], top_left[1], after[0], after[1]),
    )


def pads_of_pad(graph: Graph, index: int, layout: Layout) -> Pads | None:
    """Top, left, bottom, right of a Pad node that writes zeros around the picture; None for any other Pad."""
    node = graph.nodes[index]
    given = attributes(node)
    if given.get("mode", b"constant") != b"constant" or any(
        name and name not in graph.constants for name in node.input[1:]
    ):
        return None
    if len(node.input) > 2 and node.input[2] and np.any(graph.constant(node.input[2]) != 0):
        return None
    if given.get("value", 0.0) != 0.0:
        return None
    pads = np.asarray(
        graph.constant(node.input[1]) if len(node.input) > 1 else given.get("pads", ()), np.int64
    ).ravel()
    axes = [0, 1, 2, 3]
    if len(node.input) > 3 and node.input[3]:
        axes = [int(axis) % 4 for axis in graph.constant(node.input[3]).ravel()]
    if len(pads) != 2 * len(axes) or (pads < 0).any():
        return None
    amounts = {axis: (int(pads[i]), int(pads[i + len(axes)])) for i, axis in enumerate(axes)}
    rows, columns = (amounts.pop(axis, (0, 0)) for axis in layout.spatial_axes)
    if any(amount != (0, 0) for amount in amounts.values()):
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
