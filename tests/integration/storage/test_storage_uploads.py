"""Forms on their way to storage, on a real database and a real directory: every failure, at every point."""

from __future__ import annotations

import hashlib
import itertools
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest
import trio

from minwebhook.auth.store import AuthStore
from minwebhook.db.database import Database
from minwebhook.errors import ApiError, BadRequest, InsufficientStorage, PayloadTooLarge
from minwebhook.http.messages import Body
from minwebhook.http.multipart import MultipartLimits
from minwebhook.settings import StorageSettings
from minwebhook.storage.journal import UploadJournal
from minwebhook.storage.keys import ObjectKey
from minwebhook.storage.objects import ObjectStorage
from minwebhook.storage.uploads import Uploads, receive_form, remove_unsettled
from minwebhook.storage.workspaces import WorkspaceStorages
from minwebhook.vault.keys import KeyRing
from minwebhook.vault.seal import Vault

TYPE = "multipart/form-data; boundary=b"
FILE = b'--b\r\nContent-Disposition: form-data; name="f"; filename="a.txt"\r\nContent-Type: text/plain\r\n\r\n'
FORM = (
    FILE
    + b'first\r\n--b\r\nContent-Disposition: form-data; name="t"\r\n\r\ntext\r\n'
    + FILE.replace(b'"f"', b'"g"')
    + b"second\r\n--b--\r\n"
)


class Pieces(Body):
    """A body that comes in pieces; ``before`` is called before each one."""

    def __init__(self, data: bytes, size: int = 40, before: Callable[[int], None] = lambda number: None) -> None:
        self._pieces = iter([data[at : at + size] for at in range(0, len(data), size)])
        self._before = before
        self._number = 0

    async def read_chunk(self) -> bytes:
        """The next one."""
        await trio.lowlevel.checkpoint()
        self._before(self._number)
        self._number += 1
        return next(self._pieces, b"")


class World:
    """A database and the storages on it."""

    def __init__(self, db: Database, storages: WorkspaceStorages, root: Path) -> None:
        self.db = db
        self.storages = storages
        self.journal = UploadJournal(db)
        self.root = root

    def uploads(self) -> Uploads:
        """Of one more request."""
        return Uploads(self.storages, self.journal, "demo")

    def files(self) -> list[str]:
        """What is on the disk, but the lock."""
        return sorted(path.name for path in self.root.rglob("*") if path.is_file() and path.name != "lock")

    async def is_clean(self) -> bool:
        """Whether neither the disk nor the journal has anything."""
        await self.db.write("DELETE FROM upload WHERE key = 'none'")  # what was posted is written now
        return self.files() == [] and self.journal.unsettled() == []


@pytest.fixture
async def world(tmp_path: Path, nursery: trio.Nursery) -> AsyncIterator[World]:
    """A new server's."""
    db = Database.open(tmp_path / "data" / "minwebhook.db")
    await nursery.start(db.run)
    await AuthStore(db).bootstrap(1)
    storages = WorkspaceStorages(db, StorageSettings(), tmp_path / "data", Vault(KeyRing.load(tmp_path / "data")))
    yield World(db, storages, tmp_path / "data" / "objects")
    storages.close()
    db.close()


async def receive(uploads: Uploads, body: Body, **more: Any) -> dict[str, Any]:
    """Read a form, as a request does."""
    limits = more.pop("limits", MultipartLimits())
    return await receive_form(body, TYPE, uploads, limits, now_ms=lambda: 1_700_000_000_000, **more)


async def test_what_a_form_becomes(world: World) -> None:
    uploads = world.uploads()
    seen: list[bytes] = []
    form = await receive(uploads, Pieces(FORM), on_bytes=seen.append, with_details=True)
    assert form["t"] == "text"
    (first,), (second,) = form["f"], form["g"]
    assert (first["filename"], first["size"], first["sha256"]) == ("a.txt", 5, hashlib.sha256(b"first").hexdigest())
    assert second["size"] == 6
    assert b"".join(seen) == FORM
    assert {key for _, key in world.journal.unsettled()} == {first["s3"], second["s3"]}
    with uploads.handing_over():
        pass
    await uploads.discard()  # there is nothing left to discard
    assert len(world.files()) == 4  # two objects with their sidecars
    await world.db.write("DELETE FROM upload WHERE key = 'none'")
    assert world.journal.unsettled() == []


async def test_a_row_is_on_disk_before_the_file_is_begun(world: World) -> None:
    storage = await world.storages.find("demo")
    assert storage is not None
    rows: list[int] = []
    put = storage.put

    def looking(*args: Any) -> Any:
        rows.append(len(world.journal.unsettled()))
        return put(*args)

    storage.put = looking  # type: ignore[method-assign, assignment]
    uploads = world.uploads()
    await receive(uploads, Pieces(FORM))
    assert rows == [1, 2]
    await uploads.discard()
    assert await world.is_clean()


