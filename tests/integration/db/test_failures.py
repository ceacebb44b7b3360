"""What the world does to a database: crashes, full disks, locks, wrong files."""

from __future__ import annotations

import sqlite3
import stat
import subprocess
import sys
from pathlib import Path

import pytest
import trio
import trio.testing

from minwebhook.db.database import Database
from minwebhook.db.migrations import APPLICATION_ID, MIGRATIONS, Migration
from minwebhook.errors import SettingsError, Unavailable

INSERT = "INSERT INTO pair VALUES (?, ?)"
PAIR = Migration(1, "pairs", "CREATE TABLE pair (key INTEGER PRIMARY KEY, value TEXT NOT NULL) STRICT;")

# Eight writers, each tells of a row on stdout once `write` returned; ended from outside.
WRITER = f"""
import itertools, os, sys, trio
from pathlib import Path
from minwebhook.db.database import Database
from minwebhook.db.migrations import Migration

async def main():
    db = Database.open(Path(sys.argv[1]), [Migration(1, "pairs", {PAIR.script!r})])
    keys = itertools.count()
    async def write():
        for key in keys:
            await db.write({INSERT!r}, (key, "x" * 200))
            os.write(1, b"%d\\n" % key)
    async with trio.open_nursery() as nursery:
        await nursery.start(db.run)
        for _ in range(8):
            nursery.start_soon(write)

trio.run(main)
"""


async def test_every_acknowledged_row_survives_kill_9(tmp_path: Path) -> None:
    path = tmp_path / "test.db"
    process = await trio.lowlevel.open_process([sys.executable, "-c", WRITER, str(path)], stdout=subprocess.PIPE)
    assert process.stdout is not None
    told = b""
    try:
        with trio.fail_after(30):
            while told.count(b"\n") < 2000:
                piece = await process.stdout.receive_some()
                assert piece, "the writer ended early"
                told += piece
    finally:
        process.kill()
        with trio.CancelScope(shield=True, deadline=trio.current_time() + 10):
            await process.wait()
    async for piece in process.stdout:
        told += piece
    acknowledged = {int(line) for line in told[: told.rindex(b"\n")].split(b"\n")}

    db = Database.open(path, [PAIR])
    stored = {row["key"] for row in db.read("SELECT key FROM pair")}
    assert db.read("PRAGMA integrity_check")[0][0] == "ok"
    db.close()
    assert len(acknowledged) >= 2000
    assert acknowledged <= stored


async def test_a_full_disk_is_unavailable_and_passes(db: Database) -> None:
    def limit(pages: int) -> None:
        # `max_page_count` is SQLite's own simulation of a disk that has no more room.
        db._writer.execute(f"PRAGMA max_page_count = {pages}")

    limit(db.read("PRAGMA page_count")[0][0] + 8)
    stored = 0
    with pytest.raises(Unavailable, match="disk is full") as caught:
        while True:
            await db.write(INSERT, (stored, "x" * 2000))
            stored += 1
    assert isinstance(caught.value.__cause__, sqlite3.OperationalError)
    assert 0 < stored < 50
    limit(1_000_000)
    await db.write(INSERT, (1000, "there is room again"))
    assert db.read("SELECT count(*) FROM pair")[0][0] == stored + 1


