"""Removes rows of ended jobs that are too old, or too many for the room that the database, or logs, may take.

The writing connection works in the loop, so everything goes in steps of a few milliseconds with pauses in between, whatever
there is to remove. Oldest jobs go first; queued and running ones never. What they took becomes free pages, which the database
uses again; of many, the file gives room back to the file system, in steps as well.

A size is looked at every few seconds, and removing begins before it is reached: what comes meanwhile has room.
"""

from __future__ import annotations

import logging
import math
import sqlite3
import time
from collections.abc import Callable
from typing import Final

import trio

from minwebhook.db.database import Database
from minwebhook.repeating import repeat
from minwebhook.settings import JobSettings
from minwebhook.times import now_ms

logger = logging.getLogger(__name__)

#: How long one step may hold the loop (at least one thing is done in each), and the pause after it.
STEP_S: Final = 0.004
PAUSE_S: Final = 0.05
#: The pause when a size is exceeded all the same.
SHORT_PAUSE_S: Final = 0.01
#: How often there is a look whether something is too old, and whether there is too much.
LOOK_S: Final = 60.0
LOOK_AT_SIZES_S: Final = 2.0
#: From which part of a size on something is removed, and down to which.
_BEGIN: Final = 0.95
_LEAVE: Final = 0.9
#: Free pages that are left in the file for what comes next.
_SPARE_BYTES: Final = 16 * 1024 * 1024
_PAGES_AT_ONCE: Final = 16
_ROWS: Final = 100

#: Oldest first, from the index of lists, behind the last that was looked at. By creation, because that is what is indexed; none
#: has ended before. A flow that goes on needs the results of its steps, however long it has waited.
_OLD_JOBS: Final = (
    "SELECT id, created_at, flow_step_id IS NOT NULL AND EXISTS (SELECT 1 FROM job AS flow"
    " WHERE flow.id IN (job.parent_job, job.root_job) AND flow.status = 'queued') AS is_needed"
    " FROM job WHERE status != 'queued' AND created_at < ?1 AND completed_at < ?1 AND (created_at, id) > (?3, ?4)"
    " ORDER BY created_at, id LIMIT ?2"
)
_OLD_LOGS: Final = (
    "SELECT job.id, created_at, 0 AS is_needed"
    " FROM job WHERE status != 'queued' AND created_at < ?1 AND completed_at < ?1 AND (created_at, id) > (?3, ?4)"
    " AND (EXISTS (SELECT 1 FROM job_log WHERE job_id = job.id)"
    " OR EXISTS (SELECT 1 FROM job_stream WHERE job_id = job.id)) ORDER BY created_at, id LIMIT ?2"
)
#: What all are behind.
_FIRST: Final = (-(1 << 62), b"")
_OUTPUT: Final = ("DELETE FROM job_log WHERE job_id = ?", "DELETE FROM job_stream WHERE job_id = ?")
_ALL: Final = (*_OUTPUT, "DELETE FROM job WHERE id = ? AND status != 'queued'")
#: Sizes in bytes: of the database without its free pages, and of all output.
_USED: Final = (
    "SELECT (page_count - freelist_count) * page_size FROM pragma_page_count, pragma_freelist_count, pragma_page_size"
)
_OUTPUT_SIZE: Final = "SELECT bytes FROM output_total"
#: A time that all are before.
_ANY_TIME_MS: Final = 1 << 62


