"""The bodies of the packets: one fixed little-endian layout a kind, read as strictly as the header (`wire`)."""

import struct
from dataclasses import dataclass

from npu.device.errors import Progress
from npu.device.states import WIRE_STATES, State
from npu.device.wire import Code, WireError

__all__ = ["Allocate", "Execute", "Load", "Loaded", "Result", "Welcome", "pack_progress", "unpack_progress"]


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
