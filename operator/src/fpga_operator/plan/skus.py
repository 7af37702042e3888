"""Kinds of cards: which nodes have the one that a service's program is for, and how its pods keep off the others.

A program runs on one kind only, and all kinds are one resource to the scheduler. The operator may not label nodes, so a
pod's template names the nodes to keep off. Those names change with the cluster; a template must not, or each node that
joins would restart every server. So the names are taken when there is a new revision anyway, and later only when a pod
of this one stands on a node that it should have kept off, or finds no place and is kept off one that would do by now.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from fpga_operator.plan.children import revision_of
from fpga_operator.plan.devices import DeviceView
from fpga_operator.plan.pods import PodView
from fpga_operator.plan.types import REVISION_LABEL, Manifest

MAX_NODES = 256  # in one template; beyond them the card itself refuses


@dataclass(frozen=True)
class Skus:
    """The kinds of cards in the cluster, seen from a program that is for `wanted` (None: not known, or any)."""

    wanted: str | None
    there: frozenset[str]
    others: frozenset[str]  # nodes with cards, and none of the wanted kind
    fitting: frozenset[str]  # nodes with cards of the wanted kind

    @classmethod
    def of(cls, wanted: str | None, devices: Iterable[DeviceView]) -> "Skus":
        """Read them. A node whose cards do not tell their kind may have any."""
        kinds: dict[str, set[str]] = {}
        for device in devices:
            kinds.setdefault(device.node, set()).add(device.sku)
        there = frozenset(sku for found in kinds.values() for sku in found if sku)
        if wanted is None:
            return cls(None, there, frozenset(), frozenset())
        others = frozenset(node for node, found in kinds.items() if found - {""} and wanted not in found)
        fitting = frozenset(node for node, found in kinds.items() if wanted in found)
        return cls(wanted, there, others, fitting)

    def lacking(self) -> str:
        """Say that no card of the wanted kind is there, and the cure; nothing where one is, or may be."""
        if self.wanted is None or not self.there or self.wanted in self.there:
            return ""
        there = sorted(self.there)
        return (
            f"the model is compiled for the SKU {self.wanted}, and the cluster's FPGAs are {', '.join(there)}: set "
            f"spec.conversion.sku of its FpgaModel to {' or '.join(there)}, or add a node with a {self.wanted}"
        )


def keeping_off(pod: Manifest, nodes: Iterable[str]) -> Manifest:
    """Return the pod spec with a rule that the scheduler puts it on none of these nodes."""
    fields = [
        {"key": "metadata.name", "operator": "NotIn", "values": [node]} for node in sorted(nodes)[:MAX_NODES]
    ]
    if not fields:
        return pod
    terms = {"nodeSelectorTerms": [{"matchFields": fields}]}
    return {**pod, "affinity": {"nodeAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": terms}}}


def kept_off(pod: Manifest) -> frozenset[str]:
    """Return the nodes that a live pod spec keeps off by such a rule."""
    required: Any = pod.get("affinity") or {}
    for key in ("nodeAffinity", "requiredDuringSchedulingIgnoredDuringExecution"):
        required = required.get(key) or {}
    return frozenset(
        value
        for term in required.get("nodeSelectorTerms") or []
        for field in term.get("matchFields") or []
        if (field.get("key"), field.get("operator")) == ("metadata.name", "NotIn")
        for value in field.get("values") or []
    )


def placed(pod: Manifest, live: Manifest | None, pods: Iterable[PodView], skus: Skus) -> Manifest:
    """Return the desired pod spec with the nodes to keep off: those of the live Deployment as long as they will do."""
    if live is not None:
        template = live["spec"]["template"]
        revision = template["metadata"]["labels"].get(REVISION_LABEL)
        off = kept_off(template["spec"])
        same = keeping_off(pod, off)
        mine = [view for view in pods if view.alive and view.revision == revision]
        misplaced = any(view.node in skus.others - off for view in mine)
        kept_out = bool(off & skus.fitting) and any(
            not view.scheduled and view.unplaced_at is not None for view in mine
        )
        if revision_of(same) == revision and not misplaced and not kept_out:
            return same
    return keeping_off(pod, skus.others)
