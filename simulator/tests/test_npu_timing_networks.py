"""What docs/timing.md publishes: the fit, and the prediction for every network on every machine, pinned."""

from dataclasses import fields, replace
from itertools import pairwise

import pytest
from npu.errors import DoesNotFit
from npu.sku import constants, load_sku, sku_names
from npu.timing import Estimate, LayerTime, Track, estimate, input_vectors, timeline

from bench import npu_timing
from bench.npu_timing import FITTED_RATE, PRECISIONS, bandwidth_for, timed

PINS = {
    # network: {SKU: (ms, inferences a second, bound by, tiles, vectors), None where it does not fit}
    "resnet50": {
        "bw-cnn-a10": (1.873, 558.6, "dram", 1461, 422),
        "bw-a10": (1.866, 560.9, "dram", 1461, 422),
        "bw-s10": (1.918, 545.6, "compute", 376, 196),
        "bw-s5": (5.256, 193.4, "compute", 3133, 596),
    },
    "resnet152": {
        "bw-cnn-a10": (3.966, 257.5, "dram", 3569, 1190),
        "bw-a10": (3.959, 258.0, "dram", 3569, 1190),
        "bw-s10": (3.497, 293.1, "dram", 878, 528),
        "bw-s5": (14.078, 71.5, "compute", 7783, 1696),
    },
    "densenet121": {
        "bw-cnn-a10": (2.267, 454.1, "compute", 958, 770),
        "bw-a10": (2.253, 456.9, "compute", 958, 770),
        "bw-s10": (4.324, 234.7, "compute", 764, 418),
        "bw-s5": (8.747, 115.2, "compute", 1944, 1060),
    },
    "vgg16": {
        "bw-cnn-a10": (5.241, 189.8, "compute", 916, 260),
        "bw-a10": (5.230, 190.2, "compute", 916, 260),
        "bw-s10": (6.917, 140.3, "compute", 258, 245),
        "bw-s5": None,
    },
    "ssd_vgg300": {
        "bw-cnn-a10": (10.229, 97.7, "compute", 1742, 377),
        "bw-a10": (10.225, 97.8, "compute", 1742, 377),
        "bw-s10": (12.794, 77.8, "compute", 517, 346),
        "bw-s5": None,
    },
}


@pytest.mark.parametrize("name", PINS)
def test_predictions_are_pinned(name):
    for sku, pinned in PINS[name].items():
        if pinned is None:
            with pytest.raises(DoesNotFit):
                timed(name, sku)
            continue
        found = timed(name, sku)
        assert (found.bound_by, found.tiles, found.vectors) == pinned[2:], sku
        assert found.latency_ms == pytest.approx(pinned[0], abs=0.0006), sku
        assert found.inferences_per_second == pytest.approx(pinned[1], abs=0.06), sku


def test_one_constant_is_fitted_and_to_resnet50():
    fitted = [
        (name, key)
        for name in sku_names()
        for key, constant in constants(name).items()
        if "FITTED" in constant.why
    ]
    assert fitted == [("bw-cnn-a10", "dram_bytes_per_second")]
    why = constants("bw-cnn-a10")["dram_bytes_per_second"].why
    assert "ResNet-50" in why
    assert "1.8 ms" in why
    bandwidth = bandwidth_for(FITTED_RATE)
    assert load_sku().dram_bytes_per_second == pytest.approx(bandwidth, abs=0.05e9)


def test_errors_against_what_is_published():
    found = timed("resnet50", "bw-cnn-a10")
    assert found.latency_ms == pytest.approx(1.8, rel=0.05)
    assert found.device_ms == pytest.approx(1.8, rel=0.01)
    assert found.inferences_per_second == pytest.approx(559, rel=0.002)
    assert 1.08 * found.inferences_per_second >= 600  # SONIC's lower end, 7 % off


def test_slower_machines_are_slower():
    for name in PINS:
        fast, slow = (timed(name, sku).latency_ms for sku in ("bw-a10", "bw-cnn-a10"))
        assert fast < slow  # instructions every 4 cycles instead of every 10


def test_every_key_of_the_report_is_on_the_page():
    page = npu_timing.PAGE.read_text(encoding="utf-8")
    for record in (Estimate, LayerTime):
        assert [field.name for field in fields(record) if f"`{field.name}" not in page] == []


