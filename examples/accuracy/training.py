"""Training one fold, and training on through the quantiser. Seeded, on one thread: the same libraries give the same
weights.
"""

import os
from dataclasses import dataclass
from typing import Any

os.environ.setdefault(
    "TF_CPP_MIN_LOG_LEVEL", "2"
)  # before TensorFlow is imported: it logs its CPU flags otherwise

import keras
import numpy as np
import tensorflow as tf
from accel_zoo.tensorflow.layers import twin
from npu import bfp
from numpy.typing import NDArray
from sklearn.datasets import load_digits
from sklearn.model_selection import StratifiedKFold

from examples.accuracy.networks import NETWORKS
from examples.digits import network as digits
from examples.digits.pictures import SEED, Pictures, encode
from examples.digits.train import BATCH, EPOCHS, shifted

__all__ = ["FOLDS", "Data", "fine_tune", "folds", "load", "quiet_tensorflow", "train"]

FOLDS = 5
FINE_TUNING = 4  # epochs


@dataclass(frozen=True)
class Data:
    """Pixels [N, 32, 32, 3], 0 to 255, and the digits that they show."""

    pixels: NDArray[np.float32]
    labels: NDArray[np.int64]

    def __getitem__(self, chosen: NDArray[np.int64]) -> "Data":
        return Data(self.pixels[chosen], self.labels[chosen])


def quiet_tensorflow() -> None:
    """One thread and one result: spinning threads cost more than a second core gives."""
    tf.config.threading.set_intra_op_parallelism_threads(1)
    tf.config.threading.set_inter_op_parallelism_threads(1)
    tf.config.experimental.enable_op_determinism()


def load() -> Data:
    """All 1,797 pictures, through JPEG as the digits example serves them."""
    bunch = load_digits()
    pictures = Pictures([encode(image) for image in bunch.images], bunch.target.astype(np.int64))
    return Data(pictures.pixels(), pictures.labels)


def folds(data: Data) -> list[tuple[NDArray[np.int64], NDArray[np.int64]]]:
    """(training, held out) FOLDS times; each picture is held out once, each digit has its share everywhere."""
    cut = StratifiedKFold(FOLDS, shuffle=True, random_state=SEED)
    return list(cut.split(np.zeros(len(data.labels)), data.labels))


def train(name: str, data: Data, seed: int) -> keras.Model:
    """Train one of NETWORKS in float32."""
    keras.utils.set_random_seed(SEED + seed)
    network = NETWORKS[name]()
    _fit(network, data, EPOCHS, 3e-3, seed)
    return network


def fine_tune(network: keras.Model, form: bfp.Preset, data: Data, seed: int) -> keras.Model:
    """Return a float32 network whose weights were trained on as the device computes in `form`."""
    second = twin(network, form)
    _fit(second, data, FINE_TUNING, 5e-4, seed)
    tuned = keras.models.clone_model(network)
    tuned.set_weights(second.get_weights())
    return tuned


def _fit(network: Any, data: Data, epochs: int, rate: float, seed: int) -> None:
    rng = np.random.default_rng(SEED + seed)
    steps = epochs * -(-len(data.labels) // BATCH)
    network.compile(
        keras.optimizers.Adam(keras.optimizers.schedules.CosineDecay(rate, steps)),
        keras.losses.SparseCategoricalCrossentropy(),
    )
    for _ in range(epochs):
        pixels = digits.scale(shifted(data.pixels, rng))
        network.fit(pixels, data.labels, batch_size=BATCH, epochs=1, verbose=0)
