"""`kubectl accel predict`: pictures in, classes out."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import typer
from numpy.typing import NDArray

from accel.calls import CallInfo
from accel.errors import AccelError
from accel.kubectl import Kubectl
from accel.prediction import PredictionClient
from accel.service import connect

__all__ = ["Wish", "classes", "predict", "read_labels"]


@dataclass(frozen=True)
class Wish:
    """What the user wants to see; None leaves the choice to the model."""

    top: int = 5
    input_name: str | None = None
    output: str | None = None
    timeout: float = 30.0
    labels: tuple[str, ...] = ()


def predict(
    kubectl: Kubectl,
    service: str,
    files: Sequence[Path],
    wish: Wish,
    *,
    port_forward: bool = False,
    ca: Path | None = None,
) -> None:
    """Score each file and print its classes and clocks; raises AccelError with the service's reason."""
    with connect(kubectl, service, port_forward=port_forward, root_certificates=ca) as client:
        input_name = wish.input_name or _picture_input(client, service)
        for path in files:
            answer = _score(client, path, input_name, wish)
            typer.echo(f"{path} ({clocks(client.last_call)})")
            for line in classes(answer, wish):
                typer.echo(f"  {line}")


def classes(answer: NDArray[Any], wish: Wish) -> list[str]:
    """Return one line per class, the most likely first; a result that is no vector gets its shape and
    range.
    """
    flat = np.asarray(answer).squeeze()
    if flat.ndim != 1 or flat.dtype.kind not in "fiu":
        return [f"output of shape {list(answer.shape)}, values {np.min(answer)} to {np.max(answer)}"]
    best = np.argsort(-flat, kind="stable")[: wish.top]
    return [f"{_label(int(index), wish.labels):<24} {flat[index]:.4f}" for index in best]


def clocks(info: CallInfo) -> str:
    """Say where the time went: the client's, the FPGA's simulated, the emulator's."""
    parts = [f"{info.seconds * 1000:.1f} ms"]
    if info.simulated_seconds is not None:
        parts.append(f"FPGA {info.simulated_seconds * 1000:.3f} ms simulated on {info.device_id}")
    if info.device_wall_seconds is not None:
        parts.append(f"emulator {info.device_wall_seconds * 1000:.1f} ms")
    return ", ".join(parts)


def read_labels(path: Path | None) -> tuple[str, ...]:
    """Return the class names in a text file (one a line) or a JSON list or {index: name} object."""
    if path is None:
        return ()
    try:
        text = path.read_text(encoding="utf-8")
        if path.suffix != ".json":
            return tuple(line.strip() for line in text.splitlines())
        document = json.loads(text)
    except (OSError, ValueError) as error:
        raise AccelError(f"--labels {path}: {error}") from error
    if isinstance(document, dict):
        names = {int(index): name for index, name in document.items()}
        document = [names.get(index, index) for index in range(max(names, default=-1) + 1)]
    # Lists of pairs are ImageNet's usual form: [synset, name].
    return tuple(str(name[-1]) if isinstance(name, list) else str(name) for name in document)


def _score(client: PredictionClient, path: Path, input_name: str, wish: Wish) -> NDArray[Any]:
    try:
        answer = client.score_file(path, input_name, wish.output, wish.timeout)
    except OSError as error:
        raise AccelError(f"{path} cannot be read: {error.strerror}") from error
    except grpc.RpcError as error:
        raise AccelError(f"{path}: {told(error)}") from error
    if isinstance(answer, list):
        raise AccelError(f"the model has {len(answer)} outputs; name one with --output")
    return answer


def _picture_input(client: PredictionClient, service: str) -> str:
    try:
        inputs, _outputs = client.get_metadata()
    except grpc.RpcError as error:
        raise AccelError(f"{service}: {told(error)}") from error
    strings = [info.alias for info in inputs if info.dtype == "string"]
    found = ", ".join(f"{info.alias} ({info.dtype})" for info in inputs)
    if not strings:
        raise AccelError(
            f"{service} takes arrays, not JPEG or PNG files; its inputs are {found}. "
            "Use PredictionClient.score_numpy_arrays, or export the model with a signature that decodes pictures"
        )
    if len(strings) > 1:
        raise AccelError(f"{service} has several string inputs: {found}. Name one with --input")
    return strings[0]


def told(error: grpc.RpcError) -> str:
    """Return a failed call's status and text, and for an untrusted certificate the cure."""
    text = f"{error.code().name}: {error.details()}"
    if "CERTIFICATE_VERIFY_FAILED" in text:
        text += ". Give the certificate that signed the service's with --ca"
    return text


def _label(index: int, labels: Sequence[str]) -> str:
    return labels[index] if index < len(labels) and labels[index] else f"class {index}"
