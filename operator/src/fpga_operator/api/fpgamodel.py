"""FpgaModel: a model from its source to a converted, compiled and verified version in the registry."""

from enum import StrEnum
from typing import Annotated, Literal

from pydantic import ConfigDict, Field, StringConstraints

from fpga_operator.api.base import (
    ApiModel,
    Digest,
    Reference,
    Sha256,
    Short,
    StatusBase,
    Tags,
    Text,
    Time,
    listed_by,
    rule,
)

TensorName = Annotated[str, StringConstraints(min_length=1, max_length=256)]


class Mode(StrEnum):
    """How far the model is taken."""

    AUTO = "Auto"
    REGISTER_ONLY = "RegisterOnly"


class Format(StrEnum):
    """What the source holds."""

    AUTO = "Auto"
    SAVED_MODEL = "SavedModel"
    ONNX = "Onnx"


class Source(ApiModel):
    """Where the model's bytes are."""

    model_config = ConfigDict(
        json_schema_extra={
            "x-kubernetes-validations": [
                rule(
                    "self.uri.startsWith('oci://') || self.uri.startsWith('https://')",
                    "spec.source.uri must start with oci:// (push a folder with: kubectl accel push DIR "
                    "oci:///sources/NAME:TAG) or https:// (an archive or an .onnx file)",
                    fieldPath=".uri",
                ),
                rule(
                    "!self.uri.startsWith('oci://') || self.uri.matches('^oci://[A-Za-z0-9.:-]*/[a-z0-9]+([._/-]+[a-z0-9]+)*"
                    "(:[A-Za-z0-9_][A-Za-z0-9_.-]{0,127})?(@sha256:[a-f0-9]{64})?$') && "
                    "self.uri.matches('/[^/]*(:[A-Za-z0-9_.-]+|@sha256:[a-f0-9]{64})$')",
                    "spec.source.uri names a repository in lower case and a tag or a digest: oci:///sources/NAME:TAG",
                    fieldPath=".uri",
                ),
                rule(
                    "!self.uri.startsWith('https://') || (isURL(self.uri) && url(self.uri).getHost() != '')",
                    "spec.source.uri is not the address of anything: write https://HOST/PATH",
                    fieldPath=".uri",
                ),
            ]
        }
    )

    uri: Annotated[str, StringConstraints(min_length=8, max_length=2048, pattern=r"^\S+$")] = Field(
        description="oci:///repository:tag (the configured registry), oci://host/repository:tag, or the https:// "
        "address of an archive (tar, tar.gz, zip) or an .onnx file."
    )
    sha256: Sha256 | None = Field(
        default=None,
        description="Expected SHA-256 of the bytes at the URI (for oci: of the manifest), 64 hexadecimal digits.",
    )


class Conversion(ApiModel):
    """How the source becomes ONNX and a device program."""

    mode: Mode | None = Field(
        default=None,
        description="Auto (the default) converts and compiles; RegisterOnly stores the model as it is.",
    )
    format: Format | None = Field(
        default=None, description="Format of the source. Absent or Auto: look at the files."
    )
    inputs: Annotated[tuple[TensorName, ...], Field(max_length=32)] | None = Field(
        default=None, description="Names of the input tensors. Absent: those of the signature."
    )
    outputs: Annotated[tuple[TensorName, ...], Field(max_length=32)] | None = Field(
        default=None, description="Names of the output tensors. Absent: those of the signature."
    )
    signature: Annotated[str, StringConstraints(min_length=1, max_length=128)] | None = Field(
        default=None, description="Signature of the SavedModel. Absent: serving_default."
    )
    precision: Literal["msfp-a10"] | None = Field(
        default=None, description="Number format of the device. Absent: msfp-a10."
    )
    require_fpga: bool | None = Field(
        default=None, description="Fail if no part of the model can run on the FPGA. Absent: true."
    )


class Verification(ApiModel):
    """How the converted model is compared with the original."""

    samples: Annotated[int, Field(ge=1, le=256)] | None = Field(
        default=None, description="Number of seeded inputs that are compared. Absent: 4."
    )
    tolerance: Annotated[float, Field(gt=0, le=1000)] | None = Field(
        default=None,
        description="Largest difference of an output that is accepted, relative to the largest value of that output. "
        "Absent: the difference is reported and not judged.",
    )


