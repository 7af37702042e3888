"""The volume that a convert pod's containers share, and the notes they leave each other there.

`fetch` runs before anything untrusted. `convert` is confined but runs a stranger's graph, so `push` treats
all it finds here as written by a stranger: regular files only, bounded, and never a path outside.
"""

import json
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from accel.oci.layers import open_regular

_MAX_NOTE_BYTES = 4 << 20


@dataclass(frozen=True)
class Workspace:
    """Paths under the work volume (`ACCEL_WORK`, default /work)."""

    root: Path

    @classmethod
    def from_environment(cls) -> "Workspace":
        """Return the volume of this container."""
        return cls(Path(os.environ.get("ACCEL_WORK") or "/work"))

    @property
    def download(self) -> Path:
        """The source as it came over the wire; removed once unpacked."""
        return self.root / "download"

    @property
    def source(self) -> Path:
        """The unpacked source."""
        return self.root / "source"

    @property
    def source_note(self) -> Path:
        """Written by fetch: the source's digest."""
        return self.root / "source.json"

    @property
    def artifact(self) -> Path:
        """The files of the artifact, as they will lie in /opt/accel/model."""
        return self.root / "artifact"

    @property
    def outcome(self) -> Path:
        """Written by the converting child: its result or its failure."""
        return self.root / "outcome.json"

    @property
    def report(self) -> Path:
        """Everything that convert found out about the model."""
        return self.root / "report.json"

    @property
    def log(self) -> Path:
        """All output of the converting child."""
        return self.root / "convert.log"


def write_note(path: Path, note: dict[str, Any]) -> None:
    """Write a note for another container."""
    path.write_text(json.dumps(note, indent=1, sort_keys=True), encoding="utf-8")


def read_note(path: Path) -> dict[str, Any]:
    """Read a note; raises InvalidContent (no regular file) or ValueError (too large, not an object)."""
    with open_regular(path) as file:
        text = file.read(_MAX_NOTE_BYTES + 1)
    if len(text) > _MAX_NOTE_BYTES:
        raise ValueError(f"{path.name} is larger than {_MAX_NOTE_BYTES} bytes")
    note = json.loads(text)
    if not isinstance(note, dict):
        raise ValueError(f"{path.name} is not an object")
    return note
