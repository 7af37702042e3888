"""Replicas whose hardware is gone, and which of them shall move to another FPGA.

The kubelet never takes a device from a pod: only the pod's end frees it. So a replica on an ill device waits until that
has lasted (a device that comes and goes moves nothing), and its pod is deleted if another device is there for the next.
Pure: the time is a value, and what must be remembered is in the status.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime

from fpga_operator.api.accelservice import HeldDevice, Placement
from fpga_operator.config import Devices
from fpga_operator.plan.devices import DeviceView, NodeView
from fpga_operator.plan.pods import PodView
from fpga_operator.plan.types import Event

Place = tuple[str, str, str]  # pod, node, device
UNREACHABLE = ("node.kubernetes.io/unreachable", "node.kubernetes.io/not-ready")
HEALTHY, UNHEALTHY, UNKNOWN = "Healthy", "Unhealthy", "Unknown"


@dataclass(frozen=True)
class Seat:
    """One replica on its device. `lost`: ill for so long that its replica shall move."""

    pod: PodView
    node: str
    device: str
    health: str
    reason: str
    since: datetime | None
    lost: bool
    wait: float | None  # seconds until time alone changes `lost`

    @property
    def place(self) -> Place:
        """Return what identifies it from one look to the next."""
        return self.pod.name, self.node, self.device

    @property
    def ill(self) -> bool:
        """Tell whether the device cannot be used at this moment."""
        return self.health != HEALTHY

    def told(self) -> str:
        """Return the sentence about an ill device."""
        if self.health == UNKNOWN:
            return f"{self.pod.name} is on {self.node}, {self.reason}"
        return f"{self.pod.name}: FPGA {self.device} on {self.node} is unhealthy ({self.reason or 'no reason given'})"

    def held(self) -> HeldDevice:
        """Return the entry in status.devices."""
        return HeldDevice(
            pod=self.pod.name,
            node=self.node,
            device=self.device,
            health=self.health,
            reason=self.reason if self.ill else None,
            lost=self.lost or None,
        )


@dataclass(frozen=True)
class World:
    """What the seats are read from."""

    devices: tuple[DeviceView, ...]
    nodes: Mapping[str, NodeView]
    limits: Devices
    now: datetime
    remembered: frozenset[Place]  # those that were lost when last looked at
    leave_to_taints: bool  # the spec says itself how long a pod stays on a node that is away


def seats(pods: Iterable[PodView], namespace: str, world: World) -> tuple[Seat, ...]:
    """Return the devices that these pods hold, by node and id; then pods on nodes that are away and told no holder."""
    by_name = {pod.name: pod for pod in pods}
    found = [
        _seat(by_name[device.holder[1]], device, world)
        for device in sorted(world.devices, key=lambda d: (d.node, d.id))
        if device.holder is not None and device.holder[0] == namespace and device.holder[1] in by_name
    ]
    seated = {seat.pod.name for seat in found}
    for name, pod in sorted(by_name.items()):
        node = world.nodes.get(pod.node)
        if name not in seated and node is not None and not node.ready:
            found.append(_seat(pod, DeviceView(pod.node, "", True, (namespace, name)), world))
    return tuple(found)


def _seat(pod: PodView, device: DeviceView, world: World) -> Seat:
    node = world.nodes.get(device.node)
    lost = (pod.name, device.node, device.id) in world.remembered
    if node is None or not node.ready:
        why = "which does not exist any more" if node is None else "which is not ready"
        since = node.since if node is not None else None
        patience = world.limits.node_lost_seconds
        healthy, health = False, UNKNOWN
        if node is None or world.leave_to_taints:  # Kubernetes itself removes the pods
            return Seat(pod, device.node, device.id, health, why, since, False, None)
    else:
        why, healthy = device.reason, device.healthy
        since = device.since or (None if healthy else pod.unready_at)
        patience, health = world.limits.unhealthy_seconds, HEALTHY if device.healthy else UNHEALTHY
    left = patience - (world.now - since).total_seconds() if since is not None else 0.0
    if left <= 0:
        lost = not healthy
    wait = left if left > 0 and lost == healthy else None
    return Seat(pod, device.node, device.id, health, why, since, lost, wait)


def remembered(before: Iterable[HeldDevice]) -> frozenset[Place]:
    """Return the places that were lost when the status was written."""
    return frozenset((held.pod, held.node, held.device) for held in before if held.lost)


def movers(found: Iterable[Seat], *, wanted: int, placed: int, idle: int) -> tuple[PodView, ...]:
    """Return the pods to delete, so that their successors get other devices.

    wanted: replicas; placed: pods alive with a node; idle: devices that a pod could move to. A replica that has no pod
    or no node yet needs one of them first. A pod that serves is left alone, whatever is said about its device.
    """
    lost = {seat.pod.name: seat.pod for seat in found if seat.lost and seat.ill}
    going = [pod for name, pod in sorted(lost.items()) if pod.alive and not pod.ready]
    room = idle - max(0, wanted - placed)
    surplus = max(0, placed - wanted)  # a rollout's surge ends these by itself
    return tuple(going[: max(0, min(room, len(going) - surplus))])


def leaves_to_taints(placement: Placement) -> bool:
    """Tell whether the spec says itself how long its pods stay on a node that is away."""
    return any(toleration.key in UNREACHABLE for toleration in placement.tolerations or ())


def events(before: Iterable[HeldDevice], found: Iterable[Seat]) -> tuple[Event, ...]:
    """Return what to tell of devices whose health changed under a pod that kept them."""
    known = {(held.pod, held.node, held.device): held.health for held in before}
    told = []
    for seat in found:
        was = known.get(seat.place)
        if was is None or was == seat.health:
            continue
        if seat.ill:
            told.append(Event("Warning", "DeviceUnhealthy", seat.told()))
        else:
            text = f"{seat.pod.name}: FPGA {seat.device} on {seat.node} is healthy again"
            told.append(Event("Normal", "DeviceHealthy", text))
    return tuple(told)
