"""A source in a PersistentVolumeClaim: copied file by file, never through a link.

The claim's content may change while it is read, and this container also sees Secrets: every folder and file is opened
relative to the one above it, with links refused, so that no path can lead out of the claim.
"""

import hashlib
import os
import stat
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from accel_toolchain.archives import Bounds
from accel_toolchain.conditions import Failure, Terminal, Transient, listed
from accel_toolchain.download import Deadline, too_large
from accel_toolchain.progress import progress

SCHEME: Final = "pvc://"
_CHUNK: Final = 1 << 20
_DIRECTORY: Final = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_FILE: Final = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
_NOT_THE_USERS: Final = "lost+found"  # an ext4 volume's own folder, at its root


@dataclass(frozen=True)
class Taken:
    """What was copied: one file or a folder, and the digest of it."""

    sha256: str
    is_folder: bool


class ClaimSource:
    """One `pvc://CLAIM/PATH`, with the claim mounted at `root`."""

    def __init__(self, uri: str, root: Path, bounds: Bounds, deadline: Deadline) -> None:
        self.uri = uri
        claim, _, path = uri.removeprefix(SCHEME).partition("/")
        self.claim = claim
        self.parts = [part for part in path.split("/") if part]
        self._root = root
        self._bounds = bounds
        self._deadline = deadline
        self._bytes = 0

    @property
    def name(self) -> str:
        """Last part of the path."""
        return self.parts[-1] if self.parts else ""

    def take(self, file: Path, folder: Path) -> Taken:
        """Copy a single file to `file`, or a folder's content below `folder`.

        The digest of a folder is that of the lines `<sha256>  ./<path>`, sorted by path: what `find . -type f |
        LC_ALL=C sort | xargs sha256sum | sha256sum` prints.

        Raises:
            Terminal: SourceNotFound, SourceDenied (not readable), SourceHasLinks, SourceTooLarge, SourceTooManyFiles.
            Transient: SourceUnavailable.
        """
        try:
            descriptor = self._open()
            try:
                if stat.S_ISDIR(os.fstat(descriptor).st_mode):
                    return Taken(self._folder(descriptor, folder), is_folder=True)
                return Taken(self._copy(descriptor, file), is_folder=False)
            finally:
                os.close(descriptor)
        except PermissionError as error:
            raise Terminal(
                "SourceDenied",
                f"spec.source.uri {self.uri}: '{error.filename}' is not readable for the Job's user 65532; mend it "
                "with chmod -R a+rX.",
            ) from error
        except OSError as error:
            raise Transient(
                "SourceUnavailable",
                f"spec.source.uri {self.uri}: the claim cannot be read: {error.strerror}.",
            ) from error

    def _open(self) -> int:
        """Open the path's end, part by part."""
        here = os.open(self._root, _DIRECTORY)
        for place, part in enumerate(self.parts):
            try:
                last = place == len(self.parts) - 1
                following = os.open(part, _FILE if last else _DIRECTORY, dir_fd=here)
            except FileNotFoundError as error:
                raise self._missing(here, place) from error
            except PermissionError:
                raise
            except OSError as error:  # ELOOP for a link, ENOTDIR for a file (or a link) in the middle
                raise self._not_regular("/".join(self.parts[: place + 1])) from error
            finally:
                os.close(here)
            here = following
        mode = os.fstat(here).st_mode
        if not stat.S_ISREG(mode) and not stat.S_ISDIR(mode):
            os.close(here)
            raise self._not_regular("/".join(self.parts))
        return here

    def _folder(self, descriptor: int, target: Path) -> str:
        lines = {}
        for count, (path, file) in enumerate(self._walk(descriptor)):
            if count >= self._bounds.max_files:
                raise Terminal(
                    "SourceTooManyFiles",
                    f"spec.source.uri {self.uri}: the folder has more than {self._bounds.max_files} files. Name the "
                    "model's own folder, or have operator.jobs.maxSourceFiles of the chart raised.",
                )
            copy = target / path
            copy.parent.mkdir(parents=True, exist_ok=True)
            lines[path] = self._copy(file, copy)
        if not lines:
            raise Terminal("SourceNotFound", f"spec.source.uri {self.uri}: the folder holds no file.")
        text = "".join(f"{lines[path]}  ./{path}\n" for path in sorted(lines, key=os.fsencode))
        return hashlib.sha256(os.fsencode(text)).hexdigest()

    def _walk(self, descriptor: int) -> Iterator[tuple[str, int]]:
        """Yield every regular file below an open folder, open, by its path."""
        for root, folders, files, here in os.fwalk(".", dir_fd=descriptor, onerror=_raise):
            prefix = root.removeprefix(".").removeprefix("/")
            if not prefix and not self.parts and _NOT_THE_USERS in folders:
                folders.remove(_NOT_THE_USERS)
            folders.sort()
            for name in sorted([*files, *(n for n in folders if _is_link(n, here))]):
                path = f"{prefix}/{name}" if prefix else name
                try:
                    file = os.open(name, _FILE, dir_fd=here)
                except PermissionError as error:
                    raise PermissionError(error.errno, error.strerror, path) from error
                except OSError as error:
                    raise self._not_regular(path) from error
                try:
                    if not stat.S_ISREG(os.fstat(file).st_mode):
                        raise self._not_regular(path)
                    yield path, file
                finally:
                    os.close(file)

    def _copy(self, source: int, target: Path) -> str:
        digest = hashlib.sha256()
        with target.open("wb") as file:
            while chunk := os.read(source, _CHUNK):
                self._bytes += len(chunk)
                if self._bytes > self._bounds.max_bytes:
                    raise too_large(self._bytes, self._bounds.max_bytes)
                self._deadline.check()
                progress.moved("copied", self._bytes, None)
                digest.update(chunk)
                file.write(chunk)
        return digest.hexdigest()

    def _missing(self, here: int, place: int) -> Failure:
        there = listed(sorted(name for name in os.listdir(here) if name != _NOT_THE_USERS)) or "nothing"
        folder, path = "/".join(self.parts[:place]) or "its root", "/".join(self.parts[: place + 1])
        return Terminal(
            "SourceNotFound",
            f"spec.source.uri {self.uri}: claim {self.claim} has no '{path}'; {folder} holds {there}. Correct the "
            "path, or put the model there.",
        )

    def _not_regular(self, path: str) -> Failure:
        return Terminal(
            "SourceHasLinks",
            f"spec.source.uri {self.uri}: '{path}' in the claim is a link or a special file. Replace it by its "
            "content.",
        )


def _is_link(name: str, here: int) -> bool:
    return stat.S_ISLNK(os.stat(name, dir_fd=here, follow_symlinks=False).st_mode)


def _raise(error: OSError) -> None:
    raise error
