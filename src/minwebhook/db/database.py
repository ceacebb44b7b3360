"""The database: one connection that writes, in the loop, with group commit; read-only connections for everything else.

Rules of this file:

1. Only the flusher task (:meth:`Database.run`) writes. Everything queued during one pass of the scheduler becomes one
   transaction and one fsync; a thread would cost more in hand-offs than the fsync does. Between transactions it brings
   SQLite's log to the database file now and then, in a thread that has the connection meanwhile.
2. Writes happen in the order they were queued. A statement that fails undoes only itself; the others commit.
3. ``await write()`` returns after COMMIT with ``synchronous=FULL``: the row survives a crash of the machine. Only
   a transaction of nothing but writes that say ``is_durable=False`` is not synced: the next one, or ``sync()`` in a
   thread, syncs it, too. What comes later is never on disk without what came before. After a sync that failed nothing is
   committed before all that was committed is in the database file, written anew and synced (:func:`connections.rewrite`).
4. A waiter that is cancelled stops waiting, unless it asked for a shield; its write **still happens**.
5. When the world fails (disk full, I/O error, locked by another program), everyone in that transaction gets
   :class:`~minwebhook.errors.Unavailable`, nothing of it is stored, and the next transaction is tried afresh. A lock of
   another program is waited for first, while the loop goes on.
6. The queue is bounded (``MAX_PENDING``). A writer that finds it full commits the oldest transaction itself before it
   queues its own: nothing is lost or refused, the one who writes too fast pays.
"""

from __future__ import annotations

import logging
import os
import sqlite3
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, TypeVar, overload

import trio

from minwebhook.db import connections, copies, failures
from minwebhook.db.log_size import LogSize
from minwebhook.db.migrations import MIGRATIONS, Migration, migrate
from minwebhook.errors import SettingsError, Unavailable
from minwebhook.observability.figures import CommitFigures

logger = logging.getLogger(__name__)

T = TypeVar("T")

#: Writes of one transaction at most; bounds how long one commit holds the loop (some 10 ms).
MAX_BATCH: Final = 512

#: Writes that may wait at once; see rule 6.
MAX_PENDING: Final = 32 * MAX_BATCH

#: The pause between two tries of the flusher while another program has locked the database.
_BUSY_PAUSE_S: Final = 0.01

#: How long the flusher goes on committing after it was cancelled; what is left then fails with ``Unavailable``.
DRAIN_S: Final = 5.0

#: List queries that run at the same time, and the longest run of one.
READER_THREADS: Final = 4
READ_TIMEOUT_S: Final = 10.0

#: Called with the SQL text (never the values) and the error of a ``post`` that failed.
OnError = Callable[[str, Exception], None]


@dataclass(slots=True, eq=False)
class _Write:
    """One queued write: a statement, or a function of the connection; then its outcome."""

    sql: str
    params: Sequence[Any] = ()
    work: Callable[[sqlite3.Connection], Any] | None = None
    is_waited_for: bool = True
    is_durable: bool = True
    result: Any = None
    error: Exception | None = None


@dataclass(slots=True, eq=False)
class _Batch:
    """The writes of one transaction, and who waits for its end."""

    writes: list[_Write] = field(default_factory=list)
    waiters: set[trio.lowlevel.Task] = field(default_factory=set)
    is_over: bool = False
    error: Exception | None = None

    async def wait(self, *, is_shielded: bool = False) -> None:
        """Until the transaction has ended. ``is_shielded``: whatever becomes of the caller; the flusher always gets there.

        As a cancel scope with a shield, at a fifth of its price.
        """
        if self.is_over:
            await trio.lowlevel.checkpoint()
            return
        task = trio.lowlevel.current_task()
        self.waiters.add(task)

        def abort(_: object) -> trio.lowlevel.Abort:
            if is_shielded:
                return trio.lowlevel.Abort.FAILED
            self.waiters.discard(task)
            return trio.lowlevel.Abort.SUCCEEDED

        await trio.lowlevel.wait_task_rescheduled(abort)

    def end(self, error: Exception | None) -> None:
        """It has: tells everyone."""
        self.is_over, self.error = True, error
        for task in self.waiters:
            trio.lowlevel.reschedule(task)
        self.waiters.clear()


