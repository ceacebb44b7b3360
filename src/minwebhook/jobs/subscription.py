"""Following a job: what it writes and how it ends, from any position on, while it runs and for as long as it is stored.

No reader has a queue that could become full. Everyone reads the one record of the job, at a position of its own, and is only
told that there is more. So the job never waits, a reader holds no more than one piece, and one who was away goes on where it
was: in memory while the job is live, in the database afterwards. Readers at the same place get the same :class:`Progress`:
it is made once.
"""

from __future__ import annotations

import codecs
from dataclasses import dataclass, field
from typing import Any, Final, NamedTuple, Protocol
from uuid import UUID

from minwebhook.errors import NotFound, Unavailable
from minwebhook.jobs.model import Job, JobState
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


class Output(Protocol):
    """What a job wrote, in memory (:class:`~minwebhook.jobs.log.JobLog`) or stored."""

    def log_piece(self, start: int, size: int) -> bytes:
        """Bytes of the log as UTF-8, from ``start`` on, at most ``size``."""

    def chunks_from(self, first: int, size: int) -> tuple[bytes, int]:
        """The text of the chunks from number ``first`` on, as many as fit but at least one; the number of the next."""


@dataclass(slots=True)  # frozen ones take three times as long to make, for every event; nobody changes them
class Position:
    """How far someone has read: characters of the log, chunks of the streamed result."""

    log: int = 0
    stream: int = 0


@dataclass(slots=True)
class Progress:
    """What is new since the last one, and the position behind it."""

    position: Position
    is_running: bool
    log: str = ""
    #: None if there are no new chunks; chunks may be empty.
    stream: str | None = None
    #: Set once, with nothing else, when all is read and the job has ended.
    ended: JobRecord | None = None
    #: What readers have made of it, for others to use (by whatever tells them apart).
    rendered: dict[Any, Any] = field(default_factory=dict, compare=False, repr=False)


class _Place(NamedTuple):
    """Where a reader is. Two at the same place read the same."""

    #: Characters of the log, chunks of the streamed result.
    log: int
    stream: int
    wants_log: bool
    #: Where the log is read next, in bytes, and how many characters from there on are known to the reader.
    log_at: int
    known: int
    piece_bytes: int = FIRST_PIECE_BYTES
    #: Whether the reader was told that the job runs; None if it was told nothing.
    told: bool | None = None


class Subscription:
    """One reader of one job, from ``position`` on. A position that is not reached yet is waited for."""

    def __init__(
        self,
        table: JobTable,
        store: JobStore,
        workspace: str,
        job_id: UUID,
        position: Position,
        *,
        wants_log: bool = True,
    ) -> None:
        self._table = table
        self._store = store
        self._workspace = workspace
        self._job_id = job_id
        self._place = _Place(position.log, position.stream, wants_log, log_at=0, known=position.log)
        self._stored: Output | None = None

    async def next(self) -> Progress:
        """What is new, as soon as something is. Cancelled, it has taken nothing. Raises what the other two raise."""
        while (progress := self.read()) is None:
            await self.wait()
        return progress

    async def wait(self) -> None:
        """After :meth:`read` gave None: until it is worth another try.

        Raises :class:`Unavailable` if the job will not run because the server stops.
        """
        job = self._table.get(self._job_id)
        if self._table.is_stopping and job is not None and job.state is JobState.QUEUED:
            raise Unavailable("the server stops; try again")
        await self._table.watchers.wait(self._job_id)

    def read(self) -> Progress | None:
        """A piece of what is new; None if nothing is. The first call tells at least whether it runs.

        Raises :class:`NotFound` if the job is gone.
        """
        job = self._table.get(self._job_id)
        if job is None:
            progress, self._place = self._read(None, self._stored_output())
            return progress
        output = job.output
        key = (self._place, job.state, job.is_wiped, None if output is None else output.extent)
        readings = job.readings
        if readings is None:
            readings = job.readings = {}
        found = readings.get(key)
        if found is None:
            if len(readings) >= _MAX_READINGS:
                readings.clear()
            found = readings[key] = self._read(job, output)
        progress, self._place = found
        return progress

    def _read(self, job: Job | None, output: Output | None) -> tuple[Progress | None, _Place]:
        """What is new, and the place behind it."""
        place = self._place
        is_running = job is not None and job.state is JobState.RUNNING
        log, stream = "", None
        if output is not None:
            log, stream, place = _read_output(output, place)
        if log or stream is not None:
            place = place._replace(piece_bytes=min(2 * place.piece_bytes, PIECE_BYTES))
        elif (ended := self._ended(job)) is not None:
            return Progress(Position(place.log, place.stream), False, ended=ended), place
        elif is_running is place.told:
            return None, place
        return Progress(Position(place.log, place.stream), is_running, log, stream), place._replace(told=is_running)

    def _stored_output(self) -> Output:
        if self._stored is None:
            self._stored = self._store.output(self._job_id)
        return self._stored

    def _ended(self, job: Job | None) -> JobRecord | None:
        """The record of the job if it has ended. Raises :class:`NotFound`."""
        if job is not None:
            return JobRecord.of(job) if job.state.is_final else None
        record = self._store.get(self._workspace, self._job_id)
        if record is None:
            raise NotFound(f"Job {self._job_id} not found")
        if record.state.is_final:
            return record
        self._stored = None  # just stored, and in the table in the next moment: there is no output yet
        return None


def _read_output(output: Output, place: _Place) -> tuple[str, str | None, _Place]:
    """New text of the log, new chunks, and the place behind them."""
    log, place = _read_log(output, place) if place.wants_log else ("", place)
    text, after = output.chunks_from(place.stream, place.piece_bytes)
    stream = text.decode() if after > place.stream else None
    return log, stream, place._replace(log=place.log + len(log), stream=after)


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
