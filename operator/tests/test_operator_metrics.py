"""The metrics' meanings: what client-go counts, what a status change says of a Job, who has not been Ready longest."""

import re
from datetime import timedelta
from typing import Any

import pytest
import yaml
from fpga_operator.api.generate import repository_root
from fpga_operator.run import jobtimes
from fpga_operator.run.metrics import Metrics
from fpga_operator.run.objectmetrics import MAX_REASONS, ObjectMetrics, summary
from fpga_operator.run.operations import families, whole_registry
from fpga_operator.run.queue import WorkQueue
from fpga_operator.run.queuemetrics import QueueMetrics
from fpga_operator.run.slots import JobSlots
from fpga_operator.run.store import Key, Store
from operator_samples import NOW, at
from prometheus_client import CollectorRegistry

MODEL, OTHER = Key("FpgaModel", "demo", "m"), Key("FpgaModel", "demo", "n")
Object = dict[str, Any]


class Clocked:
    """A queue on a clock that the test moves, and its metrics."""

    def __init__(self) -> None:
        self.time = 0.0
        self.registry = CollectorRegistry()
        metrics = QueueMetrics(self.registry, lambda: self.time)
        metrics.begin("fpgamodel")
        self.queue: WorkQueue[Key] = WorkQueue(lambda: self.time, metrics)

    def value(self, name: str) -> float | None:
        return self.registry.get_sample_value(name, {"name": "fpgamodel", "controller": "fpgamodel"})


class TestQueue:
    """Each series means what it means in client-go."""

    async def test_a_key_that_waits_already_is_not_added(self) -> None:
        given = Clocked()
        given.queue.add(MODEL)
        given.queue.add(MODEL)
        given.queue.add(OTHER)
        assert given.value("workqueue_adds_total") == 2
        assert given.value("workqueue_depth") == 2

    async def test_waiting_and_working_are_told_apart(self) -> None:
        given = Clocked()
        given.queue.add(MODEL)
        given.time = 3.0
        await given.queue.take()
        assert given.value("workqueue_queue_duration_seconds_sum") == 3.0
        assert given.value("workqueue_depth") == 0
        given.time = 8.0
        given.queue.done(MODEL)
        assert given.value("workqueue_work_duration_seconds_sum") == 5.0
        assert given.value("workqueue_unfinished_work_seconds") == 0

    async def test_unfinished_work_is_the_sum_and_the_longest_is_the_longest(self) -> None:
        given = Clocked()
        given.queue.add(MODEL)
        await given.queue.take()
        given.time = 10.0
        given.queue.add(OTHER)
        await given.queue.take()
        given.time = 12.0
        assert given.value("workqueue_unfinished_work_seconds") == 14.0
        assert given.value("workqueue_longest_running_processor_seconds") == 12.0
        assert given.registry.get_sample_value(
            "controller_runtime_active_workers", {"controller": "fpgamodel"}
        ) == 2  # fmt: skip

    async def test_a_key_added_while_worked_on_waits_since_then(self) -> None:
        given = Clocked()
        given.queue.add(MODEL)
        await given.queue.take()
        given.time = 1.0
        given.queue.add(MODEL)
        assert given.value("workqueue_depth") == 1
        given.time = 4.0
        given.queue.done(MODEL)
        await given.queue.take()
        assert given.value("workqueue_queue_duration_seconds_sum") == 3.0
        assert given.value("workqueue_adds_total") == 2

    async def test_a_failure_is_a_retry_and_what_was_added_meanwhile_backs_off_with_it(self) -> None:
        given = Clocked()
        given.queue.add(MODEL)
        await given.queue.take()
        given.queue.add(MODEL)
        given.queue.failed(MODEL)
        assert given.value("workqueue_retries_total") == 1
        assert given.value("workqueue_depth") == 0


ZERO = {"job": {"name": "a", "outcome": "Running"}}
STEPS: dict[str, tuple[Object, Object, jobtimes.Ended | None]] = {
    "starts": ({}, ZERO, None),
    "goes on": (ZERO, ZERO, None),
    "fails once more at a later look": (
        {"job": {"name": "a", "outcome": "Checking", "attempts": 1}},
        {"job": {"name": "a", "outcome": "Failed", "attempts": 2}},
        jobtimes.Ended("a", "checked"),
    ),
    "succeeds": (ZERO, {"job": {"name": "a", "outcome": "Succeeded"}}, jobtimes.Ended("a", "succeeded")),
    "ends at the first look": (
        {}, {"job": {"name": "a", "outcome": "Failed"}}, jobtimes.Ended("a", "failed"),
    ),
    "is done already": (
        {"job": {"name": "a", "outcome": "Succeeded"}}, {"job": {"name": "a", "outcome": "Succeeded"}}, None,
    ),
    "fails for now": (
        ZERO, {"job": {"name": "a", "outcome": "Retrying", "attempts": 1}}, jobtimes.Ended("a", "retried"),
    ),
    "fails for now again": (
        {"job": {"name": "a", "outcome": "Running", "attempts": 1}},
        {"job": {"name": "a", "outcome": "Retrying", "attempts": 2}},
        jobtimes.Ended("a", "retried"),
    ),
}  # fmt: skip


