"""Following a job: what it writes and how it ends, from any position on, while it runs and for as long as it is stored.

No reader has a queue that could become full. Everyone reads the one record of the job, at a position of its own, and is only
told that there is more. So the job never waits, a reader holds no more than one piece, and one who was away goes on where it
was: in memory while the job is live, in the database afterwards. Readers at the same place get the same :class:`Progress`:
it is made once.

The chunks of a flow are those of its last step, while that is a single job: of a step that is a flow, its last step's.
"""

from __future__ import annotations

import codecs
import math
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any, Final, NamedTuple
from uuid import UUID

import trio

from minwebhook.errors import NotFound, Unavailable
from minwebhook.jobs.flow_chunks import FlowChunks, Output
from minwebhook.jobs.model import Flow, Job, JobState
from minwebhook.jobs.record import JobRecord
from minwebhook.jobs.store import JobStore
from minwebhook.jobs.table import JobTable

#: Bytes of a log, and of chunks, taken at once. The first pieces are small and double: a reader whose connection breaks
#: again and again, however early, still gets further each time.
FIRST_PIECE_BYTES: Final = 64
PIECE_BYTES: Final = 64 * 1024
#: Readings that a job keeps for readers at the same place: those who follow it as it writes are at two, before and behind
#: what is new, with and without its log.
_MAX_READINGS: Final = 4
#: Between two looks at where a flow is: each is told whole, and large flows change often.
STATUS_PAUSE_S: Final = 0.1


@dataclass(slots=True)  # frozen ones take three times as long to make, for every event; nobody changes them
class Position:
    """How far someone has read: characters of the log, chunks of the streamed result."""

    log: int = 0
    stream: int = 0


class Wants(NamedTuple):
    """What a reader wants to know besides chunks and the end."""

    log: bool = True
    #: What the job says of its own progress.
    percent: bool = False
    #: Where it is, if it is a flow.
    status: bool = False
    #: A flow that answers early has ended for this reader with its answer.
    is_caller: bool = False


@dataclass(slots=True)
class Progress:
    """What is new since the last one, and the position behind it."""

    position: Position
    is_running: bool
    log: str = ""
    #: None if there are no new chunks; chunks may be empty.
    stream: str | None = None
    #: Of a flow: the job that the chunks are of, once there is one.
    stream_job: UUID | None = None
    #: What the job says of its progress; None if that is not new.
    percent: int | None = None
    #: Of a flow: where it is, as JSON text; None if that is not new.
    status: bytes | None = None
    #: Set once, with nothing else, when all is read and the job has ended.
    ended: JobRecord | None = None
    #: Whether reading on at once may give more.
    has_more: bool = field(default=True, compare=False)
    #: What readers have made of it, for others to use (by whatever tells them apart).
    rendered: dict[Any, Any] = field(default_factory=dict, compare=False, repr=False)


class _Place(NamedTuple):
    """Where a reader is. Two at the same place read the same."""

    #: Characters of the log, chunks of the streamed result.
    log: int
    stream: int
    wants: Wants
    #: Where the log is read next, in bytes, and how many characters from there on are known to the reader.
    log_at: int
    known: int
    piece_bytes: int = FIRST_PIECE_BYTES
    #: Whether the reader was told that the job runs; None if it was told nothing.
    told: bool | None = None
    #: What it was told of the job's own progress, and of where the flow is.
    percent: int | None = None
    status: bytes | None = None


class _Reading(NamedTuple):
    """What those who were at a place have read last."""

    place: _Place
    #: What it depends on besides.
    facts: tuple[object, ...]
    progress: Progress | None
    after: _Place


class _Sources(NamedTuple):
    """Where a reader finds what a job wrote."""

    log: Output | None
    chunks: Output | None
    #: Of a flow: whose chunks they are.
    stream_job: UUID | None = None


_DEFAULT: Final = Wants()


