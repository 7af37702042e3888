"""The distribution API of one registry: blobs, manifests and tags.

Bodies are streamed from and to files, so that a model of several gigabytes costs no memory. Every answer is
checked against the digest it was asked by. Failures are raised as `accel.oci.errors`, never as httpx's.
"""

import hashlib
import os
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from tempfile import TemporaryDirectory
from types import TracebackType
from typing import IO, Self
from urllib.parse import urljoin, urlsplit

import httpx

from accel.oci.auth import Credentials, RegistryAuth
from accel.oci.digests import digest_of, digest_of_file, is_digest
from accel.oci.errors import (
    Denied,
    Full,
    InvalidContent,
    NotFound,
    ReadOnly,
    Rejected,
    TooLarge,
    Unavailable,
)
from accel.oci.layers import open_regular
from accel.oci.manifests import DOCKER_INDEX, DOCKER_MANIFEST, OCI_INDEX, OCI_MANIFEST, Descriptor, Document
from accel.oci.reference import Reference, host_name, is_private_host

__all__ = ["Credentials", "Registry"]

MAX_MANIFEST_BYTES = 4 << 20  # what the distribution specification asks registries to accept
_CHUNK = 1 << 20
_ACCEPT = f"{OCI_MANIFEST}, {OCI_INDEX}, {DOCKER_MANIFEST}, {DOCKER_INDEX}"
_WRITES = ("POST", "PUT", "PATCH")
# How Docker's registry says that its disk is full: the words, or the number (ENOSPC, EDQUOT) that its driver gave.
_NO_SPACE = re.compile(r'no space left|quota exceeded|"Err":\s*(28|122)\b', re.IGNORECASE)
_MAX_ERROR_CHARACTERS = 10_000
_NEXT_LINK = re.compile(r'<([^>]+)>\s*;\s*rel="?next"?')