class FpgaModelSpec(ApiModel):
    """What the user wants."""

    description: Text | None = Field(default=None, description="Free text.")
    tags: Tags | None = Field(default=None, description="Free key-value pairs, kept with the model.")
    source: Source
    conversion: Conversion | None = None
    verification: Verification | None = None


class ModelVersion(ApiModel):
    """One version in the registry, tag v<version>."""

    version: Annotated[int, Field(ge=1)] = Field(
        description="Number of the version; the registry's tag is v<number>."
    )
    digest: Digest = Field(description="Digest of the artifact's manifest.")
    source_sha256: Sha256 | None = Field(
        default=None, description="SHA-256 of the source that it was made from."
    )
    created_time: Time | None = Field(default=None, description="When it was made.")
    size_bytes: Annotated[int, Field(ge=0)] | None = Field(
        default=None, description="Size of the artifact in bytes."
    )


class Tensor(ApiModel):
    """One input or output that clients may name."""

    name: TensorName = Field(description="Tensor name on the wire.")
    alias: Short | None = Field(
        default=None, description="Key in the signature; accepted on the wire as well."
    )
    dtype: Annotated[str, StringConstraints(max_length=32)] = Field(description="Element type.")
    shape: Annotated[tuple[int, ...], Field(max_length=16)] = Field(
        default=(), description="Dimensions; -1 is any size."
    )


class Device(ApiModel):
    """What the compiler says about the device part."""

    fits: bool | None = Field(default=None, description="Whether the program fits the device's memories.")
    tiles: int | None = Field(default=None, description="Matrix tiles that the weights take.")
    vectors: int | None = Field(default=None, description="Vectors of feature memory that it takes.")
    latency_ms: float | None = Field(
        default=None, description="Estimated device time of one picture, milliseconds."
    )
    inferences_per_second: float | None = Field(
        default=None, description="Estimated pictures a second on one device."
    )
    bound_by: Short | None = Field(default=None, description="What limits it.")
    offloaded_ops: int | None = Field(default=None, description="ONNX operators that run on the device.")
    host_ops: int | None = Field(default=None, description="ONNX operators that stay on the host.")


class Parity(ApiModel):
    """How far the device's answers are from the original's, on seeded inputs."""

    max_abs: float | None = Field(default=None, description="Largest absolute difference.")
    max_rel: float | None = Field(
        default=None, description="Largest difference relative to the output's largest value."
    )
    top1_agreement: float | None = Field(
        default=None,
        description="Share of the samples with the same first answer, 0 to 1.",
        alias="top1Agreement",
    )
    samples: int | None = Field(default=None, description="Number of samples compared.")


class JobRecord(ApiModel):
    """The last Job, remembered so that a finished Job is not run again because its object is gone."""

    name: Short = Field(description="Name of the Job; it holds the hash of its inputs.")
    outcome: Literal["Running", "Retrying", "Succeeded", "Failed"] = Field(description="How it went.")
    attempts: int = Field(default=0, description="Transient failures so far.")
    retry_time: Time | None = Field(default=None, description="When a transient failure is tried again.")


class FpgaModelStatus(StatusBase):
    """What the operator found."""

    latest_version: Annotated[int, Field(ge=1)] | None = Field(
        default=None, description="The version that the spec gives; AccelImages without a version follow it."
    )
    versions: Annotated[tuple[ModelVersion, ...], Field(max_length=256)] = Field(
        default=(),
        description="Versions in the registry, newest first.",
        json_schema_extra=listed_by("version"),
    )
    inputs: Annotated[tuple[Tensor, ...], Field(max_length=64)] = Field(
        default=(), description="Inputs of the model."
    )
    outputs: Annotated[tuple[Tensor, ...], Field(max_length=64)] = Field(
        default=(), description="Outputs of the model."
    )
    device: Device | None = None
    parity: Parity | None = None
    log: Reference | None = Field(
        default=None, description="Reference of the conversion's whole report and log."
    )
    job: JobRecord | None = None
