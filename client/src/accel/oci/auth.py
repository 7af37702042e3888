"""How a registry is satisfied that asks who calls: Basic, or a Bearer token from the server it names."""

import base64
import re
from collections.abc import Generator
from dataclasses import dataclass, field

import httpx

_PARAMETER = re.compile(r'(\w+)="([^"]*)"')


@dataclass(frozen=True)
class Credentials:
    """A registry account; the password never appears in a representation."""

    username: str
    password: str = field(repr=False)

    @property
    def basic(self) -> str:
        """Value of an Authorization header."""
        return "Basic " + base64.b64encode(f"{self.username}:{self.password}".encode()).decode()


class RegistryAuth(httpx.Auth):
    """Answers a 401 once, with what its challenge asks for, and keeps the answer for the next request.

    A kept token may be for another scope; then the registry challenges again: one more round trip.
    """

    def __init__(self, credentials: Credentials | None) -> None:
        self._credentials = credentials
        self._authorization: str | None = None

    def auth_flow(self, request: httpx.Request) -> Generator[httpx.Request, httpx.Response, None]:
        """Send the request, and once more with an answer to the challenge if there is one."""
        if self._authorization:
            request.headers["Authorization"] = self._authorization
        response = yield request
        if response.status_code != httpx.codes.UNAUTHORIZED:
            return
        scheme, _, rest = response.headers.get("WWW-Authenticate", "").partition(" ")
        parameters = dict(_PARAMETER.findall(rest))
        if scheme.lower() == "basic" and self._credentials:
            self._authorization = self._credentials.basic
        elif scheme.lower() == "bearer" and _may_ask(parameters.get("realm", ""), request.url):
            answer = yield httpx.Request(
                "GET",
                parameters["realm"],
                params={key: parameters[key] for key in ("service", "scope") if key in parameters},
                headers={"Authorization": self._credentials.basic} if self._credentials else {},
            )
            answer.read()
            token = _token(answer)
            if token is None:
                return
            self._authorization = f"Bearer {token}"
        else:
            return
        request.headers["Authorization"] = self._authorization
        yield request


def _may_ask(realm: str, registry: httpx.URL) -> bool:
    """A token server is asked by HTTPS; by HTTP only where the registry itself speaks nothing better."""
    return realm.startswith("https://") or (registry.scheme == "http" and realm.startswith("http://"))


def _token(answer: httpx.Response) -> str | None:
    try:
        document = answer.json()
        token = document.get("token") or document.get("access_token")
    except (ValueError, AttributeError):
        return None
    return token if isinstance(token, str) else None
