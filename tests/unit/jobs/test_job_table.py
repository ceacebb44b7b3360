"""The job table against a plain dictionary: random walks, and the corners that a walk does not find."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import replace
from typing import Any, cast
from uuid import UUID

import pytest
import trio
import trio.testing
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, consumes, initialize, invariant, precondition, rule

from minwebhook.errors import BadRequest, Unavailable
from minwebhook.jobs.model import (
    TRANSITIONS,
    Cancellation,
    IllegalTransition,
    Job,
    JobEvent,
    JobSpec,
    JobState,
    Outcome,
    next_state,
)
from minwebhook.jobs.pressure import QueueLimits
from minwebhook.jobs.queue import JobQueue
from minwebhook.jobs.store import JobStore
from minwebhook.jobs.table import JobTable
from tests.jobs import job_spec

MAX_QUEUED = 5
OUTCOME = Outcome(JobState.SUCCESS, b"1")


def spec(priority: int | None = None, workspace: str = "demo") -> JobSpec:
    return job_spec(workspace=workspace, priority=priority)


class MemoryStore:
    """What the table needs of a store, in memory. ``refuses`` makes the next insert fail."""

    def __init__(self) -> None:
        self.rows: dict[UUID, str] = {}
        #: What is known of begun and failed runs.
        self.attempts: dict[UUID, tuple[int, int]] = {}
        self.refuses = False

    async def insert(self, job: Job, key: object = None, revives: object = None) -> None:
        await trio.lowlevel.checkpoint()
        if self.refuses:
            raise Unavailable("the disk is full")
        if job.id in self.rows:
            raise BadRequest("exists already")
        self.rows[job.id] = "queued"
        job.is_stored = True

    def note_attempt(self, job: Job) -> None:
        self.attempts[job.id] = (job.attempts, job.failures)

    async def note_last_attempt(self, job: Job) -> None:
        await trio.lowlevel.checkpoint()
        self.note_attempt(job)

    async def save(self, jobs: Sequence[Job], *, is_durable: bool = True) -> None:
        await trio.lowlevel.checkpoint()
        for job in jobs:
            self.rows[job.id] = job.state.value

    async def save_alone(self, job: Job) -> None:
        await self.save([job])

    async def sync(self) -> None:
        await trio.lowlevel.checkpoint()

    def exists(self, job_id: UUID) -> bool:
        return job_id in self.rows


def make_table(store: MemoryStore, **more: Any) -> JobTable:
    return JobTable(cast(JobStore, store), **{"limits": QueueLimits(MAX_QUEUED), **more})


SLOTS = 2


class TableMachine(RuleBasedStateMachine):
    """Submits, ends, cancels and requeues at random; the model is a dictionary."""

    ids = Bundle("ids")

    @initialize()
    def start(self) -> None:
        self.now = 1000
        self.store = MemoryStore()
        self.table = make_table(self.store, slots=SLOTS, clock=lambda: self.now)
        self.model: dict[UUID, str] = {}
        self.jobs: dict[UUID, Job] = {}
        #: In the order in which they start: (-priority, due, arrival).
        self.turn: dict[UUID, tuple[int, int, int]] = {}
        self.arrivals = 0
        self.stopped = False
        #: Running jobs that were given to a process.
        self.begun: set[UUID] = set()
        #: Jobs that no table knows any more: sync ones of a dead server, and those that crashed too often.
        self.gone: set[UUID] = set()
        #: Async jobs that started, in order, for workers.
        self.for_workers: list[UUID] = []
        #: Jobs whose callers wait and run them.
        self.with_caller: set[UUID] = set()

    def in_state(self, *states: str) -> list[UUID]:
        return [job_id for job_id, state in self.model.items() if state in states]

    def queue(self, job: Job) -> None:
        self.put_in_line(job)
        self.dispatch()

    def put_in_line(self, job: Job) -> None:
        self.jobs[job.id] = job
        self.model[job.id] = "queued"
        self.turn[job.id] = (-(job.spec.priority or 0), job.scheduled_for_ms, self.arrivals)
        self.arrivals += 1

    def dispatch(self) -> None:
        while not self.stopped and len(self.in_state("running")) < SLOTS:
            due = [job_id for job_id in self.in_state("queued") if self.turn[job_id][1] <= self.now]
            if not due:
                return
            first = min(due, key=lambda job_id: self.turn[job_id])
            self.model[first] = "running"
            if first not in self.with_caller:
                self.for_workers.append(first)

    def is_full(self) -> bool:
        return len(self.in_state("queued")) >= MAX_QUEUED

    @precondition(lambda self: not self.stopped)
    @rule(target=ids, priority=st.sampled_from([None, -1, 0, 3]), delay=st.sampled_from([None, -5, 0, 10, 1000]))
    def submit_durably(self, priority: int | None, delay: int | None) -> UUID | None:
        scheduled = None if delay is None else self.now + delay
        full = self.is_full()
        try:
            job = trio.run(lambda: self.table.submit(spec(priority), scheduled_for_ms=scheduled))
        except Unavailable:
            assert full
            return None
        assert not full
        assert self.store.rows[job.id] == "queued"
        self.queue(job)
        return job.id

    @precondition(lambda self: not self.stopped)
    @rule(target=ids, priority=st.sampled_from([None, 2]))
    def submit_for_a_waiting_caller(self, priority: int | None) -> UUID | None:
        full = self.is_full()
        try:
            job = self.table.submit_sync(spec(priority))
        except Unavailable:
            assert full
            return None
        assert not full
        assert job.id not in self.store.rows
        self.with_caller.add(job.id)
        self.queue(job)
        return job.id

    @precondition(lambda self: not self.stopped)
    @rule(job_id=ids)
    def an_id_is_used_once(self, job_id: UUID | None) -> None:
        if job_id is None or job_id in self.gone or self.is_full():
            return
        with pytest.raises(BadRequest):
            trio.run(lambda: self.table.submit(spec(), job_id=job_id))
        with pytest.raises(BadRequest):
            self.table.submit_sync(spec(), job_id=job_id)

    @rule()
    def a_submission_that_cannot_be_stored_leaves_nothing(self) -> None:
        if self.is_full():
            return
        self.store.refuses = True
        job_id = UUID(int=1)
        with pytest.raises(Unavailable):
            trio.run(lambda: self.table.submit(spec(), job_id=job_id))
        self.store.refuses = False
        assert self.table.get(job_id) is None

    @rule(passed=st.integers(0, 1500))
    def time_passes(self, passed: int) -> None:
        self.now += passed
        self.table._dispatch(self.now)  # what run_clock does at the due time
        self.dispatch()

    @precondition(lambda self: self.for_workers)
    @rule()
    def a_worker_takes(self) -> None:
        job = trio.run(self.table.take)
        assert job.id == self.for_workers.pop(0)
        assert job.started_at_ms is not None

    @precondition(lambda self: self.in_state("running"))
    @rule(data=st.data(), state=st.sampled_from([JobState.SUCCESS, JobState.FAILURE, JobState.CANCELED]))
    def finish(self, data: st.DataObject, state: JobState) -> None:
        running = [job_id for job_id in self.in_state("running") if job_id not in self.for_workers]
        if not running:
            return
        job = self.jobs[data.draw(st.sampled_from(running))]
        self.table.finish(job, Outcome(state, b"1"), 7)
        self.model[job.id] = state.value
        self.dispatch()
        assert (job.completed_at_ms, job.duration_ms) == (self.now, 7)

    @precondition(lambda self: self.in_state("running"))
    @rule(data=st.data())
    def requeue(self, data: st.DataObject) -> None:
        """Happens at the end of the server only, and to async jobs only."""
        running = [
            job_id
            for job_id in self.in_state("running")
            if job_id not in self.for_workers and job_id not in self.with_caller
        ]
        if not running:
            return
        self.table.stop_starting()
        self.stopped = True
        for job_id in self.in_state("queued"):  # callers are told at once
            if job_id in self.with_caller:
                self.model[job_id] = "canceled"
        job = self.jobs[data.draw(st.sampled_from(running))]
        self.table.requeue(job)
        self.queue(job)
        assert job.started_at_ms is None

    @precondition(lambda self: self.in_state("running"))
    @rule(data=st.data())
    def begin(self, data: st.DataObject) -> None:
        """The executor gives a job to a process."""
        running = [job_id for job_id in self.in_state("running") if job_id not in (*self.for_workers, *self.begun)]
        if running:
            job_id = data.draw(st.sampled_from(running))
            trio.run(self.table.begin, self.jobs[job_id])
            self.begun.add(job_id)

    @precondition(lambda self: self.begun)
    @rule(data=st.data(), pause=st.sampled_from([0, 10, 1000]))
    def retry(self, data: st.DataObject, pause: int) -> None:
        """A run failed, and there will be another one."""
        running = sorted(job_id for job_id in self.begun if self.model[job_id] == "running")
        if not running or self.stopped:
            return
        job = self.jobs[data.draw(st.sampled_from(running))]
        self.table.retry(job, pause)
        self.begun.discard(job.id)
        assert job.scheduled_for_ms == self.now + pause
        self.queue(job)
        if job.is_stored:
            assert self.store.attempts[job.id] == (job.attempts, job.failures)

    @rule()
    def crash(self) -> None:
        """The server dies and starts again: what is not on disk is gone, what is and has not ended runs again."""
        self.table = make_table(self.store, slots=SLOTS, clock=lambda: self.now)
        self.stopped = False
        self.for_workers.clear()
        stored = {job_id for job_id, state in self.store.rows.items() if state == "queued"}
        for job_id in list(self.model):
            if job_id not in stored and job_id not in self.store.rows:
                del self.model[job_id], self.jobs[job_id]
                self.gone.add(job_id)
        for job_id in sorted(stored):
            old = self.jobs[job_id]
            attempts, failures = self.store.attempts.get(job_id, (0, 0))
            job = self.table.restore(
                job_id, old.spec, old.created_at_ms, old.scheduled_for_ms, attempts=attempts, failures=failures
            )
            assert (job is None) == (attempts - failures >= 3)
            if job is None:
                self.store.rows[job_id] = "failure"  # what the caller of restore() does
                del self.model[job_id], self.jobs[job_id]
                self.gone.add(job_id)
            else:
                self.put_in_line(job)
        self.table.start_restored()
        self.dispatch()
        self.begun.clear()

    @rule(job_id=ids)
    def cancel(self, job_id: UUID | None) -> None:
        if job_id is None or job_id in self.gone:
            return
        job, before = self.jobs[job_id], self.model[job_id]
        stops: list[int] = []
        job.stop = lambda: stops.append(1)
        was_asked = job.cancellation is not None
        accepted = self.table.cancel(job, Cancellation("me", "why"))
        assert accepted == (before in ("queued", "running"))
        if before == "queued" and not was_asked:
            self.model[job_id] = "canceled"
            assert job.outcome is not None
            assert json.loads(job.outcome.result)["error"]["name"] == "Canceled"
        assert stops == ([1] if before == "running" and not was_asked else [])

    @rule()
    def save(self) -> None:
        trio.run(self.table._save_ended)
        for job_id in self.in_state("success", "failure", "canceled"):
            assert self.store.rows[job_id] == self.model[job_id]
            assert self.table.get(job_id) is None

    @rule(job_id=consumes(ids))
    def an_ended_job_does_not_change(self, job_id: UUID | None) -> None:
        if job_id is not None and job_id not in self.gone and self.jobs[job_id].state.is_final:
            for outcome in (OUTCOME, Outcome(JobState.CANCELED, b"1")):
                with pytest.raises(IllegalTransition):
                    self.table.finish(self.jobs[job_id], outcome, 0)
            with pytest.raises(IllegalTransition):
                self.table.requeue(self.jobs[job_id])

    @invariant()
    def agrees_with_the_model(self) -> None:
        assert {job_id: job.state.value for job_id, job in self.jobs.items()} == self.model
        assert self.table.queued_count == len(self.in_state("queued"))
        assert self.table.running_count == len(self.in_state("running")) <= SLOTS
        live = {job.id for job in self.table.live("demo")}
        assert set(self.in_state("queued", "running")) <= live
        assert not list(self.table.live("other"))


TableMachine.TestCase.settings = settings(max_examples=150, stateful_step_count=40, deadline=None)
TestTable = TableMachine.TestCase


# --- the states as a table ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("state", JobState)
@pytest.mark.parametrize("event", JobEvent)
def test_what_is_not_in_the_table_does_not_happen(state: JobState, event: JobEvent) -> None:
    if (state, event) in TRANSITIONS:
        assert next_state(state, event) is TRANSITIONS[state, event]
        assert not state.is_final
    else:
        with pytest.raises(IllegalTransition, match=f"{event.value} is not possible in state {state.value}"):
            next_state(state, event)


# --- waiting ------------------------------------------------------------------------------------------------------------


async def test_a_caller_waits_for_the_turn_of_its_job(autojump_clock: trio.testing.MockClock) -> None:
    table = make_table(MemoryStore(), slots=1)
    first = table.submit_sync(spec())
    assert await table.turn(first)
    second, third = table.submit_sync(spec()), table.submit_sync(spec())
    turns: dict[UUID, bool] = {}

    async def wait(job: Job) -> None:
        turns[job.id] = await table.turn(job)

    async with trio.open_nursery() as nursery:
        nursery.start_soon(wait, second)
        nursery.start_soon(wait, third)
        await trio.testing.wait_all_tasks_blocked()
        assert turns == {}
        assert table.cancel(third, Cancellation("me", "why"))
        await trio.testing.wait_all_tasks_blocked()
        assert turns == {third.id: False}
        table.finish(first, OUTCOME, 0)
    assert turns == {third.id: False, second.id: True}


async def test_a_caller_that_is_cut_off_takes_its_queued_job_with_it(autojump_clock: trio.testing.MockClock) -> None:
    table = make_table(MemoryStore(), slots=1)
    running, queued = table.submit_sync(spec()), table.submit_sync(spec())
    with trio.move_on_after(1):
        await table.turn(queued)
    assert queued.state is JobState.CANCELED
    assert (running.state, table.queued_count, table.running_count) == (JobState.RUNNING, 0, 1)


async def test_a_worker_waits_for_a_job(autojump_clock: trio.testing.MockClock) -> None:
    table = make_table(MemoryStore())
    async with trio.open_nursery() as nursery:
        taken: list[Job] = []

        async def work() -> None:
            taken.append(await table.take())

        nursery.start_soon(work)
        await trio.testing.wait_all_tasks_blocked()
        job = await table.submit(spec())
        await trio.testing.wait_all_tasks_blocked()
        assert taken == [job]


@pytest.mark.parametrize("count", [1, 2, 3, 8])
async def test_jobs_of_one_due_time_wake_one_worker_each(autojump_clock: trio.testing.MockClock, count: int) -> None:
    table = make_table(MemoryStore(), limits=QueueLimits(100), clock=lambda: int(trio.current_time() * 1000))
    due = int(trio.current_time() * 1000) + 60_000
    started: list[Job] = []

    async def work() -> None:
        started.append(await table.take())

    async with trio.open_nursery() as nursery:
        nursery.start_soon(table.run_clock)
        for _ in range(count):
            nursery.start_soon(work)
        jobs = [await table.submit(spec(), scheduled_for_ms=due) for _ in range(count)]
        await trio.sleep(59)
        assert started == []
        await trio.sleep(2)
        assert set(started) == set(jobs)
        nursery.cancel_scope.cancel()


async def test_a_job_that_is_due_earlier_than_all_others_is_in_time(autojump_clock: trio.testing.MockClock) -> None:
    table = make_table(MemoryStore(), clock=lambda: int(trio.current_time() * 1000))
    now = int(trio.current_time() * 1000)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(table.run_clock)
        await table.submit(spec(), scheduled_for_ms=now + 100_000)
        await trio.testing.wait_all_tasks_blocked()
        soon = await table.submit(spec(), scheduled_for_ms=now + 5_000)
        with trio.fail_after(6):
            assert await table.take() is soon
        nursery.cancel_scope.cancel()


@pytest.mark.parametrize("why", ["no slot is free", "the server stops"])
async def test_the_clock_rests_while_a_due_job_cannot_start(autojump_clock: trio.testing.MockClock, why: str) -> None:
    looked = 0

    def clock() -> int:
        nonlocal looked
        looked += 1
        if looked > 1000:
            raise AssertionError("the clock does not rest")
        return int(trio.current_time() * 1000)

    table = make_table(MemoryStore(), slots=1, clock=clock)
    running = table.submit_sync(spec())
    assert running.state is JobState.RUNNING
    await table.submit(spec(), scheduled_for_ms=clock() + 1000)
    if why == "the server stops":
        table.finish(running, OUTCOME, 0)
        table.stop_starting()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(table.run_clock)
        await trio.sleep(10)
        nursery.cancel_scope.cancel()


async def test_after_stop_starting_nothing_starts(autojump_clock: trio.testing.MockClock) -> None:
    table = make_table(MemoryStore(), slots=1)
    running = table.submit_sync(spec())
    assert await table.turn(running)
    queued = await table.submit(spec())
    waiting = table.submit_sync(spec())
    table.stop_starting()
    assert not await table.turn(waiting)
    with pytest.raises(Unavailable, match="the server stops"):
        table.submit_sync(spec())
    with pytest.raises(Unavailable, match="the server stops"):
        await table.submit(spec())
    with trio.move_on_after(10) as scope:
        await table.take()
    assert scope.cancelled_caught
    with trio.move_on_after(10) as scope:
        await table.wait_until_nothing_runs()
    assert scope.cancelled_caught
    table.finish(running, OUTCOME, 0)
    await table.wait_until_nothing_runs()
    assert queued.state is JobState.QUEUED


async def test_nobody_sees_a_job_before_it_is_stored(autojump_clock: trio.testing.MockClock) -> None:
    gate = trio.Event()

    class SlowStore(MemoryStore):
        async def insert(self, job: Job, key: object = None, revives: object = None) -> None:
            await gate.wait()
            await super().insert(job)

    table = make_table(SlowStore())
    job_id = UUID(int=7)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(lambda: table.submit(spec(), job_id=job_id))
        await trio.testing.wait_all_tasks_blocked()
        assert table.get(job_id) is None
        with pytest.raises(BadRequest, match="exists already"):
            table.submit_sync(spec(), job_id=job_id)
        gate.set()
    assert (await table.take()).id == job_id


async def test_results_survive_a_full_disk_and_the_end_of_the_saver(autojump_clock: trio.testing.MockClock) -> None:
    class FullStore(MemoryStore):
        tries = 0

        async def save(self, jobs: Sequence[Job], *, is_durable: bool = True) -> None:
            self.tries += 1
            if self.tries < 3:
                raise Unavailable("the disk is full")
            await super().save(jobs, is_durable=is_durable)

    store = FullStore()
    table = make_table(store)
    job = table.submit_sync(spec())
    async with trio.open_nursery() as nursery:
        nursery.start_soon(table.run_saver)
        table.finish(job, OUTCOME, 0)
        await trio.sleep(1)
        assert table.get(job.id) is job
        await trio.sleep(10)
        assert table.get(job.id) is None
        assert store.rows == {job.id: "success"}
        late = table.submit_sync(spec())
        table.finish(late, OUTCOME, 0)
        nursery.cancel_scope.cancel()
    assert store.rows[late.id] == "success"


async def test_what_has_ended_is_soon_on_disk_however_much_it_is(autojump_clock: trio.testing.MockClock) -> None:
    store = MemoryStore()
    table = make_table(store, slots=1000)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(table.run_saver)
        for _ in range(1000):
            table.finish(table.submit_sync(spec()), OUTCOME, 0)
        await trio.sleep(0.1)
        assert table.unsaved_count == 0
        assert len(store.rows) == 1000
        nursery.cancel_scope.cancel()


# --- families -----------------------------------------------------------------------------------------------------------


def child(parent: UUID | None, workspace: str = "demo") -> JobSpec:
    return replace(spec(workspace=workspace), parent_job=parent)


async def test_the_children_of_a_cancelled_job_go_with_it() -> None:
    table = make_table(MemoryStore(), slots=2, limits=QueueLimits(100))
    parent = table.submit_sync(spec())
    running = await table.submit(child(parent.id))
    queued = await table.submit(child(parent.id))
    grandchild = table.submit_sync(child(queued.id))
    stranger = await table.submit(spec())
    elsewhere = await table.submit(child(parent.id, "other"))
    ended = await table.submit(child(parent.id))
    table.cancel(ended, Cancellation("she", "before"))
    stopped: list[Job] = []
    for job in (parent, running):
        job.stop = lambda job=job: stopped.append(job)
    why = Cancellation("me", "why")
    assert table.cancel(parent, why)
    assert stopped == [parent, running]
    assert (parent.state, parent.cancellation, running.cancellation) == (JobState.RUNNING, why, why)
    for job in (queued, grandchild):
        assert job.state is JobState.CANCELED
        assert job.outcome is not None
        assert job.outcome.cancellation is why
    assert {job.state for job in (stranger, elsewhere)} == {JobState.QUEUED}
    assert ended.outcome is not None
    assert ended.outcome.cancellation == Cancellation("she", "before")
    assert table.cancel(parent, why)  # again: nothing more
    assert stopped == [parent, running]


async def test_families_that_callers_make_up_end_all_the_same() -> None:
    """Ids are chosen by callers: a job that is its own parent, two that are each other's, and a very long line."""
    table = make_table(MemoryStore(), slots=1, limits=QueueLimits(100_000))
    table.submit_sync(spec())
    ids = [UUID(int=number) for number in range(1, 4)]
    own = table.submit_sync(child(ids[0]), job_id=ids[0])
    first = table.submit_sync(child(ids[2]), job_id=ids[1])
    second = table.submit_sync(child(ids[1]), job_id=ids[2])
    for job in (own, first):
        assert table.cancel(job, Cancellation("me", "why"))
    assert {job.state for job in (own, first, second)} == {JobState.CANCELED}
    line = [table.submit_sync(spec())]
    for _ in range(5000):
        line.append(table.submit_sync(child(line[-1].id)))
    assert table.cancel(line[0], Cancellation("me", "why"))
    assert {job.state for job in line} == {JobState.CANCELED}
    while table._ended:
        await table._save_ended()
    assert table._children == {}


def test_the_queue_skips_what_was_cancelled_and_forgets_it() -> None:
    queue = JobQueue()
    jobs = [Job(UUID(int=n), spec(), 0, n * 10) for n in range(4)]
    for job in jobs:
        queue.push(job, 5)
    assert queue.next_due_ms() == 10
    jobs[1].state = JobState.CANCELED
    assert queue.next_due_ms() == 20
    assert queue.pop(0) is jobs[0]
    assert queue.pop(5) is None
    assert queue.pop(25) is jobs[2]
    assert queue.pop(25) is None
    assert queue.pop(30) is jobs[3]
    assert queue.next_due_ms() == math.inf


async def test_a_job_that_is_tried_again_goes_before_those_of_lower_priority() -> None:
    table = make_table(MemoryStore(), slots=1)
    urgent = await table.submit(spec(9))
    usual = await table.submit(spec(0))
    assert await table.take() is urgent
    table.retry(urgent, 0)
    assert (urgent.state, usual.state) == (JobState.RUNNING, JobState.QUEUED)