class Registry:
    """A connection to one registry; use as a context manager or call `close`."""

    def __init__(
        self,
        endpoint: str,
        *,
        credentials: Credentials | None = None,
        timeout: float = 60.0,
        verify: bool | str = True,
        transport: httpx.BaseTransport | None = None,
    ) -> None:
        """Connect lazily to `endpoint` (`http[s]://host:port`); `timeout` is seconds without progress."""
        self.endpoint = endpoint.rstrip("/")
        self._http = httpx.Client(
            base_url=self.endpoint,
            auth=RegistryAuth(credentials),
            timeout=httpx.Timeout(timeout, connect=min(timeout, 10.0)),
            transport=transport or httpx.HTTPTransport(retries=2, verify=verify),
            follow_redirects=False,
        )

    @classmethod
    def of(
        cls,
        reference: Reference,
        default_endpoint: str,
        *,
        insecure: bool = False,
        credentials: Credentials | None = None,
    ) -> Self:
        """Open the registry that a reference names.

        A reference without a host means `default_endpoint`. Another host is spoken to by HTTPS, except
        private ones (see `is_private_host`) when `insecure` allows plain HTTP.
        """
        if reference.registry is None or reference.registry == urlsplit(default_endpoint).netloc:
            return cls(default_endpoint, credentials=credentials)
        plain = insecure and is_private_host(host_name(reference.registry))
        return cls(f"{'http' if plain else 'https'}://{reference.registry}", credentials=credentials)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close the connections."""
        self._http.close()

    # Manifests and tags

    def get_manifest(self, repository: str, target: str) -> Document:
        """Return the manifest or index that a tag or digest names.

        Raises:
            NotFound, Denied, Unavailable; InvalidContent if the bytes have not the digest that was asked for.
        """
        with self._stream(
            "GET", f"/v2/{repository}/manifests/{target}", headers={"Accept": _ACCEPT}
        ) as response:
            body = bytearray()
            for chunk in response.iter_bytes(_CHUNK):
                body += chunk
                if len(body) > MAX_MANIFEST_BYTES:
                    raise TooLarge(
                        f"The manifest {repository}:{target} is larger than {MAX_MANIFEST_BYTES} bytes."
                    )
            media_type = response.headers.get("Content-Type", OCI_MANIFEST).partition(";")[0].strip()
        document = Document(media_type, bytes(body))
        if is_digest(target) and document.digest != target:
            raise InvalidContent(
                f"The registry answered {document.digest} when asked for {repository}@{target}."
            )
        return document

    def put_manifest(self, repository: str, target: str, document: Document) -> str:
        """Store a manifest under a tag or under its own digest, and return its digest."""
        self._request(
            "PUT",
            f"/v2/{repository}/manifests/{target}",
            content=document.body,
            headers={"Content-Type": document.media_type},
        )
        return document.digest

    def tags(self, repository: str) -> list[str]:
        """Return all tags of a repository, sorted; none for a repository that does not exist."""
        names: set[str] = set()
        url: str | None = f"/v2/{repository}/tags/list?n=1000"
        while url:
            try:
                response = self._request("GET", url)
            except NotFound:
                break
            try:
                names.update(str(name) for name in response.json().get("tags") or [])
            except (ValueError, AttributeError) as error:
                raise InvalidContent(f"The list of tags of {repository} is malformed.") from error
            link = _NEXT_LINK.search(response.headers.get("Link", ""))
            url = urljoin(url, link.group(1)) if link else None
        return sorted(names)

    # Blobs

    def has_blob(self, repository: str, digest: str) -> bool:
        """Tell whether the repository already holds a blob."""
        try:
            self._request("HEAD", f"/v2/{repository}/blobs/{digest}")
        except NotFound:
            return False
        return True

    def get_blob(
        self,
        repository: str,
        descriptor: Descriptor,
        target: IO[bytes],
        *,
        max_bytes: int | None = None,
        progress: Callable[[], None] = lambda: None,
    ) -> None:
        """Stream a blob into an open file and check its size and digest.

        `progress` is called for each piece that arrives; what it raises ends the download.
        """
        limit = descriptor.size if max_bytes is None else min(descriptor.size, max_bytes)
        if descriptor.size > limit:
            raise TooLarge(f"The blob {descriptor.digest} has {descriptor.size} bytes; {limit} are allowed.")
        seen, received = hashlib.sha256(), 0
        with self._stream("GET", f"/v2/{repository}/blobs/{descriptor.digest}") as response:
            # In pieces as they come: with a fixed size, a dripping server would never let the caller look up.
            for chunk in response.iter_bytes():
                progress()
                received += len(chunk)
                if received > limit:
                    raise InvalidContent(
                        f"The blob {descriptor.digest} is longer than its {descriptor.size} bytes."
                    )
                seen.update(chunk)
                target.write(chunk)
        if f"sha256:{seen.hexdigest()}" != descriptor.digest:
            raise InvalidContent(
                f"{received} bytes came for the blob {descriptor.digest}, with another digest."
            )

    def read_blob(
        self, repository: str, descriptor: Descriptor, *, max_bytes: int = MAX_MANIFEST_BYTES
    ) -> bytes:
        """Return a small blob (a config, a report) as bytes."""
        with TemporaryDirectory() as folder:
            path = Path(folder) / "blob"
            with path.open("wb") as file:
                self.get_blob(repository, descriptor, file, max_bytes=max_bytes)
            return path.read_bytes()

    def put_blob(self, repository: str, content: bytes | Path, *, digest: str | None = None) -> str:
        """Upload bytes or a file unless the repository has them, and return their digest."""
        if isinstance(content, bytes):
            digest = digest_of(content)
        elif digest is None:
            digest = digest_of_file(content)
        if not self.has_blob(repository, digest):
            started = self._request("POST", f"/v2/{repository}/blobs/uploads/")
            self._finish_upload(started, content, digest)
        return digest

    def mount_blob(self, repository: str, digest: str, source: str) -> bool:
        """Make a blob of another repository of this registry part of this one; False if it will not."""
        response = self._request(
            "POST", f"/v2/{repository}/blobs/uploads/", params={"mount": digest, "from": source}
        )
        if response.status_code == httpx.codes.CREATED:
            return True
        # 202 opened an upload session instead: the blob is absent or may not be read. Give it back.
        location = response.headers.get("Location")
        if location:
            with suppress(Rejected):  # sessions expire by themselves
                self._request("DELETE", urljoin(f"{self.endpoint}/", location))
        return False

    def copy_blob(
        self, repository: str, descriptor: Descriptor, source: "Registry", source_repository: str
    ) -> None:
        """Bring a blob here: nothing if present, a mount within one registry, else a copy through a file."""
        if self.has_blob(repository, descriptor.digest):
            return
        if source.endpoint == self.endpoint and self.mount_blob(
            repository, descriptor.digest, source_repository
        ):
            return
        with TemporaryDirectory() as folder:
            path = Path(folder) / "blob"
            with path.open("wb") as file:
                source.get_blob(source_repository, descriptor, file)
            self.put_blob(repository, path, digest=descriptor.digest)

    def _finish_upload(self, started: httpx.Response, content: bytes | Path, digest: str) -> None:
        location = started.headers.get("Location")
        if not location:
            raise InvalidContent(f"{self.endpoint} opened an upload without saying where.")
        url = httpx.URL(urljoin(f"{self.endpoint}/", location)).copy_merge_params({"digest": digest})
        if isinstance(content, bytes):
            self._request("PUT", url, content=content, headers={"Content-Type": "application/octet-stream"})
            return
        with open_regular(content) as file:
            size = os.fstat(file.fileno()).st_size
            self._request(
                "PUT",
                url,
                content=_FileBody(file),
                headers={"Content-Type": "application/octet-stream", "Content-Length": str(size)},
            )

    # HTTP

    def _request(self, method: str, url: str | httpx.URL, **options: object) -> httpx.Response:
        with self._stream(method, url, **options) as response:
            try:
                response.read()
            except httpx.TransportError as error:
                raise self._unavailable(error) from error
            return response

    @contextmanager
    def _stream(self, method: str, url: str | httpx.URL, **options: object) -> Iterator[httpx.Response]:
        # Storage back ends answer reads with a redirect to themselves; only those are followed, and httpx
        # drops the Authorization header when the host changes.
        follow = method in ("GET", "HEAD")
        try:
            with self._http.stream(method, url, follow_redirects=follow, **options) as response:  # type: ignore[arg-type]
                if response.status_code >= 300:
                    response.read()
                    raise self._failure(response)
                yield response
        except httpx.TransportError as error:
            raise self._unavailable(error) from error

    def _unavailable(self, error: httpx.TransportError) -> Unavailable:
        return Unavailable(
            f"The registry {self.endpoint} cannot be reached: {error or type(error).__name__}."
        )

    def _failure(self, response: httpx.Response) -> Unavailable | Rejected:
        """Return the error of the tree that an answer means."""
        request = response.request
        said = _error_text(response)
        what = f"{request.method} {request.url.copy_with(query=None)} answered {response.status_code}{said}"
        if response.status_code == httpx.codes.NOT_FOUND:
            return NotFound(f"{what}.")
        if response.status_code in (401, 403):
            return Denied(f"{what}.")
        if response.status_code == httpx.codes.INSUFFICIENT_STORAGE or (
            response.status_code >= 500 and _NO_SPACE.search(response.text[:_MAX_ERROR_CHARACTERS])
        ):
            return Full(f"{what}.")
        if response.status_code == httpx.codes.METHOD_NOT_ALLOWED and request.method in _WRITES:
            return ReadOnly(f"{what}.")
        if response.status_code >= 500 or response.status_code in (408, 425, 429):
            return Unavailable(f"{what}.")
        return Rejected(f"{what}.")


class _FileBody:
    """A request body that can be sent again after a token was fetched, unlike a generator."""

    def __init__(self, file: IO[bytes]) -> None:
        self._file = file

    def __iter__(self) -> Iterator[bytes]:
        self._file.seek(0)
        while chunk := self._file.read(_CHUNK):
            yield chunk


def _error_text(response: httpx.Response) -> str:
    try:
        errors = response.json()["errors"]
        return ": " + "; ".join(str(error.get("message") or error["code"]) for error in errors)[:500]
    except (ValueError, KeyError, TypeError, AttributeError):
        return ""
