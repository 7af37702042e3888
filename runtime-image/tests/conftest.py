"""Fixtures of the model server's tests; what they are made of is in `runtime_harness`."""

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))  # pytest's importlib mode leaves helper modules to us

from runtime_harness import DeviceProcess, Packed, pack


@pytest.fixture(scope="session")
def compiled_folder(tmp_path_factory: pytest.TempPathFactory) -> Packed:
    return pack(tmp_path_factory.mktemp("artifact") / "model")


@pytest.fixture
def packed(compiled_folder: Packed, tmp_path: Path) -> Packed:
    """A copy that the test may spoil."""
    folder = tmp_path / "model"
    folder.mkdir()
    for file in compiled_folder.folder.iterdir():
        (folder / file.name).write_bytes(file.read_bytes())
    return Packed(folder, compiled_folder.network)


@pytest.fixture
def device(tmp_path: Path) -> Iterator[DeviceProcess]:
    """A device of the test's own."""
    process = DeviceProcess(tmp_path / "fpga")
    process.start()
    yield process
    process.kill()


@pytest.fixture(scope="module")
def shared_device(tmp_path_factory: pytest.TempPathFactory) -> Iterator[DeviceProcess]:
    """A device that no test of the module harms."""
    process = DeviceProcess(tmp_path_factory.mktemp("node") / "fpga")
    process.start()
    yield process
    process.kill()
