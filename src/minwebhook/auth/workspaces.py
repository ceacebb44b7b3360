"""Workspaces and their members. Every change empties the caches of :class:`~minwebhook.auth.store.AuthStore`."""

from __future__ import annotations

import sqlite3
from dataclasses import dataclass
from typing import Any

from minwebhook.auth.store import FIRST_WORKSPACES, AuthStore
from minwebhook.auth.view_tokens import new_workspace_key
from minwebhook.auth.workspace_keys import WorkspaceKeys
from minwebhook.db.database import Database
from minwebhook.errors import BadRequest, NotFound
from minwebhook.times import rfc3339


@dataclass(frozen=True, slots=True)
class Workspace:
    """One workspace, with the caller's name in it where that is known."""

    id: str
    name: str
    is_archived: bool = False
    username: str | None = None

    def to_json(self) -> dict[str, Any]:
        """The item of ``workspaces/list``."""
        return {"id": self.id, "name": self.name, "owner": "", "deleted": self.is_archived}

    def to_user_json(self) -> dict[str, Any]:
        """The item of ``workspaces/users``."""
        return {"id": self.id, "name": self.name, "username": self.username or "", "color": None}


@dataclass(frozen=True, slots=True)
class Member:
    """A user in a workspace."""

    workspace_id: str
    email: str
    username: str
    is_admin: bool
    operator: bool
    is_disabled: bool
    created_at_ms: int
    name: str | None

    @classmethod
    def from_row(cls, row: sqlite3.Row) -> Member:
        """From the columns ``_MEMBER``."""
        return cls(row[0], row[1], row[2], bool(row[3]), bool(row[4]), bool(row[5]), row[6], row[7])

    @property
    def role(self) -> str:
        """The word for it."""
        return "admin" if self.is_admin else "operator" if self.operator else "developer"

    def to_json(self) -> dict[str, Any]:
        """The item of ``users/list``."""
        return {
            "workspace_id": self.workspace_id,
            "email": self.email,
            "username": self.username,
            "is_admin": self.is_admin,
            "operator": self.operator,
            "disabled": self.is_disabled,
            "created_at": rfc3339(self.created_at_ms),
            "role": self.role,
            "name": self.name,
        }


#: Rows of a workspace that do not go with it by themselves, and those of its jobs.
_OF_WORKSPACE = ("script", "flow_version", "upload")
_OF_JOBS = (
    ("job_log", "job_id"),
    ("job_stream", "job_id"),
    ("flow_items", "job_id"),
    ("idempotency", "job_id"),
    ("job", "id"),
)
#: Jobs that are removed in one transaction: some milliseconds.
_REMOVED_AT_ONCE = 500

_MEMBER = (
    "SELECT m.workspace_id, m.email, m.username, m.is_admin, m.operator, m.disabled, m.created_at, u.name"
    " FROM member AS m JOIN usr AS u ON u.email = m.email"
)


