"""What the matrix unit is shown: the vectors under a kernel's taps, and the Expander's windows of the image.

Only geometry: numbers are moved, never changed, and padding is +0.
"""

import numpy as np

from npu.bfp import Float32
from npu.chain import EXPANDER_KERNEL, Chain, Tensor

__all__ = ["expanded", "pooling_lines", "taps"]


def taps(x: Float32, chain: Chain, source: Tensor, target: Tensor) -> Float32:
    """Views [ky, kx, height, width, channels] of what each kernel tap sees at every output position."""
    padded = _padded(x, chain.pad, chain.pad_after(source, target))
    rows, columns, channel = padded.strides
    return np.lib.stride_tricks.as_strided(
        padded,
        (*chain.kernel, *target.shape[:2], source.channels),
        (
            rows * chain.dilation[0],
            columns * chain.dilation[1],
            rows * chain.stride[0],
            columns * chain.stride[1],
            channel,
        ),
        writeable=False,
    )


def expanded(x: Float32, chain: Chain, source: Tensor, target: Tensor) -> Float32:
    """The Expander's 7 x 7 x C windows [height, width, 49 * C], flattened as ky, kx, c.

    A smaller kernel of the chain sits in the middle: its margin is what the window shows beyond it.
    """
    margin = ((EXPANDER_KERNEL - chain.kernel[0]) // 2, (EXPANDER_KERNEL - chain.kernel[1]) // 2)
    before = (chain.pad[0] + margin[0], chain.pad[1] + margin[1])
    after = (
        (target.height - 1) * chain.stride[0] + EXPANDER_KERNEL - source.height - before[0],
        (target.width - 1) * chain.stride[1] + EXPANDER_KERNEL - source.width - before[1],
    )
    padded = _padded(x, before, after)
    rows, columns, channel = padded.strides
    windows = np.lib.stride_tricks.as_strided(
        padded,
        (*target.shape[:2], EXPANDER_KERNEL, EXPANDER_KERNEL, source.channels),
        (rows * chain.stride[0], columns * chain.stride[1], rows, columns, channel),
        writeable=False,
    )
    return windows.reshape(*target.shape[:2], EXPANDER_KERNEL**2 * source.channels)


def pooling_lines(x: Float32, chain: Chain, source: Tensor, target: Tensor, axis: int) -> list[Float32]:
    """For each offset in a max pool's window along `axis` (0 down, 1 across): the lines at that offset, with
    the lines in front.
    """
    padding = [(0, 0), (0, 0), (0, 0)]
    padding[axis] = (chain.pad[axis], max(chain.pad_after(source, target)[axis], 0))
    lines = np.moveaxis(np.pad(x, padding), axis, 0)
    step = chain.stride[axis]
    stop = (target.shape[axis] - 1) * step + 1
    return [lines[offset : offset + stop : step] for offset in range(chain.kernel[axis])]


def _padded(x: Float32, before: tuple[int, int], after: tuple[int, int]) -> Float32:
    if before == (0, 0) and max(after) <= 0:
        return x
    return np.pad(x, ((before[0], max(after[0], 0)), (before[1], max(after[1], 0)), (0, 0)))
