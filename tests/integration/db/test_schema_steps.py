"""Databases of earlier versions, with rows in them, and the queries that the indexes are for."""

from __future__ import annotations

import re
import sqlite3
from pathlib import Path
from uuid import UUID

import pytest

from minwebhook.auth.store import AuthStore
from minwebhook.db.database import Database
from minwebhook.db.migrations import MIGRATIONS, migrate
from minwebhook.jobs.filters import JobFilter
from minwebhook.jobs.model import JobState
from minwebhook.jobs.store import JobStore


def test_the_second_step_keeps_what_was_there(tmp_path: Path) -> None:
    path = tmp_path / "test.db"
    old = sqlite3.connect(path, isolation_level=None)
    migrate(old, MIGRATIONS[:1])
    for name in ("admins", "demo"):
        old.execute("INSERT INTO workspace VALUES (?, 'A name', 1, 0)", (name,))
    for number, status in enumerate(("queued", "success", "failure")):
        old.execute(
            "INSERT INTO job (id, workspace_id, kind, status, script_path, language, created_by, email, permissioned_as,"
            " created_at, scheduled_for, args, result, completed_at)"
            " VALUES (?, 'demo', 'script', ?, 'u/a/b', 'bash', 'a', 'e', 'u/a', ?, 5, x'7b7d', x'31', 7)",
            (UUID(int=number).bytes, status, number),
        )
        old.execute("INSERT INTO job_log VALUES (?, 'a log')", (UUID(int=number).bytes,))
    old.close()
    db = Database.open(path)
    try:
        auth, store = AuthStore(db), JobStore(db)
        keys = [row["key"] for row in db.read("SELECT key FROM workspace")]
        assert all(re.fullmatch("[0-9a-f]{64}", key or "") for key in keys)
        assert len(set(keys)) == 2
        assert auth.workspace_exists("demo")
        [queued] = store.queued()
        assert (queued.id, queued.state, queued.deleted) == (UUID(int=0), JobState.QUEUED, False)
        ended = store.get("demo", UUID(int=2))
        assert ended is not None
        assert (ended.state, ended.arguments, ended.result, ended.deleted) == (JobState.FAILURE, b"{}", b"1", False)
        assert store.log(UUID(int=2)) == "a log"
        assert store.next_wipe_ms() is None
        assert db.read("PRAGMA integrity_check")[0][0] == "ok"
    finally:
        db.close()


def test_a_key_of_the_wrong_length_is_no_key(tmp_path: Path) -> None:
    connection = sqlite3.connect(tmp_path / "test.db", isolation_level=None)
    migrate(connection)
    connection.execute("INSERT INTO workspace (id, name, created_at) VALUES ('a', '', 1)")
    with pytest.raises(sqlite3.IntegrityError):
        connection.execute("INSERT INTO workspace (id, name, created_at, key) VALUES ('b', '', 1, '')")
    assert connection.execute("SELECT id, key FROM workspace").fetchall() == [("a", None)]
    connection.close()


PARENT = str(UUID(int=1))


@pytest.mark.parametrize(
    ("query", "workspace", "index"),
    [
        ({}, "demo", "job_ended"),
        ({}, None, "job_ended_anywhere"),
        ({"order_desc": "false"}, "demo", "job_ended"),
        ({"success": "false"}, "demo", "job_ended"),
        ({"created_before": "2030-01-31T12:00:00Z"}, "demo", "job_ended"),
        ({"tag": "a"}, "demo", "job_ended"),
        ({"args": "{}"}, "demo", "job_ended"),
        ({"script_path_exact": "u/a/b"}, "demo", "job_ended_by_script"),
        ({"script_path_exact": "u/a/b", "success": "true"}, "demo", "job_ended_by_script"),
        ({"parent_job": PARENT}, "demo", "job_by_parent"),
    ],
)
def test_a_page_is_read_from_an_index_in_its_order(
    tmp_path: Path, query: dict[str, str], workspace: str | None, index: str
) -> None:
    """A list of a million jobs costs what its page costs: nothing is sorted."""
    wanted = JobFilter.parse(query, 0)
    where, values = wanted.where(workspace)
    order = "DESC" if wanted.newest_first else "ASC"
    db = Database.open(tmp_path / "test.db")
    plan = db.read(
        f"EXPLAIN QUERY PLAN SELECT * FROM job WHERE {where} "  # noqa: S608
        f"ORDER BY job.created_at {order}, job.id {order} LIMIT 100 OFFSET 0",
        values,
    )
    db.close()
    [step] = [row["detail"] for row in plan]
    assert f"USING INDEX {index}" in step


@pytest.mark.parametrize(
    ("query", "index"),
    [
        ("SELECT count(*) FROM job WHERE status != 'queued' AND workspace_id = '' AND completed_at >= 1", "job_by_end"),
        ("SELECT min(delete_at) FROM job WHERE delete_at IS NOT NULL", "job_to_wipe"),
        ("SELECT id FROM job WHERE delete_at <= 1 ORDER BY delete_at LIMIT 1", "job_to_wipe"),
    ],
)
def test_counts_and_wiping_do_not_read_all_jobs(tmp_path: Path, query: str, index: str) -> None:
    db = Database.open(tmp_path / "test.db")
    plan = db.read(f"EXPLAIN QUERY PLAN {query}")
    db.close()
    assert index in plan[0]["detail"]
    assert "SEARCH" in plan[0]["detail"]
