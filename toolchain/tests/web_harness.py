"""A web server of this process: files, an account that it wants, a redirect, an answer to all writes."""

import http.server
import threading
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def web_server(
    files: dict[str, bytes],
    *,
    authorization: str | None = None,
    moved_to: str | None = None,
    writes: tuple[int, bytes] = (405, b""),
) -> Iterator[str]:
    """Yield its address."""

    class Handler(http.server.BaseHTTPRequestHandler):
        def log_message(self, *_: object) -> None:
            pass

        def do_GET(self) -> None:
            if moved_to is not None:
                return self._answer(302, b"", moved_to)
            if authorization is not None and self.headers.get("Authorization") != authorization:
                return self._answer(401, b"")
            found = files.get(self.path)
            return self._answer(404, b"") if found is None else self._answer(200, found)

        def do_HEAD(self) -> None:
            self._answer(404, b"")

        def do_POST(self) -> None:
            self._answer(*writes)

        def _answer(self, status: int, body: bytes, location: str | None = None) -> None:
            self.send_response(status)
            if location is not None:
                self.send_header("Location", location)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