class _TransactionLost(Exception):
    """SQLite rolled the whole transaction back while one statement ran."""


def _log_error(sql: str, error: Exception) -> None:
    logger.error("a queued write failed: %s", sql, exc_info=error)


@dataclass(slots=True, eq=False)
class Companion:
    """What is done together with a change (:meth:`Database.together_with`)."""

    work: Callable[[sqlite3.Connection], None]
    is_done: bool = False

    def joined_with(self, work: Callable[[sqlite3.Connection], T]) -> Callable[[sqlite3.Connection], T]:
        """Both, one after the other."""

        def both(connection: sqlite3.Connection) -> T:
            result = work(connection)
            self.work(connection)
            return result

        return both


#: Of the task that asks for a transaction.
_COMPANION: ContextVar[Companion | None] = ContextVar("companion", default=None)


class Database:
    """One SQLite file: queued and awaited writes, point reads in the loop, list reads in threads.

    Made by :meth:`open`; :meth:`run` must be running in a nursery for awaited writes to return. All methods belong to
    the loop's thread.
    """

    def __init__(self, path: Path, writer: sqlite3.Connection, lock_fd: int, on_error: OnError) -> None:
        self._path = path
        self._writer = writer
        self._lock_fd = lock_fd
        self._on_error = on_error
        self._reader = connections.open_reader(path)
        self._idle_readers: deque[sqlite3.Connection] = deque()
        self._writer_in_thread = threading.Lock()
        self._checkpoints = trio.CapacityLimiter(1)
        self._reader_limiter = trio.CapacityLimiter(READER_THREADS)
        self._batches: deque[_Batch] = deque()
        self._pending = 0
        self._wake = trio.Event()
        #: Whether a commit returns when it is on disk: ``synchronous``.
        self._syncs = True
        self._log_size = LogSize()
        #: Whether what was committed may never come to the disk, although later syncs succeed.
        self._is_in_doubt = False
        self.figures = CommitFigures()
        self._is_committing = False
        self._has_ended = False
        self._is_closed = False

    @classmethod
    def open(
        cls, path: Path, migrations: Sequence[Migration] = MIGRATIONS, *, on_error: OnError = _log_error
    ) -> Database:
        """Open or create the database file (mode 0600) and bring its schema up to date.

        ``on_error`` hears of every ``post`` that failed. Raises :class:`SettingsError` when the file cannot be used: no
        access, another server has it, not a database of ours, or of a newer version of this program.
        """
        path = path.absolute()
        lock_fd = -1
        writer: sqlite3.Connection | None = None
        try:
            path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            # Two servers on one file would run each job twice and trust stale caches.
            lock_fd = copies.lock(path)
            # SQLite gives its -wal and -shm files the mode of the main file.
            fd = os.open(path, os.O_CREAT | os.O_RDWR | os.O_CLOEXEC, 0o600)
            try:
                os.fchmod(fd, 0o600)
            finally:
                os.close(fd)
            writer = connections.open_writer(path)
            migrate(writer, migrations, keep_copy=lambda version: _keep_copy(writer, path, version))
            # The process before may have died of a disk that did not sync. A reader of another program may keep a part of it.
            writer.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()
            # What a savepoint would bring back: more than 64 KiB of it would be a new file, outside of the directory of the
            # data, in nearly every transaction. Not before, because indexes are made of what is sorted there.
            writer.execute("PRAGMA temp_store = MEMORY")
            return cls(path, writer, lock_fd, on_error)
        except BaseException as error:
            if writer is not None:
                writer.close()
            if lock_fd >= 0:
                os.close(lock_fd)
            if isinstance(error, OSError):
                raise SettingsError(f"cannot open the database {path}: {error.strerror}") from error
            if isinstance(error, sqlite3.Error):
                raise SettingsError(f"cannot open the database {path}: {error}") from error
            raise

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """The flusher: commits what is queued, one transaction per pass of the scheduler, until it is cancelled.

        When cancelled it commits everything still queued, for at most ``DRAIN_S``. Writes that come later, until
        :meth:`close`, are committed at once by whoever makes them.
        """
        task_status.started()
        try:
            self._writer.execute("PRAGMA busy_timeout = 0")
            while True:
                await self._wake.wait()
                if self._batches:
                    await self._commit_when_free()
                if self._log_size.is_due(self._writer.total_changes, self._log_bytes):
                    await self._checkpoint()
                if not self._batches:
                    self._wake = trio.Event()
        finally:
            if not self._is_closed:
                self._writer.execute(f"PRAGMA busy_timeout = {round(1000 * connections.BUSY_TIMEOUT_S)}")
            self._has_ended = True
            self._drain()

    async def _checkpoint(self) -> None:
        """Bring the log to the database file, in a thread: the loop goes on, and only writes wait."""
        pages = 0

        def work() -> int:
            with self._writer_in_thread:
                return connections.checkpoint(self._writer)

        self._is_committing = True
        try:
            try:
                pages = await trio.to_thread.run_sync(work, limiter=self._checkpoints)
            except RuntimeError:  # the machine has no room for another thread
                pages = work()
        except sqlite3.Error as error:
            if not self._is_closed:
                self._on_error("checkpoint", error)
                self._is_in_doubt |= failures.is_of_disk(error)
        finally:
            self._is_committing = False
            if not self._is_closed:
                self._log_size.note_checkpoint(self._writer.total_changes, connections.log_bytes(self._path), pages)

    def _log_bytes(self) -> int:
        return connections.log_bytes(self._path)

    async def _commit_when_free(self) -> None:
        """Commit the oldest batch; the lock of another program is waited for without holding the loop."""
        deadline = time.monotonic() + connections.BUSY_TIMEOUT_S
        # A writer who finds the queue full may take the batch meanwhile.
        # Nobody tells of the end of another program's lock.
        while self._batches and self._is_locked() and time.monotonic() < deadline:  # noqa: ASYNC110
            await trio.sleep(_BUSY_PAUSE_S)
        if self._batches:
            self._commit_oldest()

    def _is_locked(self) -> bool:
        """Whether another program keeps the oldest batch from beginning. If not it has begun, or will say why it cannot."""
        try:
            self._begin(self._batches[0])
        except sqlite3.Error as error:
            return failures.is_lock(error)
        return False

    def post(self, sql: str, params: Sequence[Any] = ()) -> None:
        """Queue one statement that nobody waits for. A failure is told to ``on_error``."""
        self._enqueue(_Write(sql, params, is_waited_for=False))

    async def write(self, sql: str, params: Sequence[Any] = (), *, is_shielded: bool = False) -> None:
        """Execute one statement; returns when it is on disk.

        Raises the statement's own :class:`sqlite3.Error` (a constraint, say) or :class:`Unavailable`. If the caller is
        cancelled, the write still happens; with ``is_shielded`` the caller learns what became of it all the same.
        """
        write = _Write(sql, params)
        await self._enqueue(write).wait(is_shielded=is_shielded)
        if write.error is not None:
            raise write.error

    def post_work(self, work: Callable[[sqlite3.Connection], None]) -> None:
        """Call ``work`` in the next transaction; nobody waits for it. A failure is told to ``on_error``."""
        self._enqueue(_Write("posted work", work=work, is_waited_for=False))

    @contextmanager
    def together_with(self, work: Callable[[sqlite3.Connection], None]) -> Iterator[Companion]:
        """Inside the block, this task's first :meth:`transact` that succeeds also calls ``work``: both happen, or neither."""
        companion = Companion(work)
        before = _COMPANION.set(companion)
        try:
            yield companion
        finally:
            _COMPANION.reset(before)

    async def transact(
        self, work: Callable[[sqlite3.Connection], T], *, is_shielded: bool = False, is_durable: bool = True
    ) -> T:
        """Call ``work`` with the writing connection; returns its value when its changes are on disk.

        Without ``is_durable`` a kill of the server cannot undo them any more, but a power cut can: for what nobody waits
        for, and whoever writes it calls :meth:`sync` soon.

        ``work`` is plain, fast, does not end the transaction, and keeps no cursor. An exception from it undoes its
        changes alone and is raised here. No task runs between the start of ``work`` and COMMIT, so ``work`` may also
        evict what it makes stale from caches in memory, safe from the caller's cancellation. Like :meth:`write`, it
        still happens when the caller is cancelled, who may be shielded from that.
        """
        companion = _COMPANION.get()
        both = work if companion is None or companion.is_done else companion.joined_with(work)
        write = _Write("", work=both, is_durable=is_durable)
        await self._enqueue(write).wait(is_shielded=is_shielded)
        if write.error is not None:
            raise write.error
        if companion is not None:
            companion.is_done = True
        result: T = write.result
        return result

    async def transact_now(self, work: Callable[[sqlite3.Connection], T]) -> T:
        """As :meth:`transact`, but if nobody else has a write that waits, at once: it saves two passes of the scheduler."""
        is_alone = not self._batches and not self._is_committing and not self._has_ended
        write = _Write("", work=work)
        batch = self._enqueue(write)
        if is_alone and self._batches and not self._is_locked():
            self._commit_oldest()
        if not batch.is_over:
            await batch.wait()
        if write.error is not None:
            raise write.error
        result: T = write.result
        return result

    async def sync(self) -> None:
        """Return when everything committed is on disk. In a thread: the loop goes on.

        Raises :class:`Unavailable` while that cannot be had; to be tried again then, what was committed stays so.
        """
        try:
            try:
                await trio.to_thread.run_sync(connections.sync, self._path)
            except RuntimeError:  # the machine has no room for another thread
                connections.sync(self._path)
        except OSError as error:
            self._on_error("sync", error)
            self._is_in_doubt = True
        if self._is_in_doubt:
            await self.transact(lambda connection: None)  # what has to come before it

    async def flush(self) -> None:
        """Return when everything queued so far is on disk; raises :class:`Unavailable` if a transaction failed."""
        batches = tuple(self._batches)
        if not batches:
            await trio.lowlevel.checkpoint()
        for batch in batches:
            await batch.wait()
        for batch in batches:
            if batch.error is not None:
                raise failures.unavailable(batch.error)

    async def probe(self) -> None:
        """Return when something small that changes nothing was written to the disk; raises :class:`Unavailable`."""

        def work(connection: sqlite3.Connection) -> None:
            version = connection.execute("PRAGMA user_version").fetchone()[0]
            connection.execute(f"PRAGMA user_version = {version}")

        await self.transact(work)

    @property
    def pending_count(self) -> int:
        """Writes that wait for their transaction."""
        return self._pending

    @property
    def reader_counts(self) -> tuple[int, int, int]:
        """Connections that read lists: how many are open, how many of them idle, how many there may be."""
        idle, busy = len(self._idle_readers), int(self._reader_limiter.borrowed_tokens)
        return idle + busy, idle, READER_THREADS

    @property
    def path(self) -> Path:
        """The file."""
        return self._path

    def read(self, sql: str, params: Sequence[Any] = ()) -> list[sqlite3.Row]:
        """The rows of a query, read in the loop: for look-ups by key only. Sees what is committed."""
        if self._is_closed:
            raise Unavailable("the database is closed")
        try:
            return self._reader.execute(sql, params).fetchall()
        except sqlite3.Error as error:
            raise failures.translate(error) from error

    def inspect(self, look: Callable[[sqlite3.Connection], T]) -> T:
        """What ``look`` finds with a reading connection; for the start, when nobody waits."""
        return look(self._reader)

    def read_blob(self, table: str, column: str, rowid: int, start: int, size: int) -> bytes:
        """A piece of one BLOB or TEXT value, without reading the rest of it; b"" behind its end, or without the row."""
        if self._is_closed:
            raise Unavailable("the database is closed")
        try:
            with self._reader.blobopen(table, column, rowid, readonly=True) as blob:
                if start >= len(blob):
                    return b""
                blob.seek(start)
                return blob.read(size)
        except sqlite3.OperationalError as error:
            if error.sqlite_errorcode == sqlite3.SQLITE_ERROR:  # "no such rowid"
                return b""
            raise failures.translate(error) from error
        except sqlite3.Error as error:
            raise failures.translate(error) from error

    @overload
    async def read_in_thread(self, sql: str, params: Sequence[Any] = ()) -> list[sqlite3.Row]: ...
    @overload
    async def read_in_thread(self, sql: str, params: Sequence[Any], make: Callable[[sqlite3.Row], T]) -> list[T]: ...
    async def read_in_thread(
        self, sql: str, params: Sequence[Any] = (), make: Callable[[sqlite3.Row], Any] | None = None
    ) -> list[Any]:
        """The rows of a query that may take long, read in a thread of its own pool (``READER_THREADS``).

        ``make`` turns each into something else, in the thread. A query over ``READ_TIMEOUT_S`` is broken off with
        :class:`Unavailable`, and so is one for which the machine has no thread; a cancelled caller waits for its end.
        """
        if self._is_closed:
            raise Unavailable("the database is closed")

        has_thread = False

        def read() -> list[Any]:
            nonlocal has_thread
            has_thread = True
            try:
                return self._read_with_idle(sql, params, make)
            except sqlite3.Error as error:
                raise failures.translate(error) from error

        try:
            return await trio.to_thread.run_sync(read, limiter=self._reader_limiter)
        except RuntimeError as error:
            if has_thread:
                raise
            raise Unavailable("the server has no room for another thread") from error

    def close(self) -> None:
        """Commit what is still queued and close all connections. May be called again."""
        if self._is_closed:
            return
        with self._writer_in_thread:  # waits for a checkpoint
            self._is_committing = False
            self._drain()
            self._is_closed = True
        self._reader.close()
        while self._idle_readers:
            self._idle_readers.popleft().close()
        self._writer.close()
        os.close(self._lock_fd)

    # The queue

    def _enqueue(self, write: _Write) -> _Batch:
        """Put ``write`` into the newest transaction that has room; the batch tells when it is over."""
        if self._is_closed:
            raise Unavailable("the database is closed")
        # Not while committing: a `work` or `on_error` that posts must not start a transaction inside the other.
        if self._pending >= MAX_PENDING and not self._is_committing:
            self._commit_oldest()
        if not self._batches or len(self._batches[-1].writes) >= MAX_BATCH:
            self._batches.append(_Batch())
        batch = self._batches[-1]
        batch.writes.append(write)
        self._pending += 1
        if self._has_ended:
            self._drain()
        else:
            self._wake.set()
        return batch

    def _drain(self) -> None:
        """Commit all batches; those not begun within ``DRAIN_S`` fail."""
        deadline = time.monotonic() + DRAIN_S
        while self._batches and not self._is_committing:
            if time.monotonic() < deadline:
                self._commit_oldest()
            else:
                self._finish(self._batches.popleft(), TimeoutError("the store was not flushed in time"))

    def _commit_oldest(self) -> None:
        """Run the oldest batch as one transaction, which may have begun, and tell its waiters."""
        batch = self._batches.popleft()
        started = time.perf_counter()
        lost: Exception | None = _TransactionLost("interrupted")
        self._is_committing = True
        try:
            if not self._writer.in_transaction:
                self._begin(batch)
            for write in batch.writes:
                self._apply(write)
            self._writer.execute("COMMIT")
            lost = None
        except _TransactionLost as error:
            lost = error.__cause__ if isinstance(error.__cause__, Exception) else error
        except sqlite3.Error as error:
            lost = error
        finally:
            if lost is None:
                self.figures.commits.add(time.perf_counter() - started)
                self.figures.writes += len(batch.writes)
            else:
                self.figures.failures += 1
                self._is_in_doubt |= failures.is_of_disk(lost)
                self._roll_back()
            self._is_committing = False
            self._finish(batch, lost)

    def _begin(self, batch: _Batch) -> None:
        """Begin its transaction. Whether a commit syncs cannot be changed within one."""
        if self._is_in_doubt:
            connections.rewrite(self._writer)
            self._is_in_doubt = False
            logger.warning("the disk had failed to sync; all that was committed is written anew, and on it")
        syncs = any(write.is_durable for write in batch.writes)
        if syncs is not self._syncs:
            self._writer.execute(f"PRAGMA synchronous = {'FULL' if syncs else 'NORMAL'}")
            self._syncs = syncs
        self._writer.execute("BEGIN IMMEDIATE")

    def _apply(self, write: _Write) -> None:
        """Execute one write inside the transaction; its own error stays with it."""
        try:
            if write.work is None:
                self._writer.execute(write.sql, write.params)
            else:
                write.result = self._apply_work(write.work)
        except Exception as error:
            # Disk full and I/O errors may end the whole transaction (https://sqlite.org/lang_transaction.html).
            if not self._writer.in_transaction:
                raise _TransactionLost from error
            write.error = failures.translate(error)

    def _apply_work(self, work: Callable[[sqlite3.Connection], Any]) -> Any:
        """Call ``work`` inside a savepoint."""
        self._writer.execute("SAVEPOINT work")
        try:
            result = work(self._writer)
            self._writer.execute("RELEASE work")
        except BaseException:
            if self._writer.in_transaction:
                self._writer.execute("ROLLBACK TO work")
                self._writer.execute("RELEASE work")
            raise
        return result

    def _roll_back(self) -> None:
        if self._writer.in_transaction:
            try:
                self._writer.execute("ROLLBACK")
            except sqlite3.Error as error:
                self._on_error("ROLLBACK", error)

    def _finish(self, batch: _Batch, lost: Exception | None) -> None:
        """Tell everyone who is interested in ``batch`` how it ended."""
        self._pending -= len(batch.writes)
        for write in batch.writes:
            if lost is not None and write.error is None:
                write.error = failures.unavailable(lost)
            if write.error is not None and not write.is_waited_for:
                self._on_error(write.sql, write.error)
        batch.end(lost)

    # Reading in threads

    def _read_with_idle(self, sql: str, params: Sequence[Any], make: Callable[[sqlite3.Row], Any] | None) -> list[Any]:
        """Run a query on an idle connection, or a new one; called in a thread."""
        try:
            connection = self._idle_readers.pop()
        except IndexError:
            connection = connections.open_reader(self._path)
        deadline = time.monotonic() + READ_TIMEOUT_S
        connection.set_progress_handler(lambda: time.monotonic() > deadline, 10_000)
        try:
            rows = connection.execute(sql, params).fetchall()
            return rows if make is None else [make(row) for row in rows]
        finally:
            if self._is_closed:
                connection.close()
            else:
                self._idle_readers.append(connection)


def _keep_copy(writer: sqlite3.Connection, path: Path, version: int) -> None:
    """The database as it is before its schema changes, beside it; copies of earlier versions go."""
    target = path.with_name(f"{path.name}.schema-{version}")
    logger.info("the schema of the database changes: a copy of it, in version %d, is kept in %s", version, target)
    target.unlink(missing_ok=True)  # of a migration that did not end
    try:
        copies.copy(writer, target)
    except (OSError, sqlite3.Error) as error:
        raise SettingsError(
            f"cannot keep a copy of the database before its schema changes: {error}; make room for one more {path.name}"
        ) from error
    for old in path.parent.glob(f"{path.name}.schema-*"):
        if old != target:
            old.unlink(missing_ok=True)
