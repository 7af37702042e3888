"""Manifests and indexes as typed values, with one canonical JSON form: equal values have equal digests."""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from accel.oci.digests import EMPTY_JSON, digest_of, is_digest
from accel.oci.errors import InvalidContent

OCI_MANIFEST: Final = "application/vnd.oci.image.manifest.v1+json"
OCI_INDEX: Final = "application/vnd.oci.image.index.v1+json"
OCI_CONFIG: Final = "application/vnd.oci.image.config.v1+json"
OCI_EMPTY: Final = "application/vnd.oci.empty.v1+json"
OCI_LAYER: Final = "application/vnd.oci.image.layer.v1.tar"
DOCKER_MANIFEST: Final = "application/vnd.docker.distribution.manifest.v2+json"
DOCKER_INDEX: Final = "application/vnd.docker.distribution.manifest.list.v2+json"


@dataclass(frozen=True)
class Descriptor:
    """What a blob or manifest is, which digest it has, and how many bytes."""

    media_type: str
    digest: str
    size: int
    annotations: Mapping[str, str] = field(default_factory=dict)
    platform: Mapping[str, str] | None = None
    artifact_type: str | None = None

    def to_json(self) -> dict[str, Any]:
        """Return the descriptor as the OCI specification writes it."""
        document: dict[str, Any] = {"mediaType": self.media_type, "digest": self.digest, "size": self.size}
        if self.artifact_type:
            document["artifactType"] = self.artifact_type
        if self.platform:
            document["platform"] = dict(self.platform)
        if self.annotations:
            document["annotations"] = dict(self.annotations)
        return document

    @classmethod
    def from_json(cls, document: Any) -> "Descriptor":
        """Read a descriptor; raises InvalidContent."""
        try:
            digest, size = document["digest"], document["size"]
            if not is_digest(digest) or not isinstance(size, int) or size < 0:
                raise InvalidContent(f"A descriptor has the digest {digest!r} and the size {size!r}.")
            return cls(
                str(document["mediaType"]),
                digest,
                size,
                _strings(document.get("annotations")),
                {k: v for k, v in document["platform"].items() if isinstance(v, str)}
                if document.get("platform")
                else None,
                document.get("artifactType"),
            )
        except (KeyError, TypeError, AttributeError) as error:
            raise InvalidContent(f"A descriptor is malformed: {error!r}.") from error


EMPTY_DESCRIPTOR: Final = Descriptor(OCI_EMPTY, digest_of(EMPTY_JSON), len(EMPTY_JSON))


@dataclass(frozen=True)
class Manifest:
    """An image or artifact manifest."""

    config: Descriptor
    layers: tuple[Descriptor, ...]
    annotations: Mapping[str, str] = field(default_factory=dict)
    artifact_type: str | None = None
    subject: Descriptor | None = None
    media_type: str = OCI_MANIFEST

    def to_bytes(self) -> bytes:
        """Return canonical JSON: sorted keys, no spaces."""
        document: dict[str, Any] = {
            "schemaVersion": 2,
            "mediaType": self.media_type,
            "config": self.config.to_json(),
            "layers": [layer.to_json() for layer in self.layers],
        }
        if self.artifact_type:
            document["artifactType"] = self.artifact_type
        if self.subject:
            document["subject"] = self.subject.to_json()
        if self.annotations:
            document["annotations"] = dict(self.annotations)
        return canonical_json(document)

    @property
    def size(self) -> int:
        """Bytes of the config and all layers, as stored."""
        return self.config.size + sum(layer.size for layer in self.layers)


@dataclass(frozen=True)
class Index:
    """A list of manifests: the platforms of an image, or the referrers of a manifest."""

    manifests: tuple[Descriptor, ...]
    media_type: str = OCI_INDEX

    def to_bytes(self) -> bytes:
        """Return canonical JSON."""
        return canonical_json(
            {
                "schemaVersion": 2,
                "mediaType": self.media_type,
                "manifests": [m.to_json() for m in self.manifests],
            }
        )

    def for_platform(self, architecture: str, os: str = "linux") -> Descriptor | None:
        """Return the manifest of a platform, or None."""
        for manifest in self.manifests:
            platform = manifest.platform or {}
            if (platform.get("architecture"), platform.get("os")) == (architecture, os):
                return manifest
        return None


@dataclass(frozen=True)
class Document:
    """A manifest or index as it came: the bytes are what the digest is of."""

    media_type: str
    body: bytes

    @property
    def digest(self) -> str:
        """Digest of the bytes."""
        return digest_of(self.body)

    @property
    def descriptor(self) -> Descriptor:
        """How an index or a subject field refers to this document."""
        return Descriptor(self.media_type, self.digest, len(self.body))

    def parse(self) -> Manifest | Index:
        """Return the typed value; raises InvalidContent for anything but a manifest or an index."""
        try:
            document = json.loads(self.body)
            media_type = document.get("mediaType", self.media_type)
            if media_type in (OCI_INDEX, DOCKER_INDEX):
                return Index(tuple(Descriptor.from_json(m) for m in document["manifests"]), media_type)
            if media_type not in (OCI_MANIFEST, DOCKER_MANIFEST):
                raise InvalidContent(f"{media_type} is neither an image manifest nor an index.")
            return Manifest(
                Descriptor.from_json(document["config"]),
                tuple(Descriptor.from_json(layer) for layer in document["layers"]),
                _strings(document.get("annotations")),
                document.get("artifactType"),
                Descriptor.from_json(document["subject"]) if document.get("subject") else None,
                media_type,
            )
        except (KeyError, TypeError, AttributeError, ValueError) as error:
            raise InvalidContent(f"The manifest {self.digest} is malformed: {error!r}.") from error

    def manifest(self) -> Manifest:
        """Return the image manifest; raises InvalidContent if this is an index."""
        parsed = self.parse()
        if isinstance(parsed, Index):
            raise InvalidContent(
                f"{self.digest} is an index of several manifests, not one image or artifact."
            )
        return parsed


def canonical_json(document: Any) -> bytes:
    """Return JSON in the one form whose digest is stable."""
    return json.dumps(document, sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode()


def _strings(value: Any) -> dict[str, str]:
    return {str(k): str(v) for k, v in value.items()} if isinstance(value, dict) else {}
