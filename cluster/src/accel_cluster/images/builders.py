"""The two ways to build and to push: buildah without a daemon, and Docker where one answers.

Both read the same Dockerfiles. The Docker way is a few lines that the project's own tests cannot exercise.
"""

import shutil
from collections.abc import Sequence
from typing import Protocol

from accel_cluster.images import base
from accel_cluster.images.plan import Plan, staged
from accel_cluster.images.store import ImageError, cache, run


class Builder(Protocol):
    """Builds images into a local store and copies them from there into a registry."""

    def has(self, name: str) -> bool:
        """Tell whether the local store holds the image `name`."""

    def build(self, plan: Plan, name: str) -> None:
        """Build `plan` and store the image as `name`."""

    def push(self, name: str, reference: str, enter: Sequence[str]) -> None:
        """Copy the image `name` to `reference`; `enter` is a command prefix that reaches the registry."""


class Buildah:
    """Builds as root in a chroot, with layers in a storage of its own below the cache folder."""

    def __init__(self) -> None:
        for tool in ("buildah", "skopeo"):
            if shutil.which(tool) is None:
                raise ImageError(f"{tool} is missing: `apt-get install buildah skopeo`")
        self._storage = cache() / "storage"

    def _command(self, *arguments: str) -> list[str]:
        run_root = "/run/accel-images"  # locks and mounts: must not outlive a reboot
        return ["buildah", "--root", str(self._storage), "--runroot", run_root, *arguments]

    def has(self, name: str) -> bool:
        """Tell whether the storage holds the image `name`."""
        try:
            run(self._command("inspect", "--type", "image", "--format", "{{.FromImageID}}", name))
        except ImageError:
            return False
        return True

    def _base(self) -> str:
        name = f"localhost/accel-base:{base.key()}"
        if not self.has(name):
            archive = base.archive()
            container = run(self._command("from", "scratch")).strip()
            try:
                run(self._command("add", "--quiet", container, str(archive), "/"))
                run(self._command("config", "--env", "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
                                  "--env", "LANG=C.UTF-8", "--env", "PYTHONUNBUFFERED=1", container))  # fmt: skip
                run(self._command("commit", "--quiet", "--timestamp", "0", container, name))
            finally:
                run(self._command("rm", container))
        return name

    def build(self, plan: Plan, name: str) -> None:
        """Build `plan` with `buildah bud`; unchanged layers come from its cache."""
        with staged(plan) as context:
            command = self._command("bud", "--isolation", "chroot", "--layers", "--timestamp", "0", "--pull-never")
            command += ["--build-arg", f"BASE_IMAGE={self._base()}", *_arguments(plan, name), str(context)]
            run(command)

    def push(self, name: str, reference: str, enter: Sequence[str]) -> None:
        """Push uncompressed: the network is memory, and compressing costs the one core minutes."""
        command = self._command("push", "--quiet", "--tls-verify=false", "--disable-compression", name)
        run([*enter, *command, f"docker://{reference}"])


class Docker:
    """Builds with the Docker daemon, from the base that the Dockerfiles name."""

    def has(self, name: str) -> bool:
        """Tell whether the daemon holds the image `name`."""
        return bool(run(["docker", "images", "--quiet", name]).strip())

    def build(self, plan: Plan, name: str) -> None:
        """Build `plan` with `docker build`."""
        with staged(plan) as context:
            run(["docker", "build", *_arguments(plan, name), str(context)])

    def push(self, name: str, reference: str, enter: Sequence[str]) -> None:
        """Tag and push; the daemon reaches the registry itself."""
        run(["docker", "tag", name, reference])
        run([*enter, "docker", "push", "--quiet", reference])


def _arguments(plan: Plan, name: str) -> list[str]:
    """Return the arguments that both tools share.

    The keys are build arguments because buildah's layer cache looks at a RUN's command line and not at what it mounts.
    """
    arguments = ["--build-arg", f"THIRD_PARTY_KEY={plan.third_party_key}", "--build-arg", f"OURS_KEY={plan.ours_key}"]
    if plan.image.target:
        arguments += ["--target", plan.image.target]
    return [*arguments, "--file", str(plan.dockerfile), "--tag", name]


def choose() -> Builder:
    """Return Docker where its daemon answers, else buildah."""
    if shutil.which("docker"):
        try:
            run(["docker", "info"])
        except ImageError:
            return Buildah()
        return Docker()
    return Buildah()
