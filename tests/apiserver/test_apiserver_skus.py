"""Kinds of cards with a real operator process: what the scheduler is told, and what the user is."""

from typing import Any

import pytest
from chain import D1, I1, MODEL, build, convert
from simulated import Kubelet, now
from world import World

pytestmark = pytest.mark.usefixtures("operator")
Object = dict[str, Any]
CNN, A10 = "bw-cnn-a10", "bw-a10"
DEVICE: Object = {
    "sku": A10, "fits": True, "tiles": 5, "vectors": 6, "latencyMs": 1.5, "inferencesPerSecond": 640.5,
    "boundBy": "dram", "offloadedOps": 5, "hostOps": 3,
    "hostReasons": [
        {"operator": "Softmax", "count": 2, "reason": "the device has no such operator"},
        {"operator": "Gemm", "count": 1, "reason": "the device has no such operator"},
    ],
}  # fmt: skip


async def deployed(world: World, kubelet: Kubelet, name: str, sku: str) -> Object:
    """Bring a service of that kind as far as its Deployment, and return that."""
    await world.apply("FpgaModel", name, {**MODEL, "conversion": {"sku": sku}})
    await world.apply("AccelImage", name, {"modelRef": {"name": name}})
    await world.apply("AccelService", name, {"imageRef": {"name": name}})
    await convert(world, kubelet, name, 1, D1, sku=sku, device={**DEVICE, "sku": sku})
    await build(world, kubelet, name, 1, D1, I1)
    found: Object = await world.until("a Deployment", lambda: world.get("Deployment", name))
    return found


async def test_the_scheduler_keeps_pods_off_cards_of_another_kind(world: World, kubelet: Kubelet) -> None:
    await kubelet.node("sku-a", "192.0.2.61", devices=1, sku=CNN)
    await kubelet.node("sku-b", "192.0.2.62", devices=1, sku=A10)
    deployment = await deployed(world, kubelet, "net", A10)
    model = await world.live("FpgaModel", "net")
    assert model["status"]["device"] == DEVICE
    assert model["status"]["versions"][0]["sku"] == A10
    (term,) = deployment["spec"]["template"]["spec"]["affinity"]["nodeAffinity"][
        "requiredDuringSchedulingIgnoredDuringExecution"
    ]["nodeSelectorTerms"]
    assert term == {"matchFields": [{"key": "metadata.name", "operator": "NotIn", "values": ["sku-a"]}]}
    await kubelet.server_pod(deployment, "sku-b", ready=True)
    await kubelet.deployed(deployment)
    service = await world.until_reason("AccelService", "net", "Serving")
    assert service["status"]["state"] == "Healthy"
    assert (await world.live("Deployment", "net"))["metadata"]["generation"] == 1, "written once"


async def test_without_a_card_of_the_kind_the_service_says_which_there_are(
    world: World, kubelet: Kubelet
) -> None:
    await kubelet.node("sku-c", "192.0.2.63", devices=1, sku=CNN)
    await deployed(world, kubelet, "none", A10)
    service = await world.until_reason("AccelService", "none", "NoSuchSku")
    assert service["status"]["state"] == "Unschedulable"
    found = await world.condition("AccelService", "none", "DevicesAvailable")
    assert (found["status"], found["reason"]) == ("False", "NoSuchSku")
    assert "is compiled for the SKU bw-a10, and the cluster's FPGAs are bw-cnn-a10" in found["message"]
    await kubelet.node("sku-d", "192.0.2.64", devices=1, sku=A10)
    await world.until_reason("AccelService", "none", "RollingOut")


async def test_a_cards_refusal_reaches_the_service(world: World, kubelet: Kubelet) -> None:
    await kubelet.node("sku-e", "192.0.2.65", devices=1)
    deployment = await deployed(world, kubelet, "other", A10)
    pod = await kubelet.server_pod(deployment, "sku-e", ready=False)
    words = "the program is compiled for the SKU bw-a10 and this card is a bw-cnn-a10; convert the model"
    ended = {"exitCode": 78, "reason": "Error", "message": f"DeviceSkuMismatch: {words}", "finishedAt": now()}
    status = {
        "name": "server", "image": "x", "imageID": "x", "ready": False, "restartCount": 1,
        "state": {"waiting": {"reason": "CrashLoopBackOff"}}, "lastState": {"terminated": ended},
    }  # fmt: skip
    path = f"/api/v1/namespaces/{world.namespace}/pods/{pod['metadata']['name']}"
    await kubelet._status(path, {"containerStatuses": [status]})
    await kubelet.deployed(deployment)
    service = await world.until_reason("AccelService", "other", "DeviceSkuMismatch")
    assert service["status"]["state"] == "Failed"
    stalled = await world.condition("AccelService", "other", "Stalled")
    assert words in stalled["message"]
