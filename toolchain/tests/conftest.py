"""A real registry for the room's tests, and jobs to run against it."""

import json
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

sys.path.insert(0, str(Path(__file__).parent))  # pytest's importlib mode leaves helper modules to us

from accel.oci.local import LocalRegistry
from accel_toolchain.workspace import Workspace


@pytest.fixture(scope="session")
def endpoint(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Debian's docker-registry on a free port of 127.0.0.1."""
    with LocalRegistry(tmp_path_factory.mktemp("registry")) as local:
        yield local.endpoint


@pytest.fixture
def work(tmp_path: Path) -> Workspace:
    """An empty work volume."""
    root = tmp_path / "work"
    root.mkdir()
    return Workspace(root)


@pytest.fixture
def convert_job(endpoint: str, request: pytest.FixtureRequest) -> Callable[..., str]:
    """Return a convert Job's JSON; each test has its own repository."""
    name = "".join(c if c.isalnum() else "-" for c in request.node.name.lower()).strip("-")[:60].strip("-")

    def make(uri: str = "oci:///sources/none:1", sha256: str | None = None, **options: Any) -> str:
        registry = options.pop("registry", endpoint)
        limits = {
            "maxSourceBytes": options.pop("max_bytes", 1 << 30),
            "fetchSeconds": options.pop("seconds", 60),
        }
        verification = {"samples": options.pop("samples", 2), "tolerance": options.pop("tolerance", None)}
        conversion = {
            "mode": "Auto",
            "format": "Auto",
            "inputs": [],
            "outputs": [],
            "signature": None,
            "precision": "msfp-a10",
            "requireFpga": True,
            **options,
        }
        return json.dumps(
            {
                "schema": "accel.dev/convert-job/v1",
                "model": {"namespace": "test", "name": name},
                "source": {"uri": uri, "sha256": sha256},
                "conversion": conversion,
                "verification": verification,
                "registry": {"endpoint": registry},
                "target": {"repository": f"models/test/{name}"},
                "limits": limits,
            }
        )

    return make
