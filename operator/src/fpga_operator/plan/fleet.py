"""What is wanted of a service, what is seen of it, and its pods sorted by what they mean for the present revision."""

from dataclasses import dataclass

from fpga_operator.api.accelservice import AccelServiceSpec, AccelServiceStatus
from fpga_operator.plan import children, serving
from fpga_operator.plan.devices import DeviceView, NodeView, ServingPod
from fpga_operator.plan.pods import PodView, pod_views
from fpga_operator.plan.types import REVISION_LABEL, Fault, Manifest, Owner


@dataclass(frozen=True)
class ServiceDesired:
    """The object as the user wrote it."""

    owner: Owner
    spec: AccelServiceSpec


@dataclass(frozen=True)
class ServiceObserved:
    """The world as far as a service is concerned."""

    status: AccelServiceStatus
    image: serving.ImageSeen | None = None
    deployment: Manifest | None = None
    service: Manifest | None = None
    pods: tuple[Manifest, ...] = ()
    nodes: tuple[NodeView, ...] = ()
    devices: tuple[DeviceView, ...] = ()
    serving_pods: tuple[ServingPod, ...] = ()
    strays: tuple[Manifest, ...] = ()
    fault: Fault | None = None


@dataclass(frozen=True)
class Fleet:
    """The service's pods sorted by what they mean for the present revision."""

    wanted: int
    revision: str
    pods: tuple[PodView, ...]
    in_sync: bool  # the Deployment is the desired one and its controller has seen it

    @property
    def alive(self) -> tuple[PodView, ...]:
        """Pods that serve or may come to."""
        return tuple(pod for pod in self.pods if pod.alive)

    @property
    def new(self) -> tuple[PodView, ...]:
        """Those of the present revision."""
        return tuple(pod for pod in self.alive if pod.revision == self.revision)

    @property
    def old(self) -> tuple[PodView, ...]:
        """Those of earlier revisions."""
        return tuple(pod for pod in self.alive if pod.revision != self.revision)

    @property
    def ready(self) -> tuple[PodView, ...]:
        """Those that serve, of any revision."""
        return tuple(pod for pod in self.alive if pod.ready)

    @property
    def new_ready(self) -> tuple[PodView, ...]:
        """Those that serve the present revision."""
        return tuple(pod for pod in self.new if pod.ready)

    @property
    def unplaced(self) -> tuple[PodView, ...]:
        """Those that the scheduler finds no node for."""
        return tuple(pod for pod in self.new if not pod.scheduled and pod.unplaced_at is not None)

    @property
    def complete(self) -> bool:
        """Tell whether the present revision alone serves, with every replica."""
        return self.in_sync and not self.old and len(self.new) == len(self.new_ready) == self.wanted


def fleet_of(spec: AccelServiceSpec, pod: Manifest | None, observed: ServiceObserved) -> Fleet:
    """Sort the pods; `pod` is the desired pod spec, None while there is no image."""
    live = observed.deployment
    revision = children.revision_of(pod) if pod is not None else ""
    in_sync = (
        live is not None
        and live["spec"]["template"]["metadata"]["labels"].get(REVISION_LABEL) == revision
        and live["spec"].get("replicas") == children.wanted_replicas(spec)
        and live.get("status", {}).get("observedGeneration", 0) >= live["metadata"].get("generation", 1)
    )
    return Fleet(
        wanted=children.wanted_replicas(spec),
        revision=revision,
        pods=pod_views(observed.pods),
        in_sync=in_sync,
    )
