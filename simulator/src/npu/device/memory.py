"""Memory shared between a device and its client: sealed files without a name, always made by the device.

The seals forbid shrinking and growing, so that neither side can be killed (SIGBUS) by the other's truncating
a file under its mapping. What lies in the memory is the client's to change at any time: the device copies
before it looks.
"""

import fcntl
import mmap
import os
from types import TracebackType

__all__ = ["SEALS", "Region", "UnsealedMemory", "adopt", "make"]

SEALS = fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW | fcntl.F_SEAL_SEAL


class UnsealedMemory(Exception):
    """A file descriptor that is not sealed memory of the promised size."""


class Region:
    """A mapped piece of shared memory, `size` bytes. Owns its descriptor; close it or use it as a context
    manager.
    """

    def __init__(self, fd: int, size: int) -> None:
        self.fd = fd
        self.size = size
        self._map = mmap.mmap(fd, size, mmap.MAP_SHARED, mmap.PROT_READ | mmap.PROT_WRITE)

    def read(self, offset: int, size: int) -> bytes:
        """Return a private copy of `size` bytes at `offset`; both must lie inside."""
        self._inside(offset, size)
        return self._map[offset : offset + size]

    def write(self, offset: int, data: bytes | memoryview) -> None:
        """Copy `data` to `offset`; it must fit."""
        self._inside(offset, len(data))
        self._map[offset : offset + len(data)] = data

    def _inside(self, offset: int, size: int) -> None:
        if offset < 0 or size < 0 or offset + size > self.size:
            raise ValueError(f"{size} bytes at {offset} do not lie in {self.size} bytes")

    def close(self) -> None:
        """Unmap and close; closing twice does nothing."""
        if self.fd >= 0:
            self._map.close()
            os.close(self.fd)
            self.fd = -1

    def __enter__(self) -> "Region":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def make(name: str, size: int) -> Region:
    """Make sealed memory of `size` bytes, all zero. `name` is what /proc shows."""
    fd = os.memfd_create(name, os.MFD_ALLOW_SEALING | os.MFD_CLOEXEC)
    try:
        os.ftruncate(fd, size)
        fcntl.fcntl(fd, fcntl.F_ADD_SEALS, SEALS)
        return Region(fd, size)
    except BaseException:
        os.close(fd)
        raise


def adopt(fd: int, size: int) -> Region:
    """Map a descriptor that came over a socket; raise UnsealedMemory (and close it) unless it is sealed and
    that large.
    """
    try:
        seals = fcntl.fcntl(fd, fcntl.F_GET_SEALS)
        if seals & (fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW) != fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW:
            raise UnsealedMemory("the memory could be truncated under us: its seals are missing")
        if os.fstat(fd).st_size != size:
            raise UnsealedMemory(f"the memory has {os.fstat(fd).st_size} bytes, not {size}")
        return Region(fd, size)
    except OSError as error:  # EINVAL: not a memfd at all
        os.close(fd)
        raise UnsealedMemory(f"not sealed memory: {error}") from None
    except UnsealedMemory:
        os.close(fd)
        raise
