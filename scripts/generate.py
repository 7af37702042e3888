"""Everything that is generated and committed: `make generate`; with --check the drift test.

Each generator is its room's own module and takes --check itself; this file only knows where they are.
"""

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
GENERATORS = {
    "CRDs and the tables of docs/": ["-m", "fpga_operator.api.generate"],
    "TensorFlow Serving descriptors": ["-m", "accel.tfs.generate"],
    "kubelet device plugin stubs": ["-m", "fpga_device_plugin.generate"],
    "chart's copies of CRDs, RBAC and alerts": ["charts/generate.py"],
    "golden vectors of simulator/ARITHMETIC.md": ["simulator/tests/arithmetic/golden.py"],
    "tables of docs/operations.md": ["-m", "fpga_operator.run.operations"],
    "tables and pictures of docs/timing.md": ["-m", "bench.npu_timing"],
}


def main() -> int:
    """Run every generator; return 1 if one failed or, with --check, found drift."""
    check = [argument for argument in sys.argv[1:] if argument == "--check"]
    failed = 0
    for name, arguments in GENERATORS.items():
        done = subprocess.run([sys.executable, *arguments, *check], cwd=ROOT, check=False)
        if done.returncode != 0:
            failed = 1
            print(f"{name}: {'differ; run `make generate`' if check else 'failed'}", file=sys.stderr)
    return failed


if __name__ == "__main__":
    sys.exit(main())
