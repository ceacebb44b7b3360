"""Writes through the queue, on real files: order, isolation of failures, cancellation, bounds, the end."""

from __future__ import annotations

import sqlite3
import tempfile
import threading
from contextlib import suppress
from functools import partial
from pathlib import Path

import pytest
import trio
import trio.testing
from hypothesis import given, settings
from hypothesis import strategies as st

from minwebhook.db import connections
from minwebhook.db import database as module
from minwebhook.db.database import Database
from minwebhook.db.migrations import Migration
from minwebhook.errors import Unavailable

INSERT = "INSERT INTO pair VALUES (?, ?)"
UPSERT = "INSERT OR REPLACE INTO pair VALUES (?, ?)"
PAIR = (Migration(1, "pairs", "CREATE TABLE pair (key INTEGER PRIMARY KEY, value TEXT NOT NULL) STRICT;"),)


def pairs(db: Database) -> dict[int, str]:
    return {row["key"]: row["value"] for row in db.read("SELECT * FROM pair")}


async def test_a_write_is_readable_when_it_returns(db: Database) -> None:
    await db.write(INSERT, (1, "one"))
    assert pairs(db) == {1: "one"}


async def test_posts_keep_their_order_and_flush_waits_for_them(db: Database) -> None:
    for value in "abc":
        db.post(UPSERT, (1, value))
    assert pairs(db) == {}
    await db.flush()
    assert pairs(db) == {1: "c"}
    await db.flush()


async def test_only_what_may_come_later_to_the_disk_is_not_synced(db: Database) -> None:
    levels: list[int] = []

    def note(connection: sqlite3.Connection) -> None:
        levels.append(connection.execute("PRAGMA synchronous").fetchone()[0])

    normal, full = 1, 2
    await db.transact(note, is_durable=False)
    await db.transact(note)
    await db.transact(note, is_durable=False)
    async with trio.open_nursery() as nursery:  # one transaction
        nursery.start_soon(partial(db.transact, note, is_durable=False))
        nursery.start_soon(db.write, INSERT, (1, "one"))
    assert await db.transact_now(lambda connection: connection.execute("PRAGMA synchronous").fetchone()[0]) == full
    assert levels == [normal, full, normal, full]


