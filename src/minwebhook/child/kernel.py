"""The Linux system calls that Python does not offer, through ctypes. x86_64 and aarch64.

``ctypes.PyDLL`` keeps the interpreter lock between a call and reading errno. Only single-threaded processes may use
the namespace calls: they act on the calling thread.
"""

from __future__ import annotations

import ctypes
import os
import platform
import struct
from typing import Final

CLONE_NEWNS: Final = 0x00020000
CLONE_NEWUTS: Final = 0x04000000
CLONE_NEWIPC: Final = 0x08000000
CLONE_NEWUSER: Final = 0x10000000
CLONE_NEWPID: Final = 0x20000000
CLONE_NEWNET: Final = 0x40000000

MS_RDONLY: Final = 1
MS_NOSUID: Final = 2
MS_NODEV: Final = 4
MS_NOEXEC: Final = 8
MS_REMOUNT: Final = 32
MS_BIND: Final = 4096
MS_REC: Final = 16384
MS_PRIVATE: Final = 1 << 18
MNT_DETACH: Final = 2

# mount_setattr(2)
MOUNT_ATTR_RDONLY: Final = 0x1
MOUNT_ATTR_NOSUID: Final = 0x2
MOUNT_ATTR_NODEV: Final = 0x4
AT_FDCWD: Final = -100
AT_RECURSIVE: Final = 0x8000

PR_SET_PDEATHSIG: Final = 1
PR_SET_DUMPABLE: Final = 4
PR_SET_CHILD_SUBREAPER: Final = 36
PR_SET_NO_NEW_PRIVS: Final = 38
PR_CAP_AMBIENT: Final = 47
PR_CAP_AMBIENT_CLEAR_ALL: Final = 4
_CAPABILITY_VERSION_3: Final = 0x20080522
SECCOMP_SET_MODE_FILTER: Final = 1

#: System call numbers by machine: pivot_root, capset, seccomp, mount_setattr.
_NUMBERS: Final = {
    "x86_64": {"pivot_root": 155, "capset": 126, "seccomp": 317, "mount_setattr": 442},
    "aarch64": {"pivot_root": 41, "capset": 91, "seccomp": 277, "mount_setattr": 442},
}

_libc: Final = ctypes.PyDLL(None, use_errno=True)


def _number(name: str) -> int:
    machine = platform.machine()
    if machine not in _NUMBERS:
        raise OSError(38, f"no system call table for {machine}")
    return _NUMBERS[machine][name]


def _check(result: int, what: str) -> int:
    if result < 0:
        errno = ctypes.get_errno()
        raise OSError(errno, f"{what}: {os.strerror(errno)}")
    return result


def system_call(number: int, *arguments: int | bytes | None) -> int:
    """syscall(2): numbers as long, bytes by address, None as null."""
    given = [ctypes.c_long(argument) if isinstance(argument, int) else argument for argument in arguments]
    return _check(_libc.syscall(ctypes.c_long(number), *given), f"system call {number}")


def unshare(flags: int) -> None:
    """unshare(2)."""
    _check(_libc.unshare(flags), "unshare")


def setns(fd: int, kind: int) -> None:
    """setns(2)."""
    _check(_libc.setns(fd, kind), "setns")


def mount(source: str, target: str, kind: str | None, flags: int = 0, data: str | None = None) -> None:
    """mount(2)."""
    _check(
        _libc.mount(
            source.encode(),
            target.encode(),
            kind.encode() if kind is not None else None,
            ctypes.c_ulong(flags),
            data.encode() if data is not None else None,
        ),
        f"mount {kind or source} on {target}",
    )


def mount_read_only(target: str, *, devices: bool = False) -> None:
    """Makes a mount and all mounts below it read-only and nosuid, and nodev unless ``devices`` (mount_setattr(2)).

    Unlike a remount this keeps the flags that a user namespace is not allowed to change.
    """
    flags = MOUNT_ATTR_NOSUID | (0 if devices else MOUNT_ATTR_NODEV | MOUNT_ATTR_RDONLY)
    attributes = struct.pack("<QQQQ", flags, 0, 0, 0)
    _check(
        _libc.syscall(
            _number("mount_setattr"),
            AT_FDCWD,
            target.encode(),
            AT_RECURSIVE,
            attributes,
            ctypes.c_size_t(len(attributes)),
        ),
        f"mount_setattr {target}",
    )


def unmount(target: str) -> None:
    """umount2(2), detaching: what is in use goes when it is no longer used."""
    _check(_libc.umount2(target.encode(), MNT_DETACH), f"umount {target}")


def pivot_root(new_root: str, put_old: str) -> None:
    """pivot_root(2)."""
    _check(_libc.syscall(_number("pivot_root"), new_root.encode(), put_old.encode()), "pivot_root")


def prctl(option: int, value: int = 0) -> None:
    """prctl(2) with one argument."""
    zero = ctypes.c_ulong(0)
    _check(_libc.prctl(option, ctypes.c_ulong(value), zero, zero, zero), f"prctl {option}")


def drop_capabilities() -> None:
    """Empties the effective, permitted and inheritable sets of this process, and the ambient set."""
    prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_CLEAR_ALL)
    header = struct.pack("=Ii", _CAPABILITY_VERSION_3, 0)
    _check(_libc.syscall(_number("capset"), header, bytes(24)), "capset")


def install_filter(program: bytes) -> None:
    """Installs a seccomp filter, given as the bytes of its BPF instructions, for this process and its descendants."""
    instructions = ctypes.create_string_buffer(program, len(program))
    fprog = struct.pack("HxxxxxxP", len(program) // 8, ctypes.addressof(instructions))
    _check(_libc.syscall(_number("seccomp"), SECCOMP_SET_MODE_FILTER, 0, fprog), "seccomp")
