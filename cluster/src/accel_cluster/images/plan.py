"""What a build of one image starts from, and the key that names its result."""

import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from accel_cluster.images import base, wheels
from accel_cluster.images.catalog import Image
from accel_cluster.images.store import ImageError, cache, digest, repository_root

RECIPE = "1"  # raise it when the way of building changes


@dataclass(frozen=True)
class Plan:
    """Everything that decides an image's content."""

    image: Image
    dockerfile: Path
    requirements: Path | None
    ours: tuple[Path, ...]

    @property
    def third_party_key(self) -> str:
        """Return a digest over the third-party packages."""
        return digest(self.requirements.read_bytes() if self.requirements else b"")[:12]

    @property
    def ours_key(self) -> str:
        """Return a digest over our own wheels."""
        return digest(*(wheel.read_bytes() for wheel in self.ours))[:12]

    @property
    def key(self) -> str:
        """Return the image's tag: the same content, the same key."""
        return digest(
            RECIPE.encode(),
            base.key().encode(),
            self.dockerfile.read_bytes(),
            (self.image.target or "").encode(),
            self.third_party_key.encode(),
            self.ours_key.encode(),
        )[:12]


def make(image: Image) -> Plan:
    """Return the plan for `image`; builds our wheels, which are part of its content."""
    root = repository_root()
    dockerfile = root / image.dockerfile
    requirements = root / image.requirements if image.requirements else None
    for needed in (dockerfile, requirements):
        if needed is not None and not needed.exists():
            raise ImageError(f"{needed.relative_to(root)} is missing, the image {image.name} needs it")
    return Plan(image, dockerfile, requirements, tuple(wheels.ours(room) for room in image.rooms))


@contextmanager
def staged(plan: Plan) -> Iterator[Path]:
    """Lay out the build context in a temporary folder: the wheelhouse, linked rather than copied."""
    folder = Path(tempfile.mkdtemp(prefix=".context-", dir=cache()))
    try:
        third_party, ours = folder / "wheels" / "third-party", folder / "wheels" / "ours"
        third_party.mkdir(parents=True)
        ours.mkdir()
        if plan.requirements is not None:
            for wheel in wheels.third_party(plan.requirements).iterdir():
                os.link(wheel, third_party / wheel.name)
            shutil.copyfile(plan.requirements, folder / "wheels" / "requirements.txt")
        for wheel in plan.ours:
            os.link(wheel, ours / wheel.name)
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)
