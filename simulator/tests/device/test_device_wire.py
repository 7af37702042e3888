"""The packets: what is written is what is read, and whatever else comes is refused with a reason."""

import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st
from npu.device import messages, wire
from npu.device.errors import Progress
from npu.device.states import State
from npu.device.wire import Code, Kind, Packet, WireError

GOOD = wire.encode(Packet(Kind.EXECUTE, 7, 9, slot=1, body=b"12345678"))


def changed(offset: int, layout: str, value: int) -> bytes:
    data = bytearray(GOOD)
    struct.pack_into(layout, data, offset, value)
    return bytes(data)


BAD = {
    # name: (bytes, code, what the message says)
    "empty": (b"", Code.BAD_PACKET, "has 0"),
    "half a header": (GOOD[:20], Code.BAD_PACKET, "has 20"),
    "too long": (GOOD + bytes(5000), Code.BAD_PACKET, "4096"),
    "another protocol": (b"HTTP" + GOOD[4:], Code.BAD_PACKET, "begins with b'HTTP'"),
    "from the future": (changed(4, "<H", 99), Code.BAD_VERSION, "Use matching releases"),
    "from the past": (changed(4, "<H", 0), Code.BAD_VERSION, "Use matching releases"),
    "unknown kind": (changed(6, "<H", 999), Code.BAD_PACKET, "999"),
    "unknown code": (changed(24, "<H", 4242), Code.BAD_PACKET, "4242"),
    "length too small": (changed(28, "<I", 4), Code.BAD_PACKET, "says 4"),
    "length too large": (changed(28, "<I", 2**32 - 1), Code.BAD_PACKET, "says 4294967295"),
}


def test_layout_is_fixed() -> None:
    header = struct.pack("<4sHHQQHHI", b"NPUD", 1, 7, 7, 9, 0, 1, 8)
    assert header + b"12345678" == GOOD


@pytest.mark.parametrize(("data", "code", "message"), BAD.values(), ids=BAD)
def test_refused(data: bytes, code: Code, message: str) -> None:
    with pytest.raises(WireError, match=message) as caught:
        wire.decode(data)
    assert caught.value.code is code


@given(st.binary(max_size=200) | st.binary(max_size=64).map(lambda tail: GOOD[:32] + tail))
def test_any_bytes_are_read_or_refused(data: bytes) -> None:
    try:
        packet = wire.decode(data)
    except WireError:
        return
    assert wire.encode(packet) == data


BODIES = {
    "welcome": messages.Welcome(State.GOLDEN, 2, 1 << 28, "fpga0", "bw-cnn-a10"),
    "allocate": messages.Allocate(123456789),
    "load": messages.Load(bytes(range(32))),
    "loaded": messages.Loaded("sha256:" + "a" * 64, (224, 224, 3), (7, 7, 2048), 602112, 1003520),
    "execute": messages.Execute(4, 602112),
    "result": messages.Result(1_800_000, 300_000_000, 401408),
}


@pytest.mark.parametrize("body", BODIES.values(), ids=BODIES)
def test_bodies(body: messages.Welcome) -> None:
    packed = body.pack()
    assert type(body).unpack(packed) == body
    for wrong in (packed[:-1], packed + b"\0", b""):
        with pytest.raises(WireError, match="bytes of body"):
            type(body).unpack(wrong)


def test_progress() -> None:
    progress = Progress(State.FLASHING, 40, 1.2)
    assert messages.unpack_progress(messages.pack_progress(progress)) == progress
    assert str(progress) == "flashing, 40 % done, about 1.2 s left"
    with pytest.raises(WireError, match="unknown state 77"):
        messages.unpack_progress(struct.pack("<HHI", 77, 0, 0))
