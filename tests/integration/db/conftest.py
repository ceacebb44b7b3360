"""A database in a temporary directory with its flusher running."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import trio

from minwebhook.db.database import Database
from minwebhook.db.migrations import Migration

TABLES = (
    Migration(1, "pairs", "CREATE TABLE pair (key INTEGER PRIMARY KEY, value TEXT NOT NULL) STRICT;"),
    Migration(
        2,
        "family",
        "CREATE TABLE child (parent INTEGER REFERENCES pair (key) DEFERRABLE INITIALLY DEFERRED) STRICT;",
    ),
)


@pytest.fixture
def errors() -> list[tuple[str, Exception]]:
    """What the database reported of posts that failed."""
    return []


@pytest.fixture
async def db(tmp_path: Path, nursery: trio.Nursery, errors: list[tuple[str, Exception]]) -> AsyncIterator[Database]:
    database = Database.open(tmp_path / "test.db", TABLES, on_error=lambda sql, error: errors.append((sql, error)))
    await nursery.start(database.run)
    yield database
    database.close()
