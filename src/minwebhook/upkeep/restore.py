"""Putting a backup back: verified whole before anything of the data directory is touched.

::

    DATA/restore-new/                what is read from the backup, until it is verified
    DATA/restore-verified/           the same, while it takes the place of what is there: a server does not start now
    DATA/before-restore-TIME/        what was there; it stays until the operator removes it

Everything happens below the data directory, which may be a mount of its own, and under the lock that a server holds. A
crash on the way loses nothing: restore again.
"""

from __future__ import annotations

import os
import shutil
import sqlite3
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

from minwebhook.db import copies
from minwebhook.db.migrations import APPLICATION_ID, MIGRATIONS
from minwebhook.errors import UpkeepError
from minwebhook.storage import sidecars
from minwebhook.storage.keys import ObjectKey, is_key
from minwebhook.storage.model import ObjectHeaders
from minwebhook.storage.tree import Tree
from minwebhook.storage.workspaces import is_folder_name
from minwebhook.upkeep import archive
from minwebhook.upkeep.archive import ArchiveReader, Member
from minwebhook.upkeep.backup import sync_folder
from minwebhook.upkeep.half_restored import VERIFIED
from minwebhook.upkeep.progress import OnProgress, silent

_NEW: Final = "restore-new"
_KEPT: Final = "before-restore-"

#: What may be in a data directory that counts as empty.
_NOTHING: Final = frozenset({f"{copies.FILE_NAME}.lock", "sandbox", _NEW})


@dataclass(frozen=True, slots=True)
class Restored:
    """What was put back."""

    data: str
    created_at: str
    schema_version: int
    has_objects: bool
    objects: int
    #: Where that is which was there before; None if there was nothing.
    kept: str | None
    took_s: float

    def to_json(self) -> dict[str, Any]:
        """For machines."""
        return {name: getattr(self, name) for name in self.__slots__}


def restore(file: Path, data: Path, *, replace: bool = False, on_progress: OnProgress = silent) -> Restored:
    """Make ``data`` what it was when the backup ``file`` was made.

    A backup without objects replaces the database and leaves the objects. Raises :class:`SettingsError` if a server
    uses the directory, and :class:`UpkeepError`: what was there is then as it was.
    """
    started = time.monotonic()
    try:
        data.mkdir(mode=0o700, parents=True, exist_ok=True)
        data = data.resolve()
        with _locked(data):
            if not replace and any(entry.name not in _NOTHING for entry in data.iterdir()):
                raise UpkeepError(
                    f"the data directory {data} is not empty: --replace puts what is there aside and restores"
                )
            for name in (_NEW, VERIFIED):
                _remove(data / name)
            new = data / _NEW
            new.mkdir(mode=0o700)
            try:
                manifest, objects = _extract(file, new, on_progress)
                on_progress("verifying", 0, 0)
                _verify(new / archive.DATABASE)
                os.sync()  # one for all files
            except BaseException:
                _remove(new)
                raise
            kept = _swap(data, new)
    except (OSError, sqlite3.Error) as error:
        raise UpkeepError(f"the backup cannot be restored: {error}") from error
    return Restored(
        data=str(data),
        created_at=str(manifest.get("created_at")),
        schema_version=int(manifest["schema_version"]),
        has_objects=bool(manifest.get("has_objects")),
        objects=objects,
        kept=None if kept is None else str(kept),
        took_s=round(time.monotonic() - started, 3),
    )


@contextmanager
def _locked(data: Path) -> Iterator[None]:
    fd = copies.lock(data / copies.FILE_NAME)
    try:
        yield
    finally:
        os.close(fd)


def _remove(path: Path) -> None:
    if path.exists():
        shutil.rmtree(path)


