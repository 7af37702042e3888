"""A card in its own process and a client of it: states, both clocks, one owner, and what survives a kill."""

import subprocess
import sys
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from device_process import DeviceProcess, picture
from npu import oracle, timing
from npu.device.client import (
    DeviceClient,
    DeviceUnavailable,
    ProgramRejected,
    Progress,
    TensorError,
)
from npu.program import Program

Start = Callable[..., DeviceProcess]


def test_computes_what_the_oracle_says(device: Start, program: Program) -> None:
    process = device()
    client = process.client()
    loaded = client.load(program.to_bytes())
    assert (loaded.digest, loaded.input_shape, loaded.output_shape) == (
        program.digest, program.input_shape, program.output_shape,
    )  # fmt: skip
    for seed in range(5):
        x = picture(program, seed)
        result = client.run(x)
        np.testing.assert_array_equal(result.output, oracle.run(program, x))
        half = x.astype(np.float16)
        np.testing.assert_array_equal(client.run(half).output, oracle.run(program, half.astype(np.float32)))
    assert result.device_id == "fpga0"
    assert result.simulated_seconds == pytest.approx(timing.estimate(program).latency_ms / 1000, rel=1e-3)
    assert result.wall_seconds > result.simulated_seconds


def test_goes_through_its_states_and_says_how_far_it_is(device: Start, program: Program) -> None:
    process = device(flash_seconds=0.6)
    client = process.client()
    assert client.info()["state"] == "golden"
    seen: list[Progress] = []
    client.load(program.to_bytes(), on_progress=seen.append)
    states = list(dict.fromkeys(str(progress.state) for progress in seen))
    assert states[:2] == ["golden", "flashing"]
    flashing = [progress for progress in seen if progress.state == "flashing"]
    assert flashing[-1].percent > flashing[0].percent
    assert 0 < flashing[-1].remaining_seconds < 0.6
    status = client.info()
    assert (status["state"], status["modelDigest"], status["owner"]) == ("ready", program.digest, True)
    assert (status["reconfigurations"], status["loads"]) == (1, 1)


def test_impatience_tells_the_progress(device: Start, program: Program) -> None:
    client = device(flash_seconds=30).client()
    with pytest.raises(DeviceUnavailable, match="not ready: flashing") as caught:
        client.load(program.to_bytes(), timeout=0.5)
    assert caught.value.progress is not None
    assert caught.value.progress.remaining_seconds > 25


def test_clocks_are_counted_apart(device: Start, program: Program) -> None:
    client = device().client()
    client.load(program.to_bytes())
    results = [client.run(picture(program)) for _ in range(4)]
    status = client.info()
    assert status["inferences"] == 4
    assert status["simulatedSeconds"] == pytest.approx(
        sum(result.simulated_seconds for result in results), rel=1e-3
    )
    assert status["wallSeconds"] == pytest.approx(sum(result.wall_seconds for result in results), rel=1e-3)


def test_flashing_and_loading_are_two_things(device: Start, program: Program, other_program: Program) -> None:
    client = device().client()
    client.load(program.to_bytes())
    client.load(other_program.to_bytes())
    client.load(other_program.to_bytes())  # is there already
    status = client.info()
    assert (status["reconfigurations"], status["loads"]) == (1, 2)
    assert status["modelDigest"] == other_program.digest
    x = picture(program)
    np.testing.assert_array_equal(client.run(x).output, oracle.run(other_program, x))


def test_load_scale_stretches_loading(device: Start, program: Program) -> None:
    seen: list[Progress] = []
    device(load_scale=1e4).client().load(program.to_bytes(), on_progress=seen.append)
    assert any(progress.state == "loading" and progress.remaining_seconds > 0.1 for progress in seen), seen


def test_one_owner_at_a_time(device: Start, program: Program) -> None:
    process = device()
    first, second = process.client(), process.client()
    first.load(program.to_bytes())
    with pytest.raises(DeviceUnavailable, match="another client owns"):
        second.load(program.to_bytes(), timeout=0.1)
    assert second.info()["state"] == "ready", "the status is for everybody"
    np.testing.assert_array_equal(
        first.run(picture(program)).output, oracle.run(program, picture(program)), "the owner was disturbed"
    )
    first.close()
    second.load(program.to_bytes())
    assert process.ask("status")["owner"]


def test_a_waiting_second_gets_the_device_when_the_first_leaves(device: Start, program: Program) -> None:
    process = device()
    first, second = process.client(), process.client()
    first.load(program.to_bytes())
    with ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(second.load, program.to_bytes())
        first.close()
        assert waiting.result(10).digest == program.digest


def test_killed_between_requests(device: Start, program: Program) -> None:
    process = device()
    client = process.client()
    client.load(program.to_bytes())
    x = picture(program)
    before = client.run(x)
    process.kill()
    with pytest.raises(DeviceUnavailable):
        client.run(x, timeout=0.2)
    process.start()
    after = client.run(x)
    np.testing.assert_array_equal(after.output, before.output)
    assert after.epoch > before.epoch
    assert client.info()["inferences"] == 1, "the new process has computed once"


