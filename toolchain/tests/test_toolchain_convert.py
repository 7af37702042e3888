"""The confining parent: how the child's end becomes a condition, and that no child reaches the network.

Each case runs in a process of its own, because the filter cannot be taken off again.
"""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from accel_toolchain import convert
from accel_toolchain.workspace import Workspace, write_note

Make = Callable[..., str]

RUN = """
import os, sys
from accel_toolchain import cli, convert
child = sys.argv[1]
if child:
    convert._CHILD[:] = [sys.executable, "-c", child]
sys.exit(cli.main(["convert"]))
"""

LEAVE = "import json, os; from accel_toolchain.workspace import *; work = Workspace.from_environment();"

CASES = {
    # name: (what the child does, exit code, reason, what the message says)
    "result": (LEAVE + "write_note(work.outcome, {'ok': True})", 0, None, ""),
    "own condition": (
        LEAVE
        + "write_note(work.outcome, {'ok': False, 'reason': 'UnknownTensor', 'message': 'm'}); os._exit(65)",
        65,
        "UnknownTensor",
        "m",
    ),
    "out of memory, told by the child": (
        LEAVE
        + "write_note(work.outcome, {'ok': False, 'reason': 'OOMKilled', 'message': 'm'}); os._exit(65)",
        137,
        "OOMKilled",
        "spec.conversion.limits.memory",
    ),
    "native code that got no memory": (
        "import os; print('terminate called after throwing: std::bad_alloc', flush=True); os.abort()",
        137,
        "OOMKilled",
        "spec.conversion.limits.memory",
    ),
    "crash": ("import os; os.abort()", 65, "ConversionFailed", "SIGABRT"),
    "exit without a result": ("import sys; sys.exit(3)", 65, "ConversionFailed", "exit code 3"),
    "success without a result": ("pass", 65, "ConversionFailed", "no result"),
    "killed, but not for memory": ("import os; os.kill(os.getpid(), 9)", 65, "ConversionFailed", "SIGKILL"),
    "a link as the result": (
        LEAVE + "os.symlink('/etc/hostname', work.outcome)",
        65,
        "ConversionFailed",
        "no result",
    ),
    "TCP": (
        "import socket; socket.create_connection(('127.0.0.1', 80))",
        65,
        "ConversionFailed",
        "exit code 1",
    ),
}


def run(child: str, text: str, work: Workspace) -> tuple[int, dict[str, object], str]:
    environment = {
        **os.environ,
        "ACCEL_JOB": text,
        "ACCEL_WORK": str(work.root),
        "ACCEL_TERMINATION_LOG": str(work.root / "termination"),
    }
    done = subprocess.run(
        [sys.executable, "-c", RUN, child], env=environment, capture_output=True, text=True, timeout=120
    )
    return done.returncode, json.loads((work.root / "termination").read_text()), done.stdout + done.stderr


@pytest.mark.parametrize(("child", "code", "reason", "message"), CASES.values(), ids=CASES)
def test_the_childs_end(
    child: str, code: int, reason: str | None, message: str, convert_job: Make, work: Workspace
) -> None:
    write_note(work.source_note, {"sha256": "0" * 64, "known": False})
    status, result, output = run(child, convert_job(), work)
    assert status == code, output
    assert result["ok"] is (code == 0)
    assert result.get("reason") == reason
    assert message in str(result.get("message", ""))
    assert "Traceback" not in str(result.get("message", ""))


def test_a_child_that_tries_the_network_is_refused_and_its_trace_is_in_the_log(
    convert_job: Make, work: Workspace
) -> None:
    write_note(work.source_note, {"sha256": "0" * 64, "known": False})
    status, _, output = run("import socket; socket.create_connection(('127.0.0.1', 80))", convert_job(), work)
    assert status == 65
    assert "PermissionError" in work.log.read_text()
    assert "PermissionError" in output, "the container's own log has it too"


def test_a_known_version_starts_no_child(convert_job: Make, work: Workspace) -> None:
    write_note(work.source_note, {"sha256": "0" * 64, "known": True})
    status, result, output = run("import os; os.abort()", convert_job(), work)
    assert (status, result["ok"]) == (0, True), output


def test_register_only_keeps_the_source_and_opens_nothing(convert_job: Make, work: Workspace) -> None:
    work.source.mkdir()
    (work.source / "model.bin").write_bytes(b"anything")
    write_note(work.source_note, {"sha256": "0" * 64, "known": False})
    status, _, output = run("", convert_job(mode="RegisterOnly"), work)
    assert status == 0, output
    assert (work.artifact / "source" / "model.bin").read_bytes() == b"anything"
    document = json.loads((work.artifact / "model.json").read_text())
    assert document["graph"] == {
        "pre": None,
        "program": None,
        "post": None,
        "deviceInput": "",
        "deviceOutput": "",
    }


def test_a_malformed_job_is_a_condition_too(work: Workspace) -> None:
    for text in ("", "{}", '{"schema": "accel.dev/convert-job/v9"}'):
        status, result, _ = run("", text, work)
        assert (status, result["reason"]) == (65, "InvalidJob")


KILLS = {
    # name: (files of a cgroup, kills)
    "version 2": ({"memory.events": "low 0\noom 3\noom_kill 2\n"}, 2),
    "version 1": ({"memory/memory.oom_control": "oom_kill_disable 0\nunder_oom 0\noom_kill 1\n"}, 1),
    "neither": ({}, None),
}


@pytest.mark.parametrize(("files", "kills"), KILLS.values(), ids=KILLS)
def test_the_kernels_count_of_kills(files: dict[str, str], kills: int | None, tmp_path: Path) -> None:
    for name, content in files.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(content)
    assert convert._oom_kills(tmp_path) == kills


def test_a_kill_for_memory_is_told_from_another(work: Workspace, monkeypatch: pytest.MonkeyPatch) -> None:
    for before, after, reason in ((0, 1, "OOMKilled"), (1, 1, "ConversionFailed"), (None, None, "OOMKilled")):
        monkeypatch.setattr(convert, "_oom_kills", lambda after=after: after)
        failure = convert._failure(-signal.SIGKILL, work, before)
        assert failure is not None
        assert failure.reason == reason
