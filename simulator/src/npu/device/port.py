"""Where device.sock is: accepts connections, bounds their number, and takes the device from its owner at a reset."""

import asyncio
import logging
import os
import socket
from pathlib import Path

from npu.device.emulator import Device
from npu.device.sessions import HELLO_SECONDS, Ownership, Session
from npu.device.wire import Code

__all__ = ["Port"]

log = logging.getLogger(__name__)
MAX_CONNECTIONS = 16  # at once, the owner included


class Port:
    """Listens on device.sock and knows who owns the device."""

    def __init__(self, device: Device, path: Path) -> None:
        self._device = device
        self._ownership = Ownership()
        self._sessions: set[asyncio.Task[None]] = set()
        device.on_end = self._end_owner
        path.unlink(missing_ok=True)
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self._socket.setblocking(False)
        before = os.umask(
            0o111
        )  # 0666: whoever reaches the directory may connect, and only the allocated pod does
        try:
            self._socket.bind(str(path))
        finally:
            os.umask(before)
        self._socket.listen(MAX_CONNECTIONS)

    async def serve(self) -> None:
        """Accept for ever."""
        loop = asyncio.get_running_loop()
        while True:
            try:
                connection, _ = await loop.sock_accept(self._socket)
            except OSError as error:  # out of file descriptors, or the client is gone already
                log.warning("cannot accept: %s", error)
                await asyncio.sleep(HELLO_SECONDS / 10)
                continue
            if len(self._sessions) >= MAX_CONNECTIONS:
                connection.close()
                continue
            task = loop.create_task(Session(self._device, self._ownership, connection).run())
            self._sessions.add(task)
            task.add_done_callback(self._sessions.discard)

    def _end_owner(self, code: Code, message: str) -> None:
        if self._ownership.session is not None:
            self._ownership.session.interrupt(code, message)
