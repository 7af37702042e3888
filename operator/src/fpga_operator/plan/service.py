"""The planner of AccelServices: its children, and the status contract read off the pods."""

from dataclasses import replace
from datetime import datetime

from fpga_operator.config import Config
from fpga_operator.plan import children, serving
from fpga_operator.plan.conditions import Conditions, changes
from fpga_operator.plan.devices import free_devices
from fpga_operator.plan.fleet import ServiceDesired, ServiceObserved, fleet_of
from fpga_operator.plan.rollout import STUCK_SECONDS, Strategy
from fpga_operator.plan.rollout import choose as choose_strategy
from fpga_operator.plan.servicestatus import given_out, set_details, status_of
from fpga_operator.plan.standing import Standing
from fpga_operator.plan.types import REVISION_LABEL, Plan, Ref


def plan_service(desired: ServiceDesired, observed: ServiceObserved, config: Config, now: datetime) -> Plan:
    """Return what shall be for one AccelService."""
    owner, spec, previous = desired.owner, desired.spec, observed.status
    choice = serving.choose(owner, spec, previous, observed.image)
    pod = None
    if choice.reference is not None:
        target = children.Target(serving.node_reference(choice.reference, config), choice.model_version)
        pod = children.pod_spec(owner, spec, target, config)
    fleet = fleet_of(spec, pod, observed)
    standing = Standing(desired, observed, config, now, fleet, choice)
    conditions = Conditions(owner, previous, now)
    verdict = standing.judge()
    set_details(standing, conditions, verdict)
    message = verdict.message
    conditions.summarise(verdict.situation, verdict.reason, message, available=standing.available())
    built = conditions.build()
    status = status_of(standing, conditions)
    final = status.model_copy(update={"conditions": built}).dump()
    plan = Plan(
        status=final, requeue_after=standing.requeue_after(), events=changes(previous.conditions, built)
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
        # Debris of node reboots: the kubelet refused them before its devices were back; nobody else deletes them.
        deletes=tuple(
            Ref("Pod", owner.namespace, p.name, p.uid) for p in fleet.pods if p.failed and not p.terminating
        ),
    )


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
    leaving = any(pod.terminating for pod in fleet.pods)
    stuck = (
        bool(fleet.old)
        and not leaving
        and any(standing.age(pod.unplaced_at) >= STUCK_SECONDS for pod in fleet.unplaced)
    )
    free = free_devices(observed.devices, observed.serving_pods, standing.nodes)
    placed = sum(1 for pod in fleet.alive if pod.scheduled)
    return choose_strategy(
        current, starting=starting, stuck=stuck, replicas=fleet.wanted, placed=placed, free=free
    )
