"""Probes: parts of the kernel that a script has no business with, and ways around the system call filter."""

from __future__ import annotations

import ctypes
import errno
import mmap
import os
import struct

from minwebhook.sandbox.probes.inside import (
    MACHINE,
    Facts,
    Outcome,
    by_rights,
    held,
    in_child,
    libc,
    not_applicable,
    number,
    probe,
    syscall,
    through,
    tried,
)

_PAGE = 4096


def _attributes(size: int) -> ctypes.Array[ctypes.c_char]:
    return ctypes.create_string_buffer(size)


@probe()
def bpf(facts: Facts) -> Outcome:
    """makes a BPF map"""
    attributes = ctypes.create_string_buffer(struct.pack("=IIII", 2, 4, 4, 1) + bytes(104), 120)  # an array of one
    return tried({"bpf": lambda: os.close(syscall("bpf", 0, attributes, 120))})


@probe()
def io_uring(facts: Facts) -> Outcome:
    """sets up an io_uring, whose work no filter sees"""
    return tried({"io_uring_setup": lambda: os.close(syscall("io_uring_setup", 1, _attributes(120)))})


@probe()
def keyrings(facts: Facts) -> Outcome:
    """uses the kernel's keyrings, which know no namespace of PIDs or mounts"""
    return tried(
        {
            "keyctl": lambda: syscall("keyctl", 0, -3, 1),
            "add_key": lambda: syscall("add_key", b"user", b"probe", b"x", 1, -3),
            "request_key": lambda: syscall("request_key", b"user", b"probe", None, -3),
        },
        also=(errno.ENOKEY,),
    )


@probe()
def user_faults(facts: Facts) -> Outcome:
    """handles page faults itself (userfaultfd), a tool of kernel exploits"""
    return tried({"userfaultfd": lambda: os.close(syscall("userfaultfd", 1))})


@probe()
def performance_counters(facts: Facts) -> Outcome:
    """opens performance counters"""
    # A software counter without the kernel and the hypervisor: what the kernel allows anybody.
    flags = 1 << 5 | 1 << 6
    attributes = ctypes.create_string_buffer(struct.pack("=IIQQQQQ", 1, 112, 0, 0, 0, 0, flags) + bytes(64), 112)
    return tried({"perf_event_open": lambda: os.close(syscall("perf_event_open", attributes, 0, -1, -1, 0))})


@probe()
def modules(facts: Facts) -> Outcome:
    """loads and unloads kernel modules"""
    return by_rights(
        {
            "init_module": lambda: syscall("init_module", b"\x7fELF", 4, b""),
            "finit_module": lambda: syscall("finit_module", 0, b"", 0),
            "delete_module": lambda: syscall("delete_module", b"no_such_module", os.O_NONBLOCK),
        }
    )


@probe()
def other_kernels(facts: Facts) -> Outcome:
    """loads another kernel (kexec) or restarts the machine"""
    return by_rights(
        {
            "kexec_load": lambda: syscall("kexec_load", 0, 1 << 20, 0, 0),  # more segments than there may be
            "kexec_file_load": lambda: syscall("kexec_file_load", -1, -1, 0, b"", 0),
            "reboot": lambda: syscall("reboot", 0, 0, 0, 0),  # wrong magic: refused by any kernel
        }
    )


@probe()
def personalities(facts: Facts) -> Outcome:
    """switches off address space randomization (personality)"""

    def switch() -> None:
        before = syscall("personality", 0xFFFFFFFF)
        syscall("personality", before | 0x0040000)
        syscall("personality", before)

    return tried({"personality": switch})


@probe()
def clocks(facts: Facts) -> Outcome:
    """sets the clock"""
    time = ctypes.create_string_buffer(16)
    zone = ctypes.create_string_buffer(8)

    def zone_only() -> None:
        syscall("settimeofday", None, zone)  # changes the zone of the kernel to UTC, which it is nearly everywhere

    return tried(
        {
            "clock_settime": lambda: syscall("clock_settime", 1, time),  # the monotonic clock cannot be set at all
            "settimeofday": zone_only,
        },
        also=(errno.EINVAL,),
    )


@probe()
def administration(facts: Facts) -> Outcome:
    """calls meant for administrators: swap, quotas, accounting, the kernel's log, file events of the machine"""
    return by_rights(
        {
            "swapon": lambda: syscall("swapon", b"/tmp/no-such-file", 0),
            "swapoff": lambda: syscall("swapoff", b"/tmp/no-such-file"),
            "quotactl": lambda: syscall("quotactl", 0x800001 << 8, b"/dev/no-such", 0, 0),
            "acct": lambda: syscall("acct", b"/tmp/no-such-file"),
            "syslog": lambda: syscall("syslog", 3, ctypes.create_string_buffer(64), 64),
            "fanotify": lambda: os.close(syscall("fanotify_init", 0, 0)),
        }
    )


@probe()
def curiosities(facts: Facts) -> Outcome:
    """calls with a history of holes: kcmp, vmsplice, memory policies, local descriptor tables"""
    vector = (ctypes.c_void_p * 2)(ctypes.addressof(ctypes.create_string_buffer(16)), 16)
    read_end, write_end = os.pipe()
    steps = {
        "kcmp": lambda: syscall("kcmp", os.getpid(), os.getpid(), 0, 0, 0),
        "vmsplice": lambda: syscall("vmsplice", write_end, vector, 1, 0),
        "mbind": lambda: syscall("mbind", 0, 0, 0, 0, 0, 0),
    }
    if MACHINE == "x86_64":
        steps |= {
            "iopl": lambda: syscall("iopl", 3),
            "ioperm": lambda: syscall("ioperm", 0x80, 1, 1),
        }
    outcome = tried(steps)
    os.close(read_end)
    os.close(write_end)
    return outcome


@probe()
def calls_of_x32(facts: Facts) -> Outcome:
    """makes a system call by its x32 number, past a filter that only knows the usual ones"""
    if MACHINE != "x86_64":
        return not_applicable(f"there is no x32 on {MACHINE}")

    def call() -> int:
        result = libc.syscall(ctypes.c_long(0x40000000 | number("getpid")))
        return 1 if result > 0 else 0

    code = in_child(call)
    return through("getpid answered") if code == 1 else held(f"signal {-code}" if code < 0 else "ENOSYS")


@probe()
def calls_of_ia32(facts: Facts) -> Outcome:
    """makes a 32 bit system call (int 0x80), past a filter that only knows 64 bit numbers"""
    if MACHINE != "x86_64":
        return not_applicable(f"there is no int 0x80 on {MACHINE}")
    page = mmap.mmap(-1, _PAGE, prot=mmap.PROT_READ | mmap.PROT_WRITE | mmap.PROT_EXEC)
    page.write(b"\xb8\x14\x00\x00\x00\xcd\x80\xc3")  # mov eax, 20 (getpid); int 0x80; ret
    start = ctypes.addressof(ctypes.c_char.from_buffer(page))
    getpid = ctypes.CFUNCTYPE(ctypes.c_int)(start)
    code = in_child(lambda: 1 if getpid() == os.getpid() else 0)
    return through("getpid answered") if code == 1 else held(f"signal {-code}" if code < 0 else "no answer")


@probe()
def foreign_filter(facts: Facts) -> Outcome:
    """is not under a system call filter"""
    # PR_GET_SECCOMP gives 2 under a filter
    mode = libc.prctl(21, 0, 0, 0, 0)
    return held("a filter is installed") if mode == 2 else through(f"seccomp mode {mode}")
