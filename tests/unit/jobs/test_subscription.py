"""Readers of jobs: however the output comes and wherever they are cut off, what they read is the output, once."""

from __future__ import annotations

from typing import cast
from uuid import UUID

import pytest
import trio
import trio.testing
from hypothesis import given
from hypothesis import strategies as st

from minwebhook.errors import NotFound, Unavailable
from minwebhook.jobs.log import JobLog
from minwebhook.jobs.model import Job, JobState, Outcome
from minwebhook.jobs.record import JobRecord
from minwebhook.jobs.store import JobStore
from minwebhook.jobs.subscription import FIRST_PIECE_BYTES, PIECE_BYTES, Position, Progress, Subscription, Wants
from minwebhook.jobs.table import JobTable
from minwebhook.jobs.watch import Watchers
from tests.jobs import job_spec

ID = UUID(int=1)
BANNER = "--- CODE EXECUTION ---\n"
START = Position()
SPEC = job_spec()


class Jobs:
    """What a subscription sees of the table and of the store: one job, live or stored."""

    def __init__(self) -> None:
        self.watchers = Watchers()
        self.is_stopping = False
        self.job: Job | None = Job(ID, SPEC, 0, 0)
        self.log = JobLog(BANNER, 1 << 30)
        self.record: JobRecord | None = None

    def start(self) -> None:
        assert self.job is not None
        self.job.state, self.job.log = JobState.RUNNING, self.log
        self.watchers.tell(ID)

    def write(self, data: bytes) -> None:
        self.log.write(data)
        self.watchers.tell(ID)

    def end(self) -> None:
        assert self.job is not None
        self.job.state, self.job.outcome = JobState.SUCCESS, Outcome(JobState.SUCCESS, b"1")
        self.log.close()
        self.watchers.tell(ID)

    def save(self) -> None:
        assert self.job is not None
        self.record, self.job = JobRecord.of(self.job), None

    # the table
    def live(self, job_id: UUID) -> Job | None:
        return self.job

    # the store
    def stored(self, workspace: str, job_id: UUID) -> JobRecord | None:
        return self.record

    def output(self, job_id: UUID) -> JobLog:
        assert self.job is None
        return self.log

    def subscribe(self, position: Position = START, *, wants_log: bool = True) -> Subscription:
        class Table:
            watchers, get = self.watchers, self.live
            is_stopping = property(lambda _: self.is_stopping)

        class Store:
            get, output = self.stored, self.output

        table, store = cast(JobTable, Table()), cast(JobStore, Store())
        return Subscription(table, store, "demo", ID, position, Wants(log=wants_log))


class Reader:
    """Someone who reads, and comes back after a cut with the last position."""

    def __init__(self, jobs: Jobs) -> None:
        self.jobs = jobs
        self.log = self.stream = ""
        self.position = Position()
        self.ended: JobRecord | None = None
        self.connect()

    def connect(self) -> None:
        self.subscription = self.jobs.subscribe(self.position)

    def read(self) -> Progress | None:
        progress = self.subscription.read()
        if progress is not None:
            assert self.ended is None, "nothing comes after the end"
            self.log += progress.log
            self.stream += progress.stream or ""
            assert progress.position.log == len(self.log)
            assert progress.position.stream >= self.position.stream
            self.position, self.ended = progress.position, progress.ended
            assert progress.has_more or self.subscription.read() is None
        return progress


pieces = st.lists(
    st.sampled_from(
        [b"a", "é😀".encode(), b"\xf0\x9f", b"\xff", b"\n", b"\0", b"WM_STREAM: ", b"\nWM_STREAM: x\n", b"\nWM_STREAM: \n",
         b"WM_STREAM: ab\\nc\xc3\n", b"y" * 700, b"\nWM_STREAM: " + b"z" * 700 + b"\n"]
    ),
    max_size=25,
)  # fmt: skip
#: What happens between two pieces: reading, a cut, nothing.
moves = st.lists(st.sampled_from(["read", "read", "cut", ""]), min_size=30, max_size=60)


@given(pieces, moves, st.booleans())
def test_cuts_anywhere_leave_no_gap_and_no_repeat(written: list[bytes], moves: list[str], is_saved: bool) -> None:
    jobs = Jobs()
    reader = Reader(jobs)
    steps = iter(moves)

    def move() -> None:
        match next(steps, ""):
            case "read":
                reader.read()
            case "cut":
                reader.connect()

    move()
    jobs.start()
    for piece in written:
        jobs.write(piece)
        move()
    jobs.end()
    if is_saved:
        move()
        jobs.save()
    for _ in range(500):
        if reader.ended is not None:
            break
        move()
        if reader.ended is None:
            reader.read()
    assert reader.ended is not None
    assert reader.log == jobs.log.text()
    assert reader.stream == (jobs.log.chunks.text() or "")
    assert reader.position == Position(len(jobs.log.text()), len(jobs.log.chunks.ends))


@given(pieces, st.integers(0, 3000), st.integers(0, 10))
def test_from_any_position(written: list[bytes], log: int, stream: int) -> None:
    jobs = Jobs()
    jobs.start()
    jobs.write(b"".join(written))
    jobs.end()
    ends = [0, *jobs.log.chunks.ends]
    expected = bytes(jobs.log.chunks.joined[ends[min(stream, len(ends) - 1)] :]).decode()
    subscription = jobs.subscribe(Position(log, stream))
    text = chunks = ""
    while (progress := subscription.read()) is not None and progress.ended is None:
        text += progress.log
        chunks += progress.stream or ""
    assert (text, chunks) == (jobs.log.text()[log:], expected)


