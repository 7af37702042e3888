"""Compiling takes no more memory than a converter's container has (its time is bench/npu_compile.py's business)."""

from pathlib import Path

import pytest
from accel_zoo import build_onnx, table

from bench.npu_compile import measure

pytestmark = pytest.mark.network


def test_resnet50_compiles_in_less_than_a_gigabyte(tmp_path: Path) -> None:
    file = tmp_path / "resnet50.onnx"
    file.write_bytes(build_onnx(table("resnet50")).SerializeToString())
    found = measure(file, runs=1)
    assert found["loaded"] < found["peak"] < 1e9
