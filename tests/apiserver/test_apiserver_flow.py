"""The whole chain with a real operator process: three objects, results as the kubelet would write them."""

import base64
from typing import Any

import aiohttp
import pytest
from chain import D1, D2, I1, I2, MODEL, build, convert, serving, the_job
from scale import scrape
from simulated import Kubelet, ended, failed
from world import Operator, World

pytestmark = pytest.mark.usefixtures("operator")
Object = dict[str, Any]


async def test_three_objects_applied_backwards_become_ready(world: World, kubelet: Kubelet) -> None:
    await kubelet.node("node-a", "192.0.2.1", devices=1)
    await world.apply("AccelService", "digits", {"imageRef": {"name": "digits"}})
    await world.until_reason("AccelService", "digits", "WaitingForImage")
    await world.apply("AccelImage", "digits", {"modelRef": {"name": "digits"}})
    await world.until_reason("AccelImage", "digits", "WaitingForModel")
    await world.apply("FpgaModel", "digits", MODEL)
    await convert(world, kubelet, "digits", 1, D1)
    model = await world.until_reason("FpgaModel", "digits", "Converted")
    assert model["status"]["latestVersion"] == 1
    assert model["status"]["state"] == "Healthy"
    await build(world, kubelet, "digits", 1, D1, I1)
    image = await world.until_reason("AccelImage", "digits", "Built")
    assert image["status"]["image"] == f"oci:///images/{world.namespace}/digits@{I1}"

    deployment = await world.until("a Deployment", lambda: world.get("Deployment", "digits"))
    container = deployment["spec"]["template"]["spec"]["containers"][0]
    assert container["image"] == f"localhost:5000/images/{world.namespace}/digits@{I1}"
    assert container["resources"]["limits"]["fpga.intel.com/arria10"] == "1"
    pod = await kubelet.server_pod(deployment, "node-a", ready=True)
    await kubelet.devices("node-a", {"fpga0": {"namespace": world.namespace, "pod": pod["metadata"]["name"]}})
    await kubelet.deployed(deployment)
    service = await world.until_reason("AccelService", "digits", "Serving")
    status = service["status"]
    assert status["state"] == "Healthy"
    assert status["devices"] == [
        {"pod": pod["metadata"]["name"], "node": "node-a", "device": "fpga0", "health": "Healthy"}
    ]
    assert status["scoringUri"] == f"digits.{world.namespace}.svc:8500"
    assert status["modelVersion"] == 1


async def test_a_bad_model_is_stalled_and_healed_by_an_edit(world: World, kubelet: Kubelet) -> None:
    await world.apply("FpgaModel", "bad", MODEL)
    job = await the_job(world, "model", "bad")
    wrong = failed("fetch", "SourceNotFound", "spec.source.uri names nothing: push it first")
    await kubelet.job_pod(job, {"fetch": ended(wrong, 65)}, "Failed")
    await kubelet.end_job(job, reason="PodFailurePolicy")
    model = await world.until_reason("FpgaModel", "bad", "SourceNotFound")
    conditions = {entry["type"]: entry for entry in model["status"]["conditions"]}
    assert conditions["Stalled"]["status"] == "True"
    assert "Reconciling" not in conditions
    assert model["status"]["state"] == "Failed"
    await world.apply("FpgaModel", "bad", {"source": {"uri": "oci:///sources/good:1"}})
    await convert(world, kubelet, "bad", 1, D1)
    await world.until_reason("FpgaModel", "bad", "Converted")


def flags(body: Object) -> dict[str, str]:
    """Return the conditions' statuses."""
    return {entry["type"]: entry["status"] for entry in body["status"]["conditions"]}


