"""Which FPGAs exist for a service, who holds them, and how that is told without telling on other namespaces."""

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime

from fpga_operator.api.accelservice import Placement
from fpga_operator.plan.types import Manifest, parse_time


@dataclass(frozen=True)
class NodeView:
    """What placement asks of a node."""

    name: str
    labels: Mapping[str, str]
    taints: tuple[tuple[str, str, str], ...]  # key, value, effect
    ready: bool
    address: str
    since: datetime | None = None  # since when it is ready, or is not

    @classmethod
    def of(cls, node: Manifest) -> "NodeView":
        """Read it from the live Node."""
        spec, status = node.get("spec", {}), node.get("status", {})
        told: Manifest = next((c for c in status.get("conditions") or [] if c["type"] == "Ready"), {})
        taints = [(t["key"], t.get("value", ""), t["effect"]) for t in spec.get("taints") or []]
        if spec.get("unschedulable"):
            taints.append(("node.kubernetes.io/unschedulable", "", "NoSchedule"))
        return cls(
            name=node["metadata"]["name"],
            labels=dict(node["metadata"].get("labels") or {}),
            taints=tuple(dict.fromkeys(taints)),
            ready=told.get("status") == "True",
            address=next(
                (a["address"] for a in status.get("addresses") or [] if a["type"] == "InternalIP"), ""
            ),
            since=_moment(told.get("lastTransitionTime")),
        )


@dataclass(frozen=True)
class DeviceView:
    """One FPGA of the cluster."""

    node: str
    id: str
    healthy: bool
    holder: tuple[str, str] | None  # namespace, pod
    reason: str = ""
    since: datetime | None = None  # since when it is healthy, or is not; None: as long as anybody knows
    sku: str = ""  # kind of card; empty where its node does not tell

    def settled(self, now: datetime, seconds: float) -> bool:
        """Tell whether its health has been what it is for so long that it may be counted on."""
        return self.since is None or (now - self.since).total_seconds() >= seconds


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
                reason=device.get("reason", ""),
                since=_moment(device.get("healthSince")),
                sku=device.get("sku", ""),
            )
        )
    return tuple(found)


def _moment(text: str | None) -> datetime | None:
    return parse_time(text) if text else None


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
    return frozenset(
        node.name
        for node in nodes
        if node.ready and _selected(node, placement) and all(_tolerated(t, placement) for t in node.taints)
    )


def _selected(node: NodeView, placement: Placement) -> bool:
    return all(node.labels.get(key) == value for key, value in (placement.node_selector or {}).items())


def away(nodes: Iterable[NodeView], devices: Iterable[DeviceView], placement: Placement) -> Mapping[str, str]:
    """Return the nodes whose devices would count if the nodes were there, each with what is wrong with it."""
    known = {node.name: node for node in nodes}
    gone = {d.node: "no such node any more" for d in devices if d.node not in known}
    lost = {
        n.name: "the node is not ready" for n in known.values() if not n.ready and _selected(n, placement)
    }
    return {**gone, **lost}


def free_devices(devices: Iterable[DeviceView], serving: Iterable[ServingPod], nodes: frozenset[str]) -> int:
    """Count the pods that the scheduler could still place on these nodes.

    The kubelet tells it a number of healthy devices: a pod on one that fell ill takes up the place of a healthy one.
    """
    here = [device for device in devices if device.node in nodes]
    holders = {device.holder for device in here if device.holder is not None}
    places: Counter[str] = Counter()
    for device in here:
        places[device.node] += device.healthy - (device.holder is not None)
    for pod in serving:
        if pod.node in nodes and (pod.namespace, pod.name) not in holders:
            places[pod.node] -= 1
    return sum(max(0, count) for count in places.values())


def idle_devices(
    devices: Iterable[DeviceView],
    serving: Iterable[ServingPod],
    nodes: frozenset[str],
    now: datetime,
    settle_seconds: float,
) -> int:
    """Count the devices on those nodes that a pod could move to: held by nobody, and healthy for a while."""
    here = [device for device in devices if device.node in nodes]
    held = {device.holder for device in here if device.holder is not None}
    idle = sum(1 for d in here if d.healthy and d.holder is None and d.settled(now, settle_seconds))
    coming = sum(1 for pod in serving if pod.node in nodes and (pod.namespace, pod.name) not in held)
    return max(0, idle - coming)


def holders_story(
    devices: Iterable[DeviceView],
    serving: Iterable[ServingPod],
    namespace: str,
    nodes: frozenset[str],
    missing: Mapping[str, str],
) -> str:
    """Say who holds the devices on these nodes, and what is wrong with the missing ones.

    Holders in other namespaces stay unnamed: whoever reads a service need not know of them.
    """
    devices = sorted(devices, key=lambda d: (d.node, d.id))
    here = [device for device in devices if device.node in nodes]
    absent = Counter(device.node for device in devices if device.node in missing and device.node not in nodes)
    services = {(pod.namespace, pod.name): pod.service for pod in serving}
    by_node: dict[str, Counter[str]] = {}
    for device in here:
        who = _holder(device, services, namespace)
        if not device.healthy:
            who = "unhealthy" if device.holder is None else f"unhealthy, held by {who}"
        by_node.setdefault(device.node, Counter())[who] += 1
    told = [
        f"{node}: " + ", ".join(f"{who} ({count})" for who, count in sorted(counts.items()))
        for node, counts in by_node.items()
    ]
    told += [f"{node}: {missing[node]} ({count})" for node, count in sorted(absent.items())]
    if not told:
        return "no node that it may run on has an FPGA (kubectl get fpganodes lists them)"
    return f"of {len(here) + absent.total()} FPGAs, " + "; ".join(told)


def _holder(device: DeviceView, services: Mapping[tuple[str, str], str], namespace: str) -> str:
    if device.holder is None:
        return "free"
    if device.holder[0] != namespace:
        return "another namespace"
    service = services.get(device.holder)
    return f"AccelService {service}" if service else f"pod {device.holder[0]}/{device.holder[1]}"
