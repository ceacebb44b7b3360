"""The storages of workspaces: defaults, configurations in the database, and rooms that stay apart."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import trio

from minwebhook.auth.store import AuthStore
from minwebhook.db.database import Database
from minwebhook.errors import BadGateway, BadRequest, NotFound, PermissionDenied, SettingsError
from minwebhook.settings import StorageSettings
from minwebhook.storage.keys import ObjectKey
from minwebhook.storage.objects import ObjectStorage
from minwebhook.storage.s3 import S3Backend
from minwebhook.storage.workspaces import WorkspaceStorages
from minwebhook.vault.keys import KeyRing
from minwebhook.vault.seal import Vault
from tests.fake_s3 import BUCKET, FakeS3

KEY = ObjectKey("a/b")
LOCAL = StorageSettings()


@pytest.fixture
async def db(tmp_path: Path, nursery: trio.Nursery) -> AsyncIterator[Database]:
    """The database of a new server: workspaces ``admins`` and ``demo``."""
    database = Database.open(tmp_path / "data" / "minwebhook.db")
    await nursery.start(database.run)
    await AuthStore(database).bootstrap(1)
    yield database
    database.close()


@pytest.fixture
async def fake(nursery: trio.Nursery) -> FakeS3:
    """An S3 server."""
    fake = FakeS3()
    await nursery.start(fake.run)
    return fake


def storages(db: Database, tmp_path: Path, settings: StorageSettings = LOCAL) -> WorkspaceStorages:
    """As a server has them."""
    return WorkspaceStorages(db, settings, tmp_path / "data", Vault(KeyRing.load(tmp_path / "data")))


async def put(storage: ObjectStorage | None, data: bytes = b"x") -> None:
    """Store an object."""
    assert storage is not None
    async with storage.put(KEY) as upload:
        await upload.write(data)
        await upload.commit()


def on(fake: FakeS3, **more: Any) -> StorageSettings:
    """Settings that name the fake server's bucket."""
    fields = {
        "storage": "s3",
        "s3_endpoint": fake.endpoint,
        "s3_bucket": BUCKET,
        "s3_access_key": "key",
        "s3_secret_key": "hidden",
        "s3_plain_http_hosts": (f"127.0.0.1:{fake.port}",),
        "s3_timeout_s": 5.0,
        **more,
    }
    return StorageSettings(**fields)


def resource(fake: FakeS3, **more: Any) -> dict[str, Any]:
    """A configuration with the fake server's bucket."""
    return {
        "type": "S3Storage",
        "s3_resource": {"bucket": BUCKET, "endPoint": fake.endpoint, "accessKey": "key", "secretKey": "hidden"},
        **more,
    }


# Without a configuration


async def test_each_workspace_has_a_directory_of_its_own(db: Database, tmp_path: Path) -> None:
    rooms = storages(db, tmp_path)
    demo, admins = await rooms.find("demo"), await rooms.find("admins")
    await put(demo)
    assert (tmp_path / "data" / "objects" / "demo" / "a" / "b").read_bytes() == b"x"
    assert admins is not None
    assert (await admins.list()).objects == ()
    assert await rooms.find("demo") is demo
    rooms.close()
    again = storages(db, tmp_path)
    demo = await again.find("demo")
    assert demo is not None
    assert [entry.key for entry in (await demo.list()).objects] == [KEY]
    again.close()


async def test_each_workspace_has_a_part_of_the_bucket(db: Database, tmp_path: Path, fake: FakeS3) -> None:
    rooms = storages(db, tmp_path, on(fake))
    await put(await rooms.find("demo"))
    assert list(fake.objects) == ["demo/a/b"]
    admins = await rooms.find("admins")
    assert admins is not None
    assert (await admins.list()).objects == ()


async def test_storage_may_be_switched_off(db: Database, tmp_path: Path) -> None:
    rooms = storages(db, tmp_path, StorageSettings(storage="none"))
    assert await rooms.find("demo") is None
    assert not (tmp_path / "data" / "objects").exists()


@pytest.mark.parametrize("workspace", ["..", ".", "a/b", "", "-/-", "a\0", "x" * 101])
async def test_ids_that_are_no_folder_have_no_storage(db: Database, tmp_path: Path, workspace: str) -> None:
    with pytest.raises(BadGateway, match="no storage unless"):
        await storages(db, tmp_path).find(workspace)


