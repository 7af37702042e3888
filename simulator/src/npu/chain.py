"""Chains and the tensors between them: what a program says the device does, without weights and without
bytes.

A chain is one pass through the machine for all positions of a layer: read vectors, multiply by a matrix (a
real one, or the identity), then the float16 stage, then write. Geometry follows from the tensors that a chain
joins.
"""

from dataclasses import dataclass
from enum import Enum, IntFlag

from npu.bfp import Accumulation

__all__ = [
    "EXPANDER_CHANNELS",
    "EXPANDER_KERNEL",
    "MAX_KERNEL",
    "MAX_NUMBERS",
    "MAX_SIDE",
    "NATIVE_DIM",
    "Chain",
    "Files",
    "Kind",
    "Load",
    "Need",
    "Stage",
    "Tensor",
    "blocks",
]

MAX_SIDE = 65_535  # of a tensor, in each direction
MAX_NUMBERS = 1 << 28  # in one tensor: a gigabyte of float32
MAX_KERNEL = 64
NATIVE_DIM = 128  # numbers in a native vector of the Arria 10; other SKUs compile with theirs
EXPANDER_KERNEL = 7  # the image unit always cuts 7 x 7 windows
EXPANDER_CHANNELS = 3


class Kind(Enum):
    """What feeds the matrix unit."""

    CONV = 0  # a strided window of vectors
    EXPAND = 1  # windows of the image, cut by the Expander
    IDENTITY = 2  # the vectors themselves: only the float16 stage matters
    MAX_POOL = 3  # the vectors themselves, horizontally and then vertically
    AVERAGE_POOL = 4  # the first vector of a window; the others are added in float16, row by row
    CONCAT = 5  # the vectors themselves; the chain's residual goes behind their channels


class Stage(IntFlag):
    """What the float16 stage does, in this order. Without SCALE there is still a bias."""

    NONE = 0
    SCALE = 1
    BIAS = 2
    RESIDUAL = 4
    RELU = 8


class Files(IntFlag):
    """Where a tensor is kept: block floating point for the matrix unit, float16 for residuals and right
    operands.
    """

    NONE = 0
    MATRIX = 1  # MvmInitialVrf
    FLOAT16 = 2  # AddSubVrf_1
    STREAMED = 4  # only the lines that its reader needs exist at any time


@dataclass(frozen=True)
class Tensor:
    """Height, width, channels, and the first register in each file (meaningless where `files` lacks it).

    `pitch` is how many native vectors of registers each position has: 0 means as many as its channels fill; more
    where later concatenations grow the tensor in place. `native_dim` is the program's.
    """

    height: int
    width: int
    channels: int
    files: Files = Files.NONE
    matrix_address: int = 0
    float16_address: int = 0
    pitch: int = 0
    native_dim: int = NATIVE_DIM

    @property
    def shape(self) -> tuple[int, int, int]:
        """Height, width, channels."""
        return self.height, self.width, self.channels

    @property
    def positions(self) -> int:
        """Pixels."""
        return self.height * self.width

    @property
    def depth(self) -> int:
        """Native vectors per position."""
        return blocks(self.channels, self.native_dim)

    @property
    def vectors(self) -> int:
        """Native vectors of the whole tensor."""
        return self.positions * self.depth

    @property
    def registers(self) -> int:
        """Native vectors of registers that the whole tensor takes in a file."""
        return self.positions * max(self.pitch, self.depth)


@dataclass(frozen=True)
class Chain:
    """One layer. `source`, `residual`, `target` are indices of tensors; tensor 0 is the program's input."""

    kind: Kind
    accumulation: Accumulation
    stage: Stage
    kernel: tuple[int, int]
    stride: tuple[int, int]
    dilation: tuple[int, int]
    pad: tuple[int, int]  # top, left; bottom and right follow from the target's size
    source: int
    target: int
    residual: int | None = None
    residual_stride: tuple[int, int] = (1, 1)  # a short cut may skip rows and columns
    group: int = 0  # chains of one group run row by row together

    @property
    def extent(self) -> tuple[int, int]:
        """Rows and columns that one output position looks at."""
        return (self.kernel[0] - 1) * self.dilation[0] + 1, (self.kernel[1] - 1) * self.dilation[1] + 1

    def pad_after(self, source: Tensor, target: Tensor) -> tuple[int, int]:
        """Bottom and right padding; negative where the last window ends before the last row or column."""
        return (
            (target.height - 1) * self.stride[0] + self.extent[0] - source.height - self.pad[0],
            (target.width - 1) * self.stride[1] + self.extent[1] - source.width - self.pad[1],
        )

    def weight_shape(self, source: Tensor, target: Tensor) -> tuple[int, int, int, int]:
        """Output channels, ky, kx, input channels; zeros where the matrix is the identity.

        The Expander's window is one row of 7 * 7 * C numbers, in which a smaller kernel sits centred.
        """
        if self.kind is Kind.CONV:
            return target.channels, *self.kernel, source.channels
        if self.kind is Kind.EXPAND:
            return target.channels, 1, 1, EXPANDER_KERNEL**2 * source.channels
        return 0, 0, 0, 0

    def tiles(self, source: Tensor, target: Tensor) -> int:
        """Weight tiles held in DRAM: an identity pass has one tile of its own."""
        if self.kind is Kind.CONV:
            return source.depth * self.kernel[0] * self.kernel[1] * target.depth
        if self.kind is Kind.EXPAND:
            # 7 * 7 * 3 = 147 numbers: two native vectors of the Arria 10, even for pictures of one channel
            return blocks(EXPANDER_KERNEL**2 * EXPANDER_CHANNELS, target.native_dim) * target.depth
        return 1

    def vectors(self, target: Tensor) -> int:
        """Bias and scale vectors held in DRAM."""
        return target.depth * ((Stage.SCALE in self.stage) + (Stage.BIAS in self.stage))

    def workspace(self, source: Tensor, target: Tensor) -> int:
        """Numbers in the largest array that computing it position by position takes: the padded source, what one
        kernel tap (or the Expander's window) sees at all positions, or the result.
        """
        after = self.pad_after(source, target)
        rows, columns = (
            side + before + max(behind, 0)
            for side, before, behind in zip(source.shape[:2], self.pad, after, strict=True)
        )
        seen = EXPANDER_KERNEL**2 if self.kind is Kind.EXPAND else 1
        return max(
            rows * columns * source.channels,
            target.positions * seen * source.channels,
            target.positions * target.channels,
        )

    def macs(self, source: Tensor, target: Tensor) -> int:
        """Multiplications that the layer means, without padding to tiles."""
        if self.kind in (Kind.CONV, Kind.EXPAND):
            return target.positions * target.channels * source.channels * self.kernel[0] * self.kernel[1]
        return 0


@dataclass(frozen=True)
class Load:
    """Weight tiles that go from DRAM into one of the two matrix buffers before their chain multiplies by them."""

    chain: int
    first: int  # tile of the chain, in the order output tile, ky, kx, depth
    tiles: int
    buffer: int  # 0 or 1


@dataclass(frozen=True)
class Need:
    """The least SKU that can hold the program. Native vectors, but tiles for the two matrix memories."""

    initial_vrf: int
    addsub_vrf_0: int
    addsub_vrf_1: int
    multiply_vrf: int
    matrix_rf: int
    matrix_memory: int  # weight tiles in DRAM
    vector_memory: int  # bias and scale vectors in DRAM


def blocks(length: int, size: int) -> int:
    """How many blocks of `size` hold `length` numbers."""
    return -(-length // size)
