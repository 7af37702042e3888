"""The whole chain with a real operator process: three objects, results as the kubelet would write them."""

from typing import Any

import pytest
from simulated import Kubelet, built, ended, failed, pushed
from world import World

pytestmark = pytest.mark.usefixtures("operator")
Object = dict[str, Any]
MODEL = {"source": {"uri": "oci:///sources/digits:1"}}
D1, D2, I1 = "sha256:" + "1" * 64, "sha256:" + "2" * 64, "sha256:" + "3" * 64


async def the_job(world: World, label: str, name: str) -> Object:
    """Await the object's one Job that has not ended."""

    async def running() -> list[Object]:
        jobs = await world.owned("Job", label, name)
        return [job for job in jobs if not job.get("status", {}).get("conditions")]

    (job,) = await world.until(f"a Job of {label} {name}", running)
    found: Object = job
    return found


async def convert(world: World, kubelet: Kubelet, name: str, version: int, digest: str) -> None:
    """Let the model's Job succeed."""
    job = await the_job(world, "model", name)
    done = {"schema": "accel.dev/job-result/v1", "ok": True}
    await kubelet.job_pod(
        job,
        {
            "fetch": ended({**done, "step": "fetch"}),
            "convert": ended({**done, "step": "convert"}),
            "push": ended(pushed(version, digest)),
        },
        "Succeeded",
    )
    await kubelet.end_job(job)


async def build(world: World, kubelet: Kubelet, name: str, version: int, model: str, digest: str) -> None:
    """Let the image's Job succeed."""
    job = await the_job(world, "image", name)
    await kubelet.job_pod(job, {"build": ended(built(version, version, model, digest))}, "Succeeded")
    await kubelet.end_job(job)


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
