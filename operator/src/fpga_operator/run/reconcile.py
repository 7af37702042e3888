"""One pass over one object: read the world, plan, make it true, say so."""

import logging
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime

from pydantic import ValidationError

from fpga_operator.api import AccelImageSpec, AccelServiceSpec, FpgaModelSpec
from fpga_operator.api.base import StatusBase
from fpga_operator.config import Config
from fpga_operator.errors import Retry, Terminal
from fpga_operator.plan.conditions import Conditions, Situation, changes
from fpga_operator.plan.fleet import ServiceDesired
from fpga_operator.plan.image import ImageDesired, plan_image
from fpga_operator.plan.image import repository as image_repository
from fpga_operator.plan.model import ModelDesired, plan_model
from fpga_operator.plan.model import repository as model_repository
from fpga_operator.plan.service import plan_service
from fpga_operator.plan.types import Fault, Manifest, Owner, Plan
from fpga_operator.run import jobtimes
from fpga_operator.run.executor import Executor, fault_of
from fpga_operator.run.observe import (
    left_pods,
    observe_image,
    observe_model,
    observe_service,
    read_status,
)
from fpga_operator.run.slots import JobSlots
from fpga_operator.run.store import Key, Store

log = logging.getLogger(__name__)

WITH_JOBS = ("FpgaModel", "AccelImage")


def utc_now() -> datetime:
    """Return the time; the planners get it as a value."""
    return datetime.now(UTC)


def place_in_line(owner: Owner, body: Manifest) -> tuple[int, str]:
    """Return the order among those who wait for a Job slot: by creation, behind those that have failed less often.

    Otherwise a few objects whose sources are unreachable for good would keep all slots busy with their retries.
    """
    record = (body.get("status") or {}).get("job")
    attempts = record.get("attempts") if isinstance(record, dict) else 0
    return attempts if isinstance(attempts, int) else 0, owner.created


class Reconciler:
    """Works on keys. Knows no queue and no watch."""

    def __init__(
        self,
        config: Config,
        store: Store,
        executor: Executor,
        slots: JobSlots,
        now: Callable[[], datetime] = utc_now,
    ) -> None:
        self._config = config
        self._store = store
        self._executor = executor
        self._slots = slots
        self._now = now
        self.lost: Callable[[str], frozenset[str]] = lambda _: frozenset()  # by repository

    async def reconcile(self, key: Key) -> float | None:
        """Make one object true; return after how many seconds to look again.

        Raises:
            Retry: something is in the way that passes by itself; the status is written all the same.
            Terminal: a person must act; the status says so, and the next resync tries again.
        """
        body = self._store.body(key)
        if body is None:
            self._slots.settled(key)
            self._executor.forget(key)
            if key.kind == "AccelService":  # what a hand took out of its set outlives even its service
                await self._executor.delete(left_pods(self._store, key))
            return None
        owner = Owner.of(body)
        place = place_in_line(owner, body)
        slot = False
        trouble: Retry | Terminal | None = None
        try:
            plan = self._plan(owner, body, slot=False, fault=None)
            if plan.waits_for_slot and self._slots.reserve(key, place):
                slot = True
                plan = self._plan(owner, body, slot=True, fault=None)
            try:
                changed = plan.status != (body.get("status") or {})
                await self._executor.children(owner, plan, thorough=changed)
            except Retry as error:
                trouble = error
            except Terminal as error:
                trouble = error
                plan = self._plan(owner, body, slot=slot, fault=fault_of(error))
        finally:
            self._slots.release(key)
        if plan.waits_for_slot:
            self._slots.waits(key, place)
        else:
            self._slots.settled(key)
        written = await self._executor.status(owner, body.get("status") or {}, plan)
        if written and (job := jobtimes.ended(body.get("status") or {}, plan.status)) is not None:
            self._job_ended(owner, job)
        if written and plan.events:
            log.info("%s %s/%s: %s: %s", *key, plan.events[0].reason, plan.events[0].note)
        if trouble is not None:
            raise trouble
        return plan.requeue_after

    def _job_ended(self, owner: Owner, job: jobtimes.Ended) -> None:
        live = self._store.body(Key("Job", owner.namespace, job.name)) or {}
        if (took := jobtimes.seconds(live)) is not None:
            self._executor.metrics.job_seconds.labels(owner.kind, job.outcome).observe(took)

    def _plan(self, owner: Owner, body: Manifest, *, slot: bool, fault: Fault | None) -> Plan:
        now, store, config = self._now(), self._store, self._config
        try:
            if owner.kind == "FpgaModel":
                model = FpgaModelSpec.model_validate(body["spec"])
                lost = self.lost(model_repository(owner))
                world = observe_model(store, owner, body, slot=slot, fault=fault, lost=lost)
                return plan_model(ModelDesired(owner, model), world, config, now)
            if owner.kind == "AccelImage":
                image = AccelImageSpec.model_validate(body["spec"])
                wanted = ImageDesired(owner, image)
                lost = self.lost(image_repository(wanted))
                seen = observe_image(store, owner, image, body, slot=slot, fault=fault, lost=lost)
                return plan_image(wanted, seen, config, now)
            service = AccelServiceSpec.model_validate(body["spec"])
            around = observe_service(store, owner, service, body, fault=fault)
            return plan_service(ServiceDesired(owner, service), around, config, now)
        except ValidationError as error:
            return unreadable(owner, body, error, now)


def unreadable(owner: Owner, body: Manifest, error: ValidationError, now: datetime) -> Plan:
    """Return the plan for a spec that passed another CRD version's schema and not ours: touch nothing, say it."""
    previous = read_status(StatusBase, body)
    conditions = Conditions(owner, previous, now)
    wrong = "; ".join(f"spec.{'.'.join(map(str, e['loc']))}: {e['msg']}" for e in error.errors())
    message = f"this operator cannot read the spec: {wrong}; install CRDs and operator of one release"
    available = previous.condition("Available")
    holds = available is not None and available.status == "True"
    conditions.summarise(
        Situation.FAILED,
        "InvalidSpec",
        message,
        available=(holds, available.message if available else "unknown"),
    )
    built = conditions.build()
    status = {
        **(body.get("status") or {}),
        "observedGeneration": owner.generation,
        "state": str(conditions.state),
        "conditions": [condition.dump() for condition in built],
    }
    return replace(Plan(status=status), events=changes(previous.conditions, built))
