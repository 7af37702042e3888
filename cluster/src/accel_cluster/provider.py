"""What every way to have a cluster can do."""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from pathlib import Path

from accel_cluster.errors import Refused


class Provider(ABC):
    """A cluster that is there, or can be brought up."""

    name: str
    nodes: tuple[str, ...]
    registry: str | None  # where nodes pull pushed images from; None: pushing goes another way

    @property
    @abstractmethod
    def kubeconfig(self) -> Path:
        """The administrator's kubeconfig."""

    @abstractmethod
    def program(self, name: str) -> Path:
        """Return the path of `kubectl` or `helm`."""

    @abstractmethod
    def up(self) -> None:
        """Bring everything up that is not; return when nodes and DNS are ready."""

    @abstractmethod
    def down(self) -> None:
        """Remove everything that `up` made."""

    @abstractmethod
    def status(self) -> list[tuple[str, str, bool]]:
        """Return (part, what is with it, whether that is well)."""

    @abstractmethod
    def push(self, source: Path, reference: str) -> str:
        """Make the image in `source` available to the nodes; return the reference to use in pods."""

    @abstractmethod
    def kill(self, node: str) -> None:
        """End a node as a power cut does."""

    @abstractmethod
    def start(self, node: str) -> None:
        """Start a node that was killed; return when it is Ready."""

    @abstractmethod
    def restart_kubelet(self, node: str) -> None:
        """SIGKILL a node's kubelet, which is started again; return when the new one calls the node Ready."""

    def control_plane(self, action: str, part: str) -> None:
        """`freeze`, `thaw` or `kill` a program of the control plane, such as `etcd` or `kube-apiserver`.

        A frozen one keeps its connections and does nothing; a killed one is started again at once.
        """
        raise Refused(f"{self.name}: its {part} is not ours to {action}")

    @abstractmethod
    def enter(self, node: str, argv: Sequence[str]) -> list[str]:
        """Return the words that run `argv` on a node."""
