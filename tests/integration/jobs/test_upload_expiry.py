"""Uploads go by age and by size; what somebody named, or a job still needs, stays."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import orjson
import pytest
import trio

from minwebhook.auth.store import AuthStore
from minwebhook.db.database import Database
from minwebhook.jobs.model import Cancellation
from minwebhook.jobs.pressure import QueueLimits
from minwebhook.jobs.store import JobStore
from minwebhook.jobs.table import JobTable
from minwebhook.jobs.upload_expiry import UploadExpiry
from minwebhook.settings import StorageSettings
from minwebhook.storage.journal import UploadJournal
from minwebhook.storage.keys import ObjectKey, mentioned_uploads, parse_key, upload_key, uploaded_at_ms
from minwebhook.storage.model import ObjectHeaders
from minwebhook.storage.workspaces import WorkspaceStorages
from minwebhook.vault.keys import KeyRing
from minwebhook.vault.seal import Vault
from tests.jobs import job_spec

NOW = 1_790_000_000_000
DAY_MS = 86_400_000


@dataclass
class Place:
    """Storages of two workspaces, a table of jobs, and a journal."""

    storages: WorkspaceStorages
    journal: UploadJournal
    table: JobTable
    store: JobStore

    async def upload(self, number: int, age_days: float, *, size: int = 1, workspace: str = "demo") -> ObjectKey:
        return await self.put(upload_key(NOW - round(age_days * DAY_MS), number, "a.txt"), size, workspace)

    async def put(self, key: ObjectKey, size: int = 1, workspace: str = "demo") -> ObjectKey:
        storage = await self.storages.find(workspace)
        assert storage is not None
        async with storage.put(key, ObjectHeaders()) as upload:
            await upload.write(b"x" * size)
            await upload.commit()
        return key

    async def kept(self, workspace: str = "demo") -> set[str]:
        storage = await self.storages.find(workspace)
        assert storage is not None
        return {found.key for found in (await storage.list()).objects}

    async def expire(self, **settings: Any) -> None:
        kept = StorageSettings(**settings)
        await UploadExpiry(self.storages, self.journal, self.table, self.store, kept, clock=lambda: NOW).work()


@pytest.fixture
async def place(tmp_path: Path, nursery: trio.Nursery) -> AsyncIterator[Place]:
    db = Database.open(tmp_path / "test.db")
    await nursery.start(db.run)
    await AuthStore(db, "token").bootstrap(NOW)
    storages = WorkspaceStorages(db, StorageSettings(), tmp_path, Vault(KeyRing.load(tmp_path)))
    store = JobStore(db)
    yield Place(storages, UploadJournal(db), JobTable(store, limits=QueueLimits(100), slots=1), store)
    storages.close()
    db.close()


async def test_uploads_go_by_age_and_named_files_never(place: Place) -> None:
    old = [await place.upload(number, 10 + number) for number in range(3)]
    young = await place.upload(9, 1)
    named = await place.put(parse_key("reports/2020.csv"))
    similar = await place.put(parse_key("windmill_uploads/upload_of_mine.csv"))
    await place.expire()
    assert await place.kept() == {*old, young, named, similar}
    await place.expire(keep_uploads_s=5 * 86_400)
    assert await place.kept() == {young, named, similar}


async def test_the_oldest_of_all_workspaces_go_until_there_is_room(place: Place) -> None:
    other = "admins"
    keys = []
    for number in range(20):
        workspace = other if number % 3 == 0 else "demo"
        keys.append(await place.upload(number, 20 - number / 2, size=1000, workspace=workspace))
    await place.put(parse_key("named"), 100_000)
    await place.expire(max_uploads_bytes=22_000)  # not near enough
    assert len(await place.kept()) + len(await place.kept(other)) == 21
    await place.expire(max_uploads_bytes=10_000)
    left = (await place.kept() | await place.kept(other)) - {"named"}
    assert left == set(keys[11:])
    await place.expire(max_uploads_bytes=10_000)
    assert (await place.kept() | await place.kept(other)) - {"named"} == left


async def test_what_a_job_or_a_request_still_needs_stays(place: Place) -> None:
    queued, ended, storing, dead, none = [await place.upload(number, 100) for number in range(5)]
    just = await place.upload(9, 0.0001)
    place.table.submit_sync(job_spec())  # takes the only slot
    await place.table.submit(job_spec(arguments=orjson.dumps({"files": [{"s3": queued}]}).replace(b"/", b"\\/")))
    over = await place.table.submit(job_spec(arguments=orjson.dumps({"files": [{"s3": ended}]})))
    place.table.cancel(over, Cancellation("me", "why"))
    letter = await place.table.submit(job_spec(arguments=orjson.dumps({"files": [{"s3": dead}]})))
    letter.is_dead = True
    place.table.cancel(letter, Cancellation("me", "why"))
    await place.table._save_ended()
    await place.journal.open("demo", storing)
    await place.expire(keep_uploads_s=1, max_uploads_bytes=1)
    assert await place.kept() == {queued, storing, dead, just}
    assert none not in await place.kept()


def test_names_of_uploads_say_when_they_were_made() -> None:
    key = upload_key(NOW, 7, "a.tar.gz")
    assert uploaded_at_ms(key) == NOW
    for other in (
        "windmill_uploads/upload_1.txt",
        "x/windmill_uploads/upload_1_2.txt",
        f"{key}/below",
        "upload_1_2.txt",
    ):
        assert uploaded_at_ms(other) is None
    assert mentioned_uploads(orjson.dumps({"a": {"s3": key}, "b": ["windmill_uploads/upload_1_2.x", "upload"]})) == {
        key,
        "windmill_uploads/upload_1_2.x",
    }
