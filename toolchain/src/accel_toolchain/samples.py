"""Seeded inputs to compare the original with what became of it."""

import io
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from accel_toolchain.conditions import Terminal

_SEED = 20181107
# Height, width: both orientations, odd sizes, and none smaller than the 256 that a central crop may need.
PICTURE_SIZES = ((320, 400), (400, 320), (333, 501), (512, 512), (257, 479), (600, 450))


def picture(number: int, channels: int = 3) -> NDArray[np.uint8]:
    """Return a picture [height, width, channels] with smooth areas, edges and noise, one per number."""
    random = np.random.default_rng((_SEED, number))
    height, width = PICTURE_SIZES[number % len(PICTURE_SIZES)]
    y, x = np.mgrid[0:height, 0:width].astype(np.float32)
    layers = []
    for _ in range(channels):
        frequency, phase = random.uniform(0.005, 0.05, 2), random.uniform(0, 6.28, 2)
        layer = 127 + 80 * np.sin(frequency[0] * x + phase[0]) * np.cos(frequency[1] * y + phase[1])
        top, left = random.integers(0, height // 2), random.integers(0, width // 2)
        layer[top : top + height // 3, left : left + width // 3] += random.uniform(-90, 90)
        layers.append(layer + random.normal(0, 8, layer.shape))
    pixels: NDArray[np.uint8] = np.clip(np.stack(layers, axis=-1), 0, 255).astype(np.uint8)
    return pixels


def encoded(pixels: NDArray[np.uint8], kind: str) -> bytes:
    """Return pixels as a PNG (lossless) or JPEG file."""
    from PIL import Image

    stream = io.BytesIO()
    Image.fromarray(pixels[:, :, 0] if pixels.shape[2] == 1 else pixels).save(stream, kind, quality=90)
    return stream.getvalue()


def array(number: int, dtype: np.dtype[Any], shape: Sequence[int | None], field: str) -> NDArray[Any]:
    """Return a seeded tensor of a batch of one.

    Raises:
        Terminal: InvalidModel where a dimension beside the batch is not fixed.
    """
    if any(size is None or size < 0 for size in shape[1:]):
        shown = [-1 if size is None else size for size in shape]
        raise Terminal(
            "InvalidModel",
            f"spec.source: {field} has the shape {shown}; only the batch may vary on the device. Export a "
            "fixed picture size.",
        )
    fixed = [
        1 if place == 0 and (size is None or size < 0) else int(size or 0) for place, size in enumerate(shape)
    ]
    random = np.random.default_rng((_SEED, number))
    if np.issubdtype(dtype, np.integer):
        return random.integers(0, 256 if dtype.itemsize == 1 and dtype.kind == "u" else 100, fixed).astype(
            dtype
        )
    if dtype == np.bool_:
        return random.integers(0, 2, fixed).astype(dtype)
    return random.normal(0, 1, fixed).astype(dtype)
