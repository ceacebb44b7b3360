"""All processes that descend from one, and how to end them where no PID namespace does it. Linux, CONFIG_PROC_CHILDREN.

Whoever is a *subreaper* (prctl(2)) becomes the parent of those of its descendants whose own parent ends, so that no process
gets out of its tree: neither by a new session nor by a double fork.
"""

from __future__ import annotations

import contextlib
import os
import signal
from collections.abc import Collection
from pathlib import Path
from typing import Final, NoReturn

from minwebhook.child import kernel

#: A bound for one look; of a larger tree the rest is seen by the next one.
_MAX_PROCESSES: Final = 10_000


def can_be_seen() -> bool:
    """Whether the kernel tells children."""
    return Path(f"/proc/self/task/{os.getpid()}/children").exists()


def children(pid: int) -> list[int]:
    """The children of ``pid``, dead ones that nobody waited for among them."""
    found: list[int] = []
    with contextlib.suppress(OSError):  # it has ended
        for thread in Path(f"/proc/{pid}/task").iterdir():
            found += [int(child) for child in (thread / "children").read_bytes().split()]
    return found


def tree(pids: Collection[int]) -> list[int]:
    """``pids`` and all their descendants, parents first."""
    found = list(pids)
    for pid in found:
        if len(found) > _MAX_PROCESSES:
            break
        found += children(pid)
    return found


def end_all(keep: Collection[int] = ()) -> None:
    """Ends all descendants of this process, a subreaper, but for the children to ``keep`` and theirs.

    They are stopped before they are killed: who is stopped does not fork, so that the stopping comes to an end, whereas a
    killing could be outrun.
    """
    while strays := [child for child in children(os.getpid()) if child not in keep]:
        stopped: set[int] = set()
        while found := set(tree(strays)) - stopped:
            for pid in found:
                _signal(pid, signal.SIGSTOP)
            stopped |= found
        for pid in stopped:
            _signal(pid, signal.SIGKILL)
        for pid in strays:
            with contextlib.suppress(ChildProcessError):
                os.waitpid(pid, 0)


def _signal(pid: int, number: int) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, number)


def guard(parent: int, kill_fd: int | None = None) -> None:
    """Forks, and returns in the new process. The old one stays, and ends all its descendants when ``parent`` ends.

    It does so, too, when the new process ends, or when it is told to by SIGTERM; and the new one, when the old one ends.
    ``kill_fd`` is cgroup.kill of a control group that most of them are in: what it ends cannot run away.
    """
    kernel.prctl(kernel.PR_SET_CHILD_SUBREAPER, 1)
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM, signal.SIGCHLD})
    ward = os.fork()
    if ward:
        _stay(ward, parent, kill_fd)
    kernel.prctl(kernel.PR_SET_CHILD_SUBREAPER, 1)
    signal.signal(signal.SIGTERM, lambda *_: _leave(kill_fd))
    kernel.prctl(kernel.PR_SET_PDEATHSIG, signal.SIGTERM)
    signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _leave(kill_fd: int | None) -> NoReturn:
    if kill_fd is not None:
        with contextlib.suppress(OSError):
            os.write(kill_fd, b"1")
    end_all()
    os._exit(0)


def _stay(ward: int, parent: int, kill_fd: int | None) -> NoReturn:
    if kill_fd is None:
        os.closerange(3, 1 << 20)
    else:
        os.closerange(3, kill_fd)
        os.closerange(kill_fd + 1, 1 << 20)
    kernel.prctl(kernel.PR_SET_PDEATHSIG, signal.SIGTERM)
    is_needed = os.getppid() == parent
    while is_needed and signal.sigwait({signal.SIGTERM, signal.SIGCHLD}) == signal.SIGCHLD:
        with contextlib.suppress(ChildProcessError):
            while is_needed and (ended := os.waitpid(-1, os.WNOHANG)[0]):
                is_needed = ended != ward
    _leave(kill_fd)
