"""Old jobs go, in small steps; the database stays below its cap and gives room back."""

from __future__ import annotations

import sqlite3
from collections.abc import AsyncIterator
from pathlib import Path
from uuid import UUID

import pytest
import trio

from minwebhook.db.database import Database
from minwebhook.db.migrations import MIGRATIONS, migrate
from minwebhook.jobs import expiry
from minwebhook.jobs.expiry import Expiry
from minwebhook.jobs.log import JobLog
from minwebhook.jobs.model import Job, JobState, Outcome
from minwebhook.jobs.store import JobStore
from minwebhook.settings import JobSettings
from tests.jobs import job_spec

NOW = 10_000_000_000
DAY = 86_400_000

INSERT = (
    "INSERT INTO job (id, workspace_id, kind, status, created_by, email, permissioned_as, created_at, scheduled_for,"
    " completed_at, args, result) VALUES (?, 'demo', 'script', ?, 'a', 'e', 'u/a', ?, ?, ?, x'7b7d', ?)"
)


@pytest.fixture
async def db(tmp_path: Path, nursery: trio.Nursery, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Database]:
    monkeypatch.setattr(expiry, "PAUSE_S", 0)
    monkeypatch.setattr(expiry, "SHORT_PAUSE_S", 0)
    database = Database.open(tmp_path / "test.db")
    await nursery.start(database.run)
    yield database
    database.close()


async def add(db: Database, number: int, age_days: float, *, status: str = "success", size: int = 1) -> None:
    created = round(NOW - age_days * DAY)
    ended = None if status == "queued" else created + 1

    def work(connection: sqlite3.Connection) -> None:
        key = UUID(int=number).bytes
        connection.execute(INSERT, (key, status, created, created, ended, b"x" * size))
        if ended is not None:
            connection.execute("INSERT INTO job_log VALUES (?, 'log')", (key,))
            connection.execute("INSERT INTO job_stream VALUES (?, x'', x'')", (key,))

    await db.transact(work)


def kept(db: Database, table: str = "job", column: str = "id") -> set[int]:
    return {UUID(bytes=row[0]).int for row in db.read(f"SELECT {column} FROM {table}")}  # noqa: S608


async def test_jobs_go_by_age_with_all_they_wrote_and_queued_ones_never(db: Database) -> None:
    for number, (age, status) in enumerate([(40, "success"), (31, "failure"), (29, "success"), (400, "queued")]):
        await add(db, number, age, status=status)
    await Expiry(db, JobSettings(keep_jobs_s=30 * 86_400), clock=lambda: NOW).remove_old()
    assert kept(db) == {2, 3}
    assert kept(db, "job_log", "job_id") == kept(db, "job_stream", "job_id") == {2}


async def test_the_steps_of_a_flow_that_goes_on_are_kept_however_old_they_are(db: Database) -> None:
    await add(db, 1, 400, status="queued")
    for number in range(2, 400):  # more than one look finds
        await add(db, number, 390)
    parts = "UPDATE job SET parent_job = ?, root_job = ?, flow_step_id = 'a' WHERE id = ?"
    flow, level = UUID(int=1).bytes, UUID(int=2).bytes
    for number in range(2, 300):
        parent = level if number in (3, 4) else flow  # its level has ended
        await db.write(parts, (parent, flow, UUID(int=number).bytes))
    cleaner = Expiry(db, JobSettings(keep_jobs_s=86_400), clock=lambda: NOW)
    await cleaner.remove_old()
    assert kept(db) == set(range(1, 300))
    await db.write("UPDATE job SET status = 'success', completed_at = 1 WHERE id = ?", (flow,))
    await cleaner.remove_old()
    assert kept(db) == set()


async def test_nothing_goes_that_is_to_be_kept(db: Database) -> None:
    for number in range(3):
        await add(db, number, 100 * number + 0.5)
    await Expiry(db, JobSettings(keep_jobs_s=0), clock=lambda: NOW).remove_old()
    assert kept(db) == {0, 1, 2}
    # A key that is sent again must find its job.
    await Expiry(db, JobSettings(keep_jobs_s=1, idempotency_ttl_s=86_400), clock=lambda: NOW).remove_old()
    assert kept(db) == {0}


async def test_logs_may_go_before_their_jobs(db: Database) -> None:
    await add(db, 1, 5)
    await add(db, 2, 1)
    await Expiry(db, JobSettings(keep_logs_s=2 * 86_400), clock=lambda: NOW).remove_old()
    assert kept(db) == {1, 2}
    assert kept(db, "job_log", "job_id") == {2}


async def test_a_job_that_waited_for_long_counts_from_its_end(db: Database) -> None:
    await add(db, 1, 90)
    await db.write("UPDATE job SET completed_at = ?", (NOW - 1,))
    await Expiry(db, JobSettings(), clock=lambda: NOW).remove_old()
    assert kept(db) == {1}


async def test_over_the_cap_the_oldest_go_and_the_file_becomes_smaller(db: Database, tmp_path: Path) -> None:
    for number in range(400):
        await add(db, number, 20 - number / 100, size=100_000)
    await add(db, 1000, 25, status="queued")
    cap = 10_000_000
    cleaner = Expiry(db, JobSettings(max_database_bytes=cap), clock=lambda: NOW)
    assert cleaner.used_bytes() > 40_000_000
    await cleaner.keep_sizes()
    assert 0.8 * cap < cleaner.used_bytes() <= 0.95 * cap
    left = sorted(kept(db) - {1000})
    assert left == list(range(left[0], 400))  # the oldest went
    assert 1000 in kept(db)
    await db.transact(lambda connection: None)
    connection = sqlite3.connect(tmp_path / "test.db")
    connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    assert connection.execute("PRAGMA integrity_check").fetchone() == ("ok",)
    connection.close()
    assert (tmp_path / "test.db").stat().st_size < cap + 20_000_000


