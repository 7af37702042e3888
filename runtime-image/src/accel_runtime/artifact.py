"""The model folder of an AccelImage: model.json and the files it names (schema accel.dev/artifact/v1).

Reading it checks the schema and every digest that model.json carries; executing it is
`accel_runtime.pipeline`.
"""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from accel.tfs import types

from accel_runtime.decode import Decode
from accel_runtime.errors import ArtifactError

__all__ = ["SCHEMA", "Artifact", "Graph", "TensorSpec"]

SCHEMA = "accel.dev/artifact/v1"


@dataclass(frozen=True)
class TensorSpec:
    """One input or output as the client sees it. A size of -1 fits any."""

    name: str
    """The name in the graph: a TensorFlow tensor name such as `Placeholder:0`."""
    alias: str
    """The signature's key, such as `images`."""
    dtype: types.DataType
    shape: tuple[int, ...]

    def fits(self, shape: tuple[int, ...]) -> bool:
        """Whether an array of `shape` can be this tensor."""
        return len(shape) == len(self.shape) and all(
            wanted in (-1, size) for wanted, size in zip(self.shape, shape, strict=True)
        )


@dataclass(frozen=True)
class Graph:
    """The three parts, each None where the model has none; the tensors at the device's edge."""

    pre: Path | None
    program: bytes | None
    post: Path | None
    device_input: str
    device_output: str


@dataclass(frozen=True)
class Artifact:
    """One model, ready to be executed."""

    name: str
    signature: str
    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]
    decode: Decode | None
    graph: Graph
    precision: str
    source_sha256: str

    @property
    def program_digest(self) -> str:
        """`sha256:…` of the device program, or an empty string where the model has none."""
        if self.graph.program is None:
            return ""
        return "sha256:" + hashlib.sha256(self.graph.program).hexdigest()

    @classmethod
    def load(cls, folder: Path) -> "Artifact":
        """Read a model folder; raises ArtifactError naming the file and the field."""
        document = _read_json(folder / "model.json")
        if document.get("schema") != SCHEMA:
            raise ArtifactError(
                f"model.json has schema {document.get('schema')!r}; this runtime reads {SCHEMA}. "
                "Build the image again with a converter and a runtime of one release"
            )
        try:
            _check_digests(folder, document.get("files", {}))
            decode = document.get("decode")
            return cls(
                name=str(document.get("name", "model")),
                signature=str(document.get("signature") or "serving_default"),
                inputs=tuple(_spec(entry, "inputs") for entry in document["inputs"]),
                outputs=tuple(_spec(entry, "outputs") for entry in document["outputs"]),
                decode=None if decode is None else Decode.parse(decode),
                graph=_graph(folder, document["graph"]),
                precision=str(document.get("precision", "")),
                source_sha256=str(document.get("sourceSha256", "")),
            )
        except KeyError as error:
            raise ArtifactError(f"model.json lacks {error}") from error


def _read_json(path: Path) -> Mapping[str, Any]:
    try:
        document = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise ArtifactError(f"{path} does not exist; is this an AccelImage?") from error
    except (OSError, ValueError) as error:
        raise ArtifactError(f"{path} cannot be read: {error}") from error
    if not isinstance(document, dict):
        raise ArtifactError(f"{path} is not a JSON object")
    return document


def _spec(entry: Mapping[str, Any], field: str) -> TensorSpec:
    name = str(entry["name"])
    kind = types.by_name(str(entry["dtype"]))
    if kind is None:
        raise ArtifactError(f"model.json: {field} {name!r} has the unknown dtype {entry['dtype']!r}")
    shape = tuple(-1 if size is None else int(size) for size in entry["shape"])
    return TensorSpec(name=name, alias=str(entry.get("alias") or name), dtype=kind, shape=shape)


def _graph(folder: Path, entry: Mapping[str, Any]) -> Graph:
    program = _part(folder, entry.get("program"))
    return Graph(
        pre=_part(folder, entry.get("pre")),
        program=None if program is None else program.read_bytes(),
        post=_part(folder, entry.get("post")),
        device_input=str(entry.get("deviceInput") or ""),
        device_output=str(entry.get("deviceOutput") or ""),
    )


def _part(folder: Path, name: object) -> Path | None:
    if name is None:
        return None
    path = folder / str(name)
    if path.parent != folder:
        raise ArtifactError(f"model.json names {name!r}, which is outside the model folder")
    if not path.is_file():
        raise ArtifactError(f"model.json names {name!r}, which is not in the model folder")
    return path


def _check_digests(folder: Path, files: Mapping[str, str]) -> None:
    for name, expected in files.items():
        path = _part(folder, name)
        assert path is not None
        with path.open("rb") as stream:
            found = hashlib.file_digest(stream, "sha256").hexdigest()
        if found != expected.removeprefix("sha256:"):
            raise ArtifactError(
                f"{name} has the SHA-256 {found}, model.json says {expected}: the image is damaged"
            )
