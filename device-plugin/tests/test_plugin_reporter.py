"""Who holds what reaches the FpgaNode: the real reporter between a pod resources socket and an API server's
socket.
"""

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from fpga_device_plugin.plugin import holders
from fpga_device_plugin.plugin.fpganode import Reporter
from fpga_device_plugin.plugin.inventory import Device, Inventory
from fpga_device_plugin.plugin.kubeapi import Access, KubeApi
from fpga_device_plugin.protos import podresources_pb2 as pb
from kubelet_stub import pod_resources

NODE_PATH = "/apis/accel.dev/v1alpha1/fpganodes/node-a"
PATIENCE = 30.0


class ApiServer:
    """HTTP as an API server speaks it, for one FpgaNode. The real one is met in tests/apiserver and
    tests/e2e.
    """

    def __init__(self) -> None:
        self.node: dict[str, Any] | None = None
        self.failing = False
        self.requests: list[str] = []
        self._changed = asyncio.Condition()

    async def connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while head := (await reader.readuntil(b"\r\n\r\n")).decode():
                lines = head.split("\r\n")
                headers = {
                    key.lower(): value for key, _, value in (line.partition(": ") for line in lines[1:])
                }
                body = await reader.readexactly(int(headers.get("content-length", 0)))
                method, path, _ = lines[0].split()
                status, answer = self.answer(method, path, headers, json.loads(body) if body else {})
                text = json.dumps(answer).encode()
                writer.write(f"HTTP/1.1 {status} X\r\nContent-Length: {len(text)}\r\n\r\n".encode() + text)
                async with self._changed:
                    self._changed.notify_all()
        except asyncio.IncompleteReadError:
            writer.close()

    def answer(self, method: str, path: str, headers: dict[str, str], body: Any) -> tuple[int, Any]:
        path, _, query = path.partition("?")
        self.requests.append(f"{method} {path}")
        assert headers["authorization"] == "Bearer secret"
        if self.failing:
            return 503, {"message": "etcd is away"}
        if method == "PATCH":
            assert headers["content-type"] == "application/apply-patch+yaml"
            assert "fieldManager=fpga-device-plugin" in query
            if path.endswith("/status"):
                assert self.node is not None, "the status of an object that does not exist"
                self.node["status"] = body["status"]
            else:
                assert "status" not in body
                self.node = body
        return (404, {}) if self.node is None else (200, self.node)

    async def until(self, what: str, holds: Callable[[dict[str, Any]], object]) -> None:
        try:
            async with asyncio.timeout(PATIENCE), self._changed:
                await self._changed.wait_for(lambda: holds((self.node or {}).get("status", {})))
        except TimeoutError:
            raise AssertionError(f"waited in vain until {what}: {self.node}, {self.requests}") from None


@asynccontextmanager
async def reporting(root: Path, server: ApiServer, inventory: Inventory) -> AsyncIterator[None]:
    listening = await asyncio.start_server(server.connected, "127.0.0.1", 0)
    port = listening.sockets[0].getsockname()[1]
    (root / "token").write_text("secret\n")
    api = KubeApi(Access(f"http://127.0.0.1:{port}", root / "token", None))
    reporter = Reporter(api, "node-a", "fpga.intel.com/arria10", str(root / "pods.sock"), inventory)
    task = asyncio.create_task(reporter.run())
    yield
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    await api.close()
    listening.close()


def known(root: Path, *devices: Device) -> Inventory:
    inventory = Inventory(root / "control.sock")
    inventory.devices = devices
    inventory.heard.set()
    return inventory


HEALTHY = Device("fpga0", "bw-cnn-a10", "golden", True, "", "")
ILL = Device("fpga0", "bw-cnn-a10", "faulted", False, "Hang: stuck", "")


async def test_holders_come_and_go(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        holders, "FRESH_SECONDS", 1.0
    )  # a young kubelet is not believed that nobody holds one
    server = ApiServer()
    pods = pb.ListPodResourcesResponse()
    async with pod_resources(root / "pods.sock", lambda: pods), reporting(root, server, known(root, HEALTHY)):
        await server.until("it is free", lambda status: status.get("free") == 1)
        pod = pods.pod_resources.add(name="digits", namespace="demo")
        pod.containers.add(name="c").devices.add(resource_name="fpga.intel.com/arria10", device_ids=["fpga0"])
        await server.until(
            "it is held", lambda status: status["devices"][0].get("holder", {}).get("pod") == "digits"
        )
        del pods.pod_resources[:]
        await server.until("it is free again", lambda status: status["free"] == 1)
        assert "holder" not in server.node["status"]["devices"][0]


async def test_health_is_written_without_a_kubelet(root: Path) -> None:
    server, inventory = ApiServer(), known(root, HEALTHY)
    async with reporting(root, server, inventory):
        await server.until("it is there", lambda status: status.get("healthy") == 1)
        inventory.devices = (ILL,)
        inventory.changes.notify()
        await server.until("it is ill", lambda status: status["healthy"] == 0)
        assert server.node["status"]["devices"][0]["reason"] == "Hang: stuck"  # type: ignore[index]


async def test_an_api_server_that_is_away_is_tried_again(root: Path) -> None:
    server, inventory = ApiServer(), known(root, HEALTHY)
    server.failing = True
    async with reporting(root, server, inventory):
        await server.until("it was asked", lambda _: server.requests)
        server.failing = False
        inventory.changes.notify()
        await server.until("it is written", lambda status: status.get("total") == 1)


async def test_a_node_without_devices_has_no_object(root: Path) -> None:
    server, inventory = ApiServer(), known(root)
    async with reporting(root, server, inventory):
        await server.until("it was asked", lambda _: server.requests)
        inventory.changes.notify()
        await server.until("it was asked", lambda _: server.requests)
    assert set(server.requests) == {f"GET {NODE_PATH}"}


async def test_a_deleted_predecessors_devices_are_remembered_by_the_object(root: Path) -> None:
    server = ApiServer()
    server.node = {
        "status": {"devices": [{"id": "fpga0", "sku": "bw-cnn-a10", "health": "Healthy"}], "total": 1}
    }
    async with reporting(root, server, Inventory(root / "control.sock")):  # never heard of an emulator
        await server.until("they are unhealthy", lambda status: status.get("healthy") == 0)
    (entry,) = server.node["status"]["devices"]
    assert entry["reason"].startswith("EmulatorUnreachable")


async def test_a_successor_keeps_the_holders_while_the_kubelet_is_away(root: Path) -> None:
    server, holder = ApiServer(), {"namespace": "demo", "pod": "digits"}
    device = {"id": "fpga0", "sku": "bw-cnn-a10", "state": "golden", "health": "Healthy", "holder": holder}
    server.node = {"status": {"devices": [device], "total": 1, "healthy": 1, "free": 0}}
    async with reporting(root, server, known(root, ILL)):  # and no pod resources socket
        await server.until("it is ill", lambda status: status["healthy"] == 0)
    (entry,) = server.node["status"]["devices"]
    assert entry["holder"] == holder
    assert entry["healthSince"]
