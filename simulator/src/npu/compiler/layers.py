"""Layers: chains before they have registers and bytes, and the order in which they run."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from npu.chain import Kind
from npu.compiler.geometry import Window

__all__ = ["INPUT", "POINT", "Float64", "Layer", "depth", "ordered"]

INPUT = -1  # the region's input among layers
POINT = Window((1, 1), (1, 1), (1, 1), (0, 0, 0, 0))
ONLY_A_PASS = (Kind.MAX_POOL, Kind.AVERAGE_POOL, Kind.CONCAT)
Float64 = NDArray[np.float64]


@dataclass
class Layer:
    """`source` and `residual` are indices of layers or INPUT; `weights` is float32 [out, ky, kx, in].

    Of a CONCAT the residual holds the channels behind the source's.
    """

    name: str
    kind: Kind
    source: int
    shape: tuple[int, int, int]
    window: Window = POINT
    weights: NDArray[np.float32] | None = None
    scale: Float64 | None = None
    bias: Float64 | None = None
    residual: int | None = None
    residual_stride: tuple[int, int] = (1, 1)
    relu: bool = False
    tensor: str = ""  # what the graph calls its result; empty where the graph has no such tensor

    @property
    def has_stage(self) -> bool:
        """Whether the float16 stage may still do something behind it; pools and concatenations use it up."""
        return self.kind not in ONLY_A_PASS

    @property
    def takes_affine(self) -> bool:
        """Whether a scale, bias or residual may still follow in the float16 stage's order."""
        return self.has_stage and self.residual is None and not self.relu

    def apply(self, scale: Float64 | None, bias: Float64 | None) -> None:
        """Compose y -> y * scale + bias with what the layer does already."""
        if scale is not None:
            self.scale = scale if self.scale is None else self.scale * scale
            self.bias = None if self.bias is None else self.bias * scale
        if bias is not None:
            self.bias = bias if self.bias is None else self.bias + bias


def depth(layers: Sequence[Layer], index: int) -> int:
    """How many layers lie between the input and this one, on the matrix unit's path."""
    count = 0
    while index != INPUT:
        index, count = layers[index].source, count + 1
    return count


def ordered(layers: Sequence[Layer], outputs: Sequence[int]) -> tuple[list[Layer], list[int]]:
    """Renumber the layers and outputs in the order of execution; what no output needs is left out.

    What is added comes before the layer that adds it, so that it waits in float16; of a concatenation, what
    stands in front comes first.
    """
    place = {INPUT: INPUT}
    order: list[int] = []
    stack = [(index, False) for index in reversed(outputs)]
    while stack:
        index, ready = stack.pop()
        if index in place:
            continue
        if ready:
            place[index] = len(order)
            order.append(index)
            continue
        layer = layers[index]
        first, second = layer.residual, layer.source
        if layer.kind is Kind.CONCAT:
            first, second = layer.source, layer.residual or 0
        stack.append((index, True))
        stack.append((second, False))
        if first is not None:
            stack.append((first, False))  # on top of the stack: comes first
    renumbered = [
        replace(
            layers[index],
            source=place[layers[index].source],
            residual=None if (other := layers[index].residual) is None else place[other],
        )
        for index in order
    ]
    return renumbered, [place[index] for index in outputs]
