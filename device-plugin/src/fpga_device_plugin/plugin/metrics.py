"""What Prometheus sees of devices and plugin. Device counters are the emulator's own, read when somebody
scrapes.
"""

from collections.abc import Callable, Iterator, Sequence
from typing import Any

from npu.device.states import State
from prometheus_client import CollectorRegistry, Counter
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

__all__ = ["Devices", "Metrics"]

LABELS = ("device", "sku")
GAUGES = {
    "temperatureC": ("fpga_device_temperature_celsius", "What the card's sensor reads"),
    "utilisation": ("fpga_device_utilisation_ratio", "Share of the last 10 s in which the card computed"),
}
COUNTERS = {
    "inferences": ("fpga_device_inferences", "Pictures computed"),
    "simulatedSeconds": ("fpga_device_simulated_seconds", "Time that the real card would have computed"),
    "wallSeconds": (
        "fpga_device_wall_seconds",
        "Time that this machine took to emulate it; never add the two",
    ),
    "reconfigurations": ("fpga_device_reconfigurations", "Bitstreams written"),
    "reconfigurationSeconds": ("fpga_device_reconfiguration_seconds", "Time spent writing bitstreams"),
    "loads": ("fpga_device_program_loads", "Programs loaded"),
    "faults": ("fpga_device_faults", "Faults that began"),
    "restarts": ("fpga_device_restarts", "Restarts of the device's process after it ended by itself"),
}
STATES = tuple(str(state) for state in State)
Statuses = Sequence[dict[str, Any]]


class Devices(Collector):
    """Turns the emulator's statuses into metrics. `read` is called at each scrape."""

    def __init__(self, read: Callable[[], Statuses], registered: Callable[[], bool]) -> None:
        self._read = read
        self._registered = registered

    def describe(self) -> Iterator[Metric]:
        """Nothing beforehand: registering must not ask the emulator."""
        return iter(())

    def collect(self) -> Iterator[Metric]:
        """Yield one family a figure."""
        statuses = self._read()
        yield GaugeMetricFamily(
            "fpga_plugin_registered", "1 while the kubelet knows this plugin", float(self._registered())
        )
        healthy = GaugeMetricFamily("fpga_device_healthy", "1 if pods may have the device", labels=LABELS)
        state = GaugeMetricFamily(
            "fpga_device_state", "1 for the state that it is in", labels=(*LABELS, "state")
        )
        for status in statuses:
            healthy.add_metric(_labels(status), float(status.get("health") == "Healthy"))
            for name in STATES:
                state.add_metric([*_labels(status), name], float(status.get("state") == name))
        yield healthy
        yield state
        for key, (name, text) in GAUGES.items():
            yield _family(GaugeMetricFamily(name, text, labels=LABELS), key, statuses)
        for key, (name, text) in COUNTERS.items():
            yield _family(CounterMetricFamily(name, text, labels=LABELS), key, statuses)


class Metrics:
    """The registry of this process, with the plugin's own counters."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self.allocations = Counter(
            "fpga_plugin_allocations", "Allocate calls of the kubelet", ["result"], registry=self.registry
        )
        self.registrations = Counter(
            "fpga_plugin_registrations", "Registrations with the kubelet", registry=self.registry
        )


def _labels(status: dict[str, Any]) -> list[str]:
    return [str(status.get("id", "")), str(status.get("sku", ""))]


def _family(
    family: GaugeMetricFamily | CounterMetricFamily, key: str, statuses: Statuses
) -> GaugeMetricFamily | CounterMetricFamily:
    for status in statuses:
        if isinstance(status.get(key), int | float):  # a device that is absent has no figures
            family.add_metric(_labels(status), float(status[key]))
    return family
