"""What a network is: a table of layers with explicit geometry, and the names of its variables in public checkpoints.

Sizes are not in the table: they follow from the picture's, so that a network can be had for smaller pictures.
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from enum import Enum

__all__ = ["PICTURE", "Kind", "Layer", "Network", "Pads", "Shape"]

Pads = tuple[int, int, int, int]  # top, left, bottom, right
Shape = tuple[int, int, int]  # height, width, channels
PICTURE = "image"  # what the first layers read


class Kind(Enum):
    """What a layer does."""

    CONV = "conv"
    BATCH_NORM = "batch_norm"
    RELU = "relu"
    MAX_POOL = "max_pool"
    AVERAGE_POOL = "average_pool"
    ADD = "add"
    CONCAT = "concat"
    L2_NORM = "l2_norm"  # over the channels, times a learnt number per channel
    GLOBAL_AVERAGE = "global_average"
    DENSE = "dense"  # of all numbers, in the order height, width, channel
    SOFTMAX = "softmax"
    BOXES = "boxes"  # a detection head's channels as [height, width, boxes, numbers per box]


@dataclass(frozen=True)
class Layer:
    """One row. `channels` is what comes out; 0 stands for as many as go in."""

    name: str
    kind: Kind
    inputs: tuple[str, ...]
    channels: int = 0
    kernel: tuple[int, int] = (1, 1)
    stride: tuple[int, int] = (1, 1)
    dilation: tuple[int, int] = (1, 1)
    pads: Pads = (0, 0, 0, 0)
    bias: bool = False
    epsilon: float = 0.0
    variable: str = ""  # scope of its variables in the checkpoint: <variable>/weights, /biases, /gamma, ...
    host: bool = False  # the accelerator leaves it to the host

    @property
    def extent(self) -> tuple[int, int]:
        """Rows and columns that a window covers."""
        return (self.kernel[0] - 1) * self.dilation[0] + 1, (self.kernel[1] - 1) * self.dilation[1] + 1


@dataclass(frozen=True)
class Network:
    """Layers in the order of execution. Pictures are [height, width, channels], prepared: (RGB - means) * factor."""

    name: str
    picture: Shape
    layers: tuple[Layer, ...]
    outputs: tuple[str, ...]
    means: tuple[float, float, float] = (123.68, 116.779, 103.939)
    factor: float = 1.0

    def layer(self, name: str) -> Layer:
        """Return the layer of that name; KeyError if there is none."""
        for layer in self.layers:
            if layer.name == name:
                return layer
        raise KeyError(f"{self.name} has no layer {name!r}")

    def shapes(self) -> dict[str, Shape]:
        """Every tensor's height, width, channels, by the name of the layer that makes it.

        Raises ValueError for a picture that is too small for some layer.
        """
        known: dict[str, Shape] = {PICTURE: self.picture}
        for layer in self.layers:
            known[layer.name] = _shape(layer, [known[name] for name in layer.inputs])
        return known

    def variables(self) -> Iterator[tuple[str, tuple[int, ...]]]:
        """Names and shapes of all variables, as TensorFlow keeps them: [height, width, in, out]."""
        known = self.shapes()
        for layer in self.layers:
            height, width, channels = known[layer.inputs[0]]
            out = known[layer.name][2]
            match layer.kind:
                case Kind.CONV:
                    yield f"{layer.variable}/weights", (*layer.kernel, channels, out)
                case Kind.DENSE:
                    yield f"{layer.variable}/weights", (height, width, channels, out)
                case Kind.BATCH_NORM:
                    for part in ("gamma", "beta", "moving_mean", "moving_variance"):
                        yield f"{layer.variable}/{part}", (out,)
                case Kind.L2_NORM:
                    yield f"{layer.variable}/gamma", (out,)
            if layer.bias:
                yield f"{layer.variable}/biases", (out,)

    def macs(self, *, device: bool = True) -> int:
        """Multiplications of the convolutions, those of the device alone or all."""
        known = self.shapes()
        total = 0
        for layer in self.layers:
            if layer.kind is Kind.CONV and not (device and layer.host):
                height, width, out = known[layer.name]
                total += height * width * out * known[layer.inputs[0]][2] * layer.kernel[0] * layer.kernel[1]
        return total

    def resized(self, side: int) -> "Network":
        """The same network for pictures of `side` by `side`."""
        return replace(self, picture=(side, side, self.picture[2]))

    def with_classes(self, classes: int) -> "Network":
        """The same network with another classifier; ValueError for one that has none."""
        last = [x for layer in self.layers if layer.kind is Kind.SOFTMAX for x in layer.inputs]
        if not last:
            raise ValueError(f"{self.name} has no classifier; ask its table for the number of classes")
        layers = (replace(x, channels=classes) if x.name in last else x for x in self.layers)
        return replace(self, layers=tuple(layers))

    def device_part(self) -> "Network":
        """The network without what stays on the host; its outputs are what the host would read."""
        inside = {layer.name for layer in self.layers if not layer.host}
        read = [name for layer in self.layers if layer.host for name in layer.inputs]
        ends = tuple(name for name in dict.fromkeys([*read, *self.outputs]) if name in inside)
        return replace(
            self, layers=tuple(layer for layer in self.layers if layer.name in inside), outputs=ends
        )


def _shape(layer: Layer, given: list[Shape]) -> Shape:
    height, width, channels = given[0]
    match layer.kind:
        case Kind.CONV | Kind.MAX_POOL | Kind.AVERAGE_POOL:
            top, left, bottom, right = layer.pads
            height = (height + top + bottom - layer.extent[0]) // layer.stride[0] + 1
            width = (width + left + right - layer.extent[1]) // layer.stride[1] + 1
            if min(height, width) < 1:
                raise ValueError(f"the picture is too small: nothing is left of it at {layer.name!r}")
            return height, width, layer.channels or channels
        case Kind.CONCAT:
            return height, width, sum(shape[2] for shape in given)
        case Kind.GLOBAL_AVERAGE | Kind.DENSE:
            return 1, 1, layer.channels or channels
        case _:
            return given[0]
