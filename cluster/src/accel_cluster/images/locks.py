"""Pinned, hashed requirements of every image, resolved from the rooms' pyproject.toml files.

The development environment's versions (requirements/dev.txt) constrain them: what is tested is what is
shipped. Files carry no index address; whoever installs uses the registry that the machine is set up for.
"""

import re
import subprocess
import tomllib
from pathlib import Path

from accel_cluster.images.catalog import LOCKS, Lock
from accel_cluster.images.store import ImageError, repository_root, uv
from accel_cluster.images.wheels import PYTHON

OWN = {
    "accel",
    "accel-runtime",
    "accel-toolchain",
    "fpga-device-plugin",
    "fpga-operator",
    "npu",
}  # built from the rooms
NAME = re.compile(r"^[A-Za-z0-9._-]+")


def _canonical(requirement: str) -> str:
    """Return the package's normalised name (PEP 503)."""
    found = NAME.match(requirement)
    if found is None:
        raise ImageError(f"not a requirement: {requirement!r}")
    return re.sub(r"[-_.]+", "-", found.group()).lower()


def inputs(lock: Lock, root: Path) -> list[str]:
    """Return the third-party requirements of `lock`'s projects, without our own packages."""
    wanted: set[str] = set()
    for source in lock.sources:
        project = tomllib.loads((root / source).read_text())["project"]
        wanted.update(project.get("dependencies", []))
        for extra in lock.extras:
            wanted.update(project.get("optional-dependencies", {}).get(extra, []))
    return sorted(requirement for requirement in wanted if _canonical(requirement) not in OWN)


def write(lock: Lock) -> None:
    """Resolve `lock` anew and write its requirements file."""
    root = repository_root()
    command = [uv(), "pip", "compile", "--quiet", "--generate-hashes", "--no-header", "--no-annotate"]
    command += ["--no-emit-index-url", "--no-emit-find-links", "--python-version", PYTHON]
    command += ["--constraint", "requirements/dev.txt", "--output-file", str(lock.requirements), "-"]
    text = "\n".join(inputs(lock, root)) + "\n"
    done = subprocess.run(command, input=text, text=True, capture_output=True, cwd=root, check=False)
    if done.returncode != 0:
        raise ImageError(f"{lock.requirements} cannot be resolved:\n{done.stderr.strip()}")


def write_all() -> list[str]:
    """Write every requirements file; return their paths."""
    root = repository_root()
    written = []
    for lock in LOCKS:
        if all((root / source).exists() for source in lock.sources):
            write(lock)
            written.append(str(lock.requirements))
    return written
