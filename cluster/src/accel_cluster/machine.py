"""Machines: groups of processes in namespaces of their own that start, die and start again as computers do.

Every node is one, and so is the hub, which runs the control plane in the cluster's network. A machine lives
as long as its process 1 (`machine_init`): whoever kills that kills the machine.
"""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path

from accel_cluster import cgroups, machine_init, network
from accel_cluster.commands import SYSTEM_PATH
from accel_cluster.errors import Failed, Refused
from accel_cluster.settings import Settings

START_S = 30.0
ENTER_S = 5.0  # until it is in its cgroup; one that is not there by then has died
LOG_LIMIT = 64 << 20  # bytes; a longer log starts anew with the machine


@dataclass(frozen=True)
class Service:
    """A program that process 1 keeps running."""

    name: str
    argv: tuple[str, ...]
    environment: dict[str, str] = field(default_factory=dict)
    host_network: bool = False  # hand it the host's network namespace as file descriptor 9


@dataclass(frozen=True)
class Spec:
    """What a machine is made of. Paths in `services` are as the machine sees them."""

    name: str
    services: tuple[Service, ...]
    interface: dict[str, str] | None = (
        None  # cable, bridge, address, gateway; None: in the cluster's own network
    )
    var: Path | None = None  # its own /var; None: the host's files as they are
    binds: tuple[tuple[str, str], ...] = ()  # (folder on the host, folder below /var)
    files: dict[str, str] = field(default_factory=dict)  # files of the host it sees with other content
    sysctls: dict[str, str] = field(
        default_factory=dict
    )  # settings of the host's kernel it sees with other values


@dataclass(frozen=True)
class Machine:
    """One machine of a cluster, running or not."""

    settings: Settings
    name: str

    @property
    def folder(self) -> Path:
        """Its part of the cluster's state."""
        return self.settings.state / "machines" / self.name

    @property
    def cgroup(self) -> str:
        """Its cgroup; its pods' cgroups lie below."""
        return f"{self.settings.cgroup}/{self.name}"

    @property
    def logs(self) -> Path:
        """The folder of its services' logs."""
        return self.folder / "log"

    @property
    def record(self) -> Path:
        """Where its process 1 says who it is."""
        return self.folder / "run" / "init.json"

    def pid(self) -> int | None:
        """Return the host's pid of its process 1, or None if it does not run."""
        try:
            record = json.loads(self.record.read_text())
            stat = Path(f"/proc/{record['pid']}/stat").read_text().rpartition(")")[2].split()
        except (OSError, ValueError):
            return None
        same = stat[19] == record["started"] and stat[0] != "Z"  # a pid alone may be somebody else's by now
        return int(record["pid"]) if same and record["ready"] else None

    def start(self, spec: Spec) -> None:
        """Start it and wait until its services have been started; nothing happens if it runs."""
        if self.pid() is not None:
            return
        self.kill()  # what an earlier life left
        for folder in (self.logs, self.record.parent):
            folder.mkdir(parents=True, exist_ok=True)
        cgroup = f"{self.cgroup}/{cgroups.DAEMONS}"
        cgroups.ensure(cgroup)
        services = [
            {**asdict(service), "log": str(self._log(service.name, spec))} for service in spec.services
        ]
        given = {
            **asdict(spec),
            "var": str(spec.var) if spec.var else "",
            "services": services,
            "hostname": spec.name,
            "netns": str(network.path(self.settings)),
            "cgroups": [str(root / cgroup / "cgroup.procs") for root in cgroups.hierarchies()],
            "record": str(self.record),
            "record_inside": f"/var/lib/accel/run/{self.record.name}" if spec.var else str(self.record),
        }
        path = self.folder / "spec.json"
        path.write_text(json.dumps(given, indent=1))
        log = self.folder / "init.log"
        with log.open("w") as output:
            # `setsid --fork` gives it to the host's process 1: here it is nobody's child to wait for.
            subprocess.run(
                ["setsid", "--fork", sys.executable, "-I", machine_init.__file__, str(path)],
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                cwd="/",
                env={"PATH": SYSTEM_PATH, "HOME": "/root", "LANG": "C.UTF-8"},
                check=True,
            )
        started = time.monotonic()
        while self.pid() is None:
            waited = time.monotonic() - started
            if waited > START_S or (waited > ENTER_S and not cgroups.members(cgroup)):
                raise Failed(f"machine {self.name} does not start:\n{log.read_text()[-2000:]}")
            time.sleep(0.02)

    def kill(self) -> None:
        """SIGKILL everything on it at once, as a power cut does; its files stay."""
        pid = self.pid()
        if pid is not None:
            os.kill(pid, signal.SIGKILL)
        self.record.unlink(missing_ok=True)
        if cgroups.exists(self.cgroup):
            cgroups.kill(self.cgroup)
            cgroups.remove(self.cgroup)  # its pods' too: the kubelet would look for their containers

    def enter(self, argv: Sequence[str]) -> list[str]:
        """Return the words that run `argv` on the machine."""
        pid = self.pid()
        if pid is None:
            raise Refused(f"{self.name} does not run; start it first")
        places = " ".join(
            str(root / self.cgroup / cgroups.DAEMONS / "cgroup.procs") for root in cgroups.hierarchies()
        )
        join = f'for place in {places}; do echo $$ > "$place"; done; exec "$@"'
        namespaces = ["--mount", "--uts", "--ipc", "--net", "--pid", "--root", "--wd"]
        return ["sh", "-c", join, "sh", "nsenter", "--target", str(pid), *namespaces, "--", *argv]

    def _log(self, service: str, spec: Spec) -> Path:
        """Return the log's path as the machine sees it, which is below its own /var if it has one."""
        log = self.logs / f"{service}.log"
        if log.exists() and log.stat().st_size > LOG_LIMIT:
            log.unlink()
        return Path("/var/lib/accel/log") / log.name if spec.var else log
