"""Probes: other processes, and processes that outlive their job."""

from __future__ import annotations

import ctypes
import errno
import os
import signal
import time
from collections.abc import Callable
from functools import partial

from minwebhook.sandbox.probes.inside import (
    ENGINES,
    Facts,
    Outcome,
    by_rights,
    function,
    held,
    is_without_namespaces,
    judged,
    memory_limit,
    opened,
    outsiders,
    probe,
    process_ids,
    rename_process,
    strangers,
    syscall,
    through,
    tried,
    uncontained,
)

_PTRACE_TRACEME, _PTRACE_ATTACH, _PTRACE_SEIZE = 0, 16, 0x4206
_CLONE_PARENT = 0x00008000


def _targets(facts: Facts) -> list[int]:
    """Processes that belong to others, and the runner of this job."""
    pids = [*outsiders(facts), os.getppid(), *strangers(facts)[:4]]
    return [pid for pid in dict.fromkeys(pids) if pid > 0 and pid != os.getpid()]


@probe()
def see_others(facts: Facts) -> Outcome:
    """sees processes of others, by signal 0 and in /proc"""
    found = [str(pid) for pid in strangers(facts)]
    found += [f"/proc/{pid}" for pid in process_ids() if pid > 500]
    return judged(found, "only processes of this job exist")


@probe(languages=("python3",))
def signal_by_number(facts: Facts) -> Outcome:
    """sends a harmless signal to the server, the fork server and every process it can name"""
    steps: dict[str, Callable[[], object]] = {
        f"signal to {pid}": partial(os.kill, pid, signal.SIGCONT) for pid in _targets(facts)
    }
    for group in outsiders(facts):
        steps[f"signal to group {group}"] = partial(os.killpg, group, signal.SIGCONT)
    return tried(steps) if steps else held("there is nothing to name")


@probe(ending="any", destructive=True)
def kill_all(facts: Facts) -> Outcome:
    """kills every process it may (kill -1)"""
    missing = uncontained(facts)
    if missing:
        return missing
    pid = os.fork()
    if pid == 0:
        time.sleep(60)
        os._exit(0)
    os.kill(-1, signal.SIGKILL)
    os.waitpid(pid, 0)
    return held("only its own processes were killed")


@probe()
def trace(facts: Facts) -> Outcome:
    """traces other processes, and itself (ptrace)"""
    steps: dict[str, Callable[[], object]] = {}
    for pid in _targets(facts):
        steps[f"seize {pid}"] = partial(syscall, "ptrace", _PTRACE_SEIZE, pid, 0, 0)
    steps["traceme"] = lambda: syscall("ptrace", _PTRACE_TRACEME, 0, 0, 0)
    return tried(steps)


@probe()
def memory_of_others(facts: Facts) -> Outcome:
    """reads and writes the memory of other processes (process_vm_readv, /proc/PID/mem)"""
    buffer = ctypes.create_string_buffer(64)
    here = (ctypes.c_void_p * 2)(ctypes.addressof(buffer), 64)
    # Where nothing is mapped: who may gets EFAULT, and has changed nothing.
    there = (ctypes.c_void_p * 2)(8, 64)
    steps: dict[str, Callable[[], object]] = {}
    for pid in [os.getpid(), *_targets(facts)]:
        for call in ("process_vm_readv", "process_vm_writev"):
            steps[f"{call} {pid}"] = partial(syscall, call, pid, here, 1, there, 1, 0)
    for pid in (*outsiders(facts), *strangers(facts)[:4]):
        if pid != os.getpid():
            steps[f"/proc/{pid}/mem"] = partial(opened, f"/proc/{pid}/mem", os.O_RDONLY)
    outcome = tried(steps, also=(errno.EFAULT,))
    return through(outcome[1]) if "EFAULT" in outcome[1] else outcome


@probe()
def descriptors_of_others(facts: Facts) -> Outcome:
    """takes open files out of other processes (pidfd_getfd)"""

    def take(pid: int) -> None:
        pidfd = os.pidfd_open(pid)
        try:
            os.close(syscall("pidfd_getfd", pidfd, 3, 0))
        finally:
            os.close(pidfd)

    return by_rights({f"from {pid}": partial(take, pid) for pid in [*_targets(facts), os.getpid()]})


