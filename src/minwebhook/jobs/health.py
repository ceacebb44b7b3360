"""Whether the server can do its work, found out by trying: it writes to the store, looks at the disk and at the processes.

Looking costs a commit. What was seen is kept for some seconds, so that probes, which anybody may send, cost one look however
many they are.
"""

from __future__ import annotations

import os
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import trio

from minwebhook.db.database import Database
from minwebhook.errors import ApiError
from minwebhook.jobs.table import JobTable
from minwebhook.runtimes.fleet import Fleet
from minwebhook.runtimes.ladder import Reached
from minwebhook.times import now_ms

#: How long what was seen counts; and at least, for those who want to know it now.
KEPT_S: Final = 5.0
FORCED_S: Final = 1.0
#: A commit takes milliseconds.
_STORE_S: Final = 5.0


@dataclass(frozen=True, slots=True)
class State:
    """What was seen."""

    checked_at_ms: int
    #: Why nothing can be stored, for everyone to read; empty if it can.
    store_trouble: str
    #: How long a small commit took.
    store_latency_s: float
    disk_free_bytes: int
    is_disk_low: bool
    is_fork_server_running: bool
    queued: int
    running: int
    #: How long the oldest due job waits; 0 if none does.
    oldest_due_s: float

    @property
    def reasons(self) -> list[str]:
        """What is wrong, a sentence each; nothing of it is secret."""
        found = []
        if self.store_trouble:
            found.append(f"the store cannot be written: {self.store_trouble}")
        if self.is_disk_low:
            found.append("the disk has less room than min_free_disk_bytes")
        if not self.is_fork_server_running:
            found.append("no script can be started: the fork server does not run")
        return found

    @property
    def status(self) -> str:
        """``healthy``; ``degraded`` if something does not work; ``unhealthy`` if nothing can be stored."""
        if self.store_trouble:
            return "unhealthy"
        return "degraded" if self.reasons else "healthy"


class Health:
    """Looks, and remembers what it saw."""

    def __init__(
        self, db: Database, jobs: JobTable, fleet: Fleet, sandbox: Reached, *, data: Path, min_free_disk_bytes: int
    ) -> None:
        self._db = db
        self._jobs = jobs
        self._data = data
        #: Room on the disk below which it is low. May be changed.
        self.min_free_disk_bytes = min_free_disk_bytes
        self._looking = trio.Lock()
        self._seen: State | None = None
        self._seen_s = 0.0
        self.fleet: Final = fleet
        self.sandbox: Final = sandbox

    async def look(self, *, force: bool = False) -> State:
        """The state, not older than ``KEPT_S``, or ``FORCED_S`` with ``force``."""
        async with self._looking:  # who comes meanwhile gets the same
            age_s = time.monotonic() - self._seen_s
            if self._seen is None or age_s > (FORCED_S if force else KEPT_S):
                self._seen = await self._look()
                self._seen_s = time.monotonic()
            return self._seen

    async def _look(self) -> State:
        trouble, started = "the disk does not answer", time.perf_counter()
        with trio.move_on_after(_STORE_S):
            try:
                await self._db.probe()
                trouble = ""
            except ApiError as error:
                trouble = error.detail
        latency_s = time.perf_counter() - started
        free = free_disk_bytes(self._data)
        now, jobs = now_ms(), self._jobs
        oldest_ms = jobs.oldest_due_ms() if jobs.queued_count else None
        return State(
            checked_at_ms=now,
            store_trouble=trouble,
            store_latency_s=latency_s,
            disk_free_bytes=free,
            is_disk_low=free < self.min_free_disk_bytes,
            is_fork_server_running=self.fleet.is_running,
            queued=jobs.queued_count,
            running=jobs.running_count,
            oldest_due_s=max(now - oldest_ms, 0) / 1000 if oldest_ms is not None else 0.0,
        )


def free_disk_bytes(path: Path) -> int:
    """Room for this process on a file system; 0 if it cannot be asked."""
    try:
        found = os.statvfs(path)
    except OSError:
        return 0
    return found.f_bavail * found.f_frsize
