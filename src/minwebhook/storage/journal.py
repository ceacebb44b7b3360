"""Objects that a request is storing and no job has yet: a crash must not leave them behind.

A row is on disk before an object can be seen, and goes when a job has the object, or the object is gone. What rows a
start finds, the process that made them did not live to settle: their objects are removed.
"""

from __future__ import annotations

from collections.abc import Iterable

from minwebhook.db.database import Database
from minwebhook.storage.keys import ObjectKey


class UploadJournal:
    """The rows of the table ``upload``."""

    def __init__(self, db: Database) -> None:
        self._db = db

    async def open(self, workspace: str, key: ObjectKey) -> None:
        """``key`` is about to be stored in the primary storage of ``workspace``; on disk when this returns."""
        await self._db.write("INSERT INTO upload (workspace_id, key) VALUES (?, ?)", (workspace, key))

    def settle(self, workspace: str, keys: Iterable[ObjectKey]) -> None:
        """The objects have an owner, or are gone.

        Queued, not waited for: what is written in the same turn of the loop, above all the row of the job that has the
        objects now, is in the same transaction.
        """
        for key in keys:
            self._db.post("DELETE FROM upload WHERE workspace_id = ? AND key = ?", (workspace, key))

    def unsettled(self) -> list[tuple[str, ObjectKey]]:
        """Workspace and key of what an earlier process left, for the start."""
        rows = self._db.read("SELECT workspace_id, key FROM upload ORDER BY workspace_id, key")
        return [(row["workspace_id"], ObjectKey(row["key"])) for row in rows]
