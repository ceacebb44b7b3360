"""Starting servers and ending them for certain: by pid, with everything that they started.

Linux only (``/proc``, pidfd). A process is identified by pid and start time, so that a reused pid is never signalled.
"""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

TERMINATE_TIMEOUT_S: Final = 10.0
KILL_TIMEOUT_S: Final = 5.0
#: Children see the end of their parent and leave by themselves; after this they are killed.
CHILDREN_TIMEOUT_S: Final = 2.0
POLL_S: Final = 0.02


@dataclass(frozen=True, slots=True)
class ProcessId:
    """One process for as long as the machine runs."""

    pid: int
    #: Clock ticks between the machine's start and the process's.
    started: int


@dataclass(frozen=True, slots=True)
class _Stat:
    state: str
    parent: int
    started: int


def _stat(pid: int) -> _Stat | None:
    """Fields of ``/proc/PID/stat`` (man 5 proc_pid_stat); the name may hold anything, so it is cut off first."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text(errors="replace").rpartition(")")[2].split()
    except OSError:
        return None
    return _Stat(state=fields[0], parent=int(fields[1]), started=int(fields[19]))


def tree(root: int) -> list[ProcessId]:
    """The process and all its descendants, parents before children; empty when it is gone."""
    pids = (int(entry.name) for entry in Path("/proc").iterdir() if entry.name.isdigit())
    stats = {pid: stat for pid in pids if (stat := _stat(pid)) is not None}
    children: dict[int, list[int]] = {}
    for pid, stat in sorted(stats.items()):
        children.setdefault(stat.parent, []).append(pid)
    found: list[ProcessId] = []
    waiting = [root] if root in stats else []
    while waiting:
        pid = waiting.pop(0)
        found.append(ProcessId(pid, stats[pid].started))
        waiting.extend(children.get(pid, []))
    return found


def is_alive(process: ProcessId) -> bool:
    """Whether this very process still runs; a zombie does not."""
    stat = _stat(process.pid)
    return stat is not None and stat.started == process.started and stat.state != "Z"


def _kill(process: ProcessId) -> None:
    with contextlib.suppress(ProcessLookupError):
        descriptor = os.pidfd_open(process.pid)
        try:
            if is_alive(process):
                signal.pidfd_send_signal(descriptor, signal.SIGKILL)
        finally:
            os.close(descriptor)


def end(process: subprocess.Popen[bytes]) -> None:
    """Ask the process to leave, then kill what is left of it and of its descendants. Takes bounded time."""
    members = tree(process.pid) if process.poll() is None else []
    if process.poll() is None:
        process.terminate()
    try:
        process.wait(TERMINATE_TIMEOUT_S)
    except subprocess.TimeoutExpired:
        members = tree(process.pid)
        process.kill()
        process.wait(KILL_TIMEOUT_S)
    deadline = time.monotonic() + CHILDREN_TIMEOUT_S
    while (members := [member for member in members if is_alive(member)]) and time.monotonic() < deadline:
        time.sleep(POLL_S)
    for member in members:
        _kill(member)


@contextmanager
def running(
    command: Sequence[str], *, directory: Path, environment: Mapping[str, str], log: Path
) -> Iterator[subprocess.Popen[bytes]]:
    """A server in a session of its own, its output in ``log``; ended when the block is left."""
    with log.open("wb") as output:
        process = subprocess.Popen(
            command,
            cwd=directory,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    try:
        yield process
    finally:
        end(process)


def free_port() -> int:
    """A loopback port that nobody listens on at the moment."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port: int = listener.getsockname()[1]
        return port


def plain_environment() -> dict[str, str]:
    """What every server gets: the same few variables, nothing of the caller's settings."""
    return {name: os.environ[name] for name in ("PATH", "HOME", "LANG", "TMPDIR") if name in os.environ}
