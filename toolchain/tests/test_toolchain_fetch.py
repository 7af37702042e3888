"""Fetching from a real registry and a real web server: what comes, and each way in which it does not."""

import contextlib
import hashlib
import http.server
import io
import json
import socket
import tarfile
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from accel.oci import Reference, Registry, push_source
from accel_toolchain import jobs
from accel_toolchain.conditions import Failure, Terminal, Transient
from accel_toolchain.download import Deadline, check_url, download
from accel_toolchain.fetch import fetch
from accel_toolchain.workspace import Workspace

MODEL = {"saved_model.pb": b"graph", "variables/variables.index": b"index"}


def archive() -> bytes:
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w:gz") as tar:
        for name, content in MODEL.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            tar.addfile(info, io.BytesIO(content))
    return stream.getvalue()


ARCHIVE = archive()
SHA256 = hashlib.sha256(ARCHIVE).hexdigest()


class Handler(http.server.BaseHTTPRequestHandler):
    """A web server with every bad habit, one per path."""

    def log_message(self, *_: object) -> None:
        pass

    def do_GET(self) -> None:
        path = self.path.partition("?")[0]
        if path.startswith("/status/"):
            return self._answer(int(path.removeprefix("/status/")), b"")
        if path == "/moved":
            return self._answer(302, b"", Location="/model.tar.gz")
        if path == "/loop":
            return self._answer(302, b"", Location="/loop")
        if path == "/metadata":
            return self._answer(302, b"", Location="http://169.254.169.254/latest/meta-data/")
        if path == "/file":
            return self._answer(302, b"", Location="file:///etc/passwd")
        if path == "/short":
            self.send_response(200)
            self.send_header("Content-Length", "1000")
            self.end_headers()
            self.wfile.write(b"x" * 10)
            self.close_connection = True
            return None
        if path == "/endless":
            self.send_response(200)
            self.end_headers()
            with contextlib.suppress(OSError):  # the client hangs up, as it should
                for _ in range(64):
                    self.wfile.write(bytes(1 << 16))
            self.close_connection = True
            return None
        if path == "/drip":
            self.send_response(200)
            self.end_headers()
            try:
                while not self.server.stopped.wait(0.02):  # type: ignore[attr-defined]
                    self.wfile.write(b"x")
            except OSError:
                self.close_connection = True
            return None
        return self._answer(200, {"/model.tar.gz": ARCHIVE, "/m.onnx": b"onnx"}.get(path, b"what is this?"))

    def _answer(self, status: int, body: bytes, **headers: str) -> None:
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)


@pytest.fixture(scope="module")
def web() -> Iterator[str]:
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.stopped = threading.Event()  # type: ignore[attr-defined]
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.stopped.set()  # type: ignore[attr-defined]
    server.shutdown()
    server.server_close()
    thread.join()


Make = Callable[..., str]


def run(text: str, work: Workspace) -> None:
    fetch(jobs.parse_convert(text), work)


def files(root: Path) -> dict[str, bytes]:
    return {p.relative_to(root).as_posix(): p.read_bytes() for p in root.rglob("*") if p.is_file()}


def test_a_folder_pushed_to_the_registry_comes_back(
    endpoint: str, convert_job: Make, work: Workspace, tmp_path: Path
) -> None:
    for name, content in MODEL.items():
        (tmp_path / "m" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "m" / name).write_bytes(content)
    with Registry(endpoint) as registry:
        pushed = push_source(registry, tmp_path / "m", Reference.parse("oci:///sources/fetch:1"))
    run(convert_job("oci:///sources/fetch:1"), work)
    assert files(work.source) == MODEL
    assert pushed.digest is not None
    assert json.loads(work.source_note.read_text()) == {
        "sha256": pushed.digest.removeprefix("sha256:"),
        "known": False,
    }
    assert not work.download.exists()


@pytest.mark.parametrize("path", ["/model.tar.gz", "/moved", "/model.tar.gz?token=secret"])
def test_an_archive_from_the_web(web: str, path: str, convert_job: Make, work: Workspace) -> None:
    run(convert_job(web + path, SHA256), work)
    assert files(work.source) == MODEL


def test_a_plain_onnx_file_from_the_web(web: str, convert_job: Make, work: Workspace) -> None:
    run(convert_job(f"{web}/m.onnx"), work)
    assert files(work.source) == {"m.onnx": b"onnx"}


def test_what_an_earlier_attempt_left_is_removed(web: str, convert_job: Make, work: Workspace) -> None:
    (work.source).mkdir()
    (work.source / "old").write_bytes(b"old")
    run(convert_job(f"{web}/m.onnx"), work)
    assert files(work.source) == {"m.onnx": b"onnx"}


