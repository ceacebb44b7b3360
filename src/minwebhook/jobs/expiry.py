"""Removes rows of ended jobs that are too old, or too many for the room that the database may take.

The writing connection works in the loop, so everything goes in steps of a few milliseconds with pauses in between, whatever
there is to remove. Oldest jobs go first; queued and running ones never. What they took becomes free pages, which the database
uses again; of many, the file gives room back to the file system, in steps as well.
"""

from __future__ import annotations

import logging
import sqlite3
import time
from collections.abc import Callable
from typing import Final

import trio

from minwebhook.db.database import Database
from minwebhook.errors import Unavailable
from minwebhook.settings import JobSettings
from minwebhook.times import now_ms

logger = logging.getLogger(__name__)

#: How long one step may hold the loop (at least one thing is done in each), and the pause after it.
STEP_S: Final = 0.004
PAUSE_S: Final = 0.05
#: How often there is a look whether something is to be done.
LOOK_S: Final = 60.0
#: Over the cap, so much of it is made free.
_LEAVE: Final = 0.95
#: Free pages that are left in the file for what comes next.
_SPARE_BYTES: Final = 16 * 1024 * 1024
_PAGES_AT_ONCE: Final = 16
_ROWS: Final = 100

#: Oldest first, from the index of lists. By creation, because that is what is indexed; none has ended before.
_OLD_JOBS: Final = (
    "SELECT id FROM job WHERE status != 'queued' AND created_at < ?1 AND completed_at < ?1"
    " ORDER BY created_at, id LIMIT ?2"
)
_OLD_LOGS: Final = (
    "SELECT job.id FROM job WHERE status != 'queued' AND created_at < ?1 AND completed_at < ?1"
    " AND (EXISTS (SELECT 1 FROM job_log WHERE job_id = job.id)"
    " OR EXISTS (SELECT 1 FROM job_stream WHERE job_id = job.id)) ORDER BY created_at, id LIMIT ?2"
)
_OUTPUT: Final = ("DELETE FROM job_log WHERE job_id = ?", "DELETE FROM job_stream WHERE job_id = ?")
_ALL: Final = (*_OUTPUT, "DELETE FROM job WHERE id = ? AND status != 'queued'")
#: A time that all are before.
_ANY_TIME_MS: Final = 1 << 62


class Expiry:
    """Removes what the settings do not keep."""

    def __init__(self, db: Database, settings: JobSettings, *, clock: Callable[[], int] = now_ms) -> None:
        self._db = db
        self._settings = settings
        self._clock = clock

    async def run(self) -> None:
        """Looks now and then and does what there is to do, until cancelled."""
        while True:
            try:
                await self.work()
            except Unavailable as error:
                logger.warning("old jobs could not be removed: %s", error.detail)
            await trio.sleep(LOOK_S)

    async def work(self) -> None:
        """Everything that there is to do now."""
        settings, now = self._settings, self._clock()
        removed = 0
        if settings.keep_jobs_s:
            # A key that is sent again must find its job.
            kept_s = max(settings.keep_jobs_s, settings.idempotency_ttl_s)
            removed += await self._remove(_OLD_JOBS, _ALL, now - round(1000 * kept_s))
        if settings.keep_logs_s:
            await self._remove(_OLD_LOGS, _OUTPUT, now - round(1000 * settings.keep_logs_s))
        cap = settings.max_database_bytes
        if cap and self.used_bytes() > cap:
            removed += await self._remove(_OLD_JOBS, _ALL, _ANY_TIME_MS, until_bytes=int(cap * _LEAVE))
            if self.used_bytes() > cap:
                logger.error("the database has more than max_database_bytes, and no ended job that could be removed")
        if removed:
            logger.info("%d old jobs were removed", removed)
        await self._shrink()

    def used_bytes(self) -> int:
        """What the database holds, without its free pages."""
        return self._pragma("page_size") * (self._pragma("page_count") - self._pragma("freelist_count"))

    async def _remove(
        self, query: str, statements: tuple[str, ...], before_ms: int, *, until_bytes: int | None = None
    ) -> int:
        """Removes what ``query`` finds, or until no more than ``until_bytes`` are used; how many jobs it was."""
        removed = 0
        while until_bytes is None or self.used_bytes() > until_bytes:
            found = await self._db.transact(lambda connection: _step(connection, query, statements, before_ms))
            removed += found
            if not found:
                break
            await trio.sleep(PAUSE_S)
        return removed

    async def _shrink(self) -> None:
        """Gives free pages back to the file system. A database of an earlier version keeps them until it is repaired."""
        spare = _SPARE_BYTES // self._pragma("page_size")
        if self._pragma("auto_vacuum") != 2:
            return
        while (free := self._pragma("freelist_count")) > spare:
            await self._db.transact(_vacuum)
            if self._pragma("freelist_count") >= free:
                return
            await trio.sleep(PAUSE_S)

    def _pragma(self, name: str) -> int:
        return int(self._db.read(f"PRAGMA {name}")[0][0])


def _step(connection: sqlite3.Connection, query: str, statements: tuple[str, ...], before_ms: int) -> int:
    deadline = time.perf_counter() + STEP_S
    keys = [row[0] for row in connection.execute(query, (before_ms, _ROWS))]
    for done, key in enumerate(keys, 1):
        for statement in statements:
            connection.execute(statement, (key,))
        if time.perf_counter() > deadline:
            return done
    return len(keys)


def _vacuum(connection: sqlite3.Connection) -> None:
    deadline = time.perf_counter() + STEP_S
    while time.perf_counter() < deadline:
        connection.execute(f"PRAGMA incremental_vacuum({_PAGES_AT_ONCE})").fetchall()
