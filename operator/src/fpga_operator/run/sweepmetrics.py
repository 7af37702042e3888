"""Metrics of the sweep and of the watch on the registry's content."""

import time

from prometheus_client import CollectorRegistry, Counter, Gauge


class SweepMetrics:
    """One process's."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self.passes = Counter(
            "accel_sweep_passes", "Sweeps of the registry by result.", ("result",), registry=registry
        )
        self.deleted = Counter(
            "accel_sweep_deleted", "Manifests deleted from the registry.", registry=registry
        )
        self.candidates = Gauge(
            "accel_sweep_candidates",
            "Manifests that nothing refers to, at the last sweep.",
            registry=registry,
        )
        self.success = Gauge(
            "accel_sweep_last_success_timestamp_seconds", "When a sweep last went through.", registry=registry
        )
        self.lost = Gauge(
            "accel_registry_lost_manifests",
            "Manifests that statuses promise and the registry does not have.",
            registry=registry,
        )

    def succeeded(self) -> None:
        """Note the time of a sweep that went through."""
        self.success.set(time.time())
