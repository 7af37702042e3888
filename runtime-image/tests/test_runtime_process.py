"""`accel-runtime` as a container runs it: environment, TLS, logs, SIGTERM."""

import json
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import grpc
import pytest
from accel import PredictionClient
from accel.tfs.messages import PredictRequest
from accel.tfs.services import PREDICTION_SERVICE, Stub
from runtime_harness import DeviceProcess, Packed, jpeg, until

KEY = "do-not-log-this-key"


def certificate(folder: Path, name: str) -> bytes:
    """Write a self-signed certificate for 127.0.0.1 as a Secret is mounted; return it."""
    folder.mkdir(exist_ok=True)
    command = [
        "openssl",
        "req",
        "-x509",
        "-newkey",
        "ec",
        "-pkeyopt",
        "ec_paramgen_curve:prime256v1",
        "-nodes",
    ]
    files = ["-keyout", str(folder / "new.key"), "-out", str(folder / "new.crt")]
    subject = ["-days", "2", "-subj", f"/CN={name}", "-addext", "subjectAltName=IP:127.0.0.1"]
    subprocess.run(command + files + subject, check=True, capture_output=True)
    (folder / "new.key").replace(folder / "tls.key")
    (folder / "new.crt").replace(folder / "tls.crt")
    return (folder / "tls.crt").read_bytes()


class Container:
    """The process and what it has logged."""

    def __init__(self, environment: dict[str, str], log: Path) -> None:
        self.log = log
        with log.open("wb") as stream:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "accel_runtime.main"],
                env={**os.environ, "OMP_NUM_THREADS": "1", "GRPC_VERBOSITY": "NONE", **environment},
                stderr=stream,
            )

    def lines(self) -> list[dict[str, Any]]:
        return [json.loads(line) for line in self.log.read_text().splitlines()]

    def wait_for(self, message: str) -> dict[str, Any]:
        """Return the first log line with this message."""

        def find() -> dict[str, Any] | None:
            return next((line for line in self.lines() if line["message"] == message), None)

        found: dict[str, Any] = until(find, what=lambda: message)
        return found

    def terminate(self) -> int:
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(timeout=60)


@contextmanager
def container(environment: dict[str, str], log: Path) -> Iterator[Container]:
    running = Container(environment, log)
    try:
        yield running
    finally:
        running.process.kill()
        running.process.wait()


def environment(packed: Packed, device: DeviceProcess, keys: Path) -> dict[str, str]:
    keys.mkdir()
    (keys / "primary").write_text(KEY)
    return {
        "ACCEL_MODEL_DIR": str(packed.folder),
        "ACCEL_MODEL_NAME": "tiny",
        "ACCEL_KEYS_DIR": str(keys),
        "ACCEL_HOST": "127.0.0.1",
        "ACCEL_GRPC_PORT": "0",
        "ACCEL_HEALTH_PORT": "0",
        "ACCEL_METRICS_PORT": "0",
        "ACCEL_DRAIN_DELAY_SECONDS": "0",
        "FPGA_DEVICES": device.name,
        "FPGA_DEVICE_ROOT": str(device.root),
    }


def test_a_life(compiled_folder: Packed, device: DeviceProcess, tmp_path: Path) -> None:
    with container(environment(compiled_folder, device, tmp_path / "keys"), tmp_path / "log") as running:
        port = running.wait_for("serving")["port"]
        with PredictionClient("127.0.0.1", port, access_token=KEY) as client:
            answer = client.score_image(jpeg())
            assert answer.shape == (4,)
            assert client.last_call.device_id == "fpga0"
        with (
            PredictionClient("127.0.0.1", port, access_token="another-key") as client,
            pytest.raises(grpc.RpcError),
        ):
            client.score_image(jpeg())
        (tmp_path / "keys" / "primary").write_text("rotated-key")
        with PredictionClient("127.0.0.1", port, access_token="rotated-key") as client:
            client.score_image(jpeg())
        assert running.terminate() == 0
        messages = [line["message"] for line in running.lines()]
        assert messages[-2:] == ["draining", "stopped"]
        text = running.log.read_text()
        assert not any(key in text for key in (KEY, "another-key", "rotated-key"))
        assert until(lambda: not device_is_owned(device))


def device_is_owned(device: DeviceProcess) -> bool:
    from npu.device.client import DeviceClient

    return bool(DeviceClient(device.socket).info()["owner"])


def test_tls_is_reloaded_without_a_restart(
    compiled_folder: Packed, device: DeviceProcess, tmp_path: Path
) -> None:
    tls = tmp_path / "tls"
    first = certificate(tls, "first")
    given = environment(compiled_folder, device, tmp_path / "keys") | {"ACCEL_TLS_DIR": str(tls)}
    with container(given, tmp_path / "log") as running:
        port = running.wait_for("serving")["port"]

        def client(roots: bytes) -> PredictionClient:
            return PredictionClient(
                "127.0.0.1", port, use_ssl=True, access_token=KEY, root_certificates=roots
            )

        with client(first) as old:
            old.score_image(jpeg())
            second = certificate(tls, "second")
            with client(second) as new:
                new.score_image(jpeg())
            old.score_image(jpeg())  # its connection lives on
            (tls / "tls.crt").write_text("no certificate")
            with client(second) as new:
                new.score_image(jpeg())  # the last good one stays
        with grpc.insecure_channel(f"127.0.0.1:{port}") as plain, pytest.raises(grpc.RpcError) as refused:
            Stub(plain, PREDICTION_SERVICE)["Predict"](PredictRequest(), timeout=5)
        assert refused.value.code() is grpc.StatusCode.UNAVAILABLE
        assert running.terminate() == 0


CANNOT_START = {
    # name: (change of the environment, words of the log)
    "no model": ({"ACCEL_MODEL_DIR": "/nowhere"}, "is this an AccelImage"),
    "no certificate": ({"ACCEL_TLS_DIR": "/nowhere"}, "the Secret needs tls.crt and tls.key"),
    "a wrong setting": ({"ACCEL_AUTH": "no"}, "ACCEL_AUTH"),
}


@pytest.mark.parametrize("port", ["ACCEL_GRPC_PORT", "ACCEL_HEALTH_PORT", "ACCEL_METRICS_PORT"])
def test_a_port_in_use(compiled_folder: Packed, device: DeviceProcess, tmp_path: Path, port: str) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        given = environment(compiled_folder, device, tmp_path / "keys") | {port: str(taken.getsockname()[1])}
        with container(given, tmp_path / "log") as running:
            assert running.process.wait(timeout=60) == 1
            assert "cannot be opened" in running.wait_for("cannot serve")["error"]


@pytest.mark.parametrize("name", CANNOT_START)
def test_what_cannot_start_says_why(
    compiled_folder: Packed, device: DeviceProcess, tmp_path: Path, name: str
) -> None:
    change, words = CANNOT_START[name]
    given = environment(compiled_folder, device, tmp_path / "keys") | change
    with container(given, tmp_path / "log") as running:
        assert running.process.wait(timeout=60) == 1
        assert words in running.wait_for("cannot serve")["error"]
