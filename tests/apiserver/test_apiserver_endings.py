"""Pods that the operator deletes: one that takes its time is known to be ending, one that is done is forgotten."""

import uuid
from typing import Any

import pytest
from fpga_operator.plan.pods import pod_view
from fpga_operator.plan.types import REVISION_LABEL, SERVICE_LABEL, Ref
from fpga_operator.run.cluster import Cluster
from fpga_operator.run.executor import Executor
from fpga_operator.run.keys import KeyDeriver
from fpga_operator.run.metrics import Metrics
from fpga_operator.run.store import Key, Store
from prometheus_client import CollectorRegistry
from world import World

LABELS = {"app.kubernetes.io/managed-by": "fpga-operator", SERVICE_LABEL: "svc", REVISION_LABEL: "r"}


async def server_pod(world: World, phase: str) -> dict[str, Any]:
    """A pod with a node, as the kubelet holds it."""
    name = f"svc-{uuid.uuid4().hex[:5]}"
    made = await world.cluster.create(
        {
            "apiVersion": "v1",
            "kind": "Pod",
            "metadata": {"name": name, "namespace": world.namespace, "labels": LABELS},
            "spec": {"nodeName": "n", "containers": [{"name": "server", "image": "x"}]},
        }
    )
    await world.cluster._request(
        "PATCH",
        f"{world.cluster._path('Pod', world.namespace, name)}/status",
        body={"status": {"phase": phase, "reason": "UnexpectedAdmissionError"}},
        content_type="application/merge-patch+json",
    )
    return made


@pytest.mark.parametrize(("phase", "ending"), [("Running", True), ("Failed", False)])
async def test_what_is_known_of_a_deleted_pod(
    world: World, limited: Cluster, phase: str, ending: bool
) -> None:
    store = Store()
    metrics = Metrics(CollectorRegistry())
    executor = Executor(limited, store, KeyDeriver(b"0123456789abcdef"), metrics, "test")
    pod = await server_pod(world, phase)
    store.put(await world.live("Pod", pod["metadata"]["name"]))
    key = Key("Pod", world.namespace, pod["metadata"]["name"])
    await executor.delete([Ref(*key, pod["metadata"]["uid"])])
    known = store.body(key)
    if ending:
        assert known is not None
        assert pod_view(known).terminating
    else:
        assert known is None
    await executor.delete([Ref(*key, "another-uid")])  # its successor is nobody's to delete
