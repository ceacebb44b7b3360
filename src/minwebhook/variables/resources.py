"""Resources and resource types in the database. Values of resources are sealed: most of them hold credentials."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from typing import Any, Final

from minwebhook.db.database import Database
from minwebhook.errors import BadRequest, Internal, NotFound
from minwebhook.variables.model import NewResource, NewResourceType, Resource, ResourceChange, ResourceType
from minwebhook.vault.seal import RESOURCE, SealError, Vault

#: The workspace whose resource types all others have, too.
SHARED_WORKSPACE: Final = "admins"
_COLUMNS: Final = "workspace_id, path, value, resource_type, description, created_by, edited_at"
_TYPE_COLUMNS: Final = "workspace_id, name, schema, description, created_by, edited_at, format_extension"


class ResourceStore:
    """The resources and resource types of all workspaces."""

    def __init__(self, db: Database, vault: Vault) -> None:
        self._db = db
        self._vault = vault
        #: Told the workspace in which something has changed.
        self.on_change: Callable[[str], None] = lambda workspace: None

    def find(self, workspace: str, path: str) -> Resource | None:
        """The resource at ``path``; None if there is none."""
        query = f"SELECT {_COLUMNS} FROM resource WHERE workspace_id = ? AND path = ?"  # noqa: S608
        rows = self._db.read(query, (workspace, path))
        return Resource(*rows[0]) if rows else None

    def value(self, resource: Resource) -> bytes:
        """The value as JSON text. Raises :class:`Internal` if it cannot be opened."""
        try:
            return self._vault.open(RESOURCE, resource.workspace, resource.stored).encode()
        except SealError as error:
            raise Internal(f"the value of resource {resource.path} cannot be opened: {error}") from error

    async def all(self, workspace: str) -> list[Resource]:
        """All of a workspace, by path."""
        query = f"SELECT {_COLUMNS} FROM resource WHERE workspace_id = ? ORDER BY path"  # noqa: S608
        return await self._db.read_in_thread(query, (workspace,), lambda row: Resource(*row))

    async def create(
        self, workspace: str, new: NewResource, created_by: str, now_ms: int, *, replace: bool = False
    ) -> None:
        """Raises :class:`BadRequest` if the path is taken, unless it may be replaced."""
        stored = self._vault.seal(RESOURCE, workspace, new.value)
        row = (workspace, new.path, stored, new.resource_type, new.description, created_by, now_ms)
        statement = f"INSERT INTO resource ({_COLUMNS}) VALUES (?, ?, ?, ?, ?, ?, ?)"  # noqa: S608
        if replace:
            statement += (
                " ON CONFLICT (workspace_id, path) DO UPDATE SET value = excluded.value, resource_type ="
                " excluded.resource_type, description = excluded.description, edited_at = excluded.edited_at"
            )
        try:
            await self._db.transact(lambda connection: _execute(connection, statement, row))
        except sqlite3.IntegrityError:
            raise BadRequest(f"resource {new.path} already exists") from None
        self.on_change(workspace)

    async def update(self, workspace: str, path: str, change: ResourceChange, now_ms: int) -> str:
        """Change what ``change`` names; the path that it has then. Raises :class:`NotFound` and :class:`BadRequest`."""
        stored = None if change.value is None else self._vault.seal(RESOURCE, workspace, change.value)
        statement = (
            "UPDATE resource SET path = coalesce(?, path), value = coalesce(?, value), resource_type ="
            " coalesce(?, resource_type), description = coalesce(?, description), edited_at = ?"
            " WHERE workspace_id = ? AND path = ?"
        )
        values = (change.path, stored, change.resource_type, change.description, now_ms, workspace, path)

        def work(connection: sqlite3.Connection) -> None:
            if not _execute(connection, statement, values):
                raise NotFound(f"resource {path} not found")

        try:
            await self._db.transact(work)
        except sqlite3.IntegrityError:
            raise BadRequest(f"resource {change.path} already exists") from None
        self.on_change(workspace)
        return change.path or path

    async def delete(self, workspace: str, path: str) -> None:
        """Raises :class:`NotFound`."""

        def work(connection: sqlite3.Connection) -> None:
            if not _execute(connection, "DELETE FROM resource WHERE workspace_id = ? AND path = ?", (workspace, path)):
                raise NotFound(f"resource {path} not found")

        await self._db.transact(work)
        self.on_change(workspace)

    # --- types --------------------------------------------------------------------------------------------------------

    def find_type(self, workspace: str, name: str) -> ResourceType | None:
        """A type of the workspace, or one that all have."""
        query = (
            f"SELECT {_TYPE_COLUMNS} FROM resource_type WHERE workspace_id IN (?, ?) AND name = ?"  # noqa: S608
            " ORDER BY workspace_id = ? DESC"
        )
        rows = self._db.read(query, (workspace, SHARED_WORKSPACE, name, workspace))
        return ResourceType(*rows[0]) if rows else None

    async def types(self, workspace: str) -> list[ResourceType]:
        """The types of the workspace and those that all have, by name; its own hide others of the same name."""
        query = (
            f"SELECT {_TYPE_COLUMNS} FROM resource_type WHERE workspace_id IN (?, ?)"  # noqa: S608
            " ORDER BY name, workspace_id = ?"
        )
        found = await self._db.read_in_thread(
            query, (workspace, SHARED_WORKSPACE, workspace), lambda row: ResourceType(*row)
        )
        return list({kind.name: kind for kind in found}.values())

    async def create_type(self, workspace: str, new: NewResourceType, created_by: str, now_ms: int) -> None:
        """Raises :class:`BadRequest` if the name is taken."""
        row = (workspace, new.name, new.schema, new.description, created_by, now_ms, new.format_extension)
        statement = f"INSERT INTO resource_type ({_TYPE_COLUMNS}) VALUES (?, ?, ?, ?, ?, ?, ?)"  # noqa: S608
        try:
            await self._db.transact(lambda connection: _execute(connection, statement, row))
        except sqlite3.IntegrityError:
            raise BadRequest(f"resource type {new.name} already exists") from None

    async def update_type(self, workspace: str, new: NewResourceType, now_ms: int) -> None:
        """Replace schema and description. Raises :class:`NotFound`."""

        def work(connection: sqlite3.Connection) -> None:
            statement = "UPDATE resource_type SET schema = ?, description = ?, edited_at = ? WHERE workspace_id = ? AND name = ?"
            if not _execute(connection, statement, (new.schema, new.description, now_ms, workspace, new.name)):
                raise NotFound(f"resource type {new.name} not found")

        await self._db.transact(work)

    async def delete_type(self, workspace: str, name: str) -> None:
        """Raises :class:`NotFound`."""

        def work(connection: sqlite3.Connection) -> None:
            statement = "DELETE FROM resource_type WHERE workspace_id = ? AND name = ?"
            if not _execute(connection, statement, (workspace, name)):
                raise NotFound(f"resource type {name} not found")

        await self._db.transact(work)


def _execute(connection: sqlite3.Connection, statement: str, values: tuple[Any, ...]) -> int:
    """How many rows a statement changed."""
    return connection.execute(statement, values).rowcount
