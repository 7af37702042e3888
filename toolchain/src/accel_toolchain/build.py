"""Building a model's image without a daemon: the base's layers, the model's layer, an amended config.

Nothing is unpacked or packed: layers are mounted or copied, so that equal input gives an equal digest and a
build takes seconds.
"""

import json
import platform
from dataclasses import dataclass
from typing import Any, Final
from urllib.parse import urlsplit

from accel.oci import (
    Document,
    Index,
    Manifest,
    NotFound,
    OciError,
    Reference,
    Registry,
    Rejected,
    Unavailable,
    digest_of,
)
from accel.oci.manifests import OCI_CONFIG, OCI_LAYER, Descriptor, canonical_json

from accel_toolchain import results
from accel_toolchain.conditions import Terminal, Transient
from accel_toolchain.jobs import BuildJob
from accel_toolchain.progress import progress
from accel_toolchain.push import ARCHITECTURES, EPOCH
from accel_toolchain.registries import open_registry, registry_credentials, registry_failure
from accel_toolchain.versions import (
    KEY,
    LOG_LAYER,
    MODEL_DIGEST,
    MODEL_VERSION,
    REASON,
    SKU,
    Record,
    Version,
    get_record,
    image_key,
    list_versions,
    number_for,
    put_record,
)

# Docker's layer types, by what OCI calls the same bytes. Foreign and encrypted layers cannot be copied.
_LAYER_TYPES: Final = {
    OCI_LAYER: OCI_LAYER,
    f"{OCI_LAYER}+gzip": f"{OCI_LAYER}+gzip",
    f"{OCI_LAYER}+zstd": f"{OCI_LAYER}+zstd",
    "application/vnd.docker.image.rootfs.diff.tar": OCI_LAYER,
    "application/vnd.docker.image.rootfs.diff.tar.gzip": f"{OCI_LAYER}+gzip",
}
_SHOWN_VERSIONS: Final = 20


def build(job: BuildJob) -> dict[str, Any]:
    """Make the image, push it and return the Job's result; equal keys are one version.

    Raises:
        Transient: RegistryUnavailable, RegistrySecretMissing.
        Terminal: RegistryDenied, RegistryFull, RegistryReadOnly, RegistryRefused, ModelNotFound, BaseNotFound.
    """
    try:
        with open_registry(job) as registry:
            return _build(registry, job)
    except OciError as error:
        raise registry_failure(error) from error


def _build(registry: Registry, job: BuildJob) -> dict[str, Any]:
    progress.say(f"building the image of version {job.model_version}")
    model = _model(registry, job)
    try:
        reference = Reference.parse(job.base)
        host = reference.registry or urlsplit(job.registry).netloc
        base_registry = Registry.of(
            reference,
            job.registry,
            insecure=job.base_insecure,
            credentials=registry_credentials(job, host),
        )
    except Rejected as error:
        raise _no_base(job, error) from error
    with base_registry:
        base = _base(job, base_registry, reference)
        key = image_key(base.digest, model.digest)
        versions = list_versions(registry, job.repository)
        version = next((v for v in versions if v.key == key), None)
        if version is None:
            source = _Base(base_registry, reference.repository, base)
            version = _assemble(registry, job, model, source, key, versions)
            versions = [version, *versions]
    record = get_record(registry, job.repository, version.digest)
    return results.success(
        "build",
        image=_version_entry(version, record),
        versions=[
            _version_entry(v, get_record(registry, job.repository, v.digest))
            for v in versions[:_SHOWN_VERSIONS]
        ],
        log=str(Reference(job.repository, None, record.digest)) if record else None,
    )


def _model(registry: Registry, job: BuildJob) -> Document:
    try:
        return registry.get_manifest(job.model_repository, job.model_digest)
    except NotFound as error:
        raise Terminal(
            "ModelNotFound",
            f"spec.modelRef: version {job.model_version} ({job.model_digest}) is not in the registry at "
            f"oci:///{job.model_repository}. Set accel.dev/requestedAt on the FpgaModel to make it again.",
        ) from error


@dataclass(frozen=True)
class _Base:
    """The base image for this machine's platform, and where it lies."""

    registry: Registry
    repository: str
    document: Document


def _base(job: BuildJob, registry: Registry, reference: Reference) -> Document:
    """Return the base's manifest for this machine's platform."""
    try:
        document = registry.get_manifest(reference.repository, reference.target)
        parsed = document.parse()
        if not isinstance(parsed, Index):
            return document
        architecture = ARCHITECTURES.get(platform.machine(), platform.machine())
        chosen = parsed.for_platform(architecture)
        if chosen is None:
            raise Terminal("BaseNotFound", f"The base image {job.base} is not made for linux/{architecture}.")
        return registry.get_manifest(reference.repository, chosen.digest)
    except Unavailable as error:
        raise Transient(
            "RegistryUnavailable", f"The base image {job.base}: {error} It is tried again."
        ) from error
    except Rejected as error:
        raise _no_base(job, error) from error


