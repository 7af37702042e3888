"""`kubectl accel status` with a real kubectl and real rights, on objects that the operator keeps."""

import asyncio
import json
import os
import subprocess
import sys
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import yaml
from chain import D1, I1, MODEL, build, convert, serving, the_job
from servers import ADMIN, Server
from simulated import Kubelet, ended, failed, now
from world import World

pytestmark = pytest.mark.usefixtures("operator")
BIN = Path(sys.executable).parent
OWN = ["fpgamodels", "accelimages", "accelservices"]


@dataclass(frozen=True)
class Told:
    """What the command said."""

    code: int
    page: str
    error: str


Status = Callable[..., Awaitable[Told]]


@pytest.fixture
def status(server: Server, world: World) -> Status:
    """Run `kubectl accel status …` in the test's namespace, as the admin or as somebody with few rights."""

    async def run(*arguments: str, user: str = "") -> Told:
        config = server.kubeconfig(ADMIN)
        if user:
            content = yaml.safe_load(config.read_text())
            content["users"][0]["user"]["as"] = user
            config = server.folder / f"{user}.kubeconfig"
            config.write_text(yaml.safe_dump(content))
        process = await asyncio.create_subprocess_exec(
            BIN / "kubectl-accel",
            *("status", "-n", world.namespace, *arguments),
            env={
                **os.environ,
                "KUBECONFIG": str(config),
                "PATH": f"{server.kubectl.parent}:{os.environ['PATH']}",
            },
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )
        out, error = await process.communicate()
        return Told(process.returncode or 0, out.decode(), error.decode())

    return run


async def test_the_page_of_a_chain_that_serves(world: World, kubelet: Kubelet, status: Status) -> None:
    await kubelet.node("node-s1", "192.0.2.31", devices=1)
    pod = await serving(world, kubelet, "net", "node-s1")
    name = pod["metadata"]["name"]
    await kubelet.devices("node-s1", {"fpga0": {"namespace": world.namespace, "pod": name}})
    found = await status("net", "--until-ready", "--timeout", "30s", "-o", "json")
    assert (found.code, found.error) == (0, "")
    page = await status("net", "--events", "0")
    assert page.code == 0
    words = [" ".join(line.split()) for line in page.page.splitlines()]
    assert words[0].startswith(
        "FpgaModel net Ready version 1, sha256:111111111111, 10 B, 5 of 7 operators on the FPGA"
    )
    assert "AccelImage net Ready image 1, model version 1, sha256:333333333333, 100 B" in words
    assert f"pod {name} serves node-s1/fpga0, Healthy, device idle" in words
    assert all(len(line) <= 110 for line in page.page.splitlines())
    (row,) = json.loads((await status("-o", "json")).page)["chains"]
    assert (row["service"], row["model"], row["version"], row["ready"]) == ("net", "net", "1", True)


async def test_a_conversion_from_its_first_container_to_ready(
    world: World, kubelet: Kubelet, status: Status
) -> None:
    await kubelet.node("node-s2", "192.0.2.32", devices=1)
    await world.apply("FpgaModel", "net", MODEL)
    await world.apply("AccelImage", "net", {"modelRef": {"name": "net"}})
    waits = asyncio.create_task(status("net", "--until-ready", "--timeout", "60s"))
    job = await the_job(world, "model", "net")
    done = {"schema": "accel.dev/job-result/v1", "ok": True, "step": "fetch"}
    pod = await kubelet.job_pod(job, {"fetch": ended(done), "convert": {"running": {"startedAt": now()}}})
    await world.until_reason("FpgaModel", "net", "Converting")
    await world.until_reason("AccelImage", "net", "WaitingForModel")
    found = await status("net")
    assert found.code == 1
    lines = [line.strip() for line in found.page.splitlines()]
    assert any(line.startswith("convert (step 2 of 3) runs for") for line in lines), found.page
    assert "WaitingForModel: waits for FpgaModel net" in lines
    assert found.page.count("converting and compiling") == 0, "the progress says it"
    await kubelet.kill(pod)
    await convert(world, kubelet, "net", 1, D1)
    await build(world, kubelet, "net", 1, D1, I1)
    ended_well = await waits
    assert (ended_well.code, ended_well.error) == (0, "")
    assert "AccelImage net  Ready" in ended_well.page


async def test_a_failure_ends_the_waiting_with_its_cure(
    world: World, kubelet: Kubelet, status: Status
) -> None:
    await world.apply("FpgaModel", "bad", MODEL)
    await world.apply("AccelImage", "bad", {"modelRef": {"name": "bad"}})
    job = await the_job(world, "model", "bad")
    wrong = failed("fetch", "SourceNotFound", "spec.source.uri names nothing: push it first")
    pod = await kubelet.job_pod(job, {"fetch": ended(wrong, 65)}, "Failed")
    await kubelet.end_job(job, reason="PodFailurePolicy")
    found = await status("bad", "--until-ready", "--timeout", "30s")
    assert found.code == 1
    assert found.error == "error: it will not become Ready by itself: mend FpgaModel bad\n"
    assert "SourceNotFound: spec.source.uri names nothing: push it first" in found.page
    assert f"kubectl logs -n {world.namespace} {pod['metadata']['name']} -c fetch" in found.page


async def test_few_rights_show_the_rest_and_one_line(world: World, kubelet: Kubelet, status: Status) -> None:
    await kubelet.node("node-s3", "192.0.2.33", devices=1)
    pod = await serving(world, kubelet, "net", "node-s3")
    name = pod["metadata"]["name"]
    await kubelet.devices("node-s3", {"fpga0": {"namespace": world.namespace, "pod": name}})

    async def held() -> Any:
        return (await world.live("AccelService", "net"))["status"].get("devices")

    await world.until("the service names its device", held)
    none = await status("net", user="visitor")
    assert none.code == 2
    assert "you may not list fpgamodels, list accelimages, list accelservices" in none.error
    await grant(world, "visitor", OWN)
    page = await status("net", user="visitor")
    assert page.code == 0, page.error
    assert f"pod {name}  holds      node-s3/fpga0, Healthy" in page.page
    (told,) = [line for line in page.page.splitlines() if line.startswith("Not all is shown")]
    assert all(word in told for word in ("list fpganodes", "list events", "list jobs", "list pods"))
    assert (await status(user="visitor")).code == 0


async def grant(world: World, user: str, resources: list[str]) -> None:
    """Let a user list resources of our group in the test's namespace."""
    path = f"/apis/rbac.authorization.k8s.io/v1/namespaces/{world.namespace}"
    rules = [{"apiGroups": ["accel.dev"], "resources": resources, "verbs": ["get", "list"]}]
    await world.cluster._request("POST", f"{path}/roles", body={"metadata": {"name": "few"}, "rules": rules})
    binding = {
        "metadata": {"name": "few"},
        "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": "few"},
        "subjects": [{"apiGroup": "rbac.authorization.k8s.io", "kind": "User", "name": user}],
    }
    await world.cluster._request("POST", f"{path}/rolebindings", body=binding)
