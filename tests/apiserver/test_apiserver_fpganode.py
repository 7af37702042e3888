"""The device plugin's reporter against the real API server, with a token of its own account and its own rights only."""

import asyncio
import subprocess
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest
from fpga_device_plugin.plugin.fpganode import Reporter
from fpga_device_plugin.plugin.inventory import Device, Inventory
from fpga_device_plugin.plugin.kubeapi import Access, ApiError, KubeApi
from fpga_device_plugin.protos import podresources_pb2 as pb
from fpga_operator.run.cluster import Cluster
from servers import ADMIN, Server

ROOT = Path(__file__).resolve().parents[2]
sys.path.append(str(ROOT / "device-plugin" / "tests"))

from kubelet_stub import pod_resources  # noqa: E402 (the path to it comes first)

RESOURCE = "fpga.intel.com/arria10"
PATIENCE_SECONDS = 60.0
WELL = Device("fpga0", "bw-cnn-a10", "golden", True, "", "")
OTHER = Device("fpga1", "bw-cnn-a10", "ready", True, "", "sha256:ab")
ILL = Device("fpga0", "bw-cnn-a10", "faulted", False, "OverTemperature: too hot", "")


@pytest.fixture(scope="module")
def kubectl(server: Server) -> Callable[..., str]:
    config = server.kubeconfig(ADMIN)

    def run(*words: str) -> str:
        command = [str(server.kubectl), f"--kubeconfig={config}", *words]
        done = subprocess.run(command, check=False, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        return done.stdout

    return run


@pytest.fixture(scope="module")
def access(server: Server, kubectl: Callable[..., str], tmp_path_factory: pytest.TempPathFactory) -> Access:
    """What a pod of the DaemonSet is given."""
    account = "fpga-device-plugin"
    kubectl("create", "namespace", "accel-node")
    kubectl("apply", "-f", str(ROOT / "device-plugin" / "rbac.yaml"))
    kubectl("-n", "accel-node", "create", "serviceaccount", account)
    binding = ["clusterrolebinding", account, f"--clusterrole={account}"]
    kubectl("create", *binding, f"--serviceaccount=accel-node:{account}")
    token = tmp_path_factory.mktemp("account") / "token"
    token.write_text(kubectl("-n", "accel-node", "create", "token", account))
    return Access(server.url, token, server.folder / "certs" / "apiserver.crt")


@pytest.fixture
def inventory(tmp_path: Path) -> Inventory:
    """What the emulator of two devices has told."""
    found = Inventory(tmp_path / "control.sock")
    found.devices = (WELL, OTHER)
    found.heard.set()
    return found


@pytest.fixture
async def pods(tmp_path: Path) -> AsyncIterator[pb.ListPodResourcesResponse]:
    """What the kubelet tells of its pods; a test fills it in."""
    listed = pb.ListPodResourcesResponse()
    async with pod_resources(tmp_path / "pods.sock", lambda: listed):
        yield listed


@pytest.fixture
async def node(
    access: Access,
    admin: Cluster,
    inventory: Inventory,
    pods: pb.ListPodResourcesResponse,
    tmp_path: Path,
) -> AsyncIterator[str]:
    """A node whose reporter runs, and whose FpgaNode goes with the test."""
    name = "reported"
    api = KubeApi(access)
    reporter = Reporter(api, name, RESOURCE, str(tmp_path / "pods.sock"), inventory)
    task = asyncio.create_task(reporter.run())
    yield name
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    await api.close()
    await admin.delete("FpgaNode", "", name, "")


@pytest.fixture
def until(admin: Cluster, node: str) -> Callable[..., Awaitable[Any]]:
    """Await a status of the FpgaNode."""

    async def wait(what: str, holds: Callable[[Any], object]) -> Any:
        seen: Any = None
        try:
            async with asyncio.timeout(PATIENCE_SECONDS):
                while True:
                    seen = ((await admin.get("FpgaNode", "", node)) or {}).get("status") or {}
                    if seen and holds(seen):
                        return seen
                    await asyncio.sleep(0.1)
        except TimeoutError:
            pytest.fail(f"not within {PATIENCE_SECONDS} s: {what}; last seen: {seen!r}")

    return wait


async def test_health_and_holders_are_accepted_and_shown(
    node: str,
    until: Callable[..., Awaitable[Any]],
    inventory: Inventory,
    pods: pb.ListPodResourcesResponse,
    kubectl: Callable[..., str],
) -> None:
    held = pods.pod_resources.add(name="digits-1", namespace="demo")
    held.containers.add(name="server").devices.add(resource_name=RESOURCE, device_ids=["fpga1"])
    first = await until("both are there, one is held", lambda status: status["free"] == 1)
    assert "healthSince" not in first["devices"][0]
    inventory.devices = (ILL, OTHER)
    inventory.changes.notify()
    ill = await until("one is ill", lambda status: status["healthy"] == 1)
    assert ill["devices"][0]["healthSince"]
    assert ill["devices"][0]["reason"] == "OverTemperature: too hot"
    shown = kubectl("get", "fnode", node, "-o", "wide", "--no-headers").split()
    assert shown[:4] == [node, "2", "1", "0"]
    assert "fpga0=OverTemperature" in shown
    assert "fpga0=-,fpga1=demo/digits-1" in shown, "every device of the list, not the first alone"
    inventory.devices = (WELL, OTHER)
    inventory.changes.notify()
    well = await until("it is well again", lambda status: status["healthy"] == 2)
    assert well["devices"][0]["healthSince"] >= ill["devices"][0]["healthSince"]
    assert "reason" not in well["devices"][0]


async def test_devices_come_and_go(
    node: str, until: Callable[..., Awaitable[Any]], inventory: Inventory
) -> None:
    await until("both are there", lambda status: status["total"] == 2)
    inventory.devices = (WELL,)
    inventory.changes.notify()
    await until("the other one is gone", lambda status: status["total"] == 1)
    inventory.devices = (WELL, OTHER)
    inventory.changes.notify()
    await until("it is back", lambda status: status["total"] == 2)


async def test_its_account_may_do_nothing_else(access: Access) -> None:
    api = KubeApi(access)
    for path in (
        "/api/v1/nodes/x",
        "/api/v1/namespaces/demo/secrets/x",
        "/apis/accel.dev/v1alpha1/namespaces/a/accelservices/x",
    ):
        with pytest.raises(ApiError, match="403"):
            await api.get(path)
    await api.close()
