"""All metrics on one page, named after controller-runtime's, so that its dashboards and alerts fit."""

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

BUCKETS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60)


class Metrics:
    """Counters of one operator process."""

    def __init__(self, registry: CollectorRegistry | None = None) -> None:
        self.registry = registry if registry is not None else CollectorRegistry()
        own = self.registry
        self.reconciles = Counter(
            "controller_runtime_reconcile",
            "Reconciles by kind and result.",
            ("controller", "result"),
            registry=own,
        )
        self.errors = Counter(
            "controller_runtime_reconcile_errors", "Failed reconciles.", ("controller",), registry=own
        )
        self.seconds = Histogram(
            "controller_runtime_reconcile_time_seconds",
            "Seconds that a reconcile took.",
            ("controller",),
            buckets=BUCKETS,
            registry=own,
        )
        self.active = Gauge("controller_runtime_active_workers", "Workers at work.", registry=own)
        self.workers = Gauge(
            "controller_runtime_max_concurrent_reconciles", "Workers there are.", registry=own
        )
        self.depth = Gauge("workqueue_depth", "Keys that wait for a worker.", registry=own)
        self.adds = Gauge("workqueue_adds_total", "Keys added so far.", registry=own)
        self.retries = Gauge(
            "workqueue_retries_total", "Keys tried again after a failure so far.", registry=own
        )
        self.longest = Gauge(
            "workqueue_longest_running_processor_seconds",
            "Seconds that the slowest worker has been at it.",
            registry=own,
        )
        self.unfinished = Gauge(
            "workqueue_unfinished_work_seconds", "Seconds that the first key has waited.", registry=own
        )
        self.waited = Histogram(
            "workqueue_queue_duration_seconds", "Seconds that keys waited.", buckets=BUCKETS, registry=own
        )
        self.writes = Counter("accel_writes", "Writes to the API server.", ("kind", "verb"), registry=own)
        self.objects = Gauge("accel_objects", "Objects known from watches.", ("kind",), registry=own)
        self.jobs = Gauge("accel_jobs_running", "Jobs that run.", registry=own)
        self.jobs_waiting = Gauge("accel_jobs_waiting", "Objects that wait for a Job slot.", registry=own)
