"""Changing keys: all or nothing, at whatever moment it ends."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path

import pytest
import trio

from minwebhook.auth.workspace_keys import WorkspaceKeys
from minwebhook.cli.main import main
from minwebhook.db.database import Database
from minwebhook.errors import SettingsError
from minwebhook.variables.model import NewResource, NewVariable
from minwebhook.variables.resources import ResourceStore
from minwebhook.variables.store import VariableStore
from minwebhook.vault.columns import COLUMNS, refuse_missing_keys, rotate, used_keys
from minwebhook.vault.keys import FILE_NAME, KeyRing, new_key
from minwebhook.vault.seal import Vault

SECRET = "open-sesame-canary"
COUNT = 7


class PowerCut(Exception):
    """The process ends."""


async def fill(data: Path) -> None:
    """Some secrets in a new data directory."""
    db = Database.open(data / "minwebhook.db")
    async with trio.open_nursery() as nursery:
        await nursery.start(db.run)
        await db.write("INSERT INTO workspace (id, name, created_at) VALUES ('demo', 'Demo', 1)")
        vault = Vault(KeyRing.load(data))
        variables, resources = VariableStore(db, vault), ResourceStore(db, vault)
        for number in range(COUNT):
            new = NewVariable(f"u/a/v{number}", f"{SECRET}-{number}", True, "", None, False, None)
            await variables.create("demo", new)
        await variables.create(
            "demo", NewVariable("u/a/plain", f"sealed:{'0' * 16}:AAAA", False, "", None, False, None)
        )
        await resources.create("demo", NewResource("u/a/r", f'"{SECRET}"', "any", ""), "a", 1)
        await db.write(
            "INSERT INTO workspace_storage (workspace_id, sealed_secret, edited_at) VALUES ('demo', ?, 1)",
            (vault.seal("storage", "demo", "00" * 32),),
        )
        await WorkspaceKeys(db, vault).complete()
        nursery.cancel_scope.cancel()
    db.close()


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """A data directory with secrets, which nobody uses."""
    trio.run(fill, tmp_path / "data")
    return tmp_path / "data"


def connect(data: Path) -> sqlite3.Connection:
    return sqlite3.connect(data / "minwebhook.db", isolation_level=None)


def texts(data: Path) -> list[str]:
    """Everything that is sealed, opened with the keys of the file."""
    vault = Vault(KeyRing.load(data))
    with closing(connect(data)) as connection:
        return [
            vault.open(column.purpose, *row)
            for column in COLUMNS
            for row in connection.execute(
                f"SELECT {column.key[0]}, {column.name} FROM {column.table} WHERE {column.where} ORDER BY 1, 2"  # noqa: S608
            )
        ]


def test_every_column_of_the_schema_that_holds_sealed_texts_is_listed(data: Path) -> None:
    with closing(connect(data)) as connection:
        connection.execute("DELETE FROM variable WHERE is_secret = 0")
        connection.execute("UPDATE workspace_storage SET config = sealed_secret")
        tables = [row[0] for row in connection.execute("SELECT name FROM sqlite_schema WHERE type = 'table'")]
        found = {
            (table, row[1])
            for table in tables
            for row in connection.execute(f"PRAGMA table_info({table})")
            if connection.execute(
                f"SELECT count(*) FROM {table} WHERE typeof({row[1]}) = 'text' AND {row[1]} LIKE 'sealed:________________:%'"  # noqa: S608
            ).fetchone()[0]
        }
    assert found == {(column.table, column.name) for column in COLUMNS}


def test_everything_is_sealed_with_a_new_key(data: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before, old_key = sorted(texts(data)), (data / FILE_NAME).read_text()
    assert main(["secrets", "rotate", "--data", str(data)]) == 0
    assert f"{COUNT + 3} secrets are sealed" in capsys.readouterr().out
    assert sorted(texts(data)) == before
    assert (data / FILE_NAME).read_text() != old_key
    with closing(connect(data)) as connection:
        assert list(used_keys(connection)) == list(KeyRing.load(data).ids)
    # Nothing that the old key opens is left in the files.
    old_id = KeyRing.load(data.parent, (old_key.strip(),)).ids[0]
    assert all(old_id.encode() not in file.read_bytes() for file in data.glob("minwebhook.db*"))


@pytest.mark.parametrize("step", ["new key", "sealed", "done"])
def test_a_change_that_is_cut_off_goes_on_when_it_is_asked_for_again(data: Path, step: str) -> None:
    before, first = sorted(texts(data)), KeyRing.load(data).ids

    def cut(reached: str) -> None:
        if reached == step:
            raise PowerCut

    with closing(connect(data)) as connection, pytest.raises(PowerCut):
        rotate(connection, KeyRing.load(data), on_step=cut)
    assert sorted(texts(data)) == before  # whatever the moment, all keys are there
    begun = KeyRing.load(data).ids[0]
    with closing(connect(data)) as connection:
        done = rotate(connection, KeyRing.load(data))
    assert done.was_resumed == (step != "done")
    assert done.was_resumed == (done.key_id == begun)
    assert sorted(texts(data)) == before
    assert KeyRing.load(data).ids == (done.key_id,) != first


def test_a_change_that_fails_in_the_middle_changes_nothing(data: Path) -> None:
    before = sorted(texts(data))
    with closing(connect(data)) as connection:
        key_id = KeyRing.load(data).ids[0]
        connection.execute("UPDATE variable SET value = ? WHERE path = 'u/a/v6'", (f"sealed:{key_id}:AAAA",))
        kept = connection.execute("SELECT value FROM variable ORDER BY path").fetchall()
    assert main(["secrets", "rotate", "--data", str(data)]) == 1
    with closing(connect(data)) as connection:
        assert connection.execute("SELECT value FROM variable ORDER BY path").fetchall() == kept
        connection.execute("DELETE FROM variable WHERE path = 'u/a/v6'")
    assert sorted(texts(data)) == [text for text in before if text != f"{SECRET}-6"]


def test_missing_keys_are_refused_and_can_be_given_up(data: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (data / FILE_NAME).rename(data / "elsewhere")
    with closing(connect(data)) as connection:
        with pytest.raises(SettingsError, match="10 secrets"):
            refuse_missing_keys(connection, KeyRing.load(data))
        kept = connection.execute("SELECT * FROM variable").fetchall()
    for action in ("rotate", "status"):
        assert main(["secrets", action, "--data", str(data)]) != 0
    assert not (data / FILE_NAME).exists()
    with closing(connect(data)) as connection:
        assert connection.execute("SELECT * FROM variable").fetchall() == kept
    assert main(["secrets", "discard", "--data", str(data)]) == 0
    assert "10 secrets" in capsys.readouterr().out
    with closing(connect(data)) as connection:
        assert [row[0] for row in connection.execute("SELECT path FROM variable")] == ["u/a/plain"]
        assert connection.execute("SELECT sealed_secret FROM workspace_storage").fetchone() == (None,)
    assert main(["secrets", "status", "--data", str(data)]) == 0


def test_keys_from_the_settings_rotate_by_what_they_say(
    data: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    before, old = sorted(texts(data)), (data / FILE_NAME).read_text().strip()
    new = new_key().to_text()
    monkeypatch.setenv("MINWEBHOOK_SECRET_KEY", f"{new},{old}")
    assert main(["secrets", "rotate", "--data", str(data)]) == 0
    assert "not needed any more" in capsys.readouterr().out
    (data / FILE_NAME).write_text(new)  # to look with
    assert sorted(texts(data)) == before
    monkeypatch.setenv("MINWEBHOOK_SECRET_KEY", new)
    assert main(["secrets", "status", "--data", str(data)]) == 0


def test_new_keys_can_be_printed(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["secrets", "new-key"]) == 0
    assert KeyRing.load(Path(), (capsys.readouterr().out.strip(),)).ids
