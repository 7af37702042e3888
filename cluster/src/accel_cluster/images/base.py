"""The base root filesystem: Debian 12 with Python, made by debootstrap from the mirror this machine itself
uses.

Where a container hub is reachable, Dockerfiles keep their own default (python:3.11-slim-bookworm) and this
module is not needed.
"""

import shutil
from pathlib import Path

from accel_cluster.images.store import ImageError, cache, digest, new_folder, run

SUITE = "bookworm"
PACKAGES = (
    "ca-certificates",
    "docker-registry",  # the embedded registry; one base for all keeps one layer on every node
    "python-is-python3",
    "python3",
    "python3-pip",
    "socat",  # the node proxy
)
RECIPE = "3"  # raise it when what happens below changes
# Documentation, package lists and translations: a third of the size, and nothing reads them.
DROPPED = ("var/cache/apt", "var/lib/apt/lists", "var/log", "usr/share/doc", "usr/share/man",
           "usr/share/locale", "usr/share/info", "usr/share/lintian", "usr/share/i18n")  # fmt: skip


def key() -> str:
    """Return what names the base: a digest over its recipe."""
    return digest(SUITE.encode(), " ".join(PACKAGES).encode(), " ".join(DROPPED).encode(), RECIPE.encode())[
        :12
    ]


def mirror() -> str:
    """Return the address of the Debian mirror in this machine's own package sources."""
    sites = run(["apt-get", "indextargets", "--format", "$(SITE) $(CODENAME)"]).splitlines()
    for line in sites:
        site, _, codename = line.partition(" ")
        if codename == SUITE:
            return site
    raise ImageError(
        f"no package source for {SUITE} in this machine's apt configuration; "
        "the base image needs one (`apt-get update`, or a Debian 12 entry below /etc/apt/sources.list.d)"
    )


def archive() -> Path:
    """Return the base root filesystem as a tar archive, made once."""
    folder = cache() / f"base-{key()}"
    file = folder / "rootfs.tar"
    if file.exists():
        return file
    if shutil.which("debootstrap") is None:
        raise ImageError("debootstrap is missing: `apt-get install debootstrap`")
    with new_folder(folder) as temporary:
        root = temporary / "rootfs"
        run(
            [
                "debootstrap",
                "--variant=minbase",
                f"--include={','.join(PACKAGES)}",
                SUITE,
                str(root),
                mirror(),
            ]
        )
        _slim(root)
        run(["tar", "--sort=name", "--numeric-owner", "--mtime=@0", "-C", str(root), "-cf",
             str(temporary / "rootfs.tar"), "."])  # fmt: skip
        shutil.rmtree(root)
    return file


def _slim(root: Path) -> None:
    """Drop what no container needs, and let pip install into the system's Python: the image is its
    environment.
    """
    for name in DROPPED:
        shutil.rmtree(root / name, ignore_errors=True)
        (root / name).mkdir(parents=True, exist_ok=True)
    for marker in root.glob("usr/lib/python3*/EXTERNALLY-MANAGED"):
        marker.unlink()
    for name in ("etc/resolv.conf", "etc/hostname", "etc/machine-id"):
        (root / name).unlink(missing_ok=True)
