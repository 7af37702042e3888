"""`kubectl accel status` as a command; its kubectl is a program that knows the test's objects."""

import pytest
from client_harness import Cluster, run
from status_samples import (
    BUSY,
    CONVERT_JOB,
    DONE_IMAGE,
    DONE_MODEL,
    DONE_SERVICE,
    RUNNING,
    SERVES,
    condition,
    model,
    put,
    waits,
)


def test_the_command_reads_with_two_calls(cluster: Cluster) -> None:
    put(cluster, DONE_MODEL, DONE_IMAGE, DONE_SERVICE, SERVES)
    done = run("status", "net", "-n", "demo")
    assert (done.returncode, done.stderr) == (0, "")
    assert "pod net-1  serves     a/fpga0, Healthy" in done.stdout
    assert len(cluster.calls()) == 2


def test_the_command_shows_the_log_of_what_runs(cluster: Cluster) -> None:
    put(cluster, *BUSY.objects.values(), CONVERT_JOB, RUNNING)
    cluster.log("net-j-x", "accel: exported 3 of 5 steps")
    done = run("status", "net")
    assert done.returncode == 1
    assert "exported 3 of 5 steps" in done.stdout
    cluster.log("net-j-x", "accel: reading \x1b]0;title\x07")
    assert "reading ?]0;title?" in run("status", "net").stdout, "a log does not steer the terminal"
    cluster.deny("logs", "events")
    assert "you may not list events, get pods/log." in run("status", "net").stdout


EXITS = {
    # name: (arguments, code, words on standard error)
    "no object": (["nobody"], 2, "is named 'nobody'"),
    "no kind": (["pods/nobody"], 2, "unknown kind 'pods'"),
    "a name and -A": (["net", "-A"], 2, "leave out the name"),
    "nothing to wait for": (["--until-ready"], 2, "name it"),
    "no duration": (["net", "--until-ready", "--timeout", "soon"], 2, "write 90s, 10m or 1h30m"),
    "a timeout alone": (["net", "--timeout", "1m"], 2, "belongs to --watch"),
    "not ready in time": (["busy", "--until-ready", "--timeout", "0s"], 1, "error: not Ready within 0 s\n"),
    "a person must act": (["bad", "--until-ready"], 1, "not become Ready by itself: mend FpgaModel bad\n"),
    "ready": (["net", "--until-ready"], 0, ""),
}  # fmt: skip


@pytest.mark.parametrize("name", EXITS)
def test_exit_codes(cluster: Cluster, name: str) -> None:
    arguments, code, said = EXITS[name]
    put(
        cluster,
        DONE_MODEL,
        model(waits("Converting", "converting"), name="busy"),
        model(waits("BadSource", "fix it"), condition("Stalled", "True", "BadSource", "fix it"), name="bad"),
    )
    done = run("status", *arguments)
    assert done.returncode == code, done.stderr
    assert said in done.stderr
    assert len(done.stderr.splitlines()) == (1 if said else 0)
    if code == 1:
        assert done.stdout.count("BadSource: fix it") + done.stdout.count("Converting: converting") == 1


def test_no_right_at_all(cluster: Cluster) -> None:
    cluster.deny("fpgamodels.accel.dev", "accelimages.accel.dev", "accelservices.accel.dev")
    done = run("status")
    assert done.returncode == 2
    assert "you may not list fpgamodels, list accelimages, list accelservices: ask for" in done.stderr


def test_the_table_of_nothing(cluster: Cluster) -> None:
    done = run("status")
    assert (done.returncode, done.stdout) == (
        0,
        "No FpgaModel, AccelImage or AccelService in this namespace (-A looks in all).\n",
    )
