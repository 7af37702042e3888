"""How exporters write the decoding of pictures: what becomes parameters of the server, and what is refused."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import onnx
import pytest
from accel_toolchain.conditions import Terminal
from accel_toolchain.workspace import Workspace
from tf_models import SIDE, convert, decoded, mapped, network, plain, save

pytestmark = [
    pytest.mark.tensorflow,
    pytest.mark.filterwarnings("ignore"),  # TensorFlow's own, at import
]

Make = Callable[..., str]


def any_format_scaled_first(tf: Any, v: Any, images: Any) -> Any:
    def one(data: Any) -> Any:
        picture = tf.io.decode_image(data, channels=3, expand_animations=False)
        picture = tf.image.convert_image_dtype(picture, tf.float32)
        return tf.image.resize(picture, [SIDE, SIDE])

    return network(tf, v, mapped(tf, one, images, [SIDE, SIDE, 3]) * 255.0)


def preprocess_array(tf: Any, v: Any, images: Any) -> Any:
    """Azure's: the smallest side becomes 256, the centre is cut, means are subtracted, channels reversed."""

    def one(data: Any) -> Any:
        picture = tf.cast(decoded(tf, data), tf.float32)
        shape = tf.shape(picture)
        height, width = shape[0], shape[1]
        smallest = tf.minimum(height, width)
        size = tf.stack([height * 256 // smallest, width * 256 // smallest])
        picture = tf.compat.v1.image.resize_bilinear(picture[tf.newaxis], size)[0]
        top, left = (size[0] - 224) // 2, (size[1] - 224) // 2
        return tf.slice(picture, [top, left, 0], [224, 224, 3]) - tf.constant([123.68, 116.779, 103.939])

    x = mapped(tf, one, images, [224, 224, 3])
    return network(tf, v, tf.reverse(x, [-1]))


def library_crop(tf: Any, v: Any, images: Any) -> Any:
    def one(data: Any) -> Any:
        return tf.image.resize_with_crop_or_pad(decoded(tf, data), SIDE, SIDE)

    return network(tf, v, tf.cast(mapped(tf, one, images, [SIDE, SIDE, 3], tf.uint8), tf.float32))


def reversed_in_the_map(tf: Any, v: Any, images: Any) -> Any:
    def one(data: Any) -> Any:
        return tf.image.resize(decoded(tf, data), [SIDE, SIDE])[..., ::-1] * [1.0, 0.5, 2.0] + 3.0

    return network(tf, v, mapped(tf, one, images, [SIDE, SIDE, 3]))


def whole_numbers_in_between(tf: Any, v: Any, images: Any) -> Any:
    def one(data: Any) -> Any:
        picture = tf.cast(tf.image.resize(decoded(tf, data), [SIDE, SIDE]), tf.uint8)
        return tf.cast(picture, tf.float32) / 2.0

    return network(tf, v, mapped(tf, one, images, [SIDE, SIDE, 3]))


def nearest_uint8_in_a_function(tf: Any, v: Any, images: Any) -> Any:
    @tf.function
    def one(data: Any) -> Any:
        return tf.cast(tf.image.resize(decoded(tf, data), [SIDE, SIDE], "nearest"), tf.uint8)

    x = mapped(tf, one, images, [SIDE, SIDE, 3], tf.uint8)
    return network(tf, v, tf.cast(x, tf.float32))


def batch_size_of_the_strings(tf: Any, v: Any, images: Any) -> Any:
    x = mapped(tf, lambda b: tf.image.resize(decoded(tf, b), [SIDE, SIDE]), images, [SIDE, SIDE, 3])
    return tf.reshape(network(tf, v, x, fused=True), tf.stack([tf.shape(images)[0], 4]))


HEADS: dict[str, tuple[Callable[..., Any], str, list[dict[str, Any]]]] = {
    # name: (head, dtype that the server hands over, steps)
    "resize": (plain, "float32", [{"op": "resize", "height": SIDE, "halfPixelCenters": True}]),
    "decode_image, scaled before the resize": (
        any_format_scaled_first,
        "float32",
        [{"op": "resize", "height": SIDE}],
    ),
    "smallest side, central crop, means": (
        preprocess_array,
        "float32",
        [
            {"op": "resizeSmallest", "side": 256, "halfPixelCenters": False},
            {"op": "crop", "height": 224, "width": 224},
        ],
    ),
    "crop by the library": (library_crop, "uint8", [{"op": "crop", "height": SIDE, "width": SIDE}]),
    "channels reversed in the map": (reversed_in_the_map, "float32", [{"op": "resize", "height": SIDE}]),
    "truncated to whole numbers": (whole_numbers_in_between, "uint8", [{"op": "resize", "height": SIDE}]),
    "nearest, inside a function": (
        nearest_uint8_in_a_function,
        "uint8",
        [{"op": "resize", "method": "nearest"}],
    ),
    "batch size read from the strings": (
        batch_size_of_the_strings,
        "float32",
        [{"op": "resize", "height": SIDE}],
    ),
}


@pytest.mark.parametrize(("serve", "dtype", "steps"), HEADS.values(), ids=HEADS)
def test_a_picture_head_becomes_parameters(
    serve: Callable[..., Any],
    dtype: str,
    steps: list[dict[str, Any]],
    tf: Any,
    convert_job: Make,
    work: Workspace,
    tmp_path: Path,
) -> None:
    report = convert(save(tf, tmp_path / "model", serve), work, convert_job())
    decode = report["decode"]
    assert (decode["input"], decode["channels"], decode["dtype"]) == ("serving_default_images:0", 3, dtype)
    assert len(decode["steps"]) == len(steps)
    for step, expected in zip(decode["steps"], steps, strict=True):
        assert step | expected == step
    assert report["floatParity"]["maxRel"] < 1e-4
    assert report["parity"]["maxRel"] < 0.2
    assert report["inputs"] == [
        {"name": "serving_default_images:0", "alias": "images", "dtype": "string", "shape": [-1]}
    ]
    assert report["outputs"][0]["alias"] == "output_alias"
    assert report["outputs"][0]["shape"] == [-1, 4]
    composed = onnx.load(work.artifact / "model.onnx")
    assert (composed.graph.node[0].domain, composed.graph.node[0].op_type) == ("accel", "DecodeImage")
    assert report["device"]["offloadedOps"] >= 4, "convolution, normalisation, ReLU and pool"


def test_a_grey_picture(tf: Any, convert_job: Make, work: Workspace, tmp_path: Path) -> None:
    def serve(tf: Any, v: Any, images: Any) -> Any:
        x = mapped(
            tf,
            lambda b: tf.image.resize(tf.io.decode_png(b, channels=1), [SIDE, SIDE]),
            images,
            [SIDE, SIDE, 1],
        )
        return network(tf, v, x)

    report = convert(save(tf, tmp_path / "model", serve, channels=1), work, convert_job())
    assert report["decode"]["channels"] == 1
    assert report["floatParity"]["maxRel"] < 1e-3


BAD_HEADS: dict[str, tuple[Callable[[Any, Any], Any], str]] = {
    # name: (what is done to one string, operator that the message names)
    "bicubic": (lambda tf, b: tf.image.resize(decoded(tf, b), [SIDE, SIDE], "bicubic"), "ResizeBicubic"),
    "antialias": (
        lambda tf, b: tf.image.resize(decoded(tf, b), [SIDE, SIDE], antialias=True),
        "ScaleAndTranslate",
    ),
    "channels of the file": (lambda tf, b: tf.image.resize(decoded(tf, b, 0), [SIDE, SIDE]), "channels=0"),
    "standardised by its own mean": (
        lambda tf, b: tf.image.resize(tf.image.per_image_standardization(decoded(tf, b)), [SIDE, SIDE]),
        "depend on the picture",
    ),
    "cut from the corner": (lambda tf, b: tf.cast(decoded(tf, b)[:SIDE, :SIDE], tf.float32), "which cuts"),
    "base64": (
        lambda tf, b: tf.image.resize(decoded(tf, tf.io.decode_base64(b)), [SIDE, SIDE]),
        "could not be",
    ),
}


@pytest.mark.parametrize(("one", "named"), BAD_HEADS.values(), ids=BAD_HEADS)
def test_a_picture_head_that_no_server_knows_is_refused(
    one: Callable[[Any, Any], Any], named: str, tf: Any, convert_job: Make, work: Workspace, tmp_path: Path
) -> None:
    def serve(tf: Any, v: Any, images: Any) -> Any:
        x = mapped(tf, lambda b: tf.ensure_shape(one(tf, b), [SIDE, SIDE, 3]), images, [SIDE, SIDE, 3])
        return network(tf, v, x)

    with pytest.raises(Terminal) as raised:
        convert(save(tf, tmp_path / "model", serve), work, convert_job())
    assert raised.value.reason in ("UnsupportedOperator", "InvalidModel")
    if raised.value.reason == "UnsupportedOperator":
        assert named in raised.value.message
