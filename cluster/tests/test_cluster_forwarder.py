"""The forwarder on real sockets; the namespaces it crosses are the cluster's own tests' business."""

import asyncio
import functools
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine
from contextlib import asynccontextmanager

import pytest
from accel_cluster.forwarder import Forward, Target, arguments, parse
from accel_cluster.settings import Settings

Scenario = Callable[[], Coroutine[None, None, None]]
Handler = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


def own_loop(test: Scenario) -> Callable[[], None]:
    """Run an async test in a loop of its own.

    pytest-asyncio 1.5 leaves a loop open when a sync test came first; a garbage collection in a later test
    then fails that one.
    """

    @functools.wraps(test)
    def run() -> None:
        loop = asyncio.new_event_loop()
        try:
            loop.run_until_complete(test())
        finally:
            loop.close()

    return run


@pytest.fixture(autouse=True)
def _forget_shunned() -> None:
    Forward.shunned.clear()


@asynccontextmanager
async def listening(handler: Handler) -> AsyncIterator[int]:
    """Serve connections with `handler` on the port that is yielded; leave when all of them have ended."""
    running: set[asyncio.Task[None]] = set()

    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        running.add(task)
        try:
            await handler(reader, writer)
        finally:
            running.discard(task)
            writer.close()

    server = await asyncio.start_server(handle, "127.0.0.1", 0)
    async with server:
        yield server.sockets[0].getsockname()[1]
        if running:
            await asyncio.wait(running, timeout=5)


async def shout(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Answer only when the question has ended: needs the half-closed connection to be passed on."""
    writer.write((await reader.read()).upper())
    await writer.drain()
    writer.close()


async def ask(port: int, question: bytes) -> bytes:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    try:
        writer.write(question)
        writer.write_eof()
        return await reader.read()
    finally:
        writer.transport.abort()


def test_every_port_of_the_cluster_is_forwarded() -> None:
    routes = dict(map(parse, arguments(Settings())))
    assert routes[36443] == [Target("10.89.0.1", 6443)]
    assert routes[31000] == [Target(f"10.89.0.{number}", 31000) for number in (10, 11, 12)]
    assert len(routes) == 2 + 64


@own_loop
async def test_bytes_and_the_end_of_the_question_pass() -> None:
    async with (
        listening(shout) as far,
        listening(Forward([Target("127.0.0.1", far)]).serve) as near,
    ):
        assert await ask(near, b"question " * 100_000) == b"QUESTION " * 100_000


@own_loop
async def test_a_stream_passes_while_it_lasts() -> None:
    async def echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while line := await reader.readline():
            writer.write(line)
        writer.close()

    async with listening(echo) as far, listening(Forward([Target("127.0.0.1", far)]).serve) as near:
        reader, writer = await asyncio.open_connection("127.0.0.1", near)
        for number in range(20):
            writer.write(b"%d\n" % number)
            assert await asyncio.wait_for(reader.readline(), 2) == b"%d\n" % number
        writer.close()
        await writer.wait_closed()


@own_loop
async def test_the_next_target_is_taken_when_one_refuses() -> None:
    async with listening(shout) as closed:
        pass
    async with (
        listening(shout) as far,
        listening(Forward([Target("127.0.0.1", closed), Target("127.0.0.1", far)]).serve) as near,
    ):
        assert await ask(near, b"x") == b"X"


@own_loop
async def test_nobody_there_is_a_reset_and_no_empty_answer() -> None:
    async with listening(shout) as closed:
        pass
    async with listening(Forward([Target("127.0.0.1", closed)]).serve) as near:
        with pytest.raises(ConnectionResetError):
            await ask(near, b"x")
