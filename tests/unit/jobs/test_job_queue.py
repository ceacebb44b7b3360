"""The order of jobs: random walks against what must hold, and the corners."""

from __future__ import annotations

from uuid import UUID

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from minwebhook.jobs.model import Concurrency, Job, JobState
from minwebhook.jobs.queue import JobQueue, _Key
from tests.jobs import job_spec

WINDOW_MS = 100
#: Each key has one limit; "b" also counts what ended lately.
LIMITS = {"a": Concurrency("a", 1), "b": Concurrency("b", 2, WINDOW_MS), "c": Concurrency("c", 3)}


def make_job(number: int, *, owner: str = "", priority: int | None = None, key: str = "", due_ms: int = 0) -> Job:
    spec = job_spec(priority=priority, concurrency=LIMITS.get(key), owner=owner)
    return Job(UUID(int=number), spec, 0, due_ms)


class QueueMachine(RuleBasedStateMachine):
    """Jobs come, start, end and are cancelled."""

    def __init__(self) -> None:
        super().__init__()
        self.queue = JobQueue()
        self.now = 1000
        self.waiting: list[Job] = []
        self.running: list[Job] = []
        self.ended: list[tuple[str, int]] = []
        self.arrival: dict[UUID, int] = {}

    def places(self, key: str) -> int:
        limit = LIMITS[key]
        running = sum(job.spec.concurrency == limit for job in self.running)
        lately = sum(name == key and at > self.now - limit.window_ms for name, at in self.ended)
        return limit.limit - running - lately

    def may_start(self, job: Job) -> bool:
        limit = job.spec.concurrency
        return job.scheduled_for_ms <= self.now and (limit is None or self.places(limit.key) > 0)

    @rule(
        owner=st.sampled_from("xyz"),
        priority=st.sampled_from([None, 0, 5]),
        key=st.sampled_from(["", "a", "b", "c"]),
        delay=st.sampled_from([-3, 0, 0, 0, 50]),
    )
    def push(self, owner: str, priority: int | None, key: str, delay: int) -> None:
        number = len(self.arrival)
        job = make_job(number, owner=owner, priority=priority, key=key, due_ms=self.now + delay)
        self.arrival[job.id] = number
        self.waiting.append(job)
        self.queue.push(job, self.now)

    @rule()
    def pop(self) -> None:
        able = [job for job in self.waiting if self.may_start(job)]
        job = self.queue.pop(self.now)
        if job is None:
            assert not able
            return
        assert job in able
        assert (job.spec.priority or 0) == max(other.spec.priority or 0 for other in able)
        same = [other for other in able if (other.spec.priority or 0) == (job.spec.priority or 0)]
        for other in same:
            if other.spec.owner == job.spec.owner and other.spec.concurrency == job.spec.concurrency:
                assert self.place(job) <= self.place(other)
        self.waiting.remove(job)
        job.state = JobState.RUNNING
        self.running.append(job)

    def place(self, job: Job) -> tuple[int, int]:
        return job.scheduled_for_ms, self.arrival[job.id]

    @precondition(lambda self: self.running)
    @rule(data=st.data())
    def end(self, data: st.DataObject) -> None:
        job = data.draw(st.sampled_from(self.running))
        self.running.remove(job)
        job.state = JobState.SUCCESS
        self.queue.end(job, self.now)
        if (limit := job.spec.concurrency) is not None:
            self.ended.append((limit.key, self.now))

    @precondition(lambda self: self.waiting)
    @rule(data=st.data())
    def cancel(self, data: st.DataObject) -> None:
        job = data.draw(st.sampled_from(self.waiting))
        self.waiting.remove(job)
        job.state = JobState.CANCELED

    @rule(passed=st.sampled_from([1, 49, 50, 99, 100, 101]))
    def time_passes(self, passed: int) -> None:
        self.now += passed

    @precondition(lambda self: self.waiting)
    @rule()
    def restart(self) -> None:
        """A new queue hears of what is queued, and of what has ended; what ran is queued again."""
        self.queue = JobQueue()
        for key, at in self.ended:
            if LIMITS[key].window_ms:
                self.queue.count_ended(LIMITS[key], at, self.now)
        for job in self.running:
            job.state = JobState.QUEUED
        self.waiting, self.running = sorted([*self.waiting, *self.running], key=self.place), []
        for number, job in enumerate(self.waiting):
            self.arrival[job.id] = number - 1_000_000
            self.queue.push(job, self.now)

    @rule()
    def who_sleeps_until_the_next_due_time_misses_nothing(self) -> None:
        if any(self.may_start(job) for job in self.waiting):
            return
        assert self.queue.pop(self.now) is None
        due = self.queue.next_due_ms()
        for job in self.waiting:
            if self.waits_for_the_time_alone(job):
                assert due <= self.first_time(job)

    def waits_for_the_time_alone(self, job: Job) -> bool:
        limit = job.spec.concurrency
        return limit is None or limit.limit > sum(other.spec.concurrency == limit for other in self.running)

    def first_time(self, job: Job) -> int:
        now = self.now
        while not self.may_start(job):
            self.now += 1
        first, self.now = self.now, now
        return first

    @invariant()
    def no_limit_is_exceeded(self) -> None:
        for limit in LIMITS.values():
            assert sum(job.spec.concurrency == limit for job in self.running) <= limit.limit


