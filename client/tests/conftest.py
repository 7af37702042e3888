"""Fixtures of the client's tests; what they are made of is in `client_harness`."""

import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))  # pytest's importlib mode leaves helper modules to us

from client_harness import Cluster


@pytest.fixture
def cluster(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Cluster:
    """A cluster without objects, behind `kubectl`."""
    made = Cluster(tmp_path)
    monkeypatch.setenv("PATH", made.path)
    return made