def test_every_machine_and_every_constant_is_on_the_page():
    page = npu_timing.PAGE.read_text(encoding="utf-8")
    assert set(PRECISIONS) == set(sku_names())
    for name in sku_names():
        assert f"#### {name}" in page
        for key, constant in constants(name).items():
            assert f"| `{key}` |" in page
            assert f"| {constant.tag} | {constant.why} |" in page


SPEEDS = {
    "DRAM": [{"dram_bytes_per_second": round(gb * 1e9)} for gb in (4, 8, 12.8, 16, 20, 40, 400)],
    "clock": [{"clock_hz": mhz * 1_000_000} for mhz in (100, 200, 250, 300, 400, 800)],
    "PCIe": [{"pcie_bytes_per_second": round(gb * 1e9)} for gb in (1, 3, 6.5, 13)],
    "issue": [{"issue_cycles": cycles} for cycles in (40, 20, 10, 4, 0)],
    "pipeline": [{"pipeline_cycles": cycles} for cycles in (1000, 100, 10, 0)],
    "multipliers": [{"macs": macs} for macs in (1024, 8192, 16384, 65536)],
}


@pytest.mark.parametrize("speeds", SPEEDS.values(), ids=SPEEDS)
@pytest.mark.parametrize("name", PINS)
def test_a_faster_machine_is_never_slower(name, speeds):
    sku = load_sku()
    program = npu_timing.program(name, PRECISIONS[sku.name], sku)
    found = [estimate(program, replace(sku, **changed)) for changed in speeds]
    slack = 1e-6 * len(program.loads) * 10  # loads are whole cycles: a faster clock's are rounded anew
    for slow, fast in pairwise(found):
        assert fast.latency_ms <= slow.latency_ms * (1 + slack)
        assert fast.inferences_per_second >= slow.inferences_per_second * (1 - slack)


@pytest.mark.parametrize("name", PINS)
def test_what_holds_of_every_network(name):
    found = timed(name, "bw-cnn-a10")
    engines = (found.compute_ms, found.issue_ms, found.dram_ms)
    assert 1e3 / found.inferences_per_second >= max(engines)
    assert max(found.compute_ms, found.issue_ms) <= found.device_ms <= sum(engines)
    assert sum(found.critical_path.values()) == pytest.approx(found.latency_ms)
    cycles = sum(layer.total_cycles for layer in found.layers)
    assert cycles / load_sku().clock_hz == pytest.approx(found.device_ms / 1e3)
    assert max(layer.initial_vrf for layer in found.layers) == found.initial_vrf
    assert max(layer.addsub_vrf_1 for layer in found.layers) == found.addsub_vrf_1
    assert sum(layer.tiles for layer in found.layers) == found.tiles
    assert sum(layer.vectors for layer in found.layers) <= found.vectors


DMA = {
    # network: native vectors in (V: 1,240 for 224 x 224, D: 2,195 for 300 x 300) and out (V: the firmware writes them)
    "resnet50": (1240, 784),
    "resnet152": (1240, 784),
    "densenet121": (1240, 288),
    "vgg16": (1240, 196),
    "ssd_vgg300": (2195, 37 * 37 * 4 + 19 * 19 * 2 + 10 * 10 * 2 + 5 * 5 * 2 + 3 * 3 * 2 + 2),
}


@pytest.mark.parametrize(("name", "vectors"), DMA.items(), ids=DMA)
def test_what_crosses_pcie(name, vectors):
    program = npu_timing.program(name, "msfp-a10", load_sku())
    sent = sum(program.tensors[index].vectors for index in program.output_tensors)
    assert (input_vectors(program), sent) == vectors


def test_groups_larger_than_the_matrix_registers_load_their_weights_for_each_band():
    layers = timed("ssd_vgg300", "bw-cnn-a10").layers
    again = {layer.name: layer.loaded_bytes // layer.weight_bytes for layer in layers if layer.macs}
    assert set(again.values()) == {1, 4}
    assert {name.split("/")[0] for name, times in again.items() if times > 1} == {"conv4"}


def test_outputs_are_sent_when_they_are_made():
    program = npu_timing.program("ssd_vgg300", "msfp-a10", load_sku())
    events = [event for event in timeline(program) if event.track is Track.HOST_OUT]
    computed = max(event.start + event.cycles for event in timeline(program) if event.track is Track.MATRIX)
    assert len(events) == len(program.outputs) == 11
    assert sum(event.start < computed for event in events) >= 8
