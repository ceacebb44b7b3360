"""Every earlier schema, with rows in every table, becomes the newest one and loses nothing; a copy of it is kept."""

from __future__ import annotations

import sqlite3
import stat
from pathlib import Path
from typing import Any

import pytest

from minwebhook.db import copies
from minwebhook.db.database import Database
from minwebhook.db.migrations import MIGRATIONS, Migration, migrate
from minwebhook.errors import SettingsError

NEWEST = len(MIGRATIONS)

#: Values that CHECK constraints want, by table and column; others are made up from the type. Who adds a CHECK adds here.
_WANTED = {
    ("job", "status"): ("queued", "success", "failure", "canceled", "skipped"),
    ("workspace", "key"): ("0" * 64, "f" * 64),
}
#: Tables whose rows the database makes out of those of others.
_DERIVED = {"output_total"}
_ROWS = 5


def tables(connection: sqlite3.Connection) -> list[str]:
    query = "SELECT name FROM sqlite_schema WHERE type = 'table' AND name NOT LIKE 'sqlite_%' ORDER BY name"
    return [row[0] for row in connection.execute(query) if row[0] not in _DERIVED]


def rows_of(connection: sqlite3.Connection) -> dict[str, list[dict[str, Any]]]:
    """Everything, by table; each row by column."""
    cursor = connection.cursor()
    cursor.row_factory = sqlite3.Row
    return {table: [dict(row) for row in cursor.execute(f"SELECT * FROM {table}")] for table in tables(connection)}  # noqa: S608


def fill(connection: sqlite3.Connection) -> None:
    """Some rows in every table, whatever its columns are; rows of the same number belong together."""
    connection.execute("PRAGMA foreign_keys = OFF")
    for table in tables(connection):
        columns = connection.execute(f"PRAGMA table_info({table})").fetchall()
        for number in range(_ROWS):
            values = [value(table, origin(connection, table, name), kind, number) for _, name, kind, *_ in columns]
            marks = ", ".join("?" * len(values))
            connection.execute(f"INSERT INTO {table} VALUES ({marks})", values)  # noqa: S608


def origin(connection: sqlite3.Connection, table: str, column: str) -> str:
    """The column that one refers to in the end."""
    for row in connection.execute(f"PRAGMA foreign_key_list({table})").fetchall():
        if row[3] == column:
            return origin(connection, row[2], row[4])
    return column


def value(table: str, column: str, kind: str, number: int) -> Any:
    """A value for a column; for one that refers to another, that of the other."""
    if (wanted := _WANTED.get((table, column))) is not None:
        return wanted[number % len(wanted)]
    text = f"{column}-{number}"
    return {"INTEGER": number, "REAL": number + 0.5, "TEXT": text, "BLOB": text.encode().ljust(16, b"\0")}[kind]


def build(path: Path, version: int) -> dict[str, list[dict[str, Any]]]:
    """A filled database of an earlier schema; its rows."""
    connection = sqlite3.connect(path, isolation_level=None)
    migrate(connection, MIGRATIONS[:version])
    fill(connection)
    assert connection.execute("PRAGMA foreign_key_check").fetchall() == []
    rows = rows_of(connection)
    connection.close()
    assert all(len(found) == _ROWS for found in rows.values())
    return rows


@pytest.mark.parametrize("version", range(1, NEWEST))
def test_every_earlier_schema_becomes_the_newest(tmp_path: Path, version: int) -> None:
    path = tmp_path / copies.FILE_NAME
    before = build(path, version)
    Database.open(path).close()

    connection = sqlite3.connect(path)
    fresh = sqlite3.connect(":memory:", isolation_level=None)
    migrate(fresh)
    schema = "SELECT type, name, tbl_name, sql FROM sqlite_schema ORDER BY type, name"
    assert connection.execute(schema).fetchall() == fresh.execute(schema).fetchall()
    assert connection.execute("PRAGMA user_version").fetchone()[0] == NEWEST
    assert connection.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
    assert connection.execute("PRAGMA foreign_key_check").fetchall() == []
    after = rows_of(connection)
    for table, rows in before.items():
        assert [{name: row[name] for name in rows[0]} for row in after[table]] == rows, table
    connection.close()
    fresh.close()

    kept = path.with_name(f"{path.name}.schema-{version}")
    assert stat.S_IMODE(kept.stat().st_mode) == 0o600
    old = sqlite3.connect(kept)
    assert old.execute("PRAGMA user_version").fetchone()[0] == version
    assert rows_of(old) == before
    old.close()


def test_one_copy_is_kept_and_none_where_nothing_changes(tmp_path: Path) -> None:
    path = tmp_path / copies.FILE_NAME

    def kept() -> list[str]:
        return sorted(found.name for found in tmp_path.iterdir() if ".schema-" in found.name)

    Database.open(path, MIGRATIONS[:2]).close()
    assert kept() == []
    Database.open(path, MIGRATIONS[:3]).close()
    Database.open(path, MIGRATIONS[:3]).close()
    assert kept() == [f"{path.name}.schema-2"]
    Database.open(path, MIGRATIONS[:4]).close()
    assert kept() == [f"{path.name}.schema-3"]


def test_a_step_that_fails_leaves_the_database_as_it_was(tmp_path: Path) -> None:
    path = tmp_path / copies.FILE_NAME
    before = build(path, NEWEST)
    wrong = Migration(NEWEST + 1, "wrong", "CREATE TABLE more (x) STRICT; DROP TABLE no_such_table;")
    with pytest.raises(SettingsError):
        Database.open(path, (*MIGRATIONS, wrong))
    connection = sqlite3.connect(path)
    assert connection.execute("PRAGMA user_version").fetchone()[0] == NEWEST
    assert tables(connection) == sorted(before)
    connection.close()


def test_no_room_for_the_copy(tmp_path: Path) -> None:
    path = tmp_path / copies.FILE_NAME
    before = build(path, NEWEST - 1)
    kept = path.with_name(f"{path.name}.schema-{NEWEST - 1}")
    kept.mkdir()  # no file can be made here
    with pytest.raises(SettingsError, match=r"cannot (keep|open)"):
        Database.open(path)
    connection = sqlite3.connect(path)
    assert connection.execute("PRAGMA user_version").fetchone()[0] == NEWEST - 1
    assert tables(connection) == sorted(before)
    connection.close()
