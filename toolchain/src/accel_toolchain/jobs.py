"""What a Job is told: the JSON in `ACCEL_JOB`, as values.

The operator writes it, so an error here is a release mismatch and says so; unknown fields of a newer operator
are ignored.
"""

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, Final

from accel_toolchain.conditions import Terminal

CONVERT_SCHEMA: Final = "accel.dev/convert-job/v1"
BUILD_SCHEMA: Final = "accel.dev/build-job/v1"
DEFAULT_SKU: Final = "bw-cnn-a10"  # of every Job of a release that knew no other


@dataclass(frozen=True)
class Conversion:
    """`spec.conversion` of an FpgaModel, with its defaults filled in."""

    mode: str = "Auto"
    format: str = "Auto"
    inputs: tuple[str, ...] = ()
    outputs: tuple[str, ...] = ()
    signature: str | None = None
    precision: str = "msfp-a10"
    sku: str = DEFAULT_SKU
    require_fpga: bool = True

    @property
    def register_only(self) -> bool:
        """Whether the source is stored as it is."""
        return self.mode == "RegisterOnly"


@dataclass(frozen=True)
class ConvertJob:
    """One conversion: where the source is, what to make of it, where the artifact goes."""

    namespace: str
    name: str
    uri: str
    sha256: str | None
    conversion: Conversion
    samples: int
    tolerance: float | None
    registry: str
    repository: str
    max_source_bytes: int
    fetch_seconds: float
    source_secret: str | None = None
    registry_secret: str | None = None
    max_source_files: int = 20_000
    max_source_ratio: int = 200
    remembered: Mapping[str, int] = field(
        default_factory=dict
    )  # digest to number of versions that there were


@dataclass(frozen=True)
class BuildJob:
    """One image build: a base and a model's layer."""

    namespace: str
    name: str
    description: str
    tags: Mapping[str, str]
    model_repository: str
    model_version: int
    model_digest: str
    base: str
    base_insecure: bool
    registry: str
    repository: str
    reason: str
    registry_secret: str | None = None
    remembered: Mapping[str, int] = field(default_factory=dict)  # as in ConvertJob
    sku: str | None = None  # the card that the model's program is for; None where the operator does not know


def parse_convert(text: str) -> ConvertJob:
    """Read a convert Job; raises Terminal (InvalidJob)."""
    with _reading(CONVERT_SCHEMA):
        job = _document(text, CONVERT_SCHEMA)
        conversion, verification = job.get("conversion") or {}, job.get("verification") or {}
        limits = job.get("limits") or {}
        return ConvertJob(
            namespace=str(job["model"]["namespace"]),
            name=str(job["model"]["name"]),
            uri=str(job["source"]["uri"]),
            sha256=job["source"].get("sha256") or None,
            conversion=Conversion(
                mode=conversion.get("mode") or "Auto",
                format=conversion.get("format") or "Auto",
                inputs=tuple(conversion.get("inputs") or ()),
                outputs=tuple(conversion.get("outputs") or ()),
                signature=conversion.get("signature") or None,
                precision=conversion.get("precision") or "msfp-a10",
                sku=conversion.get("sku") or DEFAULT_SKU,
                require_fpga=conversion.get("requireFpga", True) is not False,
            ),
            samples=int(verification.get("samples") or 4),
            tolerance=float(verification["tolerance"]) if verification.get("tolerance") is not None else None,
            registry=str(job["registry"]["endpoint"]),
            repository=str(job["target"]["repository"]),
            max_source_bytes=int(limits.get("maxSourceBytes") or 4 << 30),
            fetch_seconds=float(limits.get("fetchSeconds") or 900),
            source_secret=job["source"].get("secret") or None,
            registry_secret=job["registry"].get("secret") or None,
            max_source_files=int(limits.get("maxSourceFiles") or 20_000),
            max_source_ratio=int(limits.get("maxSourceRatio") or 200),
            remembered=_numbers(job["target"].get("versions")),
        )


def parse_build(text: str) -> BuildJob:
    """Read a build Job; raises Terminal (InvalidJob)."""
    with _reading(BUILD_SCHEMA):
        job = _document(text, BUILD_SCHEMA)
        return BuildJob(
            namespace=str(job["image"]["namespace"]),
            name=str(job["image"]["name"]),
            description=str(job["image"].get("description") or ""),
            tags=_tags(job["image"].get("tags")),
            model_repository=str(job["model"]["repository"]),
            model_version=int(job["model"]["version"]),
            model_digest=str(job["model"]["digest"]),
            base=str(job["base"]),
            base_insecure=bool(job.get("baseInsecure")),
            registry=str(job["registry"]["endpoint"]),
            repository=str(job["target"]["repository"]),
            reason=str(job.get("reason") or "Spec"),
            registry_secret=job["registry"].get("secret") or None,
            remembered=_numbers(job["target"].get("versions")),
            sku=job["model"].get("sku") or None,
        )


@contextmanager
def _reading(schema: str) -> Iterator[None]:
    """Turn what a malformed document raises into one condition."""
    try:
        yield
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise Terminal(
            "InvalidJob",
            f"ACCEL_JOB is no {schema} document ({error!r}). Operator and toolchain image do not match.",
        ) from error


def _document(text: str, schema: str) -> dict[str, Any]:
    job = json.loads(text)
    if job["schema"] != schema:
        raise ValueError(f"schema {job['schema']}")
    return dict(job)


def _numbers(value: Any) -> dict[str, int]:
    return {str(digest): int(number) for digest, number in (value or {}).items()}


def _tags(value: Any) -> dict[str, str]:
    """AccelImage tags: a mapping, or a list of words."""
    if isinstance(value, list):
        return {str(word): "" for word in value}
    return {str(k): str(v) for k, v in (value or {}).items()}
