"""The planner of AccelServices: children, and the status contract read off the pods."""

from dataclasses import dataclass, replace
from datetime import datetime

from fpga_operator.api.accelservice import (
    AccelServiceSpec,
    AccelServiceStatus,
    ExposeType,
    LastGood,
    Placement,
)
from fpga_operator.config import Config
from fpga_operator.plan import children, serving
from fpga_operator.plan.conditions import Conditions, Situation, changes
from fpga_operator.plan.devices import (
    DeviceView,
    NodeView,
    ServingPod,
    eligible,
    free_devices,
    held_by,
    holders_story,
)
from fpga_operator.plan.pods import PodView, pod_views
from fpga_operator.plan.rollout import STUCK_SECONDS, Strategy
from fpga_operator.plan.rollout import choose as choose_strategy
from fpga_operator.plan.types import REVISION_LABEL, SERVICE_LABEL, Fault, Manifest, Owner, Plan, Ref
from fpga_operator.plan.upstream import Verdict

DEFAULT_DEADLINE_SECONDS = 600
VOLUME_SECONDS = 10.0  # mounting takes a moment; beyond it, something is missing


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


def plan_service(desired: ServiceDesired, observed: ServiceObserved, config: Config, now: datetime) -> Plan:
    """Return what shall be for one AccelService."""
    owner, spec, previous = desired.owner, desired.spec, observed.status
    choice = serving.choose(owner, spec, previous, observed.image)
    pod = None
    if choice.reference is not None:
        target = children.Target(serving.node_reference(choice.reference, config), choice.model_version)
        pod = children.pod_spec(owner, spec, target, config)
    fleet = _fleet(spec, pod, observed)
    view = _View(desired, observed, config, now, fleet, choice)
    conditions = Conditions(owner, previous, now)
    verdict = view.judge()
    view.details(conditions, verdict)
    message = verdict.message
    conditions.summarise(verdict.situation, verdict.reason, message, available=view.available())
    built = conditions.build()
    status = view.status(conditions, built_revision=fleet.revision)
    final = status.model_copy(update={"conditions": built}).dump()
    plan = Plan(status=final, requeue_after=view.requeue_after(), events=changes(previous.conditions, built))
    if owner.deleting:
        return plan
    auth = spec.auth is None or spec.auth.enabled is not False
    wanted = [*children.surroundings(owner, spec, _given_out(observed))]
    if pod is not None:
        wanted.append(children.deployment(owner, spec, pod, view.strategy()))
    return replace(
        plan,
        children=tuple(wanted),
        keys=children.keys_secret(owner) if auth else None,
        # Debris of node reboots: the kubelet refused them before its devices were back; nobody else deletes them.
        deletes=tuple(
            Ref("Pod", owner.namespace, p.name, p.uid) for p in fleet.pods if p.failed and not p.terminating
        ),
    )


def _given_out(observed: ServiceObserved) -> int | None:
    """Return the port to ask for again when a hand deleted the Service, so that clients find it where it was."""
    if observed.service is not None or observed.fault is not None:
        return None  # after a fault the port may be taken: any other will do
    number = (observed.status.scoring_uri or "").rpartition(":")[2]
    return int(number) if number.isdigit() else None


def _fleet(spec: AccelServiceSpec, pod: Manifest | None, observed: ServiceObserved) -> Fleet:
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


