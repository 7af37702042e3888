"""FpgaModel: a model from its source to a converted, compiled and verified version in the registry."""

from enum import StrEnum
from typing import Annotated, Literal

from pydantic import ConfigDict, Field, StringConstraints, WithJsonSchema

from fpga_operator.api.base import (
    ApiModel,
    Digest,
    Name,
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
HistoryLimit = Annotated[int, Field(ge=0, le=100)]


class Mode(StrEnum):
    """How far the model is taken."""

    AUTO = "Auto"
    REGISTER_ONLY = "RegisterOnly"


class Format(StrEnum):
    """What the source holds."""

    AUTO = "Auto"
    SAVED_MODEL = "SavedModel"
    FROZEN_GRAPH = "FrozenGraph"
    ONNX = "Onnx"


class SourceSecret(ApiModel):
    """Credentials for the source; only the container that fetches it sees them."""

    name: Name = Field(
        description="Name of a Secret of the model's namespace: username and password, or token (https), or "
        ".dockerconfigjson (oci); ca.crt is trusted in addition."
    )


class Source(ApiModel):
    """Where the model's bytes are."""

    model_config = ConfigDict(
        json_schema_extra={
            "x-kubernetes-validations": [
                rule(
                    "self.uri.startsWith('oci://') || self.uri.startsWith('https://') || self.uri.startsWith('pvc://')",
                    "spec.source.uri must start with oci:// (push a folder with: kubectl accel push DIR "
                    "oci:///sources/NAME:TAG), https:// (an archive, an .onnx or a .pb file) or pvc:// (pvc://CLAIM/PATH)",
                    fieldPath=".uri",
                ),
                rule(
                    "!self.uri.startsWith('oci://') || self.uri.matches('^oci://([^/]*[.:][^/]*|localhost)?/')",
                    "spec.source.uri begins with a registry's host that has neither a dot nor a port; the configured "
                    "registry is written with three slashes: oci:///sources/NAME:TAG",
                    messageExpression="\"spec.source.uri names '\" + self.uri.substring(6).split('/')[0] + \"' as the "
                    "registry's host, which has neither a dot nor a port; did you mean oci:///\" + "
                    "self.uri.substring(6) + ' ?'",
                    fieldPath=".uri",
                ),
                rule(
                    "!self.uri.startsWith('oci://') || !self.uri.matches('^oci://[^/]*/[^:@]*[A-Z]')",
                    "spec.source.uri: a repository is named in lower case: write NAME in oci:///sources/NAME:TAG without "
                    "capital letters (the tag may have them)",
                    fieldPath=".uri",
                ),
                rule(
                    "!self.uri.startsWith('oci://') || self.uri.matches('/[^/]*(:[A-Za-z0-9_.-]+|@sha256:[a-f0-9]{64})$')",
                    "spec.source.uri names no tag and no digest, and there is no silent 'latest': append :TAG or @sha256:DIGEST",
                    fieldPath=".uri",
                ),
                rule(
                    "!self.uri.startsWith('oci://') || self.uri.matches('^oci://[A-Za-z0-9.:-]*/[A-Za-z0-9]+([._/-]+[A-Za-z0-9]+)*"
                    "(:[A-Za-z0-9_][A-Za-z0-9_.-]{0,127})?(@sha256:[a-f0-9]{64})?$')",
                    "spec.source.uri names no repository that can be: write oci:///sources/NAME:TAG; NAME has lower-case "
                    "letters, digits, '.', '_', '-' and '/'",
                    fieldPath=".uri",
                ),
                rule(
                    "!self.uri.startsWith('pvc://') || self.uri.matches('^pvc://[a-z0-9]([-a-z0-9.]*[a-z0-9])?/')",
                    "spec.source.uri names no claim that can be: write pvc://CLAIM/PATH with the name of a "
                    "PersistentVolumeClaim of this namespace, or pvc://CLAIM/ for all of it",
                    fieldPath=".uri",
                ),
                rule(
                    "!self.uri.startsWith('pvc://') || !self.uri.matches('/[.][.]?(/|$)')",
                    "spec.source.uri: the path in a claim has no part '.' or '..': write it from the claim's root",
                    fieldPath=".uri",
                ),
                rule(
                    "!has(self.secretRef) || !self.uri.startsWith('pvc://')",
                    "spec.source.secretRef is for oci:// and https:// sources: remove it, a claim needs none",
                    fieldPath=".secretRef",
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
        description="oci:///repository:tag (the configured registry), oci://host/repository:tag, the https:// address "
        "of an archive (tar, tar.gz, zip), an .onnx or a .pb file, or pvc://claim/path of such a file or of a folder."
    )
    sha256: Sha256 | None = Field(
        default=None,
        description="Expected SHA-256 of the bytes at the URI (for oci: of the manifest; for a folder: of the output of "
        "find . -type f | LC_ALL=C sort | xargs sha256sum), 64 hexadecimal digits.",
    )
    secret_ref: SourceSecret | None = None


class ConversionLimits(ApiModel):
    """What one conversion may take; absent: as the operator is configured."""

    memory: (
        Annotated[
            str,
            StringConstraints(max_length=8, pattern=r"^[1-9][0-9]{0,5}(Mi|Gi)$"),
            WithJsonSchema(
                {
                    "type": "string",
                    "maxLength": 8,
                    "pattern": "^[1-9][0-9]{0,5}(Mi|Gi)$",
                    "x-kubernetes-validations": [
                        rule(
                            "quantity(self).compareTo(quantity('64Mi')) >= 0 && "
                            "quantity(self).compareTo(quantity('256Gi')) <= 0",
                            "spec.conversion.limits.memory is between 64Mi and 256Gi: a conversion needs about 14 times "
                            "the model's float32 weights and 1Gi",
                        )
                    ],
                }
            ),
        ]
        | None
    ) = Field(
        default=None,
        description="Memory that the converter asks for and may use, a whole number of Mi or Gi. About 14 times the "
        "model's float32 weights and 1Gi are needed.",
    )
    deadline_seconds: Annotated[int, Field(ge=10, le=86_400)] | None = Field(
        default=None, description="Seconds that the whole Job may take, fetching and pushing included."
    )


class Conversion(ApiModel):
    """How the source becomes ONNX and a device program."""

    model_config = ConfigDict(
        json_schema_extra={
            "x-kubernetes-validations": [
                rule(
                    "!has(self.format) || self.format != 'FrozenGraph' || (has(self.inputs) && self.inputs.size() > 0 && "
                    "has(self.outputs) && self.outputs.size() > 0)",
                    "spec.conversion.format FrozenGraph needs spec.conversion.inputs and spec.conversion.outputs, for a "
                    "frozen graph has no signature: name its tensors, such as inputs: ['image:0'], outputs: ['softmax:0']",
                )
            ]
        }
    )

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
    limits: ConversionLimits | None = None


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
    history_limit: HistoryLimit | None = Field(
        default=None,
        description="Versions kept beside those in use (the latest, those that an AccelImage names or is built from). "
        "Absent: 10.",
    )


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
    outcome: Literal["Running", "Retrying", "Succeeded", "Failed", "Checking"] = Field(
        description="How it went. Checking: it failed, and is run again to see whether the fault has ended."
    )
    attempts: int = Field(default=0, description="Failures so far.")
    retry_time: Time | None = Field(default=None, description="When it is tried again.")
    reason: Short | None = Field(default=None, description="Reason of the last failure.")
    message: Text | None = Field(default=None, description="What the last failure said.")
    requested_at: Short | None = Field(
        default=None, description="The annotation accel.dev/requestedAt that it answers."
    )
    lost: Short | None = Field(
        default=None, description="Digest that the registry had lost and that it makes again."
    )
    missed: Short | None = Field(
        default=None, description="Digest of the model that a build did not find in the registry."
    )
    limits: Short | None = Field(
        default=None,
        description="Hash of the operator's limits under which it failed; others are worth a try.",
    )


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
