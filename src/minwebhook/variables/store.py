"""Variables in the database. The values of secret ones are sealed (``vault/seal.py``).

A variable whose time is over is as good as gone; :meth:`VariableStore.delete_expired` removes its row.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterable
from typing import Final

from minwebhook.db.database import Database
from minwebhook.errors import BadRequest, Internal, NotFound
from minwebhook.times import now_ms
from minwebhook.variables.model import NewVariable, Variable, VariableChange
from minwebhook.vault.seal import VARIABLE, SealError, Vault

_COLUMNS: Final = "workspace_id, path, value, is_secret, description, account, is_oauth, expires_at"
_LIVING: Final = "(expires_at IS NULL OR expires_at > ?)"
#: Paths below ``u/USER/`` that lists leave out: what users typed into forms as secret arguments (upstream's rule).
_HIDDEN: Final = "path NOT LIKE 'u/%/secret_arg/%'"


class VariableStore:
    """The variables of all workspaces."""

    def __init__(self, db: Database, vault: Vault) -> None:
        self._db = db
        self._vault = vault
        #: Told the workspace in which something has changed.
        self.on_change: Callable[[str], None] = lambda workspace: None

    def find(self, workspace: str, path: str) -> Variable | None:
        """The variable at ``path``; None if there is none."""
        query = f"SELECT {_COLUMNS} FROM variable WHERE workspace_id = ? AND path = ? AND {_LIVING}"  # noqa: S608
        rows = self._db.read(query, (workspace, path, now_ms()))
        return _variable(rows[0]) if rows else None

    def value(self, variable: Variable) -> str:
        """The value in clear. Raises :class:`Internal` if it cannot be opened."""
        if not variable.is_secret:
            return variable.stored
        try:
            return self._vault.open(VARIABLE, variable.workspace, variable.stored)
        except SealError as error:
            raise Internal(f"the value of variable {variable.path} cannot be opened: {error}") from error

    async def all(self, workspace: str) -> list[Variable]:
        """All of a workspace that lists show, by path."""
        query = f"SELECT {_COLUMNS} FROM variable WHERE workspace_id = ? AND {_LIVING} AND {_HIDDEN} ORDER BY path"  # noqa: S608
        return await self._db.read_in_thread(query, (workspace, now_ms()), _variable)

    async def create(self, workspace: str, new: NewVariable, *, is_sealed: bool = False) -> None:
        """Raises :class:`BadRequest` if the path is taken, or if ``is_sealed`` and the value was not sealed here."""
        stored = self._stored(workspace, new.value, is_secret=new.is_secret, is_sealed=is_sealed)
        row = (
            *(workspace, new.path, stored, new.is_secret, new.description, new.account, new.is_oauth),
            new.expires_at_ms,
        )

        def work(connection: sqlite3.Connection) -> None:
            query = "DELETE FROM variable WHERE workspace_id = ? AND path = ? AND expires_at <= ?"
            connection.execute(query, (workspace, new.path, now_ms()))
            connection.execute(f"INSERT INTO variable ({_COLUMNS}) VALUES (?, ?, ?, ?, ?, ?, ?, ?)", row)  # noqa: S608

        try:
            await self._db.transact(work)
        except sqlite3.IntegrityError:
            raise BadRequest(f"variable {new.path} already exists") from None
        self.on_change(workspace)

    async def update(self, workspace: str, path: str, change: VariableChange, *, is_sealed: bool = False) -> str:
        """Change what ``change`` names; the path that it has then. Raises :class:`NotFound` and :class:`BadRequest`."""

        def work(connection: sqlite3.Connection) -> str:
            query = f"SELECT {_COLUMNS} FROM variable WHERE workspace_id = ? AND path = ? AND {_LIVING}"  # noqa: S608
            row = connection.execute(query, (workspace, path, now_ms())).fetchone()
            if row is None:
                raise NotFound(f"variable {path} not found")
            old = _variable(row)
            is_secret = old.is_secret if change.is_secret is None else change.is_secret
            if change.value is not None:
                stored = self._stored(workspace, change.value, is_secret=is_secret, is_sealed=is_sealed)
            elif is_secret == old.is_secret:
                stored = old.stored
            else:
                stored = self._stored(workspace, self.value(old), is_secret=is_secret)
            connection.execute(
                "UPDATE variable SET path = ?, value = ?, is_secret = ?, description = coalesce(?, description)"
                " WHERE workspace_id = ? AND path = ?",
                (change.path or path, stored, is_secret, change.description, workspace, path),
            )
            return change.path or path

        try:
            new_path = await self._db.transact(work)
        except sqlite3.IntegrityError:
            raise BadRequest(f"variable {change.path} already exists") from None
        self.on_change(workspace)
        return new_path

    async def delete(self, workspace: str, path: str) -> None:
        """Raises :class:`NotFound`."""

        def work(connection: sqlite3.Connection) -> None:
            query = "DELETE FROM variable WHERE workspace_id = ? AND path = ?"
            if not connection.execute(query, (workspace, path)).rowcount:
                raise NotFound(f"variable {path} not found")

        await self._db.transact(work)
        self.on_change(workspace)

    async def delete_all(self, workspace: str, paths: Iterable[str]) -> list[str]:
        """Remove what is at the paths, in one transaction; where there was something."""

        def work(connection: sqlite3.Connection) -> list[str]:
            query = "DELETE FROM variable WHERE workspace_id = ? AND path = ?"
            return [path for path in paths if connection.execute(query, (workspace, path)).rowcount]

        gone = await self._db.transact(work)
        self.on_change(workspace)
        return gone

    async def delete_expired(self, at_ms: int) -> int:
        """Remove those whose time is over; how many."""
        return await self._db.transact(
            lambda connection: connection.execute("DELETE FROM variable WHERE expires_at <= ?", (at_ms,)).rowcount
        )

    def seal(self, workspace: str, value: str) -> str:
        """``value`` as ``create`` takes it with ``is_sealed``."""
        return self._vault.seal(VARIABLE, workspace, value)

    def open(self, workspace: str, sealed: str) -> str:
        """What :meth:`seal` sealed. Raises :class:`BadRequest`."""
        try:
            return self._vault.open(VARIABLE, workspace, sealed)
        except SealError as error:
            raise BadRequest(f"an encrypted value cannot be opened: {error}") from error

    def _stored(self, workspace: str, value: str, *, is_secret: bool, is_sealed: bool = False) -> str:
        """A value as the column holds it; what is not secret is not sealed."""
        if not is_secret:
            return value
        if is_sealed:
            self.open(workspace, value)
            return value
        return self.seal(workspace, value)


def _variable(row: sqlite3.Row) -> Variable:
    return Variable(
        workspace=row["workspace_id"],
        path=row["path"],
        stored=row["value"],
        is_secret=bool(row["is_secret"]),
        description=row["description"],
        account=row["account"],
        is_oauth=bool(row["is_oauth"]),
        expires_at_ms=row["expires_at"],
    )
