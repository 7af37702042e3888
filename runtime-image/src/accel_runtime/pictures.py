"""Encoded pictures to pixels, as TensorFlow's decoders give them.

JPEG and PNG only, told apart by their first bytes. The size is read before a pixel is decoded, so that a
small file which unpacks to a huge picture costs nothing. EXIF orientation is ignored, as TensorFlow ignores
it.
"""

import io

import numpy as np
from numpy.typing import NDArray
from PIL import ImageFile, JpegImagePlugin, PngImagePlugin

from accel_runtime.errors import InvalidInput

__all__ = ["MAX_PIXELS", "decode_picture"]

MAX_PIXELS = 50_000_000
"""Pixels per picture, about what a 50-megapixel camera makes; 150 MB of memory while it is decoded."""

_OTHERS = {
    b"GIF8": "a GIF",
    b"BM": "a BMP",
    b"RIFF": "a WebP",
    b"II*\x00": "a TIFF",
    b"MM\x00*": "a TIFF",
    b"%PDF": "a PDF document",
}


def decode_picture(data: bytes, channels: int, *, max_pixels: int = MAX_PIXELS) -> NDArray[np.uint8]:
    """Return the pixels of a JPEG or PNG as uint8 [height, width, channels], channels 1 or 3.

    Raises InvalidInput with the reason if it is neither, or is truncated, corrupt or larger than
    `max_pixels`.
    """
    image = _open(data)
    width, height = image.size
    if width * height > max_pixels:
        raise InvalidInput(f"the picture has {width}×{height} pixels; at most {max_pixels} are accepted")
    try:
        if channels == 1:
            return _gray(image)
        return _colour(image)
    except (OSError, SyntaxError, ValueError, EOFError) as error:
        raise InvalidInput(f"the picture is truncated or corrupt: {error}") from error


def _open(data: bytes) -> ImageFile.ImageFile:
    # The plugins are called directly: Image.open would try every format Pillow knows on a stranger's bytes.
    if not data:
        raise InvalidInput("the string is empty; send the bytes of a JPEG or PNG file")
    try:
        if data.startswith(b"\xff\xd8\xff"):
            return JpegImagePlugin.JpegImageFile(io.BytesIO(data))
        if data.startswith(b"\x89PNG\r\n\x1a\n"):
            return PngImagePlugin.PngImageFile(io.BytesIO(data))
    except (OSError, SyntaxError, ValueError, EOFError, IndexError, KeyError, TypeError) as error:
        raise InvalidInput(
            f"the picture is truncated or corrupt: {error or 'its header ends early'}"
        ) from error
    except Exception as error:  # struct.error and whatever else a header made for harm provokes
        raise InvalidInput(f"the picture is truncated or corrupt: {error}") from error
    kind = next((name for start, name in _OTHERS.items() if data.startswith(start)), None)
    found = f"it looks like {kind}" if kind else f"its first bytes are {data[:8].hex(' ')}"
    raise InvalidInput(f"not a JPEG or PNG picture: {found}")


def _colour(image: ImageFile.ImageFile) -> NDArray[np.uint8]:
    if image.mode == "CMYK":
        return _from_cmyk(image)
    if image.mode.startswith("I"):
        gray = _from_sixteen_bits(image)
        return np.repeat(gray[:, :, np.newaxis], 3, axis=2)
    return np.array(image.convert("RGB"))  # drops alpha as TensorFlow does: no blending


def _gray(image: ImageFile.ImageFile) -> NDArray[np.uint8]:
    if image.format == "JPEG":
        image.draft("L", image.size)  # the decoder's own luma plane, not a mix of decoded colours
    if image.mode.startswith("I"):
        return _from_sixteen_bits(image)[:, :, np.newaxis]
    if image.mode in ("L", "LA", "1"):
        return np.array(image.convert("L"))[:, :, np.newaxis]
    return _luma(_colour(image))[:, :, np.newaxis]


def _from_sixteen_bits(image: ImageFile.ImageFile) -> NDArray[np.uint8]:
    return (np.asarray(image).astype(np.int64) >> 8).astype(np.uint8)  # libpng's strip_16


def _from_cmyk(image: ImageFile.ImageFile) -> NDArray[np.uint8]:
    inks = 255 - np.asarray(image).astype(np.int32)
    return (inks[:, :, :3] * inks[:, :, 3:] // 255).astype(np.uint8)


def _luma(pixels: NDArray[np.uint8]) -> NDArray[np.uint8]:
    # libpng's png_set_rgb_to_gray in 15-bit fixed point.
    red, green, blue = (pixels[:, :, channel].astype(np.int64) for channel in range(3))
    return ((9798 * red + 19234 * green + 3736 * blue + 16384) >> 15).astype(np.uint8)