async def test_unknown_workspaces(db: Database, tmp_path: Path) -> None:
    rooms = storages(db, tmp_path)
    with pytest.raises(NotFound, match="workspace nobody not found"):
        await rooms.find("nobody")
    with pytest.raises(NotFound, match="workspace nobody not found"):
        await rooms.edit("nobody", {}, 1)
    assert not (tmp_path / "data" / "objects").exists()


# With one


async def test_a_configuration_counts_and_stays(db: Database, tmp_path: Path, fake: FakeS3) -> None:
    settings = StorageSettings(storage_root=str(tmp_path / "root"), s3_plain_http_hosts=(f"127.0.0.1:{fake.port}",))
    rooms = storages(db, tmp_path, settings)
    await put(await rooms.find("demo"), b"in the default place")
    archive = {"type": "FilesystemStorage", "root_path": str(tmp_path / "root" / "archive")}
    await rooms.edit("demo", {"large_file_storage": resource(fake, secondary_storage={"archive": archive})}, 7)
    await put(await rooms.find("demo"), b"in the bucket")
    await put(await rooms.find("demo", "archive"), b"in the archive")
    assert [body for body, _ in fake.objects.values()] == [b"in the bucket"]
    assert (tmp_path / "root" / "archive" / "a" / "b").read_bytes() == b"in the archive"
    assert rooms.secondary_names("demo") == ["archive"]
    assert rooms.secondary_names("admins") == []
    rooms.close()

    rooms = storages(db, tmp_path, settings)
    demo = await rooms.find("demo")
    assert demo is not None
    assert isinstance(demo.backend, S3Backend)
    config = rooms.config("demo")
    assert config is not None
    assert config.json["secondary_storage"] == {"archive": archive}
    assert "hidden" not in repr(config)
    with pytest.raises(BadRequest, match="no secondary storage called 'other'"):
        await rooms.find("demo", "other")
    with pytest.raises(BadRequest, match="no secondary storage"):
        await rooms.find("admins", "archive")

    await rooms.edit("demo", {"large_file_storage": None}, 8)
    assert rooms.config("demo") is None
    demo = await rooms.find("demo")
    assert demo is not None
    async with demo.get(KEY) as download:
        assert await download.read_chunk() == b"in the default place"
    rooms.close()


async def test_a_refused_configuration_changes_nothing(db: Database, tmp_path: Path, fake: FakeS3) -> None:
    (tmp_path / "root").mkdir()
    (tmp_path / "root" / "file").write_bytes(b"")
    (tmp_path / "root" / "link").symlink_to(tmp_path)
    settings = StorageSettings(storage_root=str(tmp_path / "root"), s3_plain_http_hosts=(f"127.0.0.1:{fake.port}",))
    rooms = storages(db, tmp_path, settings)
    await rooms.edit("demo", {"large_file_storage": resource(fake)}, 1)
    for path in ("file", "file/x", "link", "link/x"):
        body = {"large_file_storage": {"type": "FilesystemStorage", "root_path": str(tmp_path / "root" / path)}}
        with pytest.raises(BadRequest, match="cannot be used"):
            await rooms.edit("demo", body, 2)
    with pytest.raises(BadRequest, match="must be reached by https"):
        wrong = {**resource(fake)["s3_resource"], "endPoint": "http://127.0.0.1:1"}
        await rooms.edit("demo", {"large_file_storage": {"type": "S3Storage", "s3_resource": wrong}}, 2)
    await put(await rooms.find("demo"))
    assert list(fake.objects) == ["a/b"]
    rooms.close()


async def test_two_workspaces_may_share_a_directory(db: Database, tmp_path: Path) -> None:
    rooms = storages(db, tmp_path, StorageSettings(storage_root=str(tmp_path / "root")))
    body = {"large_file_storage": {"type": "FilesystemStorage", "root_path": str(tmp_path / "root" / "shared")}}
    await rooms.edit("demo", body, 1)
    await rooms.edit("admins", body, 1)
    await put(await rooms.find("demo"))
    admins = await rooms.find("admins")
    assert admins is not None
    assert (await admins.head(KEY)).size == 1
    rooms.close()


