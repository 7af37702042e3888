"""/healthz, /readyz and /metrics on one port, from a thread: a plugin that is stuck must still be able to say
so.
"""

import threading
import time
from collections.abc import Callable
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, generate_latest

__all__ = ["Heartbeat", "serve"]

STUCK_SECONDS = 30.0
SOCKET_SECONDS = 5.0  # for a client to send its request


class Heartbeat:
    """Beaten by the event loop; old means that the loop is stuck."""

    def __init__(self) -> None:
        self._last = time.monotonic()

    def beat(self) -> None:
        """Say that the loop turns."""
        self._last = time.monotonic()

    @property
    def alive(self) -> bool:
        """Whether it has turned lately."""
        return time.monotonic() - self._last < STUCK_SECONDS


def serve(
    port: int, heartbeat: Heartbeat, ready: Callable[[], str], registry: CollectorRegistry
) -> ThreadingHTTPServer:
    """Listen on all addresses; `ready` returns what is missing, or an empty string. Port 0: any."""

    class Probes(BaseHTTPRequestHandler):
        """One request."""

        timeout = SOCKET_SECONDS

        def do_GET(self) -> None:
            """Answer a probe or a scrape."""
            match self.path.partition("?")[0]:
                case "/healthz":
                    self._say("ok" if heartbeat.alive else "the event loop is stuck", heartbeat.alive)
                case "/readyz":
                    missing = ready()
                    self._say(missing or "ok", not missing)
                case "/metrics":
                    self._send(HTTPStatus.OK, CONTENT_TYPE_LATEST, generate_latest(registry))
                case _:
                    self._send(
                        HTTPStatus.NOT_FOUND, "text/plain", b"there are /healthz, /readyz and /metrics\n"
                    )

        def _say(self, text: str, good: bool) -> None:
            status = HTTPStatus.OK if good else HTTPStatus.SERVICE_UNAVAILABLE
            self._send(status, "text/plain; charset=utf-8", f"{text}\n".encode())

        def _send(self, status: HTTPStatus, kind: str, body: bytes) -> None:
            self.send_response(status)
            self.send_header("Content-Type", kind)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            """Probes every few seconds are no news."""

    server = ThreadingHTTPServer(("", port), Probes)
    threading.Thread(target=server.serve_forever, name="probes", daemon=True).start()
    return server
