"""The throw-away cluster itself, in the order of its life: it works, it survives, it goes without a trace.

Runs on the cluster that is up (or brings it up) and **removes it at the end**: the last phase of `make test`.
With ACCEL_CLUSTER_NAME and other ports (docs/cluster.md) it makes, tests and removes a second one beside it.
"""

import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TypeVar

import pytest
from accel_cluster import Cluster, Failed, cgroups, hub, network, nodes, oci, packages, settings, traces
from accel_cluster.built import Built
from pytest_kind import KindCluster

Answer = TypeVar("Answer")
NAMESPACE = "cluster-test"
BUSYBOX = "10.89.0.1:5000/cluster/busybox:1"
SPARE = {
    "ACCEL_CLUSTER_NAME": "accelspare",
    "ACCEL_CLUSTER_API_PORT": "36543",
    "ACCEL_CLUSTER_REGISTRY_PORT": "35100",
    "ACCEL_CLUSTER_NODE_PORTS": "31200",
}

pytestmark = [
    pytest.mark.skipif(os.geteuid() != 0, reason="needs root"),
    pytest.mark.skipif(
        "ACCEL_KUBECONFIG" in os.environ, reason="a cluster of the user's is not ours to test"
    ),
]


def eventually(ask: Callable[[], Answer], good: Callable[[Answer], bool], seconds: float = 90) -> Answer:
    """Ask until the answer is good; return it, or fail with the last one."""
    deadline = time.monotonic() + seconds
    answer: Answer | Exception
    while True:
        try:
            answer = ask()
            if good(answer):
                return answer
        except (Failed, OSError) as error:
            answer = error
        assert time.monotonic() < deadline, f"not within {seconds} s: {answer}"


def fetch(port: int) -> str:
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/", timeout=5) as answer:
        return str(answer.read().decode())


@pytest.fixture(scope="module")
def cluster() -> Cluster:
    """The cluster, up; removed by the last tests of this file."""
    cluster = Cluster()
    cluster.up()
    return cluster


@pytest.fixture(scope="module")
def built(cluster: Cluster) -> Built:
    if not isinstance(cluster.provider, Built):
        pytest.skip("the built cluster's inner life")
    return cluster.provider


@pytest.fixture(scope="module")
def port(built: Built) -> int:
    """The NodePort of the web service below: the last one, which nobody else is likely to want."""
    return built.settings.node_ports[-1]


@pytest.fixture(scope="module")
def kubectl(cluster: Cluster, port: int) -> Iterator[Callable[..., str]]:
    """kubectl in a namespace with a web server on each worker, a NodePort, and a client with a volume."""

    def run(*arguments: str, stdin: str | None = None) -> str:
        return cluster.run("--namespace", NAMESPACE, *arguments, stdin=stdin)

    cluster.run("create", "namespace", NAMESPACE)
    manifest = (Path(__file__).parent / "workload.yaml").read_text()
    run("apply", "-f", "-", stdin=manifest.replace("31063", str(port)))
    run("rollout", "status", "deployment/web", "--timeout=90s")
    run("wait", "--for=condition=Ready", "pod/client", "--timeout=90s")
    yield run
    with contextlib.suppress(Failed):  # gone with the cluster
        cluster.run("delete", "namespace", NAMESPACE, "--wait=false")


