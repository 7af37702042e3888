"""How a registry is satisfied that asks who calls: Basic, or a Bearer token from the server that its challenge names."""

import re
from collections.abc import Generator
from dataclasses import dataclass, field
from urllib.parse import urlsplit

import httpx

_PARAMETER = re.compile(r'(\w+)="([^"]*)"')


@dataclass(frozen=True)
class Credentials:
    """A registry account; the password never appears in a representation."""

    username: str
    password: str = field(repr=False)


class RegistryAuth(httpx.Auth):
    """Answers a 401 once, with what its challenge asks for, and remembers tokens per scope."""

    def __init__(self, credentials: Credentials | None) -> None:
        self._credentials = credentials
        self._tokens: dict[str, str] = {}
        self._last: str | None = None

    def auth_flow(self, request: httpx.Request) -> Generator[httpx.Request, httpx.Response, None]:
        """Send the request, and once more with an answer to the challenge if there is one."""
        if self._last:
            request.headers["Authorization"] = self._last
        response = yield request
        if response.status_code != httpx.codes.UNAUTHORIZED:
            return
        scheme, _, rest = response.headers.get("WWW-Authenticate", "").partition(" ")
        parameters = dict(_PARAMETER.findall(rest))
        if scheme.lower() == "basic" and self._credentials:
            self._last = self._basic()
        elif scheme.lower() == "bearer" and _may_ask(parameters.get("realm", ""), request.url):
            scope = parameters.get("scope", "")
            asked = httpx.Request(
                "GET",
                parameters["realm"],
                params={key: parameters[key] for key in ("service", "scope") if key in parameters},
                headers={"Authorization": self._basic()} if self._credentials else {},
            )
            answer = yield asked
            answer.read()
            token = _token(answer)
            if token is None:
                return
            self._tokens[scope] = token
            self._last = f"Bearer {token}"
        else:
            return
        request.headers["Authorization"] = self._last
        yield request

    def _basic(self) -> str:
        assert self._credentials is not None
        user, password = self._credentials.username, self._credentials.password
        return httpx.BasicAuth(user, password)._auth_header
