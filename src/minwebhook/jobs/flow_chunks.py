"""Whose chunks a flow shows: those of its last step, while that is a single job; of a step that is a flow, its last step's."""

from __future__ import annotations

from typing import Protocol
from uuid import UUID

from minwebhook.jobs.store import JobStore
from minwebhook.jobs.table import JobTable


class Output(Protocol):
    """What a job wrote, in memory (:class:`~minwebhook.jobs.log.JobLog`) or stored."""

    @property
    def extent(self) -> tuple[int, int]:
        """As long as it is the same, nothing is new."""

    def log_piece(self, start: int, size: int) -> bytes:
        """Bytes of the log as UTF-8, from ``start`` on, at most ``size``."""

    def chunks_from(self, first: int, size: int) -> tuple[bytes, int]:
        """The text of the chunks from number ``first`` on, as many as fit but at least one; the number of the next."""


class FlowChunks:
    """Finds them for one reader."""

    def __init__(self, table: JobTable, store: JobStore, workspace: str) -> None:
        self._table = table
        self._store = store
        self._workspace = workspace
        #: The step whose output was read from the database, which changes no more.
        self._stored: tuple[UUID, UUID, Output] | None = None
        #: The live jobs on the way there: when something is new of one of them, it is worth another look.
        self.watched: tuple[UUID, ...] = ()

    def find(self, last_step: UUID | None) -> tuple[UUID | None, Output | None]:
        """The job whose chunks they are and what it wrote; nothing until it has begun."""
        self.watched = ()
        while last_step is not None:
            if self._stored is not None and self._stored[0] == last_step:
                return self._stored[1:]
            job = self._table.get(last_step)
            if job is None:
                return self._find_stored(last_step)
            if not job.state.is_final:
                self.watched += (last_step,)
            if job.flow is None:
                return last_step, job.output
            last_step = job.flow.stream_job
        return None, None

    def _find_stored(self, last_step: UUID) -> tuple[UUID | None, Output | None]:
        found: UUID | None = last_step
        while found is not None:
            record = self._store.get(self._workspace, found)
            if record is None or not record.state.is_final:
                break
            if record.flow_status is None:
                self._stored = last_step, found, self._store.output(found)
                return self._stored[1:]
            found = record.stream_job
        return None, None
