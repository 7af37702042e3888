"""A client that breaks every rule: it loses its session, and nobody else loses anything."""

import fcntl
import os
import random
import socket
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from device_process import DeviceProcess, RawClient, compiled, picture
from npu import oracle
from npu.device import messages, wire
from npu.device.client import DeviceClient, ProgramRejected
from npu.device.wire import Code, Kind, Packet
from npu.program import Program

Start = Callable[..., DeviceProcess]


def serves(process: DeviceProcess, program: Program) -> None:
    """The same process still computes right for an honest client."""
    assert process.process.poll() is None
    client = process.client()
    client.load(program.to_bytes())
    np.testing.assert_array_equal(client.run(picture(program)).output, oracle.run(program, picture(program)))
    client.close()


def loaded(raw: RawClient, program: Program) -> tuple[int, messages.Loaded, list[int]]:
    """Load a program by hand; return the epoch, the layout of slots and their descriptors."""
    epoch = raw.hello()
    data = program.to_bytes()
    raw.send(Kind.ALLOCATE, messages.Allocate(len(data)).pack(), epoch=epoch)
    _, (fd,) = raw.receive()
    os.pwrite(fd, data, 0)
    os.close(fd)
    import hashlib

    raw.send(Kind.LOAD, messages.Load(hashlib.sha256(data).digest()).pack(), epoch=epoch)
    while True:
        packet, fds = raw.receive()
        assert packet is not None
        if packet.kind is Kind.LOADED:
            return epoch, messages.Loaded.unpack(packet.body), fds
        assert packet.kind is Kind.PROGRESS, packet


HEADER = wire.encode(Packet(Kind.HELLO))
ENDS = {
    # name: bytes that end the session
    "one byte": b"x",
    "zeros": bytes(32),
    "huge": bytes(60_000),
    "another protocol": b"GET / HTTP/1.1\r\nHost: fpga\r\n\r\n",
    "another version": HEADER[:4] + struct.pack("<H", 7) + HEADER[6:],
    "unknown kind": HEADER[:6] + struct.pack("<H", 77) + HEADER[8:],
    "a reply as request": wire.encode(Packet(Kind.RESULT)),
    "work before HELLO": wire.encode(Packet(Kind.EXECUTE, body=messages.Execute(4, 768).pack())),
    "HELLO with a body": wire.encode(Packet(Kind.HELLO, body=b"please")),
    "length that lies": HEADER[:28] + struct.pack("<I", 1 << 30),
}


@pytest.mark.parametrize("data", ENDS.values(), ids=ENDS)
def test_a_broken_packet_ends_its_session_only(data: bytes, shared: DeviceProcess, program: Program) -> None:
    with shared.raw() as raw:
        raw.socket.send(data)
        reply, _ = raw.receive()
        assert reply is not None
        assert reply.kind is Kind.FAIL
        assert reply.code in (Code.BAD_PACKET, Code.BAD_VERSION)
        assert reply.text
        assert raw.receive()[0] is None
    serves(shared, program)


def test_random_packets(shared: DeviceProcess, program: Program) -> None:
    rng = random.Random(1)
    for _ in range(200):
        with shared.raw() as raw:
            raw.send(Kind.HELLO)
            reply, _ = raw.receive()
            assert reply is not None
            for _ in range(rng.randrange(4)):
                kind = rng.choice([Kind.ALLOCATE, Kind.LOAD, Kind.EXECUTE, Kind.STATUS])
                body = rng.randbytes(rng.choice([0, 4, 8, 32, rng.randrange(100)]))
                try:
                    raw.send(
                        kind, body, epoch=reply.epoch, slot=rng.randrange(4), request=rng.getrandbits(64)
                    )
                except (BrokenPipeError, ConnectionResetError):
                    break
    serves(shared, program)


def test_sizes_beyond_all_bounds(shared: DeviceProcess, program: Program) -> None:
    with shared.raw() as raw:
        epoch = raw.hello()
        for size in (0, 2**64 - 1, 2**40, (256 << 20) + 1):
            raw.send(Kind.ALLOCATE, messages.Allocate(size).pack(), epoch=epoch)
            reply, fds = raw.receive()
            assert reply is not None
            assert (reply.kind, reply.code, fds) == (Kind.FAIL, Code.TOO_LARGE, [])
    serves(shared, program)


def test_execute_is_checked_in_every_field(shared: DeviceProcess, program: Program) -> None:
    with shared.raw() as raw:
        epoch, _, fds = loaded(raw, program)
        cases = {
            "slot": (messages.Execute(4, 768), 9, Code.BAD_PACKET),
            "item": (messages.Execute(8, 768), 0, Code.HEX),
            "size": (messages.Execute(4, 767), 0, Code.HEX),
            "size of the other item": (messages.Execute(2, 768), 0, Code.HEX),
            "far outside": (messages.Execute(4, 2**32 - 1), 0, Code.HEX),
        }
        for name, (body, slot, code) in cases.items():
            raw.send(Kind.EXECUTE, body.pack(), epoch=epoch, slot=slot)
            reply, _ = raw.receive()
            assert reply is not None
            assert (reply.kind, reply.code) == (Kind.FAIL, code), name
        raw.send(Kind.EXECUTE, messages.Execute(4, 768).pack(), epoch=epoch)
        reply, _ = raw.receive()
        assert reply is not None
        assert reply.kind is Kind.RESULT
        for fd in fds:
            os.close(fd)
    serves(shared, program)