FAILURES = {
    # name: (uri, options, kind, reason, what the message says)
    "no such tag": ("oci:///sources/none:1", {}, Terminal, "SourceNotFound", "kubectl accel push"),
    "no such tag, looked at again": (
        "oci:///sources/none:1",
        {},
        Terminal,
        "SourceNotFound",
        " -n test accel.dev/requestedAt=",
    ),
    "no tag at all": ("oci:///sources/none", {}, Terminal, "UnsupportedScheme", "neither a tag nor a digest"),
    "bad reference": ("oci:///Sources/None:1", {}, Terminal, "UnsupportedScheme", "lower-case"),
    "not found": ("{web}/status/404", {}, Terminal, "SourceNotFound", "answered 404"),
    "denied": ("{web}/status/403", {}, Terminal, "SourceDenied", "answered 403"),
    "overloaded": ("{web}/status/503", {}, Transient, "SourceUnavailable", "answered 503"),
    "too many requests": ("{web}/status/429", {}, Transient, "SourceUnavailable", "answered 429"),
    "wrong digest": ("{web}/model.tar.gz", {"sha256": "0" * 64}, Terminal, "DigestMismatch", SHA256),
    "malformed digest": (
        "{web}/model.tar.gz",
        {"sha256": "abc"},
        Terminal,
        "DigestMismatch",
        "64 hexadecimal",
    ),
    "too large, announced": (
        "{web}/model.tar.gz",
        {"max_bytes": 10},
        Terminal,
        "SourceTooLarge",
        "limit is 10",
    ),
    "too large, not announced": (
        "{web}/endless",
        {"max_bytes": 1 << 20},
        Terminal,
        "SourceTooLarge",
        "limit is 1048576",
    ),
    "too slow": ("{web}/drip", {"seconds": 0.3}, Transient, "SourceUnavailable", "within 0 s"),
    "cut off": ("{web}/short", {}, Transient, "SourceUnavailable", ""),
    "no archive": ("{web}/readme.txt", {}, Terminal, "NotAModelFile", "neither a tar"),
    "redirects for ever": ("{web}/loop", {}, Terminal, "SourceNotFound", "more than 5 redirects"),
    "redirect to a cloud's credentials": (
        "{web}/metadata",
        {},
        Terminal,
        "UnsupportedScheme",
        "169.254.169.254",
    ),
    "redirect to a file": ("{web}/file", {}, Terminal, "UnsupportedScheme", ""),
    "plain http to the world": ("http://example.com/m.tar", {}, Terminal, "UnsupportedScheme", "Use https"),
    "other scheme": ("ftp://host/m.tar", {}, Terminal, "UnsupportedScheme", "'ftp' is not supported"),
    "no scheme": ("/etc/passwd", {}, Terminal, "UnsupportedScheme", "not supported"),
    "file": ("file:///etc/passwd", {}, Terminal, "UnsupportedScheme", "'file' is not supported"),
}


@pytest.mark.parametrize(("uri", "options", "kind", "reason", "message"), FAILURES.values(), ids=FAILURES)
def test_failure(
    uri: str,
    options: dict[str, object],
    kind: type[Failure],
    reason: str,
    message: str,
    web: str,
    convert_job: Make,
    work: Workspace,
) -> None:
    with pytest.raises(kind) as raised:
        run(convert_job(uri.format(web=web), **options), work)
    assert raised.value.reason == reason
    assert message in raised.value.message
    assert "spec.source" in raised.value.message
    assert "=secret" not in raised.value.message


def test_a_server_that_is_away_is_tried_again(convert_job: Make, work: Workspace) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))  # bound, not listening
        port = taken.getsockname()[1]
        for uri in (f"http://127.0.0.1:{port}/m.tar", f"oci://127.0.0.1:{port}/m:1"):
            with pytest.raises(Transient) as raised:
                run(convert_job(uri), work)
            assert raised.value.reason == "SourceUnavailable"


URLS = {
    "https": ("https://example.com/m.tar", True),
    "Service": ("http://minio.demo.svc:9000/m.tar", True),
    "Service with domain": ("http://minio.demo.svc.cluster.local/m.tar", True),
    "private address": ("http://10.0.0.7/m.tar", True),
    "public address": ("http://8.8.8.8/m.tar", False),
    "disguised": ("http://minio.svc@example.com/m.tar", False),
    "no host": ("https:///m.tar", False),
}


@pytest.mark.parametrize(("url", "allowed"), URLS.values(), ids=URLS)
def test_where_plain_http_is_allowed(url: str, allowed: bool) -> None:
    if allowed:
        check_url(url)
    else:
        with pytest.raises(Terminal):
            check_url(url)


def test_the_deadline_counts_the_whole_download(web: str, tmp_path: Path) -> None:
    started = time.monotonic()
    with pytest.raises(Transient):
        download(f"{web}/drip", tmp_path / "d", 1 << 20, Deadline(0.2))
    assert time.monotonic() - started < 5


def test_another_namespaces_model_is_refused_by_any_name_of_the_registry(
    endpoint: str, convert_job: Make, work: Workspace, tmp_path: Path
) -> None:
    (tmp_path / "net").mkdir()
    (tmp_path / "net" / "m.onnx").write_bytes(b"onnx")
    port = endpoint.rpartition(":")[2]
    with Registry(endpoint) as registry:
        for repository in ("models/others/net", "models/test/net"):
            push_source(registry, tmp_path / "net", Reference.parse(f"oci:///{repository}:v1"))
    for host in ("", f"127.0.0.1:{port}", f"localhost:{port}"):
        with pytest.raises(Terminal) as told:
            run(convert_job(f"oci://{host}/models/others/net:v1"), work)
        assert told.value.reason == "SourceDenied", host
    run(convert_job(f"oci://localhost:{port}/models/test/net:v1"), work)
