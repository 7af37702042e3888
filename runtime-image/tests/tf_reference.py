"""What TensorFlow makes of the cases: run by a test in a process of its own, writes one .npz."""

import json
import sys

import numpy as np


def main() -> None:
    """Read the cases (JSON), compute each with TensorFlow, write the arrays by case name."""
    import tensorflow as tf

    cases_file, inputs_file, target = sys.argv[1:]
    cases = json.loads(open(cases_file).read())  # noqa: SIM115, PTH123
    inputs = np.load(inputs_file, allow_pickle=False)
    results = {}
    for name, case in cases.items():
        data = inputs[case["input"]]
        op = case["op"]
        if op == "decode":
            decoder = tf.io.decode_jpeg if case["kind"] == "jpeg" else tf.io.decode_png
            result = decoder(data.tobytes(), channels=case["channels"])
        elif op == "bilinear":
            result = tf.raw_ops.ResizeBilinear(images=data[np.newaxis], **case["options"])[0]
        elif op == "nearest":
            result = tf.raw_ops.ResizeNearestNeighbor(images=data[np.newaxis], **case["options"])[0]
        else:
            result = tf.image.resize(data, case["options"]["size"])
        results[name] = result.numpy()
    np.savez(target, **results)


if __name__ == "__main__":
    main()
