"""Probes: rights of root, capabilities and namespaces."""

from __future__ import annotations

import contextlib
import ctypes
import errno
import os
import signal
import stat
import struct
from collections.abc import Callable
from functools import partial

from minwebhook.sandbox.probes.inside import (
    FIRST_JOB_UID,
    Facts,
    Outcome,
    apart,
    function,
    held,
    is_root_outside,
    judged,
    libc,
    outer_uid,
    outsiders,
    prctl,
    probe,
    process_ids,
    scratch,
    syscall,
    through,
    tried,
)

_VERSION_3 = 0x20080522
_NAMESPACES = {
    "user": 0x10000000,
    "mount": 0x00020000,
    "pid": 0x20000000,
    "net": 0x40000000,
    "ipc": 0x08000000,
    "uts": 0x04000000,
    "cgroup": 0x02000000,
    "time": 0x00000080,
}
_PR_GET_NO_NEW_PRIVS, _PR_SET_SECUREBITS, _PR_CAPBSET_READ, _PR_CAP_AMBIENT = 39, 28, 23, 47


@probe()
def set_user_id_programs(facts: Facts) -> Outcome:
    """runs programs that become root (set-user-id)"""
    programs = []
    for place in ("/usr/bin", "/usr/sbin", "/bin", "/sbin", "/usr/lib/openssh", "/usr/libexec"):
        with contextlib.suppress(OSError):
            for entry in os.scandir(place):
                with contextlib.suppress(OSError):
                    if entry.stat().st_mode & (stat.S_ISUID | stat.S_ISGID) and entry.is_file():
                        programs.append(entry.path)
    bound = prctl(_PR_GET_NO_NEW_PRIVS) == 1
    live = [path for path in programs if not os.statvfs(path).f_flag & os.ST_NOSUID]
    if bound and not live:
        return held(f"{len(programs)} such programs, without effect: nosuid and no_new_privs")
    if bound:
        return held(f"{len(live)} such programs, without effect: no_new_privs")
    return judged(live, f"{len(programs)} such programs, without effect: nosuid")


@probe()
def no_new_privileges(facts: Facts) -> Outcome:
    """is not bound by no_new_privs, or unbinds itself"""
    if prctl(_PR_GET_NO_NEW_PRIVS) != 1:
        return through("no_new_privs is not set")
    return tried({"unset no_new_privs": lambda: prctl(38, 0)}, also=(errno.EINVAL,))


@probe()
def become_root(facts: Facts) -> Outcome:
    """becomes root by setuid, setgid and their relatives"""
    if os.geteuid() == 0:
        return through("it is root")
    return tried(
        {
            "setuid": lambda: os.setuid(0),
            "setreuid": lambda: os.setreuid(0, 0),
            "setresuid": lambda: os.setresuid(0, 0, 0),
            "setgid": lambda: os.setgid(0),
            "setresgid": lambda: os.setresgid(0, 0, 0),
            "setgroups": lambda: os.setgroups([0]),
        },
        also=(errno.EINVAL,),  # a uid that its user namespace does not have
    )


@probe()
def user_outside(facts: Facts) -> Outcome:
    """is a user of the machine: root, or the server's"""
    uid = outer_uid()
    if is_root_outside(facts):
        return through("for the kernel it is root of the machine")
    if facts.rung == "root" and uid < FIRST_JOB_UID:
        return through(f"it has the uid {uid}")
    return held(f"uid {uid}")


@probe()
def capabilities(facts: Facts) -> Outcome:
    """has capabilities, or takes some"""
    header = struct.pack("=Ii", _VERSION_3, 0)
    data = ctypes.create_string_buffer(24)
    syscall("capget", header, data)
    effective, permitted, inheritable = struct.unpack_from("=III", data.raw)
    upper = struct.unpack_from("=III", data.raw, 12)
    if effective or permitted or inheritable or any(upper):
        return through(f"effective {effective:x}, permitted {permitted:x}, inheritable {inheritable:x}")
    full = struct.pack("=6I", *([0xFFFFFFFF] * 6))
    return tried(
        {
            "capset": lambda: syscall("capset", header, full),
            "ambient": lambda: prctl(_PR_CAP_AMBIENT, 2, 21),
            "securebits": lambda: prctl(_PR_SET_SECUREBITS, 1),
        }
    )


