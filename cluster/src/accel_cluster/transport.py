"""Getting images into the cluster's registry, with skopeo."""

import tarfile
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

from accel_cluster.commands import run, succeeds
from accel_cluster.errors import Failed, Refused

REGISTRY_S = 30.0


def source_name(source: Path) -> str:
    """Return skopeo's name for what `source` is: an OCI layout folder, an OCI archive or a Docker archive."""
    if source.is_dir():
        if not (source / "oci-layout").exists():
            raise Refused(f"{source} is no OCI image layout: it has no file oci-layout")
        return f"oci:{source}"
    if not source.exists():
        raise Refused(f"{source}: no such file")
    try:
        with tarfile.open(source) as archive:
            names = {name.removeprefix("./") for name in archive.getnames()}
    except tarfile.TarError as error:
        raise Refused(f"{source} is no image archive: {error}") from error
    if "oci-layout" in names:
        return f"oci-archive:{source}"
    if "manifest.json" in names:
        return f"docker-archive:{source}"
    raise Refused(f"{source} is no image archive: neither oci-layout nor manifest.json is in it")


def copy(source: Path, destination: str, enter: Sequence[str] = ()) -> str:
    """Copy the image to `destination` ("docker://…"), run behind `enter`; return its digest."""
    with tempfile.NamedTemporaryFile("r") as digest:
        options = [
            "--insecure-policy",
            "copy",
            "--quiet",
            "--dest-tls-verify=false",
            "--digestfile",
            digest.name,
        ]
        if destination.startswith("docker://"):
            # Layers go as they are: compressing TensorFlow's on the way would cost a minute of the one core.
            options.append("--preserve-digests")
        run([*enter, "skopeo", *options, source_name(source.resolve()), destination])
        return digest.read().strip()


def exists(reference: str, enter: Sequence[str] = ()) -> bool:
    """Return whether the registry has the image."""
    return succeeds([*enter, "skopeo", "inspect", "--raw", "--tls-verify=false", f"docker://{reference}"])


def await_registry(address: str, enter: Sequence[str] = ()) -> None:
    """Return when the registry at `address` accepts connections."""
    host, _, port = address.partition(":")
    deadline = time.monotonic() + REGISTRY_S
    while not succeeds([*enter, "bash", "-c", f"exec 3<>/dev/tcp/{host}/{port}"]):
        if time.monotonic() > deadline:
            raise Failed(f"the image registry at {address} does not come up")
        time.sleep(0.1)
