"""What one chain asks of each engine: cycles of the matrix unit, instructions, weight tiles, bytes.

Everything follows from the chain's geometry and the SKU's numbers; nothing here knows of time, order or other
chains.
"""

from dataclasses import dataclass

from npu.bfp import Accumulation, Preset
from npu.chain import EXPANDER_KERNEL, NATIVE_DIM, Chain, Files, Kind, Tensor, blocks
from npu.program import Program
from npu.sku import Sku

__all__ = ["Cost", "cost", "input_vectors", "tile_bytes"]

FLOAT16 = 2  # bytes
MATRIX_FILE, FLOAT16_FILE = int(Files.MATRIX), int(Files.FLOAT16)  # whole numbers: flags are slow
BOTH = MATRIX_FILE | FLOAT16_FILE


@dataclass(frozen=True, slots=True)
class Cost:
    """One chain on one SKU: cycles of the matrix unit and of instruction issue, native tiles, bytes.

    `activation_bytes` counts what it reads and writes in the vector files, each tensor once.
    """

    mvm: int
    issue: int
    tiles: int
    macs: int
    weight_bytes: int
    activation_bytes: int


def cost(chain: Chain, source: Tensor, target: Tensor, preset: Preset, sku: Sku, *, by_rows: bool) -> Cost:
    """`by_rows` tells that the chain runs row by row with others, so that each row has its own instructions."""
    # A short cut that skips rows cannot be read in one go: the firmware issues a chain per row (V: res3d_2c has 56).
    by_rows = by_rows or chain.residual_stride != (1, 1) or chain.accumulation is Accumulation.FP16_TAPS
    tiles = chain.tiles(source, target)
    return Cost(
        mvm=_whole(_tile_operations(chain, source, target, sku, by_rows) * sku.cycles_per_tile),
        issue=_instructions(chain, source, target, by_rows) * sku.issue_cycles,
        tiles=tiles,
        macs=chain.macs(source, target),
        weight_bytes=tiles * tile_bytes(preset, sku.native_dim),
        activation_bytes=_activations(chain, source, target, preset, sku.native_dim),
    )


def tile_bytes(preset: Preset, native_dim: int = NATIVE_DIM) -> int:
    """Bytes of one weight tile in DRAM: signs, mantissas and exponents of a row per output channel."""
    return blocks(native_dim * preset.bits(native_dim), 8)


def input_vectors(program: Program) -> int:
    """Native vectors that the host sends: the padded picture in one piece, or the input's own vectors.

    V: 230 x 230 x 3 for every network of 224 x 224, though a 7 x 7 window of stride 2 never sees the last row.
    """
    image = program.tensors[0]
    readers = [chain for chain in program.chains if chain.kind is Kind.EXPAND]
    if not readers:
        return image.vectors
    sizes = []
    for chain in readers:
        after = chain.pad_after(image, program.tensors[chain.target])
        rows, columns = (
            side + before + max(before, behind) + EXPANDER_KERNEL - kernel
            for side, before, behind, kernel in zip(image.shape, chain.pad, after, chain.kernel, strict=False)
        )
        sizes.append(blocks(rows * columns * image.channels, program.native_dim))
    return max(sizes)


def _tile_operations(chain: Chain, source: Tensor, target: Tensor, sku: Sku, by_rows: bool) -> int:
    """Native vectors times the tiles that each meets.

    A max pool passes its rows once per further column plus one copy back, then the columns once per further row.
    An average pool's additions go round the vector units, of which each adds once a pass.
    """
    positions = _iterations(target.height, target.width, sku.channels, by_rows)
    if chain.kind in (Kind.CONV, Kind.EXPAND):
        return positions * chain.tiles(source, target)
    if chain.kind is Kind.MAX_POOL:
        rows, columns = max(1, chain.kernel[0] - 1), max(1, chain.kernel[1] - 1)
        across = _iterations(source.height, target.width, sku.channels, by_rows)
        return (across * (columns + 1) + positions * rows) * target.depth
    if chain.kind is Kind.AVERAGE_POOL:
        return positions * target.depth * max(1, blocks(chain.kernel[0] * chain.kernel[1] - 1, sku.mfus))
    return positions * (target.depth - _untouched(chain, source, target))


def _instructions(chain: Chain, source: Tensor, target: Tensor, by_rows: bool) -> int:
    """Macro-instructions: read, multiply, vector operations, writes, per output tile (and row)."""
    rows = target.height if by_rows else 1
    writes = max(1, (int(target.files) & BOTH).bit_count())
    stages = int(chain.stage).bit_count()
    taps = chain.kernel[0] * chain.kernel[1]
    if chain.kind is Kind.MAX_POOL:  # read, identity, maximum, write per pass
        across = 4 * chain.kernel[1] * (source.height if by_rows else 1)
        return (across + 4 * (chain.kernel[0] - 1) * rows) * target.depth
    if chain.kind is Kind.AVERAGE_POOL:
        return (2 + (taps - 1) + stages + writes) * target.depth * rows
    if chain.kind is Kind.CONCAT:
        return (2 + stages + writes) * (target.depth - _untouched(chain, source, target)) * rows
    if (
        chain.accumulation is Accumulation.FP16_TAPS
    ):  # per tap: read, multiply, add to the partial sums, write them
        return (4 * taps - 1 + stages + writes - 1) * target.depth * rows
    return (2 + stages + writes) * target.depth * rows


def _untouched(chain: Chain, source: Tensor, target: Tensor) -> int:
    """Native vectors per position that a concatenation in place leaves as they are: those wholly of the old."""
    if chain.kind is not Kind.CONCAT or not source.pitch or source.pitch != target.pitch:
        return 0
    in_place = source.matrix_address == target.matrix_address and Files.MATRIX in source.files & target.files
    return source.channels // source.native_dim if in_place else 0


def _activations(chain: Chain, source: Tensor, target: Tensor, preset: Preset, native_dim: int) -> int:
    narrow, wide = blocks(preset.bits(native_dim), 8), FLOAT16 * native_dim
    read = (
        source.positions * source.channels * FLOAT16 if chain.kind is Kind.EXPAND else source.vectors * narrow
    )
    if chain.residual is not None:
        new = target.channels - source.channels if chain.kind is Kind.CONCAT else target.channels
        read += target.positions * blocks(new, native_dim) * wide
    if chain.kind in (Kind.MAX_POOL, Kind.AVERAGE_POOL):  # the right-hand operands
        read += source.vectors * wide
    files = int(target.files)
    written = narrow * bool(files & MATRIX_FILE) + wide * bool(files & FLOAT16_FILE)
    return read + target.vectors * (written or wide)


def _iterations(height: int, width: int, channels: int, by_rows: bool) -> int:
    if by_rows:
        return height * blocks(width, channels) * channels
    return blocks(height * width, channels) * channels


def _whole(cycles: float) -> int:
    return -int(-cycles // 1)
