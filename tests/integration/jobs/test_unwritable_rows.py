"""Rows that cannot be written, whatever the reason: their jobs have failed, all others are stored, and the saver goes on."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from uuid import UUID

import pytest
import trio

from minwebhook.child.wire import Usage
from minwebhook.db.database import Database
from minwebhook.jobs.model import Job, JobState, Outcome
from minwebhook.jobs.pressure import QueueLimits
from minwebhook.jobs.store import JobStore
from minwebhook.jobs.table import JobTable
from tests.jobs import job_spec


def _success(**more: object) -> Outcome:
    outcome = Outcome(JobState.SUCCESS, b"1")
    for name, value in more.items():
        setattr(outcome, name, value)
    return outcome


def _no_utf8(job: Job) -> Outcome:
    return _success(ended_by="\ud800")


def _no_json(job: Job) -> Outcome:
    return _success(labels=("\ud800",))


def _too_large(job: Job) -> Outcome:
    job.usage = Usage(1, 1 << 63)
    return _success()


def _no_value(job: Job) -> Outcome:
    return _success(result={"a": 1})


async def _until(probe: Callable[[], bool]) -> None:
    with trio.fail_after(10):
        while not probe():  # noqa: ASYNC110 - nobody tells of a row
            await trio.sleep(0.01)


@pytest.mark.parametrize("spoil", [_no_utf8, _no_json, _too_large, _no_value])
async def test_one_row_that_cannot_be_written(tmp_path: Path, spoil: Callable[[Job], Outcome]) -> None:
    db = Database.open(tmp_path / "test.db")
    store = JobStore(db)
    table = JobTable(store, limits=QueueLimits(100))

    async def take(ids: list[UUID]) -> list[Job]:
        return [await table.take() for _ in ids]

    async with trio.open_nursery() as nursery:
        await nursery.start(db.run)
        nursery.start_soon(table.run_saver)
        ids = [(await table.submit(job_spec(source=b"true"))).id for _ in range(5)]
        jobs = await take(ids)
        for number, job in enumerate(jobs):
            table.finish(job, spoil(job) if number == 2 else _success(), 1)
        await _until(lambda: not table.unsaved_count)
        states = [record.state for job_id in ids if (record := store.get("demo", job_id)) is not None]
        wanted = [JobState.SUCCESS] * 5
        wanted[2] = JobState.FAILURE
        assert states == wanted
        assert all(table.get(job_id) is None for job_id in ids)
        lost = store.get("demo", ids[2])
        assert lost is not None
        assert lost.is_dead
        assert b"the record of the job could not be written" in (lost.result or b"")
        # The saver lives on.
        late = await table.submit(job_spec(source=b"true"))
        table.finish(await table.take(), _success(), 1)
        await _until(lambda: table.get(late.id) is None)
        nursery.cancel_scope.cancel()
    assert not store.queued()
    db.close()
