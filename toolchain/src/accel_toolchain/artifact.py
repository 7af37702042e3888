"""The artifact: the files that a model server needs, and how they are named inside a container.

Schema accel.dev/artifact/v1. `convert` writes the folder, `push` makes one layer of it, the model server
reads it.
"""

import hashlib
import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from accel.oci import Entry, InvalidContent, directory_entries

SCHEMA: Final = "accel.dev/artifact/v1"
MODEL_DIRECTORY: Final = "opt/accel/model"
PRE: Final = "host_pre.onnx"
PROGRAM: Final = "device.npu"
POST: Final = "host_post.onnx"
COMPOSED: Final = "model.onnx"
MODEL: Final = "model.json"
SOURCE: Final = "source"
_FILES: Final = frozenset({PRE, PROGRAM, POST, COMPOSED, MODEL})


@dataclass(frozen=True)
class Tensor:
    """A wire input or output: TensorFlow's (or ONNX's) tensor name, and the signature's key for it."""

    name: str
    alias: str
    dtype: str
    shape: tuple[int, ...]
    """-1 where any size is accepted."""

    def to_json(self) -> dict[str, Any]:
        """Return the form of model.json and of the Job's result."""
        return {"name": self.name, "alias": self.alias, "dtype": self.dtype, "shape": list(self.shape)}


@dataclass(frozen=True)
class Parts:
    """The serialised parts of a converted model; None where the model has no such part."""

    pre: bytes | None = None
    program: bytes | None = None
    post: bytes | None = None
    composed: bytes | None = None
    device_input: str = ""
    device_output: str = ""


@dataclass(frozen=True)
class Artifact:
    """What model.json says. Not the object's name: the same bytes under another name have the same digest."""

    signature: str
    inputs: tuple[Tensor, ...]
    outputs: tuple[Tensor, ...]
    decode: dict[str, Any] | None
    precision: str
    source_sha256: str
    converter: str
    parts: Parts = field(default_factory=Parts)

    def write(self, folder: Path) -> None:
        """Write all files; their digests stand in model.json, so that a server notices damage."""
        folder.mkdir(parents=True, exist_ok=True)
        digests = {}
        named = {
            PRE: self.parts.pre,
            PROGRAM: self.parts.program,
            POST: self.parts.post,
            COMPOSED: self.parts.composed,
        }
        for name, content in named.items():
            if content is not None:
                (folder / name).write_bytes(content)
                digests[name] = f"sha256:{hashlib.sha256(content).hexdigest()}"
        document = {
            "schema": SCHEMA,
            "signature": self.signature,
            "inputs": [tensor.to_json() for tensor in self.inputs],
            "outputs": [tensor.to_json() for tensor in self.outputs],
            "decode": self.decode,
            "graph": {
                "pre": PRE if self.parts.pre is not None else None,
                "program": PROGRAM if self.parts.program is not None else None,
                "post": POST if self.parts.post is not None else None,
                "deviceInput": self.parts.device_input,
                "deviceOutput": self.parts.device_output,
            },
            "precision": self.precision,
            "sourceSha256": self.source_sha256,
            "converter": self.converter,
            "files": digests,
        }
        text = json.dumps(document, indent=1, sort_keys=True, ensure_ascii=False)
        (folder / MODEL).write_text(text + "\n", encoding="utf-8")


def layer_entries(folder: Path) -> Iterator[Entry]:
    """Yield the files of an artifact folder at their places in the image.

    Raises:
        InvalidContent: the folder holds something that no artifact has; the converter ran a stranger's graph.
    """
    if not (folder / MODEL).is_file():
        raise InvalidContent(f"There is no {MODEL} to push.")
    for entry in directory_entries(folder, MODEL_DIRECTORY):
        name = entry.path.removeprefix(f"{MODEL_DIRECTORY}/")
        if name not in _FILES and not name.startswith(f"{SOURCE}/"):
            raise InvalidContent(f"'{name}' has no place in an artifact.")
        yield entry
