"""The secret keys of workspaces, which sign what anonymous callers may see (view_tokens.py); sealed in the database."""

from __future__ import annotations

import re
import sqlite3
from typing import Final

from minwebhook.auth.view_tokens import new_workspace_key
from minwebhook.db.database import Database
from minwebhook.errors import BadRequest
from minwebhook.vault.seal import WORKSPACE, Vault

_KEY: Final = re.compile(r"[A-Za-z0-9]{64}")
_SET: Final = "UPDATE workspace SET sealed_key = ?, key = NULL WHERE id = ?"


class WorkspaceKeys:
    """One key for each workspace."""

    def __init__(self, db: Database, vault: Vault) -> None:
        self._db = db
        self._vault = vault

    async def complete(self) -> None:
        """Seal the keys that earlier versions kept as they are, and give one to each workspace that has none."""
        query = "SELECT id, key FROM workspace WHERE sealed_key IS NULL"
        if not self._db.read(query):
            return

        def work(connection: sqlite3.Connection) -> None:
            for row in connection.execute(query).fetchall():
                self.write(connection, row["id"], row["key"] or new_workspace_key())

        await self._db.transact(work)

    def find(self, workspace: str) -> str | None:
        """The key of a workspace; None if there is no such workspace."""
        rows = self._db.read("SELECT sealed_key FROM workspace WHERE id = ?", (workspace,))
        sealed = rows[0]["sealed_key"] if rows else None
        return None if sealed is None else self._vault.open(WORKSPACE, workspace, sealed)

    async def replace(self, workspace: str, key: str) -> None:
        """Another key: what the old one signed is worth nothing any more. Raises :class:`BadRequest` for one that is none."""
        if not _KEY.fullmatch(key):
            raise BadRequest("new_key: send 64 letters and digits")
        await self._db.transact(lambda connection: self.write(connection, workspace, key))

    def write(self, connection: sqlite3.Connection, workspace: str, key: str) -> None:
        """Store a key; inside a transaction."""
        connection.execute(_SET, (self._vault.seal(WORKSPACE, workspace, key), workspace))
