"""The second container: confine this process, convert in a child, and say cleanly how the child ended.

The child runs a stranger's graph in TensorFlow. It may be killed for its memory, or crash in native code;
this process lives on to name that, and to keep all the child's output.
"""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import IO, Any, Final

from accel.oci import InvalidContent

from accel_toolchain import sandbox
from accel_toolchain.conditions import Failure, Killed, Terminal
from accel_toolchain.workspace import Workspace, read_note

_CGROUP: Final = Path("/sys/fs/cgroup")
_CHILD: Final = [sys.executable, "-m", "accel_toolchain.conversion"]

_TAIL_BYTES: Final = 1 << 16

# One thread each and a fixed hash seed: the same input gives the same bytes, on any machine.
_ENVIRONMENT: Final = {
    "PYTHONHASHSEED": "0",
    "PYTHONUNBUFFERED": "1",
    "OMP_NUM_THREADS": "1",
    "TF_NUM_INTRAOP_THREADS": "1",
    "TF_NUM_INTEROP_THREADS": "1",
    "CUDA_VISIBLE_DEVICES": "-1",
    "TF_CPP_MIN_LOG_LEVEL": "2",
    "TF_ENABLE_ONEDNN_OPTS": "0",  # oneDNN reorders sums; the reference shall be plain float32
    "MALLOC_ARENA_MAX": "2",
    "HOME": "/tmp",  # the only writable place of the container besides the volume
}


def convert(work: Workspace, job_text: str, child: list[str] | None = None) -> None:
    """Convert what `fetch` left and leave artifact, report and log in the workspace.

    `child` replaces the converting program (tests show with it what a hostile graph could try).

    Raises:
        Terminal: with the child's own condition, or ConversionFailed when it ended without one.
        Killed: OOMKilled.
    """
    if read_note(work.source_note).get("known"):
        print("convert: the registry holds this version already", flush=True)
        return
    try:
        sandbox.install()
    except sandbox.SandboxUnavailable as error:
        raise Terminal(
            "ConversionFailed",
            f"The converter could not be cut off from the network, so nothing was opened: {error}.",
        ) from error
    kills_before = _oom_kills()
    status = _run_child(child or _CHILD, work, job_text)
    failure = _failure(status, work, kills_before)
    if failure is not None:
        raise failure


def _run_child(command: list[str], work: Workspace, job_text: str) -> int:
    environment = {**os.environ, **_ENVIRONMENT, "ACCEL_JOB": job_text, "ACCEL_WORK": str(work.root)}
    with work.log.open("wb") as log:
        child = subprocess.Popen(
            command,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
        )
        # As process 1 of a container this process would ignore a signal that it has no handler for.
        previous = signal.signal(signal.SIGTERM, lambda *_: child.terminate())
        try:
            assert child.stdout is not None
            _tee(child.stdout, log)
            return child.wait()
        finally:
            signal.signal(signal.SIGTERM, previous)


def _tee(source: IO[bytes], log: IO[bytes]) -> None:
    """Copy the child's output to the log, which is pushed, and to this container's own output."""
    for line in source:
        log.write(line)
        log.flush()
        sys.stdout.buffer.write(line)
        sys.stdout.buffer.flush()


def _failure(status: int, work: Workspace, kills_before: int | None) -> Failure | None:
    """Return the condition for how the child ended; None if it left a result."""
    outcome = _outcome(work)
    if status == 0 and outcome.get("ok"):
        return None
    if status == -signal.SIGTERM:
        return Terminal(
            "ConversionFailed",
            "The conversion was stopped before it was done (the Job's deadline, or a drain).",
        )
    kills = _oom_kills()
    if status == -signal.SIGKILL and (kills is None or kills_before is None or kills > kills_before):
        return _out_of_memory()
    if status == -signal.SIGABRT and b"std::bad_alloc" in _tail(work.log):
        return _out_of_memory()  # an allocation in native code that was refused
    if status < 0:
        name = signal.Signals(-status).name
        return Terminal(
            "ConversionFailed", f"The converter was ended by {name}. See its log for the last thing it did."
        )
    if outcome.get("reason") == "OOMKilled":
        return _out_of_memory()
    if outcome.get("reason") and outcome.get("message"):
        return Terminal(str(outcome["reason"]), str(outcome["message"]))
    return Terminal(
        "ConversionFailed", f"The converter ended with exit code {status} and no result. See its log."
    )


def _tail(log: Path) -> bytes:
    with log.open("rb") as file:
        file.seek(max(0, log.stat().st_size - _TAIL_BYTES))
        return file.read()


def _outcome(work: Workspace) -> dict[str, Any]:
    try:
        return read_note(work.outcome)
    except (InvalidContent, ValueError, json.JSONDecodeError):
        return {}


def _out_of_memory() -> Killed:
    limit = _memory_limit()
    at = f" at its limit of {limit >> 20}Mi" if limit else ""
    return Killed(
        "OOMKilled",
        f"The converter ran out of memory{at}. Raise spec.conversion.limits.memory: a conversion needs about 14 "
        "times the model's float32 weights and 1Gi.",
    )


def _oom_kills(root: Path = _CGROUP) -> int | None:
    """Return how often the kernel killed in this container's cgroup for memory; None if it does not say."""
    for path in (root / "memory.events", root / "memory" / "memory.oom_control"):
        try:
            for line in path.read_text().splitlines():
                if line.startswith("oom_kill "):
                    return int(line.split()[1])
        except (OSError, ValueError):
            continue
    return None


def _memory_limit(root: Path = _CGROUP) -> int | None:
    for path in (root / "memory.max", root / "memory" / "memory.limit_in_bytes"):
        try:
            limit = int(path.read_text())
        except (OSError, ValueError):
            continue
        return limit if limit < 1 << 60 else None
    return None
