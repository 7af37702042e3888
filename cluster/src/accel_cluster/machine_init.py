"""Process 1 of a machine: makes its namespaces, starts its services, keeps them running, buries orphans.

Runs as a script of its own, with nothing but the standard library and everything imported before the file
system changes under it: `python -I machine_init.py SPEC` enters the cluster's network and cgroup and becomes
`unshare`, which runs `python -I machine_init.py SPEC --init` as process 1 of the new namespaces. SPEC is a
`machine.Spec` as JSON.
"""

import contextlib
import ctypes
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

CLONE_NEWNET = 0x40000000
HOST_NETWORK_FD = 9  # where a service that asks for it finds the host's network namespace
FIRST_DELAY_S, LAST_DELAY_S, STABLE_S = 0.5, 8.0, 20.0


def launch(spec: dict[str, Any], arguments: list[str]) -> None:
    """Enter the cgroup and the cluster's network, then become `unshare` with process 1 as its child."""
    for place in spec["cgroups"]:
        Path(place).write_text(str(os.getpid()))
    host_network = os.open("/proc/self/ns/net", os.O_RDONLY)
    os.set_inheritable(host_network, True)
    enter_network(os.open(spec["netns"], os.O_RDONLY))
    namespaces = ["--mount", "--propagation", "slave", "--pid", "--fork", "--kill-child", "--uts", "--ipc"]
    if spec["interface"]:
        namespaces.append("--net")
    init = [sys.executable, "-I", *arguments, "--init", str(host_network)]
    os.execvp("unshare", ["unshare", *namespaces, "--", *init])


def init(spec: dict[str, Any], host_network: int) -> None:
    """Set the machine up as process 1 and serve until killed."""
    os.set_inheritable(host_network, False)
    pid = int(Path("/proc/self").readlink().name)  # /proc is still the host's, so this is the host's number
    started = Path("/proc/self/stat").read_text().rpartition(")")[2].split()[19]
    _write(Path(spec["record"]), {"pid": pid, "started": started, "ready": False})
    if spec["interface"]:
        connect(spec["interface"], spec["netns"])
    if spec["var"]:
        own_files(spec)
    run("mount", "-t", "proc", "-o", "nosuid,nodev,noexec", "proc", "/proc")
    for name, value in spec["sysctls"].items():
        pretend(name, value)
    if spec["var"]:
        # Volumes that a pod mounts must show in other pods; nothing may show on, or change, the host.
        run("mount", "-o", "remount,bind,ro", "/")
        run("mount", "--make-rshared", "/")
    run("hostname", spec["hostname"])
    services = [Service(service, host_network) for service in spec["services"]]
    for service in services:
        service.start()
    # The same file, whose path has another beginning since the machine has its own /var.
    _write(Path(spec["record_inside"]), {"pid": pid, "started": started, "ready": True})
    supervise(services)


def connect(interface: dict[str, str], netns: str) -> None:
    """Give this machine its `eth0`: one end of a cable whose other end is in the cluster's bridge."""
    outside = ["nsenter", f"--net={netns}", "ip", "link"]
    cable = interface["cable"]
    # "netns 1": the kernel takes the number in the asking program's process namespace, where this process is
    # 1.
    for _ in range(100):  # the kernel takes the cable of a machine that was just killed away a little later
        made = subprocess.run(
            [*outside, "add", cable, "type", "veth", "peer", "name", "eth0", "netns", "1"],
            check=False, capture_output=True, text=True,
        )  # fmt: skip
        if made.returncode == 0:
            break
        subprocess.run([*outside, "delete", cable], check=False, capture_output=True)
        time.sleep(0.1)
    else:
        raise RuntimeError(f"cannot make the link {cable}: {made.stderr}")
    run(*outside, "set", cable, "master", interface["bridge"], "up")
    for command in (
        "link set lo up",
        f"address add {interface['address']} dev eth0",
        "link set eth0 up",
        f"route add default via {interface['gateway']}",
    ):
        run("ip", *command.split())
    Path("/proc/sys/net/ipv4/ip_forward").write_text("1")


