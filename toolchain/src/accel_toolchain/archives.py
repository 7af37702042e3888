"""Unpacking what a stranger packed: tar, tar.gz and zip, within bounds.

Only folders and regular files are made, only below the target, and only so many of them. Links are refused
rather than followed or checked: a model needs none, and every rule about links has had its hole.
"""

import gzip
import io
import lzma
import os
import stat
import tarfile
import zipfile
import zlib
from collections.abc import Callable
from pathlib import Path, PurePosixPath
from typing import IO

from accel_toolchain.conditions import Terminal

MAX_MEMBERS = 20_000
_MAX_DEPTH = 32
_CHUNK = 1 << 20
# tarfile reads an extended header in one call of the size that the header claims; file contents come in small
# pieces.
_MAX_READ = 8 << 20


def is_archive(path: Path) -> bool:
    """Tell by content whether a file is a tar, a gzip or a zip."""
    with path.open("rb") as file:
        head = file.read(512)
    return head[:2] == b"\x1f\x8b" or head[:4] in (b"PK\x03\x04", b"PK\x05\x06") or head[257:262] == b"ustar"


def unpack(archive: Path, target: Path, max_bytes: int) -> None:
    """Unpack an archive below `target`, at most `max_bytes` of file content.

    Raises:
        Terminal: BadArchive (truncated, damaged, hostile) or SourceTooLarge.
    """
    with archive.open("rb") as file:
        head = file.read(4)
    try:
        if head.startswith(b"PK"):
            _unpack_zip(archive, target, max_bytes)
        elif head.startswith(b"\x1f\x8b"):
            with gzip.open(archive, "rb") as stream:
                _unpack_tar(stream, target, max_bytes)
        else:
            with archive.open("rb") as stream:
                _unpack_tar(stream, target, max_bytes)
    except (
        tarfile.TarError,
        zipfile.BadZipFile,
        EOFError,
        zlib.error,
        gzip.BadGzipFile,
        lzma.LZMAError,
    ) as error:
        raise _bad(f"it is truncated or damaged ({error})") from error
    except (RuntimeError, NotImplementedError) as error:  # zipfile: encrypted member, unknown compression
        raise _bad(f"it uses what is not supported ({error})") from error


class _Budget:
    """Counts what was unpacked and ends it in time."""

    def __init__(self, max_bytes: int) -> None:
        self.max_bytes = self.bytes_left = max_bytes
        self.members_left = MAX_MEMBERS

    def member(self) -> None:
        self.members_left -= 1
        if self.members_left < 0:
            raise _bad(f"it has more than {MAX_MEMBERS} members")

    def spend(self, count: int) -> None:
        self.bytes_left -= count
        if self.bytes_left < 0:
            raise Terminal(
                "SourceTooLarge",
                f"spec.source.uri: unpacked, the archive exceeds the limit of {self.max_bytes} bytes. "
                "Leave out what serving does not need, or have the limit for sources raised.",
            )


class _Bounded(io.RawIOBase):
    """A stream for tarfile that refuses one large read and an endless run of headers."""

    def __init__(self, stream: IO[bytes] | gzip.GzipFile, limit: int) -> None:
        self._stream = stream
        self._limit = limit

    def read(self, size: int | None = -1) -> bytes:
        if size is None or size < 0 or size > _MAX_READ:
            raise _bad("a header claims an absurd size")
        if self._stream.tell() > self._limit:
            raise _bad("it is a decompression bomb")
        return self._stream.read(size)

    def tell(self) -> int:
        return self._stream.tell()

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        return self._stream.seek(offset, whence)


def _unpack_tar(stream: IO[bytes] | gzip.GzipFile, target: Path, max_bytes: int) -> None:
    budget = _Budget(max_bytes)
    bounded = _Bounded(stream, 2 * max_bytes + (64 << 20))  # padding and headers come on top of the contents
    with tarfile.open(fileobj=bounded, mode="r:") as tar:
        for member in tar:
            budget.member()
            path = _inside(target, member.name)
            if member.isdir():
                path.mkdir(parents=True, exist_ok=True)
            elif member.isreg() and not member.issparse():
                if member.size > budget.bytes_left:
                    budget.spend(member.size)
                content = tar.extractfile(member)
                assert content is not None
                _write(path, content.read, budget)
            else:
                raise _bad(
                    f"'{member.name}' is a link or a special file; pack regular files only (tar "
                    "--dereference)"
                )


def _unpack_zip(archive: Path, target: Path, max_bytes: int) -> None:
    budget = _Budget(max_bytes)
    with zipfile.ZipFile(archive) as content:
        for member in content.infolist():
            budget.member()
            path = _inside(target, member.filename)
            mode = member.external_attr >> 16
            if stat.S_IFMT(mode) not in (0, stat.S_IFREG, stat.S_IFDIR):
                raise _bad(f"'{member.filename}' is a link or a special file; pack regular files only")
            if member.is_dir():
                path.mkdir(parents=True, exist_ok=True)
                continue
            with content.open(member) as stream:
                _write(path, stream.read, budget)


def _inside(target: Path, name: str) -> Path:
    path = PurePosixPath(name.replace("\\", "/"))
    if (
        path.is_absolute()
        or ".." in path.parts
        or "\0" in name
        or ":" in (path.parts[0] if path.parts else "")
    ):
        raise _bad(f"'{name}' lies outside of it")
    if len(path.parts) > _MAX_DEPTH:
        raise _bad(f"'{name[:80]}…' is nested more than {_MAX_DEPTH} folders deep")
    return target.joinpath(*path.parts)


def _write(path: Path, read: Callable[[int], bytes], budget: _Budget) -> None:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        # O_EXCL: a name that occurs twice, or a file where a folder is wanted, is refused.
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o644)
    except (FileExistsError, NotADirectoryError) as error:
        raise _bad(f"'{path.name}' occurs twice in it") from error
    except OSError as error:
        if error.errno in (36, 22):  # ENAMETOOLONG, EINVAL
            raise _bad(f"'{path.name[:80]}…' cannot be a file's name") from error
        raise
    with os.fdopen(descriptor, "wb") as file:
        while data := read(_CHUNK):
            budget.spend(len(data))
            file.write(data)


def _bad(why: str) -> Terminal:
    return Terminal(
        "BadArchive", f"spec.source.uri: the archive was not unpacked: {why}. Pack the model again."
    )
