"""The three requests that this plugin makes of the API server: get, apply, apply status. In-cluster
credentials or given ones.
"""

import os
import ssl
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

__all__ = ["Access", "ApiError", "KubeApi"]

ACCOUNT = Path("/var/run/secrets/kubernetes.io/serviceaccount")
PATIENCE_SECONDS = 10.0
APPLY = {"Content-Type": "application/apply-patch+yaml"}  # JSON is YAML


class ApiError(Exception):
    """The API server is away, or refuses; the message is its own."""


@dataclass(frozen=True)
class Access:
    """Where the API server is and how to be known to it."""

    server: str
    token_file: Path
    ca_file: Path | None  # None: http, for tests

    @staticmethod
    def in_cluster() -> "Access | None":
        """Return what every pod is given, or None outside of one."""
        host, port = (
            os.environ.get("KUBERNETES_SERVICE_HOST"),
            os.environ.get("KUBERNETES_SERVICE_PORT", "443"),
        )
        if not host or not (ACCOUNT / "token").exists():
            return None
        host = f"[{host}]" if ":" in host else host
        return Access(f"https://{host}:{port}", ACCOUNT / "token", ACCOUNT / "ca.crt")


class KubeApi:
    """A small client. Reads its token anew for each request, because the kubelet renews it every hour."""

    def __init__(self, access: Access) -> None:
        import httpx  # half of the time to start, and not needed outside of a cluster

        self._token_file = access.token_file
        self._client = httpx.AsyncClient(
            base_url=access.server,
            verify=ssl.create_default_context(cafile=access.ca_file),
            timeout=PATIENCE_SECONDS,
            trust_env=False,  # a proxy for the world is none for the cluster
        )

    async def get(self, path: str) -> dict[str, Any] | None:
        """Return the object, or None if there is none (or not even its kind)."""
        return await self._ask("GET", path)

    async def apply(self, path: str, wanted: Mapping[str, Any], manager: str) -> None:
        """Server-side apply; our fields are ours, whoever else has written them."""
        parameters = {"fieldManager": manager, "force": "true"}
        if await self._ask("PATCH", path, headers=APPLY, params=parameters, json=wanted) is None:
            raise ApiError(f"{path}: not found; are the CRDs installed?")

    async def close(self) -> None:
        """Close the connections."""
        await self._client.aclose()

    async def _ask(self, method: str, path: str, **more: Any) -> dict[str, Any] | None:
        import httpx

        try:
            token = self._token_file.read_text(encoding="utf-8").strip()
            headers = {**more.pop("headers", {}), "Authorization": f"Bearer {token}"}
            answer = await self._client.request(method, path, headers=headers, **more)
        except (httpx.HTTPError, OSError) as error:
            raise ApiError(f"{method} {path}: {type(error).__name__}: {error}") from error
        if answer.status_code == httpx.codes.NOT_FOUND:
            return None
        if answer.is_error:
            raise ApiError(f"{method} {path}: {answer.status_code} {answer.text[:300]}")
        found: dict[str, Any] = answer.json()
        return found
