"""Seeded pictures of structure and noise: no photographs, but with coarse and fine detail as those have."""

import numpy as np
from numpy.typing import NDArray

from accel_zoo.network import Network

__all__ = ["pictures", "prepare"]

OCTAVES = 6  # each has half the wavelength of the one before, and half its strength


def pictures(network: Network, count: int, seed: int = 0) -> NDArray[np.float32]:
    """Return prepared pictures [count, height, width, channels] in the network's own size and scale."""
    rng = np.random.default_rng(seed)
    height, width, channels = network.picture
    made = np.zeros((count, height, width, channels), np.float32)
    for octave in range(OCTAVES):
        cells = 2 << octave
        grid = rng.normal(0, 0.5**octave, (count, cells + 1, cells + 1, channels)).astype(np.float32)
        made += _stretched(grid, height, width)
    made += rng.normal(0, 0.05, made.shape).astype(np.float32)
    low, high = made.min(axis=(1, 2), keepdims=True), made.max(axis=(1, 2), keepdims=True)
    return prepare(network, 255 * (made - low) / (high - low))


def prepare(network: Network, pixels: NDArray[np.float32]) -> NDArray[np.float32]:
    """RGB pixels [..., channels], 0 to 255, as the network wants them: means subtracted, scaled."""
    means = np.asarray(network.means[: network.picture[2]], np.float32)
    return ((pixels.astype(np.float32) - means) * np.float32(network.factor)).astype(np.float32)


def _stretched(grid: NDArray[np.float32], height: int, width: int) -> NDArray[np.float32]:
    """Bilinear interpolation of [n, rows, columns, c] to [n, height, width, c]."""
    for axis, size in ((1, height), (2, width)):
        at = np.linspace(0, grid.shape[axis] - 1, size, dtype=np.float32)
        low = np.minimum(at.astype(np.int64), grid.shape[axis] - 2)
        part = (at - low).reshape([-1 if i == axis else 1 for i in range(4)])
        grid = (1 - part) * grid.take(low, axis) + part * grid.take(low + 1, axis)
    return grid
