"""The device's side of device.sock: one owner, and nothing that a client sends can do more than end
its session.

Every packet is checked before it is believed, everything a client can make the device hold is bounded, and
what lies in shared memory is copied before it is looked at.
"""

import asyncio
import contextlib
import hashlib
import json
import logging
import socket
import struct
from collections.abc import Coroutine
from typing import TYPE_CHECKING, Any

from npu.device import engine, memory, messages, wire
from npu.device.emulator import Device, Refused
from npu.device.wire import Code, Kind, Packet, WireError

if TYPE_CHECKING:
    import numpy as np  # for annotations: a card is on the bus before numpy is loaded
    from numpy.typing import NDArray

__all__ = ["HELLO_SECONDS", "MAX_PROGRAM", "Ownership", "Session"]

log = logging.getLogger(__name__)
MAX_PROGRAM = 256 << 20  # bytes; the largest network known compiles to 60 MB
HELLO_SECONDS = 5.0  # to say HELLO in
PROGRESS_SECONDS = 0.2
SLOTS = 2
PAGE = 4096
ITEMS: dict[int, str] = {4: "<f4", 2: "<f2"}


class Ownership:
    """Who owns the device: one session or none."""

    def __init__(self) -> None:
        self.session: Session | None = None


class Session:
    """One connection; after HELLO, and if nobody else has it, the owner of the device."""

    def __init__(self, device: Device, ownership: Ownership, connection: socket.socket) -> None:
        self._device = device
        self._ownership = ownership
        self._socket = connection
        self._socket.setblocking(False)
        self._epoch = 0
        self._open = True
        self._tasks: set[asyncio.Task[None]] = set()
        self._buffer: memory.Region | None = None
        self._slots: list[memory.Region] = []
        self._working: set[int] = set()  # slots whose request is not answered yet
        self._program: engine.Loaded | None = None
        self._loading = False

    async def run(self) -> None:
        """Serve the connection until either side ends it."""
        loop = asyncio.get_running_loop()
        try:
            while self._open:
                patience = None if self._ownership.session is self else HELLO_SECONDS
                async with asyncio.timeout(patience):
                    data = await loop.sock_recv(self._socket, wire.MAX_PACKET + 1)
                if not data:
                    return
                self._receive(data)
        except (OSError, TimeoutError):
            return
        finally:
            self._end()
            self._socket.close()

    def interrupt(self, code: Code, message: str) -> None:
        """End the session from the device's side: the client reads why, under request 0, and then the end."""
        self._fail(Packet(Kind.FAIL), code, message)
        self._end()

    def _receive(self, data: bytes) -> None:
        """Answer one packet, or end the session if it breaks the protocol."""
        packet = Packet(Kind.FAIL)
        try:
            packet = wire.decode(data)
            self._dispatch(packet)
        except Refused as error:
            self._fail(packet, error.code, str(error))
        except WireError as error:
            self._fail(packet, error.code, str(error))
            self._end()

    def _dispatch(self, packet: Packet) -> None:
        if packet.kind is Kind.STATUS:
            self._send(Packet(Kind.STATUS_REPLY, packet.request, packet.epoch, body=self._status()))
            return
        if packet.kind is Kind.HELLO:
            self._hello(packet)
            return
        if self._ownership.session is not self:
            raise WireError(Code.BAD_PACKET, f"{packet.kind.name} before HELLO")
        if packet.epoch != self._epoch:
            raise WireError(Code.STALE_EPOCH, f"epoch {packet.epoch} is not this session's")
        match packet.kind:
            case Kind.ALLOCATE:
                self._allocate(packet)
            case Kind.LOAD:
                self._load(packet)
            case Kind.EXECUTE:
                self._execute(packet)
            case other:
                raise WireError(Code.BAD_PACKET, f"{other.name} is not a request")

    def _status(self) -> bytes:
        return json.dumps(self._device.card.status(), separators=(",", ":")).encode()

    def _hello(self, packet: Packet) -> None:
        if packet.body:
            raise WireError(Code.BAD_PACKET, "HELLO has no body")
        if self._ownership.session is self:
            raise WireError(Code.BAD_PACKET, "HELLO was said already")
        if self._ownership.session is not None:
            raise WireError(Code.NEEDS_EXCLUSIVE_HANDLE, "another client owns the device; one at a time")
        card = self._device.card
        self._ownership.session = self
        self._epoch = card.own(True)
        log.info("owned by %s", self._peer())
        welcome = messages.Welcome(card.state, SLOTS, MAX_PROGRAM, card.id, card.sku)
        self._send(Packet(Kind.WELCOME, packet.request, self._epoch, body=welcome.pack()))

    def _allocate(self, packet: Packet) -> None:
        size = messages.Allocate.unpack(packet.body).size
        if not 0 < size <= MAX_PROGRAM:
            raise Refused(Code.TOO_LARGE, f"a program has 1 to {MAX_PROGRAM} bytes, not {size}")
        if self._buffer is not None:
            self._buffer.close()
        self._buffer = memory.make("npu-program", size)
        self._send(Packet(Kind.BUFFER, packet.request, self._epoch), [self._buffer.fd])

    def _load(self, packet: Packet) -> None:
        wanted = messages.Load.unpack(packet.body).sha256
        if self._buffer is None:
            raise Refused(Code.BAD_PACKET, "LOAD without a buffer; send ALLOCATE first")
        if self._loading or self._working:
            raise Refused(
                Code.SLOT_IN_USE, "the session has requests in flight; wait for their replies before LOAD"
            )
        with self._buffer as buffer:
            data = buffer.read(0, buffer.size)
        self._buffer = None
        if hashlib.sha256(data).digest() != wanted:
            raise Refused(Code.PROGRAM_REJECTED, "the buffer's content is not what LOAD announces")
        self._loading = True
        self._start(packet, self._load_and_reply(packet, data, "sha256:" + wanted.hex()))

    async def _load_and_reply(self, packet: Packet, data: bytes, digest: str) -> None:
        reporter = asyncio.create_task(self._report(packet))
        try:
            loaded = await self._device.load(data, digest)
        finally:
            reporter.cancel()
            self._loading = False
        if not self._open:
            return
        offset = -(-_bytes(loaded.input_shape) // PAGE) * PAGE
        size = offset + _bytes(loaded.output_shape)
        self._free_slots()
        self._slots = [memory.make(f"npu-slot{index}", size) for index in range(SLOTS)]
        self._program = loaded
        body = messages.Loaded(digest, loaded.input_shape, loaded.output_shape, offset, size).pack()
        self._send(
            Packet(Kind.LOADED, packet.request, self._epoch, body=body), [slot.fd for slot in self._slots]
        )

    async def _report(self, packet: Packet) -> None:
        while True:
            body = messages.pack_progress(self._device.progress())
            self._send(Packet(Kind.PROGRESS, packet.request, self._epoch, body=body))
            await asyncio.sleep(PROGRESS_SECONDS)

    def _execute(self, packet: Packet) -> None:
        import numpy as np  # loaded with the program; a card without one does not need it

        asked = messages.Execute.unpack(packet.body)
        program = self._program
        if program is None or self._loading:
            raise Refused(Code.NO_PROGRAM, "no program is loaded in this session")
        if packet.slot >= len(self._slots):
            raise Refused(Code.BAD_PACKET, f"slot {packet.slot} of {len(self._slots)}")
        if packet.slot in self._working:
            raise Refused(Code.SLOT_IN_USE, f"slot {packet.slot} has a request in flight")
        if asked.item not in ITEMS:
            raise Refused(
                Code.HEX, f"hardware exception: numbers of {asked.item} bytes; there are float32 and float16"
            )
        size = _bytes(program.input_shape) // 4 * asked.item
        if asked.size != size:
            raise Refused(
                Code.HEX, f"hardware exception: {asked.size} bytes of input, {program.input_shape} is {size}"
            )
        copy = self._slots[packet.slot].read(0, size)
        self._working.add(packet.slot)
        x = np.frombuffer(copy, ITEMS[asked.item]).astype(np.float32).reshape(program.input_shape)
        self._start(packet, self._execute_and_reply(packet, x, program))

    async def _execute_and_reply(
        self, packet: Packet, x: "NDArray[np.float32]", program: engine.Loaded
    ) -> None:
        import numpy as np

        try:
            answer = await self._device.execute(x, program.digest)
        finally:
            self._working.discard(packet.slot)
        if not self._open:
            return
        slot = self._slots[packet.slot]
        output = np.ascontiguousarray(answer.output, np.float32).tobytes()
        if len(output) != _bytes(program.output_shape):
            raise RuntimeError(f"the output has {len(output)} bytes, {program.output_shape} was promised")
        slot.write(slot.size - len(output), output)
        result = messages.Result(
            round(answer.simulated_seconds * 1e9), round(answer.wall_seconds * 1e9), len(output)
        )
        self._send(Packet(Kind.RESULT, packet.request, self._epoch, slot=packet.slot, body=result.pack()))

    # -- tasks, sending, the end

    def _start(self, packet: Packet, work: Coroutine[Any, Any, None]) -> None:
        """Run a job to its end, even past the session's: the card finishes what it began, only nobody hears
        of it.
        """

        async def guarded() -> None:
            try:
                await work
            except Refused as error:
                self._fail(packet, error.code, str(error))
                if error.code is Code.WAIT_TIMEOUT:
                    self._end()  # the handle of a hung accelerator is good for nothing any more
            except Exception as error:
                log.exception("internal error")
                self._fail(
                    packet, Code.INTERNAL, f"internal error of the device: {type(error).__name__}: {error}"
                )

        task = asyncio.create_task(guarded())
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    def _fail(self, packet: Packet, code: Code, text: str) -> None:
        self._send(Packet(Kind.FAIL, packet.request, self._epoch, code, packet.slot, text.encode()[:2048]))

    def _send(self, packet: Packet, fds: "list[int] | None" = None) -> None:
        if not self._open:
            return
        try:
            socket.send_fds(self._socket, [wire.encode(packet)], fds or [])
        except (
            OSError
        ):  # gone, or it does not read its replies, of which there are never more than the buffer holds
            self._end()

    def _end(self) -> None:
        if not self._open:
            return
        self._open = False
        with contextlib.suppress(OSError):
            self._socket.shutdown(
                socket.SHUT_RDWR
            )  # wakes our own reader, which closes; what was sent can be read
        if self._buffer is not None:
            self._buffer.close()
        self._free_slots()
        if self._ownership.session is self:
            self._ownership.session = None
            self._device.card.own(False)
            log.info("free again")

    def _free_slots(self) -> None:
        for slot in self._slots:
            slot.close()
        self._slots = []

    def _peer(self) -> str:
        credentials = self._socket.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, struct.calcsize("3i"))
        pid, uid, _ = struct.unpack("3i", credentials)
        return f"process {pid} of user {uid}"


def _bytes(shape: tuple[int, int, int]) -> int:
    """Return how much memory a float32 tensor takes."""
    height, width, channels = shape
    return height * width * channels * 4
