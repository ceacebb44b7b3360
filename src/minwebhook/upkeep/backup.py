"""Making a backup of a data directory, also while a server uses it: one file (:mod:`~minwebhook.upkeep.archive`).

The database comes first, as it was at one moment; then, if wanted, the local objects. So every object that the database
knows is in the archive unless it was removed meanwhile; objects that came later may be in it, too, and harm nobody.
"""

from __future__ import annotations

import os
import secrets
import sqlite3
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import minwebhook
from minwebhook.db import copies
from minwebhook.db.migrations import APPLICATION_ID
from minwebhook.errors import UpkeepError
from minwebhook.storage.keys import ObjectKey
from minwebhook.storage.listing import all_keys
from minwebhook.storage.local import open_object
from minwebhook.storage.sidecars import Sidecars
from minwebhook.storage.tree import Tree
from minwebhook.times import now_ms, rfc3339
from minwebhook.upkeep import archive
from minwebhook.upkeep.archive import ArchiveWriter, Member
from minwebhook.upkeep.progress import OnProgress, silent

#: How long a lock of the database is waited for; a server holds it for milliseconds.
_BUSY_TIMEOUT_S: Final = 10.0


@dataclass(frozen=True, slots=True)
class Made:
    """A backup that is whole and on disk."""

    file: str
    file_bytes: int
    database_bytes: int
    schema_version: int
    has_objects: bool
    objects: int
    object_bytes: int
    #: Objects that another program wrote to while they were copied.
    changed: tuple[str, ...]
    took_s: float

    def to_json(self) -> dict[str, Any]:
        """For machines."""
        return {name: getattr(self, name) for name in self.__slots__}


def back_up(
    data: Path, target: Path, *, with_objects: bool = False, replace: bool = False, on_progress: OnProgress = silent
) -> Made:
    """Write a backup of ``data`` to the file ``target`` (mode 0600), whole or not at all.

    Raises :class:`UpkeepError`. Needs room for the database twice until it is done.
    """
    started = time.monotonic()
    if not (data / copies.FILE_NAME).is_file():
        raise UpkeepError(f"there is no database in {data}: is --data right?")
    target = target.absolute()
    if target.exists() and not replace:
        raise UpkeepError(f"{target} exists: choose another name, or allow it to be replaced with --replace")
    if target.is_relative_to(data.resolve()) or target.parent.resolve().is_relative_to(data.resolve()):
        raise UpkeepError("a backup inside the data directory would be lost with it: choose a file outside")
    unique = f".{target.name}.{secrets.token_hex(4)}"
    copy, part = target.with_name(f"{unique}.db"), target.with_name(f"{unique}.part")
    try:
        with _database(data) as connection:
            copies.copy(connection, copy, lambda done, total: on_progress("database", done, total))
        version = _verify(copy)
        with os.fdopen(os.open(part, os.O_CREAT | os.O_EXCL | os.O_WRONLY | os.O_CLOEXEC, 0o600), "wb") as file:
            writer = ArchiveWriter(file)
            writer.add_json(
                archive.MANIFEST,
                {
                    "format": archive.FORMAT,
                    "version": minwebhook.__version__,
                    "created_at": rfc3339(now_ms()),
                    "schema_version": version,
                    "has_objects": with_objects,
                },
            )
            size = copy.stat().st_size
            with copy.open("rb") as content:
                writer.add(Member(archive.DATABASE, size, time.time_ns()), content)
            copy.unlink()
            objects = _Objects(writer, on_progress)
            if with_objects:
                objects.add_all(data / archive.OBJECTS)
            writer.finish()
            file.flush()
            os.fsync(file.fileno())
        part.rename(target)
        sync_folder(target.parent)
    except (OSError, sqlite3.Error) as error:
        raise UpkeepError(f"the backup cannot be made: {error}") from error
    finally:
        for path in (copy, part):
            path.unlink(missing_ok=True)
    return Made(
        file=str(target),
        file_bytes=target.stat().st_size,
        database_bytes=size,
        schema_version=version,
        has_objects=with_objects,
        objects=objects.count,
        object_bytes=objects.bytes,
        changed=tuple(objects.changed),
        took_s=round(time.monotonic() - started, 3),
    )


@contextmanager
def _database(data: Path) -> Iterator[sqlite3.Connection]:
    """The database of a data directory, for reading."""
    path = data.absolute() / copies.FILE_NAME
    connection = sqlite3.connect(f"{path.as_uri()}?mode=ro", uri=True, timeout=_BUSY_TIMEOUT_S, isolation_level=None)
    with closing(connection):
        if connection.execute("PRAGMA application_id").fetchone()[0] != APPLICATION_ID:
            raise UpkeepError(f"the database in {data} is of another program")
        yield connection


def _verify(copy: Path) -> int:
    """The schema version of a copy, if it is sound."""
    with closing(copies.open_snapshot(copy)) as connection:
        found = [row[0] for row in connection.execute("PRAGMA quick_check(3)")]
        if found != ["ok"]:
            raise UpkeepError(f"the database is damaged ({'; '.join(found)}): 'minwebhook check' says more")
        return int(connection.execute("PRAGMA user_version").fetchone()[0])


class _Objects:
    """Puts objects into an archive, and counts them."""

    def __init__(self, writer: ArchiveWriter, on_progress: OnProgress) -> None:
        self._writer = writer
        self._on_progress = on_progress
        self.count = 0
        self.bytes = 0
        self.changed: list[str] = []

    def add_all(self, folder: Path) -> None:
        """Every object of every workspace."""
        for workspace, tree in workspaces(folder):
            for key in all_keys(tree):
                with suppress(FileNotFoundError, NotADirectoryError):  # removed meanwhile
                    self._add(workspace, key, tree)

    def _add(self, workspace: str, key: ObjectKey, tree: Tree) -> None:
        fd, info = open_object(tree, Sidecars(tree), key)
        name = f"{archive.OBJECTS}/{workspace}/{key}"
        known = {
            "content_type": info.headers.content_type,
            "content_disposition": info.headers.content_disposition or "",
        }
        with os.fdopen(fd, "rb") as content:
            member = Member(
                name, info.size, os.fstat(fd).st_mtime_ns, {header: value for header, value in known.items() if value}
            )
            if not self._writer.add(member, content):
                self.changed.append(name)
        self.count += 1
        self.bytes += info.size
        self._on_progress("objects", self.count, 0)


def workspaces(folder: Path) -> Iterator[tuple[str, Tree]]:
    """Every workspace that has a local directory; its tree is open until the next one is asked for."""
    if not folder.is_dir():
        return
    for entry in sorted(folder.iterdir()):
        if entry.is_dir() and not entry.is_symlink():
            root = os.open(entry, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
            try:
                yield entry.name, Tree(root)
            finally:
                os.close(root)


def sync_folder(folder: Path) -> None:
    """A new name is durable once its folder is (man 2 fsync)."""
    fd = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)
