"""What a Job's containers leave in their termination messages: one versioned schema, read with tolerance."""

import json
from typing import Annotated, Literal, TypeVar

from pydantic import Field, ValidationError, field_validator

from fpga_operator.api.accelimage import ImageVersion
from fpga_operator.api.base import ApiModel, Reference
from fpga_operator.api.fpgamodel import Device, ModelVersion, Parity, Tensor

SCHEMA_PREFIX = "accel.dev/job-result/"
T = TypeVar("T", bound=ApiModel)
READABLE = ("v1", "v0")  # this release's schema and the one before


class JobResult(ApiModel):
    """One container's message. Fields that this release does not know are ignored, absent ones have defaults."""

    schema_: str = Field(alias="schema")
    step: Literal["fetch", "convert", "push", "build"]
    ok: bool
    reason: Annotated[str, Field(pattern=r"^[A-Za-z][A-Za-z0-9]*$", max_length=64)] = "JobFailed"
    message: str = ""
    retry: bool = False
    model: ModelVersion | None = None
    image: ImageVersion | None = None
    versions: tuple[dict[str, object], ...] = ()
    versions_cut: bool = False
    inputs: tuple[Tensor, ...] = ()
    outputs: tuple[Tensor, ...] = ()
    device: Device | None = None
    parity: Parity | None = None
    log: Reference | None = None

    @field_validator("device")
    @classmethod
    def _without_nothing(cls, device: Device | None) -> Device | None:
        """An empty list of reasons is none: the API server may drop it from a status."""
        if device is not None and not device.host_reasons:
            return device.model_copy(update={"host_reasons": None})
        return device

    def model_versions(self) -> tuple[ModelVersion, ...]:
        """Return `versions` of a model, without entries that do not read."""
        return tuple(v for entry in self.versions if (v := _read(ModelVersion, entry)) is not None)

    def image_versions(self) -> tuple[ImageVersion, ...]:
        """Return `versions` of an image, without entries that do not read."""
        return tuple(v for entry in self.versions if (v := _read(ImageVersion, entry)) is not None)


def _read(model: type[T], entry: object) -> T | None:
    try:
        return model.model_validate(entry)
    except ValidationError:
        return None


def parse_result(text: str) -> JobResult | None:
    """Read a termination message; None when it is not one of ours (a crash, another tool's text)."""
    try:
        raw = json.loads(text)
    except ValueError:
        return None
    if not isinstance(raw, dict):
        return None
    schema = str(raw.get("schema", ""))
    if not schema.startswith(SCHEMA_PREFIX) or schema.removeprefix(SCHEMA_PREFIX) not in READABLE:
        return None
    try:
        return JobResult.model_validate(raw)
    except ValidationError:
        return None
