"""The registry client: accounts, challenges, and what answers mean. The server is a real one, in this process."""

import base64
import hashlib
import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer
from fpga_operator.run.registry import Absent, Account, Refused, Registry, Unreachable, account_of

D = "sha256:" + "1" * 64
OK = {"manifests": [], "annotations": {}}
DIGEST_OF_OK = "sha256:" + hashlib.sha256(json.dumps(OK).encode()).hexdigest()
MISSING = {"errors": [{"code": "MANIFEST_UNKNOWN", "message": "manifest unknown"}]}
ACCOUNT = Account("me", "secret")


class Server:
    """Answers as registries do that tests cannot run: with challenges, pages, and proxies before them."""

    def __init__(self) -> None:
        self.answers: dict[str, Any] = {}
        self.asks = ""  # Basic or Bearer
        self.server = TestServer(web.Application())
        self.server.app.router.add_route("*", "/{path:.*}", self.answer)

    @property
    def url(self) -> str:
        return str(self.server.make_url("/")).rstrip("/")

    async def answer(self, request: web.Request) -> web.Response:
        if request.path == "/token":
            assert request.headers["Authorization"] == ACCOUNT.basic
            assert request.query["scope"] == "registry:catalog:*"
            return web.json_response({"token": "t"})
        wanted = {"Basic": ACCOUNT.basic, "Bearer": "Bearer t", "": None}[self.asks]
        if wanted and request.headers.get("Authorization") != wanted:
            realm = f'realm="{self.url}/token",service="s",scope="registry:catalog:*"'
            return web.Response(status=401, headers={"WWW-Authenticate": f"{self.asks} {realm}"})
        status, body, headers = self.answers.get(f"{request.method} {request.path_qs}", (404, "<html>", {}))
        text = body if isinstance(body, str) else json.dumps(body)
        return web.Response(status=status, text=text, headers=headers)


@pytest.fixture
async def server() -> AsyncIterator[Server]:
    made = Server()
    await made.server.start_server()
    yield made
    await made.server.close()


@pytest.mark.parametrize("scheme", ["", "Basic", "Bearer"])
async def test_challenges_are_answered(server: Server, scheme: str) -> None:
    server.asks = scheme
    server.answers["GET /v2/_catalog?n=500"] = (200, {"repositories": ["a"]}, {})
    async with Registry(server.url, ACCOUNT) as registry:
        assert await registry.catalog() == ["a"]
        assert await registry.catalog() == ["a"]


async def test_without_an_account_it_is_refused(server: Server) -> None:
    server.asks = "Basic"
    async with Registry(server.url) as registry:
        with pytest.raises(Refused, match="401"):
            await registry.catalog()


async def test_pages_are_read_to_the_end(server: Server) -> None:
    pages = {
        "n=500": (["a", "b"], "n=500&last=b"),
        "n=500&last=b": (["c"], "n=500&last=c"),
        "n=500&last=c": ([], ""),
    }
    for query, (names, after) in pages.items():
        link = {"Link": f'</v2/_catalog?{after}>; rel="next"'} if after else {}
        server.answers[f"GET /v2/_catalog?{query}"] = (200, {"repositories": names}, link)
    async with Registry(server.url) as registry:
        assert await registry.catalog() == ["a", "b", "c"]


async def test_a_page_that_names_itself_ends(server: Server) -> None:
    again = {"Link": '</v2/_catalog?n=500>; rel="next"'}
    server.answers["GET /v2/_catalog?n=500"] = (200, {"repositories": ["a"]}, again)
    async with Registry(server.url) as registry:
        assert await registry.catalog() == ["a"]


ANSWERS: dict[str, tuple[tuple[int, Any], Any]] = {
    # name: (answer to GET of a manifest, what it means)
    "there": ((200, OK), DIGEST_OF_OK),
    "the registry says it is not": ((404, MISSING), None),
    "a proxy says it is not": ((404, "<html>not found</html>"), Refused),
    "broken down": ((500, ""), Unreachable),
    "busy": ((429, ""), Unreachable),
    "forbidden": ((403, {"errors": [{"code": "DENIED", "message": "no"}]}), Refused),
}


@pytest.mark.parametrize(("answer", "means"), ANSWERS.values(), ids=ANSWERS)
async def test_only_the_registrys_own_word_is_a_loss(
    server: Server, answer: tuple[int, Any], means: Any
) -> None:
    status, body = answer
    server.answers[f"GET /v2/a/b/manifests/{D}"] = (status, body, {})
    async with Registry(server.url) as registry:
        if isinstance(means, type):
            with pytest.raises(means):
                await registry.digest("a/b", D)
        else:
            assert await registry.digest("a/b", D) == means


async def test_deleting_what_is_gone_is_fine(server: Server) -> None:
    server.answers[f"DELETE /v2/a/b/manifests/{D}"] = (404, MISSING, {})
    async with Registry(server.url) as registry:
        assert not await registry.delete("a/b", D)
        server.answers[f"GET /v2/a/b/manifests/{D}"] = (404, MISSING, {})
        with pytest.raises(Absent):
            await registry.manifest("a/b", D)


async def test_nobody_listens() -> None:
    async with Registry("http://127.0.0.1:1") as registry:
        with pytest.raises(Unreachable, match="does not answer"):
            await registry.catalog()


def encoded(text: str) -> str:
    return base64.b64encode(text.encode()).decode()


FILES: dict[str, tuple[Any, Account | None]] = {
    "a pair": ({"auths": {"r.example.com": {"username": "me", "password": "secret"}}}, ACCOUNT),
    "encoded": ({"auths": {"https://r.example.com": {"auth": encoded("me:secret")}}}, ACCOUNT),
    "with a path": ({"auths": {"https://r.example.com/v2/": {"auth": encoded("me:secret")}}}, ACCOUNT),
    "another registry's": ({"auths": {"other.example.com": {"auth": encoded("me:secret")}}}, None),
    "no accounts": ({}, None),
    "broken": ("{", None),
}


@pytest.mark.parametrize(("content", "account"), FILES.values(), ids=FILES)
def test_accounts(tmp_path: Path, content: Any, account: Account | None) -> None:
    path = tmp_path / ".dockerconfigjson"
    path.write_text(content if isinstance(content, str) else json.dumps(content))
    assert account_of(path, "r.example.com") == account
    assert "secret" not in repr(account)


def test_no_account_file(tmp_path: Path) -> None:
    assert account_of(tmp_path / "nothing", "r.example.com") is None
