"""A few real photographs: scikit-learn's two sample pictures and crops of them, as JPEG files of different
sizes.
"""

import io

import numpy as np
from PIL import Image
from sklearn.datasets import load_sample_images

JPEG_QUALITY = 90
SEED = 50
CALIBRATION = 24  # crops that the network's statistics are taken from
Box = tuple[int, int, int, int]  # left, upper, right, lower; pixels

SHOWN: dict[str, tuple[str, Box | None]] = {
    # file: (original, part of it)
    "temple.jpg": ("china.jpg", None),
    "flower.jpg": ("flower.jpg", None),
    "roof.jpg": ("china.jpg", (40, 60, 360, 300)),
}


def originals() -> dict[str, Image.Image]:
    """Return the two photographs (640 x 427) by name."""
    bunch = load_sample_images()
    names = [str(name).rpartition("/")[2] for name in bunch.filenames]
    return {name: Image.fromarray(pixels) for name, pixels in zip(names, bunch.images, strict=True)}


def encode(picture: Image.Image) -> bytes:
    """Return a picture as JPEG."""
    file = io.BytesIO()
    picture.save(file, format="JPEG", quality=JPEG_QUALITY)
    return file.getvalue()


def shown() -> dict[str, bytes]:
    """Return the pictures that the demo scores, by file name."""
    by_name = originals()
    return {
        file: encode(by_name[original].crop(box) if box else by_name[original])
        for file, (original, box) in SHOWN.items()
    }


def calibration() -> list[bytes]:
    """Return seeded random crops of both photographs, turned and mirrored."""
    rng = np.random.default_rng(SEED)
    sources = list(originals().values())
    crops = []
    for i in range(CALIBRATION):
        source = sources[i % len(sources)]
        side = int(rng.integers(120, min(source.size)))
        left, upper = int(rng.integers(0, source.width - side)), int(rng.integers(0, source.height - side))
        crop = source.crop((left, upper, left + side, upper + side)).rotate(90 * int(rng.integers(4)))
        crops.append(encode(crop.transpose(Image.Transpose.FLIP_LEFT_RIGHT) if rng.random() < 0.5 else crop))
    return crops
