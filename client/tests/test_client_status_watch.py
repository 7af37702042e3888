"""`kubectl accel status --watch`: changes only, an API server that is away, Ctrl-C."""

import json
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

import pytest
from accel.status import watch
from client_harness import Cluster
from status_samples import DONE_MODEL, model, put, waits

DURATIONS = {"90": 90, "90s": 90, "10m": 600, "1h30m": 5400, "0.5s": 0.5}


@pytest.mark.parametrize("text", DURATIONS)
def test_durations(text: str) -> None:
    assert watch.seconds_of(text) == DURATIONS[text]


@pytest.mark.parametrize("text", ["", "soon", "m", "1d"])
def test_no_durations(text: str) -> None:
    with pytest.raises(ValueError, match="no duration"):
        watch.seconds_of(text)


@contextmanager
def watching(*arguments: str) -> Iterator[subprocess.Popen[str]]:
    program = str(Path(sys.executable).with_name("kubectl-accel"))
    # A shell in the background has its children ignore Ctrl-C; the one in these tests is a user's.
    command = ["env", "--default-signal=INT", program, "status", "net", *arguments]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        yield process


def line_of(stream: IO[str] | None) -> str:
    assert stream is not None
    return stream.readline()


UNTIL = ("--until-ready", "--timeout", "60s", "-o", "json")
CHANGED = {**DONE_MODEL, "metadata": {**DONE_MODEL["metadata"], "resourceVersion": "2"}}


def test_watching_prints_changes_only_and_ends_when_ready(cluster: Cluster) -> None:
    put(cluster, model(waits("Fetching", "fetching the source")))
    with watching(*UNTIL) as process:
        first = json.loads(line_of(process.stdout))
        put(cluster, CHANGED)
        second = json.loads(line_of(process.stdout))
        rest = process.communicate()
    assert (process.returncode, *rest) == (0, "", "")
    assert [found["objects"][0]["state"] for found in (first, second)] == ["Working", "Ready"]


def test_watching_outlives_the_api_server_and_says_so_once(cluster: Cluster) -> None:
    put(cluster, model(waits("Fetching", "fetching the source")))
    with watching(*UNTIL) as process:
        line_of(process.stdout)
        cluster.broken("The connection to the server was refused")
        assert line_of(process.stderr) == "The connection to the server was refused; asked again\n"
        put(cluster, CHANGED)
        cluster.broken("")
        assert json.loads(line_of(process.stdout))["ready"]
        assert process.communicate() == ("", "")
    assert process.returncode == 0


def test_ctrl_c_ends_watching_without_a_word(cluster: Cluster) -> None:
    put(cluster, DONE_MODEL)
    with watching("--watch") as process:
        assert line_of(process.stdout).startswith("--- 20")
        process.send_signal(signal.SIGINT)
        _, error = process.communicate()
    assert (process.returncode, error) == (130, "")
