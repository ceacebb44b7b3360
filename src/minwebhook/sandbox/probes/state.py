"""Probes: memory, secrets and state of the server and of other jobs."""

from __future__ import annotations

import contextlib
import ctypes
import errno
import mmap
import os
import stat
import struct
from collections.abc import Callable, Iterator
from typing import Any

from minwebhook.sandbox.probes.inside import (
    BROKEN,
    HELD,
    Facts,
    Outcome,
    function,
    held,
    holds_canary,
    judged,
    libc,
    not_applicable,
    own_family,
    probe,
    process_ids,
    read,
    strangers,
    syscall,
    through,
    tried,
)

_PAGE = mmap.PAGESIZE
#: How far past a hole in the address space the search goes on.
_GAP_BYTES = 4 << 20
_SEARCH_BYTES = 256 << 20
_USUAL_DESCRIPTORS = {0, 1, 2, 3}
_IPC_RMID, _IPC_STAT, _IPC_NOWAIT, _MSG_NOERROR, _MSG_COPY = 0, 2, 0o4000, 0o10000, 0o40000


@probe()
def environment(facts: Facts) -> Outcome:
    """finds variables of the server in its environment"""
    found = [name for name, value in os.environb.items() if holds_canary(facts, value)]
    found += [name for name in os.environb if name.startswith((b"MINWEBHOOK_", b"AWS_", b"SSH_", b"GITHUB_"))]
    return judged([name.decode() for name in found], f"{len(os.environb)} variables, all of the job")


@probe()
def inherited_memory(facts: Facts) -> Outcome:
    """searches its memory for secrets of the server and of other jobs"""
    searched = 0
    for chunk in _own_memory():
        searched += len(chunk)
        if holds_canary(facts, chunk):
            return through("a secret of the server or of another job is in its memory")
    family = own_family()
    for pid in process_ids():
        if pid not in family and os.access(f"/proc/{pid}/mem", os.R_OK) and strangers(facts):
            return through(f"the memory of process {pid} of others can be read")
        with contextlib.suppress(OSError):
            for chunk in _memory_of(pid):
                searched += len(chunk)
                if holds_canary(facts, chunk):
                    return through(f"a secret of the server or of another job is in the memory of process {pid}")
    return held(f"nothing in {searched >> 20} MiB")


def _own_memory() -> Iterator[bytes]:
    """What can be read around some addresses of this process; pages are asked for through a pipe, which never faults."""
    read_end, write_end = os.pipe()
    anchors = [id(object()), id(Facts), ctypes.cast(libc.getpid, ctypes.c_void_p).value or 0]
    variables = ctypes.c_void_p.in_dll(libc, "environ").value
    anchors.append(variables or 0)
    anchors.append(ctypes.addressof(ctypes.create_string_buffer(1 << 18)))
    seen: set[int] = set()
    budget = _SEARCH_BYTES
    try:
        for anchor in anchors:
            for step in (_PAGE, -_PAGE):
                page, hole = anchor // _PAGE * _PAGE, 0
                while 0 < page < 1 << 47 and hole < _GAP_BYTES and budget > 0:
                    if page in seen:
                        break
                    count = libc.write(write_end, ctypes.c_void_p(page), ctypes.c_size_t(_PAGE))
                    if count > 0:
                        seen.add(page)
                        hole, budget = 0, budget - count
                        yield os.read(read_end, count)
                    else:
                        hole += _PAGE
                    page += step
    finally:
        os.close(read_end)
        os.close(write_end)


def _memory_of(pid: int) -> Iterator[bytes]:
    """The memory of a process by /proc. Raises :class:`OSError`."""
    maps = read(f"/proc/{pid}/maps", 1 << 20).decode(errors="replace")
    budget = _SEARCH_BYTES
    with open(f"/proc/{pid}/mem", "rb", buffering=0) as memory:  # noqa: PTH123
        for line in maps.splitlines():
            span, rights = line.split()[:2]
            start, end = (int(part, 16) for part in span.split("-"))
            if "r" not in rights or "[v" in line or budget < 0:
                continue
            budget -= end - start
            with contextlib.suppress(OSError, ValueError):
                memory.seek(start)
                yield memory.read(min(end - start, 32 << 20))


@probe()
def leaked_descriptors(facts: Facts) -> Outcome:
    """has open files that are not its own: folders, sockets, namespaces, pipes of others"""
    found = []
    for fd in range(1024):
        try:
            mode = os.fstat(fd).st_mode
        except OSError:
            continue
        kind = stat.S_IFMT(mode)
        if fd not in _USUAL_DESCRIPTORS or (fd == 3 and kind != stat.S_IFSOCK):
            found.append(f"{fd} ({oct(kind)})")
        elif fd == 0 and kind not in (stat.S_IFCHR, stat.S_IFIFO, stat.S_IFREG):
            found.append("0")
    if facts.language != "python3":
        # What the shell and the runner of this job hold, where it can be seen.
        for pid in process_ids():
            with contextlib.suppress(OSError):
                for name in os.listdir(f"/proc/{pid}/fd"):  # noqa: PTH208
                    target = os.readlink(f"/proc/{pid}/fd/{name}")  # noqa: PTH115
                    if target.startswith(("/", "mnt:", "pid:", "anon_inode:[pidfd]")) and not target.startswith(
                        ("/dev/null", "/tmp", "/proc", "pipe:")
                    ):
                        found.append(f"{pid}/{name} -> {target}")
    return judged(found, "only log, input and the job's socket")


