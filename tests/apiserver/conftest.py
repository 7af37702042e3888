"""Fixtures on a real API server: one per session, the CRDs in it, an operator process where a test wants one."""

import asyncio
import os
import subprocess
import sys
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from kubernetes.aio import config as kubeconfig
from kubernetes.aio.client.api_client import ApiClient
from kubernetes.aio.client.configuration import Configuration

sys.path.insert(0, str(Path(__file__).parent))

from servers import ADMIN, OPERATOR, Server, start
from simulated import Kubelet

from accel_cluster import toolchain
from fpga_operator.run.cluster import RESOURCES, Cluster

ROOT = Path(__file__).resolve().parents[2]
Object = dict[str, Any]
PATIENCE_SECONDS = 30.0


@pytest.fixture(scope="session")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """The API server with our CRDs and the operator's role."""
    programs = toolchain.ensure()["kube-apiserver"].parent
    running = start(tmp_path_factory.mktemp("apiserver"), programs)
    try:
        admin = running.kubeconfig(ADMIN)

        def kubectl(*words: str) -> None:
            subprocess.run([str(running.kubectl), f"--kubeconfig={admin}", *words], check=True, capture_output=True)

        kubectl("apply", "-f", str(ROOT / "crds"))
        kubectl("wait", "--for=condition=Established", "crd", "--all", "--timeout=60s")
        kubectl("apply", "-f", str(ROOT / "operator" / "rbac.yaml"))
        kubectl("create", "namespace", "accel-system")
        kubectl(
            "create",
            "clusterrolebinding",
            "fpga-operator",
            "--clusterrole=fpga-operator",
            "--serviceaccount=accel-system:fpga-operator",
        )
        yield running
    finally:
        running.stop()


async def connect(server: Server, token: str) -> Cluster:
    """Log in with a token."""
    configuration = Configuration()
    await kubeconfig.load_kube_config(
        config_file=str(server.kubeconfig(token)), client_configuration=configuration, persist_config=False
    )
    return Cluster(ApiClient(configuration))


@pytest.fixture
async def admin(server: Server) -> AsyncIterator[Cluster]:
    """A connection with all rights."""
    cluster = await connect(server, ADMIN)
    yield cluster
    await cluster.close()


@pytest.fixture
async def limited(server: Server) -> AsyncIterator[Cluster]:
    """A connection with the operator's rights and no others."""
    cluster = await connect(server, OPERATOR)
    yield cluster
    await cluster.close()


@pytest.fixture
def kubelet(admin: Cluster) -> Kubelet:
    """Writes what controllers and kubelets would."""
    return Kubelet(admin)


@pytest.fixture
async def namespace(admin: Cluster) -> str:
    """A namespace of its own for each test."""
    name = f"t-{uuid.uuid4().hex[:8]}"
    await admin._request("POST", "/api/v1/namespaces", body={"metadata": {"name": name}})
    return name