async def test_an_upload_outlives_a_change_of_the_configuration(db: Database, tmp_path: Path, fake: FakeS3) -> None:
    rooms = storages(db, tmp_path, on(fake, storage="local"))
    demo = await rooms.find("demo")
    assert demo is not None
    async with demo.put(KEY) as upload:
        await upload.write(b"begun before")
        await rooms.edit("demo", {"large_file_storage": resource(fake)}, 1)
        await upload.commit()
    assert (tmp_path / "data" / "objects" / "demo" / "a" / "b").read_bytes() == b"begun before"
    assert await rooms.find("demo") is not demo
    rooms.close()


async def test_a_configuration_that_the_settings_forbid_later(db: Database, tmp_path: Path, fake: FakeS3) -> None:
    await storages(db, tmp_path, on(fake)).edit("demo", {"large_file_storage": resource(fake)}, 1)
    rooms = storages(db, tmp_path)  # without s3_plain_http_hosts
    with pytest.raises(BadGateway, match="must be reached by https"):
        await rooms.find("demo")
    assert await rooms.sweep(0) == 0
    await rooms.edit("demo", {}, 2)
    assert await rooms.find("demo") is not None
    rooms.close()


async def test_many_ask_at_once_and_get_the_same(db: Database, tmp_path: Path) -> None:
    rooms = storages(db, tmp_path)
    found: list[ObjectStorage | None] = []

    async def ask() -> None:
        found.append(await rooms.find("demo"))

    async with trio.open_nursery() as nursery:
        for _ in range(10):
            nursery.start_soon(ask)
    assert len(set(map(id, found))) == 1
    rooms.close()


# Signatures and sweeping


async def test_tokens_are_good_for_one_workspace_and_survive_restarts(db: Database, tmp_path: Path) -> None:
    rooms = storages(db, tmp_path)
    demo, admins = await rooms.find("demo"), await rooms.find("admins")
    assert demo is not None
    assert admins is not None
    exp, sig = (field.partition("=")[2] for field in (await demo.sign(KEY, 1000, 60)).split("&"))
    with pytest.raises(PermissionDenied):
        admins.signer.check(KEY, exp, sig, 1000)
    rooms.close()
    rooms = storages(db, tmp_path)
    demo = await rooms.find("demo")
    assert demo is not None
    demo.signer.check(KEY, exp, sig, 1059)
    await rooms.edit("demo", {}, 5)
    again = await rooms.find("demo")
    assert again is not None
    again.signer.check(KEY, exp, sig, 1059)
    rooms.close()


async def test_a_sweep_goes_through_all_workspaces(db: Database, tmp_path: Path, fake: FakeS3) -> None:
    rooms = storages(db, tmp_path, on(fake, storage="local"))
    await put(await rooms.find("demo"))
    (tmp_path / "data" / "objects" / "demo" / "a" / "b").unlink()
    assert await rooms.sweep(0) == 1
    assert not (tmp_path / "data" / "objects" / "admins").exists(), "what was never used stays unused"
    rooms.close()


# Settings


@pytest.mark.parametrize(
    ("more", "text"),
    [
        ({"s3_bucket": ""}, "storage = s3 needs the s3_ settings: bucket must be"),
        ({"s3_access_key": ""}, "accessKey is missing"),
        ({"s3_secret_key": ""}, "secretKey is missing"),
        ({"s3_plain_http_hosts": ()}, "must be reached by https"),
        ({"s3_ca": "/nonexistent"}, "s3_ca: cannot read"),
        ({"s3_ca": __file__, "s3_endpoint": "s3.example"}, "s3_ca: the certificates to trust must be PEM"),
        ({"storage_root": "relative"}, "storage_root must be an absolute path"),
    ],
)
async def test_settings_that_do_not_go_together_end_the_start(
    db: Database, tmp_path: Path, fake: FakeS3, more: dict[str, Any], text: str
) -> None:
    with pytest.raises(SettingsError, match=text.replace("(", r"\(")):
        storages(db, tmp_path, on(fake, **more))


@pytest.mark.parametrize("inside", ["data/objects", "data", "."])
async def test_the_data_directory_is_no_place_for_workspaces(db: Database, tmp_path: Path, inside: str) -> None:
    with pytest.raises(SettingsError, match="must not contain each other"):
        storages(db, tmp_path, StorageSettings(storage_root=str(tmp_path / inside)))
