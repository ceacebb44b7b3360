"""The system call filter, run by an interpreter of BPF that is written here: every number, every machine."""

from __future__ import annotations

import errno
import struct
from dataclasses import dataclass

import pytest
from hypothesis import given
from hypothesis import strategies as st

from minwebhook.sandbox.seccomp import (
    ALLOWED_FOR_COMPUTING,
    DENIED,
    DENIED_WITHOUT_NAMESPACES,
    assemble,
    assemble_computing,
    filter_instructions,
)

ARCHITECTURES = {"x86_64": 0xC000003E, "aarch64": 0xC00000B7}
I386, X32_BIT = 0x40000003, 0x40000000
ALLOW, KILL, ERRNO = 0x7FFF0000, 0x80000000, 0x00050000
DENY, ABSENT = ERRNO | errno.EPERM, ERRNO | errno.ENOSYS
#: Call numbers: (x86_64, aarch64).
MEMFD_CREATE = (319, 279)
CLONE, CLONE3, UNSHARE, SETNS = (56, 220), (435, 435), (272, 97), (308, 268)
SOCKET, SOCKETPAIR, IOCTL, MOUNT, UMOUNT2 = (41, 198), (53, 199), (16, 29), (165, 40), (166, 39)
NEEDED = {
    "read": (0, 63), "write": (1, 64), "mmap": (9, 222), "execve": (59, 221), "exit_group": (231, 94),
    "futex": (202, 98), "setrlimit": (160, 164), "setresuid": (117, 147), "capset": (126, 91), "prctl": (157, 167),
    "setns": SETNS, "mount": MOUNT, "umount2": UMOUNT2, "wait4": (61, 260), "kill": (62, 129), "pipe2": (293, 59),
    "connect": (42, 203), "sendmsg": (46, 211), "recvmsg": (47, 212), "getrandom": (318, 278), "openat": (257, 56),
    "pidfd_open": (434, 434), "epoll_pwait": (281, 22), "sched_yield": (24, 124), "clone": CLONE, "socket": SOCKET,
}  # fmt: skip
ONLY_X86 = {"ioperm": 173, "iopl": 172, "modify_ldt": 154}
SPECIAL = {
    "clone": CLONE,
    "clone3": CLONE3,
    "unshare": UNSHARE,
    "socket": SOCKET,
    "ioctl": IOCTL,
    "memfd_create": MEMFD_CREATE,
}


@dataclass(frozen=True)
class Program:
    """An assembled filter."""

    code: tuple[tuple[int, int, int, int], ...]

    @classmethod
    def make(cls, machine: str, *, network: bool, namespaces: bool = True, memfd: bool = False) -> Program:
        data = assemble(machine, network=network, namespaces=namespaces, memfd=memfd)
        assert len(data) % 8 == 0
        return cls(tuple(struct.iter_unpack("=HBBI", data)))

    def run(self, architecture: int, number: int, *arguments: int) -> int:
        """What the kernel would do with this call (man 2 seccomp, linux/filter.h)."""
        padded = (*arguments, 0, 0, 0, 0, 0, 0)[:6]
        data = struct.pack("=IIQ6Q", number & 0xFFFFFFFF, architecture, 0, *(value & (1 << 64) - 1 for value in padded))
        accumulator, at = 0, 0
        while True:
            code, jump_true, jump_false, operand = self.code[at]
            at += 1
            if code == 0x20:
                (accumulator,) = struct.unpack_from("=I", data, operand)
            elif code == 0x54:
                accumulator &= operand
            elif code == 0x06:
                return operand
            elif code in (0x15, 0x35, 0x45):
                taken = {0x15: accumulator == operand, 0x35: accumulator >= operand, 0x45: bool(accumulator & operand)}
                at += jump_true if taken[code] else jump_false
            else:
                raise AssertionError(f"unknown instruction {code:#x}")


