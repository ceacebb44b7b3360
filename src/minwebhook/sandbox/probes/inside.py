"""What probes use, inside the sandbox. Standard library only: this file travels into the job as text.

A probe is a function of :class:`Facts` that really tries one kind of escape, harmlessly if it succeeds, and gives an
:data:`Outcome`. What could hurt a machine (signals to all, bombs) is only done where the job itself has seen that it is
contained; otherwise the outcome is :data:`NOT_CONTAINED`.
"""

from __future__ import annotations

import contextlib
import ctypes
import errno
import os
import platform
import resource
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Final, TypeVar

HELD: Final = "held"
THROUGH: Final = "got through"
NOT_APPLICABLE: Final = "not applicable"
#: A probe that could do harm saw that nothing would stop it, and did not try.
NOT_CONTAINED: Final = "not contained"
#: The probe itself failed: it says nothing about the sandbox.
BROKEN: Final = "broken"

#: One of the words above, and what was seen.
Outcome = tuple[str, str]

#: Ids of processes that a job has in a PID namespace of its own; bombs use up more, but only their own job's.
_OWN_PIDS: Final = 64

#: Languages whose jobs are their own first process, an engine with threads; their memory is bounded by the data segment.
ENGINES: Final = ("bun", "deno", "nodejs")
#: What engines may reserve beside what jobs may use (child/engines.py).
_RESERVED_BYTES: Final = 512 * 1024 * 1024

#: First uid of jobs on the rung root (plan.py).
FIRST_JOB_UID: Final = 1_879_000_000


@dataclass(frozen=True)
class Facts:
    """What the outside tells a probe; JSON values only."""

    rung: str
    network: str
    language: str
    #: Processes outside of the sandbox.
    server_pid: int = 0
    zygote_pid: int = 0
    #: Whether root around the sandbox is root of the machine; in a container with users of its own it is not.
    root_is_root: bool = True
    #: Files outside that exist and hold secrets: the database, the bait.
    hidden: list[str] = field(default_factory=list)
    #: A text that the server and another job hold in memory, environment, files and queues. Written backwards, so that a
    #: probe that looks for it does not find its own copy.
    canary: str = ""
    #: Listeners outside, on the loopback interface and in the abstract namespace of unix sockets.
    tcp_port: int = 0
    udp_port: int = 0
    abstract: str = ""
    #: The name under which another job, running now, listens in the abstract namespace and keeps files.
    neighbor: str = ""
    #: A System V message queue outside that everybody may read.
    queue_id: int = -1
    #: Processes that are left behind are found by this name.
    mark: str = "probe"
    python: str = ""
    python_prefix: str = ""
    memory_bytes: int = 0
    processes: int = 0
    open_files: int = 0
    file_bytes: int = 0
    tmp_bytes: int = 0
    #: Whether control groups limit all processes of a job together.
    counts_memory: bool = False
    counts_processes: bool = False
    #: What the first part of the probe gave, run by an earlier job.
    earlier: Any = None


@dataclass(frozen=True)
class Terms:
    """How a probe is run and judged."""

    #: Languages it makes sense in; empty = all.
    languages: tuple[str, ...] = ()
    #: Network policy it makes sense under; empty = both.
    network: str = ""
    #: ``report``: the job says how it went. ``cut``: a sandbox that holds ends the job. ``any``: both are good.
    ending: str = "report"
    #: Name of the function of the same module that an earlier job runs.
    first: str = ""
    #: Whether another job's process and the fork server could be ended by it, or processes be left.
    destructive: bool = False


_Function = TypeVar("_Function", bound=Callable[..., Any])


def probe(**terms: Any) -> Callable[[_Function], _Function]:
    """Makes a function a probe; its docstring says what it tries."""

    def mark(function: _Function) -> _Function:
        function.terms = Terms(**terms)  # type: ignore[attr-defined]
        return function

    return mark


# --- outcomes ---------------------------------------------------------------------------------------------------------


def held(evidence: str) -> Outcome:
    """The sandbox stopped it."""
    return HELD, evidence


def through(evidence: str) -> Outcome:
    """The sandbox did not stop it."""
    return THROUGH, evidence


def not_applicable(evidence: str) -> Outcome:
    """It makes no sense here."""
    return NOT_APPLICABLE, evidence


