"""A real etcd and a real kube-apiserver on free local ports, with RBAC and static tokens; no controller, no kubelet.

What a controller or the kubelet would write, tests write (see simulated.py).
"""

import shutil
import signal
import socket
import ssl
import subprocess
import time
import urllib.error
import urllib.request
from dataclasses import dataclass
from pathlib import Path

import yaml

ADMIN = "admin-token"
OPERATOR = "operator-token"
ACCOUNT = "system:serviceaccount:accel-system:fpga-operator"
START_SECONDS = 120
ROOT = Path(__file__).resolve().parents[2]


def free_port() -> int:
    """Return a port that nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


@dataclass
class Server:
    """The running pair; kubeconfig() logs in as one of its users."""

    folder: Path
    port: int
    etcd: subprocess.Popen[bytes]
    api: subprocess.Popen[bytes]
    kubectl: Path
    commands: dict[str, list[str]]

    @property
    def url(self) -> str:
        """Address of the API server."""
        return f"https://127.0.0.1:{self.port}"

    def kubeconfig(self, token: str, url: str = "") -> Path:
        """Write a kubeconfig for a token and return its path; `url` names a proxy to go through."""
        path = self.folder / f"{token}{'-proxied' if url else ''}.kubeconfig"
        cluster = {"server": url or self.url}
        if not url:
            cluster["certificate-authority"] = str(self.folder / "certs" / "apiserver.crt")
        path.write_text(
            yaml.safe_dump(
                {
                    "apiVersion": "v1",
                    "kind": "Config",
                    "clusters": [{"name": "test", "cluster": cluster}],
                    "users": [{"name": "user", "user": {"token": token}}],
                    "contexts": [{"name": "test", "context": {"cluster": "test", "user": "user"}}],
                    "current-context": "test",
                }
            )
        )
        return path

    def kill(self, part: str) -> None:
        """End `etcd` or `api` with -9; its data and its port stay its own."""
        process: subprocess.Popen[bytes] = getattr(self, part)
        process.kill()
        process.wait()

    def start(self, part: str) -> None:
        """Start `etcd` or `api` again on its data; it answers a little later."""
        setattr(self, part, _spawn(self.folder / f"{part}.log", self.commands[part]))

    def freeze(self, part: str) -> None:
        """Let `etcd` or `api` keep its connections and do nothing."""
        getattr(self, part).send_signal(signal.SIGSTOP)

    def thaw(self, part: str) -> None:
        """Let it go on."""
        getattr(self, part).send_signal(signal.SIGCONT)

    def wait(self) -> None:
        """Return when the API server is ready."""
        _wait(self)

    def stop(self) -> None:
        """End both, the API server first."""
        for process in (self.api, self.etcd):
            process.terminate()
            try:
                process.wait(20)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


def start(folder: Path, programs: Path, *flags: str) -> Server:
    """Start etcd and kube-apiserver with their data and logs below `folder`, and wait until they answer.

    flags: more of kube-apiserver's.
    """
    etcd_program = shutil.which("etcd")
    assert etcd_program, "install etcd (apt-get install etcd-server)"
    client, peer, port = free_port(), free_port(), free_port()
    etcd = [
        etcd_program,
        f"--data-dir={folder / 'etcd'}",
        f"--listen-client-urls=http://127.0.0.1:{client}",
        f"--advertise-client-urls=http://127.0.0.1:{client}",
        f"--listen-peer-urls=http://127.0.0.1:{peer}",
        "--unsafe-no-fsync",
        "--log-level=warn",
    ]
    key = folder / "sa.key"
    subprocess.run(["openssl", "genrsa", "-out", str(key), "2048"], check=True, capture_output=True)
    (folder / "tokens.csv").write_text(
        f'{ADMIN},admin,admin-uid,"system:masters"\n'
        f'{OPERATOR},{ACCOUNT},operator-uid,"system:serviceaccounts,system:authenticated"\n'
    )
    api = [
        str(programs / "kube-apiserver"),
        f"--etcd-servers=http://127.0.0.1:{client}",
        f"--secure-port={port}",
        "--bind-address=127.0.0.1",
        f"--cert-dir={folder / 'certs'}",
        f"--token-auth-file={folder / 'tokens.csv'}",
        "--authorization-mode=RBAC",
        "--service-account-issuer=https://test",
        f"--service-account-key-file={key}",
        f"--service-account-signing-key-file={key}",
        "--service-cluster-ip-range=10.99.0.0/16",
        # Default accounts are made by a controller that does not run here.
        "--disable-admission-plugins=ServiceAccount",
        "--watch-cache=true",
        "--profiling=false",
        *flags,
    ]
    server = Server(
        folder,
        port,
        _spawn(folder / "etcd.log", etcd),
        _spawn(folder / "api.log", api),
        programs / "kubectl",
        {"etcd": etcd, "api": api},
    )
    _wait(server)
    return server


def install(server: Server) -> None:
    """Give the API server our CRDs and the operator's role."""

    def kubectl(*words: str) -> None:
        command = [str(server.kubectl), f"--kubeconfig={server.kubeconfig(ADMIN)}", *words]
        done = subprocess.run(command, check=False, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr

    account = "--serviceaccount=accel-system:fpga-operator"
    kubectl("apply", "-f", str(ROOT / "crds"))
    kubectl("wait", "--for=condition=Established", "crd", "--all", "--timeout=60s")
    kubectl("apply", "-f", str(ROOT / "operator" / "rbac.yaml"))
    kubectl("create", "namespace", "accel-system")
    kubectl("create", "clusterrolebinding", "fpga-operator", "--clusterrole=fpga-operator", account)
    kubectl("apply", "-f", str(ROOT / "operator" / "rbac-namespace.yaml"))
    own = ("--namespace=accel-system", "--role=fpga-operator", account)
    kubectl("create", "rolebinding", "fpga-operator", *own)


def _spawn(log: Path, command: list[str]) -> subprocess.Popen[bytes]:
    with log.open("ab") as output:
        return subprocess.Popen(command, stdout=output, stderr=subprocess.STDOUT)


def _wait(server: Server) -> None:
    context = ssl._create_unverified_context()
    request = urllib.request.Request(f"{server.url}/readyz", headers={"Authorization": f"Bearer {ADMIN}"})
    give_up = time.monotonic() + START_SECONDS
    while time.monotonic() < give_up:
        if server.api.poll() is not None:
            raise RuntimeError((server.folder / "api.log").read_text()[-3000:])
        try:
            with urllib.request.urlopen(request, context=context, timeout=5) as answer:
                if answer.status == 200:
                    return
        except (urllib.error.URLError, OSError):
            pass
        time.sleep(0.2)
    server.stop()
    raise TimeoutError((server.folder / "api.log").read_text()[-3000:])
