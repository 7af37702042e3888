"""The cluster's registry as a place to push to: where it is, and how this machine reaches it."""

from collections.abc import Sequence
from dataclasses import dataclass

from accel_cluster.images.catalog import REPOSITORY_PREFIX
from accel_cluster.images.store import ImageError, run


@dataclass(frozen=True)
class ClusterRegistry:
    """A plain HTTP registry that nodes and pods pull from."""

    address: str  # host:port, as image references name it
    enter: Sequence[str] = ()  # command prefix that runs a program where `address` can be dialled

    def reference(self, name: str, key: str) -> str:
        """Return the image reference of `name` with the content key `key`."""
        return f"{self.address}/{REPOSITORY_PREFIX}/{name}:{key}"

    def has(self, reference: str) -> bool:
        """Tell whether the registry holds `reference`."""
        command = ["skopeo", "inspect", "--raw", "--tls-verify=false", f"docker://{reference}"]
        try:
            run([*self.enter, *command])
        except ImageError:
            return False
        return True
