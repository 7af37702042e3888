"""Taking away a folder in which things may be mounted."""

import shutil
from pathlib import Path

from accel_cluster.commands import run


def remove_tree(folder: Path, last: str) -> None:
    """Remove `folder` with everything below it, never through a mount into something else.

    The file `last` goes last: while it is there, an interrupted removal is known as such and taken up again.
    """
    _unmount_below(folder)
    for entry in folder.iterdir():
        if entry.name != last:
            shutil.rmtree(entry) if entry.is_dir() and not entry.is_symlink() else entry.unlink()
    shutil.rmtree(folder)


def _unmount_below(folder: Path) -> None:
    """Unmount whatever is mounted below `folder` on the host, last mounted first."""
    places = [line.split()[4] for line in Path("/proc/self/mountinfo").read_text().splitlines()]
    for place in reversed(places):
        if Path(place).is_relative_to(folder):
            run(["umount", "--lazy", place])
