"""Fixtures on the real cluster: namespaces as tenants have them, sources pushed as users push them."""

import os
import subprocess
import sys
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import onnx
import pytest

sys.path.insert(0, str(Path(__file__).parent))

from kube import Kube
from networks import folder

BIN = Path(sys.executable).parent
SYSTEM = "accel-system"
NODE = "accel-node"


@pytest.fixture(scope="session")
def system(kind_cluster: Any) -> Kube:
    """The product's own namespace, on the cluster that pytest-kind hands out."""
    return Kube(Path(kind_cluster.kubectl_path), Path(kind_cluster.kubeconfig_path), SYSTEM)


@pytest.fixture(scope="session")
def node_side(system: Kube) -> Kube:
    """The namespace of the emulator, the device plugin and the registry proxy."""
    return Kube(system.kubectl, system.kubeconfig, NODE)


@pytest.fixture(scope="module")
def kube(system: Kube, request: pytest.FixtureRequest) -> Iterator[Kube]:
    """A tenant's namespace for one module: pod security `restricted`, gone with its devices afterwards."""
    stem = request.module.__name__.rpartition(".")[2].removeprefix("test_e2e_").replace("_", "-")
    name = f"{stem}-{uuid.uuid4().hex[:5]}"
    tenant = Kube(system.kubectl, system.kubeconfig, name)
    tenant("create", "namespace", name)
    tenant("label", "namespace", name, "pod-security.kubernetes.io/enforce=restricted")
    yield tenant
    tenant("delete", "namespace", name, "--wait=true", "--timeout=120s", timeout=150)


@pytest.fixture(scope="session")
def accel(system: Kube) -> Callable[..., str]:
    """`kubectl accel …` with this cluster's kubeconfig; returns its output, raises on its refusal."""
    environment = {
        **os.environ,
        "KUBECONFIG": str(system.kubeconfig),
        "PATH": f"{system.kubectl.parent}:{BIN}:{os.environ['PATH']}",
    }

    def run(*arguments: str, timeout: float = 120) -> str:
        done = subprocess.run(
            [str(BIN / "kubectl-accel"), *arguments],
            env=environment,
            capture_output=True,
            text=True,
            timeout=timeout,
            check=False,
        )
        assert done.returncode == 0, f"kubectl accel {' '.join(arguments)}: {done.stderr}{done.stdout}"
        return done.stdout

    return run


@pytest.fixture(scope="session")
def push(
    accel: Callable[..., str], tmp_path_factory: pytest.TempPathFactory
) -> Callable[[onnx.ModelProto, str], str]:
    """Push a network as a source; returns its URI."""

    def push(network: onnx.ModelProto, repository: str) -> str:
        uri = f"oci:///sources/{repository}"
        accel("push", str(folder(tmp_path_factory.mktemp("source"), network)), uri)
        return uri

    return push
