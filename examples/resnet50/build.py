"""Build ResNet-50 with seeded random weights and export it: `python -m examples.resnet50.build FOLDER`.

A deep network with plain random weights answers the same class whatever it sees. Three steps make its answer
depend on the picture, as a trained network's does: every batch normalisation gets the statistics that its
layer really has on a few photographs; the last one of each residual unit gets a small scale, so that a unit
refines and does not replace; and the classifier looks along the directions in which the features of
photographs differ, centred and scaled over them.

FOLDER gets `saved_model/`, `pictures/*.jpg` and `float32.npy`, the float32 answers to them in the order of
their names: [N, 1000] probabilities.
"""

import os
import sys
from pathlib import Path
from typing import Any

# Before TensorFlow is imported: it logs its CPU flags otherwise.
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

import keras
import numpy as np
import tensorflow as tf
from keras.applications.resnet50 import ResNet50, preprocess_input

from examples.resnet50 import pictures

SIDE = 224
UNIT_SCALE = 0.25  # of each residual unit's last normalisation
DIRECTIONS = 8  # of the features' 2,048 that the classifier looks at
LOGIT_SPREAD = 6.0  # standard deviation of a class's logit over the calibration pictures


def decode(encoded: Any) -> Any:
    """Decode one JPEG to [224, 224, 3], 0 to 255, RGB."""
    picture = tf.image.decode_jpeg(encoded, channels=3)
    return tf.cast(tf.image.resize(picture, [SIDE, SIDE]), tf.float32)


def preprocess(images: Any) -> Any:
    """Decode JPEG strings and prepare them as Keras does for this network: BGR, channel means subtracted."""
    pixels = tf.map_fn(decode, images, fn_output_signature=tf.TensorSpec([SIDE, SIDE, 3], tf.float32))
    return preprocess_input(pixels)


def calibrated() -> keras.Model:
    """Return ResNet-50 whose answers depend on the picture."""
    keras.utils.set_random_seed(pictures.SEED)
    network = ResNet50(weights=None)
    normalisations = [layer for layer in network.layers if isinstance(layer, keras.layers.BatchNormalization)]
    for layer in normalisations:
        layer.momentum = 0.0  # one pass replaces the statistics
        if layer.name.endswith("_3_bn"):
            layer.gamma.assign(np.full(layer.gamma.shape, UNIT_SCALE, np.float32))
    given = preprocess(tf.constant(pictures.calibration()))
    network(given, training=True)

    classifier = network.layers[-1]
    features = keras.Model(network.input, classifier.input)(given, training=False).numpy().astype(np.float64)
    weights = classifier.kernel.numpy().astype(np.float64)
    centred = features - features.mean(axis=0)
    directions = np.linalg.svd(centred, full_matrices=False)[2][:DIRECTIONS]  # where pictures really differ
    weights = directions.T @ (directions @ weights)
    scale = LOGIT_SPREAD / (centred @ weights).std(axis=0)
    classifier.kernel.assign((weights * scale).astype(np.float32))
    classifier.bias.assign((-features.mean(axis=0) @ weights * scale).astype(np.float32))
    return network


class Served(tf.Module):  # type: ignore[misc]  # TensorFlow ships no types
    """What is exported: encoded pictures in, probabilities out, preprocessing included."""

    def __init__(self, network: keras.Model) -> None:
        super().__init__()
        self.network = network

    @tf.function(input_signature=[tf.TensorSpec([None], tf.string, name="images")])  # type: ignore[untyped-decorator]
    def serve(self, images: Any) -> dict[str, Any]:
        """Answer pictures of any size, encoded as JPEG strings."""
        return {"output_alias": self.network(preprocess(images), training=False)}


def write(folder: Path) -> None:
    """Build, export and answer the shown pictures below `folder`."""
    # Spinning threads cost more than a second core gives.
    tf.config.threading.set_intra_op_parallelism_threads(1)
    tf.config.threading.set_inter_op_parallelism_threads(1)
    print("calibrating on random crops of two photographs", flush=True)
    served = Served(calibrated())
    print("exporting the SavedModel", flush=True)
    tf.saved_model.save(served, str(folder / "saved_model"), signatures={"serving_default": served.serve})
    # A random number; without it, equal weights are equal bytes.
    (folder / "saved_model" / "fingerprint.pb").unlink()
    (folder / "pictures").mkdir(parents=True, exist_ok=True)
    shown = dict(sorted(pictures.shown().items()))
    for name, jpeg in shown.items():
        (folder / "pictures" / name).write_bytes(jpeg)
    answers = served.serve(tf.constant(list(shown.values())))["output_alias"].numpy()
    np.save(folder / "float32.npy", answers)
    for name, answer in zip(shown, answers, strict=True):
        top = answer.argsort()[::-1][:3]
        print(f"{name}: " + ", ".join(f"class {k} {answer[k]:.1%}" for k in top), flush=True)


def main() -> int:
    """Run from the command line; return the exit code."""
    if len(sys.argv) != 2:
        print(__doc__, file=sys.stderr)
        return 64
    write(Path(sys.argv[1]))
    return 0


if __name__ == "__main__":
    sys.exit(main())
