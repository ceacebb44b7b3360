"""How many files the server needs open besides connections. Pure."""

from __future__ import annotations

from typing import Final

from minwebhook.runtimes.language import RUNTIMES
from minwebhook.settings import Settings

#: Job socket, log pipe and pidfd of each child, and nine files of its control group.
_PER_CHILD: Final = 12
#: Connections at once to the addresses of ``metrics_listen``.
MAX_PROBES: Final = 32
#: The database, logs, listeners.
_SPARE: Final = 64 + MAX_PROBES


def connection_room(settings: Settings, open_files: int) -> int:
    """Connections that a process which may have so many files open has room for, beside its children that wait or run."""
    waiting = (len(RUNTIMES) + settings.sandbox.max_zygotes) * settings.warm_count + settings.more_warm_count
    return open_files - _PER_CHILD * (waiting + 5 * settings.worker_count) - _SPARE