@pytest.mark.parametrize(("before", "after", "expected"), STEPS.values(), ids=STEPS)
def test_a_job_is_counted_with_the_status_that_takes_its_result_in(
    before: Object, after: Object, expected: jobtimes.Ended | None
) -> None:
    assert jobtimes.ended(before, after) == expected


DURATIONS: dict[str, tuple[Object, float | None]] = {
    "complete": ({"startTime": at(0), "completionTime": at(90)}, 90.0),
    "failed": (
        {"startTime": at(0), "conditions": [{"type": "Failed", "lastTransitionTime": at(7)}]}, 7.0,
    ),
    "never started": ({}, None),
    "runs": ({"startTime": at(0)}, None),
}  # fmt: skip


@pytest.mark.parametrize(("status", "expected"), DURATIONS.values(), ids=DURATIONS)
def test_seconds_of_a_job(status: Object, expected: float | None) -> None:
    assert jobtimes.seconds({"status": status}) == expected


def thing(status: str = "", reason: str = "", since: float = 0, **others: str) -> Object:
    conditions = [{"type": "Ready", "status": status, "reason": reason, "lastTransitionTime": at(since)}]
    conditions += [{"type": kind, "status": value} for kind, value in others.items()]
    return {
        "kind": "FpgaModel",
        "metadata": {"creationTimestamp": at(-50)},
        "status": {"conditions": conditions, "state": "Transitioning"} if status else {},
    }


class TestObjects:
    """Counts and maxima, never a series per object."""

    def test_conditions_are_counted(self) -> None:
        counts, _ = summary([thing("True", "Converted"), thing("False", "Bad", Stalled="True")], NOW)
        assert counts["Ready", "True"] == counts["Ready", "False"] == counts["Stalled", "True"] == 1
        assert counts["Reconciling", "True"] == 0

    def test_the_longest_time_counts_and_ready_ones_do_not(self) -> None:
        bodies = [thing("False", "Fetching", -10), thing("False", "Fetching", -70), thing("True", "x", -900)]
        assert summary(bodies, NOW)[1] == {("Transitioning", "Fetching"): (2, 70.0)}

    def test_an_object_that_nobody_looked_at_counts_since_its_creation(self) -> None:
        assert summary([thing()], NOW)[1] == {("New", "NotSeenYet"): (1, 50.0)}

    def test_reasons_are_bounded(self) -> None:
        many = [thing("False", f"Reason{number}", -number) for number in range(100)]
        found = summary(many, NOW)[1]
        assert len(found) == MAX_REASONS + 1
        assert found["Transitioning", "Other"] == (100 - MAX_REASONS, 99.0)

    def test_a_scrape_reads_the_store(self) -> None:
        registry, store = CollectorRegistry(), Store()
        later = NOW + timedelta(seconds=5)
        ObjectMetrics(registry, store, JobSlots(store, 1), ["FpgaModel"], ["FpgaModel", "Job"], lambda: later)
        body = thing("False", "Fetching")
        body["metadata"] |= {"name": "m", "namespace": "demo", "uid": "u", "resourceVersion": "1"}
        store.put(body)
        assert registry.get_sample_value("accel_objects", {"kind": "FpgaModel"}) == 1
        labels = {"kind": "FpgaModel", "state": "Transitioning", "reason": "Fetching"}
        assert registry.get_sample_value("accel_object_not_ready_seconds", labels) == 5.0


def test_results_are_counted_as_controller_runtime_does() -> None:
    metrics = Metrics()
    for result in ("success", "requeue_after", "error", "terminal", "panic"):
        metrics.reconciled("FpgaModel", result, 0.1)

    def value(name: str, **labels: str) -> float | None:
        return metrics.registry.get_sample_value(
            f"controller_runtime_{name}", {"controller": "fpgamodel", **labels}
        )

    assert value("reconcile_total", result="success") == value("reconcile_total", result="requeue_after") == 1
    assert value("reconcile_total", result="error") == value("reconcile_errors_total") == 3
    assert value("terminal_reconcile_errors_total") == value("reconcile_panics_total") == 1
    assert value("reconcile_time_seconds_count") == 5


def words(pattern: str, text: str) -> set[str]:
    return {word for inner in re.findall(pattern, text) for word in re.findall(r"[a-z_]+", inner)}


def test_what_the_alerts_name_exists() -> None:
    (group,) = yaml.safe_load((repository_root() / "operator" / "alerts.yaml").read_text())["groups"]
    known: dict[str, set[str]] = {}
    for name, kind, labels, _ in families(whole_registry()):
        known[name] = set(labels)
        if kind == "histogram":
            known |= {f"{name}{suffix}": {*labels, "le"} for suffix in ("_bucket", "_sum", "_count")}
    for rule in group["rules"]:
        assert rule.keys() == {"alert", "expr", "for", "labels", "annotations"}
        assert rule["annotations"].keys() == {"summary", "description"}
        expression = re.sub(r"\"[^\"]*\"", "", rule["expr"])  # without the labels' values
        used = set(
            re.findall(r"\b(?:accel|workqueue|controller_runtime|rest_client|process)_[a-z_]+", expression)
        )
        assert used, rule["alert"]
        assert used <= known.keys(), rule["alert"]
        named = words(r"\{([^}]*)\}", expression) | words(r"by \(([^)]*)\)", expression)
        assert named <= set().union(*(known[name] for name in used)), rule["alert"]
