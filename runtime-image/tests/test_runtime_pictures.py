"""Strings that are no pictures, and the steps after decoding."""

import io
import struct
import zlib

import numpy as np
import pytest
from accel_runtime.decode import Decode, Step, decode_pictures
from accel_runtime.errors import ArtifactError, InvalidInput
from accel_runtime.pictures import decode_picture
from PIL import Image
from runtime_harness import jpeg, strings


def png(width: int, height: int, data: bytes | None = None) -> bytes:
    """A PNG whose header says width × height; its data may be anything."""

    def chunk(kind: bytes, body: bytes) -> bytes:
        return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    body = zlib.compress(b"\0" * 1000) if data is None else data
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", body) + chunk(b"IEND", b"")


def gif() -> bytes:
    out = io.BytesIO()
    Image.new("P", (3, 3)).save(out, "GIF")
    return out.getvalue()


PICTURE = jpeg()
HUGE_JPEG = PICTURE.replace(struct.pack(">HH", 30, 40), struct.pack(">HH", 60000, 60000), 1)
BAD = {
    # name: (bytes, words of the message)
    "empty": (b"", "empty"),
    "text": (b"hello world", "not a JPEG or PNG"),
    "gif": (gif(), "a GIF"),
    "truncated jpeg": (PICTURE[: len(PICTURE) // 2], "truncated or corrupt"),
    "jpeg without its last byte": (PICTURE[:-1], "truncated or corrupt"),
    "jpeg of three bytes": (b"\xff\xd8\xff", "truncated or corrupt"),
    "truncated png": (png(20, 20)[:60], "truncated or corrupt"),
    "png with too few lines": (png(200, 200), "truncated or corrupt"),
    "png with junk": (png(20, 20, b"junk"), "truncated or corrupt"),
    "png header only": (b"\x89PNG\r\n\x1a\n", "truncated or corrupt"),
    "jpeg bomb": (HUGE_JPEG, "60000×60000 pixels"),
    "png bomb": (png(50000, 50000), "50000×50000 pixels"),
}


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("name", BAD)
def test_no_picture(name: str, channels: int) -> None:
    data, words = BAD[name]
    with pytest.raises(InvalidInput, match=words):
        decode_picture(data, channels)


def test_damaged_pictures_never_raise_anything_else() -> None:
    rng = np.random.default_rng(1)
    for original in (PICTURE, png(8, 8, zlib.compress(b"\0" * 200))):
        for _ in range(300):
            spoiled = bytearray(original)
            for place in rng.integers(2, len(spoiled), 5):
                spoiled[place] = rng.integers(256)
            try:
                decode_picture(bytes(spoiled), 3, max_pixels=10_000)
            except InvalidInput:
                continue


HEAD = Decode("image_bytes:0", "pixels", 3, "float32", ())
STEPS = {
    # name: (picture's height and width, steps, result's shape)
    "resize": ((30, 40), (Step("resize", 16, 20),), (16, 20)),
    "nearest": ((30, 40), (Step("resize", 16, 20, method="nearest"),), (16, 20)),
    "smallest side, wide": ((30, 40), (Step("resizeSmallest", side=256),), (256, 341)),
    "smallest side, high": ((401, 300), (Step("resizeSmallest", side=256),), (342, 256)),
    "preprocess_array": ((30, 40), (Step("resizeSmallest", side=256), Step("crop", 224, 224)), (224, 224)),
    "crop of an odd rest": ((31, 40), (Step("crop", 16, 15),), (16, 15)),
}


@pytest.mark.parametrize("name", STEPS)
def test_steps(name: str) -> None:
    (height, width), steps, shape = STEPS[name]
    head = Decode("image_bytes:0", "pixels", 3, "float32", steps)
    batch = decode_pictures(head, strings(jpeg(width=width, height=height), jpeg(1, width, height)))
    assert batch.shape == (2, *shape, 3)
    assert batch.dtype == np.float32


def test_crop_takes_the_centre() -> None:
    picture = np.arange(7 * 8 * 3, dtype=np.uint8).reshape(7, 8, 3)
    np.testing.assert_array_equal(Step("crop", 4, 5).apply(picture), picture[1:5, 1:6])


def test_a_scalar_string_has_no_batch_dimension() -> None:
    assert decode_pictures(HEAD, strings(PICTURE).reshape(())).shape == (30, 40, 3)


def test_uint8_stays_uint8() -> None:
    head = Decode("image_bytes:0", "pixels", 1, "uint8", ())
    batch = decode_pictures(head, strings(PICTURE))
    assert batch.dtype == np.uint8
    assert batch.shape == (1, 30, 40, 1)


def test_the_message_names_input_and_place() -> None:
    with pytest.raises(InvalidInput, match="input 'image_bytes:0', picture 1: the string is empty"):
        decode_pictures(HEAD, strings(PICTURE, b""))


def test_pictures_of_two_sizes_need_a_resize() -> None:
    with pytest.raises(InvalidInput, match="one size"):
        decode_pictures(HEAD, strings(PICTURE, jpeg(width=41)))


def test_a_batch_that_is_a_bomb_as_a_whole() -> None:
    with pytest.raises(InvalidInput, match="the batch has more than 3000 pixels"):
        decode_pictures(HEAD, strings(*[PICTURE] * 3), max_pixels=3000)


def test_a_crop_larger_than_the_picture() -> None:
    head = Decode("image_bytes:0", "pixels", 3, "float32", (Step("crop", 50, 50),))
    with pytest.raises(InvalidInput, match="40×30"):
        decode_pictures(head, strings(PICTURE))


DOCUMENTS = {
    # name: (change to a right document, words)
    "no tensor": ({"tensor": None}, "lacks 'tensor'"),
    "channels": ({"channels": 4}, "channels is 4"),
    "dtype": ({"dtype": "float16"}, "dtype is float16"),
    "an op of the future": ({"steps": [{"op": "rotate"}]}, "older than the converter"),
    "a method of the future": ({"steps": [{"op": "resize", "method": "area"}]}, "method 'area'"),
    "no size": ({"steps": [{"op": "resize", "height": 3}]}, "positive width"),
    "no side": ({"steps": [{"op": "resizeSmallest"}]}, "positive side"),
}


@pytest.mark.parametrize("name", DOCUMENTS)
def test_documents_that_cannot_be_executed(name: str) -> None:
    change, words = DOCUMENTS[name]
    document = {"input": "i", "tensor": "t", "channels": 3, "dtype": "float32", "steps": []} | change
    with pytest.raises(ArtifactError, match=words):
        Decode.parse({key: value for key, value in document.items() if value is not None})