@probe()
def new_namespaces(facts: Facts) -> Outcome:
    """makes namespaces, above all one of users in which it would be root"""
    steps: dict[str, Callable[[], object]] = {}
    for name, flag in _NAMESPACES.items():
        steps[f"unshare {name}"] = partial(apart, partial(syscall, "unshare", flag))
        if name != "time":  # does not fit into the flags of clone(2)
            steps[f"clone {name}"] = partial(_clone, flag)
        steps[f"clone3 {name}"] = partial(_clone3, flag)
    steps["unshare user with all"] = partial(apart, partial(syscall, "unshare", 0x7E020000))
    steps["clone user with all"] = lambda: _clone(0x7E020000)
    return tried(steps)


def _clone(flags: int) -> None:
    pid = syscall("clone", flags | signal.SIGCHLD, 0, 0, 0, 0)
    if pid == 0:
        os._exit(0)
    os.waitpid(pid, 0)


def _clone3(flags: int) -> None:
    arguments = ctypes.create_string_buffer(struct.pack("=5Q", flags, 0, 0, 0, signal.SIGCHLD) + bytes(48), 88)
    pid = syscall("clone3", arguments, 88)
    if pid == 0:
        os._exit(0)
    os.waitpid(pid, 0)


@probe()
def enter_namespaces(facts: Facts) -> Outcome:
    """enters namespaces of others by setns, also its own again"""
    steps: dict[str, Callable[[], object]] = {}
    for pid in dict.fromkeys([os.getpid(), 1, *process_ids()[:8]]):
        for name in ("mnt", "user", "net", "ipc", "uts", "pid"):
            steps[f"{name} of {pid}"] = partial(apart, partial(_enter, f"/proc/{pid}/ns/{name}"))
    for pid in dict.fromkeys([os.getpid(), 1, *outsiders(facts)]):
        steps[f"all of {pid}"] = partial(apart, partial(_enter_all, pid))
    # Its own user namespace cannot be entered again by anyone.
    return tried(steps, also=(errno.EINVAL,))


def _enter(path: str) -> None:
    fd = os.open(path, os.O_RDONLY)
    try:
        syscall("setns", fd, 0)
    finally:
        os.close(fd)


def _enter_all(pid: int) -> None:
    fd = os.pidfd_open(pid)
    try:
        syscall("setns", fd, 0x00020000 | 0x20000000)
    finally:
        os.close(fd)


@probe()
def file_capabilities(facts: Facts) -> Outcome:
    """gives a file of its own capabilities, or root as owner with the set-user-id bit"""
    path = f"{scratch()}/capable-{facts.mark}"
    with open(path, "w") as file:  # noqa: PTH123
        file.write("#!/bin/sh\n")
    value = struct.pack("<5I", 0x02000001, 0xFFFFFFFF, 0, 0xFFFFFFFF, 0)
    try:
        return tried(_changes_of(path, value), also=(errno.EOPNOTSUPP, errno.EINVAL))
    finally:
        os.unlink(path)  # noqa: PTH108


def _changes_of(path: str, value: bytes) -> dict[str, Callable[[], object]]:
    return {
        "security.capability": lambda: os.setxattr(path, "security.capability", value),
        "trusted": lambda: os.setxattr(path, "trusted.probe", b"x"),
        "chown": lambda: os.chown(path, 0, 0),
    }


@probe()
def host_name(facts: Facts) -> Outcome:
    """changes the name of the machine"""
    name = os.uname().nodename.encode()
    domain = ctypes.create_string_buffer(65)
    libc.getdomainname(domain, 65)
    return tried(
        {
            "sethostname": lambda: function("sethostname", name, len(name)),
            "setdomainname": lambda: function("setdomainname", domain.value, len(domain.value)),
        }
    )
