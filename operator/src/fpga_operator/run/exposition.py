"""/metrics over HTTP, answered in the event loop: what is read stands still while it is read.

prometheus_client's own server answers in a thread, which would walk the store and the queue while they change.
"""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from aiohttp import web
from prometheus_client import CollectorRegistry
from prometheus_client.exposition import choose_encoder


@asynccontextmanager
async def exposed(registry: CollectorRegistry, port: int) -> AsyncIterator[None]:
    """Serve the registry on all addresses; a port of 0 serves nothing."""
    if not port:
        yield
        return

    async def metrics(request: web.Request) -> web.Response:
        encoder, content_type = choose_encoder(request.headers.get("Accept", ""))
        return web.Response(body=encoder(registry), headers={"Content-Type": content_type})

    application = web.Application()
    application.router.add_get("/metrics", metrics)
    runner = web.AppRunner(application, access_log=None)
    await runner.setup()
    await web.TCPSite(runner, port=port).start()
    try:
        yield
    finally:
        await runner.cleanup()
