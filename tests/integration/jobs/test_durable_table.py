"""The job table on a real database, with keys, retries, cancellations, crashes and restarts, against a dictionary.

What callers were told is the model's; after every crash a new table is filled from the file, as a server does.
"""

from __future__ import annotations

import shutil
import tempfile
import tracemalloc
from dataclasses import dataclass, replace
from pathlib import Path
from uuid import UUID

import pytest
import trio
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from minwebhook.db.database import Database
from minwebhook.errors import KeyReused
from minwebhook.jobs.idempotency import IdempotencyKey, IdempotencyKeys
from minwebhook.jobs.ids import IdMaker
from minwebhook.jobs.log import JobLog
from minwebhook.jobs.model import Cancellation, Job, JobSpec, JobState, Outcome
from minwebhook.jobs.pressure import QueueLimits
from minwebhook.jobs.restoring import restore_jobs
from minwebhook.jobs.store import JobStore
from minwebhook.jobs.table import JobTable
from minwebhook.scripts.retry import RetryPolicy
from minwebhook.scripts.store import ScriptStore
from tests.jobs import job_spec

SLOTS = 2
CRASH_ATTEMPTS = 2
KEYS = ("red", "green", "blue")
TTL_MS = 10_000
RETRY = RetryPolicy.parse("retry", {"constant": {"attempts": 2, "seconds": 1}})
WHY = Cancellation("me", "why")
#: Where syncing costs nothing: this is about what is written, not about disks.
FAST = "/dev/shm" if Path("/dev/shm").is_dir() else None


@dataclass
class Known:
    """What the model knows of an acknowledged job."""

    state: str
    #: Runs that were begun since the last one that failed and is repeated.
    begun: int = 0
    cancelled: bool = False


def open_database(path: Path) -> Database:
    """One whose writer has ended: whatever is written is committed at once by whoever writes it."""
    db = Database.open(path)

    async def run_and_end() -> None:
        async with trio.open_nursery() as nursery:
            await nursery.start(db.run)
            nursery.cancel_scope.cancel()

    trio.run(run_and_end)
    return db


