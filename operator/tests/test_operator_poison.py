"""One object that is nonsense, or of a later version, stops no other object, no worker and no scrape of the metrics."""

import asyncio
import itertools
from collections.abc import AsyncIterator
from typing import Any, cast

import pytest
from fpga_operator.run.cluster import RESOURCES, Cluster
from fpga_operator.run.executor import Executor
from fpga_operator.run.keys import KeyDeriver
from fpga_operator.run.mapping import OWN
from fpga_operator.run.metrics import Metrics
from fpga_operator.run.queue import WorkQueue
from fpga_operator.run.reconcile import Reconciler
from fpga_operator.run.slots import JobSlots
from fpga_operator.run.store import Key, Store
from fpga_operator.run.workers import Engine
from operator_samples import CONFIG
from prometheus_client import generate_latest

Object = dict[str, Any]
SPECS: dict[str, Object] = {
    "FpgaModel": {"source": {"uri": "oci:///sources/digits:1"}},
    "AccelImage": {"modelRef": {"name": "good"}},
    "AccelService": {"imageRef": {"name": "good"}},
}


class Server:
    """An API server that says yes to everything, and may be told to fail for one name by a defect."""

    def __init__(self) -> None:
        self.versions = itertools.count(1000)
        self.said: dict[tuple[str, str], Object] = {}
        self.broken = ""

    def _stored(self, manifest: Object) -> Object:
        meta = {"uid": f"uid-{manifest['kind']}-{manifest['metadata']['name']}", **manifest["metadata"]}
        return {**manifest, "metadata": {**meta, "resourceVersion": str(next(self.versions))}}

    async def get(self, *_: str) -> None:
        return None

    async def peek(self, *_: str) -> None:
        return None

    async def apply(self, manifest: Object, **_: Any) -> Object:
        return self._stored(manifest)

    async def apply_status(self, kind: str, namespace: str, name: str, uid: str, status: Object) -> Object:
        if name == self.broken:
            raise KeyError("a defect of ours")
        self.said[kind, name] = status
        return body(kind, name, SPECS[kind], status, version=next(self.versions))

    async def create(self, manifest: Object) -> Object:
        return manifest

    async def delete(self, *_: str) -> None:
        return None


def body(kind: str, name: str, spec: Any, status: Any = None, version: int = 1, **meta: Any) -> Object:
    found: Object = {
        "apiVersion": RESOURCES[kind].api_version,
        "kind": kind,
        "metadata": {
            "name": name,
            "namespace": "demo",
            "uid": f"uid-{kind}-{name}",
            "generation": 1,
            "resourceVersion": str(version),
            "creationTimestamp": "2026-11-21T12:00:00Z",
            **meta,
        },
        "spec": spec,
    }
    return found if status is None else {**found, "status": status}


class Running:
    """An engine whose workers run."""

    def __init__(self) -> None:
        self.server = Server()
        cluster = cast(Cluster, self.server)
        store, self.metrics = Store(), Metrics()
        slots = JobSlots(store, 2)
        executor = Executor(cluster, store, KeyDeriver(b"0" * 32), self.metrics, "me")
        queue: WorkQueue[Key] = WorkQueue()
        self.engine = Engine(
            CONFIG, cluster, store, queue, Reconciler(CONFIG, store, executor, slots), slots, self.metrics
        )

    def see(self, found: Object) -> None:
        self.engine.learn(found)
        self.engine.seen(found)

    async def until_told(self, name: str) -> None:
        async with asyncio.timeout(20):
            while not all((kind, name) in self.server.said for kind in OWN):  # noqa: ASYNC110
                await asyncio.sleep(0.01)


@pytest.fixture
async def running() -> AsyncIterator[Running]:
    found = Running()
    found.engine.start()
    yield found
    await found.engine.stop()


NONSENSE: dict[str, Object] = {
    "a status of another shape": {
        "status": {"job": {"attempts": -5}, "versions": [{"version": "x"}], "state": 7}
    },
    "conditions without types": {"status": {"conditions": [{"status": "True"}, {}]}},
    "a status of a later version": {
        "status": {"observedGeneration": 1, "state": "Levitating", "conditions": [], "hologram": {"on": True}}
    },
    "numbers as words": {"status": {"job": {"attempts": "many", "name": 5}, "observedGeneration": "soon"}},
    "a spec of a later version": {
        "spec": {"modelRef": {"name": "good", "channel": "beta"}, "teleport": True}
    },
    "a spec without what is required": {"spec": {}},
    "labels of nobody": {"metadata": {"labels": {"accel.dev/model": "", "accel.dev/service": "no one"}}},
    "an owner that never was": {
        "metadata": {"ownerReferences": [{"apiVersion": "v1", "kind": "X", "name": "x", "uid": "x"}]}
    },
}


@pytest.mark.parametrize("nonsense", NONSENSE.values(), ids=NONSENSE)
async def test_nonsense_in_one_object_of_each_kind_stops_no_other(running: Running, nonsense: Object) -> None:
    for kind in OWN:
        spec = nonsense.get("spec", SPECS[kind])
        running.see(body(kind, "bad", spec, nonsense.get("status"), **nonsense.get("metadata", {})))
    for kind in OWN:
        running.see(body(kind, "good", SPECS[kind]))
    await running.until_told("good")
    if "spec" not in nonsense:  # a status is written anew, whatever it was
        await running.until_told("bad")
    assert running.engine.stuck() == ""
    assert b"accel_objects" in generate_latest(running.metrics.registry)


async def test_a_defect_in_one_objects_pass_stops_no_other_and_is_tried_again(running: Running) -> None:
    running.server.broken = "bad"
    for kind in OWN:
        running.see(body(kind, "bad", SPECS[kind]))
        running.see(body(kind, "good", SPECS[kind]))
    await running.until_told("good")
    assert running.engine.stuck() == ""
    running.server.broken = ""
    await running.until_told("bad")


async def test_a_cancelled_request_does_not_end_its_worker(running: Running) -> None:
    """kopf cancels what was started in its time when it ends, also a part of a request of ours."""
    apply_status = running.server.apply_status

    async def cancelled(*arguments: Any) -> Object:
        running.server.apply_status = apply_status  # type: ignore[method-assign]
        raise asyncio.CancelledError

    running.server.apply_status = cancelled  # type: ignore[method-assign]
    for kind in OWN:
        running.see(body(kind, "good", SPECS[kind]))
    await running.until_told("good")
    assert running.engine.stuck() == ""
