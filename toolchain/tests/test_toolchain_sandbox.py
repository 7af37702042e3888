"""The converter's filter: what the program says for each machine, and what the kernel makes of it."""

import errno
import platform
import signal
import subprocess
import sys
import textwrap

import pytest
from accel_toolchain.sandbox import ARCHITECTURES, program

ALLOW, ERRNO, KILL = 0x7FFF0000, 0x00050000, 0x80000000
X86, ARM = ARCHITECTURES["x86_64"], ARCHITECTURES["aarch64"]
DENIED, REFUSED = ERRNO | errno.EACCES, ERRNO | errno.EPERM

CALLS = {
    # name: (machine, audit architecture of the call, number, first argument, verdict)
    "x86 inet socket": (X86, 0xC000003E, 41, 2, DENIED),
    "x86 inet6 socket": (X86, 0xC000003E, 41, 10, DENIED),
    "x86 netlink socket": (X86, 0xC000003E, 41, 16, DENIED),
    "x86 vsock": (X86, 0xC000003E, 41, 40, DENIED),
    "x86 unix socket": (X86, 0xC000003E, 41, 1, ALLOW),
    "x86 unix socket with high bits, which the kernel drops": (X86, 0xC000003E, 41, (1 << 32) | 1, ALLOW),
    "x86 inet socketpair": (X86, 0xC000003E, 53, 2, DENIED),
    "x86 unix socketpair": (X86, 0xC000003E, 53, 1, ALLOW),
    "x86 io_uring_setup": (X86, 0xC000003E, 425, 0, REFUSED),
    "x86 io_uring_enter": (X86, 0xC000003E, 426, 0, REFUSED),
    "x86 io_uring_register": (X86, 0xC000003E, 427, 0, REFUSED),
    "x86 ptrace": (X86, 0xC000003E, 101, 0, REFUSED),
    "x86 pidfd_getfd": (X86, 0xC000003E, 438, 0, REFUSED),
    "x86 read": (X86, 0xC000003E, 0, 2, ALLOW),
    "x86 number of arm's socket is another call": (X86, 0xC000003E, 198, 2, ALLOW),
    "i386 socketcall on x86": (X86, 0x40000003, 102, 1, KILL),
    "x32 socket": (X86, 0xC000003E, 0x40000000 | 41, 2, KILL),
    "arm inet socket": (ARM, 0xC00000B7, 198, 2, DENIED),
    "arm unix socket": (ARM, 0xC00000B7, 198, 1, ALLOW),
    "arm inet socketpair": (ARM, 0xC00000B7, 199, 2, DENIED),
    "arm io_uring_setup": (ARM, 0xC00000B7, 425, 0, REFUSED),
    "arm process_vm_writev": (ARM, 0xC00000B7, 271, 0, REFUSED),
    "arm read": (ARM, 0xC00000B7, 63, 2, ALLOW),
    "32-bit arm on arm": (ARM, 0x40000028, 281, 2, KILL),
}


def evaluate(instructions: list[tuple[int, int, int, int]], nr: int, arch: int, argument: int) -> int:
    """Run classic BPF over a struct seccomp_data."""
    data = (
        nr.to_bytes(4, "little")
        + arch.to_bytes(4, "little")
        + bytes(8)
        + argument.to_bytes(8, "little")
        + bytes(40)
    )
    place, accumulator = 0, 0
    while True:
        code, if_true, if_false, constant = instructions[place]
        place += 1
        if code == 0x20:
            accumulator = int.from_bytes(data[constant : constant + 4], "little")
        elif code == 0x06:
            return constant
        else:
            assert code in (0x15, 0x35)
            holds = accumulator == constant if code == 0x15 else accumulator >= constant
            place += if_true if holds else if_false


@pytest.mark.parametrize(("machine", "arch", "nr", "argument", "verdict"), CALLS.values(), ids=CALLS)
def test_verdict(machine: object, arch: int, nr: int, argument: int, verdict: int) -> None:
    assert evaluate(program(machine), nr, arch, argument) == verdict  # type: ignore[arg-type]


def confined(code: str) -> subprocess.CompletedProcess[str]:
    """Run code in a process that has installed the filter."""
    prelude = (
        "import ctypes, errno, os, socket, subprocess, sys, threading\n"
        "from accel_toolchain import sandbox\nsandbox.install()\n"
    )
    return subprocess.run(
        [sys.executable, "-c", prelude + textwrap.dedent(code)], capture_output=True, text=True, timeout=60
    )


WORKS = {
    "unix sockets": "a, b = socket.socketpair(); a.send(b'x'); assert b.recv(1) == b'x'",
    "threads and children": "t = threading.Thread(target=print); t.start(); t.join(); "
    "subprocess.run(['true'], check=True)",
    "pipes and files": "r, w = os.pipe(); os.write(w, b'x'); open('/dev/null').close()",
    "installing it once more": "sandbox.install()",
}

FAILS = {
    # name: code that prints the error
    "AF_INET": "socket.socket(socket.AF_INET, socket.SOCK_STREAM)",
    "AF_INET6": "socket.socket(socket.AF_INET6, socket.SOCK_DGRAM)",
    "a connection": "socket.create_connection(('127.0.0.1', 9))",
    "in a thread": """
        import concurrent.futures
        with concurrent.futures.ThreadPoolExecutor() as pool:
            pool.submit(socket.socket).result()
        """,
    "in a child": """
        code = 'import socket; socket.socket()'
        done = subprocess.run([sys.executable, '-c', code], capture_output=True, text=True)
        sys.exit(done.stderr)
        """,
    "by system call": """
        libc = ctypes.CDLL(None, use_errno=True)
        assert libc.syscall(41 if os.uname().machine == 'x86_64' else 198, 2, 1, 0) == -1
        raise PermissionError(ctypes.get_errno(), 'Permission denied')
        """,
    "io_uring": """
        libc = ctypes.CDLL(None, use_errno=True)
        assert libc.syscall(425, 8, ctypes.create_string_buffer(120)) == -1
        assert ctypes.get_errno() == errno.EPERM
        raise PermissionError(1, 'Permission denied')
        """,
}


@pytest.mark.parametrize("code", WORKS.values(), ids=WORKS)
def test_the_converter_can_still(code: str) -> None:
    done = confined(code)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("code", FAILS.values(), ids=FAILS)
def test_no_network_by(code: str) -> None:
    done = confined(code)
    assert done.returncode != 0
    assert "Permission denied" in done.stderr


@pytest.mark.skipif(platform.machine() != "x86_64", reason="only x86_64 has these doors")
@pytest.mark.parametrize(
    "code",
    [
        "ctypes.CDLL(None).syscall(0x40000000 | 41, 2, 1, 0)",  # x32
        """
        import mmap
        page = mmap.mmap(-1, 4096, prot=mmap.PROT_READ | mmap.PROT_WRITE | mmap.PROT_EXEC)
        page.write(bytes.fromhex('b814000000cd80c3'))  # mov eax, 20 (i386's getpid); int 0x80; ret
        address = ctypes.addressof(ctypes.c_char.from_buffer(page))
        ctypes.CFUNCTYPE(ctypes.c_int)(address)()
        """,
    ],
    ids=["x32", "i386"],
)
def test_another_architectures_calls_kill(code: str) -> None:
    assert confined(code).returncode == -signal.SIGSYS
