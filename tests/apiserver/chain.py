"""The chain in words: a model that converts, an image that builds, a service that serves."""

from typing import Any

from simulated import Kubelet, built, ended, pushed
from world import World

Object = dict[str, Any]
MODEL: Object = {"source": {"uri": "oci:///sources/digits:1"}}
D1, D2 = "sha256:" + "1" * 64, "sha256:" + "2" * 64
I1, I2 = "sha256:" + "3" * 64, "sha256:" + "4" * 64


async def the_job(world: World, label: str, name: str) -> Object:
    """Await the object's one Job that has not ended."""

    async def running() -> list[Object]:
        jobs = await world.owned("Job", label, name)
        return [job for job in jobs if not job.get("status", {}).get("conditions")]

    (job,) = await world.until(f"a Job of {label} {name}", running)
    found: Object = job
    return found


async def convert(
    world: World, kubelet: Kubelet, name: str, version: int, digest: str, **result: Any
) -> None:
    """Let the model's Job succeed, with this in its result."""
    job = await the_job(world, "model", name)
    done = {"schema": "accel.dev/job-result/v1", "ok": True}
    await kubelet.job_pod(
        job,
        {
            "fetch": ended({**done, "step": "fetch"}),
            "convert": ended({**done, "step": "convert"}),
            "push": ended(pushed(version, digest, **result)),
        },
        "Succeeded",
    )
    await kubelet.end_job(job)


async def build(world: World, kubelet: Kubelet, name: str, version: int, model: str, digest: str) -> None:
    """Let the image's Job succeed."""
    job = await the_job(world, "image", name)
    await kubelet.job_pod(job, {"build": ended(built(version, version, model, digest))}, "Succeeded")
    await kubelet.end_job(job)


async def serving(world: World, kubelet: Kubelet, name: str, node: str) -> Object:
    """Apply all three objects of a name and bring them up, the server's pod on that node; return the pod."""
    await world.apply("FpgaModel", name, MODEL)
    await world.apply("AccelImage", name, {"modelRef": {"name": name}})
    await world.apply("AccelService", name, {"imageRef": {"name": name}})
    await convert(world, kubelet, name, 1, D1)
    await build(world, kubelet, name, 1, D1, I1)
    deployment = await world.until("a Deployment", lambda: world.get("Deployment", name))
    pod = await kubelet.server_pod(deployment, node, ready=True)
    await kubelet.deployed(deployment)
    await world.until_reason("AccelService", name, "Serving")
    return pod
