"""Which errors of SQLite are the world's fault, and what callers are told of them."""

from __future__ import annotations

import sqlite3
from typing import Final

from minwebhook.errors import Unavailable

#: Primary result codes that are the world's fault, with the public text (https://sqlite.org/rescode.html).
_WORLD: Final = {
    sqlite3.SQLITE_FULL: "the server's disk is full",
    sqlite3.SQLITE_BUSY: "the database is locked by another program",
    sqlite3.SQLITE_LOCKED: "the database is locked",
    sqlite3.SQLITE_IOERR: "the server's disk reports an error",
    sqlite3.SQLITE_NOMEM: "the server is out of memory",
    sqlite3.SQLITE_READONLY: "the database is read-only",
    sqlite3.SQLITE_CANTOPEN: "the database cannot be opened",
    sqlite3.SQLITE_CORRUPT: "the database is damaged",
    sqlite3.SQLITE_NOTADB: "the database is damaged",
    sqlite3.SQLITE_PROTOCOL: "the database is locked",
    sqlite3.SQLITE_INTERRUPT: "the query took too long; ask for less",
}


def translate(error: Exception) -> Exception:
    """The world's failures as :class:`Unavailable`; anything else as it is."""
    if isinstance(error, sqlite3.Error) and _world_text(error) is not None:
        return unavailable(error)
    return error


def unavailable(error: Exception) -> Unavailable:
    """A new ``Unavailable`` chained from ``error``; each waiter gets its own, tracebacks must not mix."""
    public = Unavailable(_world_text(error) or "the database cannot take this now")
    public.__cause__ = error
    return public


def _world_text(error: Exception) -> str | None:
    """The public text for an error that is the world's fault."""
    code = _primary_code(error)
    return None if code is None else _WORLD.get(code)


def is_lock(error: sqlite3.Error) -> bool:
    """Whether another program has locked the database."""
    return _primary_code(error) == sqlite3.SQLITE_BUSY


def is_of_disk(error: Exception) -> bool:
    """Whether reading, writing or syncing has failed."""
    return _primary_code(error) == sqlite3.SQLITE_IOERR


def _primary_code(error: Exception) -> int | None:
    """SQLite's code without its details; None if it is not SQLite's."""
    code = getattr(error, "sqlite_errorcode", None)
    return code & 0xFF if isinstance(code, int) else None
