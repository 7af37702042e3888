"""Sealed memory: nobody can pull it away from under the other."""

import fcntl
import os
import tempfile

import pytest
from npu.device import memory


def test_seals_hold() -> None:
    with memory.make("test", 8192) as region:
        for size in (0, 4096, 16384):
            with pytest.raises(PermissionError):
                os.ftruncate(region.fd, size)
        with pytest.raises(PermissionError):
            fcntl.fcntl(region.fd, fcntl.F_ADD_SEALS, fcntl.F_SEAL_WRITE)


def test_both_sides_see_the_same_bytes() -> None:
    with memory.make("test", 8192) as ours, memory.adopt(os.dup(ours.fd), 8192) as theirs:
        ours.write(4096, b"abc")
        assert theirs.read(4096, 3) == b"abc"
        copy = theirs.read(4096, 3)
        ours.write(4096, b"xyz")
        assert copy == b"abc"


@pytest.mark.parametrize(("offset", "size"), [(-1, 1), (0, -1), (0, 101), (100, 1), (2**63, 1)])
def test_nothing_outside(offset: int, size: int) -> None:
    with memory.make("test", 100) as region, pytest.raises(ValueError, match="do not lie in"):
        region.read(offset, size)


def test_foreign_memory_is_refused() -> None:
    unsealed = os.memfd_create("unsealed", os.MFD_ALLOW_SEALING)
    os.ftruncate(unsealed, 100)
    growing = os.memfd_create("growing", os.MFD_ALLOW_SEALING)
    os.ftruncate(growing, 100)
    fcntl.fcntl(growing, fcntl.F_ADD_SEALS, fcntl.F_SEAL_GROW)
    with memory.make("small", 50) as region:
        small = os.dup(region.fd)
    with tempfile.TemporaryFile() as file:
        for fd in (unsealed, growing, small, os.dup(file.fileno())):
            with pytest.raises(memory.UnsealedMemory):
                memory.adopt(fd, 100)
            with pytest.raises(OSError, match="Bad file descriptor"):
                os.fstat(fd)
