"""Names, addresses, ports and paths of one cluster: everything that is agreed on before anything runs.

All networks below exist inside the cluster's own network namespace only; on the host nothing but the ports on
127.0.0.1 can clash.
"""

import os
import re
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from accel_cluster.errors import Refused

GATEWAY = "10.89.0.1"  # the namespace's own address on the nodes' bridge: API server, etcd, image registry
NODE_NETWORK = "10.89.0.0/24"
POD_NETWORK = "10.244.0.0/16"
SERVICE_NETWORK = "10.96.0.0/16"
API_SERVICE = "10.96.0.1"
DNS_SERVICE = "10.96.0.10"
API_PORT = 6443
REGISTRY = f"{GATEWAY}:5000"
NODE_PORT_COUNT = 64


@dataclass(frozen=True)
class Node:
    """One node: a machine of namespaces with its own address and pod network."""

    name: str
    number: int
    control_plane: bool = False

    @property
    def address(self) -> str:
        """IPv4 address on the nodes' bridge."""
        return f"10.89.0.{10 + self.number}"

    @property
    def pod_network(self) -> str:
        """CIDR of the pods on this node."""
        return f"10.244.{self.number}.0/24"


@dataclass(frozen=True)
class Settings:
    """One cluster. A second one beside it needs another name and other host ports, nothing else."""

    name: str = "accel"
    api_host_port: int = 36443
    registry_host_port: int = 35000
    first_node_port: int = 31000

    def __post_init__(self) -> None:
        """Refuse names that do not fit the kernel's and Kubernetes' name rules."""
        if not re.fullmatch(r"[a-z][a-z0-9]{0,9}", self.name):  # ve-<name>-<n> must fit IFNAMSIZ
            raise Refused(f"cluster name {self.name!r}: use 1 to 10 lower-case letters and digits")

    @cached_property
    def nodes(self) -> tuple[Node, ...]:
        """The nodes, control plane first."""
        return (
            Node(f"{self.name}-control-plane", 0, control_plane=True),
            Node(f"{self.name}-worker", 1),
            Node(f"{self.name}-worker2", 2),
        )

    def node(self, name: str) -> Node:
        """Return the node called `name`, with or without the cluster's prefix."""
        for node in self.nodes:
            if name in (node.name, node.name.removeprefix(f"{self.name}-")):
                return node
        raise Refused(f"no node {name!r}; there are {', '.join(node.name for node in self.nodes)}")

    @property
    def netns(self) -> str:
        """Name of the network namespace that holds the whole cluster."""
        return self.name

    @property
    def cgroup(self) -> str:
        """Name of the cgroup, in every hierarchy, that holds all processes of the cluster."""
        return f"accel-cluster-{self.name}"

    @property
    def node_ports(self) -> range:
        """NodePorts of the cluster, each forwarded from 127.0.0.1."""
        return range(self.first_node_port, self.first_node_port + NODE_PORT_COUNT)

    @property
    def host_ports(self) -> list[int]:
        """All ports that the cluster takes on the host's 127.0.0.1."""
        return [self.api_host_port, self.registry_host_port, *self.node_ports]

    @property
    def state(self) -> Path:
        """Where everything of this cluster lies. Short, because Unix socket paths end at 107 bytes; not a
        tmpfs.
        """
        return Path("/var/lib/accel-cluster") / self.name

    @property
    def kubeconfig(self) -> Path:
        """The administrator's kubeconfig for use on the host."""
        return self.state / "kubeconfig"


def cache() -> Path:
    """Where binaries, toolchain and images survive the clusters."""
    base = os.environ.get("XDG_CACHE_HOME") or str(Path.home() / ".cache")
    return Path(base) / "accel-cluster"


def from_environment() -> Settings:
    """Return the settings, with what ACCEL_CLUSTER_* says for a second cluster beside the first."""
    default = Settings()
    return Settings(
        name=os.environ.get("ACCEL_CLUSTER_NAME", default.name),
        api_host_port=int(os.environ.get("ACCEL_CLUSTER_API_PORT", default.api_host_port)),
        registry_host_port=int(os.environ.get("ACCEL_CLUSTER_REGISTRY_PORT", default.registry_host_port)),
        first_node_port=int(os.environ.get("ACCEL_CLUSTER_NODE_PORTS", default.first_node_port)),
    )
