"""Jobs on disk. A row is written before an async id is answered, and again when the job has ended."""

from __future__ import annotations

import logging
import sqlite3
from collections.abc import Callable, Iterable, Iterator, Sequence
from operator import itemgetter
from typing import Any, Final
from uuid import UUID

import orjson

from minwebhook.audit.log import AuditLog
from minwebhook.audit.record import EXECUTED, Event
from minwebhook.db.database import Database
from minwebhook.errors import BadRequest, NotFound, Unavailable
from minwebhook.jobs import outcomes
from minwebhook.jobs.conditions import Condition
from minwebhook.jobs.filters import JobFilter
from minwebhook.jobs.flow_step import FlowStep, Iteration
from minwebhook.jobs.idempotency import IdempotencyKey
from minwebhook.jobs.model import WIPED_DATA, WIPED_LOG, Job, JobState
from minwebhook.jobs.output import StoredOutput
from minwebhook.jobs.record import MAX_SHOWN_BYTES, TOO_BIG_ARGUMENTS, JobOptions, JobRecord
from minwebhook.storage.keys import mentioned_uploads
from minwebhook.times import now_ms

logger = logging.getLogger(__name__)

#: Columns of the job table, in the order of :func:`_row`. The second half is what changes when a job ends.
_FIXED: Final = (
    "id", "workspace_id", "kind", "script_path", "script_hash", "language", "raw_code", "created_by", "email",
    "permissioned_as", "created_at", "scheduled_for", "tag", "priority", "timeout_s", "parent_job", "root_job",
    "visible_to_owner", "flow_step_id", "owner", "origin",
)  # fmt: skip
_CHANGING: Final = (
    "args", "options", "status", "started_at", "completed_at", "duration_ms", "result", "canceled_by", "canceled_reason",
    "labels", "deleted", "delete_at", "ended_by", "cpu_ms", "peak_kib",
    "attempts", "failures", "dead", "flow_status", "suspend_until",
)  # fmt: skip
_COLUMNS: Final = (*_FIXED, *_CHANGING)
#: The same in the order of :func:`_record`.
_READ: Final = (
    "id", "workspace_id", "kind", "status", "script_path", "script_hash", "language", "raw_code", "created_by", "email",
    "permissioned_as", "created_at", "scheduled_for", "started_at", "completed_at", "duration_ms", "args", "result",
    "canceled_by", "canceled_reason", "tag", "priority", "timeout_s", "parent_job", "root_job", "labels",
    "visible_to_owner", "options", "deleted", "ended_by", "cpu_ms", "peak_kib", "attempts", "failures", "dead",
    "flow_step_id", "flow_status", "suspend_until", "owner", "origin",
)  # fmt: skip
_ALL: Final = ", ".join(_READ)
_STATES: Final = {state.value: state for state in JobState}
_INSERT: Final = f"INSERT INTO job ({', '.join(_COLUMNS)}) VALUES ({', '.join('?' * len(_COLUMNS))})"  # noqa: S608
#: What most jobs have nothing special to say of, and what these columns hold by themselves then.
_RARE: Final = {
    "raw_code": None, "priority": None, "timeout_s": None, "parent_job": None, "root_job": None, "visible_to_owner": 1,
    "flow_step_id": None, "canceled_by": None, "canceled_reason": None, "labels": None, "deleted": 0, "delete_at": None,
    "ended_by": None, "failures": 0, "dead": 0, "flow_status": None, "suspend_until": None,
}  # fmt: skip
_USUAL: Final = tuple(name for name in _COLUMNS if name not in _RARE)
_rare: Final = itemgetter(*map(_COLUMNS.index, _RARE))
_usual: Final = itemgetter(*map(_COLUMNS.index, _USUAL))
_NOTHING_SPECIAL: Final = tuple(_RARE.values())
_INSERT_USUAL: Final = f"INSERT INTO job ({', '.join(_USUAL)}) VALUES ({', '.join('?' * len(_USUAL))})"  # noqa: S608
#: A job that waits: what it does not have yet is what the columns have by themselves.
_QUEUED: Final = (*_FIXED, "args", "options", "status")
_INSERT_QUEUED: Final = f"INSERT INTO job ({', '.join(_QUEUED)}) VALUES ({', '.join('?' * len(_QUEUED))})"  # noqa: S608
_OVER_QUEUED: Final = (
    " ON CONFLICT (id) DO UPDATE SET "
    + ", ".join(f"{name} = excluded.{name}" for name in _CHANGING)
    + " WHERE job.status = 'queued'"  # what has ended is never written over
)
_SAVE: Final = _INSERT + _OVER_QUEUED
#: The same for rows of the columns ``_USUAL``: two thirds of the time.
_SAVE_USUAL: Final = _INSERT_USUAL + _OVER_QUEUED
_NOTE_ATTEMPT: Final = (
    "UPDATE job SET attempts = ?, failures = ?, scheduled_for = ?, started_at = ? WHERE id = ? AND status = 'queued'"
)
_SAVE_LOG: Final = (
    "INSERT INTO job_log (job_id, log) VALUES (?, ?) ON CONFLICT (job_id) DO UPDATE SET log = excluded.log"
)
_INSERT_KEY: Final = "INSERT OR REPLACE INTO idempotency (key, fingerprint, job_id, expires_at) VALUES (?, ?, ?, ?)"
_FORGET_KEYS: Final = (
    "DELETE FROM idempotency WHERE key IN"
    " (SELECT key FROM idempotency WHERE expires_at <= ? ORDER BY expires_at LIMIT 10)"
)
#: Not OR REPLACE, which does not tell the triggers that count.
_SAVE_STREAM: Final = (
    "INSERT INTO job_stream (job_id, chunks, ends) VALUES (?, ?, ?)"
    " ON CONFLICT (job_id) DO UPDATE SET chunks = excluded.chunks, ends = excluded.ends"
)
#: Only ended jobs: a queued one still needs its arguments.
_WIPE: Final = (
    "UPDATE job SET args = ?, result = ?, options = NULL, delete_at = NULL, deleted = max(deleted, ?)"
    " WHERE id = ? AND status != 'queued'"
)
_SAVE_STATUS: Final = (
    "UPDATE job SET flow_status = ?, suspend_until = ?, started_at = ? WHERE id = ? AND status = 'queued'"
)
#: To a multiple of these ``flow_status`` is filled up with spaces.
_STATUS_BYTES: Final = 512
_STEPS_OF_FLOW: Final = (
    "WITH RECURSIVE level (id) AS (VALUES (?) UNION ALL SELECT job.id FROM job JOIN level ON job.parent_job = level.id"
    " WHERE job.kind = 'flowpreview')"
    " SELECT job.id, job.flow_step_id FROM job JOIN level ON job.parent_job = level.id WHERE job.flow_step_id IS NOT NULL"
)
_FORGET_ITEMS: Final = "DELETE FROM flow_items WHERE job_id = ?"
_FORGET_ITERATIONS: Final = "DELETE FROM flow_iteration WHERE job_id = ?"
_SAVE_ITERATION: Final = (
    "INSERT OR REPLACE INTO flow_iteration (job_id, module, place, iteration, success, started_at, duration_ms)"
    " VALUES (?, ?, ?, ?, ?, ?, ?)"
)
_SAVE_ITEMS: Final = "INSERT OR REPLACE INTO flow_items (job_id, items) VALUES (?, ?)"
#: What lists read of a row instead of its large columns.
_NOT_LISTED: Final = {
    "args": "NULL AS args",
    "result": "NULL AS result",
    "raw_code": "NULL AS raw_code",
    "flow_status": "NULL AS flow_status",
}
_SHOWN_ARGUMENTS: Final = (
    f"CASE WHEN length(args) > {MAX_SHOWN_BYTES} THEN CAST('{TOO_BIG_ARGUMENTS}' AS BLOB) ELSE args END AS args"
)
_LISTED: Final = ", ".join(_NOT_LISTED.get(name, name) for name in _READ)
_LISTED_WITH_ARGUMENTS: Final = _LISTED.replace(_NOT_LISTED["args"], _SHOWN_ARGUMENTS)
#: All but the result.
_LISTED_FOR_RUNS: Final = ", ".join("NULL AS result" if name == "result" else name for name in _READ)
#: Rows that are read before others have a turn.
_AT_ONCE: Final = 200
#: Ids that one query asks for.
_MAX_IDS: Final = 500
_FAIL: Final = (
    "UPDATE job SET status = 'failure', result = ?, completed_at = ?, dead = 1 WHERE id = ? AND status = 'queued'"
)
#: Without what may be damaged, so that lists can read it.
_FAIL_DAMAGED: Final = _FAIL.replace("dead = 1", "dead = 1, options = NULL, labels = NULL, flow_status = NULL")
_DISCARD_DEAD: Final = "UPDATE job SET dead = 0 WHERE id = ? AND dead = 1"
#: A time that every SQLite integer is after.
_NEVER_MS: Final = 1 << 62


