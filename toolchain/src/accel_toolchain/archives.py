"""Unpacking what a stranger packed: tar, tar.gz and zip, within bounds, each refusal with a reason of its own.

Only folders and regular files are made, only below the target, and only so many of them. Links are refused
rather than followed or checked: a model needs none, and every rule about links has had its hole.
"""

import errno
import gzip
import io
import lzma
import os
import stat
import tarfile
import zipfile
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import IO

from accel_toolchain.conditions import Terminal

_MAX_DEPTH = 32
_FREE_BYTES = 64 << 20  # below it no ratio is judged: a small archive of zeros harms nobody
_CHUNK = 1 << 20
# tarfile reads an extended header in one call of the size that the header claims; file contents come in small
# pieces.
_MAX_READ = 8 << 20
# Faults of the disk, not of the archive.
_OURS = {errno.ENOSPC, errno.EDQUOT, errno.EIO, errno.EACCES, errno.EROFS, errno.EMFILE}


@dataclass(frozen=True)
class Bounds:
    """What an archive may become; the names are those of the chart's settings under operator.jobs."""

    max_bytes: int
    max_files: int = 20_000
    max_ratio: int = 200


def is_archive(path: Path) -> bool:
    """Tell by content whether a file is a tar, a gzip or a zip."""
    with path.open("rb") as file:
        head = file.read(512)
    return head[:2] == b"\x1f\x8b" or head[:4] in (b"PK\x03\x04", b"PK\x05\x06") or head[257:262] == b"ustar"


def unpack(archive: Path, target: Path, bounds: Bounds) -> None:
    """Unpack an archive below `target`, within the bounds.

    Raises:
        Terminal: ArchiveDamaged, ArchivePathEscapes, ArchivePathAbsolute, ArchiveHasLinks, ArchiveHasSpecialFiles,
        ArchiveBomb, ArchiveTooManyFiles, SourceTooLarge; BadArchive for the rest.
    """
    budget = _Budget(bounds, archive.stat().st_size)
    with archive.open("rb") as file:
        head = file.read(4)
    try:
        if head.startswith(b"PK"):
            _unpack_zip(archive, target, budget)
        elif head.startswith(b"\x1f\x8b"):
            with gzip.open(archive, "rb") as stream:
                _unpack_tar(stream, target, budget)
        else:
            with archive.open("rb") as stream:
                _unpack_tar(stream, target, budget)
    except (
        tarfile.TarError,
        zipfile.BadZipFile,
        EOFError,
        zlib.error,
        gzip.BadGzipFile,
        lzma.LZMAError,
    ) as error:
        why = f"it is truncated or damaged ({error})"
        raise _bad(why, "ArchiveDamaged", "Pack the model again and push or upload all of it") from error
    except (RuntimeError, NotImplementedError) as error:  # zipfile: encrypted member, unknown compression
        raise _bad(f"it uses what is not supported ({error})") from error
    except (ValueError, OSError) as error:  # what the libraries make of headers that nobody would write
        if isinstance(error, OSError) and error.errno in _OURS:
            raise
        raise _bad(f"it is damaged, or its names cannot be made ({error})", "ArchiveDamaged") from error


class _Budget:
    """Counts what was unpacked and ends it in time."""

    def __init__(self, bounds: Bounds, packed: int) -> None:
        self.bounds = bounds
        self.packed = packed
        self.spent = 0
        self.members_left = bounds.max_files

    @property
    def most(self) -> int:
        """Bytes after which the archive is a bomb: so many times its own size."""
        return max(_FREE_BYTES, self.packed * self.bounds.max_ratio)

    def member(self) -> None:
        self.members_left -= 1
        if self.members_left < 0:
            raise _bad(
                f"it has more than {self.bounds.max_files} files and folders",
                "ArchiveTooManyFiles",
                "Pack only the model, or have operator.jobs.maxSourceFiles of the chart raised",
            )

    def spend(self, count: int) -> None:
        self.spent += count
        if self.spent > min(self.bounds.max_bytes, self.most):
            raise self.exceeded()

    def expect(self, count: int) -> None:
        """Refuse what a header announces before any of it is written."""
        if self.spent + count > min(self.bounds.max_bytes, self.most):
            raise self.exceeded()

    def exceeded(self) -> Terminal:
        """Return the condition for an archive that becomes too large: by its content, or by its ratio."""
        if self.most < self.bounds.max_bytes:
            return _bad(
                f"it is a decompression bomb: {self.packed} bytes become more than {self.most} (allowed are "
                f"{self.bounds.max_ratio} times as many, and {_FREE_BYTES >> 20} MiB in any case)",
                "ArchiveBomb",
                "Pack the model without padding, or have operator.jobs.maxSourceRatio of the chart raised",
            )
        return Terminal(
            "SourceTooLarge",
            f"spec.source.uri: unpacked, the archive exceeds the limit of {self.bounds.max_bytes} bytes. "
            "Leave out what serving does not need, or have operator.jobs.maxSourceBytes of the chart raised.",
        )


