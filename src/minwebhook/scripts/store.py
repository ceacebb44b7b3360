"""Versions of scripts in the database: the rules of creating one, look-ups, lists, archiving and deleting.

At most one version of a path is *live* (neither archived nor deleted); a unique index holds that. The lineage is a
line: no two versions have the same parent. :meth:`ScriptStore.deployed` is on the way of every webhook and answers from
a cache bounded in entries and bytes; whatever changes a path evicts it inside its transaction.
"""

# Queries are put together from the constants of this file and of query.py; values are always bound.
# ruff: noqa: S608

from __future__ import annotations

import sqlite3
from collections import OrderedDict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final, NoReturn
from uuid import UUID

import orjson

from minwebhook.db.database import Database
from minwebhook.errors import BadRequest, NotFound
from minwebhook.paths import Paths
from minwebhook.scripts.imports import FIELD
from minwebhook.scripts.model import NewScript, hash_from_hex, hash_to_hex, script_fingerprint, script_hash
from minwebhook.scripts.query import ScriptQuery
from minwebhook.scripts.script import Script

#: Earlier versions that one remembers.
MAX_LINEAGE: Final = 20

#: Bounds of the cache of deployed scripts.
MAX_CACHED_SCRIPTS: Final = 1024
MAX_CACHED_BYTES: Final = 64 * 1024 * 1024

#: Versions that a history shows.
MAX_HISTORY: Final = 1000

_LIVE: Final = "archived = 0 AND deleted = 0"
_NEWEST_FIRST: Final = "ORDER BY created_at DESC, rowid DESC"


@dataclass(frozen=True, slots=True)
class HistoryItem:
    """One version in the history of a path."""

    hash: int
    deployment_message: str | None

    def to_json(self) -> dict[str, Any]:
        """The item of ``scripts/history``."""
        shown: dict[str, Any] = {"script_hash": hash_to_hex(self.hash)}
        if self.deployment_message is not None:
            shown["deployment_msg"] = self.deployment_message
        return shown