def judged(found: Iterable[str], evidence: str) -> Outcome:
    """Got through if anything was found."""
    listed = list(found)
    return through(", ".join(listed[:8])) if listed else held(evidence)


#: How a kernel refuses. Anything else (EINVAL, EFAULT, EBADF…) would be a fault of the probe.
REFUSALS: Final = frozenset(
    {
        errno.EPERM,
        errno.EACCES,
        errno.ENOENT,
        errno.EROFS,
        errno.ENOSYS,
        errno.ESRCH,
        errno.ENXIO,
        errno.ENODEV,
        errno.EAFNOSUPPORT,
        errno.EPROTONOSUPPORT,
        errno.ESOCKTNOSUPPORT,
        errno.ECONNREFUSED,
        errno.ENETUNREACH,
    }
)


def tried(steps: Mapping[str, Callable[[], object]], *, also: Iterable[int] = ()) -> Outcome:
    """Does every step: got through by the first that raises nothing, held if all are refused.

    ``also`` are further errors by which this is refused.
    """
    refusals = REFUSALS | set(also)
    seen: dict[str, list[str]] = {}
    for name, step in steps.items():
        try:
            step()
        except OSError as error:
            if error.errno not in refusals:
                return BROKEN, f"{name}: {error}"
            seen.setdefault(errno.errorcode[error.errno or 0], []).append(name)
        else:
            return through(name)
    return held("; ".join(f"{code}: {', '.join(names[:6])}" for code, names in seen.items()))


def by_rights(steps: Mapping[str, Callable[[], object]]) -> Outcome:
    """As :func:`tried`, of calls that fail for other reasons where rights do not stop them, and so change nothing.

    Only what says "you may not", "there is no such process" or "there is no such call" is a refusal.
    """

    def attempt(step: Callable[[], object]) -> None:
        try:
            step()
        except OSError as error:
            if error.errno in (errno.EPERM, errno.EACCES, errno.ESRCH, errno.ENOSYS):
                raise

    return tried({name: partial(attempt, step) for name, step in steps.items()})


# --- system calls -----------------------------------------------------------------------------------------------------

libc: Final = ctypes.CDLL(None, use_errno=True)
MACHINE: Final = platform.machine()

#: (x86_64, aarch64); from the kernel's tables, on purpose not shared with the filter they try.
_NUMBERS: Final = {
    "add_key": (248, 217),
    "adjtimex": (159, 171),
    "acct": (163, 89),
    "bpf": (321, 280),
    "capget": (125, 90),
    "capset": (126, 91),
    "chroot": (161, 51),
    "clock_settime": (227, 112),
    "clone": (56, 220),
    "clone3": (435, 435),
    "delete_module": (176, 106),
    "fanotify_init": (300, 262),
    "finit_module": (313, 273),
    "fsconfig": (431, 431),
    "fsmount": (432, 432),
    "fsopen": (430, 430),
    "fspick": (433, 433),
    "getpid": (39, 172),
    "init_module": (175, 105),
    "io_uring_setup": (425, 425),
    "ioperm": (173, -1),
    "iopl": (172, -1),
    "ioprio_set": (251, 30),
    "kcmp": (312, 272),
    "kexec_file_load": (320, 294),
    "kexec_load": (246, 104),
    "keyctl": (250, 219),
    "landlock_create_ruleset": (444, 444),
    "mbind": (237, 235),
    "mount_setattr": (442, 442),
    "move_mount": (429, 429),
    "mq_open": (240, 180),
    "name_to_handle_at": (303, 264),
    "open_by_handle_at": (304, 265),
    "open_tree": (428, 428),
    "open_tree_attr": (467, 467),
    "perf_event_open": (298, 241),
    "personality": (135, 92),
    "pidfd_getfd": (438, 438),
    "pidfd_open": (434, 434),
    "pivot_root": (155, 41),
    "process_vm_readv": (310, 270),
    "process_vm_writev": (311, 271),
    "ptrace": (101, 117),
    "quotactl": (179, 60),
    "reboot": (169, 142),
    "request_key": (249, 218),
    "sethostname": (170, 161),
    "setns": (308, 268),
    "settimeofday": (164, 170),
    "swapoff": (168, 225),
    "swapon": (167, 224),
    "syslog": (103, 116),
    "unshare": (272, 97),
    "userfaultfd": (323, 282),
    "vmsplice": (278, 75),
}