def leave_shared_memory(facts: Facts) -> str:
    """A shared memory object by its name, as far as that can be made."""
    try:
        fd = function("shm_open", f"/{facts.mark}".encode(), os.O_CREAT | os.O_RDWR, 0o666)
    except PermissionError:
        return "nothing: there is none"
    os.write(fd, b"left")
    return "left"


@probe(first="leave_shared_memory")
def shared_memory(facts: Facts) -> Outcome:
    """opens shared memory (POSIX) of another job"""
    if not facts.earlier:
        return BROKEN, "the earlier job could leave nothing"
    found: list[str] = []
    with contextlib.suppress(PermissionError):
        found += [name for name in os.listdir("/dev/shm") if facts.mark in name or facts.neighbor in name]  # noqa: PTH208
    with contextlib.suppress(OSError):
        function("shm_unlink", f"/{facts.mark}".encode())
    if found:
        return through(", ".join(found))
    return tried({"shm_open": lambda: function("shm_open", f"/{facts.mark}".encode(), os.O_RDWR, 0)})


def _key(facts: Facts) -> int:
    """A key that nobody else has."""
    return int.from_bytes(facts.mark.encode()[-4:], "big") & 0x7FFFFFFF


def leave_ipc(facts: Facts) -> list[str]:
    """Objects of System V and POSIX IPC, as far as they can be made."""
    made = []
    for name, arguments in (("shmget", (4096,)), ("semget", (1,)), ("msgget", ())):
        with contextlib.suppress(OSError):
            function(name, _key(facts), *arguments, 0o1666)
            made.append(name)
    with contextlib.suppress(OSError):
        syscall("mq_open", facts.mark.encode(), os.O_CREAT | os.O_RDWR, 0o666, 0)
        made.append("mq_open")
    return made


@probe(first="leave_ipc")
def ipc_objects(facts: Facts) -> Outcome:
    """makes objects of System V and POSIX IPC that a later job finds"""
    found = []
    refusals = {}
    ways: tuple[tuple[str, tuple[int, ...], Callable[[int], object]], ...] = (
        ("shmget", (4096, 0), lambda number: libc.shmctl(number, _IPC_RMID, None)),
        ("semget", (1, 0), lambda number: libc.semctl(number, 0, _IPC_RMID)),
        ("msgget", (0,), lambda number: libc.msgctl(number, _IPC_RMID, None)),
    )
    for name, look, remove in ways:
        try:
            remove(function(name, _key(facts), *look))
        except OSError as error:
            refusals[name] = errno.errorcode[error.errno or 0]
        else:
            found.append(name)
    try:
        os.close(syscall("mq_open", facts.mark.encode(), os.O_RDWR, 0, 0))
    except OSError as error:
        refusals["mq_open"] = errno.errorcode[error.errno or 0]
    else:
        libc.mq_unlink(f"/{facts.mark}".encode())
        found.append("mq_open")
    return judged(found, ", ".join(f"{name}: {code}" for name, code in refusals.items()))


@probe()
def ipc_of_the_machine(facts: Facts) -> Outcome:
    """reads a System V message queue of the machine by its number"""
    if facts.queue_id < 0:
        return not_applicable("this machine has no System V message queues")
    described = ctypes.create_string_buffer(256)
    message = ctypes.create_string_buffer(264)

    def receive() -> None:
        # A copy of the first message, which stays in the queue.
        flags = _IPC_NOWAIT | _MSG_NOERROR | _MSG_COPY
        function("msgrcv", facts.queue_id, message, 256, 0, flags)

    outcome = tried(
        {
            "look at it": lambda: function("msgctl", facts.queue_id, _IPC_STAT, described),
            "read it": receive,
        },
        also=(errno.EINVAL, errno.EIDRM),  # there is no such queue
    )
    if outcome[0] != HELD:
        return outcome
    with contextlib.suppress(OSError):
        if len(read("/proc/sysvipc/msg").splitlines()) > 1:
            return through("/proc/sysvipc/msg lists queues")
    return outcome


def draw(facts: Facts) -> list[Any]:
    """Random values of everything that is random in this process."""
    import random  # noqa: PLC0415 - imported as a script would
    import tempfile  # noqa: PLC0415
    import uuid  # noqa: PLC0415

    with contextlib.suppress(ImportError):
        import ssl  # noqa: PLC0415

        return [
            random.random(),  # noqa: S311 - what is tried
            os.urandom(8).hex(),
            str(uuid.uuid4()),
            str(uuid.uuid1()),
            os.path.basename(tempfile.mktemp()),  # noqa: S306, PTH119
            ssl.RAND_bytes(8).hex(),
        ]
    return [random.random(), os.urandom(8).hex(), str(uuid.uuid4())]  # noqa: S311


@probe(first="draw")
def random_numbers(facts: Facts) -> Outcome:
    """draws the same random numbers as another job"""
    drawn = draw(facts)
    same = [str(value) for value in drawn if value in facts.earlier]
    return judged(same, f"{len(drawn)} sources differ between two jobs")


@probe()
def kernel_addresses(facts: Facts) -> Outcome:
    """learns addresses of the kernel, the first step of an attack on it"""
    found = []
    with contextlib.suppress(OSError):
        line = read("/proc/kallsyms", 4096).split(b"\n", 1)[0]
        if line and int(line.split()[0], 16):
            found.append("/proc/kallsyms")
    with contextlib.suppress(OSError):
        for entry in struct.iter_unpack("=Q", read("/proc/self/pagemap", 8 * 64)[: 8 * 64]):
            if entry[0] & ((1 << 55) - 1):
                found.append("/proc/self/pagemap")
                break
    return judged(found, "none are shown")
