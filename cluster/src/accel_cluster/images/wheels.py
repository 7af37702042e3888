"""The wheelhouse of an image: third-party wheels by a hashed requirements file, and our own packages.

A build has no access to a package index (nor should it): whatever goes in was fetched here, by hash.
"""

from pathlib import Path

from accel_cluster.images.store import (
    ImageError,
    cache,
    digest,
    new_folder,
    repository_root,
    run,
    tree_digest,
    uv,
)

PYTHON = "3.11"  # of the base image; the machine that builds may run another one
PIP = "pip==26.3"
# glibc 2.36 of Debian 12 runs wheels built for any of these.
PLATFORMS = ["manylinux2014_x86_64", "manylinux2010_x86_64", "manylinux1_x86_64", "linux_x86_64"] + [
    f"manylinux_2_{minor}_x86_64" for minor in range(36, 4, -1)
]


def third_party(requirements: Path) -> Path:
    """Return a folder with exactly the wheels that `requirements` pins; downloaded once per content."""
    folder = cache() / "third-party" / digest(requirements.read_bytes())[:16]
    if folder.exists():
        return folder
    with new_folder(folder) as temporary:
        command = [uv(), "tool", "run", "--quiet", "--from", PIP, "pip", "download", "--quiet", "--no-deps"]
        command += ["--disable-pip-version-check", "--require-hashes", "--only-binary", ":all:"]
        command += ["--implementation", "cp", "--python-version", PYTHON]
        for abi in ("cp311", "abi3", "none"):
            command += ["--abi", abi]
        for platform in PLATFORMS:
            command += ["--platform", platform]
        run([*command, "--dest", str(temporary), "--requirement", str(requirements)])
    return folder


def ours(room: str) -> Path:
    """Return the wheel of `room`'s package, built once per content."""
    root = repository_root()
    if not (root / room / "pyproject.toml").exists():
        raise ImageError(f"{room}/pyproject.toml is missing: there is no package to put into an image")
    sources = [
        path for name in ("pyproject.toml", "README.md", "src") if (path := root / room / name).exists()
    ]
    folder = cache() / "ours" / f"{room}-{tree_digest(sources, root)[:16]}"
    if not folder.exists():
        with new_folder(folder) as temporary:
            run([uv(), "build", "--wheel", "--out-dir", str(temporary), str(root / room)])
    found = sorted(folder.glob("*.whl"))
    if len(found) != 1:
        raise ImageError(f"expected one wheel of {room} in {folder}, found {len(found)}")
    return found[0]