def number(name: str) -> int:
    """The number of a system call on this machine."""
    return _NUMBERS[name][0 if MACHINE == "x86_64" else 1]


def checked(result: int, what: str) -> int:
    """``result``, or an :class:`OSError` of errno if it is negative."""
    if result < 0:
        code = ctypes.get_errno()
        raise OSError(code, f"{what}: {os.strerror(code)}")
    return result


def syscall(name: str, *arguments: Any) -> int:
    """A raw system call. Raises :class:`OSError`."""
    ctypes.set_errno(0)
    libc.syscall.restype = ctypes.c_long
    values = [ctypes.c_long(value) if isinstance(value, int) else value for value in arguments]
    return checked(libc.syscall(ctypes.c_long(number(name)), *values), name)


def function(name: str, *arguments: Any) -> int:
    """A function of the C library that gives -1 on failure. Raises :class:`OSError`."""
    ctypes.set_errno(0)
    values = [ctypes.c_long(value) if isinstance(value, int) else value for value in arguments]
    result: int = getattr(libc, name)(*values)
    return checked(result, name)


def prctl(option: int, *values: int) -> int:
    """prctl(2). Raises :class:`OSError`."""
    return function("prctl", option, *values, *(0 for _ in range(4 - len(values))))


def in_child(work: Callable[[], int]) -> int:
    """Runs ``work`` in a forked process; its wait status as an exit code, negative for a signal."""
    pid = os.fork()
    if pid == 0:
        code = 255
        try:
            code = work() & 0xFF
        finally:
            os._exit(code)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


def apart(step: Callable[[], object]) -> None:
    """Does a step in a forked process, which it changes for good. Raises its :class:`OSError`."""

    def attempt() -> int:
        try:
            step()
        except OSError as error:
            return error.errno or 255
        return 0

    code = in_child(attempt)
    if code:
        raise OSError(abs(code), os.strerror(abs(code)))


# --- what can be seen from inside -------------------------------------------------------------------------------------


def backwards(text: str) -> str:
    """A text read from its end."""
    return text[::-1]


def holds_canary(facts: Facts, data: bytes) -> bool:
    """Whether the canary is in ``data``; never makes a copy of it that reads forwards."""
    return bool(facts.canary) and facts.canary.encode() in data[::-1]


def read(path: str, size: int = 1 << 16) -> bytes:
    """The beginning of a file. Raises :class:`OSError`."""
    with open(path, "rb") as file:  # noqa: PTH123 - pathlib costs a sandboxed process its import
        return file.read(size)


def is_without_namespaces(facts: Facts) -> bool:
    """Whether jobs are kept off by Landlock alone: ids and names of others can then be probed, which is documented."""
    return facts.rung == "landlock"


def scratch() -> str:
    """The directory of the job's own."""
    return os.environ.get("TMPDIR", "/tmp")


def process_ids() -> list[int]:
    """The processes that /proc shows; none where there is none."""
    with contextlib.suppress(OSError):
        return [int(name) for name in os.listdir("/proc") if name.isdigit()]  # noqa: PTH208
    return []


def outsiders(facts: Facts) -> list[int]:
    """Processes outside, by their ids there, unless these are so low, as in a container, that the job may have them, too."""
    return [pid for pid in (facts.server_pid, facts.zygote_pid) if pid > _OWN_PIDS]


def own_family() -> set[int]:
    """This process, its ancestors up to the first of its namespace, and what belongs to them."""
    family = {os.getpid(), 1}
    pid = os.getppid()
    while pid > 1:
        family.add(pid)
        try:
            pid = int(read(f"/proc/{pid}/stat").rpartition(b")")[2].split()[1])
        except OSError:
            break
    for pid in list(family):
        with contextlib.suppress(OSError):
            family.update(int(thread) for thread in os.listdir(f"/proc/{pid}/task"))  # noqa: PTH208
    return family