async def test_the_log_goes_to_the_file_beside_the_loop_and_never_beside_a_commit(
    db: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    pages: list[int] = []
    begun, may_end = threading.Event(), threading.Event()
    checkpoint = connections.checkpoint

    def slow(writer: sqlite3.Connection) -> int:
        begun.set()
        assert may_end.wait(20)
        pages.append(checkpoint(writer))
        return pages[-1]

    monkeypatch.setattr(connections, "checkpoint", slow)

    async def fill() -> None:
        key = 0
        while not begun.is_set():
            await db.write(INSERT, (key, "x" * 10_000))
            key += 1

    async with trio.open_nursery() as nursery:
        nursery.start_soon(fill)
        assert await trio.to_thread.run_sync(begun.wait, 20)
        nursery.start_soon(db.write, INSERT, (-1, "comes meanwhile"))
        nursery.start_soon(db.transact_now, lambda connection: connection.execute(INSERT, (-2, "and this")))
        await trio.testing.wait_all_tasks_blocked()
        before = pairs(db)  # the loop goes on, and reads
        assert {-1, -2}.isdisjoint(before)
        assert db.pending_count >= 2
        may_end.set()
    assert {-1, -2, *before} <= pairs(db).keys()
    assert 500 < pages[0] < 2000


async def test_without_room_for_a_thread_the_loop_waits_for_the_disk(
    db: Database, errors: list[tuple[str, Exception]], monkeypatch: pytest.MonkeyPatch
) -> None:
    async def refuse(*_: object) -> None:
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(trio.to_thread, "run_sync", refuse)
    await db.transact(lambda connection: connection.execute(INSERT, (1, "one")).rowcount, is_durable=False)
    await db.sync()
    assert errors == []
    assert pairs(db) == {1: "one"}


async def test_without_room_for_a_thread_lists_are_unavailable(db: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    async def refuse(*_: object, **__: object) -> None:
        raise RuntimeError("can't start new thread")

    with monkeypatch.context() as patched:
        patched.setattr(trio.to_thread, "run_sync", refuse)
        with pytest.raises(Unavailable, match="no room for another thread"):
            await db.read_in_thread("SELECT 1")
    assert (await db.read_in_thread("SELECT 1"))[0][0] == 1
    with pytest.raises(RecursionError):  # a fault of ours is none of the machine
        await db.read_in_thread("SELECT 1", (), _recurse)


def _recurse(row: object) -> None:
    raise RecursionError


async def test_concurrent_writes_share_one_transaction(db: Database) -> None:
    commits: list[str] = []
    await db.transact(lambda connection: connection.set_trace_callback(commits.append))
    async with trio.open_nursery() as nursery:
        for key in range(50):
            nursery.start_soon(db.write, INSERT, (key, "x"))
    assert len(pairs(db)) == 50
    assert commits.count("COMMIT") == 2  # the one that set the trace, and one for all fifty
    await db.transact(lambda connection: connection.set_trace_callback(None))


async def test_a_failing_statement_undoes_only_itself(db: Database, errors: list[tuple[str, Exception]]) -> None:
    outcomes: dict[str, str] = {}

    async def attempt(name: str, key: int, value: str | None) -> None:
        try:
            await db.write(INSERT, (key, value))
            outcomes[name] = "stored"
        except sqlite3.IntegrityError:
            outcomes[name] = "refused"

    db.post(INSERT, (9, "posted"))
    db.post(INSERT, (9, "again"))
    async with trio.open_nursery() as nursery:
        nursery.start_soon(attempt, "good", 1, "one")
        nursery.start_soon(attempt, "null", 2, None)
        nursery.start_soon(attempt, "also good", 3, "three")
    assert outcomes == {"good": "stored", "null": "refused", "also good": "stored"}
    assert pairs(db) == {1: "one", 3: "three", 9: "posted"}
    assert [(sql, type(error)) for sql, error in errors] == [(INSERT, sqlite3.IntegrityError)]


async def test_a_failing_function_undoes_only_itself(db: Database) -> None:
    def half(connection: sqlite3.Connection) -> None:
        connection.execute(INSERT, (1, "half"))
        raise LookupError("the other half")

    def whole(connection: sqlite3.Connection) -> int:
        return connection.execute(INSERT, (2, "whole")).rowcount

    db.post(INSERT, (3, "beside"))
    with pytest.raises(LookupError, match="the other half"):
        await db.transact(half)
    assert await db.transact(whole) == 1
    assert pairs(db) == {2: "whole", 3: "beside"}


async def test_a_function_that_ends_the_transaction_fails_the_batch_only(db: Database) -> None:
    with pytest.raises(Unavailable):
        await db.transact(lambda connection: connection.execute("ROLLBACK"))
    await db.write(INSERT, (1, "after"))
    assert pairs(db) == {1: "after"}


async def test_a_failing_commit_fails_every_waiter_and_the_next_one_works(
    db: Database, errors: list[tuple[str, Exception]]
) -> None:
    caught: list[Unavailable] = []

    async def attempt(sql: str, params: tuple[object, ...]) -> None:
        # Here and not before the nursery: only what is queued in one pass surely shares a transaction.
        db.post(INSERT, (8, "posted"))
        try:
            await db.write(sql, params)
        except Unavailable as error:
            caught.append(error)

    async with trio.open_nursery() as nursery:
        nursery.start_soon(attempt, INSERT, (1, "innocent"))
        # A deferred foreign key is checked by COMMIT, so this is a statement that works and a commit that does not.
        nursery.start_soon(attempt, "INSERT INTO child VALUES (?)", (404,))
    assert len(caught) == 2
    assert caught[0] is not caught[1]
    assert all(isinstance(error.__cause__, sqlite3.Error) for error in caught)
    assert [sql for sql, _ in errors] == [INSERT, INSERT]
    assert pairs(db) == {}
    await db.write(INSERT, (2, "after"))
    assert pairs(db) == {2: "after"}


async def test_flush_tells_of_a_failed_commit(db: Database, errors: list[tuple[str, Exception]]) -> None:
    db.post("INSERT INTO child VALUES (?)", (404,))
    with pytest.raises(Unavailable):
        await db.flush()
    assert len(errors) == 1


async def test_a_cancelled_waiter_s_write_still_happens(db: Database) -> None:
    with trio.CancelScope() as scope:
        scope.cancel()
        await db.write(INSERT, (1, "left alone"))
    assert scope.cancelled_caught
    await db.flush()
    assert pairs(db) == {1: "left alone"}


async def test_a_shielded_waiter_learns_what_became_of_its_write(db: Database) -> None:
    outcomes: list[object] = []
    with trio.CancelScope() as scope:
        scope.cancel()
        await db.write(INSERT, (1, "known"), is_shielded=True)
        outcomes.append(pairs(db))
        outcomes.append(
            await db.transact(lambda connection: connection.execute(INSERT, (2, "x")).rowcount, is_shielded=True)
        )
        try:
            await db.write(INSERT, (1, "again"), is_shielded=True)
        except sqlite3.IntegrityError as error:
            outcomes.append(type(error))
        await trio.lowlevel.checkpoint()
        outcomes.append("not reached")
    assert scope.cancelled_caught
    assert outcomes == [{1: "known"}, 1, sqlite3.IntegrityError]


async def test_a_full_queue_is_relieved_by_whoever_fills_it(db: Database) -> None:
    for key in range(module.MAX_PENDING):
        db.post(INSERT, (key, "x"))
    assert pairs(db) == {}
    db.post(INSERT, (-1, "one too many"))
    assert len(pairs(db)) == module.MAX_BATCH
    await db.flush()
    assert len(pairs(db)) == module.MAX_PENDING + 1


async def test_an_error_handler_may_post(tmp_path: Path, nursery: trio.Nursery) -> None:
    def note(sql: str, error: Exception) -> None:
        db.post(UPSERT, (99, type(error).__name__))

    db = Database.open(tmp_path / "test.db", PAIR, on_error=note)
    await nursery.start(db.run)
    db.post("INSERT INTO nowhere VALUES (1)")
    await db.flush()
    await db.flush()
    assert pairs(db) == {99: "OperationalError"}
    db.close()


async def test_the_flusher_commits_what_is_left_when_cancelled(tmp_path: Path) -> None:
    db = Database.open(tmp_path / "test.db", PAIR)
    async with trio.open_nursery() as nursery:
        await nursery.start(db.run)
        for key in range(3 * module.MAX_BATCH):
            db.post(INSERT, (key, "x"))
        nursery.cancel_scope.cancel()
    assert len(pairs(db)) == 3 * module.MAX_BATCH

    await db.write(INSERT, (-1, "at once"))
    db.post(INSERT, (-2, "at once, too"))
    assert {-1, -2} <= pairs(db).keys()
    db.close()
    db.close()
    for attempt in (lambda: db.post(INSERT, (-3, "x")), lambda: db.read("SELECT 1")):
        with pytest.raises(Unavailable, match="closed"):
            attempt()
    with pytest.raises(Unavailable, match="closed"):
        await db.read_in_thread("SELECT 1")


async def test_the_last_flush_has_a_deadline(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    failed: list[Exception] = []
    db = Database.open(tmp_path / "test.db", PAIR, on_error=lambda _, error: failed.append(error))
    db.post(INSERT, (1, "too late"))
    monkeypatch.setattr(module, "DRAIN_S", 0.0)
    db.close()
    assert [type(error) for error in failed] == [Unavailable]
    assert isinstance(failed[0].__cause__, TimeoutError)


async def test_close_commits_what_was_posted_before_the_flusher_started(tmp_path: Path) -> None:
    db = Database.open(tmp_path / "test.db", PAIR)
    db.post(INSERT, (1, "early"))
    db.close()
    db = Database.open(tmp_path / "test.db", PAIR)
    assert pairs(db) == {1: "early"}
    db.close()


async def test_lists_are_read_in_threads_by_connections_that_are_used_again(db: Database) -> None:
    await db.write(INSERT, (1, "one"))
    found: list[str] = []

    async def look() -> None:
        found.extend(row["value"] for row in await db.read_in_thread("SELECT value FROM pair WHERE key = ?", (1,)))

    async with trio.open_nursery() as nursery:
        for _ in range(20):
            nursery.start_soon(look)
    assert found == ["one"] * 20


async def test_readers_cannot_write(db: Database) -> None:
    with pytest.raises(Unavailable, match="read-only"):
        db.read("DELETE FROM pair")
    with pytest.raises(Unavailable, match="read-only"):
        await db.read_in_thread("DELETE FROM pair")
    with pytest.raises(sqlite3.OperationalError, match="no such table"):
        db.read("SELECT * FROM nowhere")


async def test_an_endless_query_is_broken_off(db: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "READ_TIMEOUT_S", 0.0)
    endless = "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n) SELECT max(i) FROM n"
    with pytest.raises(Unavailable, match="too long"):
        await db.read_in_thread(endless)
    monkeypatch.undo()
    assert await db.read_in_thread("SELECT 1")


keys = st.integers(0, 5)
values = st.one_of(st.text("ab", max_size=2), st.none())
step = st.tuples(st.sampled_from(["post", "write", "transact", "cancelled"]), keys, values)


@settings(max_examples=60, deadline=None)
@given(st.lists(st.lists(step, max_size=8), max_size=4))
async def test_the_queue_behaves_like_a_dict(rounds: list[list[tuple[str, int, str | None]]]) -> None:
    """Whatever is queued together, by whatever method: the valid writes take effect in order, the others not at all."""
    model: dict[int, str] = {}
    rejected = 0
    errors: list[Exception] = []

    with tempfile.TemporaryDirectory() as folder:
        db = Database.open(Path(folder) / "test.db", PAIR, on_error=lambda _, error: errors.append(error))

        async def apply(method: str, key: int, value: str | None) -> None:
            nonlocal rejected
            try:
                if method == "transact":
                    await db.transact(lambda connection: connection.execute(UPSERT, (key, value)).rowcount)
                else:
                    await db.write(UPSERT, (key, value))
            except sqlite3.IntegrityError:
                rejected += 1

        async with trio.open_nursery() as nursery:
            await nursery.start(db.run)
            for together in rounds:
                invalid = 0
                before = rejected + len(errors)
                async with trio.open_nursery() as callers:
                    for method, key, value in together:
                        if method == "post":
                            db.post(UPSERT, (key, value))
                        elif method == "cancelled":
                            with trio.CancelScope() as scope:
                                scope.cancel()
                                await db.write(UPSERT, (key, value))
                        else:
                            # Each in turn reaches its wait before the next starts, so the order is known.
                            callers.start_soon(apply, method, key, value)
                            await trio.testing.wait_all_tasks_blocked()
                        if value is not None:
                            model[key] = value
                        elif method != "cancelled":
                            invalid += 1
                await db.flush()
                assert pairs(db) == model
                assert rejected + len(errors) - before == invalid
            nursery.cancel_scope.cancel()
        db.close()


async def test_nothing_of_a_transaction_is_in_a_file_outside_of_the_directory(db: Database) -> None:
    """SQLite keeps what a savepoint would bring back; more than 64 KiB of it would go into a temporary file."""
    open_files: set[str] = set()

    def change(connection: sqlite3.Connection) -> None:
        connection.executemany(UPSERT, ((key, "y" * 1000) for key in range(200)))
        for link in Path("/proc/self/fd").iterdir():
            with suppress(OSError):  # the one of the directory
                open_files.add(str(link.readlink()))

    await db.transact(lambda connection: connection.executemany(UPSERT, ((key, "x" * 1000) for key in range(200))))
    await db.transact(change)
    assert pairs(db)[199] == "y" * 1000
    assert not [name for name in open_files if "etilqs" in name]
