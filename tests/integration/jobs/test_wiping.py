"""What is to be forgotten is forgotten: on disk, in memory, in time, after a restart."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from dataclasses import replace
from pathlib import Path
from uuid import UUID

import pytest
import trio
import trio.testing

from minwebhook.db.database import Database
from minwebhook.errors import Unavailable
from minwebhook.jobs.log import JobLog
from minwebhook.jobs.model import WIPED_LOG, Job, JobSpec, JobState, Outcome
from minwebhook.jobs.record import JobRecord
from minwebhook.jobs.retention import WIPE_AT_ONCE, Retention
from minwebhook.jobs.store import _COLUMNS, _NOTHING_SPECIAL, JobStore, _rare, _row

SECRET = b"canary-7f1e"
START_MS = 1_700_000_000_000


@pytest.fixture
async def db(tmp_path: Path, nursery: trio.Nursery) -> AsyncIterator[Database]:
    database = Database.open(tmp_path / "test.db")
    await nursery.start(database.run)
    yield database
    database.close()


@pytest.fixture
def store(db: Database) -> JobStore:
    return JobStore(db)


def clock() -> int:
    """The wall clock, which follows the one of the loop."""
    return START_MS + int(trio.current_time() * 1000)


def ended(number: int, delete_after_s: int | None = None, *, completed_at_ms: int = START_MS) -> Job:
    spec = JobSpec("demo", "script", "bash", b"", b'{"a":"%s"}' % SECRET, "admin", "admin", "e", "u/admin", "u/a/b")
    job = Job(UUID(int=number), spec, START_MS, START_MS, state=JobState.SUCCESS, delete_after_s=delete_after_s)
    job.started_at_ms = job.completed_at_ms = completed_at_ms
    job.outcome = Outcome(JobState.SUCCESS, b'{"r":"%s"}' % SECRET, ("label",))
    job.log = JobLog("banner\n", 1000)
    job.log.write(SECRET)
    return job


def found(store: JobStore, number: int) -> JobRecord:
    record = store.get("demo", UUID(int=number))
    assert record is not None
    return record


def is_wiped(store: JobStore, number: int) -> bool:
    record = found(store, number)
    wiped = (record.arguments, record.result, store.log(record.id)) == (b"{}", b"{}", WIPED_LOG)
    whole = SECRET in (record.arguments or b"") and SECRET in (record.result or b"")
    assert wiped is not whole
    assert wiped is not (SECRET.decode() in store.log(record.id))
    return wiped


def is_on_disk(directory: Path) -> bool:
    return any(SECRET in path.read_bytes() for path in directory.iterdir())


async def test_a_row_holds_the_same_whether_or_not_there_is_something_special(db: Database, store: JobStore) -> None:
    """Columns that are not written hold by themselves what would have been written."""
    usual, special = ended(1), ended(2)
    usual.spec = replace(usual.spec, script_hash=7)
    usual.outcome = Outcome(JobState.SUCCESS, b"1")
    special.failures = 3
    assert (_is_usual(usual), _is_usual(special)) == (True, False)
    await store.save([usual, special])
    for job in (usual, special):
        rows = db.read(f"SELECT {', '.join(_COLUMNS)} FROM job WHERE id = ?", (job.id.bytes,))  # noqa: S608
        assert tuple(rows[0]) == _row(job)


def _is_usual(job: Job) -> bool:
    return bool(_rare(_row(job)) == _NOTHING_SPECIAL)


async def test_a_job_that_leaves_nothing_never_reaches_the_disk(store: JobStore, tmp_path: Path) -> None:
    job = ended(1, 0)
    await store.save([job])
    assert is_wiped(store, 1)
    record = found(store, 1)
    assert (record.state, record.labels, record.deleted) == (JobState.SUCCESS, ("label",), False)
    assert job.outcome is not None
    assert SECRET in job.outcome.result  # for the caller who waits
    assert not is_on_disk(tmp_path)
    await store.save([ended(2), ended(3, 60)])
    assert [is_wiped(store, number) for number in (2, 3)] == [False, False]
    assert is_on_disk(tmp_path)


async def test_a_queued_row_is_written_whole_and_its_end_without_data(store: JobStore) -> None:
    job = ended(1, 0)
    job.state, outcome, job.outcome = JobState.QUEUED, job.outcome, None
    await store.insert(job)
    [queued] = store.queued()
    assert SECRET in (queued.arguments or b"")
    assert not job.is_wiped
    job.state, job.outcome = JobState.SUCCESS, outcome
    record = JobRecord.of(job)  # as the API shows it before the row is written
    assert (record.arguments, record.result, job.log_text()) == (b"{}", b"{}", WIPED_LOG)
    await store.save([job])
    assert is_wiped(store, 1)


async def test_wiping_leaves_the_rest_of_the_record_and_jobs_that_have_not_ended(store: JobStore) -> None:
    queued = ended(2)
    queued.state, queued.outcome = JobState.QUEUED, None
    await store.insert(queued)
    await store.save([ended(1), ended(3)])
    before = found(store, 1)
    await store.wipe([UUID(int=1), UUID(int=2), UUID(int=77)], deleted=True)
    assert is_wiped(store, 1)
    after = found(store, 1)
    after.arguments, after.result, after.deleted = before.arguments, before.result, before.deleted
    assert after == before
    assert found(store, 1).deleted
    assert SECRET in (found(store, 2).arguments or b"")
    assert (found(store, 2).deleted, store.log(UUID(int=2)), store.log(UUID(int=77))) == (False, "", "")
    assert not is_wiped(store, 3)
    await store.wipe([UUID(int=1)])  # again, by another way: it stays deleted
    assert found(store, 1).deleted


async def test_a_job_deleted_before_its_row_is_written(store: JobStore) -> None:
    job = ended(1)
    job.deleted = True
    await store.wipe([job.id], deleted=True)  # no row yet
    await store.save([job])
    assert is_wiped(store, 1)
    assert found(store, 1).deleted


async def test_jobs_are_wiped_when_their_time_is_over(
    store: JobStore, nursery: trio.Nursery, autojump_clock: trio.testing.MockClock
) -> None:
    retention = Retention(store, clock=clock)
    nursery.start_soon(retention.run)
    await trio.testing.wait_all_tasks_blocked()
    await store.save([ended(1, 100, completed_at_ms=clock())])
    await store.save([ended(2, 10, completed_at_ms=clock()), ended(3, 1000, completed_at_ms=clock()), ended(4)])
    for moment, expected in ((9, []), (11, [2]), (99, [2]), (101, [1, 2]), (999, [1, 2]), (1001, [1, 2, 3])):
        await trio.sleep_until(moment)
        assert [number for number in (1, 2, 3, 4) if is_wiped(store, number)] == expected
    assert store.next_wipe_ms() is None
    await store.save([ended(5, 5, completed_at_ms=clock())])  # it goes on after nothing was left
    await trio.sleep(6)
    assert is_wiped(store, 5)


async def test_what_became_due_while_the_server_was_down_goes_in_small_steps(
    store: JobStore, nursery: trio.Nursery, autojump_clock: trio.testing.MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    count = 2 * WIPE_AT_ONCE + 1
    await store.save([ended(number, 1, completed_at_ms=START_MS - 5000) for number in range(1, count + 1)])
    steps: list[int] = []
    wipe_due = store.wipe_due

    async def watched(now_ms: int, limit: int) -> None:
        await wipe_due(now_ms, limit)
        steps.append(sum(is_wiped(store, number) for number in range(1, count + 1)))

    monkeypatch.setattr(store, "wipe_due", watched)
    nursery.start_soon(Retention(store, clock=clock).run)
    while len(steps) < 3:  # noqa: ASYNC110 - a checkpoint in a thread may come between, for which this clock does not wait
        await trio.sleep(1)
    assert steps == [WIPE_AT_ONCE, 2 * WIPE_AT_ONCE, count]


async def test_a_full_disk_delays_the_wiping(
    store: JobStore, nursery: trio.Nursery, autojump_clock: trio.testing.MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    wipe_due, refused = store.wipe_due, [1, 2, 3]

    async def full(now_ms: int, limit: int) -> None:
        if refused:
            refused.pop()
            raise Unavailable("the server's disk is full")
        await wipe_due(now_ms, limit)

    monkeypatch.setattr(store, "wipe_due", full)
    nursery.start_soon(Retention(store, clock=clock).run)
    await store.save([ended(1, 1, completed_at_ms=clock())])
    await trio.sleep(2)
    assert not is_wiped(store, 1)
    await trio.sleep(10)
    assert is_wiped(store, 1)


@pytest.mark.parametrize("seconds", [2**31, 10**30])
async def test_a_time_beyond_all_clocks_is_never(store: JobStore, seconds: int) -> None:
    await store.save([ended(1, seconds)])
    planned = store.next_wipe_ms()
    assert planned is not None
    assert planned > START_MS + 10**12


async def test_the_store_tells_what_is_planned_when_it_is_on_disk(store: JobStore) -> None:
    told: list[tuple[int, int | None]] = []
    store.on_wipe_planned = lambda wipe_at_ms: told.append((wipe_at_ms, store.next_wipe_ms()))
    jobs: Sequence[Job] = [ended(1, 0), ended(2), ended(3, 7)]
    await store.save(jobs)
    assert told == [(START_MS + 7000, START_MS + 7000)]