class Expiry:
    """Removes what the settings do not keep."""

    def __init__(self, db: Database, settings: JobSettings, *, clock: Callable[[], int] = now_ms) -> None:
        self._db = db
        self._settings = settings
        self._clock = clock
        self._is_too_big = False
        #: When there was a look whether something is too old, on the clock of the loop.
        self._aged_at = -math.inf

    async def run(self) -> None:
        """Looks now and then and does what there is to do, until cancelled."""
        await repeat(self._look, "old jobs could not be removed", pause_s=LOOK_AT_SIZES_S)

    async def _look(self) -> None:
        if trio.current_time() - self._aged_at >= LOOK_S:
            self._aged_at = trio.current_time()
            await self.remove_old()
        await self.keep_sizes()

    async def remove_old(self) -> None:
        """What is older than the settings keep it."""
        settings, now = self._settings, self._clock()
        removed = 0
        if settings.keep_jobs_s:
            # A key that is sent again must find its job.
            kept_s = max(settings.keep_jobs_s, settings.idempotency_ttl_s)
            removed = await self._remove(_OLD_JOBS, _ALL, now - round(1000 * kept_s))
        if settings.keep_logs_s:
            await self._remove(_OLD_LOGS, _OUTPUT, now - round(1000 * settings.keep_logs_s))
        if removed:
            logger.info("%d old jobs were removed", removed)
        await self._shrink()

    async def keep_sizes(self) -> None:
        """The oldest of what is too much."""
        settings = self._settings
        logs = await self._keep_size(settings.max_logs_bytes, _OUTPUT_SIZE, _OLD_LOGS, _OUTPUT)
        if logs:
            logger.info("the logs of %d old jobs were removed", logs)
        cap = settings.max_database_bytes
        removed = await self._keep_size(cap, _USED, _OLD_JOBS, _ALL)
        if removed:
            logger.info("%d old jobs were removed", removed)
        if removed or logs:
            await self._shrink()
        self._is_too_big = self._say_once(cap)

    def _say_once(self, cap: int) -> bool:
        """Whether the database is larger than it may be; a line in the log says so once, until it is not."""
        is_too_big = bool(cap) and self.used_bytes() > cap
        if is_too_big and not self._is_too_big:
            logger.error("the database has more than max_database_bytes, and no ended job that could be removed")
        return is_too_big

    async def _keep_size(self, most_bytes: int, size: str, query: str, statements: tuple[str, ...]) -> int:
        """Removes what ``query`` finds while the ``size`` is near ``most_bytes``; how many jobs it was of."""
        if not most_bytes or self._number(size) <= _BEGIN * most_bytes:
            return 0
        return await self._remove(query, statements, _ANY_TIME_MS, size, most_bytes)

    def used_bytes(self) -> int:
        """What the database holds, without its free pages."""
        return self._number(_USED)

    def output_bytes(self) -> int:
        """What logs and streamed results hold; kept by the database itself."""
        return self._number(_OUTPUT_SIZE)

    async def _remove(
        self, query: str, statements: tuple[str, ...], before_ms: int, size: str = "", most_bytes: int = 0
    ) -> int:
        """Removes what ``query`` finds, all of it or until the ``size`` leaves room; how many jobs it was of."""
        leave = int(_LEAVE * most_bytes)
        removed, last = 0, _FIRST
        while not size or self._number(size) > leave:
            here = last
            found, last = await self._db.transact(
                lambda connection: _step(connection, query, statements, (before_ms, _ROWS, *here), size, leave)  # noqa: B023
            )
            removed += found
            if last == here:
                break
            is_too_much = size and self._number(size) > most_bytes
            await trio.sleep(SHORT_PAUSE_S if is_too_much else PAUSE_S)
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
        return self._number(f"PRAGMA {name}")

    def _number(self, query: str) -> int:
        return int(self._db.read(query)[0][0])


def _step(
    connection: sqlite3.Connection,
    query: str,
    statements: tuple[str, ...],
    values: tuple[int, int, int, bytes],
    size: str,
    leave: int,
) -> tuple[int, tuple[int, bytes]]:
    """One step; how many jobs it was of, and where it came to."""
    deadline = time.perf_counter() + STEP_S
    done, last = 0, values[2:]
    for key, created_at, is_needed in connection.execute(query, values).fetchall():
        last = (created_at, key)
        if is_needed:
            continue
        for statement in statements:
            connection.execute(statement, (key,))
        done += 1
        if time.perf_counter() > deadline or (size and connection.execute(size).fetchone()[0] <= leave):
            break
    return done, last


def _vacuum(connection: sqlite3.Connection) -> None:
    deadline = time.perf_counter() + STEP_S
    while time.perf_counter() < deadline:
        connection.execute(f"PRAGMA incremental_vacuum({_PAGES_AT_ONCE})").fetchall()
