"""A registry of one's own: Debian's docker-registry on a free port of 127.0.0.1, for tests of this and other rooms."""

import socket
import subprocess
from pathlib import Path
from types import TracebackType

import httpx

__all__ = ["LocalRegistry"]

SETTINGS = """
version: 0.1
storage:
  filesystem: {{rootdirectory: {root}}}
  delete: {{enabled: {delete}}}
  maintenance: {{readonly: {{enabled: {readonly}}}}}
http: {{addr: "127.0.0.1:{port}"}}
log: {{level: error, accesslog: {{disabled: true}}}}
"""


class LocalRegistry:
    """The process. Its port stays when it is stopped and started; `data` is a folder below the one given."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self._port = probe.getsockname()[1]
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def endpoint(self) -> str:
        """Return its address, http://127.0.0.1:port."""
        return f"http://127.0.0.1:{self._port}"

    def start(
        self, *, delete: bool = False, data: str = "data", readonly: bool = False, htpasswd: str = ""
    ) -> None:
        """Start it and wait until it answers.

        `delete` allows manifests to be deleted, `readonly` refuses all writes, `htpasswd` (lines of user:bcrypt) are
        the only ones who may enter.
        """
        settings = self._folder / "config.yml"
        text = SETTINGS.format(
            root=self._folder / data,
            port=self._port,
            delete=str(delete).lower(),
            readonly=str(readonly).lower(),
        )
        if htpasswd:
            (self._folder / "htpasswd").write_text(htpasswd)
            text += f"auth: {{htpasswd: {{realm: local, path: {self._folder / 'htpasswd'}}}}}\n"
        settings.write_text(text)
        self._process = subprocess.Popen(
            ["docker-registry", "serve", str(settings)], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
        # Backs off up to 64 s while it is starting.
        with httpx.Client(transport=httpx.HTTPTransport(retries=8), trust_env=False) as http:
            answer = http.get(f"{self.endpoint}/v2/")
            if not (htpasswd and answer.status_code == httpx.codes.UNAUTHORIZED):
                answer.raise_for_status()

    def stop(self) -> None:
        """End it; its data stay."""
        if self._process is not None:
            self._process.terminate()
            self._process.wait()
            self._process = None

    def __enter__(self) -> "LocalRegistry":
        """Start it for the length of a block."""
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()
