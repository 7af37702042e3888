"""Process 1 of a machine, cgroups, binaries: the parts that need no root."""

import os
import sys
import time
from pathlib import Path

import pytest
from accel_cluster import cgroups, cleaning, cli, packages, toolchain, traces
from accel_cluster.errors import Refused
from accel_cluster.machine import Machine
from accel_cluster.machine_init import FIRST_DELAY_S, LAST_DELAY_S, Service
from accel_cluster.settings import Settings


def service(log: Path, *argv: str) -> Service:
    spec = {
        "name": "test",
        "argv": list(argv),
        "environment": {"SAID": "yes"},
        "log": str(log),
        "host_network": False,
    }
    return Service(spec, host_network=-1)


def test_a_service_runs_with_its_environment_and_log(tmp_path: Path) -> None:
    made = service(tmp_path / "log", "/bin/sh", "-c", "echo out $SAID; echo err >&2; exit 3")
    made.start()
    _, status = os.waitpid(made.pid, 0)
    assert os.waitstatus_to_exitcode(status) == 3
    assert (tmp_path / "log").read_text() == "out yes\nerr\n"


def test_a_service_that_keeps_ending_is_started_ever_later(tmp_path: Path) -> None:
    made = service(tmp_path / "log", "/nonexistent/program")
    delays = []
    for _ in range(8):
        made.start()  # cannot be started: counts as ended at once
        assert made.pid == 0
        delays.append(made.delay)
    assert delays == sorted(delays)
    assert delays[-1] == LAST_DELAY_S


def test_a_stable_service_is_started_again_at_once(tmp_path: Path) -> None:
    made = service(tmp_path / "log", "/bin/true")
    made.delay, made.started = LAST_DELAY_S, time.monotonic() - 3600
    made.ended(-9)
    assert made.delay == FIRST_DELAY_S


STATES = {
    # name: what its record says -> whether that is this process
    "runs": ('{{"pid": {pid}, "started": "{started}", "ready": true}}', True),
    "not set up yet": ('{{"pid": {pid}, "started": "{started}", "ready": false}}', False),
    "pid is somebody else's by now": ('{{"pid": {pid}, "started": "1", "ready": true}}', False),
    "half a record": ('{{"pid": ', False),
}


@pytest.mark.parametrize(("record", "runs"), STATES.values(), ids=STATES)
def test_a_machine_is_known_by_pid_and_start_time(
    record: str, runs: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Settings, "state", tmp_path)
    machine = Machine(Settings(), "m")
    machine.record.parent.mkdir(parents=True)
    started = Path("/proc/self/stat").read_text().rpartition(")")[2].split()[19]
    machine.record.write_text(record.format(pid=os.getpid(), started=started))
    assert machine.pid() == (os.getpid() if runs else None)


def test_a_machine_that_does_not_run_cannot_be_entered() -> None:
    with pytest.raises(Refused, match="does not run; start it first"):
        Machine(Settings(name="nosuch"), "m").enter(["true"])


@pytest.fixture
def tree(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder that looks like a hierarchy of version 1 with a cpuset controller."""
    (tmp_path / "cpuset.cpus").write_text("0-3\n")
    monkeypatch.setattr(cgroups, "hierarchies", lambda: [tmp_path])
    return tmp_path


def test_a_cpuset_is_filled_from_its_parent(tree: Path) -> None:
    (tree / "a").mkdir()
    (tree / "a/cpuset.cpus").write_text("\n")
    cgroups.ensure("a")
    assert (tree / "a/cpuset.cpus").read_text() == "0-3\n"


def test_members_are_found_at_every_depth(tree: Path) -> None:
    (tree / "a/pods/pod").mkdir(parents=True)
    (tree / "a/cgroup.procs").write_text("")
    (tree / "a/pods/pod/cgroup.procs").write_text("12\n0\n13\n")
    (tree / "b").mkdir()
    (tree / "b/cgroup.procs").write_text("99\n")
    assert cgroups.members("a") == {12, 13}


def test_an_interrupted_removal_is_taken_up_again(tmp_path: Path) -> None:
    state = tmp_path / "state"
    (state / "deep" / "er").mkdir(parents=True)
    (state / "link").symlink_to(sys.prefix)
    (state / "cluster.json").touch()
    cleaning.remove_tree(state, last="cluster.json")
    assert not state.exists()
    assert Path(sys.prefix).is_dir(), "links are removed, not followed"


def test_binaries_are_keyed_by_their_sources(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "module").mkdir()
    monkeypatch.setattr(toolchain, "SOURCES", tmp_path)

    def key(source: str, flags: str = "") -> str:
        (tmp_path / "module/main.go").write_text(source)
        build = toolchain.Build("module", "title", (".",), ("program",), flags=flags)
        return build.folder.name

    assert key("a") == key("a")
    assert len({key("a"), key("b"), key("a", "-X x=y")}) == 3


def test_no_registry_host_is_named() -> None:
    sources = Path(toolchain.__file__).parent.rglob("*")
    words = [f"proxy.golang.{'org'}", f"pypi.{'org'}", f"registry.k8s.{'io'}"]
    named = [
        path
        for path in sources
        if path.suffix in {".py", ".yaml", ".go"}
        for w in words
        if w in path.read_text()
    ]
    assert not named


def test_services_are_kept_from_starting_during_an_installation(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    policy = tmp_path / "policy-rc.d"
    monkeypatch.setattr(packages, "POLICY", policy)
    with packages.no_services():
        assert os.access(policy, os.X_OK)
        assert "exit 101" in policy.read_text()
    assert not policy.exists()
    policy.write_text("the machine's own\n")
    with packages.no_services():
        assert policy.read_text() == "the machine's own\n"
    assert policy.exists()


def test_only_what_was_added_counts_as_a_trace() -> None:
    before = {"links": ["eth0", "lo"], "mounts": ["/"]}
    after = {"links": ["lo", "ve-1"], "mounts": ["/"]}
    assert traces.difference(before, after) == {"links": ["ve-1"]}


COMMANDS = {
    "up": (["up"], {"command": "up"}),
    "node": (["node", "kill", "worker"], {"command": "node", "action": "kill", "name": "worker"}),
    "exec": (["node", "exec", "worker", "--", "ls", "-l"], {"action": "exec", "argv": ["ls", "-l"]}),
    "push": (["push", "x.tar", "a/b:1"], {"image": Path("x.tar"), "name": "a/b:1"}),
}


@pytest.mark.parametrize(("argv", "expected"), COMMANDS.values(), ids=COMMANDS)
def test_commands(argv: list[str], expected: dict[str, object]) -> None:
    asked = vars(cli.parser().parse_args(argv))
    assert {name: asked[name] for name in expected} == expected
