"""Probes: taking more than a job's share. Each of them first makes sure that it would be stopped."""

from __future__ import annotations

import contextlib
import ctypes
import errno
import mmap
import os
import resource
import select
import signal
import threading
import time
from functools import partial

from minwebhook.sandbox.probes.inside import (
    NOT_CONTAINED,
    Facts,
    Outcome,
    function,
    held,
    is_without_namespaces,
    memory_limit,
    not_applicable,
    probe,
    scratch,
    through,
    tmp_is_bounded,
    tried,
    uncontained,
)

_MIB = 1 << 20
#: Where all jobs share one uid, so many times the limit of one is what they have together (child/confine.py).
_SHARED = 4


def _room_for_processes(facts: Facts) -> tuple[Outcome | None, int]:
    """Why no bomb may be tried, and how many processes there may be at most."""
    if facts.counts_processes:  # no more than these are tried
        return uncontained(facts), facts.processes
    return uncontained(facts, NPROC=_SHARED * facts.processes), resource.getrlimit(resource.RLIMIT_NPROC)[1]


@probe(destructive=True)
def fork_bomb(facts: Facts) -> Outcome:
    """starts processes without end"""
    missing, allowed = _room_for_processes(facts)
    if missing:
        return missing
    started: list[int] = []
    try:
        while len(started) <= allowed + 8:
            pid = os.fork()
            if pid == 0:
                time.sleep(30)
                os._exit(0)
            started.append(pid)
    except OSError as error:
        return held(f"{errno.errorcode[error.errno or 0]} after {len(started)}")
    finally:
        for pid in started:
            os.kill(pid, signal.SIGKILL)
        for pid in started:
            os.waitpid(pid, 0)
    return through(f"{len(started)} processes")


@probe(destructive=True)
def thread_bomb(facts: Facts) -> Outcome:
    """starts threads without end"""
    missing, allowed = _room_for_processes(facts)
    if missing:
        return missing
    threading.stack_size(64 * 1024)
    stop = threading.Event()
    started: list[threading.Thread] = []
    try:
        while len(started) <= allowed + 8:
            thread = threading.Thread(target=stop.wait, daemon=True)
            thread.start()
            started.append(thread)
    except RuntimeError:
        return held(f"no more after {len(started)}")
    finally:
        stop.set()
        for thread in started:
            thread.join(5)
    return through(f"{len(started)} threads")


@probe(destructive=True)
def memory_bomb(facts: Facts) -> Outcome:
    """takes memory without end"""
    name, most = memory_limit(facts)
    missing = uncontained(facts, **{name: most})
    if missing:
        return missing
    allowed = resource.getrlimit(getattr(resource, f"RLIMIT_{name}"))[1]
    kept: list[mmap.mmap] = []
    try:
        while len(kept) * 16 * _MIB <= allowed:
            # Not touched: what is limited is not its use.
            kept.append(mmap.mmap(-1, 16 * _MIB, mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS))
    except (OSError, MemoryError):
        return held(f"no more after {len(kept) * 16} MiB")
    finally:
        for piece in kept:
            piece.close()
    return through(f"{len(kept) * 16} MiB")


def _more_than_all_may_have(facts: Facts) -> tuple[Outcome | None, int]:
    """Why this is not tried, and how much memory is more than a whole job may have."""
    wanted = facts.memory_bytes + facts.tmp_bytes + 64 * _MIB
    if 2 * wanted > os.sysconf("SC_AVPHYS_PAGES") * os.sysconf("SC_PAGE_SIZE"):
        return not_applicable("this machine has too little free memory to try it"), wanted
    return None, wanted


def _has_ended(started: list[int]) -> bool:
    """Whether one of these children has, which is then no longer among them."""
    ended = os.waitpid(-1, os.WNOHANG)[0]
    if ended:
        started.remove(ended)
    return bool(ended)


