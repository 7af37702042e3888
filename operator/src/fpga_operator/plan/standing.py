"""Which row of the status contract a service is in, and the sentences that go with it."""

from datetime import datetime

from fpga_operator.api.accelservice import Placement
from fpga_operator.config import Config
from fpga_operator.plan import health
from fpga_operator.plan.conditions import Situation
from fpga_operator.plan.devices import away, eligible, holders_story, idle_devices
from fpga_operator.plan.fleet import Fleet, ServiceDesired, ServiceObserved
from fpga_operator.plan.pods import PodView
from fpga_operator.plan.rollout import STUCK_SECONDS
from fpga_operator.plan.serving import Choice
from fpga_operator.plan.skus import Skus
from fpga_operator.plan.upstream import Verdict
from fpga_operator.plan.words import counted

DEFAULT_DEADLINE_SECONDS = 600
VOLUME_SECONDS = 10.0  # mounting takes a moment; beyond it, something is missing


class Standing:
    """One look at one service at one moment: everything that the parts of its plan have in common."""

    def __init__(
        self,
        desired: ServiceDesired,
        observed: ServiceObserved,
        config: Config,
        now: datetime,
        fleet: Fleet,
        choice: Choice,
        skus: Skus,
    ) -> None:
        self.owner, self.spec = desired.owner, desired.spec
        self.observed, self.previous = observed, observed.status
        self.config, self.now = config, now
        self.fleet, self.choice, self.skus = fleet, choice, skus
        placement = self.spec.placement or Placement()
        self.nodes = eligible(observed.nodes, placement) - skus.others
        self.away = away(observed.nodes, observed.devices, placement)
        self.seats = health.seats(
            fleet.pods,
            self.owner.namespace,
            health.World(
                devices=observed.devices,
                nodes={node.name: node for node in observed.nodes},
                limits=config.devices,
                now=now,
                remembered=health.remembered(self.previous.devices),
                leave_to_taints=health.leaves_to_taints(placement),
            ),
        )
        self.sick = tuple(seat for seat in self.seats if seat.pod.alive and not seat.pod.ready and seat.ill)
        self.moves = self._moves()

    def _moves(self) -> tuple[PodView, ...]:
        """Return the pods that shall end, so that their successors get other devices."""
        if self.owner.deleting or not self.fleet.wanted:
            return ()
        idle = idle_devices(
            self.observed.devices,
            self.observed.serving_pods,
            self.nodes,
            self.now,
            self.config.devices.unhealthy_seconds,
        )
        placed = sum(1 for pod in self.fleet.alive if pod.scheduled)
        return health.movers(self.seats, wanted=self.fleet.wanted, placed=placed, idle=idle)

    def clock(self, pod: PodView) -> datetime | None:
        """Return when the deadline's clock of a pod began: not before its device was well."""
        began = pod.clock()
        well = [seat.since for seat in self.seats if seat.pod.name == pod.name and seat.since is not None]
        return max([began, *well]) if began is not None else None

    def deadline(self) -> float:
        """Return the seconds in which a placed pod must become ready."""
        rollout = self.spec.rollout
        seconds = rollout.progress_deadline_seconds if rollout is not None else None
        return float(seconds or DEFAULT_DEADLINE_SECONDS)

    def age(self, since: datetime | None) -> float:
        """Return the seconds since then; none for a time that is not known."""
        return (self.now - since).total_seconds() if since is not None else 0.0

    def late(self) -> tuple[PodView, ...]:
        """Pods that had a device for longer than the deadline and are not ready."""
        ill = {seat.pod.name for seat in self.sick}
        return tuple(
            pod
            for pod in self.fleet.new
            if not pod.ready and pod.name not in ill and self.age(self.clock(pod)) >= self.deadline()
        )

    def requeue_after(self) -> float | None:
        """Return when the passing of time alone changes something, seconds from now."""
        waits: list[float | None] = [seat.wait for seat in self.seats]
        if any(
            seat.lost and seat.ill for seat in self.seats
        ):  # a device may be about to be counted as healthy
            settle = self.config.devices.unhealthy_seconds
            waits += [self._left(d.since, settle) for d in self.observed.devices if d.healthy]
        for pod in self.fleet.new:
            began = self.clock(pod)
            if not pod.ready and began is not None:
                waits += [self.deadline() - self.age(began), self._left(pod.placed_at, VOLUME_SECONDS)]
            if not pod.scheduled:
                waits.append(self._left(pod.unplaced_at, STUCK_SECONDS))
        ahead = [wait for wait in waits if wait is not None and wait > 0]
        return max(0.5, min(ahead)) if ahead else None

    def _left(self, since: datetime | None, limit: float) -> float | None:
        return limit - self.age(since) if since is not None else None

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
                return Verdict(Situation.WORKING, "Suspending", self._stopping())
            return Verdict(Situation.SUSPENDED, "Suspended", "no replica is wanted; no FPGA is held")
        if self.fleet.complete:
            return Verdict(
                Situation.SERVING,
                "Serving",
                f"{self.fleet.wanted} of {self.fleet.wanted} replicas serve",
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
        refused = next(((pod, pod.refusal) for pod in fleet.new if pod.refusal and not pod.ready), None)
        if refused is not None and not (self.was_out() and fleet.ready):
            pod, (reason, told) = refused
            return Verdict(
                Situation.FAILED, reason, f"{figures}; {pod.name} on {pod.node} is refused: {told}"
            )
        if told := self.skus.lacking():
            situation = Situation.DEGRADED if fleet.ready else Situation.UNSCHEDULABLE
            return Verdict(situation, "NoSuchSku", f"{figures}; {told}")
        unready = [pod for pod in fleet.new if not pod.ready]
        if fleet.in_sync and unready and len(fleet.unplaced) == len(unready) and not fleet.old:
            reason, why = self.unplaced_story()
            situation = Situation.DEGRADED if fleet.ready else Situation.UNSCHEDULABLE
            return Verdict(situation, reason, f"{figures}; {why}")
        if self.sick and not fleet.unplaced:
            waits = any(seat.lost for seat in self.sick) and not self.moves and not fleet.ready
            situation = (
                Situation.UNSCHEDULABLE if waits else Situation.DEGRADED if fleet.ready else Situation.WORKING
            )
            return Verdict(situation, "DeviceUnhealthy", f"{figures}; {self.sick_story()}")
        trouble = self._trouble()
        if self.was_out() and fleet.ready:
            return Verdict(Situation.DEGRADED, "ReplicasNotReady", figures + trouble)
        reason = "ReplicasNotReady" if self.was_out() else "RollingOut"
        old = f", {len(fleet.old)} of an earlier revision" if fleet.old else ""
        return Verdict(Situation.WORKING, reason, figures + old + trouble)

    def _trouble(self) -> str:
        if self.fleet.unplaced:
            return f"; {self.unplaced_story()[1]}"
        if told := self.missing_volume():
            return f"; {told}"
        if told := self.refused():
            return f"; {told}"
        return next((f"; {p.name}: {p.trouble}" for p in self.fleet.new if not p.ready and p.trouble), "")

    def sick_story(self) -> str:
        """Say which devices are ill under which replicas, and what comes of it. Nothing in it ticks."""
        told = "; ".join(seat.told() for seat in self.sick)
        if self.moves:
            return f"{told}; moving {', '.join(pod.name for pod in self.moves)} to another FPGA"
        if not any(seat.lost for seat in self.sick):
            return f"{told}; moves if that lasts and another FPGA is free"
        return f"{told}; waits until it is well again or another FPGA is free for it: {self.devices_story()}"

    def devices_story(self) -> str:
        """Say who holds the devices that this service could use."""
        return holders_story(
            self.observed.devices, self.observed.serving_pods, self.owner.namespace, self.nodes, self.away
        )

    def _stopping(self) -> str:
        """Say how many pods still end, and which of them cannot because their nodes do not answer."""
        there = {node.name for node in self.observed.nodes if node.ready}
        stuck = sorted({pod.node for pod in self.fleet.pods if pod.scheduled and pod.node not in there})
        why = f" (no answer from {', '.join(stuck)})" if stuck else ""
        return f"{counted(len(self.fleet.pods), 'pod is', 'pods are')} still stopping{why}"

    def lacks_device(self) -> bool:
        """Tell whether the scheduler names the FPGA as what is missing."""
        return any(self.config.resource_name in pod.unplaced_why for pod in self.fleet.unplaced)

    def _device_fits(self) -> bool:
        """Tell whether a device is free and the scheduler names other things that a node lacks."""
        idle = idle_devices(self.observed.devices, self.observed.serving_pods, self.nodes, self.now, 0)
        others = (
            part
            for pod in self.fleet.unplaced
            for part in pod.unplaced_why.split(",")
            if "Insufficient" in part and self.config.resource_name not in part
        )
        return idle > 0 and any(others)

    def unplaced_story(self) -> tuple[str, str]:
        """Return reason and sentence about the pods that the scheduler finds no node for."""
        count = len(self.fleet.unplaced)
        if self.lacks_device() and not self._device_fits():
            story = self.devices_story()
            noun = "replica waits" if count == 1 else "replicas wait"
            return "WaitingForDevice", f"{count} {noun} for an FPGA: {story}"
        why = self.fleet.unplaced[0].unplaced_why
        return "Unschedulable", f"{counted(count, 'replica')} cannot be placed: {why}"

    def refused(self) -> str:
        """Say why the Deployment may not make its pods: a ResourceQuota, a LimitRange, a policy."""
        status = (self.observed.deployment or {}).get("status") or {}
        for condition in status.get("conditions") or []:
            if condition["type"] == "ReplicaFailure" and condition["status"] == "True":
                return f"no pod is made: {' '.join(str(condition.get('message', '')).split())[:512]}"
        return ""

    def missing_volume(self) -> str:
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

    def available(self) -> tuple[bool, str]:
        """Tell whether any replica serves, of whatever revision."""
        count = len(self.fleet.ready)
        return (
            (True, counted(count, "replica serves", "replicas serve"))
            if count
            else (False, "no replica serves")
        )
