"""Everything about the code that can be known without running it: `make check`.

Runs all checks even when one fails, prints each one's time, and exits with 1 if any failed.
"""

import subprocess
import sys
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
BIN = ROOT / ".venv" / "bin"
ROOMS = sorted(file.parent.name for file in ROOT.glob("*/pyproject.toml"))
SOURCES = [f"{room}/src" for room in ROOMS]
CODE = [
    *SOURCES,
    *(f"{room}/tests" for room in ROOMS),
    "charts/tests",
    "tests",
    "examples",
    "bench",
    "scripts",
]


def existing(paths: list[str]) -> list[str]:
    """Return those of `paths` that are in the checkout."""
    return [path for path in paths if (ROOT / path).exists()]


def checks() -> dict[str, list[str]]:
    """Return each check's name and command line, cheapest first."""
    code = existing(CODE)
    return {
        "format": [str(BIN / "ruff"), "format", "--check", "--quiet", *code],
        "lint": [str(BIN / "ruff"), "check", "--quiet", *code],
        "layers": [str(BIN / "lint-imports"), "--no-cache"],
        "generated files": [sys.executable, "scripts/generate.py", "--check"],
        "types": [str(BIN / "mypy"), *existing([*SOURCES, "examples", "scripts"])],
    }


def main() -> int:
    """Run every check; return the process's exit code."""
    failed = []
    for name, command in checks().items():
        started = time.monotonic()
        done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
        verdict = "ok" if done.returncode == 0 else "FAILED"
        print(f"{name:<18} {verdict:<7} {time.monotonic() - started:5.1f} s", flush=True)
        if done.returncode != 0:
            failed.append(name)
            print(done.stdout + done.stderr, flush=True)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
