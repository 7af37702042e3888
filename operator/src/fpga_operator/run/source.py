"""kopf, run again and again in one process: a fresh start of all watches heals what no retry does.

kopf gives up on an error in a watch that it does not know, and a watch that is dead without an error goes on for ever.
Neither needs a new process: cache, queue and backoffs outlive the watches.
"""

import asyncio
import contextlib
import logging
import signal
from collections.abc import Iterator
from typing import Any

import kopf

log = logging.getLogger(__name__)

PAUSES_SECONDS = (1.0, 2.0, 5.0, 10.0)
LASTING_SECONDS = 60.0  # a run that lasted so long was well: the pauses start anew
END_SECONDS = 10.0
BETWEEN_RESTARTS_SECONDS = 30.0  # the first lists of a large cluster take their time


class Patience:
    """The pauses between tries of one request, without an end: an API server comes back, and nobody else would ask."""

    def __iter__(self) -> Iterator[float]:
        yield from (1.0, 1.0, 2.0, 3.0)
        while True:
            yield 5.0


class Source:
    """Runs kopf's operator until told to stop."""

    def __init__(self, registry: kopf.OperatorRegistry, liveness_endpoint: str | None) -> None:
        self._registry = registry
        self._liveness = liveness_endpoint
        self._end = asyncio.Event()  # of the present run
        self._begun = 0.0
        self.restarts = 0

    def restart(self, why: str) -> None:
        """Have all watches made anew, unless they are new already."""
        if (
            asyncio.get_running_loop().time() - self._begun >= BETWEEN_RESTARTS_SECONDS
            and not self._end.is_set()
        ):
            log.warning("%s: all watches are started again", why)
            self.restarts += 1
            self._end.set()

    async def run(self, stop: asyncio.Event) -> None:
        """Deliver events until `stop`, or until the process is told to end."""
        loop = asyncio.get_running_loop()
        tries = 0
        while not stop.is_set():
            self._end, self._begun = asyncio.Event(), loop.time()
            stopping = asyncio.create_task(_forward(stop, self._end), name="stop of the watches")
            try:
                await self._once()
                if not self._end.is_set():
                    return  # kopf was told by a signal
            except Exception:
                log.exception("the watches ended; they are started again")
                self.restarts += 1
            finally:
                await _cancel(stopping, END_SECONDS)
            tries = 0 if loop.time() - self._begun > LASTING_SECONDS else tries + 1
            await self._pause(stop, PAUSES_SECONDS[min(tries, len(PAUSES_SECONDS) - 1)])

    async def _once(self) -> None:
        """Run kopf until it ends, or is to end and does not: after an error of its own it may hang on its tasks."""
        kopfs = asyncio.create_task(
            kopf.operator(
                registry=self._registry,
                clusterwide=True,
                standalone=True,
                liveness_endpoint=self._liveness,
                stop_flag=self._end,
            ),
            name="kopf",
        )
        ending = asyncio.create_task(self._end.wait(), name="end of the watches")
        try:
            await asyncio.wait({kopfs, ending}, return_when=asyncio.FIRST_COMPLETED)
            await asyncio.wait({kopfs}, timeout=END_SECONDS)
            if kopfs.done():
                return kopfs.result()
            log.warning("kopf does not end by itself; its tasks are cancelled")
        finally:
            await _cancel(ending, END_SECONDS)
            if not await _cancel(kopfs, END_SECONDS):
                log.error("kopf does not end; it is left behind")

    @staticmethod
    async def _pause(stop: asyncio.Event, seconds: float) -> None:
        """Wait; a signal ends it at once, for between two runs nobody else listens to signals."""
        loop = asyncio.get_running_loop()
        for number in (signal.SIGINT, signal.SIGTERM):
            loop.add_signal_handler(number, stop.set)
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await stop.wait()


async def _forward(stop: asyncio.Event, end: asyncio.Event) -> None:
    await stop.wait()
    end.set()


async def _cancel(task: asyncio.Task[Any], patience_seconds: float) -> bool:
    """Cancel a task; tell whether it ended in that time."""
    task.cancel()
    await asyncio.wait({task}, timeout=patience_seconds)
    return task.done()
