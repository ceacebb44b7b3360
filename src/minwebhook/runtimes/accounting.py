"""Processor time of a process and all its descendants, and memory, by looking at /proc. Linux, with CONFIG_PROC_CHILDREN.

In a PID namespace every process descends from its first one, so nothing escapes: neither a new session nor a double fork.
What a process used that nobody waited for (its parent ignores SIGCHLD) is counted only while it lives. Ticks of 10 ms.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Final

from minwebhook.child import descendants

_TICKS_PER_S: Final = os.sysconf("SC_CLK_TCK")
_PAGE_BYTES: Final = os.sysconf("SC_PAGE_SIZE")
#: Fields of /proc/PID/stat behind the name: utime, stime, cutime, cstime.
_TIMES: Final = slice(11, 15)


def process_id(pidfd: int) -> int:
    """The id of the process in this program's own PID namespace; -1 if it is gone."""
    for line in Path(f"/proc/self/fdinfo/{pidfd}").read_text().splitlines():
        name, _, value = line.partition(":")
        if name == "Pid":
            return int(value)
    return -1


def tree_cpu_s(pid: int) -> float:
    """Seconds of processor time of ``pid``, its descendants, and those of them that were waited for."""
    ticks = 0
    for process in descendants.tree([pid]):
        try:
            stat = Path(f"/proc/{process}/stat").read_bytes()
        except OSError:
            continue  # it has just ended; its parent's sums have its time
        ticks += sum(int(field) for field in stat.rpartition(b")")[2].split()[_TIMES])
    return ticks / _TICKS_PER_S


def resident_bytes(pid: int) -> int:
    """Memory that ``pid`` has now, with what it shares; 0 if it is gone."""
    try:
        return int(Path(f"/proc/{pid}/statm").read_bytes().split()[1]) * _PAGE_BYTES
    except OSError:
        return 0
