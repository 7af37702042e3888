"""The executor with the operator's own rights: apply, correct, leave alone, refuse."""

from typing import Any

import pytest
from fpga_operator.api.accelservice import AccelServiceSpec
from fpga_operator.config import Config, Images
from fpga_operator.errors import ApiFailure, NotOurs, Retry
from fpga_operator.plan import children
from fpga_operator.plan.rollout import Strategy
from fpga_operator.plan.types import Manifest, Owner, Plan
from fpga_operator.run.cluster import Cluster
from fpga_operator.run.executor import Executor, Rejected
from fpga_operator.run.keys import KeyDeriver
from fpga_operator.run.metrics import Metrics
from fpga_operator.run.queue import WorkQueue
from fpga_operator.run.reconcile import Reconciler
from fpga_operator.run.slots import JobSlots
from fpga_operator.run.store import Key, Store
from fpga_operator.run.workers import Engine
from prometheus_client import CollectorRegistry
from world import World

CONFIG = Config(images=Images(toolchain="t:1", converter="c:1", runtime="r:1"))
SPEC = AccelServiceSpec.model_validate({"imageRef": {"name": "x"}, "expose": {"type": "NodePort"}})


class Bench:
    """An owner, its plan, and an executor with an empty cache."""

    def __init__(self, world: World, limited: Cluster, owner: Owner) -> None:
        self.world = world
        self.owner = owner
        self.metrics = Metrics(CollectorRegistry())
        self.store = Store()
        deriver = KeyDeriver(b"0123456789abcdef")
        self.executor = Executor(limited, self.store, deriver, self.metrics, "test")

    def plan(self) -> Plan:
        target = children.Target(f"localhost:5000/x@sha256:{'a' * 64}", 1)
        pod = children.pod_spec(self.owner, SPEC, target, CONFIG)
        return Plan(
            status={},
            children=(
                *children.surroundings(self.owner, SPEC),
                children.deployment(self.owner, SPEC, pod, Strategy(1, 0)),
            ),
            keys=children.keys_secret(self.owner),
        )

    async def make(self, *, thorough: bool = False) -> None:
        await self.executor.children(self.owner, self.plan(), thorough=thorough)

    async def relearn(self) -> None:
        """Show the cache what is live, as watches do."""
        for kind in ("Deployment", "Service", "ServiceAccount", "PodDisruptionBudget", "NetworkPolicy"):
            body = await self.world.get(kind, "svc")
            if body is not None:
                self.store.put(body)

    def writes(self) -> float:
        return sum(
            sample.value
            for metric in self.metrics.writes.collect()
            for sample in metric.samples
            if sample.name.endswith("_total")
        )


@pytest.fixture
async def bench(world: World, limited: Cluster) -> Bench:
    body = await world.apply("AccelService", "svc", {"imageRef": {"name": "x"}})
    return Bench(world, limited, Owner.of(body))


async def essence(world: World, kind: str) -> Any:
    body = await world.live(kind, "svc")
    return {key: value for key, value in body.items() if key not in ("metadata", "status")}


async def test_children_are_made_once_and_left_alone(bench: Bench) -> None:
    await bench.make()
    made = bench.writes()
    assert made == 6
    await bench.relearn()
    await bench.make()
    assert bench.writes() == made, "nothing differs, nothing is written"
    fresh = Bench(bench.world, bench.executor._cluster, bench.owner)
    await fresh.make()
    assert fresh.writes() == 1, "a new process with an empty cache applies the one thing that it cannot read"


