"""What a scrape reads off the store: how many objects there are, and how long the worst has not been Ready.

Counts and maxima per kind, never a series per object: names come and go, and 10,000 series for 2,000 objects help
nobody. Which object it is, `kubectl get accel -A` tells.
"""

from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from datetime import UTC, datetime

from prometheus_client import CollectorRegistry
from prometheus_client.core import GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from fpga_operator.plan.types import Manifest, parse_time
from fpga_operator.run.slots import JobSlots
from fpga_operator.run.store import Store

SUMMARY = ("Ready", "Available", "Reconciling", "Stalled")
MAX_REASONS = 30  # per kind; they come from Jobs' results too, which may be newer than this operator
OTHER = "Other"
Why = tuple[str, str]  # state and reason


class ObjectMetrics(Collector):
    """Reads the store at each scrape, in the event loop."""

    def __init__(
        self,
        registry: CollectorRegistry,
        store: Store,
        slots: JobSlots,
        own: Iterable[str],
        watched: Iterable[str],
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        self._store, self._slots = store, slots
        self._own, self._watched = tuple(own), tuple(watched)
        self._now = now
        registry.register(self)

    def collect(self) -> Iterator[Metric]:
        """Yield the gauges."""
        objects = GaugeMetricFamily("accel_objects", "Objects known from watches.", labels=("kind",))
        for kind in self._watched:
            objects.add_metric((kind,), self._store.count(kind))
        yield objects
        jobs = len(self._store.running_jobs())
        yield GaugeMetricFamily("accel_jobs_running", "Jobs that run.", value=jobs)
        waiting = self._slots.waiting()
        yield GaugeMetricFamily("accel_jobs_waiting", "Objects that wait for a Job slot.", value=waiting)
        yield from self._conditions()

    def _conditions(self) -> Iterator[Metric]:
        conditions = GaugeMetricFamily(
            "accel_object_conditions",
            "Objects by kind, condition (Ready, Available, Reconciling, Stalled) and its status.",
            labels=("kind", "condition", "status"),
        )
        unready = GaugeMetricFamily(
            "accel_objects_not_ready",
            "Objects that are not Ready by kind, state and reason.",
            labels=("kind", "state", "reason"),
        )
        oldest = GaugeMetricFamily(
            "accel_object_not_ready_seconds",
            "Seconds for which the worst object has not been Ready, by kind and the state and reason that it has now.",
            labels=("kind", "state", "reason"),
        )
        now = self._now()
        for kind in self._own:
            counts, ages = summary(self._store.all(kind), now)
            for (condition, status), count in sorted(counts.items()):
                conditions.add_metric((kind, condition, status), count)
            for why, (count, age) in sorted(ages.items()):
                unready.add_metric((kind, *why), count)
                oldest.add_metric((kind, *why), age)
        yield from (conditions, unready, oldest)


def summary(
    bodies: Iterable[Manifest], now: datetime
) -> tuple[Counter[tuple[str, str]], dict[Why, tuple[int, float]]]:
    """Return counts by (condition, status), and by state and reason how many are not Ready and the longest time.

    Statuses that no object has count 0, so that the series is there before the first.
    """
    counts = Counter({(name, status): 0 for name in SUMMARY for status in ("True", "False")})
    ages: dict[Why, tuple[int, float]] = {}
    for body in bodies:
        found = {c["type"]: c for c in (body.get("status") or {}).get("conditions") or []}
        for name in SUMMARY:
            # Reconciling and Stalled are there only while they hold.
            counts[name, found[name]["status"] if name in found else "False"] += 1
        ready = found.get("Ready", {})
        if ready.get("status") == "True":
            continue
        since = ready.get("lastTransitionTime") or body["metadata"].get("creationTimestamp")
        age = max(0.0, (now - parse_time(since)).total_seconds()) if since else 0.0
        why = (body.get("status") or {}).get("state", "New"), ready.get("reason", "NotSeenYet")
        if why not in ages and len(ages) >= MAX_REASONS:
            why = why[0], OTHER
        count, longest = ages.get(why, (0, 0.0))
        ages[why] = (count + 1, max(longest, age))
    return counts, ages