class _Bounded(io.RawIOBase):
    """A stream for tarfile that refuses one large read and an endless run of headers."""

    def __init__(self, stream: IO[bytes] | gzip.GzipFile, budget: _Budget) -> None:
        self._stream = stream
        self._budget = budget
        # Padding and headers come on top of the contents.
        self._limit = 2 * min(budget.bounds.max_bytes, budget.most) + _FREE_BYTES
        self.last = b""

    def read(self, size: int | None = -1) -> bytes:
        if size is None or size < 0 or size > _MAX_READ:
            raise _bad("a header claims an absurd size")
        if self._stream.tell() > self._limit:
            raise self._budget.exceeded()
        self.last = self._stream.read(size)
        return self.last

    def tell(self) -> int:
        return self._stream.tell()

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        return self._stream.seek(offset, whence)


def _unpack_tar(stream: IO[bytes] | gzip.GzipFile, target: Path, budget: _Budget) -> None:
    bounded = _Bounded(stream, budget)
    with tarfile.open(fileobj=bounded, mode="r:") as tar:
        for member in tar:
            budget.member()
            path = _inside(target, member.name)
            if member.isdir():
                path.mkdir(parents=True, exist_ok=True)
            elif member.isreg() and not member.issparse():
                budget.expect(member.size)
                content = tar.extractfile(member)
                assert content is not None
                _write(path, content.read, budget)
            else:
                raise _not_regular(member.name, link=member.issym() or member.islnk())
        # tarfile takes any header that it cannot read for the end, and leaves gzip's checksum behind it unread.
        if bounded.last != bytes(tarfile.BLOCKSIZE):
            raise tarfile.ReadError("it does not end as a tar does")
        while bounded.read(_CHUNK):
            pass


def _unpack_zip(archive: Path, target: Path, budget: _Budget) -> None:
    with zipfile.ZipFile(archive) as content:
        for member in content.infolist():
            budget.member()
            path = _inside(target, member.filename)
            mode = member.external_attr >> 16
            if stat.S_IFMT(mode) not in (0, stat.S_IFREG, stat.S_IFDIR):
                raise _not_regular(member.filename, link=stat.S_ISLNK(mode))
            if member.is_dir():
                path.mkdir(parents=True, exist_ok=True)
                continue
            with content.open(member) as stream:
                _write(path, stream.read, budget)


def _inside(target: Path, name: str) -> Path:
    path = PurePosixPath(name.replace("\\", "/"))
    if path.is_absolute() or ":" in (path.parts[0] if path.parts else ""):
        why = f"'{name}' is an absolute path"
        raise _bad(
            why, "ArchivePathAbsolute", "Pack with paths relative to the model's folder (tar -C DIR .)"
        )
    if ".." in path.parts or "\0" in name:
        why = f"'{name}' lies outside of it"
        raise _bad(why, "ArchivePathEscapes", "Pack with paths below the model's folder (tar -C DIR .)")
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


def _not_regular(name: str, *, link: bool) -> Terminal:
    if link:
        cure = "Pack the files that links lead to instead (tar --dereference)"
        return _bad(f"'{name}' is a link", "ArchiveHasLinks", cure)
    why = f"'{name}' is a special file (a device, a pipe, a sparse file)"
    return _bad(why, "ArchiveHasSpecialFiles", "Pack regular files and folders only")


def _bad(why: str, reason: str = "BadArchive", cure: str = "Pack the model again") -> Terminal:
    return Terminal(reason, f"spec.source.uri: the archive was not unpacked: {why}. {cure}.")
