"""A store of scripts on a real file."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import trio

from minwebhook.db.database import Database
from minwebhook.scripts.store import ScriptStore


@pytest.fixture
async def db(tmp_path: Path, nursery: trio.Nursery) -> AsyncIterator[Database]:
    database = Database.open(tmp_path / "test.db")
    await nursery.start(database.run)
    yield database
    database.close()


@pytest.fixture
def store(db: Database) -> ScriptStore:
    return ScriptStore(db)
