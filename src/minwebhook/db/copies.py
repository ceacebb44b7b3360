"""Copies of a database, whole and of one moment, made while others read and write it; and the lock of the one who may write."""

from __future__ import annotations

import fcntl
import os
import sqlite3
import time
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Final

from minwebhook.errors import SettingsError

#: Name of the database below the data directory.
FILE_NAME: Final = "minwebhook.db"
#: What SQLite keeps beside a database while it is open; after a crash they hold what was committed last.
COMPANIONS: Final = ("-wal", "-shm")

#: Pages copied between two calls of the progress: some milliseconds.
_PAGES_AT_ONCE: Final = 1024

_LOCK_WAIT_S: Final = 0.2

#: Told how many bytes are done, and of how many.
OnBytes = Callable[[int, int], None]


def lock(path: Path) -> int:
    """Take the database for this process alone: a descriptor that holds the lock until it is closed.

    The lock is a file of its own: closing a descriptor of the database itself would drop SQLite's locks (man 2 fcntl).
    Waits a moment for those who only look (:func:`is_locked`). Raises :class:`SettingsError` when another process has it,
    and :class:`OSError`.
    """
    fd = os.open(f"{path}.lock", os.O_CREAT | os.O_RDWR | os.O_CLOEXEC, 0o600)
    deadline = time.monotonic() + _LOCK_WAIT_S
    try:
        while True:
            try:
                fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError as error:
                if time.monotonic() > deadline:
                    raise SettingsError(f"the database {path} is in use by another server") from error
                time.sleep(0.01)
            else:
                return fd
    except BaseException:
        os.close(fd)
        raise


def is_locked(path: Path) -> bool:
    """Whether a process has the database for itself."""
    try:
        fd = os.open(f"{path}.lock", os.O_RDONLY | os.O_CLOEXEC)
    except FileNotFoundError:
        return False
    try:
        fcntl.flock(fd, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    finally:
        os.close(fd)
    return False


def copy(source: sqlite3.Connection, target: Path, on_bytes: OnBytes = lambda done, total: None) -> None:
    """Copy a database in autocommit mode to a new file (mode 0600), which is on disk when this returns.

    The copy is of the moment this begins: a read transaction holds that version (https://sqlite.org/wal.html), so that
    whoever writes meanwhile, in whatever process, neither waits nor makes the copy begin anew. Until the end the
    write-ahead log keeps what they write. Leaves no file behind when it fails. Raises :class:`OSError` and
    :class:`sqlite3.Error`.
    """
    os.close(os.open(target, os.O_CREAT | os.O_EXCL | os.O_WRONLY | os.O_CLOEXEC, 0o600))
    try:
        page_bytes = int(source.execute("PRAGMA page_size").fetchone()[0])
        source.execute("BEGIN")
        try:
            source.execute("SELECT count(*) FROM sqlite_schema").fetchone()  # BEGIN alone reads nothing yet
            with closing(sqlite3.connect(target, isolation_level=None)) as copied:
                copied.execute("PRAGMA synchronous = OFF")  # one fsync at the end does for all
                source.backup(
                    copied,
                    pages=_PAGES_AT_ONCE,
                    progress=lambda _, left, total: on_bytes((total - left) * page_bytes, total * page_bytes),
                )
        finally:
            source.execute("ROLLBACK")
        with target.open("rb") as file:
            os.fsync(file.fileno())
    except BaseException:
        target.unlink(missing_ok=True)
        raise


def open_snapshot(path: Path) -> sqlite3.Connection:
    """A read-only connection to a file that nobody changes: it needs no companions and makes none."""
    return sqlite3.connect(f"{path.absolute().as_uri()}?mode=ro&immutable=1", uri=True, isolation_level=None)
