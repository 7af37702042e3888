"""TensorFlow's image resizing in numpy, bit for bit.

Three coordinate rules exist, and a model was trained with one of them: TensorFlow 1's (neither flag), its
`align_corners`, and TensorFlow 2's `half_pixel_centers`. All arithmetic is float32, in the order of
TensorFlow's CPU kernels: first along x, then along y.
"""

import numpy as np
from numpy.typing import NDArray

__all__ = ["bilinear", "nearest"]

Picture = NDArray[np.float32] | NDArray[np.uint8]


def bilinear(
    picture: Picture, height: int, width: int, *, half_pixel_centers: bool, align_corners: bool
) -> NDArray[np.float32]:
    """Return `picture` [h,w,C] resized to [height,width,C] as float32, without antialiasing."""
    if picture.shape[:2] == (height, width):
        return picture.astype(np.float32)
    top, bottom, along_y = _interpolation(picture.shape[0], height, half_pixel_centers, align_corners)
    left, right, along_x = _interpolation(picture.shape[1], width, half_pixel_centers, align_corners)
    # Only the rows that are used are widened to float32: a large picture costs what its result needs.
    rows = np.unique(np.concatenate([top, bottom]))
    source = picture[rows].astype(np.float32)
    weight = along_x[np.newaxis, :, np.newaxis]
    west = source[:, left]
    lines = west + (source[:, right] - west) * weight
    north = lines[np.searchsorted(rows, top)]
    south = lines[np.searchsorted(rows, bottom)]
    resized: NDArray[np.float32] = north + (south - north) * along_y[:, np.newaxis, np.newaxis]
    return resized


def nearest(
    picture: Picture, height: int, width: int, *, half_pixel_centers: bool, align_corners: bool
) -> Picture:
    """Return `picture` [h,w,C] resized to [height,width,C] by picking pixels; the element type stays."""
    rows = _nearest(picture.shape[0], height, half_pixel_centers, align_corners)
    columns = _nearest(picture.shape[1], width, half_pixel_centers, align_corners)
    return picture[rows[:, np.newaxis], columns[np.newaxis, :]]


def _scale(source: int, target: int, align_corners: bool) -> np.float32:
    if align_corners and target > 1:
        return np.float32(source - 1) / np.float32(target - 1)
    return np.float32(source) / np.float32(target)


def _interpolation(
    source: int, target: int, half_pixel_centers: bool, align_corners: bool
) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.float32]]:
    """Return for each target coordinate its two source coordinates and the weight of the second."""
    half = np.float32(0.5 if half_pixel_centers else 0)
    position = (np.arange(target, dtype=np.float32) + half) * _scale(source, target, align_corners) - half
    floor = np.floor(position)
    lower = np.maximum(floor, 0).astype(np.int64)
    upper = np.minimum(np.ceil(position), source - 1).astype(np.int64)
    return lower, upper, position - floor


def _nearest(source: int, target: int, half_pixel_centers: bool, align_corners: bool) -> NDArray[np.int64]:
    position = np.arange(target, dtype=np.float32)
    scale = _scale(source, target, align_corners)
    position = (position + np.float32(0.5) if half_pixel_centers else position) * scale
    if align_corners:
        position = position + np.float32(0.5)  # roundf: halves go away from zero; positions are ≥ 0
    picked: NDArray[np.int64] = np.clip(np.floor(position).astype(np.int64), 0, source - 1)
    return picked
