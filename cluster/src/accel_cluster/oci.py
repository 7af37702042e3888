"""Images of a few static files, written as OCI layouts: all that the cluster's own parts need.

The same files give the same digests: names are sorted, times are the epoch's, owners are root.
"""

import hashlib
import io
import json
import tarfile
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from accel_cluster.packages import architecture

INDEX = "application/vnd.oci.image.index.v1+json"
MANIFEST = "application/vnd.oci.image.manifest.v1+json"
CONFIG = "application/vnd.oci.image.config.v1+json"
LAYER = "application/vnd.oci.image.layer.v1.tar"


@dataclass(frozen=True)
class Image:
    """What goes into one image: files by their path inside, symbolic links, and how it starts."""

    name: str
    files: dict[str, Path]
    entrypoint: list[str]
    links: dict[str, str] = field(default_factory=dict)
    folders: dict[str, int] = field(default_factory=dict)  # path -> mode
    user: str = ""


def write_layout(image: Image, folder: Path) -> None:
    """Write `image` as an OCI image layout into `folder`, which may not exist yet."""
    blobs = folder / "blobs" / "sha256"
    blobs.mkdir(parents=True, exist_ok=True)

    def put(content: bytes, media_type: str) -> dict[str, Any]:
        digest = hashlib.sha256(content).hexdigest()
        (blobs / digest).write_bytes(content)
        return {"mediaType": media_type, "digest": f"sha256:{digest}", "size": len(content)}

    layer = put(_layer(image), LAYER)
    config = {
        "created": "1970-01-01T00:00:00Z",
        "architecture": architecture(),
        "os": "linux",
        "config": {
            "User": image.user,
            "Env": ["PATH=/usr/local/bin:/usr/bin:/bin"],
            "Entrypoint": image.entrypoint,
        },
        "rootfs": {"type": "layers", "diff_ids": [layer["digest"]]},
    }
    manifest = {
        "schemaVersion": 2,
        "mediaType": MANIFEST,
        "config": put(_json(config), CONFIG),
        "layers": [layer],
    }
    index = {"schemaVersion": 2, "mediaType": INDEX, "manifests": [put(_json(manifest), MANIFEST)]}
    (folder / "oci-layout").write_bytes(_json({"imageLayoutVersion": "1.0.0"}))
    (folder / "index.json").write_bytes(_json(index))


def _layer(image: Image) -> bytes:
    raw = io.BytesIO()
    with tarfile.open(fileobj=raw, mode="w", format=tarfile.USTAR_FORMAT) as archive:
        for path in sorted({*image.files, *image.links, *image.folders, *_parents(image)}):
            entry = tarfile.TarInfo(path)
            if path in image.files:
                entry.mode, entry.size = 0o755, image.files[path].stat().st_size
                with image.files[path].open("rb") as content:
                    archive.addfile(entry, content)
            elif path in image.links:
                entry.type, entry.linkname = tarfile.SYMTYPE, image.links[path]
                archive.addfile(entry)
            else:
                entry.type, entry.mode = tarfile.DIRTYPE, image.folders.get(path, 0o755)
                archive.addfile(entry)
    return raw.getvalue()


def _parents(image: Image) -> set[str]:
    named = {*image.files, *image.links, *image.folders}
    return {str(parent) for path in named for parent in Path(path).parents if str(parent) != "."}


def _json(value: dict[str, Any]) -> bytes:
    return json.dumps(value, sort_keys=True, separators=(",", ":")).encode()
