"""With nothing to do, nothing of ours is written: no object, no status, no event, no FpgaNode.

The API server's own watches are the witnesses, held open for a minute (10 with ACCEL_TEST_FULL=1): whatever is stored
shows in them. The operator's count of its writes and the API server's count of requests must stand still as well.
"""

import json
import os
import re
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from kube import Kube, Object
from networks import cnn
from objects import chain

SECONDS = 600 if os.environ.get("ACCEL_TEST_FULL") else 60
SETTLING_SECONDS = 10
OURS = "?labelSelector=app.kubernetes.io/managed-by%3Dfpga-operator"
COLLECTIONS = (
    *(f"/apis/accel.dev/v1alpha1/{plural}?" for plural in ("fpgamodels", "accelimages", "accelservices", "fpganodes")),
    *(f"/api/v1/{plural}{OURS}" for plural in ("services", "serviceaccounts", "secrets", "pods")),
    f"/apis/apps/v1/deployments{OURS}",
    f"/apis/batch/v1/jobs{OURS}",
    f"/apis/policy/v1/poddisruptionbudgets{OURS}",
    f"/apis/networking.k8s.io/v1/networkpolicies{OURS}",
    "/apis/events.k8s.io/v1/events?",
)  # fmt: skip
REPORTERS = re.compile(r"^(fpga-operator|accel\.dev|fpga-device-plugin)")
READ = ("GET", "LIST", "WATCH", "CONNECT")


def mine(thing: Object) -> bool:
    """Tell whether an event of the cluster was reported by us; every other collection holds ours alone."""
    return "reportingController" not in thing or bool(REPORTERS.match(thing["reportingController"]))


def witnessed(system: Kube, seconds: int) -> list[str]:
    """Watch all collections for that long; return what was written, as TYPE kind namespace/name."""

    def watch(collection: str) -> list[str]:
        version = json.loads(system("get", "--raw", f"{collection}&limit=1"))["metadata"]["resourceVersion"]
        query = f"{collection}&watch=1&resourceVersion={version}&timeoutSeconds={seconds}"
        found = []
        for line in system("get", "--raw", query, timeout=seconds + 60).splitlines():
            event = json.loads(line)
            thing = event["object"]
            if mine(thing):
                meta = thing["metadata"]
                name = f"{event['type']} {thing['kind']} {meta.get('namespace', '')}/{meta['name']}"
                found.append(f"{name}: {thing.get('note', '')}")
        return found

    with ThreadPoolExecutor(len(COLLECTIONS)) as threads:
        return [line for found in threads.map(watch, COLLECTIONS) for line in found]


def requests_for_our_kinds(system: Kube) -> dict[str, float]:
    """Return the API server's count of write requests for objects of our API group, by its labels."""
    found = {}
    for line in system("get", "--raw", "/metrics").splitlines():
        if line.startswith("apiserver_request_total{") and 'group="accel.dev"' in line:
            labels, _, value = line.rpartition(" ")
            if not any(f'verb="{verb}"' in labels for verb in READ):
                found[labels] = float(value)
    return found


def counted_by_the_operator(system: Kube) -> dict[str, float]:
    """Return the operator's count of its own writes."""
    read = "import urllib.request as r; print(r.urlopen('http://127.0.0.1:9090/metrics').read().decode())"
    text = system("exec", "deploy/fpga-operator", "--", "python", "-c", read)
    found = [line.rpartition(" ") for line in text.splitlines() if line.startswith("accel_writes_total{")]
    return {labels: float(value) for labels, _, value in found}


@pytest.fixture(scope="module")
def settled(kube: Kube, system: Kube, push: Callable[[Any, str], str]) -> Kube:
    """A service that serves, and a while without any write."""
    kube.apply(*chain("idle", push(cnn(78), "idle:1")))
    kube.wait_ready("accelservice", "idle")
    kube.until("a while without writes", lambda: not witnessed(system, SETTLING_SECONDS), timeout=180)
    return kube


@pytest.mark.timeout(SECONDS + 600)
def test_with_nothing_to_do_nothing_is_written(settled: Kube, system: Kube) -> None:
    before = counted_by_the_operator(system), requests_for_our_kinds(system)
    assert all(before), "both count what made the service"
    assert witnessed(system, SECONDS) == []
    assert (counted_by_the_operator(system), requests_for_our_kinds(system)) == before
