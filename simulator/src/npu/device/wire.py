"""The packets on device.sock: a fixed little-endian header, then a body whose layout the kind decides.

One SOCK_SEQPACKET message is one packet. Everything here is strict: a packet that is short, long, of another
version or of an unknown kind is an error, never a guess. Tensors do not travel here; they lie in shared
memory (`memory`).
"""

import struct
from dataclasses import dataclass
from enum import IntEnum

from npu.device.errors import Progress
from npu.device.states import WIRE_STATES, State

__all__ = [
    "MAX_PACKET",
    "OLDEST_VERSION",
    "VERSION",
    "Allocate",
    "Code",
    "Execute",
    "Kind",
    "Load",
    "Loaded",
    "Packet",
    "Result",
    "Welcome",
    "WireError",
    "decode",
    "encode",
    "pack_progress",
    "unpack_progress",
]

MAGIC = b"NPUD"
VERSION = 1
OLDEST_VERSION = 1  # a release accepts its own version and the one before it
MAX_PACKET = 4096  # bytes, header included
HEADER = struct.Struct("<4sHHQQHHI")  # magic, version, kind, request, epoch, code, slot, bytes of the body


class Kind(IntEnum):
    """What a packet says. Requests are odd, replies even; the client never sends an even one."""

    HELLO = 1  # I want to own this device
    WELCOME = 2
    ALLOCATE = 3  # give me a buffer for a program of this size
    BUFFER = 4  # here it is (one file descriptor)
    LOAD = 5  # the program is in the buffer
    LOADED = 6  # it runs; here are the slots (one file descriptor each)
    EXECUTE = 7  # the input is in this slot
    RESULT = 8  # the output is in this slot
    STATUS = 9  # how are you? (needs no HELLO)
    STATUS_REPLY = 10  # JSON, as on the control socket
    PROGRESS = 12  # while a LOAD waits: state, percent, time left
    FAIL = 14  # code in the header, text in the body


class Code(IntEnum):
    """Why a request failed. Numbers below 1000 are the real driver's; HEX is the accelerator's hardware
    exception.
    """

    OK = 0
    INCOMPATIBLE_HARDWARE = 20
    WAIT_TIMEOUT = 31
    NEEDS_EXCLUSIVE_HANDLE = 75
    HARDWARE_NOT_PRESENT = 76
    HEX = 700  # the input's size or numbers are not what the program takes
    BAD_PACKET = 1000
    BAD_VERSION = 1001
    STALE_EPOCH = 1002
    NO_PROGRAM = 1003
    SLOT_IN_USE = 1004
    PROGRAM_REJECTED = 1005
    TOO_LARGE = 1006
    RESET = 1007
    FAULTED = 1008
    INTERNAL = 1009


class WireError(Exception):
    """A packet that breaks the protocol."""

    def __init__(self, code: Code, message: str) -> None:
        super().__init__(message)
        self.code = code


@dataclass(frozen=True, slots=True)
class Packet:
    """One packet. `request` ties a reply to its request, `epoch` both to one session of one process."""

    kind: Kind
    request: int = 0
    epoch: int = 0
    code: Code = Code.OK
    slot: int = 0
    body: bytes = b""

    @property
    def text(self) -> str:
        """The body as text, for FAIL and STATUS_REPLY."""
        return self.body.decode("utf-8", "replace")


def encode(packet: Packet, version: int = VERSION) -> bytes:
    """Return the packet's bytes; its body must fit MAX_PACKET."""
    body = packet.body[: MAX_PACKET - HEADER.size]
    return (
        HEADER.pack(
            MAGIC, version, packet.kind, packet.request, packet.epoch, packet.code, packet.slot, len(body)
        )
        + body
    )


def decode(data: bytes) -> Packet:
    """Return the packet in `data`; raise WireError with the code that tells the sender what was wrong."""
    if not HEADER.size <= len(data) <= MAX_PACKET:
        raise WireError(
            Code.BAD_PACKET, f"a packet has {HEADER.size} to {MAX_PACKET} bytes, this one has {len(data)}"
        )
    magic, version, kind, request, epoch, code, slot, length = HEADER.unpack_from(data)
    if magic != MAGIC:
        raise WireError(Code.BAD_PACKET, f"the packet begins with {magic!r}, not with {MAGIC!r}")
    if not OLDEST_VERSION <= version <= VERSION:
        raise WireError(
            Code.BAD_VERSION,
            f"protocol version {version}; spoken here: {OLDEST_VERSION} to {VERSION}. Use matching releases.",
        )
    if length != len(data) - HEADER.size:
        raise WireError(
            Code.BAD_PACKET,
            f"the header says {length} bytes of body, the packet has {len(data) - HEADER.size}",
        )
    try:
        return Packet(Kind(kind), request, epoch, Code(code), slot, data[HEADER.size :])
    except ValueError as error:
        raise WireError(Code.BAD_PACKET, f"unknown packet: {error}") from None


def _unpack(layout: struct.Struct, body: bytes, what: str) -> tuple[int, ...]:
    if len(body) != layout.size:
        raise WireError(Code.BAD_PACKET, f"{what} has {layout.size} bytes of body, this one has {len(body)}")
    return layout.unpack(body)


def _text(field: bytes) -> str:
    return field.rstrip(b"\0").decode("utf-8", "replace")