def strangers(facts: Facts, *, up_to: int = 5000) -> list[int]:
    """Processes that exist and are not of this job. Each job is a PID namespace whose first ids are its own.

    Without namespaces: those that this job may signal.
    """
    family = own_family()
    found = []
    bare = is_without_namespaces(facts)
    for pid in [*range(1, up_to), *outsiders(facts)]:
        # Without namespaces and without /proc, who is of this job is known by the session.
        if pid < 1 or pid in family or (bare and _is_of_own_session(pid)):
            continue
        try:
            os.kill(pid, 0)
        except PermissionError:
            if not bare:
                found.append(pid)
        except ProcessLookupError:
            pass
        else:
            found.append(pid)
    # Ancestors may have started threads meanwhile.
    return [pid for pid in found if pid not in own_family()]


def _is_of_own_session(pid: int) -> bool:
    try:
        return os.getsid(pid) == os.getsid(0)
    except OSError:
        return False


def _is_kept_off(pid: int) -> bool:
    """Whether this process may not signal that one, which exists."""
    try:
        os.kill(pid, 0)
    except PermissionError:
        return True
    except ProcessLookupError:
        return False
    return False


def is_apart(facts: Facts) -> bool:
    """Whether signals to all reach this job only: by a PID namespace, or because the kernel refuses those to others."""
    if is_without_namespaces(facts):
        return all(map(_is_kept_off, (facts.server_pid, facts.zygote_pid)))
    return in_own_pid_namespace()


def in_own_pid_namespace() -> bool:
    """Whether this job is a PID namespace of its own: a small one, whose first process is the runner of this job."""
    if os.getpid() == 1:
        return True
    try:
        # The runner was forked from the fork server and never ran another program; pid 1 of a container did.
        line = read("/proc/1/cmdline")
        if b"minwebhook.child.zygote" not in line and b"/javascript/run.mjs" not in line:
            return False
    except OSError:
        return False
    family = own_family()
    return os.getpid() < _OWN_PIDS and os.getppid() in family and max(process_ids(), default=0) < _OWN_PIDS


def outer_uid() -> int:
    """The uid that the kernel counts by, as far as it can be seen: the mapped one inside a user namespace."""
    uid = os.geteuid()
    try:
        for line in read("/proc/self/uid_map").splitlines():
            inside, outside, count = (int(part) for part in line.split())
            if inside <= uid < inside + count:
                return outside + uid - inside
    except OSError:
        pass
    return uid


def is_root_outside(facts: Facts) -> bool:
    """Whether the kernel takes this process for root of the machine, whatever it is called inside."""
    return outer_uid() == 0 and facts.root_is_root


def uncontained(facts: Facts, **limits: int) -> Outcome | None:
    """None if this job is contained enough to misbehave; otherwise the outcome that says what is missing.

    ``limits`` are the most that resource limits (``AS=…``, as in ``resource.RLIMIT_AS``) may allow.
    """
    missing = []
    if not is_apart(facts) or strangers(facts):
        missing.append("processes of others are in reach")
    if is_root_outside(facts):
        missing.append("the kernel sees root: limits do not count")
    for name, most in limits.items():
        allowed = resource.getrlimit(getattr(resource, f"RLIMIT_{name}"))[1]
        if allowed == resource.RLIM_INFINITY or allowed > most:
            missing.append(f"{name} is {'unlimited' if allowed == resource.RLIM_INFINITY else allowed}")
    return (NOT_CONTAINED, "; ".join(missing)) if missing else None


def memory_limit(facts: Facts) -> tuple[str, int]:
    """The limit on the memory of a process of this job, as in ``resource.RLIMIT_AS``, and its value at most."""
    if facts.language in (*ENGINES, "go"):
        return "DATA", facts.memory_bytes + _RESERVED_BYTES
    return "AS", facts.memory_bytes


def tmp_is_bounded(facts: Facts) -> bool:
    """Whether /tmp is a file system of its own, no larger than it may be."""
    if os.stat("/tmp").st_dev == os.stat("/usr").st_dev:  # noqa: PTH116
        return False
    room = os.statvfs("/tmp")
    return 0 < room.f_blocks * room.f_frsize <= facts.tmp_bytes


def opened(path: str, flags: int) -> None:
    """Opens a file and closes it again. Raises :class:`OSError`."""
    os.close(os.open(path, flags | os.O_NONBLOCK | os.O_NOCTTY, 0o600))


def rename_process(name: str) -> None:
    """Gives this process a name by which the outside can find it."""
    libc.prctl(15, name.encode(), 0, 0, 0)
