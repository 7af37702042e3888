"""Many models, images and services applied at once: all that can be Ready is, and the operator stays small.

Asserted are counts, never times. With ACCEL_TEST_FULL=1 there are 200 objects of each kind.
"""

import os
from typing import Any

import pytest
from accel_cluster import toolchain
from scale import DEVICES, KINDS, MAX_JOBS, Figures, measure

pytestmark = pytest.mark.timeout(1500)
COUNT = 200 if os.environ.get("ACCEL_TEST_FULL") else 40
MAX_MESSAGE = 2048
READS_PER_OBJECT = 4  # one look at the name of each child that is about to be created
WRITES_PER_OBJECT = 14  # children, statuses and events; about 10 are needed
BASE_MEMORY_MIB = 150
MEMORY_PER_OBJECT_MIB = 0.2
Object = dict[str, Any]


@pytest.fixture(scope="module")
def figures(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Figures:
    """One run for all tests of this page."""
    programs = toolchain.ensure()["kube-apiserver"].parent
    found = measure(tmp_path_factory.mktemp("scale"), programs, COUNT)
    report = (
        f"\n{COUNT} of each kind: {found.memory:.0f} MiB (peak {found.peak_memory:.0f}), "
        f"{found.reads()} reads, {found.writes()} writes, {found.reconciles} reconciles, "
        f"{found.processor:.1f} s of processor time; with nothing to do {found.idle_reconciles} reconciles in "
        f"{found.idle_processor:.2f} s"
    )
    for (verb, resource), count in sorted(found.requests.items()):
        report += f"\n  {verb} {resource}: {count}"
    with request.config.pluginmanager.getplugin("capturemanager").global_and_fixture_disabled():
        print(report)
    return found


def ready(body: Object) -> Object:
    (found,) = [c for c in body["status"]["conditions"] if c["type"] == "Ready"]
    return found  # type: ignore[no-any-return]


def test_jobs_never_pass_the_limit_and_none_ran_twice(figures: Figures) -> None:
    assert figures.most_jobs <= MAX_JOBS
    assert figures.jobs == 2 * COUNT


@pytest.mark.parametrize("kind", KINDS[:2])
def test_all_models_and_images_are_ready(figures: Figures, kind: str) -> None:
    assert [ready(body)["status"] for body in figures.objects[kind]] == ["True"] * COUNT


def test_as_many_services_are_healthy_as_there_are_devices(figures: Figures) -> None:
    healthy = [s for s in figures.objects["AccelService"] if s["status"]["state"] == "Healthy"]
    assert len(healthy) == DEVICES


def test_every_other_service_says_whom_it_waits_for(figures: Figures) -> None:
    services = figures.objects["AccelService"]
    holders = {s["metadata"]["name"] for s in services if s["status"]["state"] == "Healthy"}
    waiting = [s for s in services if s["metadata"]["name"] not in holders]
    assert len(waiting) == COUNT - DEVICES
    for service in waiting:
        assert service["status"]["state"] == "Unschedulable"
        assert ready(service)["reason"] == "WaitingForDevice"
        message = ready(service)["message"]
        assert len(message) <= MAX_MESSAGE
        assert all(f"AccelService {name} (1)" in message for name in holders), message


def test_requests_are_bounded_by_the_number_of_objects(figures: Figures) -> None:
    assert figures.reads() <= 3 * COUNT * READS_PER_OBJECT
    assert figures.writes() <= 3 * COUNT * WRITES_PER_OBJECT


def test_memory_is_bounded_by_the_number_of_objects(figures: Figures) -> None:
    assert figures.peak_memory <= BASE_MEMORY_MIB + 3 * COUNT * MEMORY_PER_OBJECT_MIB


def test_with_nothing_to_do_nothing_is_asked_and_nothing_written(figures: Figures) -> None:
    assert figures.idle_reconciles >= 3 * COUNT
    assert figures.idle_writes() == {}
