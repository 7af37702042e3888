"""The pictures: scikit-learn's 1,797 handwritten digits (8 x 8, 16 grays) as JPEG files of 32 x 32 pixels.

A camera would deliver JPEG, so the network learns from pictures that went through JPEG as well: what it sees
in training is what the service decodes later.
"""

import io
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split

SIDE = 32  # pixels; four times the originals
HELD_OUT = 200  # pictures that training never sees
JPEG_QUALITY = 95
SEED = 20180507  # any constant does; the split is part of the example's identity


@dataclass(frozen=True)
class Pictures:
    """Encoded pictures and what they show."""

    jpegs: list[bytes]
    labels: NDArray[np.int64]

    def pixels(self) -> NDArray[np.float32]:
        """Decode all pictures: [N, 32, 32, 3], 0 to 255."""
        decoded = [np.asarray(Image.open(io.BytesIO(jpeg)).convert("RGB")) for jpeg in self.jpegs]
        return np.stack(decoded).astype(np.float32)


def encode(gray: NDArray[np.float64]) -> bytes:
    """Return an 8 x 8 picture with values 0 to 16 as an RGB JPEG of 32 x 32 pixels."""
    small = Image.fromarray((gray * (255.0 / 16.0)).round().astype(np.uint8))
    large = small.resize((SIDE, SIDE), Image.Resampling.BICUBIC).convert("RGB")
    file = io.BytesIO()
    large.save(file, format="JPEG", quality=JPEG_QUALITY, subsampling=0)
    return file.getvalue()


def load() -> tuple[Pictures, Pictures]:
    """Return (training pictures, held-out pictures): each digit has its fair share of both."""
    bunch = load_digits()
    train, held_out = train_test_split(
        np.arange(len(bunch.target)), test_size=HELD_OUT, random_state=SEED, stratify=bunch.target
    )

    def pick(indices: NDArray[np.int64]) -> Pictures:
        return Pictures([encode(bunch.images[i]) for i in indices], bunch.target[indices].astype(np.int64))

    return pick(train), pick(held_out)