class Subscription:
    """One reader of one job, from ``position`` on. A position that is not reached yet is waited for."""

    def __init__(
        self,
        table: JobTable,
        store: JobStore,
        workspace: str,
        job_id: UUID,
        position: Position,
        wants: Wants = _DEFAULT,
    ) -> None:
        self._table = table
        self._store = store
        self._workspace = workspace
        self._job_id = job_id
        self._place = _Place(position.log, position.stream, wants, log_at=0, known=position.log)
        self._chunks = FlowChunks(table, store, workspace)
        #: Once it is stored, which it stays as it is.
        self._stored: tuple[JobRecord, _Sources] | None = None
        #: When it looks again where the flow is, by trio's clock.
        self._status_due_s = -math.inf

    async def next(self) -> Progress:
        """What is new, as soon as something is. Cancelled, it has taken nothing. Raises what the other two raise."""
        while (progress := self.read()) is None:
            await self.wait()
        return progress

    async def wait(self, on_news: Callable[[], bool] | None = None) -> None:
        """After :meth:`read` gave None: until it is worth another try.

        With ``on_news``, until that says False to something new; it is called from another task, for which it may read.
        Raises :class:`Unavailable` if the job will not run because the server stops.
        """
        job = self._table.get(self._job_id)
        if self._table.is_stopping and job is not None and job.state is JobState.QUEUED:
            raise Unavailable("the server stops; try again")
        if self._place.wants.status and trio.current_time() < self._status_due_s:
            with trio.move_on_at(self._status_due_s):
                await self._table.watchers.wait(self._job_id, self._chunks.watched)
        elif on_news is None or self._is_alone:
            await self._table.watchers.wait(self._job_id, self._chunks.watched)
        else:
            await self._table.watchers.follow(self._job_id, lambda: on_news() and not self._is_alone)

    @property
    def _is_alone(self) -> bool:
        """Whether its task must wait itself: for other jobs, too, or for a time."""
        return self._place.wants.status or bool(self._chunks.watched)

    def read(self) -> Progress | None:
        """A piece of what is new; None if nothing is. The first call tells at least whether it runs.

        Raises :class:`NotFound` if the job is gone.
        """
        job = self._table.get(self._job_id)
        if job is None:
            progress, self._place = self._read_stored()
            return progress
        log, place = job.output, self._place
        sources, status, is_answered = _Sources(log, log), None, False
        if job.flow is not None:
            sources = self._of_flow(log, job.flow.stream_job)
            status = self._status(job.flow) if place.wants.status else None
            is_answered = place.wants.is_caller and job.early is not None
        facts = (
            job.state, job.is_wiped, job.percent, status, is_answered, sources.stream_job,
            None if sources.log is None else sources.log.extent,
            None if sources.chunks is None else sources.chunks.extent,
        )  # fmt: skip
        # Those who follow it as it writes come one behind the other, and from the very same place: that is seen in a
        # fifth of the time that a key takes.
        last: _Reading | None = job.last_reading
        if last is None or last.place is not place or last.facts != facts:
            last = job.last_reading = self._read_live(job, sources, status, is_answered, facts)
        self._place = last.after
        return last.progress

    def _read_live(
        self, job: Job, sources: _Sources, status: bytes | None, is_answered: bool, facts: tuple[object, ...]
    ) -> _Reading:
        place = self._place
        key = (place, facts)
        readings = job.readings
        if readings is None:
            readings = job.readings = {}
        found = readings.get(key)
        if found is None:
            if len(readings) >= _MAX_READINGS:
                readings.clear()
            ended = JobRecord.of(job) if job.state.is_final or is_answered else None
            if ended is not None and is_answered and job.early is not None:
                ended = replace(ended, state=job.early.state, result=job.early.result)
            is_running = job.state is JobState.RUNNING
            progress, after = _read(place, sources, ended, is_running, job.percent, status)
            if progress is not None and progress.ended is None:
                more, _ = _read(after, sources, ended, is_running, job.percent, status)
                progress.has_more = more is not None
            found = readings[key] = progress, after
        return _Reading(place, facts, *found)

    def _read_stored(self) -> tuple[Progress | None, _Place]:
        """The same of a job that is not in the table. Raises :class:`NotFound`."""
        if self._stored is None:
            record = self._store.get(self._workspace, self._job_id)
            if record is None:
                raise NotFound(f"Job {self._job_id} not found")
            if not record.state.is_final:  # just stored, and in the table in the next moment: there is no output yet
                return _read(self._place, _Sources(None, None), None, False, None, record.flow_status)
            output = self._store.output(self._job_id)
            sources = _Sources(output, output)
            if record.flow_status is not None:
                sources = self._of_flow(output, record.stream_job)
            self._stored = record, sources
        record, sources = self._stored
        return _read(self._place, sources, record, False, record.options.percent, record.flow_status)

    def _of_flow(self, log: Output | None, last_step: UUID | None) -> _Sources:
        stream_job, chunks = self._chunks.find(last_step)
        return _Sources(log, chunks, stream_job)

    def _status(self, flow: Flow) -> bytes | None:
        """Where the flow is, or was when that was looked at last."""
        now_s = trio.current_time()
        if now_s < self._status_due_s:
            return self._place.status
        self._status_due_s = now_s + STATUS_PAUSE_S
        return flow.shown_status()


