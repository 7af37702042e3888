"""The two ways to build: buildah without a daemon, and Docker where one answers.

Both read the same Dockerfiles and leave one image in a folder: an OCI layout, or Docker's archive. The Docker
way is a few lines that the project's own tests cannot exercise.
"""

import json
import os
import shutil
from pathlib import Path
from typing import Any, Protocol

from accel_cluster.images import base
from accel_cluster.images.plan import Plan, staged
from accel_cluster.images.store import ImageError, cache, new_folder, run

RUN_ROOT = "/run/accel-images"  # locks and mounts: must not outlive a reboot
PRIVATE = ("unshare", "--mount", "--")  # the storage mounts itself onto itself and would leave that behind
ENVIRONMENT = {
    "PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
    "LANG": "C.UTF-8",
    "PYTHONUNBUFFERED": "1",
}


class Builder(Protocol):
    """Builds images."""

    def build(self, plan: Plan, folder: Path) -> None:
        """Build `plan` into the empty `folder`."""


class Buildah:
    """Builds as root in a chroot, with a storage of its own below the cache folder."""

    def __init__(self) -> None:
        for tool in ("buildah", "skopeo"):
            if shutil.which(tool) is None:
                raise ImageError(f"{tool} is missing: `apt-get install buildah skopeo`")
        self._storage = cache() / "storage"

    def _run(self, *arguments: str) -> str:
        return run([*PRIVATE, "buildah", "--root", str(self._storage), "--runroot", RUN_ROOT, *arguments])

    def _has(self, name: str) -> bool:
        try:
            self._run("inspect", "--type", "image", "--format", "{{.FromImageID}}", name)
        except ImageError:
            return False
        return True

    def _base(self) -> str:
        name = f"localhost/accel-base:{base.key()}"
        if not self._has(name):
            archive = base.archive()
            container = self._run("from", "scratch").strip()
            try:
                self._run("add", "--quiet", container, str(archive), "/")
                for variable, value in ENVIRONMENT.items():
                    self._run("config", "--env", f"{variable}={value}", container)
                self._run("commit", "--quiet", "--timestamp", "0", container, name)
            finally:
                self._run("rm", container)
        return name

    def build(self, plan: Plan, folder: Path) -> None:
        """Build with `buildah bud`; unchanged layers come from its storage."""
        name = f"localhost/accel/{plan.image.name}:{plan.key}"
        options = ["--isolation", "chroot", "--layers", "--timestamp", "0", "--pull-never"]
        base_image = ["--build-arg", f"BASE_IMAGE={self._base()}"]
        with staged(plan) as context:
            self._run("bud", *options, *base_image, *_arguments(plan, name), str(context))
        self._export(name, folder, plan.key)

    def _export(self, name: str, folder: Path, tag: str) -> None:
        """Write an image of the storage as an OCI layout, whose blobs are links to those of the other
        layouts.

        Layers stay uncompressed: the way to the nodes is memory, and compressing costs the one core minutes.
        So their names are those of the storage, and skopeo leaves out what is linked here beforehand.
        """
        shared, blobs = cache() / "blobs", folder / "blobs" / "sha256"
        shared.mkdir(exist_ok=True)
        blobs.mkdir(parents=True)
        for blob in shared.iterdir():
            os.link(blob, blobs / blob.name)
        source = f"containers-storage:[overlay@{self._storage}+{RUN_ROOT}]{name}"
        command = ["skopeo", "--insecure-policy", "copy", "--quiet", "--dest-oci-accept-uncompressed-layers"]
        run([*PRIVATE, *command, source, f"oci:{folder}:{tag}"])
        wanted = _blobs(folder)
        for blob in blobs.iterdir():
            if blob.name not in wanted:
                blob.unlink()
            elif not (shared / blob.name).exists():
                os.link(blob, shared / blob.name)


class Docker:
    """Builds with the Docker daemon, from the base that the Dockerfiles name."""

    def build(self, plan: Plan, folder: Path) -> None:
        """Build with `docker build` and save the image."""
        name = f"localhost/accel/{plan.image.name}:{plan.key}"
        with staged(plan) as context:
            run(["docker", "build", *_arguments(plan, name), str(context)])
        run(["docker", "save", "--output", str(folder / "image.tar"), name])


def _arguments(plan: Plan, name: str) -> list[str]:
    """Return the arguments that both tools share.

    The keys are build arguments because buildah's layer cache looks at a RUN's command line, not at what it
    mounts.
    """
    arguments = ["--build-arg", f"THIRD_PARTY_KEY={plan.third_party_key}"]
    arguments += ["--build-arg", f"OURS_KEY={plan.ours_key}"]
    if plan.image.target:
        arguments += ["--target", plan.image.target]
    return [*arguments, "--file", str(plan.dockerfile), "--tag", name]


def _blobs(layout: Path) -> set[str]:
    """Return the names of the blobs that an OCI layout's only image consists of."""

    def digest(descriptor: dict[str, Any]) -> str:
        return str(descriptor["digest"]).removeprefix("sha256:")

    top = [digest(entry) for entry in json.loads((layout / "index.json").read_text())["manifests"]]
    manifests = [json.loads((layout / "blobs" / "sha256" / name).read_text()) for name in top]
    below = [digest(part) for manifest in manifests for part in [manifest["config"], *manifest["layers"]]]
    return {*top, *below}


def choose() -> Builder:
    """Return Docker where its daemon answers, else buildah."""
    if shutil.which("docker"):
        try:
            run(["docker", "info"])
        except ImageError:
            return Buildah()
        return Docker()
    return Buildah()


def image(plan: Plan, builder: Builder) -> Path:
    """Return the image of `plan`, built unless the cache has it: an OCI layout's folder or Docker's
    archive.
    """
    folder = layout(plan)
    if not folder.exists():
        with new_folder(folder) as temporary:
            builder.build(plan, temporary)
    archive = folder / "image.tar"
    return archive if archive.exists() else folder


def layout(plan: Plan) -> Path:
    """Return where the image of `plan` is kept once it is built."""
    return cache() / "images" / f"{plan.image.name}-{plan.key}"
