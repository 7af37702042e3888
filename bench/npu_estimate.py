"""What timing a network costs, computed afresh each time: the table in docs/timing.md, "What an estimate costs".

`python -m bench.npu_estimate [NAME ...] [--runs N] [--compiled]`. Each run of `estimate` stands between two runs of a
yardstick, a plain Python loop; the ratio is the median over runs, the milliseconds are the least of them.
`--compiled` times programs out of the compiler instead of those without weights: they are the same chains.
"""

import argparse
import sys
import time
from collections.abc import Callable
from statistics import median

from accel_zoo import FIVE, build_onnx, table
from npu.bfp import DEFAULT
from npu.program import Program
from npu.sku import load_sku
from npu.timing import engines, estimate
from npu.timing.plan import costs_of, machine_of

from bench.structure import program_of

ADDITIONS = 100_000  # of the yardstick: a few milliseconds
HEADER = (
    "| network | chains | loads | of it engines, ms | estimate, ms | over 100,000 additions |\n|"
    + " --- |" * 6
)


def yardstick() -> int:
    """A loop that any machine runs about as fast as the engines' recurrence, step for step."""
    total = 0
    for number in range(ADDITIONS):
        total += number
    return total


def seconds(work: Callable[[], object]) -> float:
    """Wall time of one call."""
    started = time.perf_counter()
    work()
    return time.perf_counter() - started


def made(name: str, *, compiled: bool) -> Program:
    """The network's program for the default machine."""
    if not compiled:
        return program_of(table(name), DEFAULT)
    from npu.compiler import compile_model

    return compile_model(build_onnx(table(name).device_part(), calibrated=False)).program


def row(name: str, program: Program, runs: int) -> str:
    """One network's line."""
    sku = load_sku()
    machine = machine_of(program, sku, costs_of(program, sku))
    whole, ratios, played = [], [], []
    for _ in range(runs):
        before = seconds(yardstick)
        whole.append(seconds(lambda: estimate(program, sku)))
        after = seconds(yardstick)
        ratios.append(2 * whole[-1] / (before + after))
        played.append(seconds(lambda: engines.steady_period(machine, engines.run(machine))))
    return (
        f"| {name} | {len(program.chains)} | {len(program.loads)} | {1e3 * min(played):.2f} | "
        f"{1e3 * min(whole):.2f} | {median(ratios):.2f} |"
    )


def main() -> int:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("names", nargs="*", default=list(FIVE))
    parser.add_argument("--runs", type=int, default=30)
    parser.add_argument("--compiled", action="store_true")
    options = parser.parse_args()
    print(HEADER, flush=True)
    for name in options.names:
        print(row(name, made(name, compiled=options.compiled), options.runs), flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
