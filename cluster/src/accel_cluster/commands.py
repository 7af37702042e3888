"""Running other programs: one place that turns a failure into a message with the program's own last words."""

import os
import shutil
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path

from accel_cluster.errors import Failed

LAST_LINES = 15
SYSTEM_PATH = (
    "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"  # a login shell's PATH may lack sbin
)


def search_path(*first: Path) -> str:
    """Return a PATH with `first`, the caller's own and the system's folders."""
    return ":".join([*map(str, first), os.environ.get("PATH", ""), SYSTEM_PATH]).replace("::", ":")


def run(
    argv: Sequence[str | Path],
    *,
    stdin: str | bytes | None = None,
    environment: Mapping[str, str] | None = None,
    cwd: Path | None = None,
    timeout: float | None = None,
) -> str:
    """Run a program and return its standard output; raise Failed with the end of its output if it fails."""
    words = [str(word) for word in argv]
    given = stdin.encode() if isinstance(stdin, str) else stdin
    try:
        done = subprocess.run(
            words,
            input=given,
            stdin=subprocess.DEVNULL if given is None else None,
            capture_output=True,
            env={**os.environ, "PATH": search_path(), **(environment or {})},
            cwd=cwd,
            timeout=timeout,
            check=False,
        )
    except FileNotFoundError as error:
        raise Failed(f"{words[0]}: no such program") from error
    except subprocess.TimeoutExpired as error:
        raise Failed(f"{' '.join(words[:4])} …: no end after {timeout:.0f} s") from error
    if done.returncode != 0:
        said = (done.stderr + b"\n" + done.stdout).decode(errors="replace").strip().splitlines()[-LAST_LINES:]
        raise Failed(f"{' '.join(words)[:300]}: exit code {done.returncode}\n  " + "\n  ".join(said))
    return done.stdout.decode(errors="replace")


def succeeds(argv: Sequence[str | Path], timeout: float = 20) -> bool:
    """Return whether the program is there and ends with exit code 0 in time."""
    if shutil.which(str(argv[0]), path=search_path()) is None:
        return False
    try:
        run(argv, timeout=timeout)
    except Failed:
        return False
    return True