class _View:
    """One look at one service: everything that the parts of its status have in common."""

    def __init__(
        self,
        desired: ServiceDesired,
        observed: ServiceObserved,
        config: Config,
        now: datetime,
        fleet: Fleet,
        choice: serving.Choice,
    ) -> None:
        self.owner, self.spec = desired.owner, desired.spec
        self.observed, self.previous = observed, observed.status
        self.config, self.now = config, now
        self.fleet, self.choice = fleet, choice
        self.nodes = eligible(observed.nodes, self.spec.placement or Placement())

    # -- time -----------------------------------------------------------------------------------------------

    def deadline(self) -> float:
        rollout = self.spec.rollout
        seconds = rollout.progress_deadline_seconds if rollout is not None else None
        return float(seconds or DEFAULT_DEADLINE_SECONDS)

    def age(self, since: datetime | None) -> float:
        return (self.now - since).total_seconds() if since is not None else 0.0

    def late(self) -> tuple[PodView, ...]:
        """Pods that had a device for longer than the deadline and are not ready."""
        return tuple(p for p in self.fleet.new if not p.ready and self.age(p.clock()) >= self.deadline())

    def requeue_after(self) -> float | None:
        waits = [5.0 if self.observed.fault is not None else None]
        for pod in self.fleet.new:
            if not pod.ready and pod.clock() is not None:
                waits += [self.deadline() - self.age(pod.clock()), self._left(pod.placed_at, VOLUME_SECONDS)]
            if not pod.scheduled:
                waits.append(self._left(pod.unplaced_at, STUCK_SECONDS))
        ahead = [wait for wait in waits if wait is not None and wait > 0]
        return max(0.5, min(ahead)) if ahead else None

    def _left(self, since: datetime | None, limit: float) -> float | None:
        return limit - self.age(since) if since is not None else None

    # -- decisions ------------------------------------------------------------------------------------------

    def strategy(self) -> Strategy:
        live, fleet = self.observed.deployment, self.fleet
        current, starting = None, False
        if live is not None:
            rolling = live["spec"].get("strategy", {}).get("rollingUpdate") or {}
            surge, unavailable = rolling.get("maxSurge"), rolling.get("maxUnavailable")
            if isinstance(surge, int) and isinstance(unavailable, int):
                current = Strategy(surge, unavailable)
            starting = live["spec"]["template"]["metadata"]["labels"].get(REVISION_LABEL) != fleet.revision
        leaving = any(pod.terminating for pod in fleet.pods)
        stuck = (
            bool(fleet.old)
            and not leaving
            and any(self.age(pod.unplaced_at) >= STUCK_SECONDS for pod in fleet.unplaced)
        )
        free = free_devices(self.observed.devices, self.observed.serving_pods, self.nodes)
        placed = sum(1 for pod in fleet.alive if pod.scheduled)
        return choose_strategy(
            current, starting=starting, stuck=stuck, replicas=fleet.wanted, placed=placed, free=free
        )

    def was_out(self) -> bool:
        """Tell whether this very spec and revision had been fully out before."""
        before = self.previous.condition("RolledOut")
        good = self.previous.last_good
        return (
            before is not None
            and before.status == "True"
            and before.observed_generation == self.owner.generation
            and good is not None
            and good.revision == self.fleet.revision
        )

    def judge(self) -> Verdict:
        """Return the row of the table, by precedence."""
        if self.owner.deleting:
            return Verdict(Situation.WORKING, "Deleting", "the service is being deleted")
        if self.observed.fault is not None:
            return Verdict(Situation.FAILED, self.observed.fault.reason, self.observed.fault.message)
        if self.choice.verdict is not None:
            return self.choice.verdict
        if self.fleet.wanted == 0:
            if self.fleet.pods or not self.fleet.in_sync:
                return Verdict(
                    Situation.WORKING, "Suspending", f"{len(self.fleet.pods)} pods are still stopping"
                )
            return Verdict(Situation.SUSPENDED, "Suspended", "no replica is wanted; no FPGA is held")
        if self.fleet.complete:
            return Verdict(
                Situation.SERVING, "Serving", f"{self.fleet.wanted} of {self.fleet.wanted} replicas serve"
            )
        return self._incomplete()

    def _incomplete(self) -> Verdict:
        fleet, late = self.fleet, self.late()
        figures = f"{len(fleet.new_ready)} of {fleet.wanted} replicas serve"
        if late and not (self.was_out() and fleet.ready):
            return Verdict(
                Situation.FAILED,
                "ProgressDeadlineExceeded",
                f"{late[0].name} was not ready within {self.deadline():.0f} s"
                + (f": {late[0].trouble}" if late[0].trouble else "")
                + f"; see kubectl logs {late[0].name}, then correct spec.imageRef or raise "
                "spec.rollout.progressDeadlineSeconds",
            )
        unready = [pod for pod in fleet.new if not pod.ready]
        if fleet.in_sync and unready and len(fleet.unplaced) == len(unready) and not fleet.old:
            reason, why = self._unplaced_story()
            situation = Situation.DEGRADED if fleet.ready else Situation.UNSCHEDULABLE
            return Verdict(situation, reason, f"{figures}; {why}")
        trouble = self._trouble()
        if self.was_out() and fleet.ready:
            return Verdict(Situation.DEGRADED, "ReplicasNotReady", figures + trouble)
        reason = "ReplicasNotReady" if self.was_out() else "RollingOut"
        old = f", {len(fleet.old)} of an earlier revision" if fleet.old else ""
        return Verdict(Situation.WORKING, reason, figures + old + trouble)

    def _trouble(self) -> str:
        if self.fleet.unplaced:
            return f"; {self._unplaced_story()[1]}"
        if told := self._missing_volume():
            return f"; {told}"
        return next((f"; {p.name}: {p.trouble}" for p in self.fleet.new if not p.ready and p.trouble), "")

    def lacks_device(self) -> bool:
        return any(self.config.resource_name in pod.unplaced_why for pod in self.fleet.unplaced)

    def _unplaced_story(self) -> tuple[str, str]:
        count = len(self.fleet.unplaced)
        if self.lacks_device():
            story = holders_story(
                self.observed.devices, self.observed.serving_pods, self.owner.namespace, self.nodes
            )
            noun = "replica waits" if count == 1 else "replicas wait"
            return "WaitingForDevice", f"{count} {noun} for an FPGA: {story}"
        return "Unschedulable", f"{count} replicas cannot be placed: {self.fleet.unplaced[0].unplaced_why}"

    def _missing_volume(self) -> str:
        """Say what a pod that has a node but no volumes lacks; Secrets cannot be read, so name the candidates."""
        for pod in self.fleet.new:
            if pod.scheduled and pod.sandboxed is False and self.age(pod.placed_at) >= VOLUME_SECONDS:
                secret = self.spec.tls.secret_ref.name if self.spec.tls is not None else None
                if secret is None:
                    return f"{pod.name} waits for its volumes"
                return (
                    f"{pod.name} waits for its volumes: if Secret {secret} does not exist, create it with "
                    f"kubectl create secret tls {secret} --cert=CHAIN.pem --key=KEY.pem -n {self.owner.namespace}"
                )
        return ""

    # -- status ---------------------------------------------------------------------------------------------

    def available(self) -> tuple[bool, str]:
        count = len(self.fleet.ready)
        return (True, f"{count} replicas serve") if count else (False, "no replica serves")

    def details(self, conditions: Conditions, verdict: Verdict) -> None:
        self._image_ready(conditions)
        self._devices_available(conditions)
        fleet = self.fleet
        if self.choice.reference is None:
            conditions.set("RolledOut", False, verdict.reason, verdict.message)
        elif fleet.complete or self.was_out():
            conditions.set("RolledOut", True, "RolledOut", f"revision {fleet.revision} is out")
        else:
            figures = f"{len(fleet.new_ready)} of {fleet.wanted} replicas serve revision {fleet.revision}"
            conditions.set("RolledOut", False, "RollingOut", figures)
        address = self.scoring_uri()
        if address is None:
            conditions.set("EndpointReady", False, "NoAddress", "the address is not known yet")
        elif fleet.ready:
            conditions.set("EndpointReady", True, "EndpointReady", f"{address} answers")
        else:
            conditions.set(
                "EndpointReady", False, "NoReplicaReady", f"nobody answers on {address}: no replica serves"
            )
        if self.spec.tls is not None:
            self._tls_ready(conditions, self.spec.tls.secret_ref.name)

    def _image_ready(self, conditions: Conditions) -> None:
        verdict = self.choice.verdict
        if verdict is not None:
            conditions.set("ImageReady", False, verdict.reason, verdict.message)
        else:
            conditions.set("ImageReady", True, "ImageReady", f"runs {self.choice.reference}")

    def _devices_available(self, conditions: Conditions) -> None:
        if self.fleet.wanted == 0:
            conditions.set("DevicesAvailable", True, "NoneWanted", "no replica is wanted")
        elif self.fleet.unplaced and self.lacks_device():
            conditions.set("DevicesAvailable", False, *self._unplaced_story())
        elif len([pod for pod in self.fleet.new if pod.scheduled]) >= self.fleet.wanted:
            conditions.set(
                "DevicesAvailable", True, "DevicesHeld", f"{self.fleet.wanted} replicas have an FPGA each"
            )
        else:
            conditions.set("DevicesAvailable", None, "NotPlaced", "not every replica has been placed yet")

    def _tls_ready(self, conditions: Conditions, secret: str) -> None:
        if self.fleet.new_ready:
            conditions.set("TLSReady", True, "TLSReady", f"serves with the certificate of Secret {secret}")
        elif told := self._missing_volume():
            conditions.set("TLSReady", False, "VolumesNotMounted", told)
        else:
            conditions.set("TLSReady", None, "NotServing", f"no replica serves with Secret {secret} yet")

    def scoring_uri(self) -> str | None:
        expose = self.spec.expose
        if expose is None or expose.type is not ExposeType.NODE_PORT:
            return f"{self.owner.name}.{self.owner.namespace}.svc:{children.port(self.spec)}"
        live = self.observed.service
        number = next(
            (
                p.get("nodePort")
                for p in (live or {}).get("spec", {}).get("ports") or []
                if p.get("name") == "grpc"
            ),
            None,
        )
        if number is None:
            return None
        if self.config.external_address:
            return f"{self.config.external_address}:{number}"
        addresses = [
            node.address
            for node in sorted(self.observed.nodes, key=lambda n: n.name)
            if node.ready and node.address
        ]
        before = (self.previous.scoring_uri or "").rpartition(":")[0]
        # Any node answers; keep the one that was given out.
        return f"{before if before in addresses else addresses[0]}:{number}" if addresses else None

    def status(self, conditions: Conditions, built_revision: str) -> AccelServiceStatus:
        fleet, image = self.fleet, self.choice.reference
        good = self.previous.last_good
        if fleet.complete and fleet.wanted > 0 and image is not None:
            good = LastGood(image=image, model_version=self.choice.model_version, revision=built_revision)
        return AccelServiceStatus(
            observed_generation=self.owner.generation,
            conditions=self.previous.conditions,
            state=conditions.state,
            scoring_uri=self.scoring_uri(),
            image=image,
            model_version=self.choice.model_version,
            last_good=good,
            replicas=len(fleet.alive),
            ready_replicas=len(fleet.ready),
            selector=f"{SERVICE_LABEL}={self.owner.name}",
            devices=held_by(
                self.observed.devices, self.owner.namespace, frozenset(pod.name for pod in fleet.pods)
            ),
            keys_secret=children.keys_name(self.owner)
            if self.spec.auth is None or self.spec.auth.enabled is not False
            else None,
        )
