"""The five networks compile, run on the oracle, and stay as near to float32 as docs/networks.md says.

Weights are random and calibrated, so classes mean nothing; what is compared are tensors. Results are kept by the
digest of program, picture and oracle (bench/npu_networks.py).
"""

import math
import re
from functools import cache

import pytest
from accel_zoo import FIVE, Kind, table

from bench import npu_networks
from bench.npu_networks import Study

pytestmark = pytest.mark.network

TOLERANCE_DB = 1.0  # calibration differs in a last bit between processors, and so do a few mantissas
ROW = re.compile(
    r"^\| (?P<name>\w+) \| (?P<chains>\d+) \| (?P<tiles>[\d,]+) \| (?P<vectors>[\d,]+) \| (?P<host>\d+) \| "
    r"(?P<alone>[\d.]+) \| (?P<end>[\d.]+) \| (?P<error>[\d.]+) \|$",
    re.MULTILINE,
)


@cache
def found(name: str) -> Study:
    return npu_networks.study(name)


@cache
def published() -> dict[str, re.Match[str]]:
    return {row["name"]: row for row in ROW.finditer(npu_networks.PAGE.read_text(encoding="utf-8"))}


@pytest.mark.parametrize("name", FIVE)
def test_every_layer_is_near_float32(name: str) -> None:
    for layer in found(name).layers:
        assert layer.saturated == 0, layer
        assert layer.snr_db > 2, layer
    for name_of_layer, alone in found(name).alone.items():
        assert alone > 14, (name_of_layer, alone)
    compared = [layer for layer in found(name).layers if math.isfinite(layer.snr_db)]
    convolutions = sum(layer.kind is Kind.CONV and not layer.host for layer in table(name).layers)
    assert len(compared) >= convolutions


@pytest.mark.parametrize("name", FIVE)
def test_the_page_says_what_comes_out(name: str) -> None:
    row, study = published()[name], found(name)
    assert (int(row["chains"]), int(row["host"])) == (study.chains, study.host_ops)
    assert int(row["tiles"].replace(",", "")) == study.tiles
    assert int(row["vectors"].replace(",", "")) == study.vectors
    assert float(row["alone"]) == pytest.approx(study.least_alone, abs=TOLERANCE_DB)
    assert float(row["end"]) == pytest.approx(study.device_end, abs=TOLERANCE_DB)
    assert float(row["error"]) == pytest.approx(study.relative_l2, rel=0.15)