class ScriptStore:
    """All scripts of all workspaces."""

    def __init__(self, db: Database) -> None:
        self._db = db
        self._cache = _Deployed()

    async def create(
        self,
        workspace: str,
        new: NewScript,
        created_by: str,
        now_ms: int,
        *,
        skip_if_noop: bool = False,
    ) -> int:
        """Store a new version and make it the live one; its hash, once it is on disk.

        With ``skip_if_noop`` a version equal to the live one is not stored, and the live one's hash is returned.
        Raises :class:`BadRequest` when the version exists already, the path is taken by a live script that is not the
        parent, or the parent is unknown or already has a successor.
        """

        def work(connection: sqlite3.Connection) -> int:
            return self._create(connection, workspace, new, created_by, now_ms=now_ms, skip_if_noop=skip_if_noop)

        return await self._db.transact(work)

    async def set_lock(self, workspace: str, hash: int, lock: str) -> None:
        """The packages of a version were found: from now on it is the one that is run."""
        await self._change_lock(workspace, hash, "lock = ?, lock_error_logs = NULL", lock)

    async def set_lock_error(self, workspace: str, hash: int, logs: str) -> None:
        """The packages of a version could not be found; the version before goes on being run."""
        await self._change_lock(workspace, hash, "lock_error_logs = ?", logs)

    async def begin_lock(self, workspace: str, hash: int, lock_job: UUID) -> None:
        """A job looks for the packages of a version."""
        await self._change_lock(workspace, hash, "lock_error_logs = NULL, lock_job = ?", lock_job.bytes)

    async def forget_lock_error(self, workspace: str, hash: int) -> None:
        """The packages of a version are to be looked for anew."""
        await self._change_lock(workspace, hash, "lock_error_logs = NULL")

    async def _change_lock(self, workspace: str, hash: int, changes: str, *values: str | bytes) -> None:
        def work(connection: sqlite3.Connection) -> None:
            key = (workspace, hash)
            connection.execute(
                f"UPDATE script SET {changes} WHERE workspace_id = ? AND hash = ? AND lock IS NULL AND deleted = 0",
                (*values, *key),
            )
            script = _find(connection, "hash = ?", key)
            if script is not None:
                self._cache.evict(workspace, script.path)

        await self._db.transact(work)

    def without_lock(self) -> list[Script]:
        """The live versions, of all workspaces, whose packages are neither found nor given up."""
        return [
            Script.from_row(row)
            for row in self._db.read(f"SELECT * FROM script WHERE lock IS NULL AND lock_error_logs IS NULL AND {_LIVE}")
        ]

    def windows(self) -> list[tuple[str, int, int]]:
        """Versions whose ended runs count for a while (``concurrency_time_window_s``): workspace, hash, milliseconds."""
        rows = self._db.read(
            "SELECT workspace_id, hash, 1000 * json_extract(settings, '$.concurrency_time_window_s') AS window"
            " FROM script WHERE deleted = 0 AND window > 0 AND json_extract(settings, '$.concurrent_limit') > 0"
        )
        return [(row["workspace_id"], row["hash"], row["window"]) for row in rows]

    def newest(self, workspace: str, path: str) -> Script | None:
        """The newest version of ``path``, even if archived."""
        query = f"SELECT * FROM script WHERE workspace_id = ? AND path = ? {_NEWEST_FIRST} LIMIT 1"
        return _first(self._db.read(query, (workspace, path)))

    def get_by_path(self, workspace: str, path: str) -> Script:
        """The newest version of ``path``, even if archived; raises :class:`NotFound`."""
        return self.newest(workspace, path) or _missing(path)

    def find_by_hash(self, workspace: str, hash: int) -> Script | None:
        """One version, also an archived or deleted one."""
        query = "SELECT * FROM script WHERE workspace_id = ? AND hash = ?"
        return _first(self._db.read(query, (workspace, hash)))

    def lock_with(self, workspace: str, lock: str | None, imports: Mapping[str, str]) -> str | None:
        """The lock of new code that imports these, path to hash: None if one of them needs packages, which it then needs."""
        if lock != "":
            return lock
        found = (self.find_by_hash(workspace, hash_from_hex(version)) for version in imports.values())
        return None if any(script is not None and script.packages_lock != "" for script in found) else lock

    def get_by_hash(self, workspace: str, hash: int) -> Script:
        """One version, also an archived or deleted one; raises :class:`NotFound`."""
        return self.find_by_hash(workspace, hash) or _missing(hash_to_hex(hash))

    def deployed(self, workspace: str, path: str) -> Script:
        """The version of ``path`` to run; raises :class:`NotFound`.

        That is the live one. As long as its packages are not found it is the last one before it that has them, if there is
        one.
        """
        script = self._cache.get(workspace, path)
        if script is None:
            query = f"SELECT * FROM script WHERE workspace_id = ? AND path = ? AND {_LIVE}"
            script = _first(self._db.read(query, (workspace, path)))
            if script is None:
                _missing(path)
            if script.lock is None:
                script = self._last_ready(script) or script
            self._cache.put(script)
        return script

    def _last_ready(self, live: Script) -> Script | None:
        """The newest version in the lineage of ``live``, at its path, that has its packages."""
        marks = ", ".join("?" * len(live.parent_hashes))
        query = (
            f"SELECT * FROM script WHERE workspace_id = ? AND hash IN ({marks}) AND path = ? AND deleted = 0"
            f" AND lock IS NOT NULL {_NEWEST_FIRST} LIMIT 1"
        )
        return _first(self._db.read(query, (live.workspace_id, *live.parent_hashes, live.path)))

    def exists(self, workspace: str, path: str) -> bool:
        """Whether there is any version of ``path``, archived or not."""
        query = "SELECT 1 FROM script WHERE workspace_id = ? AND path = ? LIMIT 1"
        return bool(self._db.read(query, (workspace, path)))

    async def history(self, workspace: str, path: str) -> list[HistoryItem]:
        """The versions of ``path``, newest first; empty for an unknown path."""
        rows = await self._db.read_in_thread(
            "SELECT hash, json_extract(settings, '$.deployment_message') FROM script"
            f" WHERE workspace_id = ? AND path = ? {_NEWEST_FIRST} LIMIT ?",
            (workspace, path, MAX_HISTORY),
        )
        return [HistoryItem(row[0], row[1]) for row in rows]

    async def users_of(self, workspace: str, path: str, within: tuple[Paths, ...]) -> Sequence[str]:
        """The paths of live scripts that import the script at a path, itself or by what they import."""
        query, values = f"workspace_id = ? AND {_LIVE}", list[Any]([workspace])
        for paths in within:
            condition, more = paths.sql("path")
            query, values = f"{query} AND {condition}", [*values, *more]
        sql = (
            f"SELECT path FROM script WHERE {query}"
            f" AND EXISTS (SELECT 1 FROM json_each(settings, '$.{FIELD}') AS pin WHERE pin.key = ?) ORDER BY path"
        )
        return await self._db.read_in_thread(sql, (*values, path), lambda row: str(row[0]))

    async def live(
        self, workspace: str, within: tuple[Paths, ...], *, with_content: bool = False
    ) -> Sequence[tuple[str, str]]:
        """Every live script by path, with its code if that is wanted."""
        query, values = f"workspace_id = ? AND {_LIVE}", list[Any]([workspace])
        for paths in within:
            condition, more = paths.sql("path")
            query, values = f"{query} AND {condition}", [*values, *more]
        content = "content" if with_content else "''"
        return await self._db.read_in_thread(
            f"SELECT path, {content} FROM script WHERE {query} ORDER BY path", values, lambda row: (row[0], row[1])
        )

    async def list(self, workspace: str, query: ScriptQuery | None = None) -> list[Script]:
        """One page of scripts. Their ``content``, ``lock`` and ``schema`` are left empty: lists do not show them."""
        query = query or ScriptQuery()
        where, values = query.where(workspace)
        rows = await self._db.read_in_thread(
            "SELECT workspace_id, hash, path, parent_hashes, summary, description, '' AS content, language, kind, tag,"
            " NULL AS schema, '' AS lock, lock_error_logs, lock_job, settings, fingerprint, created_by, created_at,"
            " archived, deleted, no_main_func, has_preprocessor"
            f" FROM script AS s WHERE {where} ORDER BY {query.order} LIMIT ? OFFSET ?",
            (*values, query.per_page, query.offset),
        )
        return [Script.from_row(row) for row in rows]

    def forget(self, workspace: str) -> None:
        """Lets go of what is kept in memory of a workspace that was deleted."""
        self._cache.evict_all(workspace)

    async def archive_path(self, workspace: str, path: str) -> None:
        """Take ``path`` out of service: archive all its versions. Raises :class:`NotFound`."""

        def work(connection: sqlite3.Connection) -> None:
            where = (workspace, path)
            changed = connection.execute("UPDATE script SET archived = 1 WHERE workspace_id = ? AND path = ?", where)
            if changed.rowcount == 0:
                _missing(path)
            self._cache.evict(workspace, path)

        await self._db.transact(work)

    async def archive_hash(self, workspace: str, hash: int) -> Script:
        """Archive one version and return it; raises :class:`NotFound`."""
        return await self._change(workspace, hash, "archived = 1")

    async def delete_hash(self, workspace: str, hash: int) -> Script:
        """Blank one version and return it: the row stays, without code, lock and schema. Raises :class:`NotFound`."""
        blank = "content = '', lock = '', lock_error_logs = NULL, schema = NULL"
        return await self._change(workspace, hash, f"{blank}, archived = 1, deleted = 1")

    async def delete_path(self, workspace: str, path: str) -> int:
        """Remove every version of ``path``; how many. Raises :class:`NotFound`."""

        def work(connection: sqlite3.Connection) -> int:
            return self._delete(connection, workspace, path) or _missing(path)

        return await self._db.transact(work)

    async def delete_paths(self, workspace: str, paths: Sequence[str]) -> Sequence[str]:
        """Remove every version of all of these, or nothing if that fails; those that were there."""

        def work(connection: sqlite3.Connection) -> Sequence[str]:
            return [path for path in dict.fromkeys(paths) if self._delete(connection, workspace, path)]

        return await self._db.transact(work)

    def _delete(self, connection: sqlite3.Connection, workspace: str, path: str) -> int:
        self._cache.evict(workspace, path)
        where = (workspace, path)
        return connection.execute("DELETE FROM script WHERE workspace_id = ? AND path = ?", where).rowcount

    async def set_setting(self, workspace: str, hash: int, name: str, value: str | bool) -> Script:
        """Change one of the optional fields of a version, which stays what it is; raises :class:`NotFound`."""
        changed = "settings = json_set(settings, ?, json(?))"
        return await self._change(workspace, hash, changed, f"$.{name}", orjson.dumps(value).decode())

    async def _change(self, workspace: str, hash: int, changes: str, *values: str) -> Script:
        def work(connection: sqlite3.Connection) -> Script:
            key = (workspace, hash)
            connection.execute(f"UPDATE script SET {changes} WHERE workspace_id = ? AND hash = ?", (*values, *key))
            script = _find(connection, "hash = ?", key) or _missing(hash_to_hex(hash))
            self._cache.evict(workspace, script.path)
            return script

        return await self._db.transact(work)

    def _create(
        self,
        connection: sqlite3.Connection,
        workspace: str,
        new: NewScript,
        created_by: str,
        *,
        now_ms: int,
        skip_if_noop: bool,
    ) -> int:
        """The rules of creation, in their order; inside a transaction."""
        head = _find(connection, f"path = ? AND {_LIVE}", (workspace, new.path))
        if new.auto_parent:
            new = replace(new, parent_hash=head.hash if head else new.parent_hash)
        fingerprint = script_fingerprint(new)
        if skip_if_noop and head is not None and head.fingerprint == fingerprint:
            return head.hash

        hash = script_hash(new, workspace)
        if _find(connection, "hash = ?", (workspace, hash)) is not None:
            raise BadRequest(f"this version of {new.path} exists already, with hash {hash_to_hex(hash)}")
        lineage: tuple[int, ...] = ()
        if new.parent_hash is None:
            if head is not None:
                self._replace_draft(connection, head, new)
        else:
            lineage = self._follow(connection, workspace, new, new.parent_hash, head)
        fields = (value(new) for value in _COLUMNS.values())
        connection.execute(_INSERT, (workspace, hash, _parents_json(lineage), fingerprint, created_by, 0, *fields))
        # Versions are ordered by time, so a clock that went back must not make this one the older.
        connection.execute(
            "UPDATE script SET created_at = max(?, (SELECT 1 + max(created_at) FROM script"
            " WHERE workspace_id = ? AND path = ?)) WHERE workspace_id = ? AND hash = ?",
            (now_ms, workspace, new.path, workspace, hash),
        )
        self._cache.evict(workspace, new.path)
        return hash

    def _replace_draft(self, connection: sqlite3.Connection, head: Script, new: NewScript) -> None:
        """Without a parent the path must be free; only a draft makes way."""
        if not head.settings.get("draft_only"):
            raise BadRequest(
                f"path conflict for {new.path}: a script with hash {hash_to_hex(head.hash)} is there; "
                "send it as parent_hash to make a new version"
            )
        key = (head.workspace_id, head.hash)
        connection.execute("DELETE FROM script WHERE workspace_id = ? AND hash = ?", key)

    def _follow(
        self, connection: sqlite3.Connection, workspace: str, new: NewScript, parent_hash: int, head: Script | None
    ) -> tuple[int, ...]:
        """Archive the parent and return the lineage of its successor."""
        shown = hash_to_hex(parent_hash)
        parent = _find(connection, "hash = ?", (workspace, parent_hash))
        if parent is None:
            raise BadRequest(f"parent_hash: there is no version {shown} in this workspace")
        successor = _find(connection, "parent_hash = ?", (workspace, parent_hash))
        if successor is not None:
            raise BadRequest(
                f"parent_hash: {shown} was followed already, by {hash_to_hex(successor.hash)}; "
                "the history of a script is a line, send the newest version as parent_hash"
            )
        if head is not None and head.hash != parent_hash:
            raise BadRequest(f"path conflict for {new.path}: a script with hash {hash_to_hex(head.hash)} is there")
        connection.execute(
            "UPDATE script SET archived = 1 WHERE workspace_id = ? AND hash = ?", (workspace, parent_hash)
        )
        self._cache.evict(workspace, parent.path)
        return (parent_hash, *parent.parent_hashes)[:MAX_LINEAGE]


