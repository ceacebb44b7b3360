"""Folders and groups of workspaces as rows. Every change empties the caches of :class:`~minwebhook.auth.store.AuthStore`."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any, Final

import orjson

from minwebhook.auth.rights import EVERYONE, Folder, parse_holder
from minwebhook.auth.store import AuthStore, folder_from_row
from minwebhook.db.database import Database
from minwebhook.errors import BadRequest, NotFound, PermissionDenied
from minwebhook.times import rfc3339

#: Whether anything lies below the paths from ``first`` to ``end`` that whoever owns the folder could see. Of jobs those of what
#: was deployed: the path of a preview is what its sender said.
_HAS_CONTENTS: Final = """
SELECT 1 FROM script WHERE workspace_id = :ws AND path >= :first AND path < :end AND deleted = 0
UNION ALL SELECT 1 FROM flow WHERE workspace_id = :ws AND path >= :first AND path < :end
UNION ALL SELECT 1 FROM variable WHERE workspace_id = :ws AND path >= :first AND path < :end
UNION ALL SELECT 1 FROM resource WHERE workspace_id = :ws AND path >= :first AND path < :end
UNION ALL SELECT 1 FROM job WHERE workspace_id = :ws AND script_path >= :first AND script_path < :end
    AND status != 'queued' AND kind IN ('script', 'flow')
UNION ALL SELECT 1 FROM job WHERE workspace_id = :ws AND script_path >= :first AND script_path < :end
    AND status = 'queued' AND kind IN ('script', 'flow')