@probe(ending="cut", destructive=True)
def memory_of_all(facts: Facts) -> Outcome:
    """takes the memory of several processes, each within its own limit"""
    if not facts.counts_memory:
        return not_applicable("there is no control group: the memory of each process is limited, but not that of all")
    missing, wanted = _more_than_all_may_have(facts)
    if missing:
        return missing
    each = max(facts.memory_bytes // 4, wanted // 24)
    report, told = os.pipe()
    started: list[int] = []
    ready = 0
    try:
        for _ in range(wanted // each + 1):
            pid = os.fork()
            if pid == 0:
                with contextlib.suppress(MemoryError):
                    kept = b"x" * each
                    os.write(told, b"!"[: len(kept)])
                    time.sleep(60)
                os._exit(0)
            started.append(pid)
            is_told = False
            while not is_told:
                is_told = bool(select.select([report], [], [], 0.05)[0])
                # This one, or the kernel chose another, and this one went on with what that had.
                if _has_ended(started):
                    return held(f"one was ended when there were {ready * each // _MIB} MiB")
            ready += len(os.read(report, 1))
        # Who was chosen last may still be on its way out: all must be there with what they took.
        deadline = time.monotonic() + 1
        while time.monotonic() < deadline:
            if _has_ended(started):
                return held(f"one was ended when there were {ready * each // _MIB} MiB")
            time.sleep(0.01)
    finally:
        for pid in started:
            os.kill(pid, signal.SIGKILL)
        for pid in started:
            os.waitpid(pid, 0)
    return through(f"{ready * each // _MIB} MiB")


@probe(ending="cut", destructive=True)
def files_in_memory(facts: Facts) -> Outcome:
    """keeps memory in files that are in no process and no directory (memfd_create)"""
    try:
        kept = [os.memfd_create(facts.mark)]
    except OSError as error:
        return held(f"there are none: {errno.errorcode[error.errno or 0]}")
    if not facts.counts_memory:
        return through("nothing limits them all together")
    missing, wanted = _more_than_all_may_have(facts)
    if missing:
        return missing
    piece, written = bytes(_MIB), 0
    while written < wanted:
        if written and written % (facts.file_bytes or wanted) == 0:
            kept.append(os.memfd_create(facts.mark))
        written += os.write(kept[-1], piece)
    return through(f"{written // _MIB} MiB")


@probe()
def locked_memory(facts: Facts) -> Outcome:
    """locks memory, which then cannot be swapped out"""
    size = 4 * _MIB
    piece = ctypes.create_string_buffer(size)
    return tried({"mlock": partial(function, "mlock", piece, size)}, also=(errno.ENOMEM, errno.EAGAIN))


@probe(destructive=True)
def disk_bomb(facts: Facts) -> Outcome:
    """fills /tmp without end"""
    if is_without_namespaces(facts):
        return not_applicable("the space of all files together is not limited on this rung")
    if not tmp_is_bounded(facts):
        return NOT_CONTAINED, "/tmp is not a bounded file system of the job's own"
    piece, written = bytes(_MIB), 0
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    names = [f"/tmp/bomb-{facts.mark}-{index}" for index in range(64)]
    try:
        for name in names:
            with contextlib.suppress(FileExistsError), open(name, "wb", buffering=0) as file:  # noqa: PTH123
                while file.tell() < facts.file_bytes - _MIB and written <= facts.tmp_bytes:
                    written += file.write(piece)
    except OSError as error:
        if error.errno != errno.ENOSPC:
            raise
        return held(f"ENOSPC after {written >> 20} MiB")
    finally:
        for name in names:
            with contextlib.suppress(OSError):
                os.unlink(name)  # noqa: PTH108
    return through(f"{written >> 20} MiB")


@probe(destructive=True)
def inode_bomb(facts: Facts) -> Outcome:
    """makes files without end"""
    if is_without_namespaces(facts):
        return not_applicable("the space of all files together is not limited on this rung")
    if not tmp_is_bounded(facts):
        return NOT_CONTAINED, "/tmp is not a bounded file system of the job's own"
    made = 0
    try:
        for index in range(40_000):
            os.mkdir(f"/tmp/inode-{facts.mark}-{index}")  # noqa: PTH102
            made += 1
    except OSError as error:
        return held(f"{errno.errorcode[error.errno or 0]} after {made}")
    finally:
        for index in range(made):
            os.rmdir(f"/tmp/inode-{facts.mark}-{index}")  # noqa: PTH106
    return through(f"{made} folders")


@probe()
def file_bomb(facts: Facts) -> Outcome:
    """writes one huge file"""
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    fd = os.open(f"{scratch()}/huge-{facts.mark}", os.O_CREAT | os.O_RDWR)
    try:
        # A hole: it takes no space.
        return tried({"truncate to 1 TiB": lambda: os.ftruncate(fd, 1 << 40)}, also=(errno.EFBIG,))
    finally:
        os.close(fd)
        os.unlink(f"{scratch()}/huge-{facts.mark}")  # noqa: PTH108


@probe(destructive=True)
def descriptor_bomb(facts: Facts) -> Outcome:
    """opens files without end"""
    allowed = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    if allowed > facts.open_files:
        return through(f"a process may have {allowed} open files")
    kept: list[int] = []
    try:
        while len(kept) <= allowed:
            kept.append(os.open("/dev/null", os.O_RDONLY))
    except OSError as error:
        return held(f"{errno.errorcode[error.errno or 0]} after {len(kept)}")
    finally:
        for fd in kept:
            os.close(fd)
    return through(f"{len(kept)} open files")


@probe(ending="cut", destructive=True)
def log_flood(facts: Facts) -> Outcome:
    """writes log without end"""
    piece = b"flood " * 10_000
    for _ in range(2_000):  # 120 MB
        os.write(1, piece)
    return through("120 MB of log were taken")


@probe(ending="cut", destructive=True, languages=("python3",))
def huge_result(facts: Facts) -> Outcome:
    """gives a result beyond every limit"""
    return through("x" * (80 * _MIB))


@probe()
def core_dumps(facts: Facts) -> Outcome:
    """fills the disk with the memory of crashed processes"""
    limit = resource.getrlimit(resource.RLIMIT_CORE)
    return held("no core dumps") if limit == (0, 0) else through(f"core dumps of {limit[1]} bytes")
