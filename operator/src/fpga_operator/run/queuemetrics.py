"""The work queue's metrics with client-go's names and meanings, one queue name per controller.

The keys of all kinds share one queue here; its hooks tell the kinds apart, so that a series means what it means in a
controller-runtime process. Times are the monotonic clock's.
"""

import time
from collections.abc import Callable, Iterator

from prometheus_client import CollectorRegistry, Counter, Histogram
from prometheus_client.core import GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from fpga_operator.run.store import Key

BUCKETS = tuple(10.0 ** (power - 8) for power in range(12))  # client-go's: 10 ns to 1000 s
LABELS = ("name", "controller")


def controller_of(kind: str) -> str:
    """Return the controller's name of a kind, as controller-runtime derives it."""
    return kind.lower()


class QueueMetrics(Collector):
    """The observer of a WorkQueue."""

    def __init__(self, registry: CollectorRegistry, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._added: dict[Key, float] = {}  # waits for a worker, since when
        self._started: dict[Key, float] = {}  # is being worked on, since when
        self._names: list[str] = []
        self.adds = Counter(
            "workqueue_adds_total",
            "Keys added; one that waits already is not added.",
            LABELS,
            registry=registry,
        )
        self.retries = Counter(
            "workqueue_retries_total",
            "Keys to be looked at again after a while: after failures, and when time alone changes something.",
            LABELS,
            registry=registry,
        )
        self.waited = Histogram(
            "workqueue_queue_duration_seconds",
            "Seconds that keys waited for a worker.",
            LABELS,
            buckets=BUCKETS,
            registry=registry,
        )
        self.worked = Histogram(
            "workqueue_work_duration_seconds",
            "Seconds that workers were at keys.",
            LABELS,
            buckets=BUCKETS,
            registry=registry,
        )
        registry.register(self)

    def begin(self, name: str) -> None:
        """Give every series of a controller its zero."""
        self._names.append(name)
        for family in (self.adds, self.retries, self.waited, self.worked):
            family.labels(name, name)

    # -- what the queue tells -------------------------------------------------------------------------------

    def added(self, key: Key) -> None:
        """A key waits for a worker, perhaps until the one that is at it has ended."""
        if key not in self._added:
            self._added[key] = self._clock()
            name = controller_of(key.kind)
            self.adds.labels(name, name).inc()

    def taken(self, key: Key) -> None:
        """A worker took a key."""
        now, name = self._clock(), controller_of(key.kind)
        self.waited.labels(name, name).observe(now - self._added.pop(key, now))
        self._started[key] = now

    def ended(self, key: Key) -> None:
        """A worker gave a key back."""
        now, name = self._clock(), controller_of(key.kind)
        self.worked.labels(name, name).observe(now - self._started.pop(key, now))

    def delayed(self, key: Key) -> None:
        """A key is to be looked at again after a while."""
        name = controller_of(key.kind)
        self.retries.labels(name, name).inc()

    def dropped(self, key: Key) -> None:
        """A key that was added while it was worked on is not looked at again for that: it backs off."""
        self._added.pop(key, None)

    # -- what is read at a scrape ---------------------------------------------------------------------------

    def collect(self) -> Iterator[Metric]:
        """Yield depth, workers at work, and the time of unfinished work."""
        now = self._clock()
        active = GaugeMetricFamily(
            "controller_runtime_active_workers", "Workers at work.", labels=("controller",)
        )
        depth = GaugeMetricFamily("workqueue_depth", "Keys that wait for a worker.", labels=LABELS)
        unfinished = GaugeMetricFamily(
            "workqueue_unfinished_work_seconds",
            "Seconds of work in progress that work_duration has not seen yet, summed over the workers. "
            "Growing by n a second, it tells of n stuck workers.",
            labels=LABELS,
        )
        longest = GaugeMetricFamily(
            "workqueue_longest_running_processor_seconds",
            "Seconds that the slowest worker has been at its key.",
            labels=LABELS,
        )
        for name in self._names:
            labels = (name, name)
            times = [now - since for key, since in self._started.items() if controller_of(key.kind) == name]
            depth.add_metric(labels, sum(1 for key in self._added if controller_of(key.kind) == name))
            active.add_metric((name,), len(times))
            unfinished.add_metric(labels, sum(times))
            longest.add_metric(labels, max(times, default=0.0))
        yield from (active, depth, unfinished, longest)