def _read(
    place: _Place,
    sources: _Sources,
    ended: JobRecord | None,
    is_running: bool,
    percent: int | None,
    status: bytes | None,
) -> tuple[Progress | None, _Place]:
    """What is new of a job, and the place behind it."""
    if ended is not None:
        status = place.status  # the record has it
    place, news = _note(place, percent, status)
    log, stream, place = _read_output(sources, place)
    if log or stream is not None:
        place = place._replace(piece_bytes=min(2 * place.piece_bytes, PIECE_BYTES))
    elif ended is not None and not news:
        return Progress(Position(place.log, place.stream), False, stream_job=sources.stream_job, ended=ended), place
    elif is_running is place.told and not news:
        return None, place
    progress = Progress(Position(place.log, place.stream), is_running, log, stream, sources.stream_job, **news)
    return progress, place._replace(told=is_running)


def _note(place: _Place, percent: int | None, status: bytes | None) -> tuple[_Place, dict[str, Any]]:
    """What the reader wants and does not know of the job's own progress and of where the flow is."""
    news: dict[str, Any] = {}
    if place.wants.percent and percent != place.percent:
        news["percent"] = percent
    if place.wants.status and status != place.status:
        news["status"] = status
    return (place._replace(**news) if news else place), news


def _read_output(sources: _Sources, place: _Place) -> tuple[str, str | None, _Place]:
    """New text of the log, new chunks, and the place behind them."""
    log, stream = "", None
    if sources.log is not None and place.wants.log:
        log, place = _read_log(sources.log, place)
        if log:
            place = place._replace(log=place.log + len(log))
    if sources.chunks is not None:
        text, after = sources.chunks.chunks_from(place.stream, place.piece_bytes)
        if after > place.stream:
            stream = text.decode()
            place = place._replace(stream=after)
    return log, stream, place


def _read_log(output: Output, place: _Place) -> tuple[str, _Place]:
    log_at, known = place.log_at, place.known
    while True:
        size = PIECE_BYTES if known else place.piece_bytes
        text, used = codecs.utf_8_decode(output.log_piece(log_at, size), "replace", False)
        if known < len(text):
            break
        log_at += used
        known -= len(text)
        if not text:
            return "", place._replace(log_at=log_at, known=known)
    if known:
        used = len(text[:known].encode())
        text = text[known:][: place.piece_bytes]
        used += len(text.encode())
    return text, place._replace(log_at=log_at + used, known=0)
