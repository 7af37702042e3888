"""The cluster, as tests and scripts use it, whatever provides it."""

import os
import subprocess
from collections.abc import Sequence
from pathlib import Path

from accel_cluster import settings
from accel_cluster.built import Built
from accel_cluster.commands import run
from accel_cluster.external import External
from accel_cluster.kind import Kind, engine_answers
from accel_cluster.provider import Provider


def choose() -> Provider:
    """Return the provider: a named kubeconfig, kind where Docker answers, else the built cluster."""
    wanted = settings.from_environment()
    if named := os.environ.get("ACCEL_KUBECONFIG"):
        return External(Path(named))
    if not wanted.state.exists() and engine_answers():
        return Kind(wanted.name)
    return Built(wanted)


class Cluster:
    """A Kubernetes cluster for tests.

    Errors are `ClusterError`s: `Refused` where a person must act, `Failed` where trying again may help.
    """

    def __init__(self, provider: Provider | None = None) -> None:
        self.provider = provider or choose()

    @property
    def name(self) -> str:
        """The cluster's name."""
        return self.provider.name

    @property
    def nodes(self) -> tuple[str, ...]:
        """The nodes' names, control plane first."""
        return self.provider.nodes

    @property
    def kubeconfig(self) -> Path:
        """The administrator's kubeconfig, for use on the host."""
        return self.provider.kubeconfig

    @property
    def kubectl(self) -> Path:
        """The kubectl of the cluster's own version."""
        return self.provider.program("kubectl")

    @property
    def helm(self) -> Path:
        """The helm program."""
        return self.provider.program("helm")

    @property
    def registry(self) -> str | None:
        """host:port of the plain-HTTP registry that nodes and pods reach; None where there is none."""
        return self.provider.registry

    def up(self) -> None:
        """Bring the cluster up, or what is missing of it; return when nodes and DNS are ready."""
        self.provider.up()

    def down(self) -> None:
        """Remove the cluster without a trace."""
        self.provider.down()

    def status(self) -> list[tuple[str, str, bool]]:
        """Return (part, what is with it, whether that is well) for every part."""
        return self.provider.status()

    def kill(self, node: str) -> None:
        """End a node as a power cut does: all its processes at once, its disk stays."""
        self.provider.kill(node)

    def start(self, node: str) -> None:
        """Start a killed node; return when it is Ready."""
        self.provider.start(node)

    def control_plane(self, action: str, part: str) -> None:
        """`freeze`, `thaw` or `kill` (it is started again at once) `etcd` or `kube-apiserver`."""
        self.provider.control_plane(action, part)

    def restart_kubelet(self, node: str) -> None:
        """Kill a node's kubelet, which its supervisor starts again; return when the new one calls the node Ready."""
        self.provider.restart_kubelet(node)

    def exec(self, node: str, argv: Sequence[str]) -> str:
        """Run a command on a node, as root; return its standard output, raise Failed if it fails."""
        return run(self.provider.enter(node, argv))

    def enter(self, node: str, argv: Sequence[str]) -> int:
        """Run a command on a node with this process's own terminal; return its exit code."""
        return subprocess.run(self.provider.enter(node, argv), check=False).returncode

    def push(self, source: Path, name: str) -> str:
        """Push an OCI archive, OCI layout folder or Docker archive as `name:tag`; return its reference."""
        return self.provider.push(source, name)

    def run(self, *arguments: str, stdin: str | None = None, timeout: float | None = 120) -> str:
        """Run kubectl with `arguments`; return its standard output, raise Failed if it fails."""
        return run(
            [self.kubectl, f"--kubeconfig={self.kubeconfig}", *arguments], stdin=stdin, timeout=timeout
        )

    def pytest_options(self) -> list[str]:
        """Return the options that make pytest-kind attach to this cluster instead of making one."""
        shim = settings.cache() / "kind-shim"
        source = Path(__file__).with_name("kind-shim")
        if not shim.exists() or shim.read_bytes() != source.read_bytes():
            shim.parent.mkdir(parents=True, exist_ok=True)
            shim.write_bytes(source.read_bytes())
            shim.chmod(0o755)
        return [
            f"--cluster-name={self.name}",
            "--keep-cluster",
            f"--kubeconfig={self.kubeconfig}",
            f"--kind-bin={shim}",
            f"--kind-kubectl-bin={self.kubectl}",
        ]
