"""ONNX Runtime sessions for the parts that run on the host, sized for a container.

ONNX Runtime counts the machine's cores and spins on them while it waits. A container with one core on a
node with 64 would starve itself, so the threads come from the cgroup's CPU limit and never spin.
"""

import math
import os
from pathlib import Path
from typing import Any

from accel_runtime.errors import ArtifactError

__all__ = ["cpu_limit", "open_session"]

_CGROUP = Path("/sys/fs/cgroup")


def cpu_limit(root: Path = _CGROUP) -> float:
    """Return how many cores this process may use: the cgroup's quota (v2 or v1), at most its CPU affinity."""
    cores = float(len(os.sched_getaffinity(0)))
    quota = _quota(root)
    return cores if quota is None else min(cores, quota)


def open_session(model: Path | bytes, *, threads: int | None = None) -> Any:
    """Return an InferenceSession on the CPU; raises ArtifactError if ONNX Runtime refuses the graph."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads or max(1, math.ceil(cpu_limit()))
    options.inter_op_num_threads = 1
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    options.log_severity_level = 3  # errors only; warnings are the converter's business
    source = str(model) if isinstance(model, Path) else model
    try:
        return onnxruntime.InferenceSession(source, options, providers=["CPUExecutionProvider"])
    except Exception as error:  # onnxruntime's errors share no base class of their own
        name = model.name if isinstance(model, Path) else "graph"
        raise ArtifactError(f"{name} cannot be executed: {error}") from error


def _quota(root: Path) -> float | None:
    try:
        quota, period = (root / "cpu.max").read_text().split()
        return None if quota == "max" else int(quota) / int(period)
    except (OSError, ValueError):
        pass
    try:
        limit = int((root / "cpu" / "cpu.cfs_quota_us").read_text())
        period_us = int((root / "cpu" / "cpu.cfs_period_us").read_text())
    except (OSError, ValueError):
        return None
    return None if limit <= 0 else limit / period_us
