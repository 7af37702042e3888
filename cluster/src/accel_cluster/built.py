"""The cluster that this package builds itself, where there is no container engine: `up`, `down`, all between.

Every step of `up` looks at what is there and does what is missing, so it resumes, repairs and repeats. `down`
relies on no bookkeeping beyond the cluster's name: what is in its cgroup, its network namespace or its state
folder is its own, because `up` refuses to begin where one of these exists and is not.
"""

import contextlib
import fcntl
import json
import os
import signal
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from accel_cluster import (
    addons,
    cgroups,
    cleaning,
    health,
    hub,
    network,
    nodes,
    packages,
    progress,
    toolchain,
    traces,
    transport,
)
from accel_cluster.api import Api
from accel_cluster.commands import run
from accel_cluster.errors import Failed, Refused
from accel_cluster.pki import Pki
from accel_cluster.provider import Provider
from accel_cluster.settings import REGISTRY, Node, Settings
from accel_cluster.toolchain import Binaries

LAYOUT = 1  # of the state folder; raised when an older `up` left something that this one cannot go on with
READY_S = 180.0
POLL_S = 0.25
SIGNALS = {"freeze": signal.SIGSTOP, "thaw": signal.SIGCONT, "kill": signal.SIGKILL}


class Built(Provider):
    """Three machines of namespaces on this host."""

    registry: str | None = REGISTRY

    def __init__(self, wanted: Settings) -> None:
        self.settings = _recorded(wanted) or wanted
        self.name = self.settings.name
        self.nodes = tuple(node.name for node in self.settings.nodes)

    @property
    def kubeconfig(self) -> Path:
        """The administrator's kubeconfig; it exists once the cluster does."""
        return self.settings.kubeconfig

    def program(self, name: str) -> Path:
        """Return the path of a built program."""
        return toolchain.ensure()[name]

    def up(self) -> None:
        """Bring everything up that is not."""
        _require_root()
        packages.ensure()
        binaries = toolchain.ensure()
        with self._alone():
            self._claim()
            network.ensure(self.settings)
            pki = Pki(self.settings.state / "pki")
            pki.ensure_authority()
            api = self._start_hub(binaries, pki)
            with ThreadPoolExecutor() as parallel:  # images travel while the API server gets ready
                pushed = parallel.submit(self._push_own_images, binaries)
                self._await("the API server", api.is_ready)
                pushed.result()
            with progress.step("starting the nodes"):
                for node in self.settings.nodes:
                    self._start_node(node, binaries, pki)
            with progress.step("applying cluster DNS and the default StorageClass"):
                kubectl = [str(binaries["kubectl"]), f"--kubeconfig={self.kubeconfig}"]
                apply = "apply --server-side --force-conflicts --field-manager=accel-cluster -f -"
                run([*kubectl, *apply.split()], stdin=addons.manifests())
            first = self.settings.nodes[0]
            self._await(f"{first.name} to register", lambda: first.name in health.node_states(api))
            role = "node-role.kubernetes.io/control-plane="
            run([*kubectl, "label", "--overwrite", "node", first.name, role])
            self._await("the nodes and cluster DNS", lambda: not health.unready(self.settings, api))

    def down(self) -> None:
        """Remove everything, in whatever state it is; what is not there is no error."""
        _require_root()
        with self._alone():
            if not self.settings.state.exists():
                progress.say(f"no cluster {self.name!r} here")
                return
            with progress.step(f"removing the cluster {self.name!r}"):
                cgroups.kill(self.settings.cgroup)
                network.remove(self.settings, folder_too=self._made_netns_folder())
                cgroups.remove(self.settings.cgroup)
                cleaning.remove_tree(self.settings.state, last="cluster.json")
                with contextlib.suppress(OSError):  # another cluster's state is there as well
                    self.settings.state.parent.rmdir()

    def status(self) -> list[tuple[str, str, bool]]:
        """Return every part's state, also of a cluster that is half there or not at all."""
        rows = [("network namespace", self.settings.netns, network.exists(self.settings))]
        rows.append(("hub", *_process(hub.machine(self.settings).pid())))
        ready: dict[str, bool] = {}
        try:
            api = Api(self.kubeconfig)
            rows.append(("API server", f"https://127.0.0.1:{self.settings.api_host_port}", api.is_ready()))
            ready = health.node_states(api)
            unready = [part for part in health.unready(self.settings, api) if "/" in part]
            rows.append(("cluster DNS, storage", ", ".join(unready) or "available", not unready))
        except (Failed, OSError) as error:
            rows.append(("API server", f"{error}", False))
        for node in self.settings.nodes:
            text, runs = _process(nodes.machine(self.settings, node).pid())
            state = "Ready" if ready.get(node.name) else "not Ready" if node.name in ready else "unknown"
            rows.append((node.name, f"{state}, {node.address}, {text}", runs and state == "Ready"))
        return rows

    def push(self, source: Path, reference: str) -> str:
        """Push an image into the cluster's registry; return the reference to use in pods."""
        full = reference if reference.startswith(f"{REGISTRY}/") else f"{REGISTRY}/{reference}"
        transport.copy(source, f"docker://{full}", network.inside(self.settings))
        return full

    def kill(self, node: str) -> None:
        """SIGKILL every process of the node."""
        nodes.machine(self.settings, self.settings.node(node)).kill()

    def start(self, node: str) -> None:
        """Start the node with what it had on its disk; return when its new kubelet has called it Ready."""
        wanted = self.settings.node(node)
        api, before = Api(self.kubeconfig), time.time()
        if not self._start_node(wanted, toolchain.ensure(), Pki(self.settings.state / "pki")):
            return
        self._await(f"{wanted.name} to be Ready", lambda: health.is_ready_since(wanted.name, before, api))

    def restart_kubelet(self, node: str) -> None:
        """SIGKILL the kubelet; process 1 of the node starts it again."""
        api, before = Api(self.kubeconfig), time.time()
        run(self.enter(node, ["sh", "-c", 'kill -9 "$(pidof kubelet)"']))
        self._await(f"{node} to be Ready", lambda: health.is_ready_since(node, before, api))

    def control_plane(self, action: str, part: str) -> None:
        """Send the signal to the hub's processes of that name, and to nobody else's."""
        machine = hub.machine(self.settings)
        pids = [pid for pid in cgroups.members(machine.cgroup) if _program(pid) == part]
        if not pids:
            raise Refused(f"no {part} runs on the hub of {self.name!r}")
        for pid in pids:
            os.kill(pid, SIGNALS[action])

    def enter(self, node: str, argv: Sequence[str]) -> list[str]:
        """Return the words that run `argv` on the node, with its own programs on the PATH."""
        path = f"PATH={nodes.search_path(toolchain.binaries())}"
        return nodes.machine(self.settings, self.settings.node(node)).enter(["env", path, *argv])

    def _claim(self) -> None:
        """Make the state folder that marks everything of this name as ours, or refuse and say why."""
        record = self.settings.state / "cluster.json"
        if record.exists():
            known = json.loads(record.read_text())
            if known["layout"] != LAYOUT:
                raise Refused(f"the cluster {self.name!r} was made by another version: run `down` first")
            progress.say(f"── taking up the cluster {self.name!r} (first made from {known['made_from']})")
            return
        clashes = []
        if network.exists(self.settings):
            clashes.append(
                f"network namespace {self.settings.netns!r} exists and is not ours (`ip netns list`)"
            )
        if cgroups.exists(self.settings.cgroup):
            clashes.append(f"cgroup {self.settings.cgroup!r} exists and is not ours")
        self._refuse([*clashes, *self._taken_ports()])
        before = traces.take(self.settings)
        self.settings.state.mkdir(parents=True, exist_ok=True, mode=0o700)
        (self.settings.state / "before.json").write_text(json.dumps(before))
        ports = {
            "api_host_port": self.settings.api_host_port,
            "registry_host_port": self.settings.registry_host_port,
            "first_node_port": self.settings.first_node_port,
        }
        known = {"layout": LAYOUT, "made_from": str(Path(__file__).resolve().parents[2]), "ports": ports}
        partial = record.with_suffix(".part")
        partial.write_text(json.dumps(known))
        partial.rename(record)

    def _taken_ports(self) -> list[str]:
        if taken := network.taken_ports(self.settings.host_ports):
            return [f"ports taken on 127.0.0.1: {network.ranges(taken)} (`ss -ltnp` says by whom)"]
        return []

    @staticmethod
    def _refuse(clashes: list[str]) -> None:
        if clashes:
            raise Refused("this host is in use for something else:\n  " + "\n  ".join(clashes))

    def _made_netns_folder(self) -> bool:
        """Return whether /run/netns was no mount before this cluster came."""
        try:
            before: traces.Traces = json.loads((self.settings.state / "before.json").read_text())
        except (OSError, ValueError):
            return False
        return not any(line.split()[1] == str(network.FOLDER) for line in before["mounts"])

    def _start_hub(self, binaries: Binaries, pki: Pki) -> Api:
        machine = hub.machine(self.settings)
        if machine.pid() is None:
            machine.kill()  # a rest of it, which may hold the ports
            self._refuse(self._taken_ports())
            with progress.step("starting the control plane"):
                machine.start(hub.spec(self.settings, binaries, pki))
        server = f"https://127.0.0.1:{self.settings.api_host_port}"
        if not self.kubeconfig.exists():
            partial = self.kubeconfig.with_suffix(".part")
            pki.kubeconfig("admin", "/O=system:masters/CN=admin", server, partial, self.name).rename(
                self.kubeconfig
            )
        return Api(self.kubeconfig)

    def _start_node(self, node: Node, binaries: Binaries, pki: Pki) -> bool:
        """Start a node that does not run, and return whether it had to be; a running one keeps its files."""
        machine = nodes.machine(self.settings, node)
        if machine.pid() is not None:
            return False
        machine.start(nodes.spec(self.settings, node, binaries, pki))
        return True

    def _push_own_images(self, binaries: Binaries) -> None:
        enter = network.inside(self.settings)
        transport.await_registry(REGISTRY, enter)
        for image in addons.images(binaries):
            if not transport.exists(image.name, enter):
                transport.copy(addons.layout(image), f"docker://{image.name}", enter)

    def _await(self, what: str, condition: Callable[[], bool]) -> None:
        """Wait until `condition` holds; answers that fail meanwhile count as no."""
        deadline = time.monotonic() + READY_S
        with progress.step(f"waiting for {what}"):
            while True:
                with contextlib.suppress(Failed):
                    if condition():
                        return
                if time.monotonic() > deadline:
                    raise Failed(
                        f"{what}: not within {READY_S:.0f} s. `python -m accel_cluster status` shows parts, "
                        f"{self.settings.state}/machines/*/log/ holds their logs; `up` tries again"
                    )
                time.sleep(POLL_S)

    @contextlib.contextmanager
    def _alone(self) -> Iterator[None]:
        """Let one `up` or `down` of this cluster work at a time."""
        lock = Path("/run/lock") / f"accel-cluster-{self.name}.lock"
        while True:
            file = lock.open("w")
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                with progress.step(f"waiting for another command on the cluster {self.name!r}"):
                    fcntl.flock(file, fcntl.LOCK_EX)
            # Whoever had it may have removed the file meanwhile: then this lock is on nothing.
            if lock.exists() and os.path.samestat(lock.stat(), os.fstat(file.fileno())):
                break
            file.close()
        try:
            yield
        finally:
            lock.unlink()
            file.close()


def _recorded(wanted: Settings) -> Settings | None:
    """Return the settings of the cluster of that name that exists; its ports may not be those wanted."""
    try:
        known = json.loads((wanted.state / "cluster.json").read_text())
    except (OSError, ValueError):
        return None
    return Settings(name=wanted.name, **known["ports"])


def _require_root() -> None:
    if os.geteuid() != 0:
        raise Refused("namespaces, cgroups and mounts need root: run this as root")


def _program(pid: int) -> str:
    """Return the name of a process's program, or nothing once it has ended."""
    try:
        return Path(f"/proc/{pid}/comm").read_text().strip()
    except OSError:
        return ""


def _process(pid: int | None) -> tuple[str, bool]:
    return (f"process {pid}", True) if pid else ("does not run", False)