class JobStore:
    """Rows of jobs and their logs."""

    def __init__(self, db: Database, *, audits: bool = False) -> None:
        """``audits``: whether the audit log tells of every job, in the transaction that stores its end."""
        self._db = db
        self._audits = audits
        #: Called with the time at which a stored job is to be wiped (Unix milliseconds), for each that has one.
        self.on_wipe_planned: Callable[[int], None] = lambda wipe_at_ms: None

    async def insert(self, job: Job, key: IdempotencyKey | None = None, revives: UUID | None = None) -> None:
        """Stores a queued job, and the key it is found by, or for the dead letter that it ``revives``.

        On disk when this returns, and known to be, or not: the caller is shielded. Raises :class:`BadRequest` if its id is
        taken, and :class:`NotFound` if somebody else has revived the letter.
        """
        row = _queued_row(job)

        def work(connection: sqlite3.Connection) -> None:
            connection.execute(_INSERT_QUEUED, row)
            if revives is not None and not connection.execute(_DISCARD_DEAD, (revives.bytes,)).rowcount:
                raise NotFound(f"{revives} is no dead letter any more")
            if key is not None:
                # A few that are over go with each that comes.
                connection.execute(_FORGET_KEYS, (job.created_at_ms,))
                connection.execute(_INSERT_KEY, (key.digest, key.fingerprint, job.id.bytes, key.expires_at_ms))

        try:
            if key is None and revives is None:
                await self._db.write(_INSERT_QUEUED, row, is_shielded=True)
            else:
                await self._db.transact(work, is_shielded=True)
        except sqlite3.IntegrityError:
            raise BadRequest(f"a job with id {job.id} exists already; leave job_id out or send a new one") from None
        job.is_stored = True

    async def save(self, jobs: Sequence[Job], *, is_durable: bool = True) -> None:
        """Stores ended jobs with their results, logs and streams.

        They are on disk when this returns, or, without ``is_durable``, after the next :meth:`sync`. The caller is shielded.
        """
        await self._db.transact(self._saving(jobs), is_durable=is_durable, is_shielded=True)
        self._plan_wipes(jobs)

    async def save_alone(self, job: Job) -> None:
        """Stores one of several ended jobs that could not be stored together; if it is the one that cannot be, that it failed.

        On disk when this returns. Raises :class:`Unavailable` and nothing else.
        """
        try:
            await self.save([job])
            return
        except Unavailable:
            raise
        except Exception:
            logger.exception("the record of a job could not be written", extra={"job_id": str(job.id)})
        # One without a row has none then: its caller has had the answer.
        lost = outcomes.execution_error("the record of the job could not be written; the server's log says more")
        try:
            await self._db.write(_FAIL, (lost.result, job.completed_at_ms, job.id.bytes), is_shielded=True)
        except Unavailable:
            raise
        except Exception:
            logger.exception("not even that it failed could be written of a job", extra={"job_id": str(job.id)})

    async def sync(self) -> None:
        """Returns when all that was stored is on disk. Raises :class:`Unavailable` while that cannot be had."""
        await self._db.sync()

    async def save_step(self, step: FlowStep) -> None:
        """What flows do next, all or nothing: on disk when this returns."""
        saving = self._saving(step.ended) if step.ended else None
        status = [
            (_status_text(job), job.suspend_until_ms, job.started_at_ms, job.id.bytes)
            for job in step.moved
            if job.flow is not None
        ]
        each: list[tuple[str, list[tuple[Any, ...]]]] = [
            (_INSERT, [_row(job) for job in step.new]),
            (_SAVE, [_row(job) for job in step.changed]),
            (_SAVE_STATUS, status),
            (_SAVE_ITEMS, [(job.id.bytes, text) for job, text in step.items]),
            (_SAVE_ITERATION, list(_iteration_rows(step))),
        ]
        statements = [(sql, rows) for sql, rows in each if rows]

        def work(connection: sqlite3.Connection) -> None:
            for sql, rows in statements:
                connection.executemany(sql, rows)
            if saving is not None:
                saving(connection)
            for flow_id, steps in step.wiped:
                _wipe(connection, _jobs_of_steps(connection, flow_id, steps))

        await self._db.transact_now(work)
        for job in step.new:
            job.is_stored = True
        self._plan_wipes(step.ended)

    def _saving(self, jobs: Sequence[Job]) -> Callable[[sqlite3.Connection], None]:
        """Writes ended jobs as they are now."""
        usual: list[tuple[Any, ...]] = []
        rows: list[tuple[Any, ...]] = []
        for row in map(_row, jobs):
            if _rare(row) == _NOTHING_SPECIAL:
                usual.append(_usual(row))
            else:
                rows.append(row)
        logs = [(job.id.bytes, text) for job in jobs if (text := job.log_text())]
        streams = [
            (job.id.bytes, log.chunks.joined, log.chunks.ends.tobytes())
            for job in jobs
            if (log := job.output) is not None and log.chunks.ends
        ]

        loops = [(job.id.bytes,) for job in jobs if job.flow is not None and job.flow.leaves_rows]
        events = [_event(job) for job in jobs] if self._audits else []

        def work(connection: sqlite3.Connection) -> None:
            if usual:
                connection.executemany(_SAVE_USUAL, usual)
            if rows:
                connection.executemany(_SAVE, rows)
            if logs:
                connection.executemany(_SAVE_LOG, logs)
            if streams:
                connection.executemany(_SAVE_STREAM, streams)
            if loops:
                connection.executemany(_FORGET_ITEMS, loops)
                connection.executemany(_FORGET_ITERATIONS, loops)
            if events:
                AuditLog.append(connection, events)

        return work

    def _plan_wipes(self, jobs: Sequence[Job]) -> None:
        for job in jobs:
            if (wipe_at_ms := _wipe_at_ms(job)) is not None:
                self.on_wipe_planned(wipe_at_ms)

    async def keep_user_state(self, job: Job, key: str, value: Any, states: dict[str, Any]) -> None:
        """Keeps a value in a flow job's ``states`` (``flow_status.user_states``), and on disk when this returns.

        A flow that is not on disk yet takes it along when its first step is written.
        """

        def work(connection: sqlite3.Connection) -> None:
            states[key] = value  # here, so that no other write of the status comes in between without it
            row = connection.execute("SELECT flow_status FROM job WHERE id = ?", (job.id.bytes,)).fetchone()
            if row is not None and row[0] is not None:
                status = orjson.loads(row[0])
                status.setdefault("user_states", {})[key] = value
                query = "UPDATE job SET flow_status = ? WHERE id = ? AND status = 'queued'"
                connection.execute(query, (orjson.dumps(status), job.id.bytes))

        await self._db.transact(work)

    def results(self, job_ids: Iterable[UUID]) -> dict[UUID, bytes]:
        """The stored results of these jobs."""
        keys = [job_id.bytes for job_id in job_ids]
        found: dict[UUID, bytes] = {}
        for start in range(0, len(keys), _MAX_IDS):
            some = keys[start : start + _MAX_IDS]
            marks = ", ".join("?" * len(some))
            rows = self._db.read(f"SELECT id, result FROM job WHERE id IN ({marks})", some)  # noqa: S608 - only marks
            found |= {UUID(bytes=row["id"]): row["result"] for row in rows if row["result"] is not None}
        return found

    def flow_items(self, job_id: UUID) -> bytes:
        """What the loop of a flow goes through, as JSON text."""
        rows = self._db.read("SELECT items FROM flow_items WHERE job_id = ?", (job_id.bytes,))
        return bytes(rows[0][0]) if rows else b"[]"

    def iterations(self, job_id: UUID) -> dict[str, list[Iteration]]:
        """The iterations and branches of a flow that has not ended, by module."""
        rows = self._db.read(
            "SELECT module, place, iteration, success, started_at, duration_ms FROM flow_iteration WHERE job_id = ?",
            (job_id.bytes,),
        )
        found: dict[str, list[Iteration]] = {}
        for module, place, key, success, started_ms, duration_ms in rows:
            is_success = None if success is None else bool(success)
            found.setdefault(module, []).append((place, UUID(bytes=key), is_success, started_ms, duration_ms))
        return found

    async def wipe(self, job_ids: Iterable[UUID], *, deleted: bool = False) -> None:
        """Leaves nothing of the arguments, results and logs of ended jobs; ``deleted`` also notes that an admin wanted it."""
        keys = [job_id.bytes for job_id in job_ids]
        await self._db.transact(lambda connection: _wipe(connection, keys, deleted=deleted))

    async def wipe_due(self, now_ms: int, limit: int) -> None:
        """Wipes ended jobs whose time has come, at most ``limit``."""

        def work(connection: sqlite3.Connection) -> None:
            query = "SELECT id FROM job WHERE delete_at <= ? ORDER BY delete_at LIMIT ?"
            _wipe(connection, [row["id"] for row in connection.execute(query, (now_ms, limit))])

        await self._db.transact(work)

    def next_wipe_ms(self) -> int | None:
        """When the next job is to be wiped."""
        wipe_at_ms = self._db.read("SELECT min(delete_at) FROM job WHERE delete_at IS NOT NULL")[0][0]
        return None if wipe_at_ms is None else int(wipe_at_ms)

    def fail(self, job_id: UUID, result: bytes, now_ms: int) -> None:
        """Ends a queued row that cannot run any more, as a dead letter."""
        self._db.post(_FAIL, (result, now_ms, job_id.bytes))

    async def list_dead(
        self, workspace: str, path: str | None, conditions: Sequence[Condition] = (), *, offset: int, limit: int
    ) -> list[JobRecord]:
        """Dead letters of a workspace, or of one of its scripts, that fulfil conditions; those that ended last first."""
        where, values = _dead(workspace, path, conditions)
        return await self._db.read_in_thread(
            f"SELECT {_LISTED_FOR_RUNS} FROM job WHERE {where}"  # noqa: S608 - built from constants
            " ORDER BY completed_at DESC, id DESC LIMIT ? OFFSET ?",
            (*values, limit, offset),
            _record,
        )

    async def count_dead(self, workspace: str, path: str | None, conditions: Sequence[Condition] = ()) -> int:
        """How many there are."""
        where, values = _dead(workspace, path, conditions)
        rows = await self._db.read_in_thread(f"SELECT count(*) FROM job WHERE {where}", values)  # noqa: S608
        return int(rows[0][0])

    async def uploads_of_dead(self) -> set[str]:
        """The keys of uploads that dead letters of all workspaces mention: they may be driven again."""
        query = "SELECT args FROM job WHERE dead = 1 AND args IS NOT NULL"
        return set().union(*await self._db.read_in_thread(query, (), lambda row: mentioned_uploads(row[0])))

    async def discard_dead(self, job_id: UUID) -> bool:
        """The job is no dead letter any more. False if it was none."""

        def work(connection: sqlite3.Connection) -> bool:
            return bool(connection.execute(_DISCARD_DEAD, (job_id.bytes,)).rowcount)

        return await self._db.transact(work)

    def note_attempt(self, job: Job) -> None:
        """Has it written soon how often the job was begun and has failed, and when its next run is due."""
        self._db.post(_NOTE_ATTEMPT, _attempt_row(job))

    async def note_last_attempt(self, job: Job) -> None:
        """The same, on disk when this returns: for a run that must not be begun again if the server dies."""
        await self._db.write(_NOTE_ATTEMPT, _attempt_row(job))

    def exists(self, job_id: UUID) -> bool:
        """Whether there is a row with this id, in whatever workspace."""
        return bool(self._db.read("SELECT 1 FROM job WHERE id = ?", (job_id.bytes,)))

    def get(self, workspace: str, job_id: UUID) -> JobRecord | None:
        """The job, or None."""
        query = f"SELECT {_ALL} FROM job WHERE id = ? AND workspace_id = ?"  # noqa: S608 - built from constants
        rows = self._db.read(query, (job_id.bytes, workspace))
        return _record(rows[0]) if rows else None

    def log(self, job_id: UUID) -> str:
        """The stored log; "" if there is none."""
        rows = self._db.read("SELECT log FROM job_log WHERE job_id = ?", (job_id.bytes,))
        return str(rows[0][0]) if rows else ""

    def output(self, job_id: UUID) -> StoredOutput:
        """What the job wrote, to be read in pieces."""
        return StoredOutput(self._db, job_id)

    async def list_ended(
        self, workspace: str | None, wanted: JobFilter, *, without: Iterable[UUID], offset: int, limit: int
    ) -> list[JobRecord]:
        """Ended jobs that match, of one workspace or of all, newest (or oldest) first; without results and code.

        Jobs ``without`` are left out before the page is cut.
        """
        columns = _LISTED_WITH_ARGUMENTS if wanted.with_arguments else _LISTED
        where, values = _where(workspace, wanted, without)
        order = "DESC" if wanted.newest_first else "ASC"
        return await self._db.read_in_thread(
            f"SELECT {columns} FROM job WHERE {where} "  # noqa: S608 - built from constants
            f"ORDER BY job.created_at {order}, job.id {order} LIMIT ? OFFSET ?",
            (*values, limit, offset),
            _record,
        )

    async def count_ended(self, workspace: str | None, wanted: JobFilter, *, without: Iterable[UUID]) -> int:
        """How many ended jobs match."""
        where, values = _where(workspace, wanted, without)
        rows = await self._db.read_in_thread(f"SELECT count(*) FROM job WHERE {where}", values)  # noqa: S608 - as above
        return int(rows[0][0])

    async def count_by_tag(self, workspace: str | None, since_ms: int) -> list[tuple[str, int]]:
        """How many jobs ended since then with each tag, the most frequent first."""
        rows = await self._db.read_in_thread(
            "SELECT coalesce(tag, '') AS name, count(*) AS number FROM job WHERE status != 'queued'"
            # The workspaces by name, because the index begins with them.
            " AND workspace_id IN (SELECT id FROM workspace WHERE ? IN (id, '')) AND completed_at >= ?"
            " GROUP BY name ORDER BY number DESC, name",
            (workspace or "", since_ms),
        )
        return [(row["name"], row["number"]) for row in rows]

    def ended_runs(
        self, kind: str, workspace: str, hashes: Iterable[int], since_ms: int, limit: int
    ) -> list[tuple[int, bytes, int]]:
        """Runs of some versions of scripts or flows that ended since then, at most the newest ``limit``, oldest first: the
        version, the arguments, and the end."""
        rows = self._db.read(
            "SELECT script_hash, args, completed_at FROM job WHERE status != 'queued' AND workspace_id = ?"
            " AND kind = ? AND completed_at > ? AND started_at IS NOT NULL AND script_hash IN (SELECT value FROM json_each(?))"
            " ORDER BY completed_at DESC LIMIT ?",
            (workspace, kind, since_ms, orjson.dumps(list(hashes)).decode(), limit),
        )
        return [(row[0], row[1] or b"{}", row[2]) for row in reversed(rows)]

    def queued(self) -> list[JobRecord]:
        """Every job that did not end before the server did, oldest first."""
        return [record for some in self.queued_in_pieces() for record in some]

    def queued_in_pieces(self) -> Iterator[list[JobRecord]]:
        """The same, in pieces of some milliseconds each; for the start, when nobody writes."""
        query = f"SELECT {_ALL} FROM job WHERE status = 'queued' ORDER BY created_at, id"  # noqa: S608 - constants
        cursor = self._db.inspect(lambda connection: connection.execute(query))
        while rows := cursor.fetchmany(_AT_ONCE):
            yield [record for row in rows if (record := self._read_queued(row)) is not None]

    def _read_queued(self, row: sqlite3.Row) -> JobRecord | None:
        """None for a row that is damaged. Its job has failed then, and keeps no other from being queued again."""
        try:
            return _record(row)
        except Exception:
            logger.exception("the row of a queued job is damaged", extra={"job_id": row["id"].hex()})
            lost = outcomes.execution_error("the record of the job is damaged; the server's log says more")
            self._db.post(_FAIL_DAMAGED, (lost.result, now_ms(), row["id"]))
            return None


