"""Encoded pictures to pixels, bit for bit as TensorFlow's decoders give them.

JPEG and PNG only, told apart by their first bytes. The size is read before a pixel is decoded, so that a
small file which unpacks to a huge picture costs nothing. EXIF orientation is ignored, as TensorFlow ignores
it.

JPEGs go through libjpeg-turbo with its fast integer DCT: TensorFlow's default, which Pillow cannot select
(its pixels differ by up to 10 of 255).
"""

import io

import numpy as np
import simplejpeg
from numpy.typing import NDArray
from PIL import PngImagePlugin

from accel_runtime.errors import InvalidInput

__all__ = ["MAX_PIXELS", "decode_picture"]

MAX_PIXELS = 50_000_000
"""Pixels per picture, about what a 50-megapixel camera makes; 150 MB of memory while it is decoded."""

_JPEG = b"\xff\xd8\xff"
_PNG = b"\x89PNG\r\n\x1a\n"
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
    if not data:
        raise InvalidInput("the string is empty; send the bytes of a JPEG or PNG file")
    if data.startswith(_JPEG):
        return _jpeg(data, channels, max_pixels)
    if data.startswith(_PNG):
        return _png(data, channels, max_pixels)
    kind = next((name for start, name in _OTHERS.items() if data.startswith(start)), None)
    found = f"it looks like {kind}" if kind else f"its first bytes are {data[:8].hex(' ')}"
    raise InvalidInput(f"not a JPEG or PNG picture: {found}")


def _jpeg(data: bytes, channels: int, max_pixels: int) -> NDArray[np.uint8]:
    try:
        height, width, space, _subsampling = simplejpeg.decode_jpeg_header(data, strict=False)
        _check_size(int(width), int(height), max_pixels)
        if space.upper() in ("CMYK", "YCCK"):
            pixels = _from_cmyk(_decode_jpeg(data, "CMYK"))
            return pixels if channels == 3 else _luma(pixels)
        return _decode_jpeg(data, "RGB" if channels == 3 else "GRAY")
    except InvalidInput:
        raise
    except KeyError as error:  # simplejpeg's way of saying that it found no components
        raise InvalidInput("the JPEG is truncated or corrupt: its header is incomplete") from error
    except Exception as error:  # a header made for harm provokes more than ValueError
        raise InvalidInput(f"the JPEG is truncated or corrupt: {error or type(error).__name__}") from error


def _decode_jpeg(data: bytes, space: str) -> NDArray[np.uint8]:
    """Decode; what libjpeg only warns of is accepted, as TensorFlow does, but for an early end."""
    try:
        pixels: NDArray[np.uint8] = simplejpeg.decode_jpeg(data, space, fastdct=True)
    except ValueError as error:
        if "remature end" in str(error):
            raise
        pixels = simplejpeg.decode_jpeg(data, space, fastdct=True, strict=False)
    return pixels


def _png(data: bytes, channels: int, max_pixels: int) -> NDArray[np.uint8]:
    try:
        # The plugin is called directly: Image.open would try every format Pillow knows on a stranger's bytes.
        image = PngImagePlugin.PngImageFile(io.BytesIO(data))
        _check_size(*image.size, max_pixels)
        if image.mode.startswith("I"):  # 16 bits: libpng's strip_16
            gray = (np.asarray(image).astype(np.int64) >> 8).astype(np.uint8)
        elif image.mode in ("L", "LA", "1"):
            gray = np.array(image.convert("L"))
        else:
            pixels = np.array(image.convert("RGB"))  # drops alpha as TensorFlow does: no blending
            return pixels if channels == 3 else _luma(pixels)
    except InvalidInput:
        raise
    except Exception as error:  # a header made for harm provokes struct.error, IndexError and others
        raise InvalidInput(f"the PNG is truncated or corrupt: {error or type(error).__name__}") from error
    return np.repeat(gray[:, :, np.newaxis], channels, axis=2)


def _check_size(width: int, height: int, max_pixels: int) -> None:
    if width * height > max_pixels:
        raise InvalidInput(f"the picture has {width}×{height} pixels; at most {max_pixels} are accepted")


def _from_cmyk(pixels: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """TensorFlow's conversion of Adobe's inverted CMYK, the only kind that is found in practice."""
    inks = pixels.astype(np.int32)
    return (inks[:, :, :3] * inks[:, :, 3:] // 255).astype(np.uint8)


def _luma(pixels: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Return the grey value as libpng makes it for TensorFlow: 15-bit weights, cut off (found by
    comparison).
    """
    red, green, blue = (pixels[:, :, channel].astype(np.int64) for channel in range(3))
    gray: NDArray[np.uint8] = ((9797 * red + 19234 * green + 3737 * blue) >> 15).astype(np.uint8)
    return gray[:, :, np.newaxis]