class DurableMachine(RuleBasedStateMachine):
    """Jobs come, run and end; servers crash."""

    def __init__(self) -> None:
        super().__init__()
        self.now = 1_000_000
        self.folder = Path(tempfile.mkdtemp(prefix="minwebhook-machine-", dir=FAST))
        self.db = open_database(self.folder / "test.db")
        self.jobs: dict[UUID, Known] = {}
        self.keys: dict[str, tuple[UUID, bytes, int]] = {}
        self.ids = IdMaker()
        self.table = self.make_table()

    def teardown(self) -> None:
        self.db.close()
        shutil.rmtree(self.folder)

    def make_table(self) -> JobTable:
        self.store = JobStore(self.db)
        self.known_keys = IdempotencyKeys(self.db, header_names=("k",), ttl_s=TTL_MS / 1000, clock=lambda: self.now)
        table = JobTable(
            self.store,
            limits=QueueLimits(1000),
            slots=SLOTS,
            crash_attempts=CRASH_ATTEMPTS,
            clock=lambda: self.now,
        )
        # Jobs of one millisecond go by their ids: chance must not say which comes first, or an example does not repeat itself.
        table._ids = self.ids
        return table

    def spec(self, *, retries: bool) -> JobSpec:
        return job_spec(source=b"true", retry=RETRY if retries else None)

    def submit_one(self, spec: JobSpec, delay: int, key: IdempotencyKey | None = None) -> UUID:
        job = trio.run(lambda: self.table.submit(spec, scheduled_for_ms=self.now + delay, key=key))
        self.jobs[job.id] = Known("live")
        return job.id

    def live(self, *states: JobState) -> list[Job]:
        return [job for job in self.table.live("demo") if job.state in states]

    @rule(retries=st.booleans(), delay=st.sampled_from([0, 0, 500]))
    def submit(self, retries: bool, delay: int) -> None:
        self.submit_one(self.spec(retries=retries), delay)

    @rule(name=st.sampled_from(KEYS), body=st.sampled_from([b"1", b"2"]), delay=st.sampled_from([0, 500]))
    def submit_with_key(self, name: str, body: bytes, delay: int) -> None:
        key = self.known_keys.make(name, workspace="demo", runnable="x", email="e", fingerprint=body)
        before = self.keys.get(name)
        if before is not None and self.now < before[2]:
            if before[1] != body:
                with pytest.raises(KeyReused):
                    trio.run(lambda: self.known_keys.find(key))
            else:
                assert trio.run(lambda: self.known_keys.find(key)) == before[0]
            return
        assert trio.run(lambda: self.known_keys.find(key)) is None
        with self.known_keys.claim(key):
            job_id = self.submit_one(self.spec(retries=False), delay, key)
        self.keys[name] = (job_id, body, self.now + TTL_MS)

    @rule(passed=st.sampled_from([1, 400, 1500, 6000]))
    def time_passes(self, passed: int) -> None:
        self.now += passed
        self.table._dispatch(self.now)

    #: A run that was begun has a log, which here tells those runs apart.
    def running(self, data: st.DataObject, *, begun: bool) -> Job | None:
        found = [job for job in self.live(JobState.RUNNING) if bool(job.log) == begun]
        return data.draw(st.sampled_from(found)) if found else None

    @rule(data=st.data())
    def begin(self, data: st.DataObject) -> None:
        job = self.running(data, begun=False)
        if job is not None:
            trio.run(lambda: self.table.begin(job))
            self.jobs[job.id].begun += 1
            job.log = JobLog("", 100)

    @rule(data=st.data(), state=st.sampled_from([JobState.SUCCESS, JobState.FAILURE]))
    def finish(self, data: st.DataObject, state: JobState) -> None:
        job = self.running(data, begun=True)
        if job is not None:
            job.log = None
            self.table.finish(job, Outcome(state, b'"mine"'), 1)
            self.jobs[job.id].state = "unsaved"
            self.jobs[job.id].cancelled = False

    @rule(data=st.data())
    def retry(self, data: st.DataObject) -> None:
        job = self.running(data, begun=True)
        if job is not None and job.spec.retry is not None and job.failures < 2:
            job.log = None
            self.table.retry(job, 1000)
            self.jobs[job.id].begun -= 1  # it ended; those that a crash ended still count

    @rule(data=st.data())
    def cancel(self, data: st.DataObject) -> None:
        found = self.live(JobState.QUEUED)
        if found:
            job = data.draw(st.sampled_from(found))
            assert self.table.cancel(job, WHY)
            self.jobs[job.id].state, self.jobs[job.id].cancelled = "unsaved", True

    @rule()
    def save(self) -> None:
        trio.run(self.table._save_ended)
        for known in self.jobs.values():
            if known.state == "unsaved":
                known.state = "ended"

    @precondition(lambda self: self.jobs)
    @rule(closes=st.booleans())
    def crash(self, closes: bool) -> None:
        """The process is gone: its table with it. Either way the file is opened again."""
        if closes:
            self.db.close()
            self.db = open_database(self.folder / "test.db")
        self.table = self.make_table()
        restore_jobs(self.table, self.store, ScriptStore(self.db), self.now)
        for known in self.jobs.values():
            if known.state == "unsaved":  # its end was nobody's promise: it runs again
                known.state, known.cancelled = "live", False
            if known.state == "live" and known.begun >= CRASH_ATTEMPTS:
                known.state = "given up"

    @invariant()
    def every_acknowledged_job_is_what_it_was_told(self) -> None:
        rows = {UUID(bytes=row["id"]): row for row in self.db.read("SELECT * FROM job")}
        assert rows.keys() == self.jobs.keys()  # none unknown, none twice, none that nobody asked for
        live = {job.id for job in self.live(JobState.QUEUED, JobState.RUNNING)}
        for job_id, known in self.jobs.items():
            row = rows[job_id]
            assert (row["status"] == "queued") == (known.state in ("live", "unsaved")), known
            assert (job_id in live) == (known.state == "live"), known
            if known.state == "ended":
                assert (row["result"] == b'"mine"') == (not known.cancelled)
            elif known.state == "given up":
                assert (row["status"], row["dead"]) == ("failure", 1)
                assert b"the server died while the job ran" in row["result"]
        assert len(self.live(JobState.RUNNING)) <= SLOTS
        for name, (job_id, _, expires) in self.keys.items():
            if self.now < expires:
                assert job_id in rows, name


DurableMachine.TestCase.settings = settings(max_examples=80, stateful_step_count=40, deadline=None)
TestDurable = DurableMachine.TestCase


def test_tokens_take_turns_after_a_restart_too(tmp_path: Path) -> None:
    db = open_database(tmp_path / "test.db")
    store = JobStore(db)

    def make_table() -> JobTable:
        return JobTable(store, limits=QueueLimits(100), slots=1, clock=lambda: 1_000_000)

    async def submit(table: JobTable) -> list[UUID]:
        noisy = [await table.submit(job_spec(source=b"true", email="same", owner="noisy")) for _ in range(5)]
        quiet = await table.submit(job_spec(source=b"true", email="same", owner="quiet"))
        return [noisy[0].id, quiet.id, noisy[1].id]

    wanted = trio.run(submit, make_table())
    table = make_table()
    restore_jobs(table, store, ScriptStore(db), 1_000_000)
    for job_id in wanted:
        [running] = [job for job in table.live(None) if job.state is JobState.RUNNING]
        assert running.id == job_id
        table.finish(running, Outcome(JobState.SUCCESS, b"1"), 1)
    db.close()


def test_a_queued_job_takes_less_than_a_kilobyte(tmp_path: Path) -> None:
    db = open_database(tmp_path / "test.db")
    table = JobTable(JobStore(db), limits=QueueLimits(10_000), slots=1, clock=lambda: 1_000_000)
    spec = job_spec(source=b"true")
    spec.template = job_spec(source=b"true")

    async def submit(number: int) -> None:
        for _ in range(number):
            mine = replace(spec, arguments=b'{"a": 1, "b": "hello"}')
            mine.template = spec.template
            await table.submit(mine, scheduled_for_ms=2_000_000)

    trio.run(submit, 500)
    tracemalloc.start()
    trio.run(submit, 1000)
    taken, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert taken / 1000 < 1024
    db.close()