@pytest.mark.parametrize("end", range(0, len(FORM) - 4, 9))
async def test_a_body_that_ends_early_at_any_byte_leaves_nothing(world: World, end: int) -> None:
    uploads = world.uploads()
    with pytest.raises(BadRequest, match="Error reading multipart field"):
        await receive(uploads, Pieces(FORM[:end]))
    await uploads.discard()
    assert await world.is_clean()


async def test_cancelled_at_any_point_it_leaves_nothing(world: World) -> None:
    for point in itertools.count():
        uploads = world.uploads()
        with trio.CancelScope() as scope:

            def cancel(number: int, scope: trio.CancelScope = scope, point: int = point) -> None:
                if number == point:
                    scope.cancel()

            try:
                await receive(uploads, Pieces(FORM, 25, cancel))
            finally:
                await uploads.discard()
        assert await world.is_clean(), point
        if not scope.cancelled_caught:
            assert point > len(FORM) // 25
            return


@pytest.mark.parametrize("method", ["open_sink", "write", "commit"])
@pytest.mark.parametrize("which", [0, 1])
async def test_a_storage_that_fails_at_any_step_leaves_nothing(
    world: World, monkeypatch: pytest.MonkeyPatch, method: str, which: int
) -> None:
    storage = await world.storages.find("demo")
    assert storage is not None
    calls = itertools.count()
    run = ObjectStorage.call

    async def failing(self: ObjectStorage, function: Any, *args: Any) -> Any:
        if function.__name__ == method and next(calls) == which:
            raise InsufficientStorage("full")
        return await run(self, function, *args)

    begin = ObjectStorage.begin

    async def failing_later(self: ObjectStorage, function: Any) -> Any:
        if function.func.__name__ == method and next(calls) == which:

            def fail() -> None:
                raise InsufficientStorage("full")

            return await begin(self, fail)
        return await begin(self, function)

    monkeypatch.setattr(ObjectStorage, "call", failing)
    monkeypatch.setattr(ObjectStorage, "begin", failing_later)
    body = FORM.replace(b"first", bytes(5_000_000)).replace(b"second", bytes(5_000_000))
    uploads = world.uploads()
    with pytest.raises(InsufficientStorage):
        await receive(uploads, Pieces(body, 100_000))
    await uploads.discard()
    assert await world.is_clean()


@pytest.mark.parametrize(
    ("limits", "text"),
    [
        (MultipartLimits(max_file_bytes=5), "A file of the form is larger than 5 bytes"),
        (MultipartLimits(max_total_bytes=len(FORM) - 1), "The multipart body is larger than"),
        (MultipartLimits(max_parts=2), "more than 2 parts"),
    ],
)
async def test_a_form_over_a_limit_leaves_nothing(world: World, limits: MultipartLimits, text: str) -> None:
    uploads = world.uploads()
    with pytest.raises(PayloadTooLarge, match=text):
        await receive(uploads, Pieces(FORM), limits=limits)
    await uploads.discard()
    assert await world.is_clean()


async def test_what_sees_the_bytes_may_refuse_them(world: World) -> None:
    def refuse(data: bytes) -> None:
        if b"second" in data:
            raise BadRequest("seen")

    uploads = world.uploads()
    with pytest.raises(BadRequest, match="seen"):
        await receive(uploads, Pieces(FORM, len(FORM) - 20), on_bytes=refuse)
    await uploads.discard()
    assert await world.is_clean()


async def test_a_job_that_is_not_made_leaves_the_files_to_the_request(world: World) -> None:
    uploads = world.uploads()
    await receive(uploads, Pieces(FORM))
    with pytest.raises(ApiError), uploads.handing_over():
        raise ApiError("the queue is full")
    await uploads.discard()
    assert await world.is_clean()


async def test_rows_go_in_the_transaction_of_the_job(world: World) -> None:
    uploads = world.uploads()
    await receive(uploads, Pieces(FORM))
    with uploads.handing_over():
        # As the job's row is: queued in the same turn of the loop.
        await world.db.write("CREATE TABLE job_of_the_test (a INTEGER) STRICT")
        assert world.journal.unsettled() == []


async def test_what_a_dead_process_left_is_removed(world: World) -> None:
    await receive(world.uploads(), Pieces(FORM))  # and then it died
    await world.journal.open("demo", ObjectKey("windmill_uploads/never-begun"))
    await world.journal.open("gone", ObjectKey("windmill_uploads/of-no-workspace"))
    left = world.journal.unsettled()
    assert len(left) == 4
    kept = world.uploads()
    await receive(kept, Pieces(FORM))  # of this process
    await remove_unsettled(world.storages, world.journal, left)
    await kept.discard()
    await world.db.write("DELETE FROM upload WHERE workspace_id = 'gone'")  # stays: there is nowhere to look
    assert await world.is_clean()
