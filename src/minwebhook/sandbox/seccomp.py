"""The system call filters of scripts and of what evaluates expressions, assembled to BPF. Pure.

That of scripts is a deny-list on top of dropped capabilities: it closes what an unprivileged process may still call and
must not (new user namespaces, ptrace, keyrings, io_uring, BPF, System V IPC, which one zygote's jobs would share, foreign
socket families). ``mount``, ``umount2``, ``setns`` and ``unshare`` of other namespaces stay open, because the fork server is
under the same filter and needs them; children have no capability for them. Expressions need nothing of the kernel: their
filter lists what is allowed. Sources: seccomp(2), the kernel's system call tables.
"""

from __future__ import annotations

import errno
import struct
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

# linux/audit.h
_ARCHITECTURES: Final = {"x86_64": 0xC000003E, "aarch64": 0xC00000B7}

#: Number of each denied call: (x86_64, aarch64); None where the machine has no such call.
DENIED: Final[Mapping[str, tuple[int | None, int | None]]] = {
    "acct": (163, 89),
    "add_key": (248, 217),
    "adjtimex": (159, 171),
    "bpf": (321, 280),
    "chroot": (161, 51),
    "clock_adjtime": (305, 266),
    "clock_settime": (227, 112),
    "delete_module": (176, 106),
    "fanotify_init": (300, 262),
    "finit_module": (313, 273),
    "fsconfig": (431, 431),
    "fsmount": (432, 432),
    "fsopen": (430, 430),
    "fspick": (433, 433),
    "init_module": (175, 105),
    "io_uring_enter": (426, 426),
    "io_uring_register": (427, 427),
    "io_uring_setup": (425, 425),
    "kcmp": (312, 272),
    "kexec_file_load": (320, 294),
    "kexec_load": (246, 104),
    "keyctl": (250, 219),
    "lookup_dcookie": (212, 18),
    "mbind": (237, 235),
    "migrate_pages": (256, 238),
    "mount_setattr": (442, 442),
    "move_mount": (429, 429),
    "move_pages": (279, 239),
    "mq_open": (240, 180),
    "msgget": (68, 186),
    "name_to_handle_at": (303, 264),
    "open_by_handle_at": (304, 265),
    "open_tree": (428, 428),
    "perf_event_open": (298, 241),
    "personality": (135, 92),
    "pidfd_getfd": (438, 438),
    "pivot_root": (155, 41),
    "process_vm_readv": (310, 270),
    "process_vm_writev": (311, 271),
    "ptrace": (101, 117),
    "quotactl": (179, 60),
    "quotactl_fd": (443, 443),
    "reboot": (169, 142),
    "request_key": (249, 218),
    "semget": (64, 190),
    "set_mempolicy": (238, 237),
    "setdomainname": (171, 162),
    "sethostname": (170, 161),
    "settimeofday": (164, 170),
    "shmat": (30, 196),
    "shmget": (29, 194),
    "swapoff": (168, 225),
    "swapon": (167, 224),
    "syslog": (103, 116),
    "userfaultfd": (323, 282),
    "vhangup": (153, 58),
    "vmsplice": (278, 75),
}
#: Denied as well where there are no namespaces: what Landlock does not know, and could be done to files and processes of
#: the same user, and to queues, semaphores and memory of the machine; and what the fork server does not need there.
DENIED_WITHOUT_NAMESPACES: Final[Mapping[str, tuple[int | None, int | None]]] = {
    "chmod": (90, None),
    "chown": (92, None),
    "fchmodat": (268, 53),
    "fchmodat2": (452, 452),
    "fchownat": (260, 54),
    "ioprio_set": (251, 30),
    "lchown": (94, None),
    "lremovexattr": (198, 15),
    "lsetxattr": (189, 6),
    "mount": (165, 40),
    "msgctl": (71, 187),
    "msgrcv": (70, 188),
    "msgsnd": (69, 189),
    "removexattr": (197, 14),
    "removexattrat": (466, 466),
    "semctl": (66, 191),
    "semop": (65, 193),
    "semtimedop": (220, 192),
    "sched_setaffinity": (203, 122),
    "sched_setattr": (314, 274),
    "sched_setparam": (142, 118),
    "sched_setscheduler": (144, 119),
    "setns": (308, 268),
    "setpriority": (141, 140),
    "setxattr": (188, 5),
    "setxattrat": (463, 463),
    "shmctl": (31, 195),
    "umount2": (166, 39),
    "unshare": (272, 97),
}
#: All that a process needs which computes, and talks over descriptors that are open already.
ALLOWED_FOR_COMPUTING: Final[Mapping[str, tuple[int, int]]] = {
    "brk": (12, 214),
    "clock_gettime": (228, 113),
    "close": (3, 57),
    "exit": (60, 93),
    "exit_group": (231, 94),
    "futex": (202, 98),
    "getpid": (39, 172),
    "getrandom": (318, 278),
    "gettimeofday": (96, 169),
    "lseek": (8, 62),
    "madvise": (28, 233),
    "mremap": (25, 216),
    "munmap": (11, 215),
    "read": (0, 63),
    "restart_syscall": (219, 128),
    "rt_sigaction": (13, 134),
    "rt_sigprocmask": (14, 135),
    "rt_sigreturn": (15, 139),
    "sched_yield": (24, 124),
    "sigaltstack": (131, 132),
    "write": (1, 64),
}
#: Allowed as well, unless memory is to be executed.
_MEMORY_CALLS: Final = ((9, 222), (10, 226))  # mmap, mprotect
_PROT_EXEC: Final = 4
_ONLY_X86: Final = {"ioperm": 173, "iopl": 172, "modify_ldt": 154}