def test_killed_in_the_middle_of_a_request(device: Start, slow_program: Program) -> None:
    process = device()
    client = process.client()
    client.load(slow_program.to_bytes())
    x = picture(slow_program)
    with ThreadPoolExecutor(1) as pool:
        asked = pool.submit(client.run, x, timeout=120)
        process.until_busy()
        process.kill()
        process.start()
        np.testing.assert_array_equal(asked.result(120).output, oracle.run(slow_program, x))


def test_killed_again_and_again_under_load_no_answer_is_wrong(device: Start, program: Program) -> None:
    process = device()
    client = process.client()
    client.load(program.to_bytes())
    pictures = [picture(program, seed) for seed in range(8)]
    expected = [oracle.run(program, x) for x in pictures]
    stop = threading.Event()

    def score() -> int:
        answers = 0
        while not stop.is_set():
            index = answers % len(pictures)
            np.testing.assert_array_equal(client.run(pictures[index]).output, expected[index])
            answers += 1
        return answers

    with ThreadPoolExecutor(2) as pool:
        scoring = [pool.submit(score) for _ in range(2)]
        for _ in range(3):
            process.poll("it is asked", lambda status: status["inferences"] > 20)
            process.kill()
            process.start()
        process.poll("it is asked", lambda status: status["inferences"] > 20)
        stop.set()
        assert sum(task.result(30) for task in scoring) > 60


def test_reset_takes_everything_away(device: Start, program: Program) -> None:
    process = device()
    client = process.client()
    client.load(program.to_bytes())
    first = client.run(picture(program))
    status = process.ask("reset")
    assert (status["state"], status["modelDigest"], status["owner"]) == ("golden", "", False)
    again = client.run(picture(program))  # connects, flashes and loads again
    assert again.epoch > first.epoch
    assert client.info()["reconfigurations"] == 2


def test_reset_in_the_middle_of_a_request(device: Start, slow_program: Program) -> None:
    process = device()
    client = process.client()
    client.load(slow_program.to_bytes())
    x = picture(slow_program)
    with ThreadPoolExecutor(1) as pool:
        asked = pool.submit(client.run, x, timeout=120)
        process.until_busy()
        process.ask("reset")
        np.testing.assert_array_equal(asked.result(120).output, oracle.run(slow_program, x))
    assert client.info()["inferences"] == 1, "the interrupted one is not counted"


BAD_TENSORS = {
    # name: (input, what the error says)
    "not a number": (np.full((8, 8, 3), np.nan, np.float32), "finite"),
    "infinite": (np.full((8, 8, 3), np.inf, np.float32), "finite"),
    "wrong shape": (np.zeros((8, 8, 4), np.float32), r"takes \(8, 8, 3\)"),
    "as many numbers": (np.zeros((3, 8, 8), np.float32), r"takes \(8, 8, 3\)"),
    "too small": (np.zeros((8, 4, 3), np.float16), r"takes \(8, 8, 3\)"),
    "a batch": (np.zeros((1, 8, 8, 3), np.float32), r"takes \(8, 8, 3\)"),
    "integers": (np.zeros((8, 8, 3), np.int32), "int32"),
}


@pytest.mark.parametrize(("x", "message"), BAD_TENSORS.values(), ids=BAD_TENSORS)
def test_bad_tensors_are_refused_and_the_device_goes_on(
    x: "np.ndarray[tuple[int, ...], np.dtype[np.float32]]",
    message: str,
    shared: DeviceProcess,
    program: Program,
) -> None:
    client = shared.client()
    client.load(program.to_bytes())
    with pytest.raises(TensorError, match=message):
        client.run(x)
    np.testing.assert_array_equal(client.run(picture(program)).output, oracle.run(program, picture(program)))
    client.close()


def test_bad_programs_are_rejected_and_good_ones_follow(device: Start, program: Program) -> None:
    client = device().client()
    data = program.to_bytes()
    for bad in (b"junk", data[:-1], data[:100] + b"\xff" + data[101:]):
        with pytest.raises(ProgramRejected):
            client.load(bad)
        assert client.info()["state"] == "idle"
    client.load(data)
    client.run(picture(program))


def test_without_a_device(program: Program, tmp_path: object) -> None:
    client = DeviceClient("/tmp/no-such-directory/device.sock")
    with pytest.raises(DeviceUnavailable, match="there is no device"):
        client.load(program.to_bytes(), timeout=0.05)
    with pytest.raises(DeviceUnavailable, match="there is no device"):
        client.info()


def test_the_client_imports_nothing_heavy() -> None:
    script = "import npu.device.client, sys; print(*sys.modules)"
    modules = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True
    ).stdout.split()
    assert "numpy" in modules
    heavy = {"onnx", "npu.compiler", "npu.oracle", "npu.timing", "npu.program", "asyncio"}
    assert not heavy & set(modules)
