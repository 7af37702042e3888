"""The cluster's cgroups: what limits its pods, and the proof of which processes are the cluster's.

Every process of the cluster starts in, or is born into, a cgroup below one that carries the cluster's name.
The kernel keeps that book, so whatever is killed, orphaned or renamed, `members` finds exactly the cluster's
processes. Version 1, version 2 and the hybrid of both are handled alike: "in every hierarchy that is
mounted".
"""

import contextlib
import os
import signal
import time
from collections.abc import Iterator
from pathlib import Path

from accel_cluster.errors import Failed

DAEMONS = "daemons"  # leaf for a machine's own processes: version 2 allows none in a cgroup that has children


def hierarchies() -> list[Path]:
    """Return the mount points of all cgroup hierarchies, each once."""
    found = []
    for line in Path("/proc/self/mounts").read_text().splitlines():
        _, place, kind, *_ = line.split()
        if kind in {"cgroup", "cgroup2"} and Path(place) not in found:
            found.append(Path(place))
    return found


def ensure(name: str) -> None:
    """Make the cgroup `name` ("a/b") in every hierarchy, able to hold processes and children."""
    for root in hierarchies():
        here = root
        for part in Path(name).parts:
            _delegate(here)
            parent, here = here, here / part
            here.mkdir(exist_ok=True)
            # Version 1 starts a cpuset empty, and processes cannot enter an empty one.
            for setting in ("cpuset.cpus", "cpuset.mems"):
                own = here / setting
                if (parent / setting).exists() and own.exists() and not own.read_text().strip():
                    own.write_text((parent / setting).read_text())
            if (here / "cgroup.clone_children").exists():
                (here / "cgroup.clone_children").write_text("1")


def join(name: str, pid: int) -> None:
    """Move a process into the cgroup `name` of every hierarchy."""
    for root in hierarchies():
        (root / name / "cgroup.procs").write_text(str(pid))


def members(name: str) -> set[int]:
    """Return the process ids in `name` and below it, over all hierarchies."""
    pids: set[int] = set()
    for folder in _folders(name):
        with contextlib.suppress(OSError):  # gone between listing and reading
            pids.update(map(int, (folder / "cgroup.procs").read_text().split()))
    return pids - {0}  # 0: a process of a pid namespace above ours


def kill(name: str, timeout: float = 30) -> None:
    """SIGKILL every process in `name` and below until there is none."""
    deadline = time.monotonic() + timeout
    while pids := members(name):
        if time.monotonic() > deadline:
            raise Failed(f"processes of the cluster that SIGKILL does not end: {sorted(pids)}")
        for pid in pids:
            # Reading and killing are two steps. What joined the cgroup can only have been started by the
            # cluster, and a pid that is reused within this millisecond would have to be: pids are handed out
            # in a circle.
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        time.sleep(0.05)


def remove(name: str, timeout: float = 10) -> None:
    """Remove `name` and everything below it from every hierarchy; they must hold no process."""
    deadline = time.monotonic() + timeout
    while folders := list(_folders(name)):
        for folder in folders:
            with contextlib.suppress(OSError):  # still busy while the kernel buries the last process
                folder.rmdir()
        if time.monotonic() > deadline:
            raise Failed(f"cgroups that do not go away: {', '.join(map(str, folders[:5]))}")
        time.sleep(0.02)


def exists(name: str) -> bool:
    """Return whether any hierarchy has the cgroup `name`."""
    return any((root / name).is_dir() for root in hierarchies())


def _folders(name: str) -> Iterator[Path]:
    """Yield the folders of `name` and below, deepest first."""
    for root in hierarchies():
        for place, _, _ in os.walk(root / name, topdown=False):
            yield Path(place)


def _delegate(folder: Path) -> None:
    """Let the children of a version-2 cgroup use every controller that it has itself."""
    controllers, switch = folder / "cgroup.controllers", folder / "cgroup.subtree_control"
    if controllers.exists() and switch.exists():
        for controller in controllers.read_text().split():
            with contextlib.suppress(OSError):  # not delegated to us: the kubelet names what it misses
                switch.write_text(f"+{controller}")