_CLONE: Final = (56, 220)
_CLONE3: Final = (435, 435)
_MEMFD_CREATE: Final = (319, 279)
_UNSHARE: Final = (272, 97)
_SOCKET: Final = (41, 198)
_IOCTL: Final = (16, 29)
_PRLIMIT: Final = (302, 261)
_PRCTL: Final = (157, 167)
_PR_SET_CHILD_SUBREAPER: Final = 36

_NEW_NAMESPACES: Final = 0x7E020000  # every CLONE_NEW* that clone(2) takes
_NEW_USER: Final = 0x10000000
_TERMINAL_INJECTION: Final = (0x5412, 0x541C)  # TIOCSTI, TIOCLINUX
_AF_UNIX, _AF_INET, _AF_INET6, _AF_NETLINK = 1, 2, 10, 16
_SOCKET_TYPE, _SOCK_STREAM, _IPPROTO_TCP = 0xF, 1, 6
_AF_NOTHING: Final = 0xFFFF
_X32_BIT: Final = 0x40000000

# linux/bpf_common.h: load word, jump if equal / greater-or-equal / bits set, return, and with the accumulator
_LD, _JEQ, _JGE, _JSET, _RET, _AND = 0x20, 0x15, 0x35, 0x45, 0x06, 0x54
_ALLOW: Final = 0x7FFF0000
_KILL: Final = 0x80000000
_DENY: Final = 0x00050000 | errno.EPERM
_ABSENT: Final = 0x00050000 | errno.ENOSYS

# offsets in struct seccomp_data
_NR, _ARCH = 0, 4


def _argument(index: int) -> int:
    return 16 + 8 * index


@dataclass(frozen=True, slots=True)
class Instruction:
    """One BPF instruction: code, jumps when true and false, operand."""

    code: int
    jump_true: int
    jump_false: int
    operand: int

    def pack(self) -> bytes:
        """The 8 bytes of struct sock_filter."""
        return struct.pack("=HBBI", self.code, self.jump_true, self.jump_false, self.operand)


def _for_call(number: int, body: list[Instruction]) -> list[Instruction]:
    """``body`` for one call number; it may load arguments, the number is loaded again behind it."""
    block = [*body, Instruction(_LD, 0, 0, _NR)]
    return [Instruction(_JEQ, 0, len(block), number), *block]


def _head(machine: str) -> list[Instruction]:
    """Calls by the convention of another machine end the process; then the number of the call is loaded."""
    program = [
        Instruction(_LD, 0, 0, _ARCH),
        Instruction(_JEQ, 1, 0, _ARCHITECTURES[machine]),
        Instruction(_RET, 0, 0, _KILL),
        Instruction(_LD, 0, 0, _NR),
    ]
    if machine == "x86_64":
        program += [Instruction(_JGE, 0, 1, _X32_BIT), Instruction(_RET, 0, 0, _KILL)]
    return program


