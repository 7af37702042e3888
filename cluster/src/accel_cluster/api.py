"""The API server as far as this package needs it: over the standard library, with the kubeconfig's own
credentials.
"""

import base64
import contextlib
import http.client
import json
import re
import ssl
import tempfile
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from accel_cluster.errors import Failed

TIMEOUT_S = 10.0


class Api:
    """Reads objects with the kubeconfig that `pki.kubeconfig` wrote."""

    def __init__(self, kubeconfig: Path) -> None:
        text = kubeconfig.read_text()
        found = {
            key: value
            for key in ("server", "certificate-authority-data", "client-certificate-data", "client-key-data")
            if (value := _field(text, key))
        }
        address = urlsplit(found["server"])
        self.host, self.port = address.hostname or "", address.port or 443
        authority = base64.b64decode(found["certificate-authority-data"]).decode()
        self.context = ssl.create_default_context(cadata=authority)
        with tempfile.NamedTemporaryFile() as pair:  # ssl reads client certificates from files only
            for key in ("client-certificate-data", "client-key-data"):
                pair.write(base64.b64decode(found[key]))
            pair.flush()
            self.context.load_cert_chain(pair.name)

    def get(self, path: str) -> dict[str, Any]:
        """Return the object at `path`; raise Failed if the server is not there or does not give it."""
        content: dict[str, Any] = json.loads(self.text(path))
        return content

    def text(self, path: str) -> str:
        """Return the body at `path` as it is."""
        connection = http.client.HTTPSConnection(
            self.host, self.port, timeout=TIMEOUT_S, context=self.context
        )
        try:
            connection.request("GET", path)
            answer = connection.getresponse()
            body = answer.read().decode(errors="replace")
        except (OSError, http.client.HTTPException) as error:
            raise Failed(f"the API server at {self.host}:{self.port} does not answer: {error}") from error
        finally:
            connection.close()
        if answer.status != http.HTTPStatus.OK:
            raise Failed(f"GET {path}: {answer.status} {body[:300]}")
        return body

    def is_ready(self) -> bool:
        """Return whether the API server answers and calls itself ready."""
        with contextlib.suppress(Failed):
            return self.text("/readyz") == "ok"
        return False


def _field(text: str, key: str) -> str:
    found = re.search(rf"^\s*{key}: (\S+)$", text, re.MULTILINE)
    return found.group(1) if found else ""