PROGRAMS = {(m, n): Program.make(m, network=n) for m in ARCHITECTURES for n in (False, True)}
variants = pytest.mark.parametrize(("machine", "network"), list(PROGRAMS))


def column(machine: str) -> int:
    return list(ARCHITECTURES).index(machine)


def run(machine: str, network: bool, number: int, *arguments: int) -> int:
    return PROGRAMS[machine, network].run(ARCHITECTURES[machine], number, *arguments)


@variants
def test_every_number(machine: str, network: bool) -> None:
    """Denied is what the table says and nothing else; the special ones are below."""
    denied = {pair[column(machine)] for pair in DENIED.values()} | set(ONLY_X86.values() if machine == "x86_64" else ())
    special = {pair[column(machine)] for pair in SPECIAL.values()}
    assert not denied & special
    for number in range(1024):
        if number not in special:
            assert run(machine, network, number) == (DENY if number in denied else ALLOW), number


@variants
def test_what_the_fork_server_and_scripts_need_is_allowed(machine: str, network: bool) -> None:
    for name, pair in NEEDED.items():
        arguments = (1,) if name == "socket" else ()
        assert run(machine, network, pair[column(machine)], *arguments) == ALLOW, name


@variants
def test_the_dangerous_are_denied_by_name(machine: str, network: bool) -> None:
    """The numbers once more from another source: the kernel's tables, written down here by hand."""
    numbers = {
        "ptrace": (101, 117), "keyctl": (250, 219), "bpf": (321, 280), "io_uring_setup": (425, 425),
        "userfaultfd": (323, 282), "perf_event_open": (298, 241), "kexec_load": (246, 104), "init_module": (175, 105),
        "pivot_root": (155, 41), "chroot": (161, 51), "process_vm_readv": (310, 270), "open_by_handle_at": (304, 265),
        "move_mount": (429, 429), "open_tree": (428, 428), "mount_setattr": (442, 442), "shmget": (29, 194),
        "msgget": (68, 186), "semget": (64, 190), "personality": (135, 92), "reboot": (169, 142), "pidfd_getfd": (438, 438),
    }  # fmt: skip
    for name, pair in numbers.items():
        assert run(machine, network, pair[column(machine)]) == DENY, name


@variants
@pytest.mark.parametrize("flag", [0x00020000, 0x02000000, 0x04000000, 0x08000000, 0x10000000, 0x20000000, 0x40000000])
def test_no_new_namespaces_by_clone(machine: str, network: bool, flag: int) -> None:
    clone = CLONE[column(machine)]
    for rest in (0, 17, 0x01200011, 0x00010F00, 1 << 63):
        assert run(machine, network, clone, flag | rest) == DENY


@variants
def test_forks_and_threads_are_allowed(machine: str, network: bool) -> None:
    clone = CLONE[column(machine)]
    for flags in (17, 0x01200011, 0x003D0F00, 0x4111):  # fork, glibc's fork, a thread, vfork
        assert run(machine, network, clone, flags) == ALLOW
    assert run(machine, network, CLONE3[column(machine)]) == ABSENT  # libc then falls back to clone
    assert run(machine, network, MEMFD_CREATE[column(machine)]) == ABSENT
    counted = Program.make(machine, network=network, memfd=True)
    assert counted.run(ARCHITECTURES[machine], MEMFD_CREATE[column(machine)]) == ALLOW


@variants
def test_unshare_of_a_user_namespace_is_denied_and_others_need_capabilities(machine: str, network: bool) -> None:
    unshare = UNSHARE[column(machine)]
    assert run(machine, network, unshare, 0x10000000) == DENY
    assert run(machine, network, unshare, 0x10000000 | 0x00020000) == DENY
    assert run(machine, network, unshare, 0x20000000) == ALLOW  # the fork server's


