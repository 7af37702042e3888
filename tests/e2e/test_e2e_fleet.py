"""Many objects applied at once: all converted and built, and as many services at work as there are devices.

Four of each kind, 200 with ACCEL_TEST_FULL=1; their models have few distinct sources, as teams' variants do.
"""

import os
from collections.abc import Callable
from typing import Any

import pytest
from kube import Kube, Object, condition, is_ready
from networks import cnn
from objects import chain

COUNT = 200 if os.environ.get("ACCEL_TEST_FULL") else 4
SOURCES = 2
DEVICES = 3
SECONDS_EACH = 30  # on a slow machine, one Job after the other


def standing(kube: Kube) -> list[Object]:
    """Return the services that do not serve as specified."""
    return [service for service in kube.list("accelservice") if not is_ready(service)]


@pytest.mark.timeout(900 + COUNT * SECONDS_EACH)
def test_all_are_made_and_those_without_a_device_say_whom_they_wait_for(
    kube: Kube, push: Callable[[Any, str], str]
) -> None:
    uris = [push(cnn(90 + number), f"fleet:{number}") for number in range(SOURCES)]
    objects = [
        each
        for number in range(COUNT)
        for each in chain(f"net-{number:03}", uris[number % SOURCES], expose={"type": "ClusterIP"})
    ]
    kube.apply(*objects)
    patience = 300 + COUNT * SECONDS_EACH
    for kind in ("fpgamodel", "accelimage"):
        kube(
            "wait",
            "--for=condition=Ready",
            kind,
            "--all",
            f"--timeout={patience}s",
            timeout=patience + 30,
        )
    kube.until(
        "as many services serve as there are devices",
        lambda: len(standing(kube)) == COUNT - DEVICES,
        timeout=patience,
    )
    for service in standing(kube):
        waits = condition(service, "Ready")
        assert (service["status"]["state"], waits["reason"]) == ("Unschedulable", "WaitingForDevice")
        assert "AccelService net-" in waits["message"], "the holders are named"
    assert len({model["status"]["versions"][0]["digest"] for model in kube.list("fpgamodel")}) == SOURCES
    owners = [job["metadata"]["ownerReferences"][0]["uid"] for job in kube.list("job")]
    assert len(set(owners)) == len(owners), "one Job for each conversion and each build"

    holder = next(service for service in kube.list("accelservice") if is_ready(service))
    kube("delete", "accelservice", holder["metadata"]["name"])
    kube.until(
        "the device goes to one that waited",
        lambda: len(standing(kube)) == COUNT - DEVICES - 1,
        timeout=180,
    )
