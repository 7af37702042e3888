"""The card that a model is compiled for: what fits, what is told of it, and that old versions keep their keys."""

import json
from collections.abc import Callable
from typing import Any

import numpy as np
import onnx
import pytest
from accel_toolchain import jobs, results
from accel_toolchain.conditions import Terminal
from accel_toolchain.jobs import Conversion
from accel_toolchain.offload import counted, host_reasons
from accel_toolchain.push import push
from accel_toolchain.versions import model_key
from accel_toolchain.workspace import Workspace, write_note
from onnx import helper, numpy_helper
from test_toolchain_onnx import convert, network, value
from test_toolchain_push import REPORT, leave

Make = Callable[..., str]


def wide(channels: int = 129 * 128) -> onnx.ModelProto:
    """One convolution with more output tiles than a card has room for their biases."""
    weights = numpy_helper.from_array(np.ones((channels, 3, 1, 1), np.float32), "w")
    nodes = [
        helper.make_node("Conv", ["x", "w"], ["c"]),
        helper.make_node("GlobalAveragePool", ["c"], ["p"]),
        helper.make_node("Flatten", ["p"], ["y"]),
    ]
    graph = helper.make_graph(
        nodes, "wide", [value("x", ["N", 3, 2, 2])], [value("y", ["N", channels])], [weights]
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=8)


def test_the_report_tells_the_card_and_what_stays_on_the_host(convert_job: Make, work: Workspace) -> None:
    device = convert(network(), work, convert_job())["device"]
    assert (device["sku"], device["fits"]) == ("bw-cnn-a10", True)
    assert device["latencyMs"] > 0
    assert device["inferencesPerSecond"] > 0
    assert device["boundBy"] in ("compute", "dram", "issue", "host", "latency")
    assert [entry["count"] for entry in device["hostReasons"]] == [1, 1]
    assert {entry["operator"] for entry in device["hostReasons"]} == {"GlobalAveragePool", "Flatten"}
    assert all(entry["reason"] for entry in device["hostReasons"])


def test_a_model_that_does_not_fit_its_card_is_refused(convert_job: Make, work: Workspace) -> None:
    with pytest.raises(Terminal, match="does not fit") as raised:
        convert(wide(), work, convert_job())
    assert raised.value.reason == "DoesNotFit"
    assert raised.value.message.startswith("spec.conversion.sku: ")
    assert "addsub_vrf_0 129 > 128" in raised.value.message
    assert "spec.conversion.requireFpga to false" in raised.value.message


def test_without_the_need_of_an_fpga_the_host_takes_it_over(convert_job: Make, work: Workspace) -> None:
    report = convert(wide(), work, convert_job(requireFpga=False, samples=1))
    device = report["device"]
    assert (device["sku"], device["fits"], device["hostOps"]) == ("bw-cnn-a10", False, 3)
    assert "addsub_vrf_0 129 > 128" in device["hostReasons"][0]["reason"]
    assert json.loads((work.artifact / "model.json").read_text())["graph"]["program"] is None


def test_a_card_that_this_converter_does_not_know(convert_job: Make, work: Workspace) -> None:
    with pytest.raises(Terminal, match="do not match") as raised:
        convert(network(), work, convert_job(sku="bw-z99"))
    assert raised.value.reason == "InvalidJob"


def test_what_was_made_for_the_first_card_keeps_its_key() -> None:
    said = Conversion(sku="bw-cnn-a10")
    assert model_key("1" * 64, said) == model_key("1" * 64, Conversion())
    # As release 0.1 computed it: another one would make every model of a registry again.
    first = "eb27b4bc1ea8f1669474feff71d38ad7d8d31afb788c2cd62a078627fc3ab171"
    assert model_key("1" * 64, Conversion()) == first
    assert model_key("1" * 64, Conversion(sku="bw-a10")) != model_key("1" * 64, said)


NOTED = {
    # name: (what is known of the device, the version's card)
    "a program": ({"sku": "bw-a10", "fits": True}, "bw-a10"),
    "all on the host, for it does not fit": ({"sku": "bw-a10", "fits": False}, None),
    "all on the host": (None, None),
    "an older converter": ({"fits": True, "tiles": 1}, None),
}


@pytest.mark.parametrize(("device", "sku"), NOTED.values(), ids=NOTED)
def test_a_version_tells_its_card(
    device: dict[str, Any] | None, sku: str | None, convert_job: Make, work: Workspace
) -> None:
    leave(work, "1" * 64)
    write_note(work.report, {**REPORT, "device": device})
    first = push(jobs.parse_convert(convert_job()), work)
    assert first["model"].get("sku") == sku
    again = push(jobs.parse_convert(convert_job()), work)
    assert again["versions"] == [first["model"]]


def test_reasons_are_counted_and_bounded() -> None:
    reasons = {f"Sin 'sin{number}'": "the device has no such operator" for number in range(3)}
    reasons |= {f"Op{number} 'x'": "y" * 999 for number in range(30)}
    told = host_reasons(counted(reasons))
    assert told[0] == {"operator": "Sin", "count": 3, "reason": "the device has no such operator"}
    assert len(told) == 16
    assert {len(entry["reason"]) for entry in told[1:]} == {160}


def test_a_result_without_room_loses_the_rarest_reasons_and_keeps_the_figures() -> None:
    device = {
        "fits": True,
        "tiles": 5,
        "hostReasons": host_reasons(counted({f"Op{n} 'x'": "ä" * 300 for n in range(16)})),
    }
    encoded = results.fit(results.success("push", versions=[], device=device))
    told = json.loads(encoded)["device"]
    assert len(encoded) <= results.LIMIT_BYTES
    assert (told["tiles"], told["hostReasonsCut"]) == (5, True)
    assert 0 < len(told["hostReasons"]) < 16
    assert len(device["hostReasons"]) == 16, "the report keeps them"