class WorkspaceStore:
    """All workspaces."""

    def __init__(self, db: Database, auth: AuthStore, keys: WorkspaceKeys) -> None:
        self._db = db
        self._keys = keys
        self._auth = auth

    async def create(self, id: str, name: str, email: str, username: str, now_ms: int) -> None:
        """A new workspace, whose admin is the user ``email`` as ``username``. Raises :class:`BadRequest`."""

        def work(connection: sqlite3.Connection) -> None:
            if connection.execute("SELECT 1 FROM workspace WHERE id = ?", (id,)).fetchone():
                raise BadRequest(f"id: there is a workspace {id} already")
            connection.execute("INSERT INTO workspace (id, name, created_at) VALUES (?, ?, ?)", (id, name, now_ms))
            self._keys.write(connection, id, new_workspace_key())
            _insert_member(connection, id, email, username, True, False, now_ms)
            self._auth.forget()

        await self._db.transact(work)

    async def list_all(self, email: str | None = None) -> list[Workspace]:
        """The workspaces of a user that are not archived, by id; None: all, also archived ones."""
        if email is None:
            query = "SELECT id, name, archived, NULL FROM workspace ORDER BY id"
            return await self._db.read_in_thread(query, (), _workspace)
        return await self._db.read_in_thread(
            "SELECT w.id, w.name, w.archived, m.username FROM workspace AS w"
            " JOIN member AS m ON m.workspace_id = w.id AND m.email = ? AND m.disabled = 0"
            " WHERE w.archived = 0 ORDER BY w.id",
            (email,),
            _workspace,
        )

    def find(self, id: str) -> Workspace | None:
        """One workspace, also an archived one."""
        rows = self._db.read("SELECT id, name, archived, NULL FROM workspace WHERE id = ?", (id,))
        return _workspace(rows[0]) if rows else None

    async def set_archived(self, id: str, is_archived: bool) -> None:
        """Nobody gets into an archived one; everything in it stays. Raises :class:`NotFound`."""

        def work(connection: sqlite3.Connection) -> None:
            query = "UPDATE workspace SET archived = ? WHERE id = ?"
            if not connection.execute(query, (is_archived, id)).rowcount:
                raise NotFound(f"workspace {id} not found")
            self._auth.forget()

        await self._db.transact(work)

    async def delete(self, id: str) -> None:
        """Removes an archived workspace with all that is in it; the audit log and objects in storages stay.

        In pieces: one that was cut off is archived still, and is deleted by another call. Raises :class:`NotFound`, and
        :class:`BadRequest` for one that is in service, or that the server needs.
        """
        if id in dict(FIRST_WORKSPACES):
            raise BadRequest(f"the server makes {id} at each start; archive it instead")

        def check(connection: sqlite3.Connection) -> None:
            row = connection.execute("SELECT archived FROM workspace WHERE id = ?", (id,)).fetchone()
            if row is None:
                raise NotFound(f"workspace {id} not found")
            if not row["archived"]:
                raise BadRequest(f"workspace {id} is in service; archive it first")

        def remove_jobs(connection: sqlite3.Connection) -> int:
            check(connection)
            query = "SELECT id FROM job WHERE workspace_id = ? LIMIT ?"
            keys = [(row["id"],) for row in connection.execute(query, (id, _REMOVED_AT_ONCE)).fetchall()]
            for table, column in _OF_JOBS:
                connection.executemany(f"DELETE FROM {table} WHERE {column} = ?", keys)  # noqa: S608 - constants
            return len(keys)

        def remove(connection: sqlite3.Connection) -> None:
            check(connection)
            for table in _OF_WORKSPACE:
                connection.execute(f"DELETE FROM {table} WHERE workspace_id = ?", (id,))  # noqa: S608 - constants
            connection.execute("DELETE FROM workspace WHERE id = ?", (id,))
            self._auth.forget()

        while await self._db.transact(remove_jobs):
            pass
        await self._db.transact(remove)

    # --- members ------------------------------------------------------------------------------------------------------

    async def add_member(
        self, workspace: str, email: str, username: str | None, is_admin: bool, operator: bool, now_ms: int
    ) -> None:
        """A user of the instance becomes a member. Without a ``username`` it is the user's of the instance.

        Raises :class:`BadRequest` if there is no such user, or the user or the name is there already.
        """

        def work(connection: sqlite3.Connection) -> None:
            user = connection.execute("SELECT username FROM usr WHERE email = ?", (email,)).fetchone()
            if user is None:
                raise BadRequest(f"email: there is no user {email}; a super admin makes one with users/create")
            _insert_member(connection, workspace, email, username or user["username"], is_admin, operator, now_ms)
            self._auth.forget()

        await self._db.transact(work)

    async def members(self, workspace: str) -> list[Member]:
        """All members, by name."""
        query = f"{_MEMBER} WHERE m.workspace_id = ? ORDER BY m.username"
        return await self._db.read_in_thread(query, (workspace,), Member.from_row)

    def find_member(self, workspace: str, *, username: str = "", email: str = "") -> Member | None:
        """A member by name or e-mail."""
        query = f"{_MEMBER} WHERE m.workspace_id = ? AND (m.username = ? OR m.email = ?)"
        rows = self._db.read(query, (workspace, username, email))
        return Member.from_row(rows[0]) if rows else None

    def get_member(self, workspace: str, username: str) -> Member:
        """A member by name; raises :class:`NotFound`."""
        member = self.find_member(workspace, username=username)
        if member is None:
            raise NotFound(f"user {username} not found in the workspace")
        return member

    async def update_member(
        self,
        workspace: str,
        username: str,
        *,
        is_admin: bool | None = None,
        operator: bool | None = None,
        is_disabled: bool | None = None,
    ) -> None:
        """Changes what is given; an admin is no operator, and an operator no admin. Raises :class:`NotFound`."""
        if is_admin and operator:
            raise BadRequest("is_admin and operator exclude each other")
        changes = {
            "is_admin": False if operator and is_admin is None else is_admin,
            "operator": False if is_admin and operator is None else operator,
            "disabled": is_disabled,
        }

        def work(connection: sqlite3.Connection) -> None:
            _require_member(connection, workspace, username)
            for column, value in changes.items():
                if value is not None:
                    query = f"UPDATE member SET {column} = ? WHERE workspace_id = ? AND username = ?"  # noqa: S608
                    connection.execute(query, (value, workspace, username))
            self._auth.forget()

        await self._db.transact(work)

    async def remove_member(self, workspace: str, username: str) -> None:
        """Ends a membership, with the user's tokens that are bound to the workspace. Raises :class:`NotFound`."""

        def work(connection: sqlite3.Connection) -> None:
            email = _require_member(connection, workspace, username)
            connection.execute("DELETE FROM member WHERE workspace_id = ? AND username = ?", (workspace, username))
            connection.execute("DELETE FROM token WHERE workspace_id = ? AND email = ?", (workspace, email))
            self._auth.forget()

        await self._db.transact(work)


def _workspace(row: sqlite3.Row) -> Workspace:
    return Workspace(row[0], row[1], bool(row[2]), row[3])


def _insert_member(
    connection: sqlite3.Connection,
    workspace: str,
    email: str,
    username: str,
    is_admin: bool,
    operator: bool,
    now_ms: int,
) -> None:
    if is_admin and operator:
        raise BadRequest("is_admin and operator exclude each other")
    key = (workspace, email, username)
    query = "SELECT email FROM member WHERE workspace_id = ? AND (email = ? OR username = ?)"
    there = connection.execute(query, key).fetchone()
    if there is not None:
        what = f"{email} is a member already" if there["email"] == email else f"username: {username} is taken"
        raise BadRequest(what)
    connection.execute(
        "INSERT INTO member (workspace_id, email, username, is_admin, operator, created_at) VALUES (?, ?, ?, ?, ?, ?)",
        (*key, int(is_admin), int(operator), now_ms),
    )


def _require_member(connection: sqlite3.Connection, workspace: str, username: str) -> str:
    query = "SELECT email FROM member WHERE workspace_id = ? AND username = ?"
    row = connection.execute(query, (workspace, username)).fetchone()
    if row is None:
        raise NotFound(f"user {username} not found in the workspace")
    return str(row["email"])
