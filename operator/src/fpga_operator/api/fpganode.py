"""FpgaNode: the FPGAs of one node, written by the device plugin there; cluster-scoped, status only."""

from typing import Annotated

from pydantic import Field, StringConstraints

from fpga_operator.api.base import ApiModel, Short, Text, Time, listed_by


class Holder(ApiModel):
    """The pod that holds a device."""

    namespace: Short = Field(description="Namespace of the pod.")
    pod: Short = Field(description="Name of the pod.")


class NodeDevice(ApiModel):
    """One FPGA."""

    id: Annotated[str, StringConstraints(min_length=1, max_length=63)] = Field(description="Id on its node.")
    sku: Short | None = Field(default=None, description="Kind of card.")
    state: Short | None = Field(
        default=None, description="absent, golden, flashing, idle, loading, ready, busy or faulted."
    )
    health: Short | None = Field(default=None, description="Healthy or Unhealthy.")
    reason: Text | None = Field(default=None, description="Why it is unhealthy.")
    health_since: Time | None = Field(
        default=None, description="Since when; absent if its health never changed since it was first seen."
    )
    model_digest: Short | None = Field(default=None, description="Digest of the program that it holds.")
    holder: Holder | None = None


class FpgaNodeSpec(ApiModel):
    """Nothing to ask for: the node has the devices that it has."""


class FpgaNodeStatus(ApiModel):
    """What the device plugin sees; nothing in it ticks."""

    devices: Annotated[tuple[NodeDevice, ...], Field(max_length=64)] = Field(
        default=(), description="The FPGAs of the node.", json_schema_extra=listed_by("id")
    )
    total: Annotated[int, Field(ge=0)] | None = Field(default=None, description="Number of FPGAs.")
    healthy: Annotated[int, Field(ge=0)] | None = Field(default=None, description="Those that are healthy.")
    free: Annotated[int, Field(ge=0)] | None = Field(
        default=None, description="Those healthy and held by no pod."
    )
    # A column of kubectl get shows one value: lists must come as text.
    holders: Text | None = Field(
        default=None,
        description="Each device with the pod that holds it, in one line for kubectl get -o wide.",
    )
    trouble: Text | None = Field(
        default=None, description="Each unhealthy device with the reason's first word, in one line."
    )
