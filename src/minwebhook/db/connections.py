"""Opening the database file: one connection that writes, and others that read."""

from __future__ import annotations

import os
import sqlite3
from pathlib import Path
from typing import Final

from minwebhook.db import functions
from minwebhook.errors import SettingsError

#: How long a lock of another program is waited for. Short, because whoever commits outside of the flusher makes the loop wait.
BUSY_TIMEOUT_S: Final = 0.25


def open_writer(path: Path) -> sqlite3.Connection:
    """The writing connection: WAL, an fsync per commit, transactions and checkpoints begun by us alone, one after the other."""
    connection = sqlite3.connect(
        path, timeout=BUSY_TIMEOUT_S, isolation_level=None, cached_statements=256, check_same_thread=False
    )
    try:
        connection.row_factory = sqlite3.Row
        connection.execute("PRAGMA auto_vacuum = INCREMENTAL")  # counts for a file that is still empty
        mode = connection.execute("PRAGMA journal_mode = WAL").fetchone()[0]
        if mode != "wal":
            raise SettingsError("the data directory cannot hold a WAL database; use a local file system")
        connection.execute("PRAGMA synchronous = FULL")
        connection.execute("PRAGMA foreign_keys = ON")
        # SQLite's own would hold up the loop, and says nothing if they fail.
        connection.execute("PRAGMA wal_autocheckpoint = 0").fetchone()
        # Without it the -wal file keeps the size of the busiest moment.
        connection.execute("PRAGMA journal_size_limit = 67108864")
    except BaseException:
        connection.close()
        raise
    return connection


def sync(path: Path) -> None:
    """Waits until all that was committed is on disk. For a thread. Raises OSError.

    It is in the -wal file, or was synced when it went from there to the database.
    """
    fd = os.open(f"{path}-wal", os.O_RDONLY | os.O_CLOEXEC)  # SQLite has no locks on this file that closing would drop
    try:
        os.fdatasync(fd)
    finally:
        os.close(fd)


def checkpoint(writer: sqlite3.Connection) -> int:
    """Brings what is in the log to the database file; how many pages the log had. For a thread. Raises sqlite3.Error.

    Readers go on meanwhile, and may keep a part of it in the log.
    """
    return int(writer.execute("PRAGMA wal_checkpoint(PASSIVE)").fetchone()[1])


def log_bytes(path: Path) -> int:
    """The size of the file of the log, which it keeps when its pages have gone to the database file."""
    try:
        return path.with_name(f"{path.name}-wal").stat().st_size
    except OSError:
        return 0


def rewrite(writer: sqlite3.Connection) -> None:
    """Has all that was ever committed in the database file itself, synced there, and its log empty. Raises sqlite3.Error.

    After a sync that failed: the kernel tells of it once, and takes for written what may never have come to the disk. A later
    sync would succeed, and what is committed behind a hole in the log is lost with the power. What is written anew is not
    affected by that.
    """
    if writer.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()[0]:
        busy = sqlite3.OperationalError("the log cannot be emptied while somebody reads from it")
        busy.sqlite_errorcode = sqlite3.SQLITE_IOERR
        raise busy


def open_reader(path: Path) -> sqlite3.Connection:
    """A read-only connection that may move between threads, used by one at a time."""
    connection = sqlite3.connect(
        f"{path.as_uri()}?mode=ro",
        uri=True,
        timeout=BUSY_TIMEOUT_S,
        isolation_level=None,
        check_same_thread=False,
    )
    connection.row_factory = sqlite3.Row
    connection.execute("PRAGMA query_only = ON")
    functions.register(connection)
    return connection
