"""Fixtures on a real API server: one per session, the CRDs in it, an operator process where a test wants one."""

import sys
import uuid
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest
import yaml
from kubernetes.aio import config as kubeconfig
from kubernetes.aio.client.api_client import ApiClient
from kubernetes.aio.client.configuration import Configuration

sys.path.insert(0, str(Path(__file__).parent))

from accel_cluster import toolchain
from fpga_operator.run.cluster import Cluster
from proxy import Proxy
from registries import Pusher, Service
from servers import ADMIN, OPERATOR, Server, install, start
from simulated import Kubelet
from world import Operator, World


@pytest.fixture(scope="session")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """The API server with our CRDs and the operator's role."""
    programs = toolchain.ensure()["kube-apiserver"].parent
    running = start(tmp_path_factory.mktemp("apiserver"), programs)
    try:
        install(running)
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
async def kubelet(admin: Cluster) -> AsyncIterator[Kubelet]:
    """Writes what controllers and kubelets would; its nodes go with the test."""
    found = Kubelet(admin)
    yield found
    for name in found.nodes:
        for kind in ("FpgaNode", "Node"):
            await admin.delete(kind, "", name, "")


@pytest.fixture
async def namespace(admin: Cluster) -> AsyncIterator[str]:
    """A namespace of its own for each test; what is in it goes with it, as no garbage collector runs here."""
    name = f"t-{uuid.uuid4().hex[:8]}"
    await admin._request("POST", "/api/v1/namespaces", body={"metadata": {"name": name}})
    yield name
    for kind in ("AccelService", "AccelImage", "FpgaModel", "Job", "Pod", "Deployment", "Service"):
        await admin._request("DELETE", admin._path(kind, name, ""), body={"gracePeriodSeconds": 0})


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
                "images": {
                    "toolchain": "r/toolchain:1",
                    "converter": "r/converter:1",
                    "runtime": "r/runtime:1",
                },
                "maxConcurrentJobs": 2,
                "resyncSeconds": 2,
                "masterKeyFile": str(folder / "key"),
            }
        )
    )
    return path


@pytest.fixture(scope="session")
def operator(server: Server, operator_config: Path) -> Iterator[Operator]:
    """The operator as a process, with the rights of operator/rbac.yaml and no others."""
    process = Operator(server, operator_config)
    process.start()
    yield process
    process.stop()


@pytest.fixture
def service(tmp_path: Path) -> Iterator[Service]:
    """A registry of its own for each test."""
    running = Service(tmp_path)
    running.start()
    yield running
    running.stop()


@pytest.fixture
def pusher(tmp_path: Path, service: Service, namespace: str) -> Pusher:
    return Pusher(tmp_path, service.endpoint, namespace)


@pytest.fixture
async def proxy(server: Server, operator: Operator) -> AsyncIterator[Proxy]:
    """A proxy with a fresh operator behind it."""
    async with Proxy(server).running() as between:
        operator.kill()
        operator.url = between.url
        operator.start()
        yield between
        operator.kill()
    operator.url = ""
    operator.start()
