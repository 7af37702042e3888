"""Versions of a repository, decided by what the registry holds and by nothing else.

Version n is the tag `vn`. A manifest carries the key of what it was made from; the same key is the same
version. What is true of one push only (when, with which log) lies in a *record*, a further manifest that
refers to the first one, so that equal input gives equal bytes.

Registries list tags and nothing else, so every manifest is put under a tag, and no tag that is moved leaves one
behind without: the operator's sweep finds all there is. The record of a manifest comes before the manifest.
"""

import hashlib
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final

from accel.oci import Descriptor, Document, Index, Manifest, NotFound, OciError, Registry
from accel.oci.manifests import EMPTY_DESCRIPTOR, canonical_json

from accel_toolchain.jobs import DEFAULT_SKU, Conversion

KEY: Final = "accel.dev/key"
SOURCE_SHA256: Final = "accel.dev/source-sha256"
MODEL_VERSION: Final = "accel.dev/model-version"
MODEL_DIGEST: Final = "accel.dev/model-digest"
REASON: Final = "accel.dev/reason"
SKU: Final = "accel.dev/sku"
CREATED: Final = "org.opencontainers.image.created"
RECORD_TYPE: Final = "application/vnd.accel.record.v1"
REPORT_LAYER: Final = "application/vnd.accel.report.v1+json"
LOG_LAYER: Final = "text/plain"
_OWN_DIGITS: Final = 32
_TAG = re.compile(r"v([1-9][0-9]{0,8})\Z")


@dataclass(frozen=True)
class Version:
    """One version as the registry has it."""

    number: int
    document: Document
    manifest: Manifest

    @property
    def digest(self) -> str:
        """Digest of the version's manifest."""
        return self.document.digest

    @property
    def key(self) -> str | None:
        """What it was made from."""
        return self.manifest.annotations.get(KEY)


@dataclass(frozen=True)
class Record:
    """What is true of the push that made a version."""

    digest: str
    manifest: Manifest

    @property
    def created(self) -> str:
        """When, in RFC 3339."""
        return self.manifest.annotations.get(CREATED, "1970-01-01T00:00:00Z")

    @property
    def sku(self) -> str | None:
        """The card that the program is for; None without a program, and where an older release pushed it."""
        return self.manifest.annotations.get(SKU)


def model_key(source_sha256: str, conversion: Conversion) -> str:
    """Return the key of a model: its source and the options that change the artifact."""
    options: dict[str, Any] = {"mode": conversion.mode}
    if not conversion.register_only:
        options |= {
            "format": conversion.format,
            "inputs": list(conversion.inputs),
            "outputs": list(conversion.outputs),
            "signature": conversion.signature,
            "precision": conversion.precision,
            "requireFpga": conversion.require_fpga,
        }
        if conversion.sku != DEFAULT_SKU:  # versions of releases that knew no other keep their keys
            options["sku"] = conversion.sku
    return hashlib.sha256(canonical_json({"source": source_sha256, "conversion": options})).hexdigest()


def image_key(base_digest: str, model_digest: str) -> str:
    """Return the key of an image: its base for one platform, and its model."""
    return hashlib.sha256(canonical_json({"base": base_digest, "model": model_digest})).hexdigest()


def list_versions(registry: Registry, repository: str) -> list[Version]:
    """Return all versions of a repository, newest first."""
    numbers = sorted(
        (int(match.group(1)) for tag in registry.tags(repository) if (match := _TAG.match(tag))), reverse=True
    )
    versions = []
    for number in numbers:
        try:
            document = registry.get_manifest(repository, f"v{number}")
        except NotFound:
            continue  # removed since the tags were listed
        versions.append(Version(number, document, document.manifest()))
    return versions


def find_version(registry: Registry, repository: str, key: str) -> Version | None:
    """Return the newest version that was made from this key."""
    return next((v for v in list_versions(registry, repository) if v.key == key), None)


def number_for(digest: str, versions: list[Version], remembered: Mapping[str, int]) -> int:
    """Return the number of a new version: the one that it had before, or the one after all others.

    remembered: the operator's memory, digest to number. A registry that lost its content knows no numbers, and a
    number that users have pinned must not come to mean other bytes.
    """
    taken = {version.number for version in versions}
    before = remembered.get(digest)
    if before is not None and before not in taken:
        return before
    return max((*taken, *remembered.values()), default=0) + 1


def put_record(
    registry: Registry,
    repository: str,
    subject: Document,
    layers: Mapping[str, bytes],
    annotations: Mapping[str, str],
) -> Record:
    """Attach a record to a manifest, which may follow later; `layers` maps media types to contents.

    Registries without the referrers API (most) find it through the tag `sha256-<digest>`, which is written
    always. The record has a tag of its own before, and an index that is replaced gets one.
    """
    descriptors = []
    for media_type, content in layers.items():
        digest = registry.put_blob(repository, content)
        descriptors.append(Descriptor(media_type, digest, len(content)))
    registry.put_blob(repository, b"{}")
    manifest = Manifest(
        EMPTY_DESCRIPTOR,
        tuple(descriptors) or (EMPTY_DESCRIPTOR,),
        {CREATED: datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ"), **annotations},
        artifact_type=RECORD_TYPE,
        subject=subject.descriptor,
    )
    document = Document(manifest.media_type, manifest.to_bytes())
    registry.put_manifest(repository, _own_tag(subject.digest, document.digest), document)
    entry = Descriptor(
        document.media_type,
        document.digest,
        len(document.body),
        manifest.annotations,
        artifact_type=RECORD_TYPE,
    )
    before = _index(registry, repository, subject.digest)
    others: tuple[Descriptor, ...] = ()
    if before is not None:
        registry.put_manifest(repository, _own_tag(subject.digest, before.digest), before)
        others = tuple(m for m in _listed(before) if m.artifact_type != RECORD_TYPE)
    index = Index((*others, entry))
    registry.put_manifest(
        repository, _referrers_tag(subject.digest), Document(index.media_type, index.to_bytes())
    )
    return Record(document.digest, manifest)


def get_record(registry: Registry, repository: str, digest: str) -> Record | None:
    """Return the record of a manifest, or None if it was lost."""
    index = _index(registry, repository, digest)
    for entry in _listed(index) if index is not None else ():
        if entry.artifact_type == RECORD_TYPE:
            try:
                document = registry.get_manifest(repository, entry.digest)
            except NotFound:
                continue
            return Record(document.digest, document.manifest())
    return None


def read_report(registry: Registry, repository: str, record: Record) -> dict[str, Any]:
    """Return the report that a record holds, or an empty one."""
    for layer in record.manifest.layers:
        if layer.media_type == REPORT_LAYER:
            try:
                report = json.loads(registry.read_blob(repository, layer))
            except (OciError, ValueError):
                return {}
            return report if isinstance(report, dict) else {}
    return {}


def _referrers_tag(digest: str) -> str:
    return digest.replace(":", "-")


def _own_tag(subject: str, digest: str) -> str:
    """Return a tag for a further manifest of a subject; it names both."""
    return f"{_referrers_tag(subject)}.{digest.partition(':')[2][:_OWN_DIGITS]}"


def _index(registry: Registry, repository: str, digest: str) -> Document | None:
    try:
        return registry.get_manifest(repository, _referrers_tag(digest))
    except NotFound:
        return None


def _listed(index: Document) -> tuple[Descriptor, ...]:
    parsed = index.parse()
    return parsed.manifests if isinstance(parsed, Index) else ()