async def test_a_changed_model_reaches_the_service_and_nobody_is_ready_too_early(
    world: World, kubelet: Kubelet
) -> None:
    await kubelet.node("node-b", "192.0.2.2", devices=1)
    old = await serving(world, kubelet, "net", "node-b")
    await kubelet.devices("node-b", {"fpga0": {"namespace": world.namespace, "pod": old["metadata"]["name"]}})
    await world.apply("FpgaModel", "net", {"source": {"uri": "oci:///sources/digits:2"}})
    for kind in ("AccelImage", "AccelService"):
        body = await world.until_reason(kind, "net", "UpstreamChanged")
        assert flags(body)["Available"] == "True"
        assert flags(body)["Reconciling"] == "True"
    await convert(world, kubelet, "net", 2, D2)
    await world.until_reason("FpgaModel", "net", "Converted")
    assert flags(await world.live("AccelService", "net"))["Ready"] == "False"
    await build(world, kubelet, "net", 2, D2, I2)
    await world.until_reason("AccelImage", "net", "Built")

    async def new_template() -> Object | None:
        deployment = await world.live("Deployment", "net")
        image = deployment["spec"]["template"]["spec"]["containers"][0]["image"]
        return deployment if image.endswith(I2) else None

    deployment = await world.until("the new image in the Deployment", new_template)
    rolling = deployment["spec"]["strategy"]["rollingUpdate"]
    assert rolling == {"maxSurge": 0, "maxUnavailable": 1}, "the node's only FPGA is held by the old pod"
    assert flags(await world.live("AccelService", "net"))["Ready"] == "False"
    await kubelet.kill(old)
    await kubelet.server_pod(deployment, "node-b", ready=True)
    await kubelet.deployed(deployment)
    service = await world.until_reason("AccelService", "net", "Serving")
    assert service["status"]["modelVersion"] == 2
    assert service["status"]["lastGood"]["image"].endswith(I2)
    assert [v["version"] for v in (await world.live("FpgaModel", "net"))["status"]["versions"]] == [2, 1]

    await world.apply("AccelImage", "net", {"modelRef": {"name": "net", "version": 1}})

    async def old_template() -> bool:
        found = await world.live("Deployment", "net")
        image: str = found["spec"]["template"]["spec"]["containers"][0]["image"]
        return image.endswith(I1)

    await world.until("the first image again, without a Job", old_template)


async def test_at_most_two_jobs_run_and_the_others_say_so(world: World, kubelet: Kubelet) -> None:
    for number in range(4):
        await world.apply("FpgaModel", f"many-{number}", MODEL)

    async def reasons() -> list[str]:
        found = [await world.condition("FpgaModel", f"many-{n}", "Ready") for n in range(4)]
        return sorted(entry.get("reason", "") for entry in found)

    async def settled() -> bool:
        return await reasons() == ["JobStarting", "JobStarting", "WaitingForJobSlot", "WaitingForJobSlot"]

    await world.until("two run and two wait", settled)
    waiting = [
        n
        for n in range(4)
        if (await world.condition("FpgaModel", f"many-{n}", "Ready"))["reason"] == "WaitingForJobSlot"
    ]
    running = next(n for n in range(4) if n not in waiting)
    told = (await world.condition("FpgaModel", f"many-{waiting[0]}", "Ready"))["message"]
    assert "at most 2 Jobs run at once" in told
    await convert(world, kubelet, f"many-{running}", 1, D1)
    await world.until("the next one starts", lambda: one_less(world, waiting))


async def one_less(world: World, waiting: list[int]) -> bool:
    """Tell whether exactly one of those that waited has got its Job."""
    found = [await world.condition("FpgaModel", f"many-{n}", "Ready") for n in waiting]
    return sorted(entry["reason"] for entry in found) == ["JobStarting", "WaitingForJobSlot"]


async def test_a_deleted_unfinished_job_comes_back_and_a_finished_one_does_not(
    world: World, kubelet: Kubelet, operator: Operator
) -> None:
    await world.apply("FpgaModel", "m", MODEL)
    job = await the_job(world, "model", "m")
    await world.delete("Job", job["metadata"]["name"])

    async def another() -> bool:
        jobs = await world.owned("Job", "model", "m")
        return bool(jobs) and jobs[0]["metadata"]["uid"] != job["metadata"]["uid"]

    await world.until("the Job again", another)
    await convert(world, kubelet, "m", 1, D1)
    done = await world.until_reason("FpgaModel", "m", "Converted")
    await world.delete("Job", job["metadata"]["name"])
    await world.patch(
        "FpgaModel", "m", [{"op": "add", "path": "/metadata/annotations", "value": {"poke": "1"}}]
    )
    await kubelet.node("poke-node", "192.0.2.7", devices=0)
    await resyncs(world, operator)
    assert await world.owned("Job", "model", "m") == []
    assert (await world.live("FpgaModel", "m"))["status"] == done["status"]