def own_files(spec: dict[str, Any]) -> None:
    """Give this machine its own /var, /tmp, /run and name files; the rest is the host's, read-only."""
    var = Path(spec["var"])
    for source, target in spec["binds"]:
        (var / target).mkdir(parents=True, exist_ok=True)
        run("mount", "--bind", source, str(var / target))
    for folder in ("tmp", "log"):
        (var / folder).mkdir(exist_ok=True)
    (var / "tmp").chmod(0o1777)
    if not (var / "run").is_symlink():
        (var / "run").symlink_to("/run")
    run("mount", "--rbind", str(var), "/var")
    run("mount", "--bind", "/var/tmp", "/tmp")
    run("mount", "-t", "tmpfs", "-o", "mode=755,nosuid,nodev", "tmpfs", "/run")
    for file, content in spec["files"].items():
        own = Path("/run/files") / Path(file).name
        own.parent.mkdir(exist_ok=True)
        own.write_text(content)
        target = Path(os.path.realpath(file))
        if not target.exists():  # a link into /run, as systemd-resolved makes it
            target.parent.mkdir(parents=True, exist_ok=True)
            target.touch()
        run("mount", "--bind", str(own), str(target))


def pretend(name: str, value: str) -> None:
    """Show `value` for a setting of the whole host's kernel: the kubelet would otherwise change it there."""
    place = Path("/proc/sys") / name
    if place.exists():
        own = Path("/run/sysctl") / name.replace("/", ".")
        own.parent.mkdir(exist_ok=True)
        own.write_text(f"{value}\n")
        run("mount", "--bind", str(own), str(place))


class Service:
    """One program that runs as long as the machine does."""

    def __init__(self, spec: dict[str, Any], host_network: int) -> None:
        self.spec, self.host_network = spec, host_network
        self.pid, self.started, self.delay = 0, 0.0, FIRST_DELAY_S
        self.due: float | None = None

    def start(self) -> None:
        """Start the program with its output appended to its log."""
        argv = self.spec["argv"]
        flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND
        actions: list[Any] = [
            (os.POSIX_SPAWN_OPEN, 0, "/dev/null", os.O_RDONLY, 0),
            (os.POSIX_SPAWN_OPEN, 1, self.spec["log"], flags, 0o644),
            (os.POSIX_SPAWN_DUP2, 1, 2),
        ]
        if self.spec["host_network"]:
            actions.append((os.POSIX_SPAWN_DUP2, self.host_network, HOST_NETWORK_FD))
        environment = {**os.environ, **self.spec["environment"]}
        self.due, self.started = None, time.monotonic()
        try:
            # The empty mask: `supervise` blocks SIGCHLD, which a program would inherit.
            self.pid = os.posix_spawn(
                argv[0], argv, environment, file_actions=actions, setsid=True, setsigmask=[]
            )
        except OSError as error:
            print(f"{self.spec['name']}: {error}", file=sys.stderr, flush=True)
            self.ended(-1)

    def ended(self, status: int) -> None:
        """Note the end, and when it is due again: at once if it was stable, else ever later."""
        now = time.monotonic()
        self.pid = 0
        self.delay = FIRST_DELAY_S if now - self.started > STABLE_S else min(self.delay * 2, LAST_DELAY_S)
        self.due = now + self.delay
        print(
            f"{self.spec['name']}: ended with status {status}, again in {self.delay} s",
            file=sys.stderr,
            flush=True,
        )


def supervise(services: list[Service]) -> None:
    """Reap every child that ends, and start services again when they are due."""
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGCHLD})
    while True:
        with contextlib.suppress(ChildProcessError):
            while True:
                pid, status = os.waitpid(-1, os.WNOHANG)
                if pid == 0:
                    break
                for service in services:
                    if service.pid == pid:
                        service.ended(os.waitstatus_to_exitcode(status))
        now = time.monotonic()
        for service in services:
            if service.due is not None and service.due <= now:
                service.start()
        waits = [service.due - now for service in services if service.due is not None]
        signal.sigtimedwait({signal.SIGCHLD}, max(0.01, min([5.0, *waits])))


def enter_network(fd: int) -> None:
    """Move this process into a network namespace (os.setns is Python 3.12's)."""
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.setns(fd, CLONE_NEWNET) != 0:
        raise OSError(ctypes.get_errno(), "setns")


def run(*argv: str) -> None:
    """Run a program that must succeed."""
    subprocess.run(argv, check=True, stdin=subprocess.DEVNULL)


def _write(path: Path, content: dict[str, Any]) -> None:
    partial = path.with_suffix(".part")
    partial.write_text(json.dumps(content))
    partial.rename(path)


def main() -> None:
    """Be the launcher or, told so, process 1."""
    spec = json.loads(Path(sys.argv[1]).read_text())
    if "--init" in sys.argv:
        init(spec, int(sys.argv[-1]))
    else:
        launch(spec, sys.argv[:2])


if __name__ == "__main__":
    main()