class _Deployed:
    """The cache of live scripts: the least recently used leave when there are too many or they are too large."""

    def __init__(self) -> None:
        self._scripts: OrderedDict[tuple[str, str], Script] = OrderedDict()
        self._bytes = 0

    def get(self, workspace: str, path: str) -> Script | None:
        """The script, which then counts as just used."""
        script = self._scripts.get((workspace, path))
        if script is not None:
            self._scripts.move_to_end((workspace, path))
        return script

    def put(self, script: Script) -> None:
        """Remember a script that was just read."""
        self.evict(script.workspace_id, script.path)
        self._scripts[script.workspace_id, script.path] = script
        self._bytes += _size(script)
        while len(self._scripts) > MAX_CACHED_SCRIPTS or self._bytes > MAX_CACHED_BYTES:
            _, oldest = self._scripts.popitem(last=False)
            self._bytes -= _size(oldest)

    def evict(self, workspace: str, path: str) -> None:
        """Forget a script that changed."""
        script = self._scripts.pop((workspace, path), None)
        if script is not None:
            self._bytes -= _size(script)

    def evict_all(self, workspace: str) -> None:
        """Forget the scripts of a workspace."""
        for key in [key for key in self._scripts if key[0] == workspace]:
            self.evict(*key)


def _size(script: Script) -> int:
    """Roughly the bytes it holds: Python texts take up to four per character, the schema's objects are on top."""
    return 4096 + 4 * (len(script.content) + len(script.lock or "") + len(script.description))


