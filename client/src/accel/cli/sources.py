"""`kubectl accel push`: a folder into the cluster's registry, through a port-forward, or into another
registry.
"""

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

import typer

from accel.errors import AccelError, WrongUsage
from accel.kubectl import Kubectl
from accel.oci import Reference, Registry, push_source
from accel.oci.errors import OciError

__all__ = ["push"]

_PORT = 5000
_OPERATORS = ("models", "images")  # a tag there would be taken for a version that a Job has made
_MODELS = ("*.onnx", "*.pb")  # a SavedModel's file is a .pb too


def push(kubectl: Kubectl, directory: Path, text: str) -> None:
    """Push `directory` and print the reference by digest; raises AccelError with the reason and the cure.

    A folder without a model is pushed all the same, with a warning. WrongUsage: the repository is the operator's.
    """
    if not directory.is_dir():
        raise AccelError(f"{directory} is not a folder; push the folder that holds the model")
    try:
        reference = Reference.parse(text)
        _refuse(reference)
        with _open(kubectl, reference) as registry:
            pinned = push_source(registry, directory, reference)
    except OciError as error:
        raise AccelError(str(error)) from error
    typer.echo(str(pinned))
    if not _holds_model(directory):
        typer.echo(
            f"warning: {directory} holds no model: {_listed(path.name for path in directory.iterdir())}. A model's "
            "folder is what tf.saved_model.save or model.export wrote (saved_model.pb, variables/), or holds one .onnx "
            "file or one frozen .pb. A Keras .h5 or .keras file is not one, and an archive in it is not unpacked",
            err=True,
        )


def _refuse(reference: Reference) -> None:
    top, _, rest = reference.repository.partition("/")
    if reference.registry is None and top in _OPERATORS:
        name = rest.rpartition("/")[2] or "NAME"
        cure = Reference(f"sources/{name}", reference.tag or "TAG")
        raise WrongUsage(f"{reference}: what is below {top}/ is the operator's. Push to {cure}")


def _holds_model(directory: Path) -> bool:
    """Tell whether a model lies where the conversion looks: at the top, or one folder down."""
    folders = [directory, *(path for path in directory.iterdir() if path.is_dir())]
    models = (path for folder in folders for pattern in _MODELS for path in folder.glob(pattern))
    return any(path.is_file() for path in models)


def _listed(names: Iterable[str]) -> str:
    found = sorted(names)
    return ", ".join(found[:5]) + (f" and {len(found) - 5} more" if len(found) > 5 else "")


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
