"""How long the oracle takes for a picture, network by network: the table in simulator/README.md.

`python -m bench.npu_oracle [NAME ...] [--precision PRESET ...]`. Seconds of one core, the least of three runs of the
device's part; weights are calibrated random ones.
"""

import argparse
import sys
import time

from accel_zoo import FIVE, build_onnx, table
from accel_zoo.pictures import pictures
from npu.compiler import compile_model
from npu.oracle import Oracle

RUNS = 3
LIMITS = {
    "resnet50": 10,
    "resnet152": 30,
    "vgg16": 40,
    "densenet121": 90,
    "ssd_vgg300": 90,
}  # what is promised


def seconds(name: str, precision: str) -> tuple[float, float]:
    """Of reading the weights, and of a picture."""
    picture = pictures(table(name), 1, 0)[0]
    program = compile_model(build_onnx(table(name)), precision=precision).program
    started = time.process_time()
    oracle = Oracle(program)
    read = time.process_time() - started
    runs = []
    for _ in range(RUNS):
        started = time.process_time()
        oracle.run(picture)
        runs.append(time.process_time() - started)
    return read, min(runs)


def main() -> int:
    """Print the table; fail when a network takes longer than promised."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("names", nargs="*", default=list(FIVE))
    parser.add_argument("--precision", nargs="+", default=["msfp-a10", "msfp16"])
    options = parser.parse_args()
    late = False
    print("| network | preset | weights read, s | a picture, s | at most, s |\n|" + " --- |" * 5, flush=True)
    for name in options.names:
        for precision in options.precision:
            read, run = seconds(name, precision)
            late |= run > LIMITS[name]
            print(f"| {name} | {precision} | {read:.2f} | {run:.2f} | {LIMITS[name]} |", flush=True)
    return int(late)


if __name__ == "__main__":
    sys.exit(main())