async def test_a_cap_that_cannot_be_kept_is_said(db: Database, caplog: pytest.LogCaptureFixture) -> None:
    await add(db, 1, 1, status="queued", size=100_000)
    cleaner = Expiry(db, JobSettings(max_database_bytes=50_000), clock=lambda: NOW)
    for _ in range(3):
        await cleaner.keep_sizes()
    assert kept(db) == {1}
    assert caplog.text.count("no ended job that could be removed") == 1


async def add_output(db: Database, number: int, log: str, chunks: bytes) -> None:
    def work(connection: sqlite3.Connection) -> None:
        key = UUID(int=number).bytes
        connection.execute("UPDATE job_log SET log = ? WHERE job_id = ?", (log, key))
        connection.execute("UPDATE job_stream SET chunks = ? WHERE job_id = ?", (chunks, key))

    await db.transact(work)


def counted(db: Database) -> int:
    """What the database says of the size of its output, which has to be what can be counted."""
    logs = db.read("SELECT coalesce(sum(length(CAST(log AS BLOB))), 0) FROM job_log")[0][0]
    streams = db.read("SELECT coalesce(sum(length(chunks) + length(ends)), 0) FROM job_stream")[0][0]
    assert Expiry(db, JobSettings()).output_bytes() == logs + streams
    return int(logs + streams)


async def test_the_oldest_logs_go_when_all_together_are_too_large(db: Database) -> None:
    for number in range(40):
        await add(db, number, 20 - number / 10)
        await add_output(db, number, "ä" * 500, b"c" * 1000)
    await add(db, 1000, 25, status="queued")
    assert counted(db) == 80_000
    cleaner = Expiry(db, JobSettings(max_logs_bytes=40_000), clock=lambda: NOW)
    await cleaner.keep_sizes()
    assert 36_000 - 2000 <= counted(db) <= 36_000
    left = sorted(kept(db, "job_log", "job_id"))
    assert left == list(range(left[0], 40)) == sorted(kept(db, "job_stream", "job_id"))
    assert kept(db) == {*range(40), 1000}
    for _ in range(2):  # there is room: nothing more goes
        await cleaner.keep_sizes()
        assert sorted(kept(db, "job_log", "job_id")) == left


async def test_the_size_of_all_output_is_right_whatever_happens_to_it(db: Database) -> None:
    store = JobStore(db)
    jobs = []
    for number in range(3):
        job = Job(UUID(int=number + 1), job_spec(), NOW, NOW)
        job.log = JobLog("banner\n", 10_000)
        job.log.write(b"some text\nWM_STREAM: piece\n" * (number + 1))
        job.log.close()
        job.state, job.outcome = JobState.SUCCESS, Outcome(JobState.SUCCESS, b"1")
        job.completed_at_ms = NOW
        jobs.append(job)
    await store.save(jobs)
    assert counted(db) > 100
    await store.save(jobs[:2])  # again, as after a commit that was not heard of
    before = counted(db)
    await store.wipe([jobs[0].id])
    assert counted(db) < before
    await Expiry(db, JobSettings(keep_logs_s=1), clock=lambda: NOW + 10_000).remove_old()
    assert counted(db) == 0


async def test_the_size_of_what_an_earlier_version_stored_is_counted_once(tmp_path: Path) -> None:
    number = next(step.id for step in MIGRATIONS if step.name == "the size of all output")
    connection = sqlite3.connect(tmp_path / "old.db", isolation_level=None)
    migrate(connection, MIGRATIONS[: number - 1])
    connection.execute("INSERT INTO job_log VALUES (x'01', 'äb')")
    connection.execute("INSERT INTO job_stream VALUES (x'01', x'0102', x'03')")
    migrate(connection)
    assert connection.execute("SELECT bytes FROM output_total").fetchone() == (6,)
    connection.close()


async def test_a_database_stays_below_its_cap_while_jobs_end(db: Database, nursery: trio.Nursery) -> None:
    cap = 4_000_000
    cleaner = Expiry(db, JobSettings(max_database_bytes=cap), clock=lambda: NOW)
    largest = 0
    for number in range(1500):
        await add(db, number, 20 - number / 1000, size=10_000)
        if number % 10 == 0:  # some 100 kB come between two looks
            await cleaner.keep_sizes()
        largest = max(largest, cleaner.used_bytes())
    assert largest < cap
    assert 1499 in kept(db)


async def test_others_write_between_the_steps(db: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    """However much there is to remove, no step is longer than one thing that is removed."""
    monkeypatch.setattr(expiry, "STEP_S", 0)
    for number in range(50):
        await add(db, number, 40)
    before = len(db.figures.commits.counts) and db.figures.commits.cumulative()[-1]
    await Expiry(db, JobSettings(), clock=lambda: NOW).remove_old()
    assert kept(db) == set()
    assert db.figures.commits.cumulative()[-1] - before >= 50


async def test_the_oldest_are_found_by_an_index(db: Database) -> None:
    for query in (expiry._OLD_JOBS, expiry._OLD_LOGS):
        plan = [row["detail"] for row in db.read(f"EXPLAIN QUERY PLAN {query}", (1, 1, *expiry._FIRST))]
        assert "job_ended_anywhere" in plan[0]
        assert not any("TEMP B-TREE" in step for step in plan)