POD = "/spec/template/spec"
RESTARTED = "kubectl.kubernetes.io/restartedAt"  # what kubectl rollout restart sets
EDITS: dict[str, tuple[str, list[dict[str, Any]]]] = {
    "image changed": (
        "Deployment", [{"op": "replace", "path": f"{POD}/containers/0/image", "value": "evil:1"}],
    ),
    "env added": (
        "Deployment", [{"op": "add", "path": f"{POD}/containers/0/env/-", "value": {"name": "X", "value": "1"}}],
    ),
    "env changed": (
        "Deployment", [{"op": "replace", "path": f"{POD}/containers/0/env/0/value", "value": "other"}],
    ),
    "env removed": ("Deployment", [{"op": "remove", "path": f"{POD}/containers/0/env/0"}]),
    "container added": (
        "Deployment", [{"op": "add", "path": f"{POD}/containers/-", "value": {"name": "extra", "image": "x:1"}}],
    ),
    "init container added": (
        "Deployment", [{"op": "add", "path": f"{POD}/initContainers", "value": [{"name": "i", "image": "x:1"}]}],
    ),
    "volume added": (
        "Deployment", [{"op": "add", "path": f"{POD}/volumes/-", "value": {"name": "v", "emptyDir": {}}}],
    ),
    "host network": ("Deployment", [{"op": "add", "path": f"{POD}/hostNetwork", "value": True}]),
    "a scalar added": ("Deployment", [{"op": "add", "path": f"{POD}/containers/0/tty", "value": True}]),
    "annotation of the template added": (
        "Deployment",
        [{"op": "add", "path": "/spec/template/metadata/annotations", "value": {RESTARTED: "x"}}],
    ),
    "resources removed": ("Deployment", [{"op": "remove", "path": f"{POD}/containers/0/resources"}]),
    "replicas changed": ("Deployment", [{"op": "replace", "path": "/spec/replicas", "value": 0}]),
    "our label removed": ("Deployment", [{"op": "remove", "path": "/metadata/labels/accel.dev~1service"}]),
    "port changed": ("Service", [{"op": "replace", "path": "/spec/ports/0/port", "value": 99}]),
    "port added": ("Service", [{"op": "add", "path": "/spec/ports/-", "value": {"name": "x", "port": 77}}]),
    "selector widened": ("Service", [{"op": "add", "path": "/spec/selector/x", "value": "y"}]),
    "egress opened": ("NetworkPolicy", [{"op": "add", "path": "/spec/egress", "value": [{}]}]),
    "ingress from everywhere": ("NetworkPolicy", [{"op": "add", "path": "/spec/ingress/-", "value": {}}]),
    "budget changed": ("PodDisruptionBudget", [{"op": "replace", "path": "/spec/maxUnavailable", "value": 9}]),
    "token mounted": (
        "ServiceAccount", [{"op": "replace", "path": "/automountServiceAccountToken", "value": True}],
    ),
}  # fmt: skip


@pytest.mark.parametrize(("kind", "edit"), EDITS.values(), ids=EDITS)
async def test_a_hand_edited_child_comes_back_as_it_was(
    bench: Bench, kind: str, edit: list[dict[str, Any]]
) -> None:
    await bench.make()
    before = await essence(bench.world, kind)
    await bench.world.patch(kind, "svc", edit)
    assert await essence(bench.world, kind) != before or "label" in edit[0]["path"]
    await bench.relearn()
    await bench.make()
    assert await essence(bench.world, kind) == before
    done = bench.writes()
    await bench.relearn()
    await bench.make()
    assert bench.writes() == done, "it is settled"


@pytest.mark.parametrize(
    "kind", ["Deployment", "Service", "ServiceAccount", "PodDisruptionBudget", "NetworkPolicy"]
)
async def test_a_deleted_child_comes_back(bench: Bench, kind: str) -> None:
    await bench.make()
    record = bench.store.get(Key(kind, bench.world.namespace, "svc"))
    assert record is not None
    await bench.world.delete(kind, "svc")
    bench.store.remove(Key(kind, bench.world.namespace, "svc"), record.uid)
    await bench.make()
    assert (await bench.world.live(kind, "svc"))["metadata"]["uid"] != record.uid


async def test_the_node_port_survives_a_correction(bench: Bench) -> None:
    await bench.make()
    before = (await bench.world.live("Service", "svc"))["spec"]
    await bench.world.patch("Service", "svc", EDITS["port added"][1])
    await bench.relearn()
    await bench.make()
    after = (await bench.world.live("Service", "svc"))["spec"]
    assert after["ports"][0]["nodePort"] == before["ports"][0]["nodePort"]
    assert after["clusterIP"] == before["clusterIP"]


FOREIGN: dict[str, Manifest] = {
    "Service": {"spec": {"ports": [{"port": 1}], "selector": {"a": "b"}}},
    "ServiceAccount": {},
    "NetworkPolicy": {"spec": {"podSelector": {}}},
}


