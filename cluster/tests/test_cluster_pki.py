"""Certificates that openssl made, on a TLS server that asks for them."""

import http.server
import json
import ssl
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from accel_cluster import health
from accel_cluster.api import Api
from accel_cluster.errors import Failed
from accel_cluster.pki import Pki

NODE = {
    "metadata": {"name": "n"},
    "status": {
        "conditions": [{"type": "Ready", "status": "True", "lastHeartbeatTime": "2026-01-01T00:00:00Z"}]
    },
}
HEARTBEAT = 1767225600.0
ANSWERS = {
    "/readyz": "ok",
    "/api/v1/nodes": json.dumps({"items": [NODE, {"metadata": {"name": "new"}, "status": {}}]}),
    "/api/v1/nodes/n": json.dumps(NODE),
}


class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        body = ANSWERS.get(self.path, "").encode()
        self.send_response(200 if body else 404)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 (the base class's name)
        pass


@pytest.fixture(scope="module")
def pki(tmp_path_factory: pytest.TempPathFactory) -> Pki:
    pki = Pki(tmp_path_factory.mktemp("pki"))
    pki.ensure_authority()
    return pki


@pytest.fixture(scope="module")
def server(pki: Pki) -> Iterator[str]:
    """A server with the cluster's certificates that lets in only who shows one."""
    crt, key = pki.ensure("server", "/CN=server", "IP:127.0.0.1")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(crt, key)
    context.load_verify_locations(pki.ca)
    context.verify_mode = ssl.CERT_REQUIRED
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as served:
        served.socket = context.wrap_socket(served.socket, server_side=True)
        thread = threading.Thread(target=served.serve_forever, args=(0.01,))
        thread.start()
        yield f"https://127.0.0.1:{served.server_address[1]}"
        served.shutdown()
        thread.join()


@pytest.fixture(scope="module")
def api(pki: Pki, server: str, tmp_path_factory: pytest.TempPathFactory) -> Api:
    path = tmp_path_factory.mktemp("config") / "kubeconfig"
    return Api(pki.kubeconfig("admin", "/O=system:masters/CN=admin", server, path))


def test_both_sides_believe_each_other(api: Api) -> None:
    assert api.is_ready()


def test_an_error_names_path_and_code(api: Api) -> None:
    with pytest.raises(Failed, match="GET /nowhere: 404"):
        api.get("/nowhere")


def test_a_server_that_is_not_there_is_not_ready(pki: Pki, tmp_path: Path) -> None:
    gone = Api(pki.kubeconfig("admin", "/CN=admin", "https://127.0.0.1:1", tmp_path / "kubeconfig"))
    assert not gone.is_ready()


def test_node_states(api: Api) -> None:
    assert health.node_states(api) == {"n": True, "new": False}


@pytest.mark.parametrize(
    ("since", "expected"), [(HEARTBEAT - 1, True), (HEARTBEAT, False), (HEARTBEAT + 1, False)]
)
def test_an_old_heartbeat_does_not_count(since: float, expected: bool, api: Api) -> None:
    assert health.is_ready_since("n", since, api) is expected


def test_keys_are_private_and_kept(pki: Pki, tmp_path: Path) -> None:
    first = pki.kubeconfig("reader", "/CN=reader", "https://127.0.0.1:1", tmp_path / "first")
    again = pki.kubeconfig("reader", "/CN=reader", "https://127.0.0.1:1", tmp_path / "again")
    assert first.read_text() == again.read_text(), "an existing certificate is used again"
    for path in (first, pki.folder / "reader.key", pki.folder / "ca.key"):
        assert path.stat().st_mode & 0o077 == 0, f"{path} can be read by others"