@variants
@given(
    family=st.integers(0, (1 << 32) - 1) | st.integers(0, 50),
    kind=st.integers(0, 1 << 20) | st.integers(0, 6),
    protocol=st.integers(0, 300) | st.sampled_from([0, 6]),
)
def test_socket_families(machine: str, network: bool, family: int, kind: int, protocol: int) -> None:
    result = run(machine, network, SOCKET[column(machine)], family, kind, protocol)
    if network:
        expected = family in {1, 2, 10} or (family == 16 and protocol == 0)
    else:
        expected = family == 1 or (family in {2, 10} and kind & 0xF == 1 and protocol in {0, 6})
    assert result == (ALLOW if expected else DENY)


@variants
def test_every_family_by_number(machine: str, network: bool) -> None:
    socket = SOCKET[column(machine)]
    got = {family for family in range(64) if run(machine, network, socket, family, 1, 0) == ALLOW}
    assert got == ({1, 2, 10, 16} if network else {1, 2, 10})
    assert run(machine, network, socket, 16, 3, 12) == DENY
    for kind in (2, 3, 5, 2 | 0x80800):  # datagrams, raw, and with flags
        assert run(machine, network, socket, 2, kind, 0) == (ALLOW if network else DENY)
    assert run(machine, network, socket, 2, 1 | 0x80800, 6) == ALLOW
    assert run(machine, network, socket, 2, 1, 262) == (ALLOW if network else DENY)  # multipath TCP


@variants
def test_terminals_cannot_be_typed_into(machine: str, network: bool) -> None:
    ioctl = IOCTL[column(machine)]
    for request in (0x5412, 0x541C, 0x5412 | 1 << 32, 0x541C | 0xFFFF << 40):
        assert run(machine, network, ioctl, 0, request) == DENY
    for request in (0x5401, 0x5413, 0x541B, 0):
        assert run(machine, network, ioctl, 0, request) == ALLOW


@variants
def test_other_architectures_are_killed(machine: str, network: bool) -> None:
    for architecture in {*ARCHITECTURES.values(), I386, 0x40000028, 0, 0xFFFFFFFF} - {ARCHITECTURES[machine]}:
        for number in (0, 1, 59, 101, 400):
            assert PROGRAMS[machine, network].run(architecture, number) == KILL


@pytest.mark.parametrize("network", [False, True])
def test_x32_is_killed(network: bool) -> None:
    for number in (0, 101, 520, 0x3FFFFFFF):
        assert run("x86_64", network, X32_BIT | number) == KILL
    assert run("x86_64", network, 0xFFFFFFFF) == KILL


@variants
@given(number=st.integers(0, (1 << 32) - 1), arguments=st.lists(st.integers(0, (1 << 64) - 1), max_size=6))
def test_any_call_ends_in_a_known_verdict(machine: str, network: bool, number: int, arguments: list[int]) -> None:
    assert run(machine, network, number, *arguments) in (ALLOW, KILL, DENY, ABSENT)


@variants
def test_the_kernel_would_take_it(machine: str, network: bool) -> None:
    program = PROGRAMS[machine, network].code
    assert 0 < len(program) < 4096  # BPF_MAXINSNS
    for at, (code, jump_true, jump_false, operand) in enumerate(program):
        assert code in (0x20, 0x06, 0x15, 0x35, 0x45, 0x54)
        if code in (0x15, 0x35, 0x45):
            assert at + 1 + max(jump_true, jump_false) < len(program)
        else:
            assert jump_true == jump_false == 0
        if code == 0x20:
            assert operand in range(0, 64, 4)
    assert program[-1][0] == 0x06


@variants
def test_assembled_is_what_was_planned(machine: str, network: bool) -> None:
    instructions = filter_instructions(machine, network=network)
    assert b"".join(instruction.pack() for instruction in instructions) == assemble(machine, network=network)
    assert all(0 <= each.jump_true <= 255 and 0 <= each.jump_false <= 255 for each in instructions)


def test_unknown_machines_have_no_filter() -> None:
    with pytest.raises(ValueError, match="riscv64"):
        assemble("riscv64", network=True)