def test_without_the_log() -> None:
    jobs = Jobs()
    jobs.start()
    jobs.write(b"log\nWM_STREAM: a\n")
    subscription = jobs.subscribe(wants_log=False)
    assert subscription.read() == Progress(Position(0, 1), True, "", "a")
    jobs.write(b"more\n")
    assert subscription.read() is None


def test_pieces_begin_small_and_double() -> None:
    jobs = Jobs()
    jobs.start()
    jobs.write(b"x" * 1_000_000)
    subscription = jobs.subscribe()
    sizes = []
    while (progress := subscription.read()) is not None:
        sizes.append(len(progress.log))
    assert sizes[:3] == [FIRST_PIECE_BYTES, 2 * FIRST_PIECE_BYTES, 4 * FIRST_PIECE_BYTES]
    assert max(sizes) == PIECE_BYTES
    assert sum(sizes) == 1_000_000 + len(BANNER)


async def test_a_reader_is_woken_by_each_change(autojump_clock: trio.testing.MockClock) -> None:
    jobs = Jobs()
    seen: list[Progress] = []

    async def follow() -> None:
        subscription = jobs.subscribe()
        while not seen or seen[-1].ended is None:
            seen.append(await subscription.next())

    async with trio.open_nursery() as nursery:
        nursery.start_soon(follow)
        await trio.testing.wait_all_tasks_blocked()
        jobs.start()
        await trio.testing.wait_all_tasks_blocked()
        for line in (b"a\n", b"WM_STREAM: b\n"):
            jobs.write(line)
            await trio.testing.wait_all_tasks_blocked()
        jobs.end()
    at = len(BANNER) + 2
    assert seen[:-1] == [
        Progress(Position(), False),
        Progress(Position(), True),
        Progress(Position(at, 0), True, BANNER + "a\n"),
        Progress(Position(at, 1), True, "", "b"),
    ]
    assert seen[-1].ended is not None
    assert seen[-1].ended.state is JobState.SUCCESS


async def test_a_job_that_is_gone() -> None:
    jobs = Jobs()
    jobs.start()
    jobs.end()
    jobs.save()
    jobs.record = None
    with pytest.raises(NotFound, match="Job 00000000-0000-0000-0000-000000000001 not found"):
        await jobs.subscribe().next()


def test_a_job_that_is_on_disk_and_not_yet_in_the_table() -> None:
    jobs = Jobs()
    job = jobs.job
    jobs.save()
    subscription = jobs.subscribe()
    assert subscription.read() == Progress(START, False)
    assert subscription.read() is None
    jobs.job = job
    jobs.start()
    jobs.write(b"WM_STREAM: a\n")
    assert subscription.read() == Progress(Position(0, 1), True, "", "a")
    jobs.end()
    jobs.save()
    ended = subscription.read()
    assert ended is not None
    assert ended.ended is jobs.record


async def test_a_queued_job_of_a_server_that_stops(autojump_clock: trio.testing.MockClock) -> None:
    jobs = Jobs()
    subscription = jobs.subscribe()
    assert await subscription.next() == Progress(Position(), False)
    with trio.move_on_after(5) as waiting:
        await subscription.next()
    assert waiting.cancelled_caught
    jobs.is_stopping = True
    with pytest.raises(Unavailable, match="the server stops"):
        await subscription.next()


async def test_a_running_job_of_a_server_that_stops(autojump_clock: trio.testing.MockClock) -> None:
    jobs = Jobs()
    jobs.start()
    jobs.is_stopping = True
    subscription = jobs.subscribe()
    assert await subscription.next() == Progress(Position(), True)
    with trio.move_on_after(5) as waiting:
        await subscription.next()
    assert waiting.cancelled_caught


def test_readers_at_the_same_place_share_what_they_read() -> None:
    jobs = Jobs()
    jobs.start()
    first, second, without_log = jobs.subscribe(), jobs.subscribe(), jobs.subscribe(wants_log=False)
    for read in range(3):
        jobs.write(b"WM_STREAM: %d\n" % read)
        progress = first.read()
        assert progress is not None
        assert progress is second.read()
        assert progress.stream == str(read)
        assert first.read() is second.read() is None
        assert without_log.read() == progress
    jobs.end()
    assert first.read() is second.read()


def test_what_was_read_is_forgotten_when_a_job_is_wiped() -> None:
    """Also by those who are where others have read before."""
    jobs = Jobs()
    jobs.start()
    jobs.write(b"WM_STREAM: secret\n")
    jobs.end()
    early, late = jobs.subscribe(), jobs.subscribe()
    assert early.read() == Progress(Position(0, 1), False, "", "secret")
    ended = early.read()
    assert jobs.job is not None
    jobs.job.deleted = True
    wiped = late.read()
    assert ended is not None
    assert wiped is not None
    assert ended.ended is not None
    assert ended.ended.result == b"1"
    assert wiped.stream is None
    assert wiped.ended is not None
    assert wiped.ended.result == b"{}"
