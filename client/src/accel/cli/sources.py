"""`kubectl accel push`: a folder into the cluster's registry, through a port-forward, or into another
registry.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import typer

from accel.errors import AccelError
from accel.kubectl import Kubectl
from accel.oci import Reference, Registry, push_source
from accel.oci.errors import OciError

__all__ = ["push"]

_PORT = 5000


def push(kubectl: Kubectl, directory: Path, text: str) -> None:
    """Push `directory` and print the reference by digest; raises AccelError with the reason and the cure."""
    if not directory.is_dir():
        raise AccelError(f"{directory} is not a folder; push the folder that holds the model")
    try:
        reference = Reference.parse(text)
        with _open(kubectl, reference) as registry:
            pinned = push_source(registry, directory, reference)
    except OciError as error:
        raise AccelError(str(error)) from error
    typer.echo(str(pinned))


@contextmanager
def _open(kubectl: Kubectl, reference: Reference) -> Iterator[Registry]:
    if reference.registry is not None:
        with Registry.of(reference, "", insecure=True) as registry:
            yield registry
        return
    with (
        kubectl.port_forward("service/registry", _PORT) as port,
        Registry(f"http://127.0.0.1:{port}") as registry,
    ):
        yield registry