@variants
def test_without_namespaces_more_is_denied_and_nothing_less(machine: str, network: bool) -> None:
    """Every number with harmless arguments, and the calls that depend on their arguments."""
    program, at = Program.make(machine, network=network, namespaces=False), column(machine)
    more = {pair[at] for pair in DENIED_WITHOUT_NAMESPACES.values()} - {None}

    def run_it(number: int, *arguments: int) -> int:
        return program.run(ARCHITECTURES[machine], number, *arguments)

    special = {SOCKET[at]}
    for number in range(1024):
        if number not in special:
            assert run_it(number) == (DENY if number in more else run(machine, network, number)), number
    prlimit, prctl = (302, 261)[at], (157, 167)[at]
    assert [run_it(prlimit, pid, 7) for pid in (0, 1, 4711, 1 << 31)] == [ALLOW, DENY, DENY, DENY]
    assert [run_it(prctl, option) for option in (1, 15, 22, 36, 38)] == [ALLOW, ALLOW, ALLOW, DENY, ALLOW]
    for family in (1, 2, 10, 16, 17, 0xFFFF - 1, 1 << 20):
        assert run_it(SOCKET[at], family, 1, 0) == (ALLOW if network and family in (2, 10, 16) else DENY)
    for at_instruction, (_, jump_true, jump_false, _) in enumerate(program.code):
        assert at_instruction + max(jump_true, jump_false) < len(program.code)


@variants
def test_the_dangerous_without_namespaces_by_name(machine: str, network: bool) -> None:
    """From the kernel's tables once more; one of the chmod family is missing on aarch64."""
    program, at = Program.make(machine, network=network, namespaces=False), column(machine)
    numbers = {
        "mount": MOUNT, "umount2": UMOUNT2, "unshare": UNSHARE, "setns": SETNS, "fchmodat": (268, 53), "fchownat": (260, 54),
        "setpriority": (141, 140), "sched_setaffinity": (203, 122), "setxattr": (188, 5), "ioprio_set": (251, 30),
        "ptrace": (101, 117), "keyctl": (250, 219), "process_vm_writev": (311, 271), "chmod": (90, 53), "chown": (92, 54),
    }  # fmt: skip
    for name, pair in numbers.items():
        assert program.run(ARCHITECTURES[machine], pair[at], 0) == DENY, name
    for name, pair in {"fchmod": (91, 52), "kill": (62, 129), "openat": (257, 56), "setrlimit": (160, 164)}.items():
        assert program.run(ARCHITECTURES[machine], pair[at], 0) == ALLOW, name


@pytest.mark.parametrize("machine", list(ARCHITECTURES))
def test_computing(machine: str) -> None:
    """Allowed is what the table says, and memory that cannot be executed; nothing else."""
    filtered = Program(tuple(struct.iter_unpack("=HBBI", assemble_computing(machine))))
    which, architecture = column(machine), ARCHITECTURES[machine]
    allowed = {pair[which] for pair in ALLOWED_FOR_COMPUTING.values()}
    memory = {"mmap": (9, 222)[which], "mprotect": (10, 226)[which]}
    for number in range(600):
        expected = ALLOW if number in allowed or number in memory.values() else DENY
        assert filtered.run(architecture, number) == expected, number
    for number in memory.values():
        assert filtered.run(architecture, number, 0, 4096, 3) == ALLOW
        assert filtered.run(architecture, number, 0, 4096, 4) == DENY
        assert filtered.run(architecture, number, 0, 4096, 7) == DENY
    assert filtered.run(I386, 3) == KILL
    if machine == "x86_64":
        assert filtered.run(architecture, X32_BIT) == KILL
    for name in ("execve", "openat", "socket", "clone", "kill", "prctl", "setrlimit", "sendmsg"):
        assert filtered.run(architecture, NEEDED[name][which]) == DENY