@pytest.mark.parametrize("kind", FOREIGN)
async def test_somebody_elses_object_is_not_touched(bench: Bench, admin: Cluster, kind: str) -> None:
    api = {"Service": "v1", "ServiceAccount": "v1", "NetworkPolicy": "networking.k8s.io/v1"}[kind]
    meta = {"name": "svc", "namespace": bench.world.namespace}
    await admin.create({"apiVersion": api, "kind": kind, "metadata": meta, **FOREIGN[kind]})
    before = await bench.world.live(kind, "svc")
    with pytest.raises(NotOurs, match=f"{kind} .*svc exists"):
        await bench.make()
    assert await bench.world.live(kind, "svc") == before


async def test_somebody_elses_secret_is_not_touched(bench: Bench, admin: Cluster) -> None:
    meta = {"name": "svc-keys", "namespace": bench.world.namespace}
    await admin.create({"apiVersion": "v1", "kind": "Secret", "metadata": meta, "stringData": {"mine": "1"}})
    with pytest.raises(NotOurs, match="Secret"):
        await bench.make()
    live = await bench.world.live("Secret", "svc-keys")
    assert live["data"].keys() == {"mine"}
    assert "ownerReferences" not in live["metadata"]


async def test_a_child_of_a_predecessor_is_waited_for(bench: Bench, admin: Cluster) -> None:
    reference = {**bench.owner.reference(), "uid": "11111111-2222-3333-4444-555555555555"}
    meta = {"name": "svc", "namespace": bench.world.namespace, "ownerReferences": [reference]}
    await admin.create({"apiVersion": "v1", "kind": "ServiceAccount", "metadata": meta})
    with pytest.raises(Retry, match="not gone yet"):
        await bench.make()


async def test_a_deleted_secret_shows_in_its_anchor_and_comes_back_with_the_same_keys(bench: Bench) -> None:
    await bench.make()
    before = (await bench.world.live("Secret", "svc-keys"))["data"]
    assert before.keys() == {"primary", "secondary"}
    await bench.world.delete("Secret", "svc-keys")
    # What the garbage collector does then, for the other owner is still there.
    owners = (await bench.world.live("ServiceAccount", "svc"))["metadata"]["ownerReferences"]
    assert [reference["kind"] for reference in owners] == ["AccelService", "Secret"]
    await bench.world.patch(
        "ServiceAccount", "svc", [{"op": "remove", "path": "/metadata/ownerReferences/1"}]
    )
    await bench.relearn()
    await bench.make()
    secret = await bench.world.live("Secret", "svc-keys")
    assert secret["data"] == before
    owners = (await bench.world.live("ServiceAccount", "svc"))["metadata"]["ownerReferences"]
    assert [reference["uid"] for reference in owners] == [bench.owner.uid, secret["metadata"]["uid"]]


async def test_an_anchor_that_a_hand_untied_is_tied_again_and_the_secret_left_alone(bench: Bench) -> None:
    await bench.make()
    before = await bench.world.live("Secret", "svc-keys")
    await bench.world.patch(
        "ServiceAccount", "svc", [{"op": "remove", "path": "/metadata/ownerReferences/1"}]
    )
    await bench.relearn()
    await bench.make()
    owners = (await bench.world.live("ServiceAccount", "svc"))["metadata"]["ownerReferences"]
    assert owners[1]["uid"] == before["metadata"]["uid"]
    assert await bench.world.live("Secret", "svc-keys") == before


async def test_keys_that_a_hand_edited_are_set_back_when_something_changes(bench: Bench) -> None:
    await bench.make()
    before = (await bench.world.live("Secret", "svc-keys"))["data"]
    await bench.world.patch(
        "Secret", "svc-keys", [{"op": "replace", "path": "/data/primary", "value": "eA=="}]
    )
    await bench.make(thorough=True)
    assert (await bench.world.live("Secret", "svc-keys"))["data"] == before


async def test_a_secret_in_order_is_not_written_again(bench: Bench) -> None:
    await bench.make()
    before = (await bench.world.live("Secret", "svc-keys"))["metadata"]["resourceVersion"]
    writes = bench.writes()
    await bench.make()
    await bench.make(thorough=True)
    assert bench.writes() == writes
    assert (await bench.world.live("Secret", "svc-keys"))["metadata"]["resourceVersion"] == before


