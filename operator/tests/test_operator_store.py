"""What the store keeps of objects, and what it costs: bounded memory, indices, views computed once per change."""

from typing import Any

import pytest
from fpga_operator.plan.types import SERVICE_LABEL
from fpga_operator.run.mapping import node_matters
from fpga_operator.run.queue import SPARE, WorkQueue
from fpga_operator.run.references import images_named
from fpga_operator.run.store import IMAGE_REF, MODEL_REF, TOMBSTONES, Key, Store

Object = dict[str, Any]


def body(kind: str, name: str, version: int = 1, **more: Any) -> Object:
    meta = {"name": name, "namespace": "demo", "uid": f"{kind}-{name}", "resourceVersion": str(version)}
    return {"kind": kind, "metadata": meta | more.pop("meta", {}), **more}


KEPT: dict[str, tuple[Object, Object]] = {
    # what comes in beside the metadata -> what is kept of it
    "a pod's node and status": (
        body("Pod", "p", spec={"nodeName": "n", "containers": [{"image": "x"}]}, status={"phase": "Running"}),
        {"spec": {"nodeName": "n"}, "status": {"phase": "Running"}},
    ),
    "a Job's status and the limits that messages name": (
        body(
            "Job",
            "j",
            spec={
                "activeDeadlineSeconds": 90,
                "backoffLimit": 0,
                "template": {
                    "spec": {
                        "volumes": [{"name": "work"}],
                        "containers": [{"name": "push", "image": "x", "resources": {"limits": {"memory": "1Gi"}}}],
                    }
                },
            },
            status={"active": 1},
        ),
        {
            "spec": {
                "activeDeadlineSeconds": 90,
                "template": {
                    "spec": {
                        "initContainers": [],
                        "containers": [{"name": "push", "resources": {"limits": {"memory": "1Gi"}}}],
                    }
                },
            },
            "status": {"active": 1},
        },
    ),
    "a node's address and readiness, not its images": (
        body("Node", "n", spec={"taints": []}, status={"conditions": [], "images": ["x"] * 50}),
        {"spec": {"taints": []}, "status": {"conditions": []}},
    ),
    "a service as it is": (
        body("AccelService", "s", spec={"suspend": True}, status={}), {"spec": {"suspend": True}, "status": {}},
    ),
}  # fmt: skip


@pytest.mark.parametrize(("given", "kept"), KEPT.values(), ids=KEPT)
def test_what_is_kept(given: Object, kept: Object) -> None:
    store = Store()
    store.put(given)
    found = store.all(given["kind"])[0]
    assert {key: value for key, value in found.items() if key not in ("kind", "metadata")} == kept


def test_notes_of_kubectl_and_of_managers_are_not_kept() -> None:
    store = Store()
    notes = {"kubectl.kubernetes.io/last-applied-configuration": "{…}", "mine": "1"}
    store.put(
        body("AccelImage", "i", spec={}, meta={"annotations": notes, "managedFields": [{"manager": "x"}]})
    )
    meta = store.all("AccelImage")[0]["metadata"]
    assert meta["annotations"] == {"mine": "1"}
    assert "managedFields" not in meta


def test_memory_of_the_dead_is_bounded() -> None:
    store = Store()
    for number in range(TOMBSTONES + 10):
        store.put(body("Pod", f"p{number}", meta={"labels": {SERVICE_LABEL: "s"}}, spec={}))
        store.remove(Key("Pod", "demo", f"p{number}"), f"Pod-p{number}")
    assert len(store._gone) == TOMBSTONES
    assert store._labelled == store._owned == {}
    assert store.count("Pod") == 0


def test_running_jobs_are_known_without_looking_at_the_others() -> None:
    store = Store()
    store.put(body("Job", "runs"))
    store.put(body("Job", "ends"))
    store.put(body("Job", "stands", spec={"suspend": True}))
    store.put(body("Job", "goes", meta={"deletionTimestamp": "2026-11-21T12:00:00Z"}))
    done = {"conditions": [{"type": "Complete", "status": "True"}]}
    store.put(body("Job", "ends", 2, status=done))
    assert [job["metadata"]["name"] for job in store.running_jobs()] == ["runs"]
    store.remove(Key("Job", "demo", "runs"), "Job-runs")
    assert store.running_jobs() == []


def test_objects_are_found_by_what_they_are_made_of_and_no_more_once_that_changed() -> None:
    store = Store()
    store.put(body("AccelImage", "i", spec={"modelRef": {"name": "m"}}))
    store.put(body("AccelService", "s", spec={"imageRef": {"name": "i", "version": 3}}))
    store.put(body("AccelService", "direct", spec={"image": "oci://x@sha256:1"}))
    assert [i["metadata"]["name"] for i in store.labelled("AccelImage", "demo", MODEL_REF, "m")] == ["i"]
    assert images_named(store, "demo", "i") == {3}
    store.put(body("AccelImage", "i", 2, spec={"modelRef": {"name": "other"}}))
    assert store.labelled("AccelImage", "demo", MODEL_REF, "m") == []
    assert store.labelled("AccelService", "elsewhere", IMAGE_REF, "i") == []


def test_a_view_is_computed_once_per_change_of_its_kinds() -> None:
    store, computed = Store(), []

    def view() -> int:
        return store.derived("pods", ("Pod",), lambda: computed.append(1) or store.count("Pod"))

    store.put(body("Pod", "p"))
    assert (view(), view(), len(computed)) == (1, 1, 1)
    store.put(body("Job", "j"))
    assert (view(), len(computed)) == (1, 1), "a Job is none of its business"
    store.put(body("Pod", "p"))
    assert (view(), len(computed)) == (1, 1), "the same version is no change"
    store.put(body("Pod", "q"))
    assert (view(), len(computed)) == (2, 2)
    store.remove(Key("Pod", "demo", "p"), "Pod-p")
    assert (view(), len(computed)) == (1, 3)


def fpga_node(**device: Any) -> Object:
    return body("FpgaNode", "n", status={"devices": [{"id": "fpga0", "health": "Healthy", **device}]})


def test_only_what_a_planner_sees_of_a_device_wakes_services() -> None:
    before = fpga_node(state="idle")
    assert not node_matters(before, fpga_node(state="busy"))
    assert node_matters(before, fpga_node(state="idle", health="Unhealthy"))
    assert node_matters(before, fpga_node(state="idle", holder={"namespace": "demo", "pod": "p"}))


def test_a_key_that_is_woken_before_its_time_leaves_no_pile_behind() -> None:
    queue: WorkQueue[str] = WorkQueue(lambda: 0.0)
    for _ in range(100 * SPARE):
        queue.add_after("a", 600)
        queue.add("a")
        queue._ready.clear()
    assert len(queue._heap) <= SPARE + 2
