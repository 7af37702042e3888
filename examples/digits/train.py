"""Train the digits network and write everything that the demo needs: `python -m examples.digits.train
FOLDER`.

FOLDER gets `saved_model/` (what is pushed and converted), `pictures/NNN.jpg` and `labels.csv` (200 held-out
pictures, never trained on), and `float32.npy` (the answers of the float32 SavedModel to them, [200, 10]).
Seeded and on one thread: the same libraries give the same weights.
"""

import csv
import os
import sys
import time
from pathlib import Path

# Before TensorFlow is imported: it logs its CPU flags otherwise.
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

import keras
import numpy as np
import tensorflow as tf
from numpy.typing import NDArray

from examples.digits import network, pictures

EPOCHS = 14
BATCH = 32
SHIFT = 2  # pixels that a training picture may be off its centre, each way


def shifted(pixels: NDArray[np.float32], rng: np.random.Generator) -> NDArray[np.float32]:
    """Return every picture moved by up to SHIFT pixels; the border is repeated."""
    padded = np.pad(pixels, ((0, 0), (SHIFT, SHIFT), (SHIFT, SHIFT), (0, 0)), mode="edge")
    moved = np.empty_like(pixels)
    for i, (dy, dx) in enumerate(rng.integers(0, 2 * SHIFT + 1, (len(pixels), 2))):
        moved[i] = padded[i, dy : dy + pictures.SIDE, dx : dx + pictures.SIDE]
    return moved


def train(given: pictures.Pictures) -> keras.Model:
    """Return the trained network, printing one line per epoch."""
    keras.utils.set_random_seed(pictures.SEED)
    rng = np.random.default_rng(pictures.SEED)
    model = network.build()
    pixels = given.pixels()
    steps = EPOCHS * -(-len(pixels) // BATCH)
    model.compile(
        keras.optimizers.Adam(keras.optimizers.schedules.CosineDecay(3e-3, steps)),
        keras.losses.SparseCategoricalCrossentropy(),
        metrics=["accuracy"],
    )
    for epoch in range(EPOCHS):
        started = time.monotonic()
        history = model.fit(
            network.scale(shifted(pixels, rng)), given.labels, batch_size=BATCH, epochs=1, verbose=0
        ).history
        loss, accuracy = history["loss"][0], history["accuracy"][0]
        took = time.monotonic() - started
        print(
            f"epoch {epoch + 1:2}/{EPOCHS}  loss {loss:.4f}  accuracy {accuracy:6.2%}  {took:4.1f} s",
            flush=True,
        )
    return model


def answer(folder: Path, jpegs: list[bytes]) -> NDArray[np.float32]:
    """Return the exported model's float32 answers: [N, 10]."""
    serve = tf.saved_model.load(str(folder)).signatures["serving_default"]
    return np.asarray(serve(tf.constant(jpegs))["output_alias"].numpy(), dtype=np.float32)


def write(folder: Path) -> float:
    """Train, export and write the held-out pictures below `folder`; return the float32 accuracy on them."""
    # Spinning threads cost more than a second core gives.
    tf.config.threading.set_intra_op_parallelism_threads(1)
    tf.config.threading.set_inter_op_parallelism_threads(1)
    tf.config.experimental.enable_op_determinism()
    given, held_out = pictures.load()
    network.export(train(given), str(folder / "saved_model"))

    (folder / "pictures").mkdir(parents=True, exist_ok=True)
    with (folder / "labels.csv").open("w", newline="") as file:
        rows = csv.writer(file, lineterminator="\n")
        rows.writerow(["picture", "label"])
        for i, (jpeg, label) in enumerate(zip(held_out.jpegs, held_out.labels, strict=True)):
            name = f"{i:03}.jpg"
            (folder / "pictures" / name).write_bytes(jpeg)
            rows.writerow([name, int(label)])
    answers = answer(folder / "saved_model", held_out.jpegs)
    np.save(folder / "float32.npy", answers)
    return float((answers.argmax(axis=1) == held_out.labels).mean())


def main() -> int:
    """Run from the command line; return the exit code."""
    if len(sys.argv) != 2:
        print(__doc__, file=sys.stderr)
        return 64
    accuracy = write(Path(sys.argv[1]))
    print(f"float32 accuracy on {pictures.HELD_OUT} held-out pictures: {accuracy:.1%}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
