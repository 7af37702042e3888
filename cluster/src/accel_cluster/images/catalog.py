"""Which images there are, and what each is made of.

Pure data. Paths are relative to the repository's root.
"""

from dataclasses import dataclass
from pathlib import PurePosixPath

REPOSITORY_PREFIX = "accel"  # images are pushed as <registry>/accel/<name>:<key>


@dataclass(frozen=True)
class Image:
    """One container image."""

    name: str
    dockerfile: PurePosixPath
    rooms: tuple[str, ...] = ()  # whose wheels it carries
    requirements: PurePosixPath | None = None  # pinned and hashed third-party packages
    target: str | None = None  # build stage, where one Dockerfile makes several images


@dataclass(frozen=True)
class Lock:
    """A requirements file and the pyproject.toml files that it is resolved from."""

    requirements: PurePosixPath
    sources: tuple[PurePosixPath, ...]
    extras: tuple[str, ...] = ()


def _path(text: str) -> PurePosixPath:
    return PurePosixPath(text)


_TOOLCHAIN = ("toolchain", "client")  # fetch, push and build: no numerics, no TensorFlow
_CONVERTER = ("toolchain", "client", "simulator", "runtime-image")  # it verifies with the code that serves
_RUNTIME = ("runtime-image", "simulator", "client")

IMAGES: tuple[Image, ...] = (
    Image("registry", _path("charts/registry-image/Dockerfile")),
    Image("operator", _path("operator/Dockerfile"), ("operator",), _path("operator/requirements.txt")),
    Image(
        "fpga-node",
        _path("device-plugin/Dockerfile"),
        ("device-plugin", "simulator"),
        _path("device-plugin/requirements.txt"),
    ),
    Image("runtime", _path("runtime-image/Dockerfile"), _RUNTIME, _path("runtime-image/requirements.txt")),
    Image(
        "toolchain",
        _path("toolchain/Dockerfile"),
        _TOOLCHAIN,
        _path("toolchain/requirements.txt"),
        target="toolchain",
    ),
    Image(
        "converter",
        _path("toolchain/Dockerfile"),
        _CONVERTER,
        _path("toolchain/requirements-converter.txt"),
        target="converter",
    ),
)


def _pyprojects(rooms: tuple[str, ...]) -> tuple[PurePosixPath, ...]:
    return tuple(_path(f"{room}/pyproject.toml") for room in rooms)


LOCKS: tuple[Lock, ...] = (
    Lock(_path("operator/requirements.txt"), _pyprojects(("operator",))),
    Lock(_path("device-plugin/requirements.txt"), _pyprojects(("device-plugin", "simulator"))),
    Lock(_path("runtime-image/requirements.txt"), _pyprojects(_RUNTIME)),
    Lock(_path("toolchain/requirements.txt"), _pyprojects(_TOOLCHAIN)),
    Lock(_path("toolchain/requirements-converter.txt"), _pyprojects(_CONVERTER), extras=("tensorflow",)),
)


def find(name: str) -> Image:
    """Return the image called `name`; KeyError lists those that exist."""
    for image in IMAGES:
        if image.name == name:
            return image
    raise KeyError(f"no image {name!r}; there are {', '.join(image.name for image in IMAGES)}")
