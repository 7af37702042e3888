"""The filter that a converter puts on itself before it opens a stranger's model: no network whatsoever.

A seccomp program of classic BPF, installed with `prctl` for this process and all its children, for good.
Sockets other than AF_UNIX fail with EACCES, io_uring (which opens sockets without the system call) and a few
ways into other processes with EPERM; a system call of another architecture (i386, x32, 32-bit ARM), whose
numbers mean something else, kills.
"""

import ctypes
import errno
import platform
import socket
from dataclasses import dataclass
from typing import Final

_PR_SET_NO_NEW_PRIVS: Final = 38
_PR_SET_SECCOMP: Final = 22
_SECCOMP_MODE_FILTER: Final = 2

# linux/seccomp.h
_RET_KILL_PROCESS: Final = 0x80000000
_RET_ERRNO: Final = 0x00050000
_RET_ALLOW: Final = 0x7FFF0000

# linux/bpf_common.h: load a word, compare, return
_LD_W_ABS: Final = 0x20
_JEQ: Final = 0x15
_JGE: Final = 0x35
_RET: Final = 0x06

# struct seccomp_data: nr, arch, instruction_pointer, args[6]; little-endian on both architectures, so the low
# word of an argument comes first. The kernel itself takes a socket's domain as a 32-bit int.
_OFFSET_NR: Final = 0
_OFFSET_ARCH: Final = 4
_OFFSET_ARG0_LOW: Final = 16

_X32_BIT: Final = 0x40000000


@dataclass(frozen=True)
class Architecture:
    """Numbers of one machine: its audit token, and the system calls that the filter names."""

    audit: int
    socket: tuple[int, int]  # socket, socketpair: allowed for AF_UNIX
    refused: tuple[int, ...]
    has_x32: bool


# Order of `refused`: io_uring_setup, io_uring_enter, io_uring_register, ptrace, process_vm_readv,
# process_vm_writev, pidfd_getfd, bpf, userfaultfd, setns, unshare. From the kernel's syscall tables.
ARCHITECTURES: Final = {
    "x86_64": Architecture(
        0xC000003E, (41, 53), (425, 426, 427, 101, 310, 311, 438, 321, 323, 308, 272), has_x32=True
    ),
    "aarch64": Architecture(
        0xC00000B7, (198, 199), (425, 426, 427, 117, 270, 271, 438, 280, 282, 268, 97), has_x32=False
    ),
}


class SandboxUnavailable(Exception):
    """The filter could not be installed, or does not hold: nothing untrusted may be opened."""


class _Instruction(ctypes.Structure):
    _fields_ = (
        ("code", ctypes.c_uint16),
        ("jt", ctypes.c_uint8),
        ("jf", ctypes.c_uint8),
        ("k", ctypes.c_uint32),
    )


class _Program(ctypes.Structure):
    _fields_ = (("length", ctypes.c_ushort), ("filter", ctypes.POINTER(_Instruction)))


def program(machine: Architecture) -> list[tuple[int, int, int, int]]:
    """Return the filter as (code, jump if true, jump if false, constant)."""
    instructions = [
        (_LD_W_ABS, 0, 0, _OFFSET_ARCH),
        (_JEQ, 1, 0, machine.audit),
        (_RET, 0, 0, _RET_KILL_PROCESS),
        (_LD_W_ABS, 0, 0, _OFFSET_NR),
    ]
    if machine.has_x32:
        instructions += [(_JGE, 0, 1, _X32_BIT), (_RET, 0, 0, _RET_KILL_PROCESS)]
    for number in machine.refused:
        instructions += [(_JEQ, 0, 1, number), (_RET, 0, 0, _RET_ERRNO | errno.EPERM)]
    for number in machine.socket:
        instructions += [
            (_JEQ, 0, 4, number),
            (_LD_W_ABS, 0, 0, _OFFSET_ARG0_LOW),
            (_JEQ, 0, 1, int(socket.AF_UNIX)),
            (_RET, 0, 0, _RET_ALLOW),
            (_RET, 0, 0, _RET_ERRNO | errno.EACCES),
        ]
    return [*instructions, (_RET, 0, 0, _RET_ALLOW)]


def install() -> None:
    """Confine this process and every child of it, and prove that the filter holds.

    Call it before other threads exist: a filter binds the thread that installs it and what that thread
    starts.

    Raises:
        SandboxUnavailable: unknown machine, a kernel without seccomp, or a socket that could still be opened.
    """
    machine = ARCHITECTURES.get(platform.machine())
    if machine is None:
        raise SandboxUnavailable(f"no system call numbers are known for {platform.machine()}")
    instructions = [_Instruction(*line) for line in program(machine)]
    array = (_Instruction * len(instructions))(*instructions)
    filter_program = _Program(len(instructions), ctypes.cast(array, ctypes.POINTER(_Instruction)))
    libc = ctypes.CDLL(None, use_errno=True)
    _prctl(libc, _PR_SET_NO_NEW_PRIVS, 1, 0)
    _prctl(libc, _PR_SET_SECCOMP, _SECCOMP_MODE_FILTER, ctypes.addressof(filter_program))
    verify()


def verify() -> None:
    """Try what must fail and what must work; raises SandboxUnavailable."""
    for family in (socket.AF_INET, socket.AF_INET6, socket.AF_NETLINK, socket.AF_PACKET):
        try:
            socket.socket(family, socket.SOCK_DGRAM).close()
        except PermissionError:
            continue
        except OSError as error:
            if error.errno == errno.EAFNOSUPPORT:
                continue
            raise SandboxUnavailable(
                f"{family.name} failed with {error} instead of the filter's answer"
            ) from error
        raise SandboxUnavailable(f"a socket of {family.name} could be opened")
    socket.socket(socket.AF_UNIX, socket.SOCK_STREAM).close()


def _prctl(libc: ctypes.CDLL, option: int, first: int, second: int) -> None:
    arguments = [ctypes.c_ulong(value) for value in (first, second, 0, 0)]
    if libc.prctl(ctypes.c_int(option), *arguments) != 0:
        number = ctypes.get_errno()
        raise SandboxUnavailable(f"prctl({option}) failed: {errno.errorcode.get(number, number)}")
