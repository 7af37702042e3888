"""All counters of the process on one page, named after controller-runtime's, so that its dashboards and alerts fit.

What is counted when it happens stands here; what is read when somebody scrapes stands in `queuemetrics` (the work
queue) and `objectmetrics` (the objects). Controllers are named as controller-runtime names them: the kind in lower
case.
"""

from prometheus_client import (
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    ProcessCollector,
    disable_created_metrics,
)

from fpga_operator.run.queuemetrics import QueueMetrics, controller_of

# controller-runtime's own buckets, pkg/internal/controller/metrics: its dashboards' quantiles stay comparable.
RECONCILE_BUCKETS = (
    *(0.005, 0.01, 0.025, 0.05, 0.1, 0.15, 0.2, 0.25, 0.3, 0.35, 0.4, 0.45, 0.5, 0.6, 0.7, 0.8, 0.9, 1.0),
    *(1.25, 1.5, 1.75, 2.0, 2.5, 3.0, 3.5, 4.0, 4.5, 5, 6, 7, 8, 9, 10, 15, 20, 25, 30, 40, 50, 60),
)
JOB_BUCKETS = (1, 2.5, 5, 10, 20, 30, 60, 120, 300, 600, 1200, 1800, 3600, 7200)
NO_ANSWER = "<error>"  # client-go's code for a request that got none


class Metrics:
    """Counters of one operator process."""

    def __init__(self, registry: CollectorRegistry | None = None) -> None:
        # Go's client has none; here they would double the counters' series.
        disable_created_metrics()  # type: ignore[no-untyped-call]
        self.registry = registry if registry is not None else CollectorRegistry()
        own = self.registry
        ProcessCollector(registry=own)
        self.queue = QueueMetrics(own)
        self.reconciles = Counter(
            "controller_runtime_reconcile_total",
            "Reconciles by controller and result: success, error, requeue or requeue_after.",
            ("controller", "result"),
            registry=own,
        )
        self.errors = Counter(
            "controller_runtime_reconcile_errors_total",
            "Reconciles that ended with an error.",
            ("controller",),
            registry=own,
        )
        self.terminal_errors = Counter(
            "controller_runtime_terminal_reconcile_errors_total",
            "Reconciles that ended with an error that only a person can cure.",
            ("controller",),
            registry=own,
        )
        self.panics = Counter(
            "controller_runtime_reconcile_panics_total",
            "Reconciles that ended with a defect of the operator.",
            ("controller",),
            registry=own,
        )
        self.seconds = Histogram(
            "controller_runtime_reconcile_time_seconds",
            "Seconds that a reconcile took.",
            ("controller",),
            buckets=RECONCILE_BUCKETS,
            registry=own,
        )
        self.workers = Gauge(
            "controller_runtime_max_concurrent_reconciles",
            "Workers that may be at work at once; the controllers share them.",
            ("controller",),
            registry=own,
        )
        self.requests = Counter(
            "rest_client_requests_total",
            "Requests to the API server by HTTP code, method and host; the watches' connections are not counted.",
            ("code", "method", "host"),
            registry=own,
        )
        self.writes = Counter(
            "accel_writes_total", "Writes to the API server by kind and verb.", ("kind", "verb"), registry=own
        )
        self.job_seconds = Histogram(
            "accel_job_duration_seconds",
            "Seconds from a Job's start to its end, by the kind that it worked for and its outcome: "
            "succeeded, failed, retried, or checked (a fault outside of the object that still stands).",
            ("kind", "outcome"),
            buckets=JOB_BUCKETS,
            registry=own,
        )

    def begin(self, kind: str, workers: int) -> None:
        """Give every series of a controller its zero: a rate over a series that begins with 1 misses the first."""
        name = controller_of(kind)
        self.workers.labels(name).set(workers)
        for result in ("success", "error", "requeue", "requeue_after"):
            self.reconciles.labels(name, result)
        for counter in (self.errors, self.terminal_errors, self.panics, self.seconds):
            counter.labels(name)
        self.queue.begin(name)

    def reconciled(self, kind: str, result: str, seconds: float) -> None:
        """Count one reconcile: success, requeue_after, or an error (error, terminal or panic)."""
        name = controller_of(kind)
        failed = result in ("error", "terminal", "panic")
        self.reconciles.labels(name, "error" if failed else result).inc()
        self.seconds.labels(name).observe(seconds)
        if failed:
            self.errors.labels(name).inc()
        if result == "terminal":
            self.terminal_errors.labels(name).inc()
        if result == "panic":
            self.panics.labels(name).inc()

    def requested(self, method: str, host: str, status: int) -> None:
        """Count one request; a status of 0 means that no answer came."""
        self.requests.labels(str(status) if status else NO_ANSWER, method, host).inc()
