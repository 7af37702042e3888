"""AccelImage: a container image that serves one version of one model."""

from typing import Annotated, Literal

from pydantic import Field, StringConstraints

from fpga_operator.api.base import (
    ApiModel,
    Digest,
    Name,
    Reference,
    StatusBase,
    Tags,
    Text,
    Time,
    checked,
    listed_by,
    rule,
)
from fpga_operator.api.fpgamodel import HistoryLimit, JobRecord, Sku

Repository = Annotated[
    str,
    StringConstraints(min_length=1, max_length=200),
    checked(
        rule(
            r"self.matches('^[a-z0-9]+((\\.|_|__|-+)[a-z0-9]+)*(/[a-z0-9]+((\\.|_|__|-+)[a-z0-9]+)*)*$')",
            "spec.repository names a repository of the configured registry in lower case: letters and digits, joined "
            "by one of . _ - and /, without host and tag, such as teams/vision/net",
        )
    ),
]


class ModelRef(ApiModel):
    """The model, in the same namespace."""

    name: Name = Field(description="Name of the FpgaModel.")
    version: Annotated[int, Field(ge=1)] | None = Field(
        default=None,
        description="Version of the model. Absent: follow its latest one. A lower number goes back.",
    )


class AccelImageSpec(ApiModel):
    """What the user wants."""

    model_ref: ModelRef
    description: Text | None = Field(
        default=None, description="Free text, kept as an annotation of the image."
    )
    tags: Tags | None = Field(default=None, description="Free key-value pairs, kept with the image.")
    repository: Repository | None = Field(
        default=None,
        description="Repository in the configured registry, in lower case. Absent: images/<namespace>/<name>. Names "
        "below images/ and models/ belong to the namespace that follows, those below sources/ to pushed sources.",
    )

    history_limit: HistoryLimit | None = Field(
        default=None,
        description="Images kept beside those in use (the newest, those that an AccelService names, runs or could fall "
        "back to). Absent: 10.",
    )


class ImageVersion(ApiModel):
    """One image in the registry, tag v<version>."""

    version: Annotated[int, Field(ge=1)] = Field(
        description="Number of the image; the registry's tag is v<number>."
    )
    digest: Digest = Field(description="Digest of the image's manifest.")
    model_version: Annotated[int, Field(ge=1)] | None = Field(
        default=None, description="Version of the model in it."
    )
    model_digest: Digest | None = Field(default=None, description="Digest of the model in it.")
    reason: Literal["Spec", "Model", "Runtime"] | None = Field(
        default=None, description="What made it be built."
    )
    created_time: Time | None = Field(default=None, description="When it was built.")
    size_bytes: Annotated[int, Field(ge=0)] | None = Field(default=None, description="Size in bytes.")
    sku: Sku | None = Field(
        default=None,
        description="Kind of card that the model in it runs on. Absent: any node, or it is not known.",
    )


class AccelImageStatus(StatusBase):
    """What the operator found."""

    creation_state: Literal["Pending", "Building", "Succeeded", "Failed"] | None = Field(
        default=None, description="Where the image that the spec asks for stands."
    )
    image: Reference | None = Field(
        default=None, description="The image by digest, oci:///repository@sha256:..."
    )
    image_version: Annotated[int, Field(ge=1)] | None = Field(
        default=None, description="Number of that image."
    )
    model_version: Annotated[int, Field(ge=1)] | None = Field(
        default=None, description="Version of the model in that image."
    )
    versions: Annotated[tuple[ImageVersion, ...], Field(max_length=256)] = Field(
        default=(),
        description="Images in the registry, newest first.",
        json_schema_extra=listed_by("version"),
    )
    repository: Reference | None = Field(default=None, description="Repository that versions are in.")
    runtime_base: Reference | None = Field(
        default=None, description="The runtime image that it is built on, pinned by the first build."
    )
    build_log: Reference | None = Field(default=None, description="Reference of the build's log.")
    job: JobRecord | None = None
