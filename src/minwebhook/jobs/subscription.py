"""Following a job: what it writes and how it ends, from any position on, while it runs and for as long as it is stored.

No reader has a queue that could become full. Everyone reads the one record of the job, at a position of its own, and is only
told that there is more. So the job never waits, a reader holds no more than one piece, and one who was away goes on where it
was: in memory while the job is live, in the database afterwards.
"""

from __future__ import annotations

import codecs
from dataclasses import dataclass
from typing import Final, Protocol
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
        self._position = position
        self._wants_log = wants_log
        #: Where the log is read next, in bytes, and how many characters from there on are known to the reader.
        self._log_at = 0
        self._known = position.log
        self._piece_bytes = FIRST_PIECE_BYTES
        self._stored: Output | None = None
        self._told: bool | None = None

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
        output = job.output if job is not None else self._stored_output()
        is_running = job is not None and job.state is JobState.RUNNING
        log, stream = self._read_output(output) if output is not None else ("", None)
        if log or stream is not None:
            self._piece_bytes = min(2 * self._piece_bytes, PIECE_BYTES)
        elif (ended := self._ended(job)) is not None:
            return Progress(self._position, False, ended=ended)
        elif is_running is self._told:
            return None
        self._told = is_running
        return Progress(self._position, is_running, log, stream)

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

    def _read_output(self, output: Output) -> tuple[str, str | None]:
        log = self._read_log(output) if self._wants_log else ""
        text, after = output.chunks_from(self._position.stream, self._piece_bytes)
        stream = text.decode() if after > self._position.stream else None
        if log or stream is not None:
            self._position = Position(self._position.log + len(log), after)
        return log, stream

    def _read_log(self, output: Output) -> str:
        while True:
            size = PIECE_BYTES if self._known else self._piece_bytes
            text, used = codecs.utf_8_decode(output.log_piece(self._log_at, size), "replace", False)
            if self._known < len(text):
                break
            self._log_at += used
            self._known -= len(text)
            if not text:
                return ""
        if self._known:
            used = len(text[: self._known].encode())
            text = text[self._known :][: self._piece_bytes]
            used += len(text.encode())
            self._known = 0
        self._log_at += used
        return text
