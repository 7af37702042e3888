"""The timeline file: valid trace events, nothing at the same time on one track, sums that equal the estimate."""

import json
from collections import defaultdict
from functools import cache
from itertools import pairwise

import pytest
from npu import cli, timing, trace
from npu.compiler import compile_model
from npu.sku import load_sku
from npu.timing import Track
from npu.timing.plan import costs_of


@cache
def compiled(net):
    n = net((1, 3, 20, 20))
    x = n.pool(n.relu(n.bn(n.conv("x", 64, pads=[1, 1, 1, 1]))))
    for channels in (256, 512, 384):
        x = n.relu(n.bn(n.conv(x, channels, pads=[1, 1, 1, 1])))
    return compile_model(n.model(x)).program


@pytest.fixture
def program(net):
    """More than 128 tiles, so that weights come from DRAM, and every stall."""
    return compiled(net)


def read(program, sku):
    estimate = timing.estimate(program, sku)
    text = trace.render(program, sku, estimate, timing.timeline(program, sku))
    return estimate, json.loads(text)


def test_a_trace_is_what_viewers_read_and_adds_up(program):
    sku = load_sku()
    estimate, document = read(program, sku)
    events = document["traceEvents"]
    named = {e["tid"]: e["args"]["name"] for e in events if e["name"] == "thread_name"}
    assert set(named.values()) == {track.value for track in Track}
    tracks = defaultdict(list)
    for event in events:
        assert event["ph"] in ("X", "M")
        assert event["pid"] == 1
        if event["ph"] == "X":
            assert event["dur"] > 0 <= event["ts"]
            assert event["ts"] * sku.clock_hz / 1e6 == pytest.approx(event["args"]["start_cycle"])
            tracks[named[event["tid"]]].append((event["args"]["start_cycle"], event["args"]["cycles"]))
    for spans in tracks.values():
        assert all(start + cycles <= after for (start, cycles), (after, _) in pairwise(spans))
    spent = {track: sum(cycles for _, cycles in tracks[track.value]) for track in Track}
    layers = estimate.layers
    assert spent[Track.MATRIX] == sum(layer.mvm_cycles for layer in layers)
    assert spent[Track.ISSUE] == sum(layer.issue_cycles for layer in layers)
    assert spent[Track.DRAM] == sum(layer.dram_cycles for layer in layers)
    assert spent[Track.DRAM] > 0
    waits = sum(layer.total_cycles - layer.mvm_cycles for layer in layers)
    assert spent[Track.WAIT] == waits
    host = spent[Track.HOST_IN] + spent[Track.HOST_OUT]
    assert host / sku.clock_hz * 1e3 == pytest.approx(estimate.host_ms)
    ends = [start + cycles for start, cycles in tracks[Track.HOST_OUT.value]]
    assert ends[-1] / sku.clock_hz * 1e3 == pytest.approx(estimate.latency_ms)
    assert {e["name"] for e in events if e.get("cat") == "multiply"} == set(program.chain_names)


def test_estimates_add_up(program):
    estimate = timing.estimate(program)
    cycles = sum(layer.total_cycles for layer in estimate.layers)
    assert cycles / load_sku().clock_hz * 1e3 == pytest.approx(estimate.device_ms)
    for layer in estimate.layers:
        busy = max(layer.mvm_cycles, layer.issue_cycles)
        assert layer.total_cycles >= busy + layer.dram_stall + layer.latency_stall
        assert 0 <= layer.utilisation <= layer.padded_utilisation <= 1
        assert layer.loaded_bytes == layer.weight_bytes
    assert sum(estimate.critical_path.values()) == pytest.approx(estimate.latency_ms)
    assert estimate.latency_ms >= max(estimate.compute_ms, estimate.issue_ms, estimate.dram_ms / 2)
    assert 1e3 / estimate.inferences_per_second <= estimate.latency_ms
    assert estimate.bottleneck in program.chain_names
    assert max(layer.initial_vrf for layer in estimate.layers) == estimate.initial_vrf
    assert max(layer.addsub_vrf_1 for layer in estimate.layers) == estimate.addsub_vrf_1


def test_each_load_is_an_instruction(program):
    sku = load_sku()
    issued = sum(layer.issue_cycles for layer in timing.estimate(program).layers)
    demanded = sum(cost.issue for cost in costs_of(program, sku))
    assert len(program.loads) > 3
    assert issued == demanded + len(program.loads) * sku.issue_cycles


def test_files_on_the_command_line(program, tmp_path, capsys):
    path = tmp_path / "device.npu"
    path.write_bytes(program.to_bytes())
    trace_file, picture = tmp_path / "trace.json", tmp_path / "roofline.svg"
    arguments = [
        "estimate",
        str(path),
        "--format",
        "json",
        "--trace",
        str(trace_file),
        "--roofline",
        str(picture),
    ]
    assert cli.main(arguments) == 0
    told = json.loads(capsys.readouterr().out, parse_constant=pytest.fail)
    assert json.loads(trace_file.read_text())["otherData"]["latencyMs"] == told["latency_ms"]
    assert picture.read_text().startswith("<svg")
    assert cli.main(["estimate", str(path), "--trace", str(tmp_path / "absent" / "x.json")]) == 1
    assert "absent" in capsys.readouterr().err


def test_machines_for_timing_only_are_timed(net, tmp_path, capsys):
    path, n = tmp_path / "small.onnx", net((1, 3, 16, 16))
    x = n.relu(n.bn(n.conv("x", 64, pads=[1, 1, 1, 1])))
    path.write_bytes(n.model(n.conv(x, 500)).SerializeToString())
    tiles = {}
    for sku in ("bw-cnn-a10", "bw-s10", "bw-s5"):
        assert cli.main(["estimate", str(path), "--sku", sku, "--format", "json"]) == 0
        tiles[sku] = json.loads(capsys.readouterr().out)["tiles"]
    assert tiles == {"bw-cnn-a10": 2 + 9 * 4, "bw-s10": 1 + 9 * 2, "bw-s5": 2 + 9 * 5}
    assert cli.main(["compile", str(path), "--sku", "bw-s10", "--output", str(tmp_path)]) == 0
    capsys.readouterr()
    assert cli.main(["estimate", str(tmp_path / "device.npu"), "--format", "json"]) == 0  # on its own machine
    assert json.loads(capsys.readouterr().out)["sku"] == "bw-s10"
    assert cli.main(["estimate", str(path), "--sku", "bw-s5", "--precision", "msfp12"]) == 1
    assert "boxes of 16 numbers, which do not fill vectors of 100" in capsys.readouterr().err


def test_a_program_for_another_native_dimension_is_refused(program, tmp_path, capsys):
    path = tmp_path / "device.npu"
    path.write_bytes(program.to_bytes())
    assert cli.main(["estimate", str(path), "--sku", "bw-s10"]) == 1
    assert (
        "native dimension of 128; the SKU bw-s10 has 400. Compile the model for bw-s10"
        in capsys.readouterr().err
    )
