"""What Prometheus sees. Labels are few and bounded: a method we serve, a gRPC status code; never a key,
never a name that a client chose.
"""

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram
from prometheus_client.gc_collector import GCCollector
from prometheus_client.process_collector import ProcessCollector

__all__ = ["Metrics"]

_REQUEST_BUCKETS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30)
_DEVICE_BUCKETS = (0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5)


class Metrics:
    """All metrics of one server, in a registry of its own."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        ProcessCollector(registry=self.registry)
        GCCollector(registry=self.registry)
        self.requests = Counter(
            "accel_requests_total",
            "Requests by gRPC method and status code",
            ["method", "code"],
            registry=self.registry,
        )
        self.duration = Histogram(
            "accel_request_duration_seconds",
            "Wall time from a request's arrival to its answer",
            ["method"],
            buckets=_REQUEST_BUCKETS,
            registry=self.registry,
        )
        self.simulated = Histogram(
            "accel_device_simulated_seconds",
            "The FPGA's time for one inference by the cycle-level model",
            buckets=_DEVICE_BUCKETS,
            registry=self.registry,
        )
        self.device_wall = Histogram(
            "accel_device_wall_seconds",
            "The time the device's emulator took for one inference",
            buckets=_DEVICE_BUCKETS,
            registry=self.registry,
        )
        self.stage = Histogram(
            "accel_stage_duration_seconds",
            "Wall time of a request's stages on the host",
            ["stage"],
            buckets=_DEVICE_BUCKETS,
            registry=self.registry,
        )
        self.queue_depth = Gauge(
            "accel_queue_depth", "Predict requests that wait or are computed", registry=self.registry
        )
        self.device_ready = Gauge(
            "accel_device_ready", "1 while the device holds the model and answers", registry=self.registry
        )
        self.device_losses = Counter(
            "accel_device_losses_total", "Times a device that served was lost", registry=self.registry
        )
        self.model = Gauge(
            "accel_model_info",
            "Always 1; the labels say what is served",
            ["model", "version", "digest"],
            registry=self.registry,
        )
