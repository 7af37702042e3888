"""Pushing a folder as a model source: what `kubectl accel push` writes and the fetch container reads."""

from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Final

from accel.oci.digests import EMPTY_JSON
from accel.oci.errors import InvalidContent
from accel.oci.layers import directory_entries, write_layer
from accel.oci.manifests import EMPTY_DESCRIPTOR, Document, Manifest
from accel.oci.reference import Reference
from accel.oci.registry import Registry

SOURCE_TYPE: Final = "application/vnd.accel.source.v1"


def push_source(registry: Registry, directory: Path, reference: Reference) -> Reference:
    """Push a folder's content under a tag and return the reference by digest; equal content, equal digest.

    Raises:
        InvalidContent: nothing to push, or something that is not a regular file.
        BadReference: the reference has no tag.
    """
    tag = reference.target
    if not directory.is_dir():
        raise InvalidContent(f"'{directory}' is not a folder.")
    entries = list(directory_entries(directory))
    if not entries:
        raise InvalidContent(f"'{directory}' holds no file.")
    with TemporaryDirectory() as folder:
        layer = write_layer(Path(folder) / "layer.tar", entries)
        registry.put_blob(reference.repository, layer.path, digest=layer.descriptor.digest)
    registry.put_blob(reference.repository, EMPTY_JSON)
    manifest = Manifest(EMPTY_DESCRIPTOR, (layer.descriptor,), artifact_type=SOURCE_TYPE)
    document = Document(manifest.media_type, manifest.to_bytes())
    registry.put_manifest(reference.repository, tag, document)
    return reference.pinned(document.digest)
