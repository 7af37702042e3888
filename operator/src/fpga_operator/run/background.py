"""Work beside the reconciling, that must neither end nor end anything else."""

import asyncio
import contextlib
import logging
from collections.abc import AsyncIterator, Awaitable, Callable

log = logging.getLogger(__name__)

PAUSE_SECONDS = 60.0


@contextlib.asynccontextmanager
async def tended(**works: Callable[[], Awaitable[None]]) -> AsyncIterator[None]:
    """Run each work as a task while the context lasts; one that fails by a defect of ours begins again."""
    tasks = [asyncio.create_task(_tend(name, work), name=name) for name, work in works.items()]
    try:
        yield
    finally:
        for task in tasks:
            task.cancel()
        for task in tasks:
            with contextlib.suppress(asyncio.CancelledError):
                await task


async def _tend(name: str, work: Callable[[], Awaitable[None]]) -> None:
    while True:
        try:
            await work()
        except Exception:
            log.exception("%s failed; again in %.0f s", name, PAUSE_SECONDS)
        await asyncio.sleep(PAUSE_SECONDS)