async def test_a_lock_of_another_program_is_unavailable_and_passes(db: Database, tmp_path: Path) -> None:
    holder = (
        "import sqlite3, sys; c = sqlite3.connect(sys.argv[1], isolation_level=None); c.execute('BEGIN IMMEDIATE');"
        "sys.stdout.write('held'); sys.stdout.flush(); sys.stdin.read(); c.execute('ROLLBACK')"
    )
    command = [sys.executable, "-c", holder, str(tmp_path / "test.db")]
    process = await trio.lowlevel.open_process(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    assert process.stdin is not None
    assert process.stdout is not None
    try:
        with trio.fail_after(20):
            assert await process.stdout.receive_some() == b"held"
            with pytest.raises(Unavailable, match="locked by another program"):
                await db.write(INSERT, (1, "refused"))
            await process.stdin.aclose()
            await process.wait()
    finally:
        process.kill()
        await process.stdout.aclose()
    await db.write(INSERT, (2, "taken"))
    assert [row["key"] for row in db.read("SELECT key FROM pair")] == [2]


async def test_the_loop_goes_on_while_a_lock_is_waited_for(db: Database, tmp_path: Path) -> None:
    """The lock is held by this very thread, which can only let it go if nobody holds the loop."""
    other = sqlite3.connect(tmp_path / "test.db", isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    async with trio.open_nursery() as nursery:
        nursery.start_soon(db.write, INSERT, (1, "waits"))
        await trio.testing.wait_all_tasks_blocked()
        assert db.pending_count == 1
        nursery.start_soon(db.write, INSERT, (2, "comes while it waits"))
        await trio.testing.wait_all_tasks_blocked()
        other.execute("ROLLBACK")
    other.close()
    assert [row["key"] for row in db.read("SELECT key FROM pair")] == [1, 2]


def test_files_are_private(tmp_path: Path) -> None:
    path = tmp_path / "new" / "test.db"
    db = Database.open(path)
    modes = {file.name: stat.S_IMODE(file.stat().st_mode) for file in path.parent.iterdir()}
    assert modes == dict.fromkeys(("test.db", "test.db-wal", "test.db-shm", "test.db.lock"), 0o600)
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700
    db.close()


def test_commits_are_synced(tmp_path: Path) -> None:
    db = Database.open(tmp_path / "test.db")
    pragmas = {name: db._writer.execute(f"PRAGMA {name}").fetchone()[0] for name in ("journal_mode", "synchronous")}
    assert pragmas == {"journal_mode": "wal", "synchronous": 2}
    assert db._writer.execute("PRAGMA foreign_keys").fetchone()[0] == 1
    db.close()


def test_two_servers_cannot_have_one_database(tmp_path: Path) -> None:
    db = Database.open(tmp_path / "test.db")
    with pytest.raises(SettingsError, match="in use by another server"):
        Database.open(tmp_path / "test.db")
    db.close()
    Database.open(tmp_path / "test.db").close()


def test_migrations_are_applied_once_and_in_order(tmp_path: Path) -> None:
    path = tmp_path / "test.db"
    second = Migration(2, "column", "ALTER TABLE pair ADD COLUMN note TEXT;")
    Database.open(path, [PAIR]).close()
    Database.open(path, [PAIR]).close()
    db = Database.open(path, [PAIR, second])
    assert db.read("PRAGMA user_version")[0][0] == 2
    assert db.read("PRAGMA application_id")[0][0] == APPLICATION_ID
    assert [row["name"] for row in db.read("PRAGMA table_info(pair)")] == ["key", "value", "note"]
    db.close()


def test_a_failed_migration_leaves_the_old_schema(tmp_path: Path) -> None:
    path = tmp_path / "test.db"
    broken = Migration(2, "broken", "CREATE TABLE more (a INTEGER) STRICT; INSERT INTO nowhere VALUES (1);")
    Database.open(path, [PAIR]).close()
    with pytest.raises(SettingsError, match="no such table"):
        Database.open(path, [PAIR, broken])
    db = Database.open(path, [PAIR])
    assert [row["name"] for row in db.read("SELECT name FROM sqlite_schema WHERE type = 'table'")] == ["pair"]
    db.close()


def test_a_newer_schema_is_refused(tmp_path: Path) -> None:
    Database.open(tmp_path / "test.db", [PAIR, Migration(2, "later", "SELECT 1;")]).close()
    with pytest.raises(SettingsError, match="schema version 2, this program knows up to 1"):
        Database.open(tmp_path / "test.db", [PAIR])


def test_misnumbered_migrations_are_a_bug(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="numbered"):
        Database.open(tmp_path / "test.db", [PAIR, PAIR])


@pytest.mark.parametrize("kind", ["text", "other program", "directory", "forbidden"])
def test_files_that_are_not_ours_are_refused(tmp_path: Path, kind: str) -> None:
    path = tmp_path / "test.db"
    if kind == "text":
        path.write_text("not a database, but long enough to be read as the head of one\n" * 100)
    elif kind == "directory":
        path.mkdir()
    elif kind == "forbidden":
        path = tmp_path / "file" / "test.db"
        path.parent.write_text("a file where a directory should be")
    else:
        other = sqlite3.connect(path)
        other.execute("CREATE TABLE theirs (a)")
        other.close()
    with pytest.raises(SettingsError, match="database"):
        Database.open(path)


def test_the_released_schema_is_as_documented(tmp_path: Path) -> None:
    db = Database.open(tmp_path / "test.db", MIGRATIONS)
    tables = {
        row["name"]: row["sql"]
        for row in db.read("SELECT * FROM sqlite_schema WHERE type = 'table' AND name != 'sqlite_sequence'")
    }
    names = "workspace usr member token script job job_log job_stream result_cache workspace_storage upload idempotency"
    more = {"variable", "resource", "resource_type", "audit", "mail", "folder", "usr_group", "usr_group_member"}
    more.add("output_total")
    more |= {"flow", "flow_version", "flow_items", "flow_iteration", "approval"}
    more |= {"audit_start", "password_reset"}
    assert tables.keys() == {*names.split(), *more}
    assert all(sql.removesuffix(", WITHOUT ROWID").endswith("STRICT") for sql in tables.values())
    # The queue is found by its partial index, not by reading all jobs ever run.
    plan = db.read("EXPLAIN QUERY PLAN SELECT id FROM job WHERE status = 'queued' ORDER BY scheduled_for")
    assert "job_queued" in plan[0]["detail"]
    db.close()
