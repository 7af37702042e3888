"""A real etcd and a real kube-apiserver on free local ports, with RBAC and static tokens; no controller, no kubelet.

What a controller or the kubelet would write, tests write (see simulated.py).
"""

import shutil
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

    @property
    def url(self) -> str:
        """Address of the API server."""
        return f"https://127.0.0.1:{self.port}"

    def kubeconfig(self, token: str) -> Path:
        """Write a kubeconfig for a token and return its path."""
        path = self.folder / f"{token}.kubeconfig"
        cluster = {"server": self.url, "certificate-authority": str(self.folder / "certs" / "apiserver.crt")}
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

    def stop(self) -> None:
        """End both, the API server first."""
        for process in (self.api, self.etcd):
            process.terminate()
            try:
                process.wait(20)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


def start(folder: Path, programs: Path) -> Server:
    """Start etcd and kube-apiserver with their data and logs below `folder`, and wait until they answer."""
    etcd_program = shutil.which("etcd")
    assert etcd_program, "install etcd (apt-get install etcd-server)"
    client, peer, port = free_port(), free_port(), free_port()
    etcd = _spawn(
        folder / "etcd.log",
        [
            etcd_program,
            f"--data-dir={folder / 'etcd'}",
            f"--listen-client-urls=http://127.0.0.1:{client}",
            f"--advertise-client-urls=http://127.0.0.1:{client}",
            f"--listen-peer-urls=http://127.0.0.1:{peer}",
            "--unsafe-no-fsync",
            "--log-level=warn",
        ],
    )
    key = folder / "sa.key"
    subprocess.run(["openssl", "genrsa", "-out", str(key), "2048"], check=True, capture_output=True)
    (folder / "tokens.csv").write_text(
        f'{ADMIN},admin,admin-uid,"system:masters"\n'
        f'{OPERATOR},{ACCOUNT},operator-uid,"system:serviceaccounts,system:authenticated"\n'
    )
    api = _spawn(
        folder / "apiserver.log",
        [
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
        ],
    )
    server = Server(folder, port, etcd, api, programs / "kubectl")
    _wait(server)
    return server


def _spawn(log: Path, command: list[str]) -> subprocess.Popen[bytes]:
    with log.open("wb") as output:
        return subprocess.Popen(command, stdout=output, stderr=subprocess.STDOUT)


def _wait(server: Server) -> None:
    context = ssl._create_unverified_context()
    request = urllib.request.Request(f"{server.url}/readyz", headers={"Authorization": f"Bearer {ADMIN}"})
    give_up = time.monotonic() + START_SECONDS
    while time.monotonic() < give_up:
        if server.api.poll() is not None:
            raise RuntimeError((server.folder / "apiserver.log").read_text()[-3000:])
        try:
            with urllib.request.urlopen(request, context=context, timeout=5) as answer:
                if answer.status == 200:
                    return
        except (urllib.error.URLError, OSError):
            pass
        time.sleep(0.2)
    server.stop()
    raise TimeoutError((server.folder / "apiserver.log").read_text()[-3000:])
