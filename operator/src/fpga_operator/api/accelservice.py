"""AccelService: an image on FPGAs, one per replica, behind gRPC with TLS and keys."""

from enum import StrEnum
from typing import Annotated, Any, Literal

from pydantic import ConfigDict, Field, StringConstraints

from fpga_operator.api.base import (
    ApiModel,
    Name,
    Quantity,
    Reference,
    Short,
    StatusBase,
    Text,
    checked,
    listed_by,
    rule,
)

Port = Annotated[int, Field(ge=1, le=65535)]
LabelValue = Annotated[
    str, StringConstraints(max_length=63, pattern=r"^(([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9])?$")
]
LabelText = Annotated[str, StringConstraints(max_length=317)]


class ExposeType(StrEnum):
    """Where the address is valid."""

    CLUSTER_IP = "ClusterIP"
    NODE_PORT = "NodePort"


class ImageRef(ApiModel):
    """The image, in the same namespace."""

    name: Name = Field(description="Name of the AccelImage.")
    version: Annotated[int, Field(ge=1)] | None = Field(
        default=None,
        description="Number of the image (status.versions). Absent: follow it. A lower number rolls back.",
    )


class Auth(ApiModel):
    """Who may call."""

    enabled: bool | None = Field(
        default=None, description="Ask every request for one of the two keys. Absent: true."
    )


class SecretRef(ApiModel):
    """A Secret in the same namespace."""

    name: Annotated[str, StringConstraints(min_length=1, max_length=253)] = Field(
        description="Name of the Secret."
    )


class Tls(ApiModel):
    """Certificate of the endpoint."""

    secret_ref: SecretRef = Field(description="Secret of type kubernetes.io/tls with tls.crt and tls.key.")


class Toleration(ApiModel):
    """A toleration as pods have them."""

    model_config = ConfigDict(
        json_schema_extra={
            "x-kubernetes-validations": [
                rule(
                    "has(self.key) || (has(self.operator) && self.operator == 'Exists')",
                    "a toleration without key tolerates every taint and needs operator: Exists",
                ),
                rule(
                    "!has(self.value) || !has(self.operator) || self.operator != 'Exists'",
                    "a toleration with operator: Exists has no value; remove one of them",
                ),
                rule(
                    "!has(self.tolerationSeconds) || (has(self.effect) && self.effect == 'NoExecute')",
                    "tolerationSeconds needs effect: NoExecute",
                ),
            ]
        }
    )

    key: LabelText | None = Field(
        default=None, description="Key of the taint; absent with Exists: every taint."
    )
    operator: Literal["Exists", "Equal"] | None = Field(default=None, description="Absent: Equal.")
    value: LabelText | None = Field(default=None, description="Value of the taint.")
    effect: Literal["NoSchedule", "PreferNoSchedule", "NoExecute"] | None = Field(
        default=None, description="Absent: every effect."
    )
    toleration_seconds: int | None = Field(
        default=None, description="How long NoExecute is tolerated, seconds."
    )


class Placement(ApiModel):
    """Which nodes may run it."""

    node_selector: Annotated[dict[str, LabelValue], Field(max_length=16)] | None = Field(
        default=None,
        description="Labels that a node must have.",
        json_schema_extra={
            "x-kubernetes-validations": [
                rule(
                    "self.all(key, key.size() <= 317 && key.matches('^([a-z0-9]([-a-z0-9.]*[a-z0-9])?/)?"
                    "[A-Za-z0-9]([-A-Za-z0-9_.]{0,61}[A-Za-z0-9])?$'))",
                    "spec.placement.nodeSelector has a key that no label can have: see kubectl get nodes --show-labels",
                )
            ]
        },
    )
    tolerations: Annotated[tuple[Toleration, ...], Field(max_length=16)] | None = Field(
        default=None,
        description="Taints that are tolerated.",
        json_schema_extra={"x-kubernetes-list-type": "atomic"},
    )


class Rollout(ApiModel):
    """How a new revision replaces the old one."""

    progress_deadline_seconds: Annotated[int, Field(ge=10, le=86400)] | None = Field(
        default=None,
        description="Seconds in which a started pod must become ready; time spent waiting for a device does not "
        "count. Absent: 600.",
    )


class Expose(ApiModel):
    """How clients reach it."""

    model_config = ConfigDict(
        json_schema_extra={
            "x-kubernetes-validations": [
                rule(
                    "!has(self.nodePort) || (has(self.type) && self.type == 'NodePort')",
                    "spec.expose.nodePort needs spec.expose.type: NodePort",
                    fieldPath=".nodePort",
                )
            ]
        }
    )

    type: ExposeType | None = Field(
        default=None,
        description="ClusterIP (the default): inside the cluster. NodePort: on every node's address too.",
    )
    port: Port | None = Field(default=None, description="Port of the Service. Absent: 8500.")
    node_port: Port | None = Field(
        default=None, description="Port on the nodes. Absent: Kubernetes picks one."
    )


