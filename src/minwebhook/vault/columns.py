"""Where the database holds sealed texts; whether their keys are there; and sealing them all anew with another key."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from minwebhook.errors import SettingsError
from minwebhook.vault.keys import KeyRing, new_key
from minwebhook.vault.seal import RESOURCE, STORAGE, VARIABLE, WORKSPACE, SealError, Vault

#: ``sealed:`` and the id of the key.
_HEAD: Final = len("sealed:")
_ID: Final = 16
_AT_ONCE: Final = 500


@dataclass(frozen=True, slots=True)
class Column:
    """A column that holds sealed texts, among others perhaps; the first of ``key`` is the workspace."""

    table: str
    name: str
    purpose: str
    #: What names a row.
    key: tuple[str, ...]
    #: Which rows have one, where others hold texts of users.
    rows: str = "1"

    @property
    def where(self) -> str:
        """The condition for rows with a sealed text."""
        return f"{self.rows} AND typeof({self.name}) = 'text' AND {self.name} LIKE 'sealed:%'"


#: Who adds a column of sealed texts adds it here.
COLUMNS: Final = (
    Column("variable", "value", VARIABLE, ("workspace_id", "path"), "is_secret = 1"),
    Column("resource", "value", RESOURCE, ("workspace_id", "path")),
    Column("workspace_storage", "config", STORAGE, ("workspace_id",)),
    Column("workspace_storage", "sealed_secret", STORAGE, ("workspace_id",)),
    Column("workspace", "sealed_key", WORKSPACE, ("id",)),
)


def used_keys(connection: sqlite3.Connection) -> dict[str, int]:
    """How many texts each key has sealed, by its id."""
    found: dict[str, int] = {}
    for column in COLUMNS:
        query = (
            f"SELECT substr({column.name}, {_HEAD + 1}, {_ID}), count(*) FROM {column.table}"  # noqa: S608 - constants
            f" WHERE {column.where} GROUP BY 1"
        )
        for key_id, count in connection.execute(query):
            found[key_id] = found.get(key_id, 0) + count
    return found


def refuse_missing_keys(connection: sqlite3.Connection, keys: KeyRing) -> None:
    """Raise :class:`SettingsError` if texts cannot be opened: the start ends before anything is written over."""
    missing = {key_id: count for key_id, count in used_keys(connection).items() if keys.find(key_id) is None}
    if not missing:
        return
    which = ", ".join(f"{key_id} ({count} secrets)" for key_id, count in sorted(missing.items()))
    where = "the setting secret_key" if keys.is_from_settings else "DATA/secret.key"
    raise SettingsError(
        f"{where} lacks keys that secrets of this database are sealed with: {which}. Put them back from where you keep"
        " them; if they are lost for good, 'minwebhook secrets discard' removes what nobody can open any more"
    )


@dataclass(frozen=True, slots=True)
class Rotation:
    """What a change of keys did."""

    key_id: str
    resealed: int
    was_resumed: bool


def rotate(
    connection: sqlite3.Connection, keys: KeyRing, *, on_step: Callable[[str], None] = lambda step: None
) -> Rotation:
    """Seal everything with a new key; afterwards the old ones are gone. Nobody else may use the database.

    1. the file gets a new key in front of those it has; 2. everything is sealed with it, in one transaction; 3. the file
    loses the others. Between any two steps all keys that are needed are in the file: after a crash, call it again, and it
    goes on with the key it had begun with. Keys from the settings are not changed: the first one seals, then the others are
    not needed any more. ``on_step`` is told what is done. Raises :class:`SettingsError` and :class:`SealError`.
    """
    refuse_missing_keys(connection, keys)
    was_resumed = False
    if not keys.is_from_settings:
        was_resumed = len(keys.ids) > 1
        if not was_resumed:
            old = tuple(found for key_id in keys.ids if (found := keys.find(key_id)) is not None)
            keys.replace((new_key(), *old))
        on_step("new key")
    first = keys.first()
    resealed = _reseal(connection, Vault(keys), first.id)
    on_step("sealed")
    if not keys.is_from_settings:
        keys.replace((first,))
    on_step("done")
    return Rotation(first.id, resealed, was_resumed)


def _reseal(connection: sqlite3.Connection, vault: Vault, key_id: str) -> int:
    """Every text that another key sealed, in one transaction; old texts do not stay in the file."""
    done = 0
    # Pages that held the old texts are written over (https://sqlite.org/pragma.html#pragma_secure_delete).
    connection.execute("PRAGMA secure_delete = ON")
    connection.execute("BEGIN IMMEDIATE")
    try:
        for column in COLUMNS:
            names = ", ".join(column.key)
            query = (
                f"SELECT {names}, {column.name} FROM {column.table} WHERE {column.where}"  # noqa: S608
                f" AND substr({column.name}, {_HEAD + 1}, {_ID}) != ? LIMIT {_AT_ONCE}"
            )
            change = (
                f"UPDATE {column.table} SET {column.name} = ? WHERE "  # noqa: S608
                + " AND ".join(f"{name} = ?" for name in column.key)
            )
            while rows := connection.execute(query, (key_id,)).fetchall():
                for *row_key, sealed in rows:
                    plain = vault.open(column.purpose, row_key[0], sealed)
                    connection.execute(change, (vault.seal(column.purpose, row_key[0], plain), *row_key))
                    done += 1
        connection.execute("COMMIT")
    except BaseException:
        connection.execute("ROLLBACK")
        raise
    connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    return done


def discard(connection: sqlite3.Connection, keys: KeyRing) -> int:
    """Remove what no key opens; how many texts. For when a key is lost for good. Nobody else may use the database.

    Variables and resources go; of a storage configuration that cannot be read, the workspace falls back to the settings; a
    workspace gets a new key at the next start.
    """
    vault, gone = Vault(keys), 0
    connection.execute("BEGIN IMMEDIATE")
    try:
        for column in COLUMNS:
            names = ", ".join(column.key)
            rows = connection.execute(
                f"SELECT {names}, {column.name} FROM {column.table} WHERE {column.where}"  # noqa: S608
            ).fetchall()
            where = " AND ".join(f"{name} = ?" for name in column.key)
            for *row_key, sealed in rows:
                try:
                    vault.open(column.purpose, row_key[0], sealed)
                except SealError:
                    if column.purpose in (STORAGE, WORKSPACE):
                        change = f"UPDATE {column.table} SET {column.name} = NULL WHERE {where}"  # noqa: S608
                    else:
                        change = f"DELETE FROM {column.table} WHERE {where}"  # noqa: S608
                    connection.execute(change, row_key)
                    gone += 1
        connection.execute("COMMIT")
    except BaseException:
        connection.execute("ROLLBACK")
        raise
    return gone
