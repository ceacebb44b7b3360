"""Lists and counts over both places where jobs are: the table (live ones, and ended ones until their rows are written) and
the database. Every job is shown once, also one that moves from here to there meanwhile.

Places are looked at in the order in which jobs go through them: live jobs, then those not saved yet, then rows. So none can
slip through, and what was shown is left out later.
"""

from __future__ import annotations

import heapq
from collections.abc import Collection, Sequence
from typing import Final
from uuid import UUID

import trio

from minwebhook.jobs.conditions import Condition
from minwebhook.jobs.filters import JobFilter
from minwebhook.jobs.model import JobState
from minwebhook.jobs.record import JobRecord
from minwebhook.jobs.store import JobStore
from minwebhook.jobs.table import JobTable

#: How long the loop is held at a time by looking at a long queue.
_HOLD_S: Final = 0.002


async def list_live(table: JobTable, workspace: str | None, wanted: JobFilter) -> list[JobRecord]:
    """The page of jobs that have not ended, of one workspace or of all."""
    return (await _live_until(table, workspace, wanted))[wanted.offset :]


async def list_ended(table: JobTable, store: JobStore, workspace: str | None, wanted: JobFilter) -> list[JobRecord]:
    """The page of jobs that have ended."""
    return await _ended_page(table, store, workspace, wanted, wanted.offset, wanted.per_page)


async def list_all(table: JobTable, store: JobStore, workspace: str | None, wanted: JobFilter) -> list[JobRecord]:
    """The page of all jobs: those that have not ended come first."""
    live = await _live_until(table, workspace, wanted)
    page = live[wanted.offset :]
    missing = wanted.per_page - len(page)
    if missing:
        offset = max(wanted.offset - len(live), 0)
        live_ids = [record.id for record in live]
        page += await _ended_page(table, store, workspace, wanted, offset, missing, live_ids)
    return page


async def count_ended(table: JobTable, store: JobStore, workspace: str | None, wanted: JobFilter) -> int:
    """How many jobs that have ended match."""
    unsaved = _unsaved(table, workspace, wanted)
    return len(unsaved) + await store.count_ended(workspace, wanted, without=[record.id for record in unsaved])


async def count_due(
    table: JobTable, workspace: str | None, now_ms: int, *, tags: Collection[str], visible: Sequence[Condition]
) -> int:
    """How many jobs are due and wait: of some tags, or of any if none is given, and fulfilling all of ``visible``."""
    count, pause_at = 0, trio.current_time() + _HOLD_S
    for job in list(table.live(workspace)):
        if trio.current_time() > pause_at:
            await trio.lowlevel.checkpoint()
            pause_at = trio.current_time() + _HOLD_S
        if job.state is JobState.QUEUED and job.scheduled_for_ms <= now_ms and (not tags or job.spec.tag in tags):
            record = JobRecord.of(job) if visible else None
            count += record is None or all(condition.holds(record) for condition in visible)
    return count


async def _live_until(table: JobTable, workspace: str | None, wanted: JobFilter) -> list[JobRecord]:
    """Matching jobs that have not ended, in order, up to the end of the page; a full queue is not looked at whole."""
    jobs = [job for job in table.live(workspace) if not job.state.is_final and job.state in wanted.states]
    jobs.sort(key=lambda job: job.created_at_ms)  # nearly sorted already
    if wanted.newest_first:
        jobs.reverse()
    found: list[JobRecord] = []
    pause_at = trio.current_time() + _HOLD_S
    for job in jobs:
        if trio.current_time() > pause_at:
            await trio.lowlevel.checkpoint()
            pause_at = trio.current_time() + _HOLD_S
        # It may have ended in a pause.
        if not job.state.is_final and wanted.matches(record := JobRecord.of(job)):
            found.append(record)
            if len(found) == wanted.offset + wanted.per_page:
                break
    return found


def _unsaved(table: JobTable, workspace: str | None, wanted: JobFilter) -> list[JobRecord]:
    """Matching jobs that have ended and wait in the table for their rows, in order."""
    jobs = [job for job in table.live(workspace) if job.state.is_final and job.state in wanted.states]
    records = filter(wanted.matches, map(JobRecord.of, jobs))
    return sorted(records, key=_order, reverse=wanted.newest_first)


def _order(record: JobRecord) -> tuple[int, bytes]:
    return record.created_at_ms, record.id.bytes


async def _ended_page(
    table: JobTable,
    store: JobStore,
    workspace: str | None,
    wanted: JobFilter,
    offset: int,
    limit: int,
    shown: Sequence[UUID] = (),
) -> list[JobRecord]:
    """Ended jobs from ``offset`` on, the rows merged with what is not saved yet. ``shown`` are on the list already."""
    if not wanted.wants_ended:
        return []
    unsaved = _unsaved(table, workspace, wanted)
    # The unsaved ones may take the places of so many rows before the page, and of all that are on it.
    skipped = max(offset - len(unsaved), 0)
    rows = await store.list_ended(
        workspace,
        wanted,
        without=[*shown, *(record.id for record in unsaved)],
        offset=skipped,
        limit=offset - skipped + limit,
    )
    merged = list(heapq.merge(rows, unsaved, key=_order, reverse=wanted.newest_first))
    if skipped:
        # Unsaved jobs in front of the first row that was read are on earlier pages, in whatever place among their rows.
        ahead = merged.index(rows[0]) if rows else len(merged)
        merged, skipped = merged[ahead:], skipped + ahead
    return merged[offset - skipped :][:limit]
