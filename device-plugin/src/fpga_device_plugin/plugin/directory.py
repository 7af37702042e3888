"""Tells when something in a directory comes, goes or is replaced: inotify by three system calls, without a
library.
"""

import asyncio
import ctypes
import os
from pathlib import Path

from npu.device.changes import Changes

__all__ = ["Directory", "Identity", "identity"]

# linux/inotify.h
IN_NONBLOCK, IN_CLOEXEC = os.O_NONBLOCK, os.O_CLOEXEC
IN_MOVED_FROM, IN_MOVED_TO, IN_CREATE, IN_DELETE, IN_DELETE_SELF = 0x40, 0x80, 0x100, 0x200, 0x400
EVENTS = IN_MOVED_FROM | IN_MOVED_TO | IN_CREATE | IN_DELETE | IN_DELETE_SELF
READ = 1 << 16  # bytes; what the events say is not read: whoever is woken looks for himself

Identity = tuple[int, int, int]  # device, inode, time of change: the kernel reuses inode numbers at once


def identity(path: Path) -> Identity | None:
    """Return what distinguishes this file from a later one of the same name, or None if there is none."""
    try:
        found = path.stat()
    except FileNotFoundError:
        return None
    return found.st_dev, found.st_ino, found.st_ctime_ns


class Directory:
    """An inotify watch of one directory, as Changes. Raises OSError if the directory cannot be watched."""

    def __init__(self, path: Path) -> None:
        self.changes = Changes()
        libc = ctypes.CDLL(None, use_errno=True)
        self._fd: int = libc.inotify_init1(IN_NONBLOCK | IN_CLOEXEC)
        if self._fd < 0 or libc.inotify_add_watch(self._fd, os.fsencode(path), EVENTS) < 0:
            number = ctypes.get_errno()
            self.close()
            raise OSError(number, os.strerror(number), str(path))
        asyncio.get_running_loop().add_reader(self._fd, self._readable)

    def _readable(self) -> None:
        os.read(self._fd, READ)
        self.changes.notify()

    def close(self) -> None:
        """Stop watching."""
        if self._fd >= 0:
            asyncio.get_running_loop().remove_reader(self._fd)
            os.close(self._fd)
            self._fd = -1