async def resyncs(world: World, operator: Operator) -> None:
    """Await as many passes over models as two resyncs make."""
    begin = await scrape(operator)
    models = begin.sum("accel_objects", kind="FpgaModel")
    enough = begin.sum("controller_runtime_reconcile_total", controller="fpgamodel") + 3 * models

    async def passed() -> bool:
        seen = await scrape(operator)
        return seen.sum("controller_runtime_reconcile_total", controller="fpgamodel") >= enough

    await world.until("two resyncs", passed)


async def test_a_registry_that_is_down_is_waited_for(world: World, kubelet: Kubelet) -> None:
    await world.apply("FpgaModel", "m", MODEL)
    job = await the_job(world, "model", "m")
    down = failed("fetch", "RegistryUnavailable", "the registry does not answer", retry=True)
    await kubelet.job_pod(job, {"fetch": ended(down, 75)}, "Failed")
    model = await world.until_reason("FpgaModel", "m", "RegistryUnavailable")
    assert "Stalled" not in flags(model)
    await kubelet.end_job(job, reason="BackoffLimitExceeded")

    async def again() -> bool:
        jobs = await world.owned("Job", "model", "m")
        return bool(jobs) and jobs[0]["metadata"]["uid"] != job["metadata"]["uid"]

    await world.until("another Job after a pause", again)
    await convert(world, kubelet, "m", 1, D1)
    await world.until_reason("FpgaModel", "m", "Converted")


async def test_children_edited_and_deleted_by_hand_come_back(world: World, kubelet: Kubelet) -> None:
    await kubelet.node("node-c", "192.0.2.3", devices=1)
    await serving(world, kubelet, "heal", "node-c")
    before = (await world.live("Deployment", "heal"))["spec"]
    container = "/spec/template/spec/containers"
    for edit in (
        {"op": "replace", "path": f"{container}/0/image", "value": "evil:1"},
        {"op": "add", "path": f"{container}/-", "value": {"name": "extra", "image": "x:1"}},
        {"op": "add", "path": f"{container}/0/env/-", "value": {"name": "X", "value": "1"}},
    ):
        await world.patch("Deployment", "heal", [edit])

        async def back() -> bool:
            return bool((await world.live("Deployment", "heal"))["spec"] == before)

        await world.until(f"the Deployment as it was before {edit}", back)
    for kind in ("Deployment", "Service", "ServiceAccount", "NetworkPolicy", "PodDisruptionBudget"):
        uid = (await world.live(kind, "heal"))["metadata"]["uid"]
        await world.delete(kind, "heal")

        async def again(kind: str = kind, uid: str = uid) -> bool:
            found = await world.get(kind, "heal")
            return found is not None and found["metadata"]["uid"] != uid

        await world.until(f"{kind} again", again)


async def test_a_foreign_child_is_named_and_its_removal_heals(world: World) -> None:
    mine = {"name": "taken", "namespace": world.namespace}
    await world.cluster.create(
        {"apiVersion": "v1", "kind": "Service", "metadata": mine, "spec": {"ports": [{"port": 1}]}}
    )
    await world.apply("AccelService", "taken", {"imageRef": {"name": "none"}})
    service = await world.until_reason("AccelService", "taken", "NameConflict")
    assert flags(service)["Stalled"] == "True"
    assert "Service taken exists" in (await world.condition("AccelService", "taken", "Stalled"))["message"]
    await world.delete("Service", "taken")
    await world.until_reason("AccelService", "taken", "WaitingForImage")


