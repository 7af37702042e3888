"""What the operator asks of the registry: the OCI distribution API's listing, manifests and deletion; no blobs.

Failures are `Unreachable` (it passes), `Refused` (this registry or account does not allow it) or `Absent`.
"""

import base64
import hashlib
import json
import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any, Self
from urllib.parse import urljoin, urlsplit

import aiohttp
from yarl import URL

from fpga_operator.errors import OperatorError

TIMEOUT_SECONDS = 30.0
MAX_MANIFEST_BYTES = 4 << 20
MAX_LIST_BYTES = 16 << 20
PAGE = 500
_OCI, _DOCKER = "application/vnd.oci.image", "application/vnd.docker.distribution.manifest"
_ACCEPT = (
    f"{_OCI}.manifest.v1+json, {_OCI}.index.v1+json, {_DOCKER}.v2+json, {_DOCKER}.list.v2+json, */*;q=0.1"
)
_NEXT = re.compile(r'<([^>]+)>\s*;\s*rel="?next"?')
_PARAMETER = re.compile(r'(\w+)="([^"]*)"')
_MISSING = {"MANIFEST_UNKNOWN", "NAME_UNKNOWN", "MANIFEST_BLOB_UNKNOWN", "NOT_FOUND"}


class RegistryFailure(OperatorError):
    """Root of what can go wrong here; the message names the request and the answer."""


class Unreachable(RegistryFailure):
    """No answer, or one that passes by itself."""


class Refused(RegistryFailure):
    """The registry does not let us: read-only, deletion switched off, other credentials wanted, no such call."""

    def __init__(self, message: str, status: int) -> None:
        super().__init__(message)
        self.status = status


class Absent(RegistryFailure):
    """The registry says in its own words that it has no such repository or manifest."""


@dataclass(frozen=True)
class Account:
    """A registry account; the password never appears in a representation."""

    username: str
    password: str = field(repr=False)

    @property
    def basic(self) -> str:
        """Value of an Authorization header."""
        return "Basic " + base64.b64encode(f"{self.username}:{self.password}".encode()).decode()


def account_of(path: Path, host: str) -> Account | None:
    """Read a registry's account from a file of type .dockerconfigjson; None where there is none."""
    try:
        accounts = json.loads(path.read_text())["auths"]
        entry = next(
            (e for name, e in accounts.items() if urlsplit(f"//{name.split('://')[-1]}").netloc == host), None
        )
        if entry is None:
            return None
        if "username" in entry:
            return Account(entry["username"], entry["password"])
        username, _, password = base64.b64decode(entry["auth"]).decode().partition(":")
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return None
    return Account(username, password)


