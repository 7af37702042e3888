"""Which FPGAs exist for a service, who holds them, and how that is told without telling on other namespaces."""

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from fpga_operator.api.accelservice import HeldDevice, Placement
from fpga_operator.plan.types import Manifest


@dataclass(frozen=True)
class NodeView:
    """What placement asks of a node."""

    name: str
    labels: Mapping[str, str]
    taints: tuple[tuple[str, str, str], ...]  # key, value, effect
    ready: bool
    address: str

    @classmethod
    def of(cls, node: Manifest) -> "NodeView":
        """Read it from the live Node."""
        spec, status = node.get("spec", {}), node.get("status", {})
        taints = [(t["key"], t.get("value", ""), t["effect"]) for t in spec.get("taints") or []]
        if spec.get("unschedulable"):
            taints.append(("node.kubernetes.io/unschedulable", "", "NoSchedule"))
        return cls(
            name=node["metadata"]["name"],
            labels=dict(node["metadata"].get("labels") or {}),
            taints=tuple(dict.fromkeys(taints)),
            ready=any(c["type"] == "Ready" and c["status"] == "True" for c in status.get("conditions") or []),
            address=next(
                (a["address"] for a in status.get("addresses") or [] if a["type"] == "InternalIP"), ""
            ),
        )


@dataclass(frozen=True)
class DeviceView:
    """One FPGA of the cluster."""

    node: str
    id: str
    healthy: bool
    holder: tuple[str, str] | None  # namespace, pod


@dataclass(frozen=True)
class ServingPod:
    """A pod of any AccelService that has a node: it holds a device, though FpgaNode may not say so yet."""

    namespace: str
    name: str
    service: str
    node: str


def devices_of(body: Manifest) -> tuple[DeviceView, ...]:
    """Read the devices of a live FpgaNode."""
    found = []
    for device in body.get("status", {}).get("devices") or []:
        holder = device.get("holder")
        found.append(
            DeviceView(
                node=body["metadata"]["name"],
                id=device["id"],
                healthy=device.get("health", "Healthy") == "Healthy",
                holder=(holder["namespace"], holder["pod"]) if holder else None,
            )
        )
    return tuple(found)


def _tolerated(taint: tuple[str, str, str], placement: Placement) -> bool:
    key, value, effect = taint
    if effect == "PreferNoSchedule":
        return True
    return any(
        (t.key is None or t.key == key)
        and (t.operator == "Exists" or (t.value or "") == value)
        and (t.effect is None or t.effect == effect)
        for t in placement.tolerations or ()
    )


def eligible(nodes: Iterable[NodeView], placement: Placement) -> frozenset[str]:
    """Return the names of the nodes that a service's pods may go to."""
    wanted = placement.node_selector or {}
    return frozenset(
        node.name
        for node in nodes
        if node.ready
        and all(node.labels.get(key) == value for key, value in wanted.items())
        and all(_tolerated(taint, placement) for taint in node.taints)
    )


def free_devices(devices: Iterable[DeviceView], serving: Iterable[ServingPod], nodes: frozenset[str]) -> int:
    """Count healthy devices on those nodes that nobody holds, pods just placed included."""
    here = [device for device in devices if device.node in nodes]
    held = {device.holder for device in here if device.holder is not None}
    idle = sum(1 for device in here if device.healthy and device.holder is None)
    coming = sum(1 for pod in serving if pod.node in nodes and (pod.namespace, pod.name) not in held)
    return max(0, idle - coming)


def held_by(devices: Iterable[DeviceView], namespace: str, pods: frozenset[str]) -> tuple[HeldDevice, ...]:
    """Return the devices that these pods hold."""
    return tuple(
        HeldDevice(
            pod=device.holder[1],
            node=device.node,
            device=device.id,
            health="Healthy" if device.healthy else "Unhealthy",
        )
        for device in sorted(devices, key=lambda d: (d.node, d.id))
        if device.holder is not None and device.holder[0] == namespace and device.holder[1] in pods
    )


def holders_story(
    devices: Iterable[DeviceView], serving: Iterable[ServingPod], namespace: str, nodes: frozenset[str]
) -> str:
    """Say who holds the devices on these nodes; holders in other namespaces stay unnamed."""
    here = sorted((d for d in devices if d.node in nodes), key=lambda d: (d.node, d.id))
    if not here:
        return "no node that it may run on has an FPGA (kubectl get fpganodes lists them)"
    services = {(pod.namespace, pod.name): pod.service for pod in serving}
    by_node: dict[str, Counter[str]] = {}
    for device in here:
        if not device.healthy:
            who = "unhealthy"
        elif device.holder is None:
            who = "free"
        elif device.holder[0] != namespace:
            who = "another namespace"
        else:
            service = services.get(device.holder)
            who = f"AccelService {service}" if service else f"pod {device.holder[1]}"
        by_node.setdefault(device.node, Counter())[who] += 1
    told = (
        f"{node}: " + ", ".join(f"{who} ({count})" for who, count in sorted(counts.items()))
        for node, counts in by_node.items()
    )
    return f"of {len(here)} FPGAs, " + "; ".join(told)
