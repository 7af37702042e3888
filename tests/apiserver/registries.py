"""A real registry, and the toolchain's own pushes into it."""

import json
import subprocess
from pathlib import Path
from typing import Any

from accel.oci.local import LocalRegistry
from accel_toolchain import jobs
from accel_toolchain.push import push
from accel_toolchain.workspace import Workspace, write_note


class Service(LocalRegistry):
    """A registry that lets manifests be deleted, and whose disk can be looked at."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        self.folder = folder

    def start(self, *, delete: bool = True, data: str = "data") -> None:
        super().start(delete=delete, data=data)

    def collect_garbage(self) -> int:
        """Run the registry's own collection as docs/registry.md says; return how many blobs are left."""
        command = ["docker-registry", "garbage-collect", str(self.folder / "config.yml")]
        subprocess.run(command, check=True, capture_output=True)
        return len(list((self.folder / "data/docker/registry/v2/blobs").glob("**/data")))

    def stored(self) -> set[str]:
        """Every manifest on the registry's disk, also those that no tag leads to: repository@digest."""
        root = self.folder / "data" / "docker" / "registry" / "v2" / "repositories"
        return {
            f"{link.relative_to(root).parts[0]}/{'/'.join(link.relative_to(root).parts[1:-5])}@sha256:{link.parts[-2]}"
            for link in root.glob("**/_manifests/revisions/sha256/*/link")
        }


class Pusher:
    """The push container of a conversion."""

    def __init__(self, folder: Path, endpoint: str, namespace: str) -> None:
        self.folder = folder
        self.endpoint = endpoint
        self.namespace = namespace
        self.count = 0

    def push(self, name: str, source: str) -> dict[str, Any]:
        """Push a version made of `source`; return the Job's result."""
        self.count += 1
        root = self.folder / f"work{self.count}"
        root.mkdir()
        work = Workspace(root)
        work.artifact.mkdir()
        (work.artifact / "model.json").write_text(json.dumps({"source": source}))
        write_note(work.source_note, {"sha256": source * 64, "known": False})
        write_note(work.report, {"inputs": [], "outputs": []})
        work.log.write_bytes(b"log")
        return push(jobs.parse_convert(json.dumps(self._job(name))), work)

    def _job(self, name: str) -> dict[str, Any]:
        return {
            "schema": "accel.dev/convert-job/v1",
            "model": {"namespace": self.namespace, "name": name},
            "source": {"uri": "oci:///sources/x:1", "sha256": None},
            "verification": {"samples": 1, "tolerance": None},
            "registry": {"endpoint": self.endpoint},
            "target": {"repository": f"models/{self.namespace}/{name}"},
            "limits": {"maxSourceBytes": 1 << 30, "fetchSeconds": 60},
        }