_COLUMNS: Final[dict[str, Callable[[NewScript], Any]]] = {
    "path": lambda new: new.path,
    "parent_hash": lambda new: new.parent_hash,
    "summary": lambda new: new.summary,
    "description": lambda new: new.description,
    "content": lambda new: new.content,
    "language": lambda new: new.language.value,
    "kind": lambda new: new.kind.value,
    "tag": lambda new: new.tag,
    "schema": lambda new: None if new.schema is None else orjson.dumps(new.schema).decode(),
    "lock": lambda new: new.lock,
    "settings": lambda new: orjson.dumps(new.settings).decode(),
    "no_main_func": lambda new: new.no_main_func,
    "has_preprocessor": lambda new: new.has_preprocessor,
}
_INSERT: Final = (
    "INSERT INTO script (workspace_id, hash, parent_hashes, fingerprint, created_by, created_at,"
    f" {', '.join(_COLUMNS)}) VALUES ({', '.join('?' * (6 + len(_COLUMNS)))})"
)


def _parents_json(lineage: tuple[int, ...]) -> str | None:
    return orjson.dumps([hash_to_hex(parent) for parent in lineage]).decode() if lineage else None


def _find(connection: sqlite3.Connection, condition: str, values: Iterable[Any]) -> Script | None:
    """The row with the workspace and condition, on the writing connection."""
    query = f"SELECT * FROM script WHERE workspace_id = ? AND {condition} LIMIT 1"
    return _first(connection.execute(query, tuple(values)).fetchall())


def _first(rows: list[sqlite3.Row]) -> Script | None:
    return Script.from_row(rows[0]) if rows else None


def _missing(name: str) -> NoReturn:
    raise NotFound(f"script not found at name {name}")
