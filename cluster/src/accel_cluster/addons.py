"""What runs inside the cluster from the start: its images, cluster DNS, the default StorageClass."""

import hashlib
import string
from pathlib import Path

from accel_cluster import packages, settings
from accel_cluster.nodes import PAUSE
from accel_cluster.oci import Image, write_layout
from accel_cluster.settings import DNS_SERVICE, REGISTRY
from accel_cluster.toolchain import Binaries

MANIFESTS = Path(__file__).parent / "manifests"
APPLETS = (
    "cat",
    "echo",
    "env",
    "httpd",
    "ls",
    "mkdir",
    "nc",
    "nslookup",
    "rm",
    "sh",
    "sleep",
    "tail",
    "touch",
    "wget",
)
NOBODY = "65534:65534"


def images(binaries: Binaries) -> list[Image]:
    """Return the images of the cluster's own parts: a static file or two each."""
    busybox = packages.busybox(settings.cache() / "busybox")
    return [
        Image(PAUSE, {"pause": binaries["pause"]}, ["/pause"], user=NOBODY),
        Image(
            f"{REGISTRY}/cluster/coredns:1.15.0",
            {"coredns": binaries["coredns"]},
            ["/coredns"],
        ),
        Image(
            f"{REGISTRY}/cluster/local-path-provisioner:0.0.30",
            {"local-path-provisioner": binaries["local-path-provisioner"]},
            ["/local-path-provisioner"],
        ),
        Image(
            f"{REGISTRY}/cluster/busybox:1",
            {"bin/busybox": busybox},
            ["/bin/sh"],
            links={f"bin/{applet}": "busybox" for applet in APPLETS},
            folders={"tmp": 0o1777, "etc": 0o755},
        ),
    ]


def layout(image: Image) -> Path:
    """Return the OCI layout of `image`, written into the cache when it is not there."""
    key = hashlib.sha256(repr(image).encode())
    for name in sorted(image.files):
        key.update(image.files[name].read_bytes())
    folder = settings.cache() / "images" / key.hexdigest()[:16]
    if not (folder / "index.json").exists():  # written last
        write_layout(image, folder)
    return folder


def manifests() -> str:
    """Return the objects to apply, as one YAML stream."""
    known = {"registry": REGISTRY, "dns": DNS_SERVICE}
    return "\n---\n".join(
        string.Template(path.read_text()).substitute(known) for path in sorted(MANIFESTS.glob("*.yaml"))
    )
