"""What the operator needs for 50, 100 and 200 models, images and services: the table in docs/operations.md.

`python -m bench.operator_scale [COUNT ...] [--profile FOLDER]` runs the real operator against a real API server with
simulated Jobs and kubelets (tests/apiserver/scale.py). Processor seconds are this machine's; the rest is counts.
"""

import argparse
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT / "tests" / "apiserver"))

from accel_cluster import toolchain  # noqa: E402
from scale import Figures, measure  # noqa: E402

RESYNC_SECONDS = 10.0  # of the runs
DEFAULT_RESYNC_SECONDS = 30.0  # what the share of a core is for
HEADER = (
    "| of each kind | memory, MiB | reads per object | writes per object | reconciles per object | "
    "processor ms per object | idle: ms per reconcile | idle: share of a core |\n|" + " --- |" * 8
)


def row(figures: Figures) -> str:
    """Return a run's line of the table; an object is one model, image or service."""
    objects = 3 * figures.count
    resyncs = figures.idle_reconciles / objects
    idle = figures.idle_processor / resyncs / DEFAULT_RESYNC_SECONDS
    return (
        f"| {figures.count} | {figures.peak_memory:.0f} | {figures.reads() / objects:.1f} | "
        f"{figures.writes() / objects:.1f} | {figures.reconciles / objects:.1f} | "
        f"{1000 * figures.processor / objects:.0f} | "
        f"{1000 * figures.idle_processor / figures.idle_reconciles:.1f} | {100 * idle:.1f} % |"
    )


def main() -> int:
    """Print the table, and each run's requests by verb and resource below it."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("counts", nargs="*", type=int, default=[50, 100, 200])
    parser.add_argument("--profile", type=Path, help="folder for one cProfile file per run")
    options = parser.parse_args()
    programs = toolchain.ensure()["kube-apiserver"].parent
    runs = []
    print(HEADER, flush=True)
    for count in options.counts:
        profile = options.profile / f"operator-{count}.prof" if options.profile else None
        with tempfile.TemporaryDirectory() as folder:
            runs.append(
                measure(Path(folder), programs, count, resync_seconds=RESYNC_SECONDS, profile=profile)
            )
        print(row(runs[-1]), flush=True)
    for figures in runs:
        print(f"\nrequests with {figures.count} of each kind:")
        for (verb, resource), count in sorted(figures.requests.items()):
            print(f"  {verb:<9} {resource:<24} {count}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