QueueMachine.TestCase.settings = settings(max_examples=300, stateful_step_count=50, deadline=None)
TestQueue = QueueMachine.TestCase


def test_owners_take_turns() -> None:
    queue = JobQueue()
    for number in range(100):
        queue.push(make_job(number, owner="noisy"), 0)
    quiet = [make_job(200 + number, owner="quiet") for number in range(3)]
    for job in quiet:
        queue.push(job, 0)
    served = [queue.pop(0) for _ in range(6)]
    assert [job for job in served if job in quiet] == quiet


def test_a_job_over_its_limit_does_not_hold_up_the_others_and_keeps_its_place() -> None:
    queue = JobQueue()
    first, second, other, third = (make_job(number, key=key) for number, key in enumerate(["a", "a", "", "a"]))
    for job in (first, second, other, third):
        queue.push(job, 0)
    assert [queue.pop(0), queue.pop(0), queue.pop(0)] == [first, other, None]
    queue.end(first, 5)
    assert [queue.pop(5), queue.pop(5)] == [second, None]
    queue.end(second, 9)
    assert queue.pop(9) is third


def test_a_place_is_not_lost_with_a_job_that_is_cancelled() -> None:
    queue = JobQueue()
    first, second, third = (make_job(number, key="a") for number in range(3))
    for job in (first, second, third):
        queue.push(job, 0)
    assert [queue.pop(0), queue.pop(0)] == [first, None]
    queue.end(first, 1)
    second.state = JobState.CANCELED  # the place is free for it, and it does not come
    assert queue.pop(1) is third


def test_of_those_who_wait_for_a_place_the_higher_priority_gets_it() -> None:
    queue = JobQueue()
    first, low, high = (make_job(number, key="a", priority=priority) for number, priority in enumerate([9, 0, 5]))
    for job in (first, low, high):
        queue.push(job, 0)
    assert [queue.pop(0), queue.pop(0)] == [first, None]
    queue.end(first, 1)
    assert queue.pop(1) is high


def test_a_clock_set_back_does_not_close_a_window_for_ever() -> None:
    queue = JobQueue()
    jobs = [make_job(number, key="b") for number in range(3)]
    for job in jobs:
        queue.push(job, 1_000_000)
    assert [queue.pop(1_000_000), queue.pop(1_000_000)] == jobs[:2]
    for job in jobs[:2]:
        queue.end(job, 1_000_000)
    assert queue.pop(1_000_000) is None
    assert queue.pop(1000) is jobs[2]


def test_keys_that_nobody_uses_are_forgotten() -> None:
    queue = JobQueue()
    for number in range(5000):
        job = make_job(number)
        job.spec.concurrency = Concurrency(f"key {number}", 1, 10)
        queue.push(job, number)
        assert queue.pop(number) is job
        queue.end(job, number)
    assert len(queue._keys) < 2100


def test_of_many_keys_with_windows_only_those_that_may_have_room_are_looked_at(monkeypatch: pytest.MonkeyPatch) -> None:
    queue, count = JobQueue(), 1000
    for number in range(count):
        limit = Concurrency(f"key-{number}", 1, WINDOW_MS * count)
        spec = job_spec(concurrency=limit)
        queue.count_ended(limit, number, number)
        queue.push(Job(UUID(int=number), spec, 0, number), number)
        assert queue.pop(number) is None
    looked_at: list[object] = []
    places = _Key.places

    def noted(key: _Key, limit: Concurrency, now_ms: int) -> int:
        looked_at.append(key)
        return places(key, limit, now_ms)

    monkeypatch.setattr(_Key, "places", noted)
    for number in range(count):
        now = WINDOW_MS * count + number
        assert queue.next_due_ms() == now
        job = queue.pop(now)
        assert job is not None
        assert job.id == UUID(int=number)
        job.state = JobState.RUNNING
        assert queue.pop(now) is None
    assert len(looked_at) <= 3 * count