def test_slots_are_sealed_and_changes_come_too_late(device: Start, slow_program: Program) -> None:
    process = device()
    with process.raw() as raw:
        epoch, layout, fds = loaded(raw, slow_program)
        for fd in fds:
            assert fcntl.fcntl(fd, fcntl.F_GET_SEALS) & fcntl.F_SEAL_SHRINK
            with pytest.raises(PermissionError):
                os.ftruncate(fd, 0)
        x = picture(slow_program)
        os.pwrite(fds[0], x.tobytes(), 0)
        raw.send(Kind.EXECUTE, messages.Execute(4, x.nbytes).pack(), epoch=epoch)
        # The second is refused because the slot is in use: so the first has been read, its input copied.
        raw.send(Kind.EXECUTE, messages.Execute(4, x.nbytes).pack(), epoch=epoch, request=2)
        refused, _ = raw.receive()
        assert refused is not None
        assert refused.code is Code.SLOT_IN_USE
        os.pwrite(fds[0], bytes(x.nbytes), 0)
        raw.socket.settimeout(60)
        reply, _ = raw.receive()
        assert reply is not None
        assert reply.kind is Kind.RESULT
        size = messages.Result.unpack(reply.body).size
        output = np.frombuffer(os.pread(fds[0], size, layout.output_offset), np.float32)
        np.testing.assert_array_equal(output.reshape(slow_program.output_shape), oracle.run(slow_program, x))
        for fd in fds:
            os.close(fd)


def test_a_program_swapped_after_the_announcement_is_refused(shared: DeviceProcess, program: Program) -> None:
    with shared.raw() as raw:
        epoch = raw.hello()
        raw.send(Kind.ALLOCATE, messages.Allocate(100).pack(), epoch=epoch)
        _, (fd,) = raw.receive()
        os.close(fd)
        raw.send(Kind.LOAD, messages.Load(bytes(32)).pack(), epoch=epoch)
        reply, _ = raw.receive()
        assert reply is not None
        assert reply.code is Code.PROGRAM_REJECTED
        raw.send(Kind.LOAD, messages.Load(bytes(32)).pack(), epoch=epoch)
        reply, _ = raw.receive()
        assert reply is not None
        assert (reply.code, reply.kind) == (Code.BAD_PACKET, Kind.FAIL)
    serves(shared, program)


def test_another_epoch_ends_the_session(shared: DeviceProcess, program: Program) -> None:
    with shared.raw() as raw:
        epoch = raw.hello()
        raw.send(Kind.ALLOCATE, messages.Allocate(100).pack(), epoch=epoch - 1)
        reply, _ = raw.receive()
        assert reply is not None
        assert reply.code is Code.STALE_EPOCH
        assert raw.receive()[0] is None
    serves(shared, program)


def test_descriptors_that_nobody_asked_for(shared: DeviceProcess, program: Program) -> None:
    """A client cannot fill the device's table of open files."""
    table = Path(f"/proc/{shared.process.pid}/fd")
    with shared.raw() as raw:
        raw.hello()
        before = len(list(table.iterdir()))
        for _ in range(50):
            socket.send_fds(raw.socket, [wire.encode(Packet(Kind.STATUS))], [raw.socket.fileno()] * 16)
            raw.receive()
        assert len(list(table.iterdir())) == before
    serves(shared, program)


def test_a_crowd_of_connections(shared: DeviceProcess, program: Program) -> None:
    crowd = [shared.raw() for _ in range(15)]
    for raw in crowd:
        raw.socket.close()
    serves(shared, program)


def flood(raw: RawClient) -> None:
    for _ in range(100_000):
        raw.send(Kind.STATUS)


def test_a_client_that_never_reads(shared: DeviceProcess, program: Program) -> None:
    with shared.raw() as raw:
        raw.socket.settimeout(5)
        with pytest.raises((BrokenPipeError, ConnectionResetError)):
            flood(raw)
    serves(shared, program)


def test_requests_on_the_control_socket(shared: DeviceProcess) -> None:
    lines = {
        "no JSON": (b"hello\n", "not a JSON object"),
        "no object": (b"[1]\n", "JSON object"),
        "deep": (b"[" * 3000 + b"\n", "not a JSON object"),
        "long": (b'{"op":"' + b"x" * 9000 + b'"}\n', "at most 4096 bytes"),
        "not UTF-8": (b'{"op":"\xff"}\n', "not a JSON object"),
    }
    for name, (line, message) in lines.items():
        with socket.socket(socket.AF_UNIX) as control:
            control.settimeout(10)
            control.connect(str(shared.directory / "control.sock"))
            control.sendall(line)
            assert message in control.makefile("rb").readline().decode(), name
    assert shared.ask("status")["health"] == "Healthy"


def test_a_program_that_eats_memory(device: Start, net: Callable[..., Any], program: Program) -> None:
    """The process keeps to its share of the node, says so, and lives."""
    process = device(memory_mib=160)
    client = process.client()
    with pytest.raises(ProgramRejected, match="not enough memory"):
        load_and_run(client, compiled(net, 160, 128, 1))
    client.close()
    serves(process, program)


def load_and_run(client: DeviceClient, program: Program) -> None:
    client.load(program.to_bytes())
    client.run(picture(program))
