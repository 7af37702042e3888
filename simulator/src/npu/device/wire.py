"""The packets on device.sock: a fixed little-endian header, then a body whose layout the kind decides
(`messages`).

One SOCK_SEQPACKET message is one packet. Everything here is strict: a packet that is short, long, of another
version or of an unknown kind is an error, never a guess. Tensors do not travel here; they lie in shared
memory (`memory`).
"""

import struct
from dataclasses import dataclass
from enum import IntEnum

__all__ = [
    "MAX_PACKET",
    "OLDEST_VERSION",
    "VERSION",
    "Code",
    "Kind",
    "Packet",
    "WireError",
    "decode",
    "encode",
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