def _where(workspace: str | None, wanted: JobFilter, without: Iterable[UUID]) -> tuple[str, list[Any]]:
    where, values = wanted.where(workspace)
    keys = [job_id.hex.upper() for job_id in without]
    if keys:
        where += " AND hex(job.id) NOT IN (SELECT value FROM json_each(?))"
        values.append(orjson.dumps(keys).decode())
    return where, values


def _wipe(connection: sqlite3.Connection, keys: Sequence[bytes], *, deleted: bool = False) -> None:
    for key in keys:
        if connection.execute(_WIPE, (WIPED_DATA, WIPED_DATA, deleted, key)).rowcount:
            connection.execute(_SAVE_LOG, (key, WIPED_LOG))
            connection.execute("DELETE FROM job_stream WHERE job_id = ?", (key,))


def _jobs_of_steps(connection: sqlite3.Connection, flow_id: UUID, steps: frozenset[str]) -> list[bytes]:
    """Also of those in loops and branches, but not of other flows inside."""
    rows = connection.execute(_STEPS_OF_FLOW, (flow_id.bytes,))
    return [row["id"] for row in rows if row["flow_step_id"] in steps]


def _status_text(job: Job) -> bytes | None:
    """``flow_status``; of a flow that goes on in a length that the next one often has, too: a row that stays as long is changed
    in its place, and SQLite writes none of its other pages anew, of which the arguments may fill many."""
    if job.flow is None:
        return None
    text = job.flow.status_text()
    return text if job.state.is_final else text.ljust(-(-len(text) // _STATUS_BYTES) * _STATUS_BYTES)


def _iteration_rows(step: FlowStep) -> Iterator[tuple[Any, ...]]:
    for flow, iterations in step.iterations:
        for module, (place, job_id, *ended) in iterations:
            yield (flow.id.bytes, module, place, job_id.bytes, *ended)


def _attempt_row(job: Job) -> tuple[Any, ...]:
    return (job.attempts, job.failures, job.scheduled_for_ms, job.started_at_ms, job.id.bytes)


def _wipe_at_ms(job: Job) -> int | None:
    """When the row of an ended job is to be wiped; None if it is written that way already, or stays."""
    if not job.delete_after_s or job.completed_at_ms is None:
        return None
    return min(job.completed_at_ms + 1000 * job.delete_after_s, _NEVER_MS)


def _fixed(job: Job) -> tuple[Any, ...]:
    """The columns ``_FIXED``."""
    spec = job.spec
    return (
        job.id.bytes,
        spec.workspace,
        spec.kind,
        spec.path or None,
        spec.script_hash,
        spec.language,
        spec.source.decode("utf-8", "replace") if spec.script_hash is None else None,
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
        spec.step_id or None,
        spec.owner or None,
        spec.origin or None,
    )


def _queued_row(job: Job) -> tuple[Any, ...]:
    """The columns ``_QUEUED``."""
    return (*_fixed(job), job.spec.arguments, JobOptions.of(job).to_text(), "queued")


def _row(job: Job) -> tuple[Any, ...]:
    """The columns ``_COLUMNS``."""
    outcome = job.outcome
    cancellation = outcome.cancellation if outcome else None
    return (
        *_fixed(job),
        job.kept_arguments(),
        JobOptions.of(job).to_text(),
        job.state.value if job.state.is_final else JobState.QUEUED.value,
        job.started_at_ms,
        job.completed_at_ms,
        job.duration_ms,
        job.kept_result(),
        cancellation.by if cancellation else None,
        cancellation.reason if cancellation else None,
        orjson.dumps(outcome.labels).decode() if outcome and outcome.labels else None,
        int(job.deleted),
        _wipe_at_ms(job),
        (outcome.ended_by if outcome else None) or None,
        job.usage.cpu_ms if job.usage else None,
        job.usage.peak_kib if job.usage else None,
        job.attempts,
        job.failures,
        int(job.is_dead),
        _status_text(job),
        job.suspend_until_ms,
    )


def _event(job: Job) -> Event:
    """Who started the job, and when; noted when it has ended."""
    spec = job.spec
    known = {"job_id": job.id_text, "created_by": spec.created_by, **(orjson.loads(spec.origin) if spec.origin else {})}
    return Event(
        f"jobs.run.{spec.kind}", EXECUTED, spec.username, spec.workspace, spec.path or None, job.created_at_ms, known
    )


def _record(row: sqlite3.Row) -> JobRecord:
    """From the columns ``_READ``. By their order, not by their names: sqlite3 looks for a name one by one."""
    (
        key, workspace, kind, status, path, script_hash, language, raw_code, created_by, email, permissioned_as,
        created_at, scheduled_for, started_at, completed_at, duration_ms, arguments, result, canceled_by, canceled_reason,
        tag, priority, timeout_s, parent_job, root_job, labels, visible_to_owner, options, deleted, ended_by, cpu_ms,
        peak_kib, attempts, failures, dead, step_id, flow_status, suspend_until, owner, origin,
    ) = row  # fmt: skip
    return JobRecord(
        UUID(bytes=key),
        workspace,
        kind,
        _STATES[status],
        path,
        script_hash,
        language,
        raw_code,
        created_by,
        email,
        permissioned_as,
        created_at,
        scheduled_for,
        started_at,
        completed_at,
        duration_ms,
        arguments,
        result,
        canceled_by,
        canceled_reason,
        tag or "",
        priority,
        timeout_s,
        UUID(bytes=parent_job) if parent_job else None,
        UUID(bytes=root_job) if root_job else None,
        tuple(orjson.loads(labels)) if labels else (),
        bool(visible_to_owner),
        JobOptions.parse(options),
        bool(deleted),
        ended_by or "",
        cpu_ms,
        peak_kib,
        attempts,
        failures,
        bool(dead),
        step_id or "",
        flow_status,
        suspend_until,
        owner or "",
        origin or "",
    )


def _dead(workspace: str, path: str | None, conditions: Sequence[Condition]) -> tuple[str, list[Any]]:
    """The condition of dead letters, with its values."""
    tests, values = ["dead = 1 AND workspace_id = ? AND ifnull(?, script_path) IS script_path"], [workspace, path]
    for condition in conditions:
        test, more = condition.sql()
        tests.append(test)
        values += more
    return " AND ".join(tests), values
