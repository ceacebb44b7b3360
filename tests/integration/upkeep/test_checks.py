"""``minwebhook check``: what it finds, what it repairs, and its exit code."""

from __future__ import annotations

import json
import os
import sqlite3
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest

from minwebhook.db import copies
from minwebhook.db.migrations import MIGRATIONS, migrate
from minwebhook.errors import SettingsError, UpkeepError
from minwebhook.upkeep.check import RULES, check, repair
from tests.server import Server

JOB = (
    "INSERT INTO job (id, workspace_id, kind, status, script_hash, created_by, email, permissioned_as, created_at,"
    " scheduled_for, args, completed_at) VALUES (?, 'demo', 'script', ?, ?, 'a', 'e', 'u/a', 1, 1, ?, ?)"
)


def key(number: int) -> bytes:
    return UUID(int=number).bytes


@pytest.fixture
def data(tmp_path: Path) -> Path:
    folder = tmp_path / "data"
    folder.mkdir()
    connection = sqlite3.connect(folder / copies.FILE_NAME, isolation_level=None)
    migrate(connection)
    connection.execute("INSERT INTO workspace (id, name, created_at) VALUES ('demo', '', 1)")
    connection.execute(JOB, (key(1), "queued", None, b"{}", None))
    connection.execute(JOB, (key(2), "success", None, b"{}", 5))
    connection.execute("INSERT INTO job_log VALUES (?, 'fine')", (key(2),))
    connection.close()
    return folder


def execute(data: Path, *statements: tuple[str, tuple[Any, ...]]) -> None:
    connection = sqlite3.connect(data / copies.FILE_NAME, isolation_level=None)
    for statement, values in statements:
        connection.execute(statement, values)
    connection.close()


def command(*arguments: str) -> tuple[int, str, str]:
    done = subprocess.run(
        [sys.executable, "-m", "minwebhook", "check", *arguments],
        capture_output=True, text=True, check=False, timeout=50,
    )  # fmt: skip
    return done.returncode, done.stdout, done.stderr


def test_a_sound_directory(data: Path) -> None:
    report = check(data)
    assert (report.problems, report.notes, report.schema_version) == ([], [], len(MIGRATIONS))
    assert report.sizes["jobs"] == {"queued": 1, "success": 1}
    assert report.sizes["file_bytes"] > 0
    assert command("--data", str(data))[0] == 0


BROKEN = {
    "log_without_job": ("INSERT INTO job_log VALUES (?, 'x')", (key(9),)),
    "stream_without_job": ("INSERT INTO job_stream VALUES (?, x'', x'')", (key(9),)),
    "output_size_wrong": ("UPDATE output_total SET bytes = bytes + length(?)", (key(9),)),
    "queued_without_arguments": (JOB, (key(3), "queued", None, None, None)),
    "queued_without_code": (JOB, (key(3), "queued", 7, b"{}", None)),
    "ended_without_time": (JOB, (key(3), "failure", None, b"{}", None)),
    "job_without_workspace": ("UPDATE job SET workspace_id = 'gone' WHERE id = ?", (key(1),)),
}


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.code)
def test_every_rule_finds_what_it_is_about_and_nothing_else(data: Path, rule: Any) -> None:
    execute(data, BROKEN[rule.code])
    report = check(data)
    assert [(finding.code, finding.count) for finding in report.problems] == [(rule.code, 1)]
    code, out, _ = command("--json", "--data", str(data))
    assert code == 1
    assert json.loads(out)["problems"][0]["code"] == rule.code
    repair(data)
    assert check(data).is_sound == bool(rule.repair)
    connection = sqlite3.connect(data / copies.FILE_NAME)
    assert connection.execute("SELECT log FROM job_log WHERE job_id = ?", (key(2),)).fetchone() == ("fine",)
    connection.close()


def test_foreign_keys(data: Path) -> None:
    execute(data, ("INSERT INTO workspace_storage (workspace_id, secret, edited_at) VALUES ('gone', x'', 1)", ()))
    assert [finding.code for finding in check(data).problems] == ["foreign_key"]


def test_an_index_that_does_not_fit_is_found_and_rebuilt(data: Path) -> None:
    connection = sqlite3.connect(data / copies.FILE_NAME, isolation_level=None)
    connection.execute("PRAGMA writable_schema = ON")
    # The index forgets its condition, so that it lacks most rows.
    connection.execute(
        "UPDATE sqlite_schema SET sql = 'CREATE INDEX job_queued ON job (scheduled_for)' WHERE name = 'job_queued'"
    )
    connection.close()
    report = check(data)
    assert {finding.code for finding in report.problems} == {"damaged"}
    assert "index" in report.problems[0].sentence
    assert "all indexes were rebuilt" in repair(data)
    assert check(data).is_sound


def test_a_damaged_file(data: Path) -> None:
    execute(data, *[("INSERT INTO job_log VALUES (?, ?)", (key(100 + number), "x" * 3000)) for number in range(100)])
    path = data / copies.FILE_NAME
    with path.open("r+b") as file:
        file.seek(path.stat().st_size // 2)
        file.write(os.urandom(100_000))
    code, out, errors = command("--data", str(data))
    assert code == 1
    assert "PROBLEM: the database is damaged" in out
    assert "Traceback" not in errors


def test_what_uploads_left(data: Path) -> None:
    folder = data / "objects" / "demo" / ".minwebhook"
    (folder / "new").mkdir(parents=True)
    (folder / "new" / "unfinished").write_text("x")
    (folder / "info" / "ab").mkdir(parents=True)
    (folder / "info" / "ab" / "cd").write_text("{}")
    (data / "objects" / "demo" / "file").write_text("four")
    execute(data, ("INSERT INTO upload VALUES ('demo', 'a')", ()))
    report = check(data)
    assert report.is_sound
    assert {finding.code for finding in report.notes} == {"unfinished_files", "ownerless_sidecars", "open_uploads"}
    assert report.sizes["objects"] == {"demo": {"count": 1, "bytes": 4}}
    assert "2 files that uploads left were removed" in repair(data)
    assert {finding.code for finding in check(data).notes} == {"open_uploads"}
    assert (data / "objects" / "demo" / "file").exists()


def test_while_a_server_runs(make_server: Callable[..., Server]) -> None:
    server = make_server()
    client = server.start()
    report = check(server.data)
    assert (report.is_sound, report.is_in_use) == (True, True)
    with pytest.raises(SettingsError, match="in use"):
        repair(server.data)
    assert client.preview("def main():\n    return 1").json() == 1
    assert server.stop() == 0
    assert not check(server.data).is_in_use


def test_other_schemas(data: Path, tmp_path: Path) -> None:
    execute(data, (f"PRAGMA user_version = {len(MIGRATIONS) + 1}", ()))
    assert [finding.code for finding in check(data).problems] == ["schema"]
    execute(data, (f"PRAGMA user_version = {len(MIGRATIONS) - 1}", ()))
    report = check(data)
    assert report.is_sound
    assert [finding.code for finding in report.notes] == ["schema"]
    with pytest.raises(UpkeepError, match="start the server once"):
        repair(data)
    execute(data, ("PRAGMA application_id = 1", ()))
    with pytest.raises(UpkeepError, match="another program"):
        check(data)
    code, _, errors = command("--data", str(tmp_path / "none"))
    assert code == 1
    assert "is --data right?" in errors
