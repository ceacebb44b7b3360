"""What of a workspace can be run by path: its live scripts and flows, for those who look for webhooks to call."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable
from typing import Any, Final

import orjson

from minwebhook.db.database import Database
from minwebhook.paths import Paths

#: Of one kind in one workspace.
MAX_RUNNABLES: Final = 10_000

_SCRIPTS: Final = (
    "SELECT s.path, s.summary, s.description, s.schema FROM script AS s"
    " WHERE s.workspace_id = ? AND s.archived = 0 AND s.deleted = 0 AND s.no_main_func IS NULL"
)
_FLOWS: Final = (
    "SELECT v.path, v.summary, v.description, v.schema FROM flow AS f JOIN flow_version AS v ON v.id = f.version"
    " WHERE f.workspace_id = ? AND f.archived = 0"
)


async def runnables(
    db: Database, workspace: str, scripts: Iterable[Paths], flows: Iterable[Paths]
) -> list[dict[str, Any]]:
    """The items of ``users/all_runnables``, scripts first, by path; those whose path is in all of the sets of their kind."""
    found = []
    for kind, letter, select, column, within in (
        ("script", "p", _SCRIPTS, "s.path", scripts),
        ("flow", "f", _FLOWS, "v.path", flows),
    ):
        query, values = select, list[Any]([workspace])
        for paths in within:
            condition, more = paths.sql(column)
            query = f"{query} AND {condition}"
            values += more
        query = f"{query} ORDER BY {column} LIMIT ?"

        def item(row: sqlite3.Row, kind: str = kind, letter: str = letter) -> dict[str, Any]:
            path = row["path"]
            return {
                "workspace": workspace,
                "endpoint_async": f"/w/{workspace}/jobs/run/{letter}/{path}",
                "endpoint_sync": f"/w/{workspace}/jobs/run_wait_result/{letter}/{path}",
                "summary": row["summary"],
                "description": row["description"],
                "schema": None if row["schema"] is None else orjson.Fragment(row["schema"]),
                "kind": kind,
                "path": path,
            }

        found += await db.read_in_thread(query, (*values, MAX_RUNNABLES), item)
    return found
