"""Importing packages once, in the fork server, for all children that it will fork; or else in each child before its job.

Modules of packages are code of others. What is imported here must not do harm to what is forked later, so each module is
first imported in a trial process. One that starts threads or leaves files open, which a fork does not take along, is imported
by each child before it says that it is ready. One that does not come to an end is left to the script.

After a fork no two processes may draw the same random numbers: :func:`diverge`.
"""

from __future__ import annotations

import contextlib
import importlib
import os
import select
import signal
import sys
import time
from collections.abc import Iterator
from typing import Any, Final

#: For all trials together: the server waits for the fork server.
_TRIALS_S: Final = 10.0
#: For the imports of one child.
_IMPORTS_S: Final = 30.0
#: Libraries of numbers start a thread for each processor when they are loaded, unless they are told not to.
_ONE_THREAD: Final = dict.fromkeys(
    ("OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS", "MKL_NUM_THREADS", "NUMEXPR_NUM_THREADS", "BLIS_NUM_THREADS"), "1"
)
#: What a module imports only when it is first used, and scripts use much.
_LAZY: Final = {"numpy": ("numpy.random",)}


def import_forkable(modules: list[str], proc: int) -> list[str]:
    """Imports what can be imported before forks, and gives what children may import. ``proc`` is a descriptor of a /proc."""
    deadline = time.monotonic() + _TRIALS_S
    wanted, rest = list(modules), []
    while wanted and (verdict := _try(wanted, proc, deadline)) is not None:
        bad, has_ended = verdict
        module = wanted.pop(bad)
        if has_ended:
            rest.append(module)
    import_here(wanted)
    return rest


def import_here(modules: list[str]) -> None:
    """Imports modules, with nothing to be seen of it. What fails will fail again in the script, which then says so."""
    with _quiet(), contextlib.suppress(TimeoutError), _at_most(_IMPORTS_S):
        for module in modules:
            _import(module)


def diverge() -> None:
    """In a child, after the fork: random numbers of its own. (Those of the module ``random`` are new by themselves.)"""
    numbers: Any = sys.modules.get("numpy.random")
    if numbers is not None:
        numbers.seed()
    tls: Any = sys.modules.get("_ssl")
    if tls is not None:
        tls.RAND_add(os.urandom(32), 32.0)


def _import(module: str) -> None:
    try:
        for name in (module, *_LAZY.get(module, ())):
            importlib.import_module(name)
    except TimeoutError:
        raise
    except BaseException:
        return


def _try(modules: list[str], proc: int, deadline: float) -> tuple[int, bool] | None:
    """The index of the first module that must not be imported before a fork, and whether its import came to an end; None if
    there is none."""
    read_end, write_end = os.pipe2(os.O_CLOEXEC)
    pid = os.fork()
    if pid == 0:
        try:
            _prove(modules, proc, write_end)
        finally:
            os._exit(0)
    os.close(write_end)
    good = 0
    try:
        while good < len(modules):
            ready, _, _ = select.select([read_end], [], [], max(deadline - time.monotonic(), 0))
            verdicts = os.read(read_end, 64) if ready else b""
            if not verdicts:
                return good, False
            for verdict in verdicts:
                if verdict != ord("+"):
                    return good, True
                good += 1
        return None
    finally:
        os.close(read_end)
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)


def _prove(modules: list[str], proc: int, verdicts: int) -> None:
    """In the trial process: one character for each module."""
    signal.set_wakeup_fd(-1)
    with _quiet():
        before = _count("fd", proc)
        for module in modules:
            _import(module)
            fits = _count("task", proc) == 1 and _count("fd", proc) == before
            os.write(verdicts, b"+" if fits else b"-")


def _count(what: str, proc: int) -> int:
    """Threads (``task``) or open files (``fd``) of this process."""
    fd = os.open(f"self/{what}", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC, dir_fd=proc)
    try:
        return len(os.listdir(fd))  # noqa: PTH208 - what is below a descriptor
    finally:
        os.close(fd)


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Nobody sees what is written meanwhile, and libraries are told to use one thread."""
    kept = [os.dup(fd) for fd in (1, 2)]
    nowhere = os.open("/dev/null", os.O_WRONLY | os.O_CLOEXEC)
    os.dup2(nowhere, 1)
    os.dup2(nowhere, 2)
    os.environ.update(_ONE_THREAD)
    try:
        yield
    finally:
        for name in _ONE_THREAD:
            os.environ.pop(name, None)
        for fd, copy in zip((1, 2), kept, strict=True):
            os.dup2(copy, fd)
            os.close(copy)
        os.close(nowhere)


@contextlib.contextmanager
def _at_most(seconds: float) -> Iterator[None]:
    def stop(*_: object) -> None:
        raise TimeoutError

    before = signal.signal(signal.SIGALRM, stop)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
