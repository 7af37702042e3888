"""Faults, set and cleared: what the request in flight gets, what the health says, and that the card comes
back.
"""

import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import pytest
from device_process import DeviceProcess, picture
from npu import oracle
from npu.device.client import DeviceFaulted
from npu.device.faults import FAULTS
from npu.program import Program

Start = Callable[..., DeviceProcess]


@pytest.mark.parametrize("kind", FAULTS)
def test_set_and_cleared(kind: str, device: Start, program: Program) -> None:
    process = device()
    client = process.client()
    client.load(program.to_bytes())
    x = picture(program)
    for count in (1, 2):
        status = process.ask("fault", kind=kind)
        assert (status["state"], status["health"], status["faults"]) == ("faulted", "Unhealthy", count)
        assert status["reason"].startswith(FAULTS[kind].reason)
        assert status["modelDigest"] == ""
        for _ in range(2):
            with pytest.raises(DeviceFaulted, match=FAULTS[kind].reason):
                client.run(x)
        with pytest.raises(DeviceFaulted):
            client.load(program.to_bytes())
        assert "faulted" in process.ask("reset")["error"], "a reset does not cure what is still broken"
        status = process.ask("fault", kind=kind, clear=True)
        assert (status["state"], status["health"], status["reason"]) == ("golden", "Healthy", "")
        np.testing.assert_array_equal(client.run(x).output, oracle.run(program, x))


def test_temperature_fails_the_request_in_flight_at_once(device: Start, slow_program: Program) -> None:
    process = device(wait_seconds=60)
    client = process.client()
    client.load(slow_program.to_bytes())
    with ThreadPoolExecutor(1) as pool:
        asked = pool.submit(client.run, picture(slow_program))
        process.until_busy()
        assert process.ask("fault", kind="temperature")["temperatureC"] == 105.0
        with pytest.raises(DeviceFaulted, match="OverTemperature"):
            asked.result(30)


def test_a_hang_withholds_the_answer_until_the_driver_gives_up(device: Start, slow_program: Program) -> None:
    process = device(wait_seconds=1.5)
    client = process.client()
    client.load(slow_program.to_bytes())
    with ThreadPoolExecutor(1) as pool:
        asked = pool.submit(client.run, picture(slow_program))
        process.until_busy()
        injected = time.monotonic()
        process.ask("fault", kind="hang")
        with pytest.raises(DeviceFaulted, match=r"no completion for 1.5 s \(code 31"):
            asked.result(30)
        assert time.monotonic() - injected > 1.4
    assert process.ask("status")["inferences"] == 0


def test_a_hang_that_ends_lets_the_request_be_asked_again(device: Start, slow_program: Program) -> None:
    process = device(wait_seconds=60)
    client = process.client()
    client.load(slow_program.to_bytes())
    x = picture(slow_program)
    with ThreadPoolExecutor(1) as pool:
        asked = pool.submit(client.run, x, timeout=120)
        process.until_busy()
        process.ask("fault", kind="hang")
        process.ask("fault", kind="hang", clear=True)
        np.testing.assert_array_equal(asked.result(120).output, oracle.run(slow_program, x))


def test_both_faults_must_end(device: Start) -> None:
    process = device()
    process.ask("fault", kind="hang")
    process.ask("fault", kind="temperature")
    assert process.ask("fault", kind="hang", clear=True)["state"] == "faulted"
    assert process.ask("fault", kind="temperature", clear=True)["state"] == "golden"


def test_a_fault_while_flashing(device: Start, program: Program) -> None:
    process = device(flash_seconds=30)
    client = process.client()
    with ThreadPoolExecutor(1) as pool:
        loading = pool.submit(client.load, program.to_bytes())
        process.until("it flashes", lambda status: status["state"] == "flashing")
        process.ask("fault", kind="temperature")
        with pytest.raises(DeviceFaulted):
            loading.result(10)
    assert process.ask("fault", kind="temperature", clear=True)["state"] == "golden"


CONTROL_ERRORS = {
    # name: (request, what the error says)
    "no such fault": ({"op": "fault", "kind": "flood"}, "there are temperature, hang"),
    "clear is a word": ({"op": "fault", "kind": "hang", "clear": "yes"}, "true or false"),
    "kind is a list": ({"op": "fault", "kind": ["hang"]}, "unknown fault"),
    "no such op": ({"op": "melt"}, "there are status, watch, reset, fault"),
    "op is a list": ({"op": []}, "unknown op"),
}


@pytest.mark.parametrize(("asked", "message"), CONTROL_ERRORS.values(), ids=CONTROL_ERRORS)
def test_control_refusals(asked: dict[str, Any], message: str, shared: DeviceProcess) -> None:
    assert message in shared.ask(**asked)["error"]
    assert shared.ask("status")["health"] == "Healthy"
