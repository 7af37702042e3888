"""JSON lines over a Unix socket: one object a line in, one or more a line out. Server and client of every
control socket.
"""

import asyncio
import contextlib
import json
import logging
import os
from collections.abc import AsyncIterator, Callable, Mapping
from pathlib import Path
from typing import Any

__all__ = ["ControlError", "Handler", "request", "serve", "watch"]

log = logging.getLogger(__name__)
MAX_LINE = 1 << 20  # bytes; a request is far shorter, the longest reply is a list of devices
MAX_REQUEST = 4096

Handler = Callable[[Mapping[str, Any]], AsyncIterator[Mapping[str, object]]]


class ControlError(Exception):
    """The other side is not there, does not answer, or refuses; the message is its own."""


async def serve(path: Path, handler: Handler) -> asyncio.Server:
    """Listen on `path`, open to this user only. `handler` yields the replies to one request; ControlError
    becomes a reply.
    """

    async def connected(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(ConnectionError):
            try:
                await _converse(reader, writer, handler)
            finally:
                writer.close()

    path.unlink(missing_ok=True)  # noqa: ASYNC240 - one system call
    before = os.umask(0o177)  # the socket is never, not even for a moment, open to others
    try:
        return await asyncio.start_unix_server(connected, path, limit=MAX_REQUEST)
    finally:
        os.umask(before)


async def _converse(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, handler: Handler) -> None:
    while True:
        try:
            line = await reader.readline()
        except ValueError:  # longer than the limit
            await _send(writer, {"error": f"a request has at most {MAX_REQUEST} bytes"})
            return
        if not line:
            return
        try:
            asked = json.loads(line)
            if not isinstance(asked, dict):
                raise ControlError("a request is a JSON object with an `op`")
            gone = asyncio.ensure_future(reader.read(1)) if asked.get("op") == "watch" else None
            await _answer(writer, handler(asked), gone)
            if gone is not None:
                return
        except (ValueError, RecursionError) as error:
            await _send(writer, {"error": f"not a JSON object: {error}"})
        except ControlError as error:
            await _send(writer, {"error": str(error)})


async def _answer(
    writer: asyncio.StreamWriter,
    replies: AsyncIterator[Mapping[str, object]],
    gone: "asyncio.Future[bytes] | None",
) -> None:
    """Send the replies; with `gone`, end as soon as the other side hangs up (or says anything more)."""
    if gone is None:
        async for reply in replies:
            await _send(writer, reply)
        return
    try:
        while True:
            following = asyncio.ensure_future(anext(replies))
            either: set[asyncio.Future[Any]] = {following, gone}
            await asyncio.wait(either, return_when=asyncio.FIRST_COMPLETED)
            if gone.done():
                following.cancel()
                return
            await _send(writer, following.result())
    finally:
        gone.cancel()


async def _send(writer: asyncio.StreamWriter, reply: Mapping[str, object]) -> None:
    writer.write(json.dumps(reply, separators=(",", ":")).encode() + b"\n")
    await writer.drain()


async def _connect(
    path: Path, asked: Mapping[str, object]
) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    reader, writer = await asyncio.open_unix_connection(path, limit=MAX_LINE)
    writer.write(json.dumps(asked).encode() + b"\n")
    return reader, writer


def _reply(line: bytes, path: Path) -> dict[str, Any]:
    if not line.endswith(b"\n"):
        raise ControlError(f"{path}: the other side hung up")
    reply = json.loads(line)
    if not isinstance(reply, dict):
        raise ControlError(f"{path}: not an object: {line[:100]!r}")
    if "error" in reply:
        raise ControlError(str(reply["error"]))
    return reply


async def request(path: Path, asked: Mapping[str, object], patience: float = 5.0) -> dict[str, Any]:
    """Ask once and return the reply; raise ControlError if nobody answers within `patience` seconds, or
    refuses.
    """
    try:
        async with asyncio.timeout(patience):
            reader, writer = await _connect(path, asked)
            try:
                return _reply(await reader.readline(), path)
            finally:
                writer.close()
    except (OSError, TimeoutError, ValueError) as error:
        raise ControlError(f"{path}: {error or 'no answer in time'}") from error


async def watch(path: Path) -> AsyncIterator[dict[str, Any]]:
    """Yield the present state and then each change; raise ControlError when the other side is gone."""
    try:
        reader, writer = await _connect(path, {"op": "watch"})
        try:
            while True:
                yield _reply(await reader.readline(), path)
        finally:
            writer.close()
    except (OSError, ValueError) as error:
        raise ControlError(f"{path}: {error}") from error