def _extract(file: Path, new: Path, on_progress: OnProgress) -> tuple[dict[str, Any], int]:
    """Write the members below ``new``: the manifest, and how many objects there were."""
    total, done, objects = file.stat().st_size, 0, 0
    root = os.open(new, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        tree = Tree(root)
        with file.open("rb") as opened:
            reader = ArchiveReader(opened)
            if reader.manifest.get("has_objects"):
                with tree.folder((archive.OBJECTS,), make=True):
                    pass  # also if there was none
            for member, chunks in reader.members():
                segments, place = _place(member)
                if len(segments) > 1:
                    with tree.folder(segments[:-1], make=True):
                        pass
                try:
                    fd = tree.create_file(segments)
                except FileExistsError:
                    raise UpkeepError(f"this backup has {ascii(member.name)[:80]} twice") from None
                with os.fdopen(fd, "wb") as target:
                    for chunk in chunks:
                        target.write(chunk)
                        done += len(chunk)
                        on_progress("reading", done, total)
                    target.flush()
                    os.utime(fd, ns=(member.mtime_ns, member.mtime_ns))
                    mtime_ns = os.fstat(fd).st_mtime_ns
                if place is not None:
                    objects += 1
                    _write_sidecar(tree, place, member, mtime_ns)
        return reader.manifest, objects
    finally:
        os.close(root)


def _place(member: Member) -> tuple[tuple[str, ...], tuple[str, ObjectKey] | None]:
    """Where a member goes, in segments; and which object it is. Raises :class:`UpkeepError` for any other place."""
    if member.name == archive.DATABASE:
        return (member.name,), None
    if (found := member.object_place) is not None:
        workspace, key = found
        if is_folder_name(workspace) and is_key(key):
            return (archive.OBJECTS, workspace, *key.split("/")), (workspace, ObjectKey(key))
    raise UpkeepError(f"this backup has a file that does not belong into one: {ascii(member.name)[:80]}")


def _write_sidecar(tree: Tree, place: tuple[str, ObjectKey], member: Member, mtime_ns: int) -> None:
    """What is known of an object goes beside it, as the storage wants it."""
    workspace, key = place
    headers = ObjectHeaders.of_others(member.headers.get("content_type"), member.headers.get("content_disposition"))
    segments = (archive.OBJECTS, workspace, *sidecars.place(key))
    with tree.folder(segments[:-1], make=True):
        fd = tree.create_file(segments)
    with os.fdopen(fd, "wb") as file:
        file.write(sidecars.encode(key, [sidecars.Version(member.size, mtime_ns, headers)]))


def _verify(database: Path) -> None:
    """Raises :class:`UpkeepError` unless the database is sound and of a schema that this program knows."""
    if not database.exists():
        raise UpkeepError("this backup has no database")
    with closing(copies.open_snapshot(database)) as connection:
        if connection.execute("PRAGMA application_id").fetchone()[0] != APPLICATION_ID:
            raise UpkeepError("the database of this backup is of another program")
        version = connection.execute("PRAGMA user_version").fetchone()[0]
        if version > len(MIGRATIONS):
            raise UpkeepError(
                f"the database of this backup has schema version {version}, this program knows up to"
                f" {len(MIGRATIONS)}: restore with the version that made it, or a newer one"
            )
        found = [row[0] for row in connection.execute("PRAGMA integrity_check(3)")]
        if found != ["ok"]:
            raise UpkeepError(f"the database of this backup is damaged: {'; '.join(found)}")


def _swap(data: Path, new: Path) -> Path | None:
    """Everything in ``new`` takes its place; what was there is put aside: where."""
    verified = data / VERIFIED
    new.rename(verified)
    sync_folder(data)
    names = [entry.name for entry in verified.iterdir()]
    old = [
        path
        for name in [*names, *(copies.FILE_NAME + suffix for suffix in copies.COMPANIONS)]
        if (path := data / name).exists()
    ]
    kept = data / f"{_KEPT}{datetime.now(UTC):%Y%m%dT%H%M%S.%f}Z" if old else None
    if kept is not None:
        kept.mkdir(mode=0o700)
        for path in old:
            path.rename(kept / path.name)
        sync_folder(kept)
    for name in names:
        (verified / name).rename(data / name)
    sync_folder(data)
    verified.rmdir()
    sync_folder(data)
    return kept