async def test_a_waiting_replica_names_who_holds_the_devices(world: World, kubelet: Kubelet) -> None:
    await kubelet.node("node-d", "192.0.2.4", devices=1)
    holder = await serving(world, kubelet, "holder", "node-d")
    await kubelet.devices(
        "node-d", {"fpga0": {"namespace": world.namespace, "pod": holder["metadata"]["name"]}}
    )
    waits = {
        "imageRef": {"name": "holder"},
        "placement": {"nodeSelector": {"only": "node-d"}},
    }
    await world.patch(
        "Node", "node-d", [{"op": "add", "path": "/metadata/labels", "value": {"only": "node-d"}}]
    )
    await world.apply("AccelService", "waits", waits)
    deployment = await world.until("a Deployment", lambda: world.get("Deployment", "waits"))
    pod = await kubelet.server_pod(deployment, "", ready=False)
    await kubelet.pod_conditions(
        pod, node="", ready=False, why="0/1 nodes are available: 1 Insufficient fpga.intel.com/arria10."
    )
    await kubelet.deployed(deployment)
    service = await world.until_reason("AccelService", "waits", "WaitingForDevice")
    assert service["status"]["state"] == "Unschedulable"
    found = await world.condition("AccelService", "waits", "DevicesAvailable")
    assert found["status"] == "False"
    assert "node-d: AccelService holder (1)" in found["message"]

    await world.delete("AccelService", "holder")
    await kubelet.kill(holder)
    await kubelet.kill(pod)
    await kubelet.server_pod(deployment, "node-d", ready=True)
    await world.until_reason("AccelService", "waits", "Serving")


async def test_suspend_and_resume(world: World, kubelet: Kubelet) -> None:
    await kubelet.node("node-e", "192.0.2.5", devices=1)
    pod = await serving(world, kubelet, "sleepy", "node-e")
    await world.apply("AccelService", "sleepy", {"imageRef": {"name": "sleepy"}, "suspend": True})
    await world.until_reason("AccelService", "sleepy", "Suspending")
    assert (await world.live("Deployment", "sleepy"))["spec"]["replicas"] == 0
    await kubelet.kill(pod)
    await kubelet.deployed(await world.live("Deployment", "sleepy"))
    service = await world.until_reason("AccelService", "sleepy", "Suspended")
    assert flags(service) | {"Ready": "True", "Available": "False"} == flags(service)
    assert service["status"]["state"] == "Healthy"


async def test_an_operator_killed_at_any_time_makes_nothing_twice(
    world: World, kubelet: Kubelet, operator: Operator
) -> None:
    await kubelet.node("node-f", "192.0.2.6", devices=1)
    await world.apply("FpgaModel", "chaos", MODEL)
    job = await the_job(world, "model", "chaos")
    operator.kill()
    operator.start()
    await world.apply("AccelImage", "chaos", {"modelRef": {"name": "chaos"}})
    await world.apply("AccelService", "chaos", {"imageRef": {"name": "chaos"}})
    await world.until_reason("AccelService", "chaos", "WaitingForImage")
    assert [j["metadata"]["uid"] for j in await world.owned("Job", "model", "chaos")] == [
        job["metadata"]["uid"]
    ]
    operator.kill()
    await convert(world, kubelet, "chaos", 1, D1)  # the result is there while nobody looks
    operator.start()
    await world.until_reason("FpgaModel", "chaos", "Converted")
    await build(world, kubelet, "chaos", 1, D1, I1)
    deployment = await world.until("a Deployment", lambda: world.get("Deployment", "chaos"))
    operator.kill()
    await kubelet.server_pod(deployment, "node-f", ready=True)
    await kubelet.deployed(deployment)
    operator.start()
    await world.until_reason("AccelService", "chaos", "Serving")
    assert (await world.live("Deployment", "chaos"))["metadata"]["generation"] == 1
    assert len(await world.owned("Job", "model", "chaos")) == 1
    assert len(await world.owned("Job", "image", "chaos")) == 1


