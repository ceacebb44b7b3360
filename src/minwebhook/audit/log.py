"""The audit log in the database. Records are appended in the transaction of what they tell of, or in the next one."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any, Final

from minwebhook.audit.record import DELETED, NO_HASH, Event, Record, chain
from minwebhook.db.database import Database

_COLUMNS: Final = "id, workspace_id, at, username, operation, action_kind, resource, parameters, hash"
#: The last record, or where the chain begins if there is none.
_LAST: Final = (
    "SELECT id, hash FROM (SELECT id, hash FROM audit ORDER BY id DESC LIMIT 1)"
    " UNION ALL SELECT id, hash FROM audit_start ORDER BY id DESC LIMIT 1"
)
_OLDEST: Final = "SELECT id, at, hash FROM audit ORDER BY id LIMIT ?"
#: Records that are removed in one transaction: some milliseconds.
_REMOVED_AT_ONCE: Final = 500
_INSERT: Final = f"INSERT INTO audit ({_COLUMNS}) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)"  # noqa: S608 - constants


@dataclass(frozen=True, slots=True)
class AuditQuery:
    """Which records a list shows; None for any."""

    workspace: str
    username: str | None = None
    operations: tuple[str, ...] | None = None
    without_operations: tuple[str, ...] = ()
    resource: str | None = None
    action_kind: str | None = None
    before_ms: int | None = None
    after_ms: int | None = None

    def where(self) -> tuple[str, list[Any]]:
        """The condition, and its values."""
        tests, values = ["workspace_id = ?"], list[Any]([self.workspace])
        for test, value in (
            ("username = ?", self.username),
            ("resource = ?", self.resource),
            ("action_kind = ?", self.action_kind),
            ("at <= ?", self.before_ms),
            ("at >= ?", self.after_ms),
        ):
            if value is not None:
                tests.append(test)
                values.append(value)
        if self.operations is not None:
            tests.append(f"operation IN ({', '.join('?' * len(self.operations))})")
            values += self.operations
        if self.without_operations:
            tests.append(f"operation NOT IN ({', '.join('?' * len(self.without_operations))})")
            values += self.without_operations
        return " AND ".join(tests), values


class AuditLog:
    """Appends and shows records."""

    def __init__(self, db: Database) -> None:
        self._db = db

    @staticmethod
    def append(connection: sqlite3.Connection, events: Iterable[Event]) -> None:
        """Add records inside a transaction: they are there if, and only if, the rest of it is."""
        last = connection.execute(_LAST).fetchone()
        last_id, last_hash = (0, NO_HASH) if last is None else (last[0], last[1])
        connection.executemany(_INSERT, chain(events, last_id, last_hash))

    def post(self, *events: Event) -> None:
        """Add records with the next transaction. Nobody waits for it: a crash in between loses them."""
        self._db.post_work(lambda connection: self.append(connection, events))

    def find(self, workspace: str, record_id: int) -> Record | None:
        """One record."""
        query = f"SELECT {_COLUMNS} FROM audit WHERE id = ? AND workspace_id = ?"  # noqa: S608
        rows = self._db.read(query, (record_id, workspace))
        return Record(*rows[0]) if rows else None

    async def list(self, wanted: AuditQuery, *, limit: int, offset: int) -> list[Record]:
        """The newest records that are wanted."""
        where, values = wanted.where()
        query = f"SELECT {_COLUMNS} FROM audit WHERE {where} ORDER BY id DESC LIMIT ? OFFSET ?"  # noqa: S608
        return await self._db.read_in_thread(query, (*values, limit, offset), lambda row: Record(*row))

    async def remove_before(self, before_ms: int, now_ms: int) -> int:
        """Removes the oldest records, up to the first one that is not older than ``before_ms``; how many.

        The chain then begins behind the last of them, and a record at its end says so.
        """
        removed = 0

        def work(connection: sqlite3.Connection) -> tuple[int, bytes] | None:
            last = None
            for record_id, at_ms, digest in connection.execute(_OLDEST, (_REMOVED_AT_ONCE,)):
                if at_ms >= before_ms:
                    break
                last = record_id, digest
            if last is not None:
                connection.execute("DELETE FROM audit WHERE id <= ?", (last[0],))
                connection.execute("DELETE FROM audit_start")
                connection.execute("INSERT INTO audit_start (id, hash) VALUES (?, ?)", last)
            return last

        end: tuple[int, bytes] | None = None
        first = self._db.read("SELECT min(id) FROM audit")[0][0] or 0
        while (last := await self._db.transact(work)) is not None:
            end, removed = last, last[0] - first + 1
        if end is not None:
            said = {"records": str(removed), "last": f"{end[0]}:{end[1].hex()}"}
            event = Event("audit.remove_old", DELETED, "the server", None, None, now_ms, said)
            await self._db.transact(lambda connection: self.append(connection, (event,)))
        return removed


def start(connection: sqlite3.Connection) -> tuple[int, bytes]:
    """Behind which record the chain begins: its id and hash; 0 and no hash for the very beginning."""
    row = connection.execute("SELECT id, hash FROM audit_start ORDER BY id DESC").fetchone()
    return (0, NO_HASH) if row is None else (row[0], row[1])


def records(connection: sqlite3.Connection) -> Iterator[Record]:
    """Every record, oldest first."""
    for row in connection.execute(f"SELECT {_COLUMNS} FROM audit ORDER BY id"):  # noqa: S608
        yield Record(*row)
