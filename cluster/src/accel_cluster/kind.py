"""kind, where a Docker daemon answers. Kept short on purpose: the project's own tests cannot run it
(docs/cluster.md).
"""

import json
import shutil
import tempfile
from collections.abc import Sequence
from pathlib import Path

from accel_cluster import settings, toolchain, transport
from accel_cluster.commands import run, search_path, succeeds
from accel_cluster.errors import Refused
from accel_cluster.provider import Provider
from accel_cluster.settings import REGISTRY


def engine_answers() -> bool:
    """Return whether Docker and kind are there and Docker's daemon answers."""
    return shutil.which("kind", path=search_path()) is not None and succeeds(["docker", "info"])


class Kind(Provider):
    """Three containers as nodes, under kind's own names: accel-control-plane, accel-worker, accel-worker2."""

    registry = None  # images are loaded into the nodes

    def __init__(self, name: str) -> None:
        self.name = name
        self.nodes = (f"{name}-control-plane", f"{name}-worker", f"{name}-worker2")

    @property
    def kubeconfig(self) -> Path:
        """A kubeconfig of its own, never the user's."""
        return settings.cache() / "kind" / self.name / "kubeconfig"

    def program(self, name: str) -> Path:
        """Return the user's own program where there is one, else the built one."""
        found = shutil.which(name)
        return Path(found) if found else toolchain.ensure()[name]

    def up(self) -> None:
        """Make the cluster, with the same NodePorts on 127.0.0.1 as the built one."""
        if self.name in run(["kind", "get", "clusters"]).split():
            return
        first = settings.from_environment().node_ports
        ports = [{"containerPort": port, "hostPort": port, "listenAddress": "127.0.0.1"} for port in first]
        patch = (
            "kind: ClusterConfiguration\napiServer: {extraArgs: {service-node-port-range: "
            f"{first[0]}-{first[-1]}}}}}\n"
        )
        config = {
            "kind": "Cluster",
            "apiVersion": "kind.x-k8s.io/v1alpha4",
            "nodes": [
                {"role": "control-plane", "extraPortMappings": ports, "kubeadmConfigPatches": [patch]},
                {"role": "worker"},
                {"role": "worker"},
            ],
        }
        create = ["kind", "create", "cluster", "--name", self.name, "--config", "-", "--wait", "180s"]
        run([*create, "--kubeconfig", self.kubeconfig], stdin=json.dumps(config))

    def down(self) -> None:
        """Delete the cluster."""
        run(["kind", "delete", "cluster", "--name", self.name, "--kubeconfig", self.kubeconfig])

    def status(self) -> list[tuple[str, str, bool]]:
        """Return whether each node's container runs."""
        up = run(["docker", "ps", "--format", "{{.Names}}"]).split()
        return [(node, "container", node in up) for node in self.nodes]

    def push(self, source: Path, reference: str) -> str:
        """Load the image into the nodes, under the name that the built cluster's registry would give it."""
        full = f"{REGISTRY}/{reference}"
        with tempfile.TemporaryDirectory() as scratch:
            transport.copy(source, f"docker-archive:{scratch}/image.tar:{full}")
            run(["kind", "load", "image-archive", "--name", self.name, f"{scratch}/image.tar"])
        return full

    def kill(self, node: str) -> None:
        """Kill the node's container."""
        run(["docker", "kill", self._known(node)])

    def start(self, node: str) -> None:
        """Start the node's container and wait for the node."""
        run(["docker", "start", self._known(node)])
        wait = ["wait", "--for=condition=Ready", f"node/{node}", "--timeout=180s"]
        run([self.program("kubectl"), f"--kubeconfig={self.kubeconfig}", *wait])

    def restart_kubelet(self, node: str) -> None:
        """Kill the kubelet in the node's container, where systemd starts it again, and wait for the node."""
        run(self.enter(node, ["systemctl", "kill", "--signal=SIGKILL", "kubelet"]))
        self.start(node)

    def enter(self, node: str, argv: Sequence[str]) -> list[str]:
        """Return the words that run `argv` in the node's container."""
        return ["docker", "exec", "-i", self._known(node), *argv]

    def _known(self, node: str) -> str:
        if node not in self.nodes:
            raise Refused(f"no node {node!r}; there are {', '.join(self.nodes)}")
        return node
