"""Debian packages: what the cluster takes from the distribution, installed when missing.

Installing a daemon's package must not start the daemon, so a `policy-rc.d` forbids it for as long as apt
runs.
"""

import contextlib
import os
import platform
from collections.abc import Iterator
from pathlib import Path

from accel_cluster import progress
from accel_cluster.commands import run
from accel_cluster.errors import Failed, Refused

REQUIRED = (
    "buildah",
    "ca-certificates",
    "conntrack",
    "containernetworking-plugins",
    "debootstrap",
    "docker-registry",
    "ethtool",
    "etcd-server",
    "iproute2",
    "ipset",
    "iptables",
    "mount",
    "nftables",
    "openssl",
    "python3-venv",
    "runc",
    "skopeo",
    "socat",
    "util-linux",
)
POLICY = Path("/usr/sbin/policy-rc.d")
FORBID = "#!/bin/sh\n# put here by accel_cluster while it installs packages: start no service\nexit 101\n"


def ensure() -> None:
    """Install what is missing of REQUIRED."""
    missing = [name for name in REQUIRED if not installed(name)]
    if not missing:
        return
    if os.geteuid() != 0:
        raise Refused(f"Debian packages are missing and only root can install them: {' '.join(missing)}")
    with progress.step(f"installing Debian packages: {' '.join(missing)}"), no_services():
        quiet = {"DEBIAN_FRONTEND": "noninteractive"}
        run(["apt-get", "update", "-qq"], environment=quiet)
        run(["apt-get", "install", "-y", "-qq", "--no-install-recommends", *missing], environment=quiet)


def installed(name: str) -> bool:
    """Return whether dpkg has the package installed and configured."""
    try:
        return run(["dpkg-query", "-W", "-f", "${db:Status-Status}", name]) == "installed"
    except Failed:
        return False


@contextlib.contextmanager
def no_services() -> Iterator[None]:
    """Keep package scripts from starting services; a policy that is already there is the machine's own and
    stays.
    """
    mine = not POLICY.exists() or POLICY.read_text(errors="replace") == FORBID  # left by one that was killed
    if mine:
        POLICY.write_text(FORBID)
        POLICY.chmod(0o755)
    try:
        yield
    finally:
        if mine:
            POLICY.unlink(missing_ok=True)


def busybox(folder: Path) -> Path:
    """Return a static busybox in `folder`, fetched from Debian without installing it.

    Not installed, because the package conflicts with the plain `busybox` that initramfs-tools needs.
    """
    program = folder / "bin" / "busybox"
    if program.exists():
        return program
    folder.mkdir(parents=True, exist_ok=True)
    unsandboxed = ["-o", "APT::Sandbox::User=root"]  # the user _apt cannot write into a private cache
    try:
        run(["apt-get", *unsandboxed, "download", "busybox-static"], cwd=folder)
    except Failed:
        run(["apt-get", "update", "-qq"])
        run(["apt-get", *unsandboxed, "download", "busybox-static"], cwd=folder)
    for archive in folder.glob("busybox-static_*.deb"):
        run(["dpkg-deb", "-x", archive, folder])
        archive.unlink()
    return program


def architecture() -> str:
    """Return this machine's architecture as OCI and Go call it."""
    machine = platform.machine()
    known = {"x86_64": "amd64", "aarch64": "arm64"}
    if machine not in known:
        raise Refused(f"architecture {machine}: only {' and '.join(known)} are supported")
    return known[machine]