LIMIT 1
"""


def folder_json(workspace: str, folder: Folder) -> dict[str, Any]:
    """The object of ``folders/get``."""
    return {
        "workspace_id": workspace,
        "name": folder.name,
        "display_name": folder.display_name or folder.name,
        "summary": folder.summary,
        "owners": list(folder.owners),
        "extra_perms": dict(folder.extra_perms),
        "created_by": folder.created_by,
        "edited_at": rfc3339(folder.edited_at_ms),
    }


def parse_owners(value: Any) -> tuple[str, ...]:
    """The member ``owners`` of a body. Raises :class:`BadRequest`."""
    if not isinstance(value, list) or len(value) > 1000:
        raise BadRequest('owners: send an array such as ["u/alice", "g/team"]')
    return tuple(dict.fromkeys(parse_holder(item, "owners") for item in value))


def parse_perms(value: Any) -> dict[str, bool]:
    """The member ``extra_perms`` of a body. Raises :class:`BadRequest`."""
    if not isinstance(value, dict) or len(value) > 1000 or not all(isinstance(item, bool) for item in value.values()):
        raise BadRequest('extra_perms: send an object such as {"u/alice": true, "g/team": false} (true: may change)')
    return {parse_holder(name, "extra_perms"): write for name, write in value.items()}


class FolderStore:
    """All folders."""

    def __init__(self, db: Database, auth: AuthStore) -> None:
        self._db = db
        self._auth = auth

    async def create(self, workspace: str, folder: Folder, *, by_admin: bool) -> None:
        """Raises :class:`BadRequest` if there is one of the name, :class:`PermissionDenied` if something lies below its path
        already, which was not meant for whoever makes it, unless an admin does.
        """

        def work(connection: sqlite3.Connection) -> None:
            if _find_folder(connection, workspace, folder.name) is not None:
                raise BadRequest(f"there is a folder {folder.name} already")
            if not by_admin and _has_contents(connection, workspace, folder.name):
                raise PermissionDenied(
                    f"there are scripts, flows, variables, resources or jobs below f/{folder.name}/ from before: "
                    "let an admin make the folder, or send another name"
                )
            self._write(connection, workspace, folder)

        await self._db.transact(work)

    def find(self, workspace: str, name: str) -> Folder | None:
        """One folder."""
        rows = self._db.read("SELECT * FROM folder WHERE workspace_id = ? AND name = ?", (workspace, name))
        return folder_from_row(rows[0]) if rows else None

    def get(self, workspace: str, name: str) -> Folder:
        """The same; raises :class:`NotFound`."""
        folder = self.find(workspace, name)
        if folder is None:
            raise NotFound(f"folder {name} not found")
        return folder

    async def list_all(self, workspace: str) -> list[Folder]:
        """All folders, by name."""
        query = "SELECT * FROM folder WHERE workspace_id = ? ORDER BY name"
        return await self._db.read_in_thread(query, (workspace,), folder_from_row)

    async def change(self, workspace: str, name: str, now_ms: int, change: Callable[[Folder], Folder]) -> None:
        """Replaces a folder by what ``change`` makes of it. Raises :class:`NotFound`, and what ``change`` raises."""

        def work(connection: sqlite3.Connection) -> None:
            folder = _find_folder(connection, workspace, name)
            if folder is None:
                raise NotFound(f"folder {name} not found")
            self._write(connection, workspace, replace(change(folder), edited_at_ms=now_ms))

        await self._db.transact(work)

    async def delete(self, workspace: str, name: str) -> None:
        """What is in it stays, for admins. Raises :class:`NotFound`."""

        def work(connection: sqlite3.Connection) -> None:
            query = "DELETE FROM folder WHERE workspace_id = ? AND name = ?"
            if not connection.execute(query, (workspace, name)).rowcount:
                raise NotFound(f"folder {name} not found")
            self._auth.forget()

        await self._db.transact(work)

    def _write(self, connection: sqlite3.Connection, workspace: str, folder: Folder) -> None:
        connection.execute(
            "INSERT OR REPLACE INTO folder (workspace_id, name, display_name, summary, owners, extra_perms, created_by,"
            " edited_at) VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
            (
                workspace,
                folder.name,
                folder.display_name,
                folder.summary,
                orjson.dumps(folder.owners).decode(),
                orjson.dumps(dict(folder.extra_perms)).decode(),
                folder.created_by,
                folder.edited_at_ms,
            ),
        )
        self._auth.forget()


@dataclass(frozen=True, slots=True)
class Group:
    """A group and the names of its members."""

    name: str
    summary: str | None
    members: tuple[str, ...] = ()

    def to_json(self, workspace: str) -> dict[str, Any]:
        """The object of ``groups/get``."""
        return {
            "workspace_id": workspace,
            "name": self.name,
            "summary": self.summary,
            "members": list(self.members),
            "extra_perms": {},
        }


class GroupStore:
    """All groups. ``all``, which everyone is in, is none of them: it cannot be made or changed."""

    def __init__(self, db: Database, auth: AuthStore) -> None:
        self._db = db
        self._auth = auth

    async def create(self, workspace: str, name: str, summary: str | None) -> None:
        """An empty group. Raises :class:`BadRequest` if there is one."""

        def work(connection: sqlite3.Connection) -> None:
            if name == EVERYONE or _has_group(connection, workspace, name):
                raise BadRequest(f"there is a group {name} already")
            query = "INSERT INTO usr_group (workspace_id, name, summary) VALUES (?, ?, ?)"
            connection.execute(query, (workspace, name, summary))

        await self._db.transact(work)

    async def list_all(self, workspace: str) -> list[Group]:
        """All groups with their members, by name; ``all`` first."""
        rows = await self._db.read_in_thread(
            "SELECT g.name, g.summary, (SELECT json_group_array(username) FROM usr_group_member AS m"
            " WHERE m.workspace_id = g.workspace_id AND m.name = g.name) FROM usr_group AS g"
            " WHERE g.workspace_id = ? ORDER BY g.name",
            (workspace,),
        )
        return [self._everyone(workspace), *(Group(row[0], row[1], tuple(orjson.loads(row[2]))) for row in rows)]

    def get(self, workspace: str, name: str) -> Group:
        """Raises :class:`NotFound`."""
        if name == EVERYONE:
            return self._everyone(workspace)
        rows = self._db.read("SELECT summary FROM usr_group WHERE workspace_id = ? AND name = ?", (workspace, name))
        if not rows:
            raise NotFound(f"group {name} not found")
        members = self._db.read(
            "SELECT username FROM usr_group_member WHERE workspace_id = ? AND name = ? ORDER BY username",
            (workspace, name),
        )
        return Group(name, rows[0]["summary"], tuple(row[0] for row in members))

    async def update(self, workspace: str, name: str, summary: str | None) -> None:
        """Raises :class:`NotFound`."""
        await self._change(
            workspace, name, "UPDATE usr_group SET summary = :value WHERE workspace_id = :ws AND name = :name", summary
        )

    async def delete(self, workspace: str, name: str) -> None:
        """Raises :class:`NotFound`."""
        await self._change(workspace, name, "DELETE FROM usr_group WHERE workspace_id = :ws AND name = :name")

    async def add(self, workspace: str, name: str, username: str) -> None:
        """A member of the workspace joins; no harm if it is one already. Raises :class:`NotFound`."""

        def work(connection: sqlite3.Connection) -> None:
            self._require(connection, workspace, name)
            query = "SELECT 1 FROM member WHERE workspace_id = ? AND username = ?"
            if not connection.execute(query, (workspace, username)).fetchone():
                raise NotFound(f"user {username} not found in the workspace")
            query = "INSERT OR IGNORE INTO usr_group_member (workspace_id, name, username) VALUES (?, ?, ?)"
            connection.execute(query, (workspace, name, username))
            self._auth.forget()

        await self._db.transact(work)

    async def remove(self, workspace: str, name: str, username: str) -> None:
        """Raises :class:`NotFound` if there is no such group."""
        query = "DELETE FROM usr_group_member WHERE workspace_id = :ws AND name = :name AND username = :value"
        await self._change(workspace, name, query, username)

    async def _change(self, workspace: str, name: str, query: str, value: str | None = None) -> None:
        def work(connection: sqlite3.Connection) -> None:
            self._require(connection, workspace, name)
            values: Mapping[str, str | None] = {"ws": workspace, "name": name, "value": value}
            connection.execute(query, values)
            self._auth.forget()

        await self._db.transact(work)

    def _require(self, connection: sqlite3.Connection, workspace: str, name: str) -> None:
        if name == EVERYONE:
            raise BadRequest(f"the group {EVERYONE} is everyone, and cannot be changed")
        if not _has_group(connection, workspace, name):
            raise NotFound(f"group {name} not found")

    def _everyone(self, workspace: str) -> Group:
        query = "SELECT username FROM member WHERE workspace_id = ? AND disabled = 0 ORDER BY username"
        return Group(EVERYONE, "Everyone in the workspace", tuple(row[0] for row in self._db.read(query, (workspace,))))


def _find_folder(connection: sqlite3.Connection, workspace: str, name: str) -> Folder | None:
    query = "SELECT * FROM folder WHERE workspace_id = ? AND name = ?"
    row = connection.execute(query, (workspace, name)).fetchone()
    return None if row is None else folder_from_row(row)


def _has_contents(connection: sqlite3.Connection, workspace: str, name: str) -> bool:
    values = {"ws": workspace, "first": f"f/{name}/", "end": f"f/{name}0"}  # 0 comes after /
    return connection.execute(_HAS_CONTENTS, values).fetchone() is not None


def _has_group(connection: sqlite3.Connection, workspace: str, name: str) -> bool:
    query = "SELECT 1 FROM usr_group WHERE workspace_id = ? AND name = ?"
    return connection.execute(query, (workspace, name)).fetchone() is not None
