"""Tar layers whose bytes depend on nothing but the files' names and contents.

Sorted, parents included, uid and gid 0, fixed modes, time zero, uncompressed: gzip's bytes differ between
zlib builds, and model weights barely compress. Only regular files are taken: a link could carry a file from
outside into a public layer.
"""

import hashlib
import io
import os
import stat
import tarfile
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import IO

from accel.oci.errors import InvalidContent
from accel.oci.manifests import OCI_LAYER, Descriptor

_FILE_MODE = 0o644
_DIRECTORY_MODE = 0o755


@dataclass(frozen=True)
class Entry:
    """One file of a layer: its path inside (relative, POSIX) and its content, in memory or in a file."""

    path: str
    content: bytes | Path


@dataclass(frozen=True)
class Layer:
    """A written tar file; `descriptor.digest` is also its diff_id, since it is not compressed."""

    path: Path
    descriptor: Descriptor


class _HashingWriter(io.RawIOBase):
    """Counts and hashes what passes to the file, so that the tar is read only once, by the upload."""

    def __init__(self, file: IO[bytes]) -> None:
        self.file = file
        self.hash = hashlib.sha256()
        self.size = 0

    def writable(self) -> bool:
        return True

    def write(self, data: bytes) -> int:  # type: ignore[override]  # tarfile writes bytes only
        self.hash.update(data)
        self.size += len(data)
        return self.file.write(data)


def write_layer(target: Path, entries: Iterable[Entry]) -> Layer:
    """Write the entries as a deterministic tar at `target`.

    Raises:
        InvalidContent: a path is absolute, leaves the layer or occurs twice, or a file is not a regular file.
    """
    files: dict[str, bytes | Path] = {}
    for entry in entries:
        path = PurePosixPath(entry.path)
        if path.is_absolute() or ".." in path.parts or not path.parts or str(path) in files:
            raise InvalidContent(f"'{entry.path}' cannot be a file's path in a layer.")
        files[str(path)] = entry.content
    directories = {str(parent) for name in files for parent in PurePosixPath(name).parents} - {"."}
    with target.open("wb") as file:
        writer = _HashingWriter(file)
        # Stream mode: no seeking, so that the hash sees the bytes in order.
        with tarfile.open(fileobj=writer, mode="w|", format=tarfile.PAX_FORMAT) as tar:
            for name in sorted(directories | files.keys()):
                if name in files:
                    _add_file(tar, name, files[name])
                else:
                    info = _info(name, tarfile.DIRTYPE, _DIRECTORY_MODE)
                    tar.addfile(info)
    return Layer(target, Descriptor(OCI_LAYER, f"sha256:{writer.hash.hexdigest()}", writer.size))


def directory_entries(directory: Path, prefix: str = "") -> Iterator[Entry]:
    """Yield every regular file below a directory, under `prefix` inside the layer.

    Raises:
        InvalidContent: the directory holds a link, a device or another special file, named in the message.
    """
    for root, names, files in os.walk(directory, followlinks=False):
        for name in [*files, *(n for n in names if (Path(root) / n).is_symlink())]:
            path = Path(root) / name
            if not stat.S_ISREG(path.lstat().st_mode):
                raise InvalidContent(
                    f"'{path.relative_to(directory)}' is a link or a special file; "
                    "only regular files can be pushed. Replace it by its content."
                )
            yield Entry(str(PurePosixPath(prefix) / path.relative_to(directory).as_posix()), path)


def open_regular(path: Path) -> IO[bytes]:
    """Open a regular file for reading, never through a link at its last part; raises InvalidContent."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError as error:
        raise InvalidContent(f"'{path.name}' cannot be read as a regular file: {error.strerror}.") from error
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise InvalidContent(f"'{path.name}' is not a regular file.")
    return os.fdopen(descriptor, "rb")


def _info(name: str, kind: bytes, mode: int) -> tarfile.TarInfo:
    info = tarfile.TarInfo(name)
    info.type, info.mode = kind, mode
    info.uid = info.gid = 0
    info.uname = info.gname = ""
    info.mtime = 0
    return info


def _add_file(tar: tarfile.TarFile, name: str, content: bytes | Path) -> None:
    info = _info(name, tarfile.REGTYPE, _FILE_MODE)
    if isinstance(content, bytes):
        info.size = len(content)
        tar.addfile(info, io.BytesIO(content))
        return
    with open_regular(content) as file:
        info.size = os.fstat(file.fileno()).st_size
        tar.addfile(info, file)
