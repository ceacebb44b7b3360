"""Pages over two places: however jobs are spread over table and database, they are the pages of one list."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from typing import cast
from uuid import UUID

import trio
from hypothesis import given
from hypothesis import strategies as st

from minwebhook.jobs import listing
from minwebhook.jobs.filters import JobFilter
from minwebhook.jobs.model import Job, JobState, Outcome
from minwebhook.jobs.record import JobRecord
from minwebhook.jobs.store import JobStore
from minwebhook.jobs.table import JobTable
from tests.unit.jobs.test_job_table import spec


class Rows:
    """Rows of ended jobs, as the store lists them."""

    def __init__(self, records: list[JobRecord]) -> None:
        self.records = records

    async def list_ended(
        self, workspace: str | None, wanted: JobFilter, *, without: Iterable[UUID], offset: int, limit: int
    ) -> list[JobRecord]:
        await trio.lowlevel.checkpoint()
        left_out = set(without)
        found = [record for record in self.records if record.id not in left_out and wanted.matches(record)]
        found.sort(key=lambda record: (record.created_at_ms, record.id.bytes), reverse=wanted.newest_first)
        return found[offset : offset + limit]

    async def count_ended(self, workspace: str | None, wanted: JobFilter, *, without: Iterable[UUID]) -> int:
        return len(await self.list_ended(workspace, wanted, without=without, offset=0, limit=1 << 30))


class Held:
    """The jobs that a table holds."""

    def __init__(self, jobs: list[Job]) -> None:
        self.jobs = jobs

    def live(self, workspace: str | None) -> Iterable[Job]:
        return iter(self.jobs)


def make(number: int, created: int, state: JobState) -> Job:
    # An id that does not grow with the number, as callers may choose.
    job = Job(UUID(int=(number * 7919) % 1009), spec(), created, created, state=state)
    if state.is_final:
        job.completed_at_ms, job.outcome = created, Outcome(state, b"1")
    return job


#: Where a job is: live, ended in the table, ended in both (its row was just written), ended in the database.
PLACES = ["live", "table", "both", "rows"]
places = st.lists(st.tuples(st.integers(0, 3), st.sampled_from(PLACES)), max_size=12)


@given(places, st.integers(1, 5), st.integers(1, 5), st.booleans())
def test_a_page_is_that_of_one_list(
    spread: list[tuple[int, str]], page: int, per_page: int, newest_first: bool
) -> None:
    jobs = {place: list[Job]() for place in PLACES}
    for number, (created, place) in enumerate(spread):
        state = JobState.QUEUED if place == "live" else JobState.SUCCESS
        jobs[place].append(make(number, created, state))
    held = Held(sorted(jobs["live"], key=lambda job: job.created_at_ms) + jobs["table"] + jobs["both"])
    rows = Rows([JobRecord.of(job) for job in jobs["both"] + jobs["rows"]])
    table, store = cast(JobTable, held), cast(JobStore, rows)
    wanted = JobFilter(page=page, per_page=per_page, newest_first=newest_first)

    live = [JobRecord.of(job) for job in held.jobs if not job.state.is_final]
    ended = [JobRecord.of(job) for job in jobs["table"] + jobs["both"] + jobs["rows"]]
    ended.sort(key=lambda record: (record.created_at_ms, record.id.bytes), reverse=newest_first)
    everything = (live[::-1] if newest_first else live) + ended

    def cut(records: list[JobRecord]) -> list[UUID]:
        return [record.id for record in records[(page - 1) * per_page : page * per_page]]

    async def check() -> None:
        assert [job.id for job in await listing.list_all(table, store, "demo", wanted)] == cut(everything)
        assert [job.id for job in await listing.list_ended(table, store, "demo", wanted)] == cut(ended)
        assert [job.id for job in await listing.list_live(table, "demo", wanted)] == cut(everything[: len(live)])
        assert await listing.count_ended(table, store, "demo", wanted) == len(ended)
        succeeded = replace(wanted, states=frozenset({JobState.SUCCESS}))
        assert await listing.count_ended(table, store, "demo", succeeded) == len(ended)
        running = replace(wanted, states=frozenset({JobState.RUNNING}))
        assert await listing.list_all(table, store, "demo", running) == []

    trio.run(check)


def test_a_job_that_ends_while_the_rows_are_read_is_shown_once() -> None:
    """It is live when the table is looked at, and has a row of an ended job a moment later."""
    live = [make(number, number, JobState.RUNNING) for number in range(3)]
    row = JobRecord.of(make(1, 1, JobState.SUCCESS))
    table, store = cast(JobTable, Held(live)), cast(JobStore, Rows([row]))
    shown = trio.run(lambda: listing.list_all(table, store, "demo", JobFilter()))
    assert [job.id for job in shown] == [job.id for job in reversed(live)]
