"""A reverse proxy before the API server, in the test's own process: it sees every request, and can lose any.

The operator speaks plain HTTP to it on 127.0.0.1, with its token; it speaks TLS to the real server.
"""

import asyncio
import json
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass

import aiohttp
from aiohttp import web
from servers import Server

WRITES = ("POST", "PUT", "PATCH", "DELETE")
HOP = {"Transfer-Encoding", "Content-Length", "Connection", "Host"}


@dataclass(frozen=True)
class Write:
    """A write that reached the server; status is the server's answer."""

    method: str
    path: str
    status: int

    @property
    def created(self) -> bool:
        """Tell whether it made an object."""
        return self.status == 201


async def nothing(_method: str, _path: str) -> bool:
    """Let it pass: the hooks' default."""
    return True


class Proxy:
    """What the operator takes for the API server."""

    def __init__(self, server: Server) -> None:
        self._server = server
        self.port = 0
        self.writes: list[Write] = []
        self.watches = 0  # begun so far
        # Asked about each write before it goes on, and about its answer before that goes back; False loses it.
        self.before: Callable[[str, str], Awaitable[bool]] = nothing
        self.after: Callable[[str, str], Awaitable[bool]] = nothing
        self.deaf = False  # whatever kopf asks from now on, listings and watches, is never answered
        self.refusing = False  # connections are closed without an answer
        self._connections: set[asyncio.BaseTransport] = set()
        self._holes: set[asyncio.BaseTransport] = set()
        self._streams: dict[asyncio.Task[None], web.StreamResponse] = {}

    @property
    def url(self) -> str:
        """What to write into a kubeconfig."""
        return f"http://127.0.0.1:{self.port}"

    def black_hole(self) -> None:
        """Let the connections of this moment deliver nothing any more, without an end and without an error."""
        self._holes |= self._connections

    def cut(self) -> None:
        """End all watches of this moment in the middle of whatever they deliver."""
        for stream in self._streams:
            stream.cancel()

    async def fail(self) -> None:
        """Send an error that kopf does not forgive into all watches of this moment."""
        status = {
            "kind": "Status",
            "apiVersion": "v1",
            "code": 500,
            "message": "etcdserver: request timed out",
        }
        line = json.dumps({"type": "ERROR", "object": status}).encode() + b"\n"
        for response in list(self._streams.values()):
            await response.write(line)

    @asynccontextmanager
    async def running(self) -> AsyncIterator["Proxy"]:
        """Serve on a free port."""
        context = ssl.create_default_context(cafile=str(self._server.folder / "certs" / "apiserver.crt"))
        application = web.Application(client_max_size=64 << 20)
        application.router.add_route("*", "/{path:.*}", self._handle)
        runner = web.AppRunner(application, access_log=None, shutdown_timeout=0.1)
        connector = aiohttp.TCPConnector(ssl=context, limit=0)
        async with aiohttp.ClientSession(connector=connector, auto_decompress=False) as self._session:
            await runner.setup()
            site = web.TCPSite(runner, "127.0.0.1", self.port)
            await site.start()
            self.port = runner.addresses[0][1]
            try:
                yield self
            finally:
                self.cut()
                await runner.cleanup()

    async def _handle(self, request: web.Request) -> web.StreamResponse:
        line = request.transport
        if line is None or self.refusing:
            _drop(request)
            return web.Response(status=503)
        self._connections = {known for known in self._connections if not known.is_closing()} | {line}
        if line in self._holes or (self.deaf and request.headers.get("User-Agent", "").startswith("kopf")):
            await asyncio.Event().wait()  # until the other side gives up
        write = request.method in WRITES and "dryRun" not in request.query
        body = await request.read()
        if write and not await self.before(request.method, request.path):
            _drop(request)
            return web.Response(status=503)
        try:
            answer = await self._session.request(
                request.method,
                f"{self._server.url}{request.raw_path}",
                data=body or None,
                headers={name: value for name, value in request.headers.items() if name not in HOP},
                timeout=aiohttp.ClientTimeout(total=None),
            )
        except aiohttp.ClientError:
            _drop(request)
            return web.Response(status=503)
        headers = {name: value for name, value in answer.headers.items() if name not in HOP}
        if request.query.get("watch") == "true":
            return await self._stream(request, line, answer, headers)
        async with answer:
            content = await answer.read()
        if write:
            self.writes.append(Write(request.method, request.path, answer.status))
            if not await self.after(request.method, request.path):
                _drop(request)
        return web.Response(status=answer.status, body=content, headers=headers)

    async def _stream(
        self,
        request: web.Request,
        line: asyncio.BaseTransport,
        answer: aiohttp.ClientResponse,
        headers: dict[str, str],
    ) -> web.StreamResponse:
        self.watches += 1
        response = web.StreamResponse(status=answer.status, headers=headers)
        response.enable_chunked_encoding()
        await response.prepare(request)
        stream = asyncio.create_task(self._pass_on(line, answer, response))
        self._streams[stream] = response
        try:
            await stream
        except (asyncio.CancelledError, aiohttp.ClientError, OSError):
            _drop(request)
            if not stream.done():  # it is this request that was cancelled
                raise
        finally:
            del self._streams[stream]
            stream.cancel()
            answer.close()
        return response

    async def _pass_on(
        self, line: asyncio.BaseTransport, answer: aiohttp.ClientResponse, response: web.StreamResponse
    ) -> None:
        async for chunk in answer.content.iter_any():
            if line not in self._holes:
                await response.write(chunk)
        if line in self._holes:
            await asyncio.Event().wait()  # nobody is told of the end either


def _drop(request: web.Request) -> None:
    """Close the connection as a lost one is: without an answer."""
    if request.transport is not None:
        request.transport.abort()
