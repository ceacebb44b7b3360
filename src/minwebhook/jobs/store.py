"""Jobs on disk. A row is written before an async id is answered, and again when the job has ended."""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence
from typing import Any, Final
from uuid import UUID

import orjson

from minwebhook.db.database import Database
from minwebhook.errors import BadRequest
from minwebhook.jobs.filters import JobFilter
from minwebhook.jobs.model import Job, JobState
from minwebhook.jobs.record import JobOptions, JobRecord

#: Columns of the job table, in the order of :func:`_row`. The second half is what changes when a job ends.
_FIXED: Final = (
    "id", "workspace_id", "kind", "script_path", "script_hash", "language", "raw_code", "created_by", "email",
    "permissioned_as", "created_at", "scheduled_for", "tag", "priority", "timeout_s", "parent_job", "root_job",
    "visible_to_owner",
)  # fmt: skip
_CHANGING: Final = (
    "args", "options", "status", "started_at", "completed_at", "duration_ms", "result", "canceled_by", "canceled_reason",
    "labels",
)  # fmt: skip
_COLUMNS: Final = (*_FIXED, *_CHANGING)
_INSERT: Final = f"INSERT INTO job ({', '.join(_COLUMNS)}) VALUES ({', '.join('?' * len(_COLUMNS))})"  # noqa: S608
_SAVE: Final = (
    f"{_INSERT} ON CONFLICT (id) DO UPDATE SET "
    + ", ".join(f"{name} = excluded.{name}" for name in _CHANGING)
    + " WHERE job.status = 'queued'"  # what has ended is never written over
)
_SAVE_LOG: Final = (
    "INSERT INTO job_log (job_id, log) VALUES (?, ?) ON CONFLICT (job_id) DO UPDATE SET log = excluded.log"
)


class JobStore:
    """Rows of jobs and their logs."""

    def __init__(self, db: Database) -> None:
        self._db = db

    async def insert(self, job: Job) -> None:
        """Stores a queued job; it is on disk when this returns. Raises :class:`BadRequest` if its id is taken."""
        try:
            await self._db.write(_INSERT, _row(job))
        except sqlite3.IntegrityError:
            raise BadRequest(f"a job with id {job.id} exists already; leave job_id out or send a new one") from None
        job.is_stored = True

    async def save(self, jobs: Sequence[Job]) -> None:
        """Stores ended jobs with their results and logs; they are on disk when this returns."""
        rows = [_row(job) for job in jobs]
        logs = [(job.id.bytes, text) for job in jobs if (text := job.log_text())]

        def work(connection: sqlite3.Connection) -> None:
            connection.executemany(_SAVE, rows)
            connection.executemany(_SAVE_LOG, logs)

        await self._db.transact(work)

    def forget(self, job_id: UUID) -> None:
        """Takes a queued row back, behind the write that makes it."""
        self._db.post("DELETE FROM job WHERE id = ? AND status = 'queued'", (job_id.bytes,))

    def fail(self, job_id: UUID, result: bytes, now_ms: int) -> None:
        """Ends a queued row that cannot run any more."""
        query = "UPDATE job SET status = 'failure', result = ?, completed_at = ? WHERE id = ? AND status = 'queued'"
        self._db.post(query, (result, now_ms, job_id.bytes))

    def exists(self, job_id: UUID) -> bool:
        """Whether there is a row with this id, in whatever workspace."""
        return bool(self._db.read("SELECT 1 FROM job WHERE id = ?", (job_id.bytes,)))

    def get(self, workspace: str, job_id: UUID) -> JobRecord | None:
        """The job, or None."""
        rows = self._db.read("SELECT * FROM job WHERE id = ? AND workspace_id = ?", (job_id.bytes, workspace))
        return _record(rows[0]) if rows else None

    def log(self, job_id: UUID) -> str:
        """The stored log; "" if there is none."""
        rows = self._db.read("SELECT log FROM job_log WHERE job_id = ?", (job_id.bytes,))
        return str(rows[0][0]) if rows else ""

    async def list_ended(self, workspace: str, filter: JobFilter, *, offset: int, limit: int) -> list[JobRecord]:
        """Ended jobs that match, newest first."""
        where, values = filter.where(workspace)
        order = "DESC" if filter.order_desc else "ASC"
        rows = await self._db.read_in_thread(
            f"SELECT * FROM job WHERE status != 'queued' AND {where} "  # noqa: S608 - built from constants
            f"ORDER BY created_at {order}, id {order} LIMIT ? OFFSET ?",
            (*values, limit, offset),
        )
        return [_record(row) for row in rows]

    def queued(self) -> list[JobRecord]:
        """Every job that did not end before the server did, oldest first."""
        rows = self._db.read("SELECT * FROM job WHERE status = 'queued' ORDER BY created_at, id")
        return [_record(row) for row in rows]


def _row(job: Job) -> tuple[Any, ...]:
    spec, outcome = job.spec, job.outcome
    cancellation = outcome.cancellation if outcome else None
    return (
        job.id.bytes,
        spec.workspace,
        spec.kind,
        spec.path or None,
        spec.script_hash,
        spec.language,
        spec.source.decode("utf-8", "replace") if spec.kind == "preview" else None,
        spec.created_by,
        spec.email,
        spec.permissioned_as,
        job.created_at_ms,
        job.scheduled_for_ms,
        spec.tag,
        spec.priority,
        spec.timeout_s,
        spec.parent_job.bytes if spec.parent_job else None,
        spec.root_job.bytes if spec.root_job else None,
        int(spec.visible_to_owner),
        spec.arguments,
        JobOptions.of(job).to_text(),
        job.state.value if job.state.is_final else JobState.QUEUED.value,
        job.started_at_ms,
        job.completed_at_ms,
        job.duration_ms,
        outcome.result if outcome else None,
        cancellation.by if cancellation else None,
        cancellation.reason if cancellation else None,
        orjson.dumps(outcome.labels).decode() if outcome and outcome.labels else None,
    )


def _record(row: sqlite3.Row) -> JobRecord:
    return JobRecord(
        id=UUID(bytes=row["id"]),
        workspace=row["workspace_id"],
        kind=row["kind"],
        state=JobState(row["status"]),
        path=row["script_path"],
        script_hash=row["script_hash"],
        language=row["language"],
        raw_code=row["raw_code"],
        created_by=row["created_by"],
        email=row["email"],
        permissioned_as=row["permissioned_as"],
        created_at_ms=row["created_at"],
        scheduled_for_ms=row["scheduled_for"],
        started_at_ms=row["started_at"],
        completed_at_ms=row["completed_at"],
        duration_ms=row["duration_ms"],
        arguments=row["args"],
        result=row["result"],
        canceled_by=row["canceled_by"],
        canceled_reason=row["canceled_reason"],
        tag=row["tag"] or "",
        priority=row["priority"],
        timeout_s=row["timeout_s"],
        parent_job=UUID(bytes=row["parent_job"]) if row["parent_job"] else None,
        root_job=UUID(bytes=row["root_job"]) if row["root_job"] else None,
        labels=tuple(orjson.loads(row["labels"])) if row["labels"] else (),
        visible_to_owner=bool(row["visible_to_owner"]),
        options=JobOptions.parse(row["options"]),
    )
