"""The four kinds as CustomResourceDefinitions: names, columns and rules around the generated schemas."""

from dataclasses import dataclass
from typing import Any

from pydantic import BaseModel

from fpga_operator.api.accelimage import AccelImageSpec, AccelImageStatus
from fpga_operator.api.accelservice import AccelServiceSpec, AccelServiceStatus
from fpga_operator.api.base import CATEGORY, GROUP, VERSION, rule
from fpga_operator.api.fpgamodel import FpgaModelSpec, FpgaModelStatus
from fpga_operator.api.fpganode import FpgaNodeSpec, FpgaNodeStatus
from fpga_operator.api.schema import structural_schema

MAX_BYTES = 64 * 1024  # so that client-side `kubectl apply` can keep its copy in an annotation


@dataclass(frozen=True)
class Column:
    """One column of `kubectl get`; priority 1 shows with -o wide only."""

    name: str
    path: str
    type: str = "string"
    priority: int = 0
    description: str = ""


@dataclass(frozen=True)
class Kind:
    """What a CRD says outside its schema."""

    kind: str
    plural: str
    short: str
    spec: type[BaseModel]
    status: type[BaseModel]
    description: str
    columns: tuple[Column, ...]
    namespaced: bool = True
    scale: bool = False
    spec_required: bool = True
    rules: tuple[dict[str, Any], ...] = ()
    status_default: bool = True

    @property
    def crd_name(self) -> str:
        """Name of the CustomResourceDefinition."""
        return f"{self.plural}.{GROUP}"


def _condition(kind: str, field: str = "status") -> str:
    return f'.status.conditions[?(@.type=="{kind}")].{field}'


STATE = Column("State", ".status.state", description="The summary in one word.")
READY = Column("Ready", _condition("Ready"), description="The newest spec is fully done.")
REASON = Column("Reason", _condition("Ready", "reason"), description="Why it is ready or not.")
MESSAGE = Column("Message", _condition("Ready", "message"), priority=1, description="The same as a sentence.")
AGE = Column("Age", ".metadata.creationTimestamp", type="date")


def _name_rule(limit: int, kind: str, pattern: str, wanted: str) -> dict[str, Any]:
    return rule(
        f"self.metadata.name.size() <= {limit} && self.metadata.name.matches('{pattern}')",
        f"the name of an {kind} has at most {limit} characters, {wanted}: rename it",
    )


