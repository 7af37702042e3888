"""A real registry, and the toolchain's own pushes into it."""

import json
import socket
import subprocess
from pathlib import Path
from typing import Any

import httpx
from accel_toolchain import jobs
from accel_toolchain.push import push
from accel_toolchain.workspace import Workspace, write_note

SETTINGS = """
version: 0.1
storage: {{filesystem: {{rootdirectory: {root}}}, delete: {{enabled: {delete}}}}}
http: {{addr: "127.0.0.1:{port}"}}
log: {{level: error, accesslog: {{disabled: true}}}}
"""


class Service:
    """Debian's docker-registry on a free port of 127.0.0.1; can be stopped and started with other settings."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port = probe.getsockname()[1]
        self.endpoint = f"http://127.0.0.1:{self.port}"
        self.process: subprocess.Popen[bytes] | None = None

    def start(self, *, delete: bool = True, data: str = "data") -> None:
        text = SETTINGS.format(root=self.folder / data, port=self.port, delete=str(delete).lower())
        (self.folder / "config.yml").write_text(text)
        self.process = subprocess.Popen(
            ["docker-registry", "serve", str(self.folder / "config.yml")],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        with httpx.Client(transport=httpx.HTTPTransport(retries=8)) as http:
            assert http.get(f"{self.endpoint}/v2/").status_code == 200

    def stop(self) -> None:
        if self.process is not None:
            self.process.terminate()
            self.process.wait()
            self.process = None

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
            "conversion": {
                "mode": "Auto",
                "format": "Auto",
                "inputs": [],
                "outputs": [],
                "signature": None,
                "precision": "msfp-a10",
                "requireFpga": True,
            },
            "verification": {"samples": 1, "tolerance": None},
            "registry": {"endpoint": self.endpoint},
            "target": {"repository": f"models/{self.namespace}/{name}"},
            "limits": {"maxSourceBytes": 1 << 30, "fetchSeconds": 60},
        }
