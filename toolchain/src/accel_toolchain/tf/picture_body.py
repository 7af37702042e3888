"""What is done to one picture: from a graph to the steps that a model server knows.

The graph is walked from its result back to the decoder. What an operator does is found by asking TensorFlow,
not by reading its attributes: resize targets are evaluated for several picture sizes, and slices are shown a
grid of coordinates. So it does not matter how an exporter spelt them.
"""

from dataclasses import dataclass, field
from typing import Any, Final

import numpy as np
import tensorflow as tf
from numpy.typing import NDArray

from accel_toolchain.conditions import Terminal
from accel_toolchain.tf.graphs import GraphDef, by_name, data_inputs, node_name
from accel_toolchain.tf.picture_map import DECODERS

PROBE_SIZES: Final = ((480, 640), (640, 480), (512, 512), (601, 701), (1000, 667))
"""Height, width. Large enough for a central crop, and with ratios that do not divide."""

_ELEMENTWISE: Final = frozenset({"Add", "AddV2", "Sub", "Mul", "RealDiv", "Div", "Maximum", "Minimum"})
_AFFINE: Final = _ELEMENTWISE - {"Maximum", "Minimum"}
_RESIZES: Final = {"ResizeBilinear": "bilinear", "ResizeNearestNeighbor": "nearest"}
_FORWARDING: Final = frozenset({"Identity", "StopGradient", "EnsureShape", "ExpandDims", "Squeeze"})
_REARRANGING: Final = frozenset(
    {"Slice", "StridedSlice", "Pad", "PadV2", "ReverseV2", "Reverse", "Reshape", "GatherV2"}
)
_SHAPE_READERS: Final = frozenset({"Shape", "ShapeN", "Size", "Rank"})
_BASE: Final = 251  # coordinates in two digits that fit a uint8 picture


@dataclass(frozen=True)
class TailOp:
    """Arithmetic on the finished picture, to be done on the batch: `op` with a constant, Cast or Reverse."""

    op: str
    operand: NDArray[Any] | None = None
    first: bool = False
    """Whether the constant is the left operand."""


@dataclass
class Body:
    """What a body does, in the order of the data: decode, steps, tail."""

    channels: int
    dtype: str
    steps: list[dict[str, Any]] = field(default_factory=list)
    tail: list[TailOp] = field(default_factory=list)


def unsupported(operator: str, why: str) -> Terminal:
    """Return the condition for a picture head that a model server cannot take over."""
    return Terminal(
        "UnsupportedOperator",
        f"spec.source: the part that decodes pictures holds {operator}, {why}. Known are "
        "decode_jpeg/png/image with 3 or 1 "
        "channels, bilinear and nearest resize, central crop, casts and arithmetic with constants. Move the "
        "rest behind tf.map_fn.",
    )


def read_body(graph: GraphDef, value: str) -> Body:
    """Return what the graph of one picture does; raises Terminal (UnsupportedOperator)."""
    return _Walk(graph, value).run()


