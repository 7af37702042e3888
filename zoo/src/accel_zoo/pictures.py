"""Seeded pictures of structure and noise: no photographs, but with coarse and fine detail as those have."""

import numpy as np
from numpy.typing import NDArray

from accel_zoo.network import Network

__all__ = ["pictures", "prepare"]

OCTAVES = 6  # each has half the wavelength of the one before


def pictures(network: Network, count: int, seed: int = 0) -> NDArray[np.float32]:
    """Return prepared pictures [count, height, width, channels] in the network's own size and scale.

    Each has its own coarseness, colours, brightness and contrast: what a network averages over a picture differs too.
    """
    rng = np.random.default_rng(seed)
    height, width, channels = network.picture
    made = np.zeros((count, height, width, channels), np.float32)
    coarseness = rng.uniform(0.35, 0.95, (count, 1, 1, 1))
    for octave in range(OCTAVES):
        cells = 2 << octave
        grid = rng.normal(0, 1, (count, cells + 1, cells + 1, channels)) * coarseness**octave
        made += _stretched(grid.astype(np.float32), height, width)
    colours = rng.normal(0, 0.5, (count, 1, channels, channels)) + np.eye(channels)
    made = made @ colours.astype(np.float32)
    low, high = made.min(axis=(1, 2, 3), keepdims=True), made.max(axis=(1, 2, 3), keepdims=True)
    dark, bright = (rng.uniform(*ends, (count, 1, 1, channels)) for ends in ((0, 100), (155, 255)))
    pixels = dark + (bright - dark) * (made - low) / (high - low)
    return prepare(network, np.asarray(pixels, np.float32))


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