def _no_base(job: BuildJob, error: Rejected) -> Terminal:
    return Terminal(
        "BaseNotFound", f"The base image {job.base}: {error} Correct the operator's setting images.runtime."
    )


def _assemble(
    registry: Registry, job: BuildJob, model: Document, source: _Base, key: str, versions: list[Version]
) -> Version:
    base_registry, base_repository, base = source.registry, source.repository, source.document
    base_manifest, model_manifest = base.manifest(), model.manifest()
    log = [
        f"base {job.base}: {base.digest}",
        f"model oci:///{job.model_repository}: v{job.model_version} {model.digest}",
    ]
    layers = []
    for layer in base_manifest.layers:
        media_type = _LAYER_TYPES.get(layer.media_type)
        if media_type is None:
            raise Terminal(
                "BaseNotFound", f"The base image {job.base} has a layer of type {layer.media_type}."
            )
        registry.copy_blob(job.repository, layer, base_registry, base_repository)
        layers.append(Descriptor(media_type, layer.digest, layer.size))
        log.append(f"layer {layer.digest} {layer.size} bytes")
    base_config = json.loads(base_registry.read_blob(base_repository, base_manifest.config))
    model_config = json.loads(registry.read_blob(job.model_repository, model_manifest.config))
    for layer in model_manifest.layers:
        registry.copy_blob(job.repository, layer, registry, job.model_repository)
        layers.append(layer)
        log.append(f"model layer {layer.digest} {layer.size} bytes")
    annotations = _annotations(job, base.digest, model.digest)
    config = canonical_json(_config(base_config, model_config, job, annotations))
    registry.put_blob(job.repository, config)
    manifest = Manifest(
        Descriptor(OCI_CONFIG, digest_of(config), len(config)), tuple(layers), {**annotations, KEY: key}
    )
    document = Document(manifest.media_type, manifest.to_bytes())
    number = number_for(document.digest, versions, job.remembered)
    log.append(f"image oci:///{job.repository}: v{number} {document.digest}")
    put_record(
        registry, job.repository, document, {LOG_LAYER: "\n".join(log).encode()}, _record_annotations(job)
    )
    registry.put_manifest(job.repository, f"v{number}", document)
    return Version(number, document, manifest)


def _annotations(job: BuildJob, base_digest: str, model_digest: str) -> dict[str, str]:
    annotations = {
        "org.opencontainers.image.title": job.name,
        "org.opencontainers.image.base.digest": base_digest,
        "accel.dev/model": job.model_repository,
        MODEL_VERSION: str(job.model_version),
        MODEL_DIGEST: model_digest,
    }
    if job.description:
        annotations["org.opencontainers.image.description"] = job.description
    return annotations | {f"tags.accel.dev/{name}": value for name, value in job.tags.items()}


def _config(
    base: dict[str, Any], model: dict[str, Any], job: BuildJob, labels: dict[str, str]
) -> dict[str, Any]:
    """Return the base's config with the model's layer, its environment and labels; times are the epoch."""
    config = dict(base.get("config") or {})
    environment = {
        "ACCEL_MODEL_NAME": job.model_repository.rpartition("/")[2],
        "ACCEL_MODEL_VERSION": str(job.model_version),
    }
    kept = [entry for entry in config.get("Env") or [] if entry.partition("=")[0] not in environment]
    config["Env"] = kept + [f"{name}={value}" for name, value in environment.items()]
    config["Labels"] = {**(config.get("Labels") or {}), **labels}
    history = list(base.get("history") or [])
    history += [{"created": EPOCH, "created_by": f"accel-toolchain build: model v{job.model_version}"}]
    return {
        **base,
        "created": EPOCH,
        "config": config,
        "rootfs": {
            "type": "layers",
            "diff_ids": [*base["rootfs"]["diff_ids"], *model["rootfs"]["diff_ids"]],
        },
        "history": history,
    }


def _record_annotations(job: BuildJob) -> dict[str, str]:
    return {REASON: job.reason, **({SKU: job.sku} if job.sku else {})}


def _version_entry(version: Version, record: Record | None) -> dict[str, Any]:
    annotations = version.manifest.annotations
    return {
        "version": version.number,
        "digest": version.digest,
        "modelVersion": int(annotations.get(MODEL_VERSION, "0")),
        "modelDigest": annotations.get(MODEL_DIGEST, ""),
        "reason": record.manifest.annotations.get(REASON, "Spec") if record else "Spec",
        "createdTime": record.created if record else EPOCH,
        "sizeBytes": version.manifest.size,
        **({"sku": record.sku} if record and record.sku else {}),
    }