@probe(destructive=True)
def survivors(facts: Facts) -> Outcome:
    """leaves processes behind: in sessions of their own, deaf to signals, by vfork and as siblings"""
    read_end, write_end = os.pipe()

    def stay() -> None:
        rename_process(facts.mark)
        os.setsid()
        for number in range(1, 32):
            if number not in (signal.SIGKILL, signal.SIGSTOP):
                signal.signal(number, signal.SIG_IGN)
        function("prctl", 1, 0, 0, 0, 0)  # no signal when the parent ends
        os.write(write_end, b"x")
        os.closerange(0, 64)
        # A sandbox that does not hold costs the machine a sleeping process for this long.
        time.sleep(20)
        os._exit(0)

    if os.fork() == 0:
        if os.fork() == 0:
            stay()
        os._exit(0)
    flags = _CLONE_PARENT | signal.SIGCHLD
    try:
        sibling = syscall("clone", flags, 0, 0, 0, 0)
    except OSError as error:
        if error.errno not in (errno.EINVAL, errno.EPERM):  # the first process of a namespace has no siblings
            raise
    else:
        if sibling == 0:
            stay()
        os.read(read_end, 1)
    os.read(read_end, 1)
    return held("they end with the job")  # the outside looks for them


@probe()
def first_process(facts: Facts) -> Outcome:
    """disturbs the first process of its namespace, and undoes the tie to its parent"""
    function("prctl", 1, 0, 0, 0, 0)
    if is_without_namespaces(facts):
        return tried({"becomes a subreaper": lambda: function("prctl", 36, 1, 0, 0, 0)})
    function("prctl", 36, 1, 0, 0, 0)  # a subreaper
    if os.getpid() == 1 or facts.language in ENGINES:
        return held("it is the first process itself; outside, only its end is seen")
    steps: dict[str, Callable[[], object]] = {"descriptors of 1": lambda: os.listdir("/proc/1/fd")}  # noqa: PTH208
    if facts.rung == "userns":
        # The runner of this job is of the same user there; it holds the job's own socket, and nothing of others.
        return held("the first process is the runner of this very job")
    return tried(steps)


def _same_priority(pid: int) -> None:
    os.setpriority(os.PRIO_PROCESS, pid, os.getpriority(os.PRIO_PROCESS, pid))


@probe()
def better_scheduling(facts: Facts) -> Outcome:
    """gives itself a better priority, real-time scheduling or idle disks"""
    parameter = ctypes.c_int(50)
    steps: dict[str, Callable[[], object]] = {
        "nice": lambda: os.setpriority(os.PRIO_PROCESS, 0, -5),
        "SCHED_FIFO": lambda: function("sched_setscheduler", 0, 1, ctypes.byref(parameter)),
        "SCHED_RR": lambda: function("sched_setscheduler", 0, 2, ctypes.byref(parameter)),
        "real-time disk": lambda: syscall("ioprio_set", 1, 0, 1 << 13),
    }
    for pid in outsiders(facts):
        if pid != os.getpid():
            steps[f"nice of {pid}"] = partial(_same_priority, pid)
    return tried(steps)


@probe()
def raise_limits(facts: Facts) -> Outcome:
    """raises its resource limits, and changes those of others"""
    import resource  # noqa: PLC0415 - as everything here, it is imported inside

    raised = []
    for name in (memory_limit(facts)[0], "NPROC", "NOFILE", "FSIZE", "CORE", "MEMLOCK"):
        limit = getattr(resource, f"RLIMIT_{name}")
        hard = resource.getrlimit(limit)[1]
        if hard == resource.RLIM_INFINITY:
            raised.append(f"{name} is unlimited")
            continue
        try:
            resource.setrlimit(limit, (hard, hard + 1))
            raised.append(f"{name} was raised")
        except (ValueError, OSError):
            pass
    for pid in outsiders(facts):
        if pid != os.getpid():
            try:
                resource.prlimit(pid, resource.RLIMIT_NOFILE)
                raised.append(f"limits of {pid} were read")
            except (ValueError, OSError):
                pass
    return through(", ".join(raised)) if raised else held("limits can only be lowered")
