"""Our decoding and resizing against TensorFlow's own, bit for bit."""

import importlib.util
import io
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from accel_runtime import resize
from accel_runtime.pictures import decode_picture
from numpy.typing import NDArray
from PIL import Image

pytestmark = pytest.mark.tensorflow

RNG = np.random.default_rng(3)
SIZES = [
    (7, 5, 224, 224),
    (300, 201, 224, 224),
    (31, 64, 16, 16),
    (224, 224, 224, 224),
    (2, 3, 1, 1),
    (64, 64, 65, 3),
]
RULES = [(False, False), (False, True), (True, False)]


def smooth(height: int, width: int) -> NDArray[np.uint8]:
    small = RNG.integers(0, 256, (4, 5, 3), dtype=np.uint8)
    return np.array(Image.fromarray(small).resize((width, height)))


def file(pixels: Any, kind: str, **options: Any) -> bytes:
    out = io.BytesIO()
    image = pixels if isinstance(pixels, Image.Image) else Image.fromarray(pixels)
    image.save(out, kind, **options)
    return out.getvalue()


def pictures() -> dict[str, bytes]:
    colour = smooth(41, 57)
    noise = RNG.integers(0, 256, (33, 47, 3), dtype=np.uint8)
    gray16 = RNG.integers(0, 65536, (20, 21)).astype(np.uint16)
    alpha = np.dstack([noise, RNG.integers(0, 256, noise.shape[:2], dtype=np.uint8)])
    return {
        "jpeg 4:2:0": file(colour, "JPEG", quality=90),
        "jpeg noise 4:4:4": file(noise, "JPEG", quality=95, subsampling=0),
        "jpeg 4:2:2": file(colour, "JPEG", quality=60, subsampling=1),
        "jpeg progressive": file(colour, "JPEG", progressive=True),
        "jpeg gray": file(colour[:, :, 0], "JPEG"),
        "jpeg cmyk": file(Image.fromarray(colour).convert("CMYK"), "JPEG"),
        "jpeg turned by exif": file(colour, "JPEG", exif=turned()),
        "png": file(noise, "PNG"),
        "png gray": file(noise[:, :, 0], "PNG"),
        "png alpha": file(alpha, "PNG"),
        "png gray alpha": file(Image.fromarray(alpha).convert("LA"), "PNG"),
        "png palette": file(Image.fromarray(colour).quantize(16), "PNG"),
        "png palette with transparency": file(Image.fromarray(colour).quantize(16), "PNG", transparency=3),
        "png 16 bits": file(gray16, "PNG"),
        "png one bit": file(Image.fromarray(noise).convert("1"), "PNG"),
        "png interlaced gray": file(colour[:, :, 1], "PNG"),
    }


def turned() -> Image.Exif:
    exif = Image.Exif()
    exif[0x0112] = 6
    return exif


def resize_cases() -> dict[str, dict[str, Any]]:
    cases: dict[str, dict[str, Any]] = {}
    for height, width, to_height, to_width in SIZES:
        for half, align in RULES:
            options = {"size": [to_height, to_width], "half_pixel_centers": half, "align_corners": align}
            for op in ("bilinear", "nearest"):
                name = f"{op} {height}x{width} to {to_height}x{to_width} half={half} align={align}"
                cases[name] = {"op": op, "input": f"pixels {height}x{width}", "options": options}
    cases["tf.image.resize"] = {
        "op": "image.resize",
        "input": "pixels 300x201",
        "options": {"size": [224, 224]},
    }
    return cases


PICTURES = pictures()
PIXELS = {f"pixels {h}x{w}": RNG.integers(0, 256, (h, w, 3), dtype=np.uint8) for h, w, _, _ in SIZES}
RESIZES = resize_cases()
DECODES = {
    f"{name} as {channels}": {"op": "decode", "kind": name.split()[0], "input": name, "channels": channels}
    for name in PICTURES
    for channels in (3, 1)
    if (name, channels) != ("jpeg cmyk", 1)  # TensorFlow refuses it
}


@pytest.fixture(scope="module")
def tensorflow(tmp_path_factory: pytest.TempPathFactory) -> dict[str, NDArray[Any]]:
    """TensorFlow's answers to all cases, from one process."""
    if importlib.util.find_spec("tensorflow") is None:
        pytest.skip("TensorFlow is not installed")
    folder = tmp_path_factory.mktemp("tensorflow")
    (folder / "cases.json").write_text(json.dumps(RESIZES | DECODES))
    arrays = PIXELS | {name: np.frombuffer(data, np.uint8) for name, data in PICTURES.items()}
    np.savez(folder / "inputs.npz", **arrays)  # type: ignore[arg-type]
    command = [sys.executable, str(Path(__file__).with_name("tf_reference.py"))]
    files = [str(folder / name) for name in ("cases.json", "inputs.npz", "results.npz")]
    environment = {**os.environ, "CUDA_VISIBLE_DEVICES": "", "TF_CPP_MIN_LOG_LEVEL": "3"}
    done = subprocess.run(command + files, capture_output=True, text=True, env=environment)
    assert done.returncode == 0, done.stderr[-2000:]
    with np.load(folder / "results.npz") as results:
        return dict(results)


@pytest.mark.parametrize("name", RESIZES)
def test_resizing_is_tensorflows(tensorflow: dict[str, NDArray[Any]], name: str) -> None:
    case = RESIZES[name]
    options = case["options"]
    op = resize.nearest if case["op"] == "nearest" else resize.bilinear
    ours = op(
        PIXELS[case["input"]],
        *options["size"],
        half_pixel_centers=options.get("half_pixel_centers", True),
        align_corners=options.get("align_corners", False),
    )
    assert ours.dtype == tensorflow[name].dtype
    np.testing.assert_array_equal(ours, tensorflow[name])


@pytest.mark.parametrize("name", DECODES)
def test_decoding_is_tensorflows(tensorflow: dict[str, NDArray[Any]], name: str) -> None:
    case = DECODES[name]
    ours = decode_picture(PICTURES[str(case["input"])], int(str(case["channels"])))
    theirs = tensorflow[name]
    assert ours.shape == theirs.shape
    np.testing.assert_array_equal(ours, theirs)