def filter_instructions(
    machine: str, *, network: bool, namespaces: bool = True, memfd: bool = False
) -> list[Instruction]:
    """The filter for ``machine`` (``x86_64`` or ``aarch64``).

    Without ``network`` there are only local sockets, and TCP, for which such scripts have a loopback interface. Without
    ``namespaces`` there are no local ones, because services of the machine could be reached by them; without both none.
    Without ``memfd`` there are no files in memory but those of /tmp: nothing else would limit them.
    """
    column = list(_ARCHITECTURES).index(machine)
    program = _head(machine)
    # libc falls back to clone(2), whose flags a filter can see
    program += [Instruction(_JEQ, 0, 1, _CLONE3[column]), Instruction(_RET, 0, 0, _ABSENT)]
    if not memfd:  # as on a kernel that has none: programs then use /tmp
        program += [Instruction(_JEQ, 0, 1, _MEMFD_CREATE[column]), Instruction(_RET, 0, 0, _ABSENT)]
    for call, flags in ((_CLONE, _NEW_NAMESPACES), (_UNSHARE, _NEW_USER)):
        program += _for_call(
            call[column],
            [
                Instruction(_LD, 0, 0, _argument(0)),
                Instruction(_JSET, 0, 1, flags),
                Instruction(_RET, 0, 0, _DENY),
            ],
        )
    program += _for_call(
        _IOCTL[column],
        [
            Instruction(_LD, 0, 0, _argument(1)),
            *(
                instruction
                for request in _TERMINAL_INJECTION
                for instruction in (Instruction(_JEQ, 0, 1, request), Instruction(_RET, 0, 0, _DENY))
            ),
        ],
    )
    program += _for_call(_SOCKET[column], _socket_rules(network, namespaces))
    tables: list[Mapping[str, tuple[int | None, int | None]]] = [DENIED]
    if not namespaces:
        tables.append(DENIED_WITHOUT_NAMESPACES)
        program += _for_call(  # limits of other processes
            _PRLIMIT[column],
            [Instruction(_LD, 0, 0, _argument(0)), Instruction(_JEQ, 1, 0, 0), Instruction(_RET, 0, 0, _DENY)],
        )
        program += _for_call(  # whose orphans are whose
            _PRCTL[column],
            [
                Instruction(_LD, 0, 0, _argument(0)),
                Instruction(_JEQ, 0, 1, _PR_SET_CHILD_SUBREAPER),
                Instruction(_RET, 0, 0, _DENY),
            ],
        )
    numbers = {number for table in tables for pair in table.values() if (number := pair[column]) is not None}
    if machine == "x86_64":
        numbers |= set(_ONLY_X86.values())
    for number in sorted(numbers):
        program += [Instruction(_JEQ, 0, 1, number), Instruction(_RET, 0, 0, _DENY)]
    program.append(Instruction(_RET, 0, 0, _ALLOW))
    return program


def _socket_rules(network: bool, namespaces: bool) -> list[Instruction]:
    """Families that scripts may open: local ones, TCP; with ``network`` also UDP and route look-ups (getaddrinfo)."""
    # A match jumps behind the block of the call: to the reload of the number that _for_call adds.
    if not (network or namespaces):
        return [Instruction(_RET, 0, 0, _DENY)]
    if network:
        return [
            Instruction(_LD, 0, 0, _argument(0)),
            # Local sockets, or an impossible family in their place.
            Instruction(_JEQ, 6, 0, _AF_UNIX if namespaces else _AF_NOTHING),
            Instruction(_JEQ, 5, 0, _AF_INET),
            Instruction(_JEQ, 4, 0, _AF_INET6),
            Instruction(_JEQ, 0, 2, _AF_NETLINK),  # with protocol 0 (route) only
            Instruction(_LD, 0, 0, _argument(2)),
            Instruction(_JEQ, 1, 0, 0),
            Instruction(_RET, 0, 0, _DENY),
        ]
    return [
        Instruction(_LD, 0, 0, _argument(0)),
        Instruction(_JEQ, 9, 0, _AF_UNIX),
        Instruction(_JEQ, 1, 0, _AF_INET),
        Instruction(_JEQ, 0, 6, _AF_INET6),
        Instruction(_LD, 0, 0, _argument(1)),
        Instruction(_AND, 0, 0, _SOCKET_TYPE),
        Instruction(_JEQ, 0, 3, _SOCK_STREAM),
        Instruction(_LD, 0, 0, _argument(2)),
        Instruction(_JEQ, 2, 0, 0),
        Instruction(_JEQ, 1, 0, _IPPROTO_TCP),
        Instruction(_RET, 0, 0, _DENY),
    ]


def assemble(machine: str, *, network: bool, namespaces: bool = True, memfd: bool = False) -> bytes:
    """The filter as the bytes that seccomp(2) takes."""
    return b"".join(
        instruction.pack()
        for instruction in filter_instructions(machine, network=network, namespaces=namespaces, memfd=memfd)
    )


def computing_instructions(machine: str) -> list[Instruction]:
    """The filter for a process that does nothing but compute and answer: what is not allowed fails with EPERM."""
    column = list(_ARCHITECTURES).index(machine)
    program = _head(machine)
    for call in _MEMORY_CALLS:
        program += _for_call(
            call[column],
            [
                Instruction(_LD, 0, 0, _argument(2)),
                Instruction(_JSET, 0, 1, _PROT_EXEC),
                Instruction(_RET, 0, 0, _DENY),
                Instruction(_RET, 0, 0, _ALLOW),
            ],
        )
    for pair in ALLOWED_FOR_COMPUTING.values():
        program += [Instruction(_JEQ, 0, 1, pair[column]), Instruction(_RET, 0, 0, _ALLOW)]
    program.append(Instruction(_RET, 0, 0, _DENY))
    return program


def assemble_computing(machine: str) -> bytes:
    """:func:`computing_instructions` as the bytes that seccomp(2) takes. Raises ValueError for an unknown machine."""
    return b"".join(instruction.pack() for instruction in computing_instructions(machine))
