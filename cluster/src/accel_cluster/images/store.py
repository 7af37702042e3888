"""Where builds keep what they made: ~/.cache/accel-images, and the few ways to run a tool or hash a tree.

Nothing of the user's own container storage is touched: buildah gets its own root below this folder.
"""

import contextlib
import hashlib
import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path

IGNORED = {"__pycache__", ".pytest_cache", ".mypy_cache", ".ruff_cache"}


class ImageError(Exception):
    """An image could not be built or pushed; the message ends with what the tool said."""


def repository_root() -> Path:
    """Return the checkout that this package lies in (it is installed editable, never from a wheel)."""
    return Path(__file__).resolve().parents[4]


def cache() -> Path:
    """Return the cache folder, made if need be."""
    base = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    folder = base / "accel-images"
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def run(command: Sequence[str], *, cwd: Path | None = None, env: dict[str, str] | None = None) -> str:
    """Run `command`; return its output.

    Raises ImageError with the last lines of what it said, when it fails.
    """
    done = subprocess.run(command, cwd=cwd, env=env, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        said = (done.stdout + done.stderr).strip().splitlines()[-15:]
        raise ImageError(f"`{' '.join(command[:4])} …` ended with {done.returncode}:\n" + "\n".join(said))
    return done.stdout


def uv() -> str:
    """Return the path of uv: the one on PATH, or the one that scripts/bootstrap keeps."""
    base = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    kept = base / "accel-bootstrap" / "bin" / "uv"
    found = str(kept) if kept.exists() else shutil.which("uv")
    if found is None:
        raise ImageError("uv is missing; `scripts/bootstrap` installs it")
    return found


def digest(*parts: bytes) -> str:
    """Return one hex digest over `parts`, each kept apart from the next."""
    total = hashlib.sha256()
    for part in parts:
        total.update(len(part).to_bytes(8, "little"))
        total.update(part)
    return total.hexdigest()


def tree_digest(paths: Sequence[Path], root: Path) -> str:
    """Return a digest over the files at and below `paths`: names relative to `root`, and contents."""
    parts: list[bytes] = []
    for path in sorted(paths):
        files = sorted(path.rglob("*")) if path.is_dir() else [path]
        for file in files:
            if file.is_file() and not IGNORED.intersection(file.parts):
                parts += [str(file.relative_to(root)).encode(), file.read_bytes()]
    return digest(*parts)


@contextlib.contextmanager
def new_folder(final: Path) -> Iterator[Path]:
    """Fill a temporary folder that becomes `final` when the block ends well, and vanishes when it does
    not.
    """
    final.parent.mkdir(parents=True, exist_ok=True)
    temporary = Path(tempfile.mkdtemp(prefix=".making-", dir=final.parent))
    try:
        yield temporary
        if not final.exists():
            temporary.rename(final)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
