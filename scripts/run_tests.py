"""Every test of the project, phase by phase: `make test`, and with ACCEL_TEST_FULL=1 `make test-full`.

Cheap phases first. A phase is never silent for more than 15 s. A failing phase does not stop the later ones,
except that without a cluster there is nothing to test on it. The last line counts all tests of all phases.
"""

import os
import queue
import subprocess
import sys
import tempfile
import threading
import time
import xml.etree.ElementTree as ET
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
HEARTBEAT_S = 15.0
ON_BOTH_PROCESSORS = ("-n", "2", "--dist", "loadfile")  # much of these tests' time is waiting


@dataclass(frozen=True)
class Phase:
    """One step of the run: a command whose exit code decides."""

    name: str
    command: list[str]
    is_pytest: bool = True
    environment: dict[str, str] = field(default_factory=dict)


@dataclass
class Tally:
    """Counts over all phases."""

    passed: int = 0
    failed: int = 0
    skipped: int = 0

    def add(self, report: Path) -> None:
        """Count the cases of a JUnit file; a phase that died without one is a failure by its exit code."""
        if not report.exists():
            return
        for suite in ET.parse(report).getroot().iter("testsuite"):  # noqa: S314 (pytest wrote it)
            bad = int(suite.get("failures", 0)) + int(suite.get("errors", 0))
            skipped = int(suite.get("skipped", 0))
            self.failed += bad
            self.skipped += skipped
            self.passed += int(suite.get("tests", 0)) - bad - skipped


def lines_or_silence(stream: Iterator[str]) -> Iterator[str | None]:
    """Yield the stream's lines, and None whenever HEARTBEAT_S pass without one."""
    arrived: queue.Queue[str | None] = queue.Queue()

    def pump() -> None:
        for line in stream:
            arrived.put(line)
        arrived.put(None)

    threading.Thread(target=pump, daemon=True).start()
    while True:
        try:
            line = arrived.get(timeout=HEARTBEAT_S)
        except queue.Empty:
            yield None
            continue
        if line is None:
            return
        yield line


def run(phase: Phase, tally: Tally, report: Path) -> bool:
    """Run one phase with its output passed through; return whether it succeeded."""
    print(f"\n══ {phase.name}", flush=True)
    command = [*phase.command, f"--junitxml={report}"] if phase.is_pytest else phase.command
    started = time.monotonic()
    process = subprocess.Popen(
        command,
        cwd=ROOT,
        env={**os.environ, "PYTHONUNBUFFERED": "1", **phase.environment},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    assert process.stdout is not None
    for line in lines_or_silence(iter(process.stdout)):
        if line is None:
            print(f"   … {phase.name}: {time.monotonic() - started:.0f} s", flush=True)
        else:
            print(line, end="", flush=True)
    succeeded = process.wait() == 0
    tally.add(report)
    if not succeeded and not phase.is_pytest:
        tally.failed += 1
    print(
        f"══ {phase.name}: {'ok' if succeeded else 'FAILED'} in {time.monotonic() - started:.0f} s",
        flush=True,
    )
    return succeeded


def pytest_phase(name: str, *arguments: str) -> Phase:
    """Return a phase that runs pytest on `arguments`."""
    return Phase(name, [sys.executable, "-m", "pytest", *arguments])


def cluster_options() -> list[str]:
    """Return what makes pytest-kind attach to the running cluster instead of making its own."""
    asked = subprocess.run(
        [sys.executable, "-m", "accel_cluster", "pytest-options"],
        cwd=ROOT,
        check=True,
        capture_output=True,
        text=True,
    )
    return asked.stdout.split()


def main() -> int:
    """Run all phases; return the process's exit code."""
    started = time.monotonic()
    tally = Tally()
    with tempfile.TemporaryDirectory() as scratch:
        reports = (Path(scratch) / f"{number}.xml" for number in range(99))
        ok = run(Phase("checks", [sys.executable, "scripts/check.py"], is_pytest=False), tally, next(reports))
        build = Phase("binaries", [sys.executable, "-m", "accel_cluster", "build"], is_pytest=False)
        built = run(build, tally, next(reports))  # first: the chart's unit tests run the real Helm
        ok &= run(
            pytest_phase("unit tests", "-q", "-m", "not tensorflow and not network", *ON_BOTH_PROCESSORS),
            tally,
            next(reports),
        )
        ok &= run(pytest_phase("against TensorFlow itself", "-v", "-m", "tensorflow"), tally, next(reports))
        ok &= run(pytest_phase("whole networks", "tests/networks", "-v"), tally, next(reports))
        if built:
            api = pytest_phase("a real API server", "tests/apiserver", "-v", *ON_BOTH_PROCESSORS)
            ok &= run(api, tally, next(reports))
            ok &= on_a_cluster(tally, reports)
        else:
            ok = False
    print(f"\nall phases took {(time.monotonic() - started) / 60:.1f} min")
    print(f"{tally.passed} passed, {tally.failed} failed, {tally.skipped} skipped")
    return 0 if ok else 1


def on_a_cluster(tally: Tally, reports: Iterator[Path]) -> bool:
    """Install the product on the throw-away cluster, test it, and see the cluster go without a trace.

    A cluster that is up already (the demo's, or one of a run that died) is taken over by taking it down: its devices
    may be held, and its emulators may be of another version.
    """
    clean = Phase(
        "no cluster of an earlier run", [sys.executable, "-m", "accel_cluster", "down"], is_pytest=False
    )
    ok = run(clean, tally, next(reports)) and run(
        Phase("install on a real cluster", [sys.executable, "-m", "examples.demo.install"], is_pytest=False),
        tally,
        next(reports),
    )
    if ok:
        ok = run(
            pytest_phase("the real cluster", "tests/e2e", "-v", *cluster_options()), tally, next(reports)
        )
    return run(pytest_phase("the cluster's end", "tests/cluster", "-v"), tally, next(reports)) and ok


if __name__ == "__main__":
    sys.exit(main())