class World:
    """Short words for tests: apply, get, edit, delete, await a condition of the world."""

    def __init__(self, cluster: Cluster, namespace: str) -> None:
        self.cluster = cluster
        self.namespace = namespace

    async def apply(self, kind: str, name: str, spec: Object, **meta: Any) -> Object:
        """Create or change an object as a user does with kubectl apply --server-side."""
        body = {
            "apiVersion": RESOURCES[kind].api_version,
            "kind": kind,
            "metadata": {"name": name, "namespace": self.namespace, **meta},
            "spec": spec,
        }
        return await self.cluster._patch(
            self.cluster._path(kind, self.namespace, name), body, "user", force=True
        )

    async def patch(self, kind: str, name: str, operations: list[Object]) -> Object:
        """Edit an object by hand, with a JSON patch."""
        return await self.cluster._request(
            "PATCH",
            self.cluster._path(kind, self.namespace, name),
            body=operations,
            query={"fieldManager": "kubectl-edit"},
            content_type="application/json-patch+json",
        )

    async def get(self, kind: str, name: str) -> Object | None:
        """Return an object, or None."""
        return await self.cluster.get(kind, self.namespace, name)

    async def live(self, kind: str, name: str) -> Object:
        """Return an object that must be there."""
        found = await self.get(kind, name)
        assert found is not None, f"{kind} {name} is not there"
        return found

    async def delete(self, kind: str, name: str) -> None:
        """Delete an object."""
        await self.cluster.delete(kind, self.namespace, name, "")

    async def owned(self, kind: str, label: str, name: str) -> list[Object]:
        """Return the children of a kind that carry our label."""
        return [
            item | {"kind": kind}
            for item in await self.cluster.list(kind, f"accel.dev/{label}={name}")
            if item["metadata"]["namespace"] == self.namespace
        ]

    async def until(self, what: str, check: Callable[[], Awaitable[Any]], seconds: float = PATIENCE_SECONDS) -> Any:
        """Await a truth about the world; its value is returned. The message says what it was in the end."""
        seen: Any = None
        try:
            async with asyncio.timeout(seconds):
                while not (seen := await check()):
                    await asyncio.sleep(0.1)
        except TimeoutError:
            pytest.fail(f"not within {seconds} s: {what}; last seen: {seen!r}")
        return seen

    async def condition(self, kind: str, name: str, condition: str) -> Object:
        """Return a condition, or an empty one."""
        body = await self.get(kind, name) or {}
        entries = body.get("status", {}).get("conditions", [])
        found: Object = next((entry for entry in entries if entry["type"] == condition), {})
        return found

    async def until_reason(self, kind: str, name: str, reason: str) -> Object:
        """Await Ready with a reason; return the object."""
        last: Object = {}

        async def check() -> Object | None:
            nonlocal last
            last = await self.condition(kind, name, "Ready")
            return last if last.get("reason") == reason else None

        try:
            async with asyncio.timeout(PATIENCE_SECONDS):
                while not await check():
                    await asyncio.sleep(0.1)
        except TimeoutError:
            pytest.fail(f"{kind} {name} never had reason {reason}; last: {last}")
        return await self.live(kind, name)


@pytest.fixture
def world(admin: Cluster, namespace: str) -> World:
    """The test's namespace, seen by a user."""
    return World(admin, namespace)


@pytest.fixture(scope="session")
def operator_config(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A configuration file as the chart writes it."""
    folder = tmp_path_factory.mktemp("operator")
    (folder / "key").write_text("0123456789abcdef0123456789abcdef")
    path = folder / "operator.yaml"
    path.write_text(
        yaml.safe_dump(
            {
                "images": {"toolchain": "r/toolchain:1", "converter": "r/converter:1", "runtime": "r/runtime:1"},
                "maxConcurrentJobs": 2,
                "resyncSeconds": 2,
                "masterKeyFile": str(folder / "key"),
            }
        )
    )
    return path


@pytest.fixture(scope="session")
def operator(server: Server, operator_config: Path) -> Iterator["Operator"]:
    """The operator as a process, with the rights of operator/rbac.yaml and no others."""
    process = Operator(server, operator_config)
    process.start()
    yield process
    process.stop()


class Operator:
    """The process; can be killed and started again."""

    def __init__(self, server: Server, config: Path) -> None:
        self.server = server
        self.config = config
        self.log = server.folder / "operator.log"
        self.process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Start it."""
        self.process = subprocess.Popen(
            [sys.executable, "-m", "fpga_operator", "--config", str(self.config), "--health-port=0", "--metrics-port=0"],
            env={**os.environ, "KUBECONFIG": str(self.server.kubeconfig(OPERATOR))},
            stderr=self.log.open("ab"),
        )

    def kill(self) -> None:
        """End it with -9."""
        assert self.process is not None
        self.process.kill()
        self.process.wait()

    def stop(self) -> None:
        """End it as the kubelet does."""
        assert self.process is not None
        self.process.terminate()
        try:
            self.process.wait(20)
        except subprocess.TimeoutExpired:
            self.kill()
            raise