@dataclass(frozen=True, slots=True)
class Welcome:
    """The session is yours. Sizes are the most that the device takes, in bytes."""

    LAYOUT = struct.Struct("<HHIQ64s64s")

    state: State
    slots: int
    max_program: int
    device_id: str
    sku: str

    def pack(self) -> bytes:
        """Return the body's bytes."""
        return self.LAYOUT.pack(
            WIRE_STATES.index(self.state),
            self.slots,
            0,
            self.max_program,
            self.device_id.encode(),
            self.sku.encode(),
        )

    @classmethod
    def unpack(cls, body: bytes) -> "Welcome":
        """Return the message in `body` or raise WireError."""
        if len(body) != cls.LAYOUT.size:
            raise WireError(
                Code.BAD_PACKET, f"WELCOME has {cls.LAYOUT.size} bytes of body, this one has {len(body)}"
            )
        state, slots, _, max_program, device_id, sku = cls.LAYOUT.unpack(body)
        return cls(_state(state), slots, max_program, _text(device_id), _text(sku))


@dataclass(frozen=True, slots=True)
class Allocate:
    """A program of `size` bytes comes."""

    LAYOUT = struct.Struct("<Q")

    size: int

    def pack(self) -> bytes:
        """Return the body's bytes."""
        return self.LAYOUT.pack(self.size)

    @classmethod
    def unpack(cls, body: bytes) -> "Allocate":
        """Return the message in `body` or raise WireError."""
        return cls(*_unpack(cls.LAYOUT, body, "ALLOCATE"))


@dataclass(frozen=True, slots=True)
class Load:
    """The buffer holds the program, whose SHA-256 this is: what was written is what is loaded, or it is
    refused.
    """

    LAYOUT = struct.Struct("<32s")

    sha256: bytes

    def pack(self) -> bytes:
        """Return the body's bytes."""
        return self.LAYOUT.pack(self.sha256)

    @classmethod
    def unpack(cls, body: bytes) -> "Load":
        """Return the message in `body` or raise WireError."""
        if len(body) != cls.LAYOUT.size:
            raise WireError(
                Code.BAD_PACKET, f"LOAD has {cls.LAYOUT.size} bytes of body, this one has {len(body)}"
            )
        return cls(body)


@dataclass(frozen=True, slots=True)
class Loaded:
    """The program runs. Shapes are (height, width, channels); a slot's output begins at `output_offset`
    bytes.
    """

    LAYOUT = struct.Struct("<96s6IQQ")

    digest: str
    input_shape: tuple[int, int, int]
    output_shape: tuple[int, int, int]
    output_offset: int
    slot_bytes: int

    def pack(self) -> bytes:
        """Return the body's bytes."""
        return self.LAYOUT.pack(
            self.digest.encode(), *self.input_shape, *self.output_shape, self.output_offset, self.slot_bytes
        )

    @classmethod
    def unpack(cls, body: bytes) -> "Loaded":
        """Return the message in `body` or raise WireError."""
        if len(body) != cls.LAYOUT.size:
            raise WireError(
                Code.BAD_PACKET, f"LOADED has {cls.LAYOUT.size} bytes of body, this one has {len(body)}"
            )
        digest, h, w, c, oh, ow, oc, offset, size = cls.LAYOUT.unpack(body)
        return cls(_text(digest), (h, w, c), (oh, ow, oc), offset, size)


@dataclass(frozen=True, slots=True)
class Execute:
    """Compute the slot's input: `size` bytes of float32 or float16 (`item` is 4 or 2), rows first, channels
    last.
    """

    LAYOUT = struct.Struct("<II")

    item: int
    size: int

    def pack(self) -> bytes:
        """Return the body's bytes."""
        return self.LAYOUT.pack(self.item, self.size)

    @classmethod
    def unpack(cls, body: bytes) -> "Execute":
        """Return the message in `body` or raise WireError."""
        return cls(*_unpack(cls.LAYOUT, body, "EXECUTE"))


@dataclass(frozen=True, slots=True)
class Result:
    """The slot's output is `size` bytes of float32. Two clocks, nanoseconds each, that nobody may add."""

    LAYOUT = struct.Struct("<QQQ")

    simulated_ns: int
    wall_ns: int
    size: int

    def pack(self) -> bytes:
        """Return the body's bytes."""
        return self.LAYOUT.pack(self.simulated_ns, self.wall_ns, self.size)

    @classmethod
    def unpack(cls, body: bytes) -> "Result":
        """Return the message in `body` or raise WireError."""
        return cls(*_unpack(cls.LAYOUT, body, "RESULT"))


_PROGRESS = struct.Struct("<HHI")  # state, percent, milliseconds left


def pack_progress(progress: Progress) -> bytes:
    """Return PROGRESS's body."""
    return _PROGRESS.pack(
        WIRE_STATES.index(progress.state),
        progress.percent,
        min(round(progress.remaining_seconds * 1000), 2**32 - 1),
    )


def unpack_progress(body: bytes) -> Progress:
    """Return the progress in `body` or raise WireError."""
    state, percent, left = _unpack(_PROGRESS, body, "PROGRESS")
    return Progress(_state(state), percent, left / 1000)


def _state(number: int) -> State:
    if number >= len(WIRE_STATES):
        raise WireError(Code.BAD_PACKET, f"unknown state {number}")
    return WIRE_STATES[number]