def test_three_nodes_share_the_machine(cluster: Cluster) -> None:
    found = json.loads(cluster.run("get", "nodes", "-o", "json"))["items"]
    assert tuple(node["metadata"]["name"] for node in found) == cluster.nodes
    tainted = [node["metadata"]["name"] for node in found if node["spec"].get("taints")]
    assert tainted == [cluster.nodes[0]], "only the control plane is kept free of users' pods"
    allocatable = [int(node["status"]["allocatable"]["memory"].removesuffix("Ki")) for node in found]
    kib = [size if size < 1 << 28 else size // 1024 for size in allocatable]  # "123" is bytes, "123Ki" KiB
    machine_kib = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") // 1024
    assert 0.5 * machine_kib < sum(kib) <= machine_kib, "the nodes together promise no more than there is"


def test_pods_find_services_by_name(kubectl: Callable[..., str]) -> None:
    assert kubectl("exec", "client", "--", "wget", "-qO-", "http://web").startswith("web-")
    full = f"http://web.{NAMESPACE}.svc.cluster.local"
    assert kubectl("exec", "client", "--", "wget", "-qO-", full).startswith("web-")


def test_a_name_outside_fails_at_once(kubectl: Callable[..., str]) -> None:
    started = time.monotonic()
    with pytest.raises(Failed, match="bad address"):
        kubectl("exec", "client", "--", "wget", "-qO-", "http://example.com")
    assert time.monotonic() - started < 10


def test_a_node_port_answers_on_the_host(kubectl: Callable[..., str], port: int) -> None:
    pods = set(kubectl("get", "pods", "-l", "app=web", "-o", "jsonpath={.items[*].metadata.name}").split())
    seen: set[str] = set()

    def ask() -> set[str]:
        seen.add(fetch(port).strip())
        return seen

    eventually(ask, lambda names: names == pods)


def test_logs_exec_and_port_forward(cluster: Cluster, kubectl: Callable[..., str]) -> None:
    assert kubectl("logs", "client") == "started\n"
    assert kubectl("exec", "-i", "client", "--", "cat", stdin="through a stream") == "through a stream"
    forward = subprocess.Popen(
        [
            cluster.kubectl,
            f"--kubeconfig={cluster.kubeconfig}",
            "-n",
            NAMESPACE,
            "port-forward",
            "svc/web",
            ":80",
        ],
        stdout=subprocess.PIPE,
        text=True,
    )
    with forward:
        assert forward.stdout is not None
        local = int(forward.stdout.readline().split()[2].rpartition(":")[2])
        assert fetch(local).startswith("web-")
        forward.terminate()


def test_a_pushed_image_runs_and_mounts(
    cluster: Cluster, kubectl: Callable[..., str], tmp_path: Path
) -> None:
    busybox = packages.busybox(settings.cache() / "busybox")
    image = oci.Image("hello", {"bin/busybox": busybox}, ["/bin/busybox", "echo", "hello"])
    oci.write_layout(image, tmp_path / "layout")
    reference = cluster.push(tmp_path / "layout", "test/hello:1")
    pod = {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": "hello"},
        "spec": {
            "restartPolicy": "Never",
            "containers": [
                {"name": "runs", "image": reference},
                {
                    "name": "mounts",
                    "image": BUSYBOX,
                    "command": ["ls", "/image/bin"],
                    "volumeMounts": [{"name": "image", "mountPath": "/image"}],
                },
            ],
            "volumes": [{"name": "image", "image": {"reference": reference}}],
        },
    }
    kubectl("apply", "-f", "-", stdin=json.dumps(pod))
    kubectl("wait", "--for=jsonpath={.status.phase}=Succeeded", "pod/hello", "--timeout=60s")
    assert kubectl("logs", "hello", "-c", "runs") == "hello\n"
    assert kubectl("logs", "hello", "-c", "mounts") == "busybox\n", (
        "an image volume, as model images are used"
    )


def test_memory_limits_bite(kubectl: Callable[..., str]) -> None:
    limits = {
        "containers": [{"name": "glutton", "image": BUSYBOX, "command": ["sh", "-c", "exec tail /dev/zero"]}]
    }
    limits["containers"][0]["resources"] = {"limits": {"memory": "32Mi"}}  # type: ignore[assignment]
    overrides = json.dumps({"spec": limits})
    kubectl("run", "glutton", f"--image={BUSYBOX}", "--restart=Never", f"--overrides={overrides}")
    reason = "{.status.containerStatuses[0].state.terminated.reason}"
    assert (
        eventually(lambda: kubectl("get", "pod", "glutton", "-o", f"jsonpath={reason}"), bool) == "OOMKilled"
    )


def test_pod_security_is_enforced(cluster: Cluster, kubectl: Callable[..., str]) -> None:
    restricted = "pod-security.kubernetes.io/enforce=restricted"
    cluster.run("label", "namespace", NAMESPACE, restricted)
    with pytest.raises(Failed, match="violates PodSecurity"):
        kubectl("run", "refused", f"--image={BUSYBOX}", "--dry-run=server")
    cluster.run("label", "namespace", NAMESPACE, "pod-security.kubernetes.io/enforce-")


def test_pytest_kind_attaches(cluster: Cluster, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)  # it makes a folder for what it does not download
    options = dict(option.removeprefix("--").partition("=")[::2] for option in cluster.pytest_options())
    kind = KindCluster(
        options["cluster-name"],
        kubeconfig=Path(options["kubeconfig"]),
        kind_path=Path(options["kind-bin"]),
        kubectl_path=Path(options["kind-kubectl-bin"]),
    )
    kind.create()
    assert cluster.nodes[1] in kind.kubectl("get", "nodes")


def test_the_host_stays_as_it_was(built: Built) -> None:
    before = json.loads((built.settings.state / "before.json").read_text())
    added = traces.difference(before, traces.take(built.settings))
    for what in ("links", "addresses", "routes", "nft tables", "kernel settings"):
        assert what not in added, "these are the whole host's"
    assert added["network namespaces"] == [built.settings.netns]


def test_a_second_up_is_quick_and_changes_nothing(cluster: Cluster, built: Built) -> None:
    machines = [
        hub.machine(built.settings),
        *(nodes.machine(built.settings, n) for n in built.settings.nodes),
    ]
    pids = [machine.pid() for machine in machines]
    again = subprocess.run([sys.executable, "-m", "accel_cluster", "up"], capture_output=True, text=True)
    assert again.returncode == 0, again.stderr
    assert f"taking up the cluster {cluster.name!r}" in again.stderr
    assert [machine.pid() for machine in machines] == pids


def test_cordon(cluster: Cluster) -> None:
    main = [sys.executable, "-m", "accel_cluster", "node"]
    unschedulable = "jsonpath={.spec.unschedulable}"
    for action, expected in (("cordon", "true"), ("uncordon", "")):
        subprocess.run([*main, action, cluster.nodes[2]], check=True, capture_output=True)
        assert cluster.run("get", "node", cluster.nodes[2], "-o", unschedulable) == expected


def test_a_killed_node_comes_back_with_its_disk(
    cluster: Cluster, kubectl: Callable[..., str], port: int
) -> None:
    node = kubectl("get", "pod", "client", "-o", "jsonpath={.spec.nodeName}")
    kubectl("exec", "client", "--", "sh", "-c", "echo kept > /data/file")
    cluster.kill(node)
    with pytest.raises(Failed):
        kubectl("exec", "client", "--", "true")
    # Its web server is dead, the other one serves; a connection to the dead one may be tried first.
    eventually(lambda: fetch(port), lambda name: name.startswith("web-"))
    cluster.start(node)
    kept = eventually(lambda: kubectl("exec", "client", "--", "cat", "/data/file"), bool)
    assert kept == "kept\n", "a local volume is on the node's disk"
    restarts = kubectl("get", "pod", "client", "-o", "jsonpath={.status.containerStatuses[0].restartCount}")
    assert int(restarts) >= 1, "all processes of the node had been killed"


def test_a_killed_daemon_is_started_again(cluster: Cluster, built: Built) -> None:
    machine = hub.machine(built.settings)
    victims = [pid for pid in cgroups.members(machine.cgroup) if _program(pid) == "kube-apiserver"]
    assert len(victims) == 1
    os.kill(victims[0], signal.SIGKILL)
    eventually(lambda: cluster.run("get", "--raw", "/readyz"), lambda answer: answer == "ok")


def test_up_repairs_a_half_dead_cluster(cluster: Cluster, built: Built) -> None:
    node = nodes.machine(built.settings, built.settings.node("worker2"))
    for machine in (hub.machine(built.settings), node):
        pid = machine.pid()
        assert pid is not None
        os.kill(pid, signal.SIGKILL)
        eventually(machine.pid, lambda pid: pid is None)
    cluster.up()
    assert all(well for _, _, well in cluster.status()), cluster.status()


def test_down_leaves_nothing(cluster: Cluster, built: Built) -> None:
    before = json.loads((built.settings.state / "before.json").read_text())
    own = cgroups.members(built.settings.cgroup)
    assert len(own) > 20
    for pid in sorted(own)[::7]:  # also of one that has been mangled
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
    cluster.down()
    assert_no_trace(before, built.settings)
    assert not [pid for pid in own if _program(pid) in {"kubelet", "containerd", "etcd", "unshare"}]
    cluster.down()  # nothing to do is no error


STOPS = ["starting the control plane", "starting the nodes", "waiting for the nodes"]


@pytest.mark.parametrize("stop", STOPS)
def test_down_removes_what_a_killed_up_left(stop: str, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in SPARE.items():
        monkeypatch.setenv(name, value)
    spare = settings.from_environment()
    before = traces.take(spare)
    with subprocess.Popen(
        [sys.executable, "-m", "accel_cluster", "up"], stderr=subprocess.PIPE, text=True
    ) as up:
        assert up.stderr is not None
        said = next((line for line in up.stderr if stop in line), None)
        up.kill()
    assert said, f"`up` ended before {stop!r}"
    Cluster(Built(spare)).down()
    assert_no_trace(before, spare)


def test_up_refuses_what_is_in_use_and_says_which(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in SPARE.items():
        monkeypatch.setenv(name, value)
    spare = settings.from_environment()
    subprocess.run(["ip", "netns", "add", spare.netns], check=True)
    try:
        with socket.create_server(("127.0.0.1", spare.node_ports[5])):
            refused = subprocess.run(
                [sys.executable, "-m", "accel_cluster", "up"], capture_output=True, text=True
            )
        assert refused.returncode == 1
        assert f"ports taken on 127.0.0.1: {spare.node_ports[5]} " in refused.stderr
        assert f"network namespace {spare.netns!r} exists and is not ours" in refused.stderr
        assert network.exists(spare), "what is not ours stays"
        Cluster(Built(spare)).down()
        assert network.exists(spare), "also when asked to remove the cluster"
    finally:
        subprocess.run(["ip", "netns", "delete", spare.netns], check=True)


def assert_no_trace(before: traces.Traces, of: settings.Settings) -> None:
    """What other programs of this host mount for a moment goes away again; what a cluster left would stay."""
    eventually(lambda: traces.difference(before, traces.take(of)), lambda added: not added, seconds=20)
    assert not of.state.exists()
    assert not cgroups.exists(of.cgroup)


def _program(pid: int) -> str:
    with contextlib.suppress(OSError):
        return Path(f"/proc/{pid}/cmdline").read_text().split("\0")[0].rpartition("/")[2]
    return ""
