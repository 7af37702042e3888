"""What a model is given to eat: arrays from .npy and .npz files, pictures, or seeded random numbers."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from npu.errors import TensorError
from npu.execute import Arrays, Input

__all__ = ["random_feeds", "read_feeds"]

PICTURES = frozenset({".bmp", ".gif", ".jpeg", ".jpg", ".png", ".webp"})


def read_feeds(files: Sequence[Path], inputs: tuple[Input, ...], argument: str) -> Arrays:
    """Arrays by input name, checked against the inputs. `argument` is the command line's name for the files.

    One .npz names the inputs; one .npy is the only input; pictures become one batch for an input [N,C,H,W] or
    [N,H,W,C], resized, values 0 to 255. A picture without its batch axis gets one. Raises TensorError.
    """
    suffixes = {file.suffix.lower() for file in files}
    if suffixes <= PICTURES:
        only = _only(inputs, argument, "pictures")
        return {only.name: np.stack([_picture(file, only, argument) for file in files])}
    if len(files) > 1 or not suffixes <= {".npy", ".npz"}:
        raise TensorError(
            f"{argument}: {', '.join(file.name for file in files)} are neither pictures nor one .npy or .npz file; "
            f"save the array with numpy.save, for the model's {', '.join(i.text for i in inputs)}"
        )
    try:
        loaded = np.load(files[0], allow_pickle=False)
    except (OSError, ValueError, EOFError) as error:
        raise TensorError(
            f"{argument}: {files[0]} is no array file: {error}. Save one with numpy.save"
        ) from error
    if isinstance(loaded, np.ndarray):
        only = _only(inputs, argument, "one .npy file")
        return {only.name: _fitted(loaded, only, argument)}
    with loaded:
        arrays = {name: loaded[name] for name in loaded.files}
    if len(inputs) == len(arrays) == 1:
        arrays = {inputs[0].name: next(iter(arrays.values()))}
    unknown, missing = set(arrays) - {i.name for i in inputs}, {i.name for i in inputs} - set(arrays)
    if unknown or missing:
        raise TensorError(
            f"{argument}: {files[0]} has the arrays {sorted(arrays)}, the model takes "
            f"{', '.join(i.text for i in inputs)}; name them so in numpy.savez"
        )
    return {i.name: _fitted(arrays[i.name], i, argument) for i in inputs}


def random_feeds(inputs: tuple[Input, ...], count: int, seed: int = 0) -> Arrays:
    """`count` pictures of normal numbers for every input; TensorError where a picture's size is not known."""
    feeds: Arrays = {}
    for number, wanted in enumerate(inputs):
        if wanted.dtype.kind != "f" or any(length is None for length in wanted.shape[1:]):
            raise TensorError(f"random numbers do not fit the input {wanted.text}; give the inputs in a file")
        rng = np.random.default_rng((seed, number))
        shape = [length or count for length in wanted.shape[1:]]
        feeds[wanted.name] = rng.standard_normal((count, *shape)).astype(wanted.dtype)
    return feeds


def _only(inputs: tuple[Input, ...], argument: str, what: str) -> Input:
    if len(inputs) != 1:
        raise TensorError(
            f"{argument}: {what} for a model with {len(inputs)} inputs ({', '.join(i.text for i in inputs)}); "
            "give an .npz file that names them"
        )
    return inputs[0]


def _fitted(array: NDArray[Any], wanted: Input, argument: str) -> NDArray[Any]:
    """The array as the input takes it: batch axis and type."""
    if array.ndim == len(wanted.shape) - 1 and wanted.shape[0] in (None, 1):
        array = array[np.newaxis]
    lengths = tuple(array.shape)
    # A fixed batch is filled several times if need be.
    fits = len(lengths) == len(wanted.shape) and all(
        length == want or want is None or (axis == 0 and length and length % want == 0)
        for axis, (length, want) in enumerate(zip(lengths, wanted.shape, strict=True))
    )
    if not fits:
        raise TensorError(
            f"{argument}: the array has the shape {list(lengths)}, the model takes {wanted.text}; "
            "transpose, resize or pad it"
        )
    if array.dtype.kind not in "biuf" and array.dtype != wanted.dtype:
        raise TensorError(f"{argument}: the array holds {array.dtype}, the model takes {wanted.text}")
    return array.astype(wanted.dtype, copy=False)


def _picture(file: Path, wanted: Input, argument: str) -> NDArray[Any]:
    """A picture as the input takes one, without batch: its size, its channels, its order of axes."""
    try:
        from PIL import Image, UnidentifiedImageError
    except ImportError:
        raise TensorError(
            f"{argument}: {file.name} is a picture, and Pillow is not installed; install pillow, or give an .npy file"
        ) from None
    sizes = wanted.shape[1:]
    axis = next((a for a in (2, 0) if len(sizes) == 3 and sizes[a] in (1, 3)), None)
    if axis is None or wanted.dtype.kind not in "fu":
        raise TensorError(f"{argument}: the model's {wanted.text} takes no pictures; give an .npy file")
    channels = sizes[axis]
    try:
        with Image.open(file) as opened:
            picture = opened.convert("L" if channels == 1 else "RGB")
    except (OSError, UnidentifiedImageError, Image.DecompressionBombError) as error:
        raise TensorError(f"{argument}: {file} cannot be read: {error}. Give a JPEG or PNG") from error
    height, width = sizes[:2] if axis == 2 else sizes[1:]
    if (picture.height, picture.width) != (height or picture.height, width or picture.width):
        picture = picture.resize(
            (width or picture.width, height or picture.height), Image.Resampling.BILINEAR
        )
    pixels = np.asarray(picture).reshape(picture.height, picture.width, -1)
    return (pixels if axis == 2 else pixels.transpose(2, 0, 1)).astype(wanted.dtype)
