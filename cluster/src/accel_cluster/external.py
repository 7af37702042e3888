"""A cluster that the user brings, named by ACCEL_KUBECONFIG: used, never changed, killed or removed."""

import os
from collections.abc import Sequence
from functools import cached_property
from pathlib import Path

from accel_cluster import toolchain, transport
from accel_cluster.commands import run
from accel_cluster.errors import Refused
from accel_cluster.provider import Provider


class External(Provider):
    """Whatever the kubeconfig leads to. Images are pushed to ACCEL_REGISTRY, which its nodes must be able to
    pull.
    """

    name = "external"

    def __init__(self, kubeconfig: Path) -> None:
        if not kubeconfig.exists():
            raise Refused(f"ACCEL_KUBECONFIG={kubeconfig}: no such file")
        self._kubeconfig = kubeconfig
        self.registry: str | None = os.environ.get("ACCEL_REGISTRY")

    @property
    def kubeconfig(self) -> Path:
        """The user's kubeconfig."""
        return self._kubeconfig

    @cached_property
    def nodes(self) -> tuple[str, ...]:  # type: ignore[override]
        """The nodes' names."""
        return tuple(self._kubectl("get", "nodes", "-o", "jsonpath={.items[*].metadata.name}").split())

    def program(self, name: str) -> Path:
        """Return the path of a built program."""
        return toolchain.ensure()[name]

    def up(self) -> None:
        """See whether it answers."""
        self._kubectl("get", "--raw", "/readyz")

    def down(self) -> None:
        """Leave it alone."""

    def status(self) -> list[tuple[str, str, bool]]:
        """Return the nodes."""
        ready = (
            "{range .items[*]}{.metadata.name} {.status.conditions[?(@.type=='Ready')].status}{'\\n'}{end}"
        )
        rows = (
            line.split() for line in self._kubectl("get", "nodes", "-o", f"jsonpath={ready}").splitlines()
        )
        return [(node, f"Ready={status}", status == "True") for node, status in rows]

    def push(self, source: Path, reference: str) -> str:
        """Push to the user's registry."""
        if self.registry is None:
            raise Refused("set ACCEL_REGISTRY to a registry that the cluster's nodes can pull from")
        transport.copy(source, f"docker://{self.registry}/{reference}")
        return f"{self.registry}/{reference}"

    def kill(self, node: str) -> None:
        """Refuse."""
        raise Refused(f"{node} belongs to a cluster that is not ours to kill nodes of")

    def start(self, node: str) -> None:
        """Refuse."""
        self.kill(node)

    def restart_kubelet(self, node: str) -> None:
        """Refuse."""
        self.kill(node)

    def enter(self, node: str, argv: Sequence[str]) -> list[str]:  # noqa: ARG002 (there is no way in)
        """Refuse."""
        raise Refused(f"no way into {node}: the cluster is not ours")

    def _kubectl(self, *arguments: str) -> str:
        return run([self.program("kubectl"), f"--kubeconfig={self.kubeconfig}", *arguments], timeout=60)