class ResourceAmounts(ApiModel):
    """Amounts as containers have them; the FPGA is added by the operator."""

    cpu: Quantity | None = Field(default=None, description="Processor cores.")
    memory: Quantity | None = Field(default=None, description="Bytes of memory.")
    ephemeral_storage: Quantity | None = Field(
        default=None, alias="ephemeral-storage", description="Bytes of local storage."
    )


def _within_limit(name: str) -> dict[str, Any]:
    request, limit = f"self.requests.{name}", f"self.limits.{name}"
    return rule(
        f"!has(self.requests) || !has(self.limits) || !has({request}) || !has({limit}) || "
        f"quantity(string({request})).compareTo(quantity(string({limit}))) <= 0",
        f"spec.resources.requests.{name} is above spec.resources.limits.{name}: lower one or raise the other",
    )


class Resources(ApiModel):
    """Host resources of one replica."""

    model_config = ConfigDict(
        json_schema_extra={"x-kubernetes-validations": [_within_limit("cpu"), _within_limit("memory")]}
    )

    requests: ResourceAmounts | None = Field(default=None, description="What the scheduler sets aside.")
    limits: ResourceAmounts | None = Field(default=None, description="What a replica may use at most.")


class AccelServiceSpec(ApiModel):
    """What the user wants."""

    model_config = ConfigDict(
        json_schema_extra={
            "x-kubernetes-validations": [
                rule(
                    "has(self.imageRef) != has(self.image)",
                    "set exactly one of spec.imageRef (an AccelImage) and spec.image (oci:///repository@sha256:...)",
                )
            ]
        }
    )

    image_ref: ImageRef | None = Field(
        default=None, description="The AccelImage to serve. Exclusive with image."
    )
    image: (
        Annotated[
            str,
            StringConstraints(max_length=512),
            checked(
                rule(
                    "self.matches('^(oci:///?)?[a-zA-Z0-9][a-zA-Z0-9._:/-]*@sha256:[a-f0-9]{64}$')",
                    "spec.image names an image by its digest, for a tag can move: oci:///REPOSITORY@sha256:DIGEST or "
                    "HOST/REPOSITORY@sha256:DIGEST, as kubectl get aimg NAME -o jsonpath={.status.image} prints it",
                ),
                rule(
                    "!self.matches('^(oci://)?[^/@]*/[^@]*[A-Z]') && !self.matches('^[^/@]*[A-Z][^/@]*@')",
                    "spec.image: a repository is named in lower case: write it without capital letters",
                ),
            ),
        ]
        | None
    ) = Field(
        default=None,
        description="An image by digest, oci:///repository@sha256:... or host/repository@sha256:... Exclusive with "
        "imageRef.",
    )
    replicas: Annotated[int, Field(ge=0, le=256)] | None = Field(
        default=None, description="Number of servers, each with one FPGA. Absent: 1."
    )
    auth: Auth | None = None
    tls: Tls | None = None
    placement: Placement | None = None
    rollout: Rollout | None = None
    expose: Expose | None = None
    resources: Resources | None = None
    suspend: bool | None = Field(
        default=None,
        description="True stops all replicas and frees their FPGAs; the address and the keys stay.",
    )


class HeldDevice(ApiModel):
    """An FPGA that a replica holds."""

    pod: Short = Field(description="Name of the pod.")
    node: Short = Field(description="Name of the node.")
    device: Short = Field(description="Id of the device on that node.")
    health: Short | None = Field(
        default=None, description="Healthy or Unhealthy; Unknown while its node is not ready."
    )
    reason: Text | None = Field(default=None, description="Why it is not healthy.")
    lost: bool | None = Field(
        default=None,
        description="It was unhealthy for so long that its replica moves as soon as another FPGA is free; "
        "until it has been healthy for as long.",
    )


class LastGood(ApiModel):
    """The newest revision that was fully out."""

    image: Reference = Field(description="Its image.")
    model_version: int | None = Field(default=None, description="Version of its model.")
    revision: Short = Field(description="Its label accel.dev/revision.")


class AccelServiceStatus(StatusBase):
    """What the operator found."""

    scoring_uri: Short | None = Field(default=None, description="Address that clients dial, host:port.")
    image: Reference | None = Field(default=None, description="The image that the spec asks for.")
    model_version: int | None = Field(default=None, description="Version of the model in it.")
    last_good: LastGood | None = None
    replicas: Annotated[int, Field(ge=0)] | None = Field(default=None, description="Pods that exist.")
    ready_replicas: Annotated[int, Field(ge=0)] | None = Field(default=None, description="Pods that serve.")
    selector: Short | None = Field(default=None, description="Label selector of the pods.")
    devices: Annotated[tuple[HeldDevice, ...], Field(max_length=256)] = Field(
        default=(), description="FPGAs that the replicas hold.", json_schema_extra=listed_by("pod", "device")
    )
    keys_secret: Short | None = Field(
        default=None, description="Secret with the keys, entries primary and secondary."
    )
