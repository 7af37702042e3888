"""Bringing a source over HTTP(S) into a file, bounded in bytes and seconds."""

import hashlib
import time
from pathlib import Path
from typing import Final
from urllib.parse import urlsplit

import httpx
from accel.oci.reference import is_private_host

from accel_toolchain.conditions import Failure, Terminal, Transient
from accel_toolchain.credentials import Secret
from accel_toolchain.progress import progress

_MAX_REDIRECTS: Final = 5
_STALL_SECONDS: Final = 30.0


class Deadline:
    """The time that is left for fetching."""

    def __init__(self, seconds: float) -> None:
        self.seconds = seconds
        self._end = time.monotonic() + seconds

    def check(self) -> None:
        """Raise Transient (SourceUnavailable) when the time is up."""
        if time.monotonic() > self._end:
            raise Transient(
                "SourceUnavailable",
                f"spec.source.uri: the source did not arrive within {self.seconds:.0f} s. It is tried again.",
            )


def download(url: str, target: Path, max_bytes: int, deadline: Deadline, secret: Secret | None = None) -> str:
    """Write what a URL holds to a file and return its sha256 (64 hexadecimal digits).

    Redirects are followed, each of them checked as the first URL was, and never from HTTPS to HTTP. The Secret's
    credentials go to the host of the first URL and to no other.

    Raises:
        Terminal: UnsupportedScheme, SourceNotFound, SourceDenied, SourceSecretInvalid, SourceUntrusted, SourceTooLarge.
        Transient: SourceUnavailable.
    """
    first = _origin(url)
    authorization = secret.authorization() if secret is not None else None
    timeout = httpx.Timeout(_STALL_SECONDS, connect=10.0)
    try:
        with httpx.Client(timeout=timeout) as http:
            for _ in range(_MAX_REDIRECTS + 1):
                check_url(url)
                deadline.check()
                mine = authorization is not None and _origin(url) == first
                headers = {"Authorization": authorization} if authorization is not None and mine else {}
                with http.stream("GET", url, headers=headers) as response:
                    if response.next_request is not None:
                        following = str(response.next_request.url)
                        if url.startswith("https:") and not following.startswith("https:"):
                            raise Terminal(
                                "UnsupportedScheme",
                                f"spec.source.uri: {shown(url)} redirects from https to {shown(following)}.",
                            )
                        url = following
                        continue
                    if not response.is_success:
                        raise _refused(url, response.status_code, secret)
                    return _receive(response, url, target, max_bytes, deadline)
    except httpx.InvalidURL as error:
        raise Terminal("UnsupportedScheme", f"spec.source.uri is not a URL: {error}.") from error
    except httpx.TransportError as error:
        if "CERTIFICATE_VERIFY_FAILED" in str(error):
            raise Terminal(
                "SourceUntrusted",
                f"spec.source.uri: the certificate of {shown(url)} is not signed by an authority that is trusted "
                "here. Put the authority's certificate as ca.crt into the Secret of spec.source.secretRef.",
            ) from error
        raise Transient(
            "SourceUnavailable",
            f"spec.source.uri: {shown(url)} cannot be read: {error or type(error).__name__}.",
        ) from error
    raise Terminal(
        "SourceNotFound", f"spec.source.uri: more than {_MAX_REDIRECTS} redirects, the last to {shown(url)}."
    )


def check_url(url: str) -> None:
    """Allow HTTPS everywhere, and plain HTTP only where it stays inside the cluster; raises Terminal."""
    parts = urlsplit(url)
    if parts.scheme not in ("http", "https"):
        raise Terminal("UnsupportedScheme", f"spec.source.uri: {shown(url)} is neither https:// nor http://.")
    if not parts.hostname:
        raise Terminal("UnsupportedScheme", f"spec.source.uri: '{shown(url)}' names no host.")
    if parts.scheme == "http" and not is_private_host(parts.hostname):
        raise Terminal(
            "UnsupportedScheme",
            f"spec.source.uri: http:// is accepted for cluster Services and private addresses only, and "
            f"'{parts.hostname}' is neither. Use https://.",
        )


def _receive(response: httpx.Response, url: str, target: Path, max_bytes: int, deadline: Deadline) -> str:
    announced = response.headers.get("Content-Length", "")
    if announced.isdigit() and int(announced) > max_bytes:
        raise too_large(int(announced), max_bytes)
    total = int(announced) if announced.isdigit() else None
    digest, received = hashlib.sha256(), 0
    with target.open("wb") as file:
        # Raw: the digest is of the bytes at the URI, not of what a Content-Encoding makes of them. In pieces
        # as they come: with a fixed piece size a dripping server would never let the deadline be checked.
        for chunk in response.iter_raw():
            received += len(chunk)
            if received > max_bytes:
                raise too_large(received, max_bytes)
            deadline.check()
            progress.moved("fetched", received, total)
            digest.update(chunk)
            file.write(chunk)
    if announced.isdigit() and received != int(announced):
        raise Transient(
            "SourceUnavailable",
            f"spec.source.uri: {shown(url)} ended after {received} of {announced} bytes.",
        )
    return digest.hexdigest()


def too_large(size: int, max_bytes: int) -> Terminal:
    """Return the condition for a source over the limit."""
    return Terminal(
        "SourceTooLarge",
        f"spec.source.uri: the source has {size} bytes or more, the limit is {max_bytes}. "
        "Leave out what serving does not need, or have operator.jobs.maxSourceBytes of the chart raised.",
    )


def _refused(url: str, status: int, secret: Secret | None) -> Failure:
    where = f"spec.source.uri: {shown(url)} answered {status}"
    if status in (401, 403):
        return denied(where, secret)
    if status in (404, 410):
        return Terminal("SourceNotFound", f"{where}. Check the address.")
    if status >= 500 or status in (408, 425, 429):
        return Transient("SourceUnavailable", f"{where}. It is tried again.")
    return Terminal("SourceNotFound", f"{where}. Check the address.")


def denied(where: str, secret: Secret | None) -> Failure:
    """Return the condition for credentials that are wrong, or not there."""
    if secret is not None:
        return Terminal(
            "SourceDenied",
            f"{where}. The credentials of Secret {secret.name} (spec.source.secretRef) are refused: correct the "
            "Secret.",
        )
    return Terminal(
        "SourceDenied",
        f"{where}. Name a Secret with credentials in spec.source.secretRef, or make the source readable without.",
    )


def _origin(url: str) -> tuple[str, str]:
    parts = urlsplit(url)
    return parts.scheme, parts.netloc


def shown(url: str) -> str:
    """A URL for a message: without query and credentials, which may be secrets."""
    parts = urlsplit(url)
    return f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}{parts.path}"
