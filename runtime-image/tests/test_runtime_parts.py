"""The small parts: settings, keys, the CPU limit, admission, logs."""

import json
import logging
import os
import sys
from pathlib import Path

import pytest
from accel_runtime.admission import Admission
from accel_runtime.errors import Overloaded, SettingsError
from accel_runtime.keys import KeyRing, presented_keys
from accel_runtime.logs import JsonFormatter
from accel_runtime.sessions import cpu_limit
from accel_runtime.settings import Settings


def test_the_environment_of_a_pod() -> None:
    settings = Settings.from_environment(
        {
            "ACCEL_MODEL_NAME": "resnet50",
            "ACCEL_MODEL_VERSION": "v3",
            "ACCEL_TLS_DIR": "/var/run/accel/tls",
            "FPGA_DEVICES": "fpga1,fpga0",
            "FPGA_DEVICE_ROOT": "/run/fpga",
        }
    )
    assert settings.model_version == 3
    assert settings.auth
    assert settings.tls_dir == Path("/var/run/accel/tls")
    assert settings.socket == Path("/run/fpga/fpga1/device.sock")


def test_no_environment_at_all() -> None:
    settings = Settings.from_environment({})
    assert settings == Settings()
    assert settings.socket is None
    assert settings.auth


WRONG_SETTINGS = {
    "auth": {"ACCEL_AUTH": "off"},
    "a number": {"ACCEL_MODEL_VERSION": "latest"},
    "a negative number": {"ACCEL_MAX_REQUESTS": "-1"},
    "a port": {"ACCEL_GRPC_PORT": "70000"},
    "seconds": {"ACCEL_HOLD_SECONDS": "long"},
    "seconds without end": {"ACCEL_DRAIN_GRACE_SECONDS": "inf"},
}


@pytest.mark.parametrize("environment", WRONG_SETTINGS.values(), ids=WRONG_SETTINGS)
def test_wrong_settings_name_the_variable(environment: dict[str, str]) -> None:
    with pytest.raises(SettingsError, match=next(iter(environment))):
        Settings.from_environment(environment)


METADATA = {
    # name: (metadata, keys)
    "raw": ([("authorization", "k1")], ["k1"]),
    "bearer": ([("authorization", "Bearer k1")], ["k1"]),
    "lower case": ([("authorization", "bearer k1")], ["k1"]),
    "empty": ([("authorization", "")], []),
    "bearer without a key": ([("authorization", "Bearer ")], []),
    "two": ([("authorization", "k1"), ("authorization", "Bearer k2")], ["k1", "k2"]),
    "another header": ([("x-api-key", "k1")], []),
}


@pytest.mark.parametrize("name", METADATA)
def test_presented_keys(name: str) -> None:
    metadata, keys = METADATA[name]
    assert presented_keys(metadata) == keys


def test_two_keys_and_no_third(tmp_path: Path) -> None:
    (tmp_path / "primary").write_text("k1\n")
    (tmp_path / "secondary").write_text("k2")
    ring = KeyRing(tmp_path)
    assert [ring.admits([key]) for key in ("k1", "k2", "k3", "")] == ["primary", "secondary", None, None]


def test_a_rotated_key_counts_at_the_next_call(tmp_path: Path) -> None:
    """The way the kubelet does it: a symlink to a new folder takes the old one's place."""
    for name, key in (("old", "k1"), ("new", "k9")):
        (tmp_path / name).mkdir()
        (tmp_path / name / "primary").write_text(key)
    (tmp_path / "data").symlink_to("old")
    (tmp_path / "primary").symlink_to("data/primary")
    ring = KeyRing(tmp_path)
    assert ring.admits(["k1"])
    (tmp_path / "next").symlink_to("new")
    (tmp_path / "next").replace(tmp_path / "data")
    assert ring.admits(["k9"])
    assert not ring.admits(["k1"])


def test_no_key_file_admits_nobody_until_it_comes(tmp_path: Path) -> None:
    ring = KeyRing(tmp_path / "keys")
    assert ring.empty
    assert not ring.admits(["", "k1"])
    (tmp_path / "keys").mkdir()
    (tmp_path / "keys" / "secondary").write_text("k1")
    assert ring.admits(["k1"]) == "secondary"


QUOTAS = {
    # name: (files of a cgroup folder, cores on a machine with two)
    "v2": ({"cpu.max": "50000 100000"}, 0.5),
    "v2 without a limit": ({"cpu.max": "max 100000"}, 2.0),
    "v2 above the machine": ({"cpu.max": "800000 100000"}, 2.0),
    "v1": ({"cpu/cpu.cfs_quota_us": "150000", "cpu/cpu.cfs_period_us": "100000"}, 1.5),
    "v1 without a limit": ({"cpu/cpu.cfs_quota_us": "-1", "cpu/cpu.cfs_period_us": "100000"}, 2.0),
    "no cgroup": ({}, 2.0),
}


@pytest.mark.parametrize("name", QUOTAS)
def test_cpu_limit(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, name: str) -> None:
    files, cores = QUOTAS[name]
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {0, 1})
    for path, text in files.items():
        (tmp_path / path).parent.mkdir(exist_ok=True)
        (tmp_path / path).write_text(text)
    assert cpu_limit(tmp_path) == cores


def test_admission_says_when_to_come_back() -> None:
    depths: list[int] = []
    admission = Admission(2, 100, depths.append)
    for _ in range(200):
        admission.computed(0.010)
    with admission.enter(1), admission.enter(1):
        with pytest.raises(Overloaded, match="about 20 ms") as refused, admission.enter(1):
            pass
        assert refused.value.retry_after_ms == 20
    assert depths == [1, 2, 1, 0]


def test_admission_counts_bytes_too() -> None:
    admission = Admission(9, 100, lambda _depth: None)
    alone = admission.enter(101)  # anything that the message limit lets in is computed
    with alone, pytest.raises(Overloaded, match="1 requests of 101 bytes"), admission.enter(1):
        pass
    with admission.enter(50), admission.enter(50), pytest.raises(Overloaded), admission.enter(1):
        pass


def test_logs_are_json_with_the_extra_fields() -> None:
    logger = logging.getLogger("accel_runtime.test")
    record = logger.makeRecord("x", logging.INFO, "f", 1, "hé %s", ("y",), None, extra={"port": 8500})
    line = json.loads(JsonFormatter().format(record))
    assert line.pop("time").endswith("+00:00")
    assert line == {"level": "info", "logger": "x", "message": "hé y", "port": 8500}


def test_logs_carry_exceptions() -> None:
    try:
        raise KeyError("gone")
    except KeyError:
        info = sys.exc_info()
    record = logging.LogRecord("x", logging.ERROR, "f", 1, "failed", (), info)
    assert "KeyError: 'gone'" in json.loads(JsonFormatter().format(record))["exception"]
