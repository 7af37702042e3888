"""The planner of AccelServices: its children, and the status contract read off the pods."""

from dataclasses import replace
from datetime import datetime

from fpga_operator.config import Config
from fpga_operator.plan import children, health, serving
from fpga_operator.plan.conditions import Conditions, changes
from fpga_operator.plan.devices import free_devices
from fpga_operator.plan.fleet import ServiceDesired, ServiceObserved, fleet_of
from fpga_operator.plan.pods import pod_views
from fpga_operator.plan.rollout import STUCK_SECONDS, Strategy
from fpga_operator.plan.rollout import choose as choose_strategy
from fpga_operator.plan.servicestatus import given_out, set_details, status_of
from fpga_operator.plan.skus import Skus, placed
from fpga_operator.plan.standing import Standing
from fpga_operator.plan.types import REVISION_LABEL, Event, Plan, Ref


def plan_service(desired: ServiceDesired, observed: ServiceObserved, config: Config, now: datetime) -> Plan:
    """Return what shall be for one AccelService."""
    owner, spec, previous = desired.owner, desired.spec, observed.status
    choice = serving.choose(owner, spec, previous, observed.image, config)
    pod = None
    if choice.reference is not None:
        target = children.Target(serving.node_reference(choice.reference, config), choice.model_version)
        pod = children.pod_spec(owner, spec, target, config)
    skus = Skus.of(choice.sku, observed.devices)
    if pod is not None:
        pod = placed(pod, observed.deployment, pod_views(observed.pods), skus)
    fleet = fleet_of(spec, pod, observed)
    standing = Standing(desired, observed, config, now, fleet, choice, skus)
    conditions = Conditions(owner, previous, now)
    verdict = standing.judge()
    set_details(standing, conditions, verdict)
    message = verdict.message
    conditions.summarise(verdict.situation, verdict.reason, message, available=standing.available())
    built = conditions.build()
    status = status_of(standing, conditions)
    final = status.model_copy(update={"conditions": built}).dump()
    deletes, why = endings(standing)
    plan = Plan(
        status=final,
        requeue_after=standing.requeue_after(),
        events=(
            *health.events(previous.devices, standing.seats),
            *why,
            *changes(previous.conditions, built),
        ),
    )
    if owner.deleting:
        return plan
    auth = spec.auth is None or spec.auth.enabled is not False
    wanted = [*children.surroundings(owner, spec, given_out(observed.status))]
    if pod is not None:
        wanted.append(children.deployment(owner, spec, pod, strategy_of(standing)))
    return replace(
        plan,
        children=tuple(wanted),
        keys=children.keys_secret(owner) if auth else None,
        deletes=deletes,
    )


def endings(standing: Standing) -> tuple[tuple[Ref, ...], tuple[Event, ...]]:
    """Return the pods that must go, and an event for each that says why."""
    refs: list[Ref] = []
    told: list[Event] = []

    def end(name: str, uid: str, reason: str, why: str) -> None:
        refs.append(Ref("Pod", standing.owner.namespace, name, uid))
        told.append(Event("Normal", reason, f"deleted pod {name}: {why}"))

    for pod in standing.moves:
        why = next(seat.told() for seat in standing.sick if seat.pod == pod)
        end(pod.name, pod.uid, "ReplicaMoved", f"{why}; another FPGA is free for its successor")
    # What a reboot, an eviction or a full node leaves: their set has made others, and nobody else deletes them.
    for pod in standing.fleet.pods:
        if pod.failed and not pod.terminating:
            end(pod.name, pod.uid, "FailedPodDeleted", pod.failure or "it has ended")
    for stray in standing.observed.strays:
        meta = stray["metadata"]
        end(meta["name"], meta["uid"], "StrayPodDeleted", "its labels were changed, so its set let go of it")
    return tuple(refs), tuple(told)


def strategy_of(standing: Standing) -> Strategy:
    """Return how the Deployment replaces pods, from the devices free at this moment."""
    observed, fleet = standing.observed, standing.fleet
    live = observed.deployment
    current, starting = None, False
    if live is not None:
        rolling = live["spec"].get("strategy", {}).get("rollingUpdate") or {}
        surge, unavailable = rolling.get("maxSurge"), rolling.get("maxUnavailable")
        if isinstance(surge, int) and isinstance(unavailable, int):
            current = Strategy(surge, unavailable)
        starting = live["spec"]["template"]["metadata"]["labels"].get(REVISION_LABEL) != fleet.revision
    # Those on a node that does not answer are not about to give anything back.
    there = {node.name for node in observed.nodes if node.ready}
    leaving = any(pod.terminating and pod.node in there for pod in fleet.pods)
    stuck = (
        bool(fleet.old)
        and not leaving
        and any(standing.age(pod.unplaced_at) >= STUCK_SECONDS for pod in fleet.unplaced)
    )
    free = free_devices(observed.devices, observed.serving_pods, standing.nodes)
    others = standing.skus.others
    if fleet.old and others and {pod.node for pod in fleet.old if pod.scheduled} <= others:
        return Strategy(surge=1, unavailable=0)  # what they give back is of no use to the new ones
    seated = sum(1 for pod in fleet.alive if pod.scheduled and pod.node not in others)
    return choose_strategy(
        current, starting=starting, stuck=stuck, replicas=fleet.wanted, placed=seated, free=free
    )
