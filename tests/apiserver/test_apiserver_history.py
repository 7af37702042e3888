"""Requests, history and checks against a real API server: its schema takes the fields, and nothing is run twice."""

from typing import Any

import pytest
from chain import D1, D2, I1, MODEL, build, convert, the_job
from simulated import Kubelet, ended, failed
from world import World

pytestmark = pytest.mark.usefixtures("operator")
Object = dict[str, Any]


async def ask(world: World, name: str, when: str) -> None:
    """Annotate a model as a user does."""
    value = {"accel.dev/requestedAt": when}
    await world.patch("FpgaModel", name, [{"op": "add", "path": "/metadata/annotations", "value": value}])


async def numbers(world: World, name: str) -> list[int]:
    """Return the versions in a model's status."""
    return [v["version"] for v in (await world.live("FpgaModel", name))["status"].get("versions", [])]


async def test_a_request_is_answered_once_and_the_limit_keeps_what_is_pinned(
    world: World, kubelet: Kubelet
) -> None:
    await world.apply("FpgaModel", "net", MODEL)
    await convert(world, kubelet, "net", 1, D1)
    first = await world.until_reason("FpgaModel", "net", "Converted")
    await world.apply("AccelImage", "pins", {"modelRef": {"name": "net", "version": 1}})
    await build(world, kubelet, "pins", 1, D1, I1)
    await world.until_reason("AccelImage", "pins", "Built")

    await world.apply("FpgaModel", "net", {**MODEL, "description": "words", "historyLimit": 0})

    async def seen() -> bool:
        body = await world.live("FpgaModel", "net")
        return bool(body["status"]["observedGeneration"] == body["metadata"]["generation"] == 2)

    await world.until("the edit of a text is seen", seen)
    assert (await world.live("FpgaModel", "net"))["status"]["job"] == first["status"]["job"]

    await ask(world, "net", "monday")
    await world.until_reason("FpgaModel", "net", "JobStarting")
    await convert(world, kubelet, "net", 2, D2)
    body = await world.until_reason("FpgaModel", "net", "Converted")
    assert body["status"]["job"]["requestedAt"] == "monday"
    assert await numbers(world, "net") == [2, 1], "an image is pinned to the first"

    await world.delete("AccelImage", "pins")

    async def dropped() -> bool:
        return await numbers(world, "net") == [2]

    await world.until("the version that nobody uses any more leaves", dropped)
    await world.apply("AccelImage", "late", {"modelRef": {"name": "net", "version": 1}})
    late = await world.until_reason("AccelImage", "late", "VersionNotFound")
    told = next(c["message"] for c in late["status"]["conditions"] if c["type"] == "Stalled")
    assert "is not kept any more" in told


async def test_a_missing_source_is_told_with_its_next_look(world: World, kubelet: Kubelet) -> None:
    await world.apply("FpgaModel", "m", MODEL)
    job = await the_job(world, "model", "m")
    wrong = failed("fetch", "SourceNotFound", "spec.source.uri names nothing: push it")
    await kubelet.job_pod(job, {"fetch": ended(wrong, 65)}, "Failed")
    await kubelet.end_job(job, reason="PodFailurePolicy")
    body = await world.until_reason("FpgaModel", "m", "SourceNotFound")
    record = body["status"]["job"]
    assert record["outcome"] == "Failed"
    assert record["attempts"] == 1
    assert "retryTime" in record
    await ask(world, "m", "now")
    await convert(world, kubelet, "m", 1, D1)
    await world.until_reason("FpgaModel", "m", "Converted")


async def test_a_build_that_misses_its_model_has_it_made_again(world: World, kubelet: Kubelet) -> None:
    await world.apply("FpgaModel", "gone", MODEL)
    await convert(world, kubelet, "gone", 1, D1)
    await world.until_reason("FpgaModel", "gone", "Converted")
    await world.apply("AccelImage", "gone", {"modelRef": {"name": "gone"}})
    job = await the_job(world, "image", "gone")
    missing = failed("build", "ModelNotFound", "spec.modelRef: not in the registry")
    await kubelet.job_pod(job, {"build": ended(missing, 65)}, "Failed")
    await kubelet.end_job(job, reason="PodFailurePolicy")
    await world.until_reason("FpgaModel", "gone", "RegistryContentLost")
    await convert(world, kubelet, "gone", 1, D1)
    await world.until_reason("FpgaModel", "gone", "Converted")

    async def again() -> bool:
        jobs = await world.owned("Job", "image", "gone")
        return any(not job.get("status", {}).get("conditions") for job in jobs)

    await world.until("the build is tried again", again)
    await build(world, kubelet, "gone", 1, D1, I1)
    await world.until_reason("AccelImage", "gone", "Built")


async def test_another_namespaces_image_is_refused(world: World) -> None:
    image = f"oci:///images/somebody-else/net@{I1}"
    await world.apply("AccelService", "thief", {"image": image})
    body = await world.until_reason("AccelService", "thief", "ImageDenied")
    assert body["status"]["state"] == "Failed"
    assert await world.get("Deployment", "thief") is None