async def test_a_model_of_the_services_name_that_goes_takes_nothing_of_the_keys_along(bench: Bench) -> None:
    await bench.make()
    await bench.relearn()
    made = bench.writes()
    for kind in ("FpgaModel", "AccelImage"):
        bench.executor.forget(Key(kind, bench.owner.namespace, bench.owner.name))
    await bench.make()
    assert bench.writes() == made


async def test_what_the_api_server_refuses_is_a_fault_with_its_words(bench: Bench) -> None:
    plan = bench.plan()
    service = next(child for child in plan.children if child["kind"] == "Service")
    service["spec"]["ports"][0]["nodePort"] = 1
    with pytest.raises(Rejected, match="provided port is not in the valid range"):
        await bench.executor.children(bench.owner, plan, thorough=False)


async def test_status_is_applied_on_its_subresource_alone(bench: Bench, world: World) -> None:
    condition = {
        "type": "Ready",
        "status": "False",
        "observedGeneration": 1,
        "lastTransitionTime": "2026-01-01T00:00:00Z",
        "reason": "X",
        "message": "m",
    }
    first: Manifest = {
        "observedGeneration": 1,
        "state": "Failed",
        "conditions": [condition],
        "image": "oci:///x",
    }
    live = await world.live("AccelService", "svc")
    assert await bench.executor.status(bench.owner, live["status"], Plan(status=first))
    live = await world.live("AccelService", "svc")
    assert live["status"] == first
    assert live["metadata"]["generation"] == 1
    second = {key: value for key, value in first.items() if key != "image"}
    second["conditions"] = [{**condition, "type": "Available"}]
    assert await bench.executor.status(bench.owner, live["status"], Plan(status=second))
    live = await world.live("AccelService", "svc")
    assert live["status"] == second, "what is not said any more is gone"
    assert not await bench.executor.status(bench.owner, live["status"], Plan(status=second))
    managers = {entry["manager"]: entry.get("subresource") for entry in live["metadata"]["managedFields"]}
    assert managers == {"user": None, "fpga-operator-status": "status"}


async def test_an_object_whose_deletion_went_unseen_is_forgotten(bench: Bench, limited: Cluster) -> None:
    store, metrics = bench.store, Metrics(CollectorRegistry())
    slots = JobSlots(store, 1)
    queue: WorkQueue[Key] = WorkQueue()
    reconciler = Reconciler(CONFIG, store, bench.executor, slots)
    engine = Engine(CONFIG, limited, store, queue, reconciler, slots, metrics)
    live = await bench.world.live("AccelService", "svc")
    ghost = {**live, "metadata": {**live["metadata"], "name": "ghost", "uid": "ghost"}}
    for body in (live, ghost):
        store.put(body)
    await engine.freshness.check()
    assert [key.name for key in store.keys("AccelService")] == ["svc"]
    assert Key("AccelService", bench.world.namespace, "ghost") in [
        (await queue.take()).key for _ in range(queue.depth())
    ]


DENIED = {
    "read a Secret": ("GET", "/api/v1/namespaces/{ns}/secrets/svc-keys"),
    "list Secrets": ("GET", "/api/v1/secrets"),
    "delete a Secret": ("DELETE", "/api/v1/namespaces/{ns}/secrets/svc-keys"),
    "change a spec": ("PATCH", "/apis/accel.dev/v1alpha1/namespaces/{ns}/accelservices/svc"),
    "delete a service": ("DELETE", "/apis/accel.dev/v1alpha1/namespaces/{ns}/accelservices/svc"),
    "read ConfigMaps": ("GET", "/api/v1/configmaps"),
    "create pods": ("POST", "/api/v1/namespaces/{ns}/pods"),
    "delete Deployments": ("DELETE", "/apis/apps/v1/namespaces/{ns}/deployments/svc"),
    "write FpgaNodes": ("POST", "/apis/accel.dev/v1alpha1/fpganodes"),
    "list namespaces": ("GET", "/api/v1/namespaces"),
}


@pytest.mark.parametrize(("verb", "path"), DENIED.values(), ids=DENIED)
async def test_what_the_operator_may_not(limited: Cluster, namespace: str, verb: str, path: str) -> None:
    body = {} if verb in ("PATCH", "POST") else None
    kind = "application/merge-patch+json" if verb == "PATCH" else "application/json"
    with pytest.raises(ApiFailure) as refused:
        await limited._request(verb, path.format(ns=namespace), body=body, content_type=kind)
    assert refused.value.status == 403
