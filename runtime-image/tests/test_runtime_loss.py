"""The device dies, breaks and returns: requests wait or get UNAVAILABLE, none gets a wrong answer."""

import json
import socket
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import grpc
import numpy as np
import pytest
from accel.tfs import tensors
from accel.tfs.messages import PredictRequest
from accel.tfs.services import PREDICTION_SERVICE, Stub
from grpc_health.v1 import health_pb2, health_pb2_grpc
from numpy.typing import NDArray
from runtime_harness import DeviceProcess, Packed, RunningServer, jpeg, local_settings, strings, until

SEEDS = range(6)
SERVING, NOT_SERVING = health_pb2.HealthCheckResponse.SERVING, health_pb2.HealthCheckResponse.NOT_SERVING


def score(channel: Any, seed: int, timeout: float = 60) -> NDArray[Any]:
    request = PredictRequest()
    request.inputs["images"].CopyFrom(tensors.to_proto(strings(jpeg(seed))))
    response = Stub(channel, PREDICTION_SERVICE)["Predict"](request, timeout=timeout)
    return tensors.from_proto(response.outputs["output_alias"])


def readiness(running: RunningServer) -> int:
    with grpc.insecure_channel(f"127.0.0.1:{running.server.health_port}") as channel:
        check = health_pb2.HealthCheckRequest(service="ready")
        return int(health_pb2_grpc.HealthStub(channel).Check(check).status)


def control(device: DeviceProcess, **command: Any) -> dict[str, Any]:
    with socket.socket(socket.AF_UNIX) as connection, connection.makefile("rw") as lines:
        connection.connect(str(device.control))
        lines.write(json.dumps(command) + "\n")
        lines.flush()
        answer: dict[str, Any] = json.loads(lines.readline())
        return answer


def test_kill_9_loses_no_request_and_gives_no_wrong_answer(
    compiled_folder: Packed, device: DeviceProcess
) -> None:
    with RunningServer(local_settings(compiled_folder.folder, device)) as running:
        running.wait_ready()
        with grpc.insecure_channel(f"127.0.0.1:{running.server.port}") as channel:
            expected = {seed: score(channel, seed) for seed in SEEDS}
            stop, done = threading.Event(), threading.Semaphore(0)

            def keep_scoring(seed: int) -> int:
                count = 0
                while not stop.is_set():
                    np.testing.assert_array_equal(score(channel, seed), expected[seed])
                    count += 1
                    done.release()
                return count

            with ThreadPoolExecutor(len(SEEDS)) as pool:
                scoring = [pool.submit(keep_scoring, seed) for seed in SEEDS]
                for _ in range(2):
                    for _ in range(30):
                        assert done.acquire(timeout=60)
                    device.kill()
                    device.start()
                until(lambda: readiness(running) == SERVING)
                for _ in range(30):
                    assert done.acquire(timeout=60)
                stop.set()
                counts = [future.result() for future in scoring]
        assert min(counts) > 0, counts


def test_a_device_that_stays_away(compiled_folder: Packed, device: DeviceProcess) -> None:
    with RunningServer(local_settings(compiled_folder.folder, device)) as running:
        running.wait_ready()
        with grpc.insecure_channel(f"127.0.0.1:{running.server.port}") as channel:
            score(channel, 0)
            device.kill()
            began = time.monotonic()
            with pytest.raises(grpc.RpcError) as lost:
                score(channel, 0, timeout=1.0)
            assert lost.value.code() is grpc.StatusCode.UNAVAILABLE, lost.value.details()
            assert 0.7 < time.monotonic() - began < 1.0, "held within the deadline, answered before its end"
            until(lambda: readiness(running) == NOT_SERVING)
            device.start()
            until(lambda: readiness(running) == SERVING)
            score(channel, 0)
            assert running.server.metrics.device_losses.collect()[0].samples[0].value == 1


@pytest.mark.parametrize("kind", ["temperature", "hang"])
def test_a_device_that_breaks_and_is_mended(
    compiled_folder: Packed, device: DeviceProcess, kind: str
) -> None:
    with RunningServer(local_settings(compiled_folder.folder, device)) as running:
        running.wait_ready()
        with grpc.insecure_channel(f"127.0.0.1:{running.server.port}") as channel:
            expected = score(channel, 0)
            control(device, op="fault", kind=kind, clear=False)
            with pytest.raises(grpc.RpcError) as broken:
                score(channel, 0, timeout=6)
            assert broken.value.code() is grpc.StatusCode.UNAVAILABLE, broken.value.details()
            until(lambda: readiness(running) == NOT_SERVING)
            control(device, op="fault", kind=kind, clear=True)
            until(lambda: readiness(running) == SERVING)
            np.testing.assert_array_equal(score(channel, 0), expected)
