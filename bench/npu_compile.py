"""Time and memory that compiling takes, network by network: the table in docs/networks.md.

`python -m bench.npu_compile [NAME ...] [--runs N]`. Each run is a process of its own that reads the model from a file
and compiles it. The time is that of `compile_model` alone, the least of the runs; the memory is the process' peak
meanwhile, with interpreter, libraries and the model itself. Weights are calibrated random ones: zeros would be quicker.
"""

import argparse
import json
import subprocess
import sys
import tempfile
from pathlib import Path

from accel_zoo import FIVE, build_onnx, table

RUN = r"""
import json, re, sys, time
import onnx
from npu.compiler import compile_model
model = onnx.load(sys.argv[1])
def memory(what):
    return 1024 * int(re.search(what + r":\s+(\d+) kB", open("/proc/self/status").read())[1])
open("/proc/self/clear_refs", "w").write("5")  # the peak from here on: reading the file holds it twice
loaded, wall, cpu = memory("VmRSS"), time.perf_counter(), time.process_time()
compiled = compile_model(model)
wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
peak = memory("VmHWM")
size = len(compiled.program.to_bytes())
print(json.dumps({
    "seconds": wall, "cpu": cpu, "loaded": loaded, "peak": peak, "program": size,
    "chains": len(compiled.program.chains),
}))
"""
HEADER = (
    "| network | model, MB | program, MB | chains | compiling, s | of it processor, s | "
    "memory with the model read, MB | at its peak, MB |\n|" + " --- |" * 8
)


def measure(model: Path, runs: int) -> dict[str, float]:
    """The quickest of several runs, and the highest peak."""
    results = []
    for _ in range(runs):
        done = subprocess.run(
            [sys.executable, "-c", RUN, str(model)], capture_output=True, text=True, check=True
        )
        results.append(json.loads(done.stdout))
    best: dict[str, float] = min(results, key=lambda result: result["seconds"])
    return best | {"peak": max(result["peak"] for result in results)}


def main() -> int:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("names", nargs="*", default=list(FIVE))
    parser.add_argument("--runs", type=int, default=3)
    options = parser.parse_args()
    print(HEADER, flush=True)
    with tempfile.TemporaryDirectory() as folder:
        for name in options.names:
            file = Path(folder) / f"{name}.onnx"
            file.write_bytes(build_onnx(table(name)).SerializeToString())
            found = measure(file, options.runs)
            print(
                f"| {name} | {file.stat().st_size / 1e6:.0f} | {found['program'] / 1e6:.0f} | "
                f"{found['chains']:.0f} | {found['seconds']:.2f} | {found['cpu']:.2f} | "
                f"{found['loaded'] / 1e6:.0f} | {found['peak'] / 1e6:.0f} |",
                flush=True,
            )
            file.unlink()
    return 0


if __name__ == "__main__":
    sys.exit(main())