async def test_with_nothing_to_do_nothing_is_written(
    world: World, kubelet: Kubelet, operator: Operator
) -> None:
    await kubelet.node("node-g", "192.0.2.8", devices=1)
    await serving(world, kubelet, "idle", "node-g")

    async def versions() -> dict[str, str]:
        kinds = ("FpgaModel", "AccelImage", "AccelService", "Deployment", "Service", "NetworkPolicy")
        found = {kind: (await world.live(kind, "idle"))["metadata"]["resourceVersion"] for kind in kinds}
        return found | {"Secret": (await world.live("Secret", "idle-keys"))["metadata"]["resourceVersion"]}

    before = await versions()
    await resyncs(world, operator)
    assert await versions() == before


async def test_events_tell_the_story_and_nothing_secret(
    world: World, kubelet: Kubelet, operator: Operator
) -> None:
    await kubelet.node("node-h", "192.0.2.10", devices=1)
    await serving(world, kubelet, "story", "node-h")

    async def told() -> bool:
        events = [
            e for e in await world.cluster.list("Event") if e["metadata"]["namespace"] == world.namespace
        ]
        return {"JobStarting", "Converted", "Built", "Serving"} <= {event["reason"] for event in events}

    await world.until("events of every step", told)
    secret = (await world.live("Secret", "story-keys"))["data"]
    everything = operator.log.read_text() + str(await world.cluster.list("Event"))
    everything += str([await world.live(kind, "story") for kind in ("AccelService", "Deployment")])
    for value in secret.values():
        assert value not in everything
        assert base64.b64decode(value).decode() not in everything
    assert "Traceback" not in operator.log.read_text()


async def fetch(port: int, path: str) -> str:
    """Return what the process serves on a port."""
    async with aiohttp.ClientSession() as session, session.get(f"http://127.0.0.1:{port}{path}") as answer:
        assert answer.status == 200, await answer.text()
        return await answer.text()


async def test_health_and_metrics(world: World, operator: Operator) -> None:
    await world.apply("AccelImage", "metered", {"modelRef": {"name": "none"}})
    await world.until_reason("AccelImage", "metered", "WaitingForModel")
    assert "keys wait" in await fetch(operator.health, "/healthz")
    metrics = await fetch(operator.metrics, "/metrics")
    for name in (
        'controller_runtime_reconcile_total{controller="accelimage",result="success"}',
        "controller_runtime_reconcile_time_seconds_bucket",
        "workqueue_depth",
        'accel_writes_total{kind="AccelImage",verb="status"}',
        'accel_objects{kind="Node"}',
    ):
        assert name in metrics


async def test_a_node_port_that_was_given_out_stays(world: World, kubelet: Kubelet) -> None:
    await kubelet.node("node-p", "192.0.2.11", devices=0)
    await world.apply("AccelService", "port", {"imageRef": {"name": "none"}, "expose": {"type": "NodePort"}})

    async def address() -> str | None:
        uri: str | None = (await world.live("AccelService", "port"))["status"].get("scoringUri")
        return uri

    uri = await world.until("an address", address)
    number = int(uri.rpartition(":")[2])

    async def port() -> int | None:
        found = await world.get("Service", "port")
        given: int | None = found["spec"]["ports"][0]["nodePort"] if found else None
        return given

    await world.patch(
        "Service", "port", [{"op": "replace", "path": "/spec/ports/0/nodePort", "value": 32599}]
    )

    async def back() -> bool:
        return await port() == number

    await world.until("the node port as it was, not as a hand set it", back)
    await world.delete("Service", "port")
    await world.until("the Service again, with its port", back)
    assert await address() == uri


async def test_deleting_says_so(world: World, kubelet: Kubelet) -> None:
    await world.apply("FpgaModel", "held", MODEL)
    await convert(world, kubelet, "held", 1, D1)
    await world.until_reason("FpgaModel", "held", "Converted")
    await world.patch(
        "FpgaModel", "held", [{"op": "add", "path": "/metadata/finalizers", "value": ["example.com/hold"]}]
    )
    await world.delete("FpgaModel", "held")
    body = await world.until_reason("FpgaModel", "held", "Deleting")
    assert flags(body)["Ready"] == "False"
    await world.patch("FpgaModel", "held", [{"op": "remove", "path": "/metadata/finalizers"}])