class Registry:
    """A connection to one registry; use as an asynchronous context manager."""

    def __init__(self, endpoint: str, account: Account | None = None) -> None:
        self.endpoint = endpoint.rstrip("/")
        self._account = account
        self._authorization = ""
        self._session = aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=TIMEOUT_SECONDS))

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._session.close()

    async def catalog(self) -> list[str]:
        """Return all repositories."""
        return await self._pages(f"/v2/_catalog?n={PAGE}", "repositories")

    async def tags(self, repository: str) -> list[str]:
        """Return all tags of a repository; none for one that does not exist."""
        try:
            return await self._pages(f"/v2/{repository}/tags/list?n={PAGE}", "tags")
        except Absent:
            return []

    async def digest(self, repository: str, target: str) -> str | None:
        """Return the digest of what a tag or digest names, or None if the registry has it not."""
        async with self._request("HEAD", f"/v2/{repository}/manifests/{target}") as response:
            if response.status == 200 and (digest := response.headers.get("Docker-Content-Digest")):
                return digest
        # A bare 404 may be a proxy's word; the registry's own comes with a code, and only to GET.
        try:
            return (await self._manifest(repository, target))[0]
        except Absent:
            return None

    async def manifest(self, repository: str, digest: str) -> dict[str, Any]:
        """Return a manifest or index, as its JSON.

        Raises:
            Absent: it went since it was listed.
        """
        return (await self._manifest(repository, digest))[1]

    async def delete(self, repository: str, digest: str) -> bool:
        """Delete a manifest and with it the tags that name it; tell whether it was there."""
        async with self._request("DELETE", f"/v2/{repository}/manifests/{digest}") as response:
            try:
                await self._check(response)
            except Absent:
                return False
        return True

    async def _manifest(self, repository: str, target: str) -> tuple[str, dict[str, Any]]:
        async with self._request("GET", f"/v2/{repository}/manifests/{target}") as response:
            await self._check(response)
            body = await _body(response, MAX_MANIFEST_BYTES)
            return f"sha256:{hashlib.sha256(body).hexdigest()}", _json(body, str(response.url))

    async def _pages(self, path: str, name: str) -> list[str]:
        found: dict[str, None] = {}
        url: str | None = path
        while url:
            async with self._request("GET", url) as response:
                await self._check(response)
                answer = _json(await _body(response, MAX_LIST_BYTES), url)
                more = [str(entry) for entry in answer.get(name) or []]
                link = _NEXT.search(response.headers.get("Link", ""))
            # A page without news that names a next one would never end.
            news = any(entry not in found for entry in more)
            url = urljoin(url, link.group(1)) if link is not None and news else None
            found |= dict.fromkeys(more)
        return list(found)

    @asynccontextmanager
    async def _request(self, method: str, path: str) -> AsyncIterator[aiohttp.ClientResponse]:
        url = URL(urljoin(f"{self.endpoint}/", path), encoded=True)
        try:
            response = await self._send(method, url)
            if response.status == 401 and await self._answer(response):
                response.release()
                response = await self._send(method, url)
            async with response:
                yield response
        except (TimeoutError, aiohttp.ClientError, OSError) as error:
            told = str(error) or type(error).__name__
            raise Unreachable(f"the registry {self.endpoint} does not answer: {told}") from error

    async def _send(self, method: str, url: URL) -> aiohttp.ClientResponse:
        headers = {"Accept": _ACCEPT}
        if self._authorization:
            headers["Authorization"] = self._authorization
        return await self._session.request(
            method, url, headers=headers, allow_redirects=method in ("GET", "HEAD")
        )

    async def _answer(self, response: aiohttp.ClientResponse) -> bool:
        """Find out what a challenge asks for; False if we have nothing to say to it."""
        scheme, _, rest = response.headers.get("WWW-Authenticate", "").partition(" ")
        asked = dict(_PARAMETER.findall(rest))
        if scheme.lower() == "basic" and self._account:
            self._authorization = self._account.basic
            return True
        realm = asked.get("realm", "")
        plain = self.endpoint.startswith("http://")
        if scheme.lower() != "bearer" or not (realm.startswith("https://") or (plain and "://" in realm)):
            return False
        query = {key: asked[key] for key in ("service", "scope") if key in asked}
        headers = {"Authorization": self._account.basic} if self._account else {}
        async with self._session.get(realm, params=query, headers=headers) as answer:
            if answer.status != 200:
                return False
            told = _json(await _body(answer, MAX_MANIFEST_BYTES), realm)
        token = told.get("token") or told.get("access_token")
        if isinstance(token, str):
            self._authorization = f"Bearer {token}"
        return isinstance(token, str)

    async def _check(self, response: aiohttp.ClientResponse) -> None:
        """Raise what an answer means, unless it is a good one."""
        if response.status < 300:
            return
        what = f"{response.method} {response.url.with_query(None)} answered {response.status}"
        codes, told = _errors(await response.content.read(65536))
        message = f"{what}: {told}" if told else what
        if response.status == 404 and codes & _MISSING:
            raise Absent(message)
        if response.status in (408, 425, 429) or response.status >= 500:
            raise Unreachable(message)
        raise Refused(message, response.status)


async def _body(response: aiohttp.ClientResponse, limit: int) -> bytes:
    body = bytearray()
    async for chunk in response.content.iter_chunked(1 << 16):
        body += chunk
        if len(body) > limit:
            raise Refused(f"{response.url.with_query(None)} answered more than {limit} bytes", 200)
    return bytes(body)


def _json(body: bytes, where: str) -> dict[str, Any]:
    try:
        parsed = json.loads(body)
    except ValueError as error:
        raise Refused(f"{where} answered no JSON", 200) from error
    if not isinstance(parsed, dict):
        raise Refused(f"{where} answered no JSON object", 200)
    return parsed


def _errors(body: bytes) -> tuple[set[str], str]:
    try:
        errors = json.loads(body)["errors"]
        codes = {str(error.get("code", "")) for error in errors}
        return codes, "; ".join(str(error.get("message") or error.get("code")) for error in errors)[:300]
    except (ValueError, KeyError, TypeError, AttributeError):
        return set(), ""
