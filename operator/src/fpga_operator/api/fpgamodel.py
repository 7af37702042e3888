"""FpgaModel: a model from its source to a converted, compiled and verified version in the registry."""

from enum import StrEnum
from typing import Annotated, Literal

from pydantic import ConfigDict, Field, StringConstraints, WithJsonSchema

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
    checked,
    listed_by,
    rule,
)
from fpga_operator.api.source import Source

TensorName = Annotated[str, StringConstraints(min_length=1, max_length=256)]
Sku = Annotated[str, StringConstraints(max_length=63)]
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


class ConversionLimits(ApiModel):
    """What one conversion may take; absent: as the operator is configured."""

    memory: (
        Annotated[
            str,
            StringConstraints(max_length=32, pattern=r"^[1-9][0-9]{0,5}[MG]i?$"),
            WithJsonSchema(
                {
                    "type": "string",
                    "maxLength": 32,
                    "x-kubernetes-validations": [
                        rule(
                            "self.matches('^[1-9][0-9]{0,5}[MG]i?$') && "
                            "quantity(self).compareTo(quantity('128Mi')) >= 0 && "
                            "quantity(self).compareTo(quantity('256Gi')) <= 0",
                            "spec.conversion.limits.memory is a whole number with Mi or Gi (or M, G) from 128Mi to "
                            "256Gi, as in 2Gi: a conversion needs about 14 times the model's float32 weights, and "
                            "128Mi for ONNX or 1Gi for TensorFlow",
                        )
                    ],
                }
            ),
        ]
        | None
    ) = Field(
        default=None,
        description="Memory that the converter asks for and may use, a whole number with Mi or Gi (or M, G), 128Mi to "
        "256Gi. About 14 times the model's float32 weights are needed, and 128Mi for ONNX or 1Gi for TensorFlow.",
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
                    "!has(self.format) || self.format != 'FrozenGraph' || (has(self.inputs) && "
                    "self.inputs.size() > 0 && has(self.outputs) && self.outputs.size() > 0)",
                    "spec.conversion.format FrozenGraph needs spec.conversion.inputs and spec.conversion.outputs, for "
                    "a frozen graph has no signature: name its tensors, as in inputs: ['image:0'], outputs: "
                    "['softmax:0']",
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
        default=None,
        description="Names of the input tensors; of an ONNX file or a frozen graph any tensors of the graph, what "
        "lies before them is cut off. Absent: those of the signature or the ONNX file.",
    )
    outputs: Annotated[tuple[TensorName, ...], Field(max_length=32)] | None = Field(
        default=None,
        description="Names of the output tensors; of an ONNX file or a frozen graph any tensors of the graph, what "
        "lies behind them is cut off. Absent: those of the signature or the ONNX file.",
    )
    signature: Annotated[str, StringConstraints(min_length=1, max_length=128)] | None = Field(
        default=None, description="Signature of the SavedModel. Absent: serving_default."
    )
    precision: Literal["msfp-a10"] | None = Field(
        default=None, description="Number format of the device. Absent: msfp-a10."
    )
    sku: (
        Annotated[
            str,
            StringConstraints(max_length=63),
            checked(
                rule(
                    "self in ['bw-cnn-a10', 'bw-a10']",
                    "spec.conversion.sku is bw-cnn-a10 (what is taken without it) or bw-a10, the cards that compute; "
                    "of others, such as bw-s10, `npu estimate MODEL.onnx --sku SKU` tells the time without a card",
                )
            ),
        ]
        | None
    ) = Field(
        default=None,
        description="Kind of card that it is compiled for, bw-cnn-a10 or bw-a10; it runs on no other kind. Absent: "
        "bw-cnn-a10. kubectl get fpganodes -o wide shows which kinds there are.",
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
        "Absent: 0.5, generous, so that a model whose numbers overflow on the device is not taken for a good one.",
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
    sku: Sku | None = Field(
        default=None,
        description="Kind of card that it runs on. Absent: the host computes everything, or it was made by a release "
        "that did not note it.",
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


class HostReason(ApiModel):
    """Operators that stay on the host for one reason."""

    operator: Short = Field(description="ONNX operator.")
    count: Annotated[int, Field(ge=1)] = Field(description="How many nodes of it.")
    reason: Text = Field(description="Why they stay on the host.")


class Device(ApiModel):
    """What the compiler says about the device part, before any device is used; times are simulated."""

    sku: Sku | None = Field(default=None, description="Kind of card that it was compiled for.")
    fits: bool | None = Field(
        default=None,
        description="Whether the program fits that card's memories. False: condition Converted says what does not.",
    )
    tiles: int | None = Field(default=None, description="Weight tiles that it keeps in the card's DRAM.")
    vectors: int | None = Field(
        default=None, description="Vectors of scales and biases that it keeps in the card's DRAM."
    )
    latency_ms: float | None = Field(
        default=None, description="Estimated device time of one picture, milliseconds."
    )
    inferences_per_second: float | None = Field(
        default=None, description="Estimated pictures a second on one device."
    )
    bound_by: Short | None = Field(
        default=None,
        description="What limits it: compute, dram, issue (of instructions), host (PCIe and driver) or latency (of the "
        "pipeline).",
    )
    offloaded_ops: int | None = Field(default=None, description="ONNX operators that run on the device.")
    host_ops: int | None = Field(default=None, description="ONNX operators that stay on the host.")
    host_reasons: Annotated[tuple[HostReason, ...], Field(max_length=16)] | None = Field(
        default=None,
        description="Which of them and why, the most frequent first; what a Job's message has no room for is left out, "
        "and is in the report.",
    )


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
    saturated: float | None = Field(
        default=None,
        description="Share of the device's numbers that reached float16's largest, 65504; above 0 the model overflows.",
    )


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
