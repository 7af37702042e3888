"""Sources in a claim: real folders, and every path that would lead out of them."""

import hashlib
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from accel_toolchain import jobs
from accel_toolchain.archives import Bounds
from accel_toolchain.claims import ClaimSource
from accel_toolchain.conditions import Terminal
from accel_toolchain.download import Deadline
from accel_toolchain.fetch import fetch
from accel_toolchain.workspace import Workspace

Make = Callable[..., str]


@pytest.fixture
def claim(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A claim as it is mounted: a folder, a file, what an ext4 volume adds, and links that lead out."""
    root = tmp_path / "claim"
    for name in ("nets/v1/saved_model.pb", "nets/v1/variables/variables.index", "alone.onnx", "readme.txt"):
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(name.encode())
    (root / "lost+found").mkdir(mode=0o700)
    (root / "links").mkdir()
    (root / "links" / "key").symlink_to("/etc/hostname")
    (root / "linked").symlink_to("nets")
    (root / "pipes").mkdir()
    os.mkfifo(root / "pipes" / "pipe")
    (root / "empty").mkdir()
    monkeypatch.setenv("ACCEL_SOURCE_CLAIM", str(root))
    return root


def take(claim: Path, tmp_path: Path, uri: str, bounds: Bounds | None = None) -> tuple[str, set[str]]:
    """Copy a source and return its digest and the files' names."""
    out = tmp_path / "out"
    out.mkdir()
    source = ClaimSource(uri, claim, bounds or Bounds(1 << 20), Deadline(60))
    taken = source.take(tmp_path / "file", out)
    names = {p.relative_to(out).as_posix() for p in out.rglob("*") if p.is_file()}
    return taken.sha256, names if taken.is_folder else {source.name}


def test_a_folders_digest_is_what_the_shell_prints(claim: Path, tmp_path: Path) -> None:
    (claim / "nets" / "v1" / "ünïcode").write_bytes(b"x")
    digest, names = take(claim, tmp_path, "pvc://models/nets/v1/")
    assert names == {"saved_model.pb", "variables/variables.index", "ünïcode"}
    shell = "find . -type f | LC_ALL=C sort | xargs sha256sum | sha256sum"
    printed = subprocess.run(
        ["sh", "-c", shell], cwd=claim / "nets" / "v1", check=True, capture_output=True, text=True
    )
    assert printed.stdout.split()[0] == digest


def test_a_files_digest_is_its_own(claim: Path, tmp_path: Path) -> None:
    digest, names = take(claim, tmp_path, "pvc://models/alone.onnx")
    assert (digest, names) == (hashlib.sha256(b"alone.onnx").hexdigest(), {"alone.onnx"})


def test_all_of_a_claim_without_what_the_file_system_added(claim: Path, tmp_path: Path) -> None:
    for name in ("links/key", "linked", "pipes/pipe"):
        (claim / name).unlink()
    assert "alone.onnx" in take(claim, tmp_path, "pvc://models/")[1]


REFUSED = {
    # name: (path, bounds, reason, what the message says)
    "no such path": ("nets/v2", None, "SourceNotFound", "claim models has no 'nets/v2'; nets holds v1"),
    "no such folder": ("net/v1", None, "SourceNotFound", "its root holds alone.onnx, empty"),
    "a file as a folder": ("alone.onnx/x", None, "SourceHasLinks", "'alone.onnx'"),
    "a link in the path": ("linked/v1", None, "SourceHasLinks", "'linked' in the claim is a link"),
    "a link at the end": ("links/key", None, "SourceHasLinks", "'links/key'"),
    "a link in the folder": ("links", None, "SourceHasLinks", "'key'"),
    "a pipe": ("pipes/pipe", None, "SourceHasLinks", "special file"),
    "a pipe in the folder": ("pipes", None, "SourceHasLinks", "special file"),
    "an empty folder": ("empty", None, "SourceNotFound", "holds no file"),
    "too large": ("nets/v1", Bounds(20), "SourceTooLarge", "limit is 20"),
    "too many": ("nets", Bounds(1 << 20, max_files=1), "SourceTooManyFiles", "operator.jobs.maxSourceFiles"),
}


@pytest.mark.parametrize(("path", "bounds", "reason", "words"), REFUSED.values(), ids=REFUSED)
def test_what_is_refused(
    path: str, bounds: Bounds | None, reason: str, words: str, claim: Path, tmp_path: Path
) -> None:
    with pytest.raises(Terminal) as raised:
        take(claim, tmp_path, f"pvc://models/{path}", bounds)
    assert raised.value.reason == reason
    assert words in raised.value.message
    assert raised.value.message.startswith("spec.source.uri")


def test_a_file_that_may_not_be_read_is_named_with_the_cure(claim: Path) -> None:
    code = (
        "import os\n"
        "from accel_toolchain.archives import Bounds\n"
        "from accel_toolchain.claims import ClaimSource\n"
        "from accel_toolchain.download import Deadline\n"
        "from pathlib import Path\n"
        "os.setgroups([]); os.setgid(65532); os.setuid(65532)\n"
        f"source = ClaimSource('pvc://models/secret.onnx', Path({str(claim)!r}), Bounds(9), Deadline(9))\n"
        "try: source.take(Path('/nowhere/x'), Path('/nowhere'))\n"
        "except Exception as error: print(error.reason, error.message)\n"
    )
    if os.getuid() != 0:
        pytest.skip("only root can make a file that it can give away")
    (claim / "secret.onnx").write_bytes(b"x")
    (claim / "secret.onnx").chmod(0o600)
    for folder in (claim, *claim.parents):
        if folder.stat().st_uid == 0 and str(folder).startswith("/tmp/"):
            folder.chmod(0o755)
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.startswith("SourceDenied"), done.stdout + done.stderr
    assert "chmod -R a+rX" in done.stdout


def test_fetched_from_a_claim(claim: Path, convert_job: Make, work: Workspace) -> None:
    fetch(jobs.parse_convert(convert_job("pvc://models/alone.onnx")), work)
    assert (work.source / "alone.onnx").read_bytes() == b"alone.onnx"
    fetch(jobs.parse_convert(convert_job("pvc://models/nets/v1")), work)
    assert (work.source / "saved_model.pb").is_file()
    with pytest.raises(Terminal) as raised:
        fetch(jobs.parse_convert(convert_job("pvc://models/readme.txt")), work)
    assert raised.value.reason == "NotAModelFile"