KINDS = (
    Kind(
        kind="FpgaModel",
        plural="fpgamodels",
        short="fmodel",
        spec=FpgaModelSpec,
        status=FpgaModelStatus,
        description="A deep network: its source, how it is converted for the FPGA, and the versions that came of it.",
        rules=(
            _name_rule(
                63, "FpgaModel", "^[a-z0-9]([-a-z0-9.]*[a-z0-9])?$", "lower-case letters, digits, - and ."
            ),
        ),
        columns=(
            STATE,
            READY,
            REASON,
            Column(
                "Version", ".status.latestVersion", type="integer", description="Version that the spec gives."
            ),
            Column(
                "Latency-ms",
                ".status.device.latencyMs",
                type="number",
                description="Estimated device time, ms.",
            ),
            Column("Sku", ".status.device.sku", priority=1, description="Kind of card that it runs on."),
            Column(
                "Fits",
                ".status.device.fits",
                type="boolean",
                priority=1,
                description="Whether it fits that card.",
            ),
            Column(
                "Tiles",
                ".status.device.tiles",
                type="integer",
                priority=1,
                description="Weight tiles in the card's DRAM.",
            ),
            Column(
                "Per-second",
                ".status.device.inferencesPerSecond",
                type="number",
                priority=1,
                description="Estimated pictures a second on one device.",
            ),
            Column("Bound-by", ".status.device.boundBy", priority=1, description="What limits it."),
            Column(
                "Host-ops",
                ".status.device.hostOps",
                type="integer",
                priority=1,
                description="Operators that stay on the host.",
            ),
            Column("Source", ".spec.source.uri", priority=1, description="Where it comes from."),
            MESSAGE,
            AGE,
        ),
    ),
    Kind(
        kind="AccelImage",
        plural="accelimages",
        short="aimg",
        spec=AccelImageSpec,
        status=AccelImageStatus,
        description="A container image that serves one version of an FpgaModel.",
        rules=(
            _name_rule(
                63, "AccelImage", "^[a-z0-9]([-a-z0-9.]*[a-z0-9])?$", "lower-case letters, digits, - and ."
            ),
        ),
        columns=(
            Column("State", ".status.creationState", description="Where the build stands."),
            READY,
            REASON,
            Column("Version", ".status.imageVersion", type="integer", description="Number of the image."),
            Column("Model", ".spec.modelRef.name", description="Name of the model."),
            Column(
                "Model-Version",
                ".status.modelVersion",
                type="integer",
                description="Version of the model in it.",
            ),
            Column("Image", ".status.image", priority=1, description="The image by digest."),
            MESSAGE,
            AGE,
        ),
    ),
    Kind(
        kind="AccelService",
        plural="accelservices",
        short="asvc",
        spec=AccelServiceSpec,
        status=AccelServiceStatus,
        description="An AccelImage on FPGAs, one per replica, behind gRPC with keys and TLS.",
        scale=True,
        rules=(
            _name_rule(
                54,
                "AccelService",
                "^[a-z]([-a-z0-9]*[a-z0-9])?$",
                "lower-case letters, digits and -, a letter first",
            ),
        ),
        columns=(
            STATE,
            READY,
            REASON,
            Column(
                "Model-Version",
                ".status.modelVersion",
                type="integer",
                description="Version of the model served.",
            ),
            Column("Replicas", ".status.readyReplicas", type="integer", description="Replicas that serve."),
            Column("Address", ".status.scoringUri", description="What clients dial."),
            Column("Image", ".status.image", priority=1, description="The image that the spec asks for."),
            MESSAGE,
            AGE,
        ),
    ),
    Kind(
        kind="FpgaNode",
        plural="fpganodes",
        short="fnode",
        spec=FpgaNodeSpec,
        status=FpgaNodeStatus,
        description="The FPGAs of one node and who holds them; written by the device plugin, named as the node.",
        namespaced=False,
        spec_required=False,
        status_default=False,
        columns=(
            Column("Total", ".status.total", type="integer", description="FPGAs of the node."),
            Column("Healthy", ".status.healthy", type="integer", description="Those that are healthy."),
            Column("Free", ".status.free", type="integer", description="Those that no pod holds."),
            Column("Sku", ".status.devices[0].sku", priority=1, description="Kind of its FPGAs."),
            Column("Trouble", ".status.trouble", description="Unhealthy devices and why."),
            Column("Holders", ".status.holders", priority=1, description="Which pod holds which device."),
            AGE,
        ),
    ),
)


def _schema(kind: Kind) -> dict[str, Any]:
    status = structural_schema(kind.status, "status")
    if kind.status_default:
        # A nested default needs one on its parent to take effect on an object without status.
        status["default"] = {"observedGeneration": -1}
    schema: dict[str, Any] = {
        "type": "object",
        "description": kind.description,
        "properties": {
            "apiVersion": {"type": "string"},
            "kind": {"type": "string"},
            "metadata": {"type": "object"},
            "spec": structural_schema(kind.spec, "spec"),
            "status": status,
        },
    }
    if kind.spec_required:
        schema["required"] = ["spec"]
    if kind.rules:
        schema["x-kubernetes-validations"] = list(kind.rules)
    return schema


def _column(column: Column) -> dict[str, Any]:
    found: dict[str, Any] = {"name": column.name, "type": column.type, "jsonPath": column.path}
    if column.priority:
        found["priority"] = column.priority
    if column.description:
        found["description"] = column.description
    return found


def crd(kind: Kind) -> dict[str, Any]:
    """Return the CustomResourceDefinition of a kind as a manifest."""
    subresources: dict[str, Any] = {"status": {}}
    if kind.scale:
        subresources["scale"] = {
            "specReplicasPath": ".spec.replicas",
            "statusReplicasPath": ".status.replicas",
            "labelSelectorPath": ".status.selector",
        }
    return {
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": {"name": kind.crd_name},
        "spec": {
            "group": GROUP,
            "scope": "Namespaced" if kind.namespaced else "Cluster",
            "names": {
                "kind": kind.kind,
                "listKind": f"{kind.kind}List",
                "plural": kind.plural,
                "singular": kind.kind.lower(),
                "shortNames": [kind.short],
                "categories": [CATEGORY],
            },
            "versions": [
                {
                    "name": VERSION,
                    "served": True,
                    "storage": True,
                    "schema": {"openAPIV3Schema": _schema(kind)},
                    "subresources": subresources,
                    "additionalPrinterColumns": [_column(column) for column in kind.columns],
                }
            ],
        },
    }
