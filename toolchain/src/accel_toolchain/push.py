"""The last container of a conversion: the artifact becomes a data-only image and a version of the model.

The version's tag is written last, and the manifest arrives with it: a push that was killed leaves no half
version, and nothing that no tag leads to.
"""

import platform
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Final

from accel.oci import Document, Manifest, OciError, Reference, Registry, digest_of, write_layer
from accel.oci.layers import open_regular
from accel.oci.manifests import OCI_CONFIG, Descriptor, canonical_json

from accel_toolchain import __version__, results
from accel_toolchain.artifact import layer_entries
from accel_toolchain.conditions import Terminal, Transient
from accel_toolchain.jobs import ConvertJob
from accel_toolchain.progress import progress
from accel_toolchain.registries import open_registry, registry_failure
from accel_toolchain.versions import (
    KEY,
    LOG_LAYER,
    REPORT_LAYER,
    SKU,
    SOURCE_SHA256,
    Record,
    Version,
    get_record,
    list_versions,
    model_key,
    number_for,
    put_record,
    read_report,
)
from accel_toolchain.workspace import Workspace, read_note

ARTIFACT_TYPE: Final = "application/vnd.accel.model.v1"
EPOCH: Final = "1970-01-01T00:00:00Z"
ARCHITECTURES: Final = {"x86_64": "amd64", "aarch64": "arm64"}
_MAX_LOG_BYTES = 16 << 20
_SHOWN_VERSIONS = 20


def push(job: ConvertJob, work: Workspace) -> dict[str, Any]:
    """Store the artifact and return the Job's result; equal keys are one version.

    Raises:
        Transient: RegistryUnavailable, RegistrySecretMissing.
        Terminal: RegistryDenied, RegistryFull, RegistryReadOnly, RegistryRefused, ConversionFailed (the
        workspace is not as it should be).
    """
    try:
        with open_registry(job) as registry:
            return _push(registry, job, work)
    except OciError as error:
        raise registry_failure(error) from error
    except (ValueError, KeyError, TypeError) as error:
        raise Terminal("ConversionFailed", f"The converter left no usable artifact: {error!r}.") from error


def _push(registry: Registry, job: ConvertJob, work: Workspace) -> dict[str, Any]:
    progress.say("pushing the version to the registry")
    note = read_note(work.source_note)
    sha256 = str(note["sha256"])
    key = model_key(sha256, job.conversion)
    versions = list_versions(registry, job.repository)
    version = next((v for v in versions if v.key == key), None)
    if version is None:
        if note.get("known"):
            raise Transient(
                "RegistryUnavailable",
                "The version that the source had is gone from the registry. It is made again.",
            )
        version = _store(registry, job, work, key, sha256, versions)
        versions = [version, *versions]
    record = get_record(registry, job.repository, version.digest)
    report = read_report(registry, job.repository, record) if record else {}
    return results.success(
        "push",
        model=_version_entry(version, record),
        versions=[
            _version_entry(v, get_record(registry, job.repository, v.digest))
            for v in versions[:_SHOWN_VERSIONS]
        ],
        inputs=report.get("inputs") or [],
        outputs=report.get("outputs") or [],
        device=report.get("device"),
        parity=report.get("parity"),
        log=str(Reference(job.repository, None, record.digest)) if record else None,
    )


def _store(
    registry: Registry, job: ConvertJob, work: Workspace, key: str, sha256: str, versions: list[Version]
) -> Version:
    with TemporaryDirectory(dir=work.root) as folder:
        layer = write_layer(Path(folder) / "layer.tar", layer_entries(work.artifact))
        registry.put_blob(job.repository, layer.path, digest=layer.descriptor.digest)
    config = canonical_json(
        {
            "architecture": ARCHITECTURES.get(platform.machine(), platform.machine()),
            "os": "linux",
            "created": EPOCH,
            "config": {},
            "rootfs": {"type": "layers", "diff_ids": [layer.descriptor.digest]},
            "history": [{"created": EPOCH, "created_by": f"accel-toolchain {__version__} push"}],
        }
    )
    registry.put_blob(job.repository, config)
    manifest = Manifest(
        Descriptor(OCI_CONFIG, digest_of(config), len(config)),
        (layer.descriptor,),
        {KEY: key, SOURCE_SHA256: sha256},
        artifact_type=ARTIFACT_TYPE,
    )
    document = Document(manifest.media_type, manifest.to_bytes())
    number = number_for(document.digest, versions, job.remembered)
    put_record(registry, job.repository, document, _record_layers(work), _record_annotations(work))
    registry.put_manifest(job.repository, f"v{number}", document)
    return Version(number, document, manifest)


def _record_layers(work: Workspace) -> dict[str, bytes]:
    layers = {REPORT_LAYER: canonical_json(read_note(work.report))}
    with open_regular(work.log) as file:
        layers[LOG_LAYER] = file.read(_MAX_LOG_BYTES)
    return layers


def _record_annotations(work: Workspace) -> dict[str, str]:
    """Return the card that the program is for; not part of the manifest, whose digest is of the bytes alone."""
    device = read_note(work.report).get("device") or {}
    return {SKU: str(device["sku"])[:63]} if device.get("fits") and device.get("sku") else {}


def _version_entry(version: Version, record: Record | None) -> dict[str, Any]:
    return {
        "version": version.number,
        "digest": version.digest,
        "sourceSha256": version.manifest.annotations.get(SOURCE_SHA256, ""),
        "createdTime": record.created if record else EPOCH,
        "sizeBytes": version.manifest.size,
        **({"sku": record.sku} if record and record.sku else {}),
    }