class _Walk:
    """Goes from the result back to the decoder; collects in that order."""

    def __init__(self, graph: GraphDef, value: str) -> None:
        self.nodes = by_name(graph)
        self.value = value
        self.decoder = next(node for node in graph.node if node.op in DECODERS)
        self.decoded = f"{self.decoder.name}:0"
        self.channels = self._channels()
        self.steps: list[dict[str, Any]] = []
        self.tail: list[TailOp] = []
        with tf.Graph().as_default() as imported:
            tf.import_graph_def(graph, name="")
        self.session = tf.compat.v1.Session(graph=imported)
        self.graph = imported

    def run(self) -> Body:
        result = self._dtype(self.value)
        if result not in ("float32", "uint8"):
            raise unsupported(f"a result of type {result}", "where float32 or uint8 can be served")
        cut = result
        tensor = self.value
        with self.session:
            while node_name(tensor) != self.decoder.name:
                node = self.nodes[node_name(tensor)]
                if node.op == "Cast":
                    source = self._dtype(data_inputs(node)[0])
                    if (source, self._dtype(tensor)) == ("float32", "uint8") and result != "uint8":
                        if self.steps:
                            raise unsupported("Cast", "to whole numbers between two geometric operations")
                        # The server truncates; what was collected so far is done on the batch after a cast
                        # back.
                        cut = "uint8"
                    elif source not in ("uint8", "float32"):
                        raise unsupported("Cast", f"from {source}")
                    tensor = data_inputs(node)[0]
                else:
                    tensor = self._step(node)
        if cut != result:
            self.tail.append(TailOp("Cast"))
        return Body(self.channels, cut, self.steps[::-1], self.tail[::-1])

    def _channels(self) -> int:
        node = self.decoder
        channels = int(node.attr["channels"].i)
        if node.op not in ("DecodeJpeg", "DecodePng", "DecodeImage"):
            raise unsupported(node.op, "which the model server does not have")
        if channels not in (1, 3):
            raise unsupported(
                f"{node.op} with channels={channels}", "so that the model's input depends on the file"
            )
        if "ratio" in node.attr and node.attr["ratio"].i != 1:
            raise unsupported("DecodeJpeg with a ratio", "which the model server does not have")
        if "dtype" in node.attr and node.attr["dtype"].type != tf.uint8.as_datatype_enum:
            raise unsupported(f"{node.op} of another type than uint8", "which the model server does not have")
        return channels

    def _step(self, node: Any) -> str:
        """Take one operator into account and return the tensor before it."""
        inputs = data_inputs(node)
        if node.op in _FORWARDING:
            return inputs[0]
        if node.op in _RESIZES:
            self.steps.append(self._resize(node, inputs))
            return inputs[0]
        if node.op in _ELEMENTWISE and len(inputs) == 2:
            return self._arithmetic(node, inputs)
        if node.op in _REARRANGING:
            self._rearrangement(node, inputs[0])
            return inputs[0]
        raise unsupported(node.op, "which the model server does not have")

    def _dtype(self, tensor: str) -> str:
        return str(self.graph.get_tensor_by_name(tensor).dtype.base_dtype.name)

    def _evaluate(
        self, tensor: str, size: tuple[int, int], feeds: dict[str, Any] | None = None
    ) -> NDArray[Any]:
        picture = np.zeros((*size, self.channels), np.uint8)
        return np.asarray(self.session.run(tensor, {self.decoded: picture, **(feeds or {})}))

    def _resize(self, node: Any, inputs: list[str]) -> dict[str, Any]:
        rules = {
            "method": _RESIZES[node.op],
            "halfPixelCenters": bool(node.attr["half_pixel_centers"].b),
            "alignCorners": bool(node.attr["align_corners"].b),
        }
        sources = [self._picture_shape(inputs[0], size) for size in PROBE_SIZES]
        targets = [tuple(int(v) for v in self._evaluate(inputs[1], size)) for size in PROBE_SIZES]
        if len(set(targets)) == 1:
            return {"op": "resize", "height": targets[0][0], "width": targets[0][1], **rules}
        side = min(targets[0])
        # Exporters compute the longer side in floats of one kind or another: a pixel more or less is their
        # rounding.
        for (height, width, _), target in zip(sources, targets, strict=True):
            smallest = min(height, width)
            wanted = (height * side // smallest, width * side // smallest)
            if max(abs(target[0] - wanted[0]), abs(target[1] - wanted[1])) > 1:
                raise unsupported(
                    node.op, f"which resizes {height}×{width} to {target[0]}×{target[1]} by an unknown rule"
                )
        return {"op": "resizeSmallest", "side": side, **rules}

    def _picture_shape(self, tensor: str, size: tuple[int, int]) -> tuple[int, int, int]:
        shape = self._evaluate(tensor, size).shape
        return (shape[-3], shape[-2], shape[-1]) if len(shape) >= 3 else (0, 0, 0)

    def _arithmetic(self, node: Any, inputs: list[str]) -> str:
        on_path = [self._depends_on_pixels(tensor) for tensor in inputs]
        if all(on_path):
            raise unsupported(node.op, "with two operands that depend on the picture")
        path, other = (inputs[0], inputs[1]) if on_path[0] else (inputs[1], inputs[0])
        if self._dtype(path) != "float32":
            raise unsupported(node.op, f"on {self._dtype(path)}")
        values = [self._evaluate(other, size) for size in PROBE_SIZES[:2]]
        if values[0].shape != values[1].shape or not np.array_equal(values[0], values[1]):
            raise unsupported(node.op, "with a number that depends on the picture's size")
        operand = values[0]
        per_channel = operand.size == 1 or operand.shape[-1:] == (operand.size,)
        if self.steps and (node.op not in _AFFINE or not per_channel):
            raise unsupported(node.op, "before a geometric operation")
        # Scales and shifts may as well be applied after a resize: its weights sum to one.
        self.tail.append(TailOp(node.op, operand.reshape(operand.shape[-3:]), first=not on_path[0]))
        return path

    def _depends_on_pixels(self, tensor: str) -> bool:
        waiting, seen = [node_name(tensor)], set()
        while waiting:
            name = waiting.pop()
            if name == self.decoder.name:
                return True
            node = self.nodes.get(name)
            if node is None or name in seen or node.op in _SHAPE_READERS:
                continue
            seen.add(name)
            waiting += [node_name(reference) for reference in data_inputs(node)]
        return False

    def _rearrangement(self, node: Any, source: str) -> None:
        """Show the operator a picture of its own coordinates, and read off what it does."""
        crops = set()
        for size in PROBE_SIZES:
            shape = self._evaluate(source, size).shape
            if len(shape) not in (3, 4):
                raise unsupported(node.op, "on something that is no picture")
            height, width, channels = shape[-3:]
            rows, columns, layers = self._coordinates(node, source, size, shape)
            if rows.ndim != 3:
                raise unsupported(node.op, "which changes the rank")
            top, left = int(rows[0, 0, 0]), int(columns[0, 0, 0])
            straight = np.array_equal(rows[:, 0, 0], top + np.arange(rows.shape[0])) and np.array_equal(
                columns[0, :, 0], left + np.arange(rows.shape[1])
            )
            order = [int(channel) for channel in layers[0, 0]]
            reversed_ = order == list(range(channels))[::-1] and channels > 1
            if not straight or not (reversed_ or order == list(range(channels))):
                raise unsupported(node.op, "which is neither a crop nor a reversal of the channels")
            out = rows.shape[:2]
            whole = out == (height, width)
            central = (top, left) == ((height - out[0]) // 2, (width - out[1]) // 2)
            if not whole and (reversed_ or not central):
                raise unsupported(
                    node.op, f"which cuts {out[0]}×{out[1]} at ({top}, {left}) out of {height}×{width}"
                )
            crops.add("reverse" if reversed_ else "nothing" if whole else out)
        if len(crops) != 1:
            raise unsupported(node.op, "whose result depends on the picture's size")
        crop = crops.pop()
        if crop == "reverse":
            self.tail.append(TailOp("Reverse"))
        elif isinstance(crop, tuple):
            self.steps.append({"op": "crop", "height": crop[0], "width": crop[1]})

    def _coordinates(
        self, node: Any, source: str, size: tuple[int, int], shape: tuple[int, ...]
    ) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]]:
        """Return for each pixel of the operator's result the row, column and channel that it came from."""
        grid = np.indices(shape[-3:])
        dtype = self.graph.get_tensor_by_name(source).dtype.as_numpy_dtype
        found = []
        for axis in range(3):
            digits = []
            for digit in (grid[axis] % _BASE, grid[axis] // _BASE):
                fed = digit.astype(dtype).reshape(shape)
                result = self._evaluate(f"{node.name}:0", size, {source: fed})
                digits.append(result.reshape(result.shape[-3:] if result.ndim == 4 else result.shape))
            found.append(digits[0].astype(np.int64) + _BASE * digits[1].astype(np.int64))
        return found[0], found[1], found[2]
