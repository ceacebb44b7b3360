"""``minwebhook backup`` and ``restore`` on data directories of real servers."""

from __future__ import annotations

import io
import json
import os
import shutil
import sqlite3
import stat
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from minwebhook.db import copies
from minwebhook.db.migrations import MIGRATIONS, migrate
from minwebhook.errors import SettingsError, UpkeepError
from minwebhook.upkeep.archive import DATABASE, FORMAT, MANIFEST, ArchiveWriter, Member
from minwebhook.upkeep.backup import back_up, sync_folder
from minwebhook.upkeep.restore import restore
from tests.server import Client, Server, StartFailed

MakeServer = Callable[..., Server]

ADD = "def main(a: int, b: int = 10):\n    return a + b\n"


def command(*arguments: str) -> subprocess.CompletedProcess[str]:
    """Runs ``minwebhook``."""
    return subprocess.run(
        [sys.executable, "-m", "minwebhook", *arguments], capture_output=True, text=True, check=False, timeout=50
    )


def shown(*arguments: str) -> dict[str, Any]:
    """What ``minwebhook … --json`` prints."""
    done = command(*arguments, "--json")
    assert done.returncode == 0, done.stderr
    value: dict[str, Any] = json.loads(done.stdout)
    return value


def upload(client: Client, key: str, content: bytes, content_type: str) -> None:
    answer = client.call(
        "POST", "/job_helpers/upload_s3_file", content, query={"file_key": key, "content_type": content_type}
    )
    assert answer.status == 200, answer.text


def test_a_backup_of_a_running_server_has_every_job_acknowledged_before(
    make_server: MakeServer, tmp_path: Path
) -> None:
    server = make_server("--workers", "2")
    client = server.start()
    client.deploy("u/admin/add", ADD)
    upload(client, "folder/datei ü.txt", b"content", "text/x-special")
    upload(client, "replaced", b"old", "text/old")
    upload(client, "replaced", b"new and longer", "text/new")
    before: list[str] = []
    stop = threading.Event()

    def load() -> None:
        while not stop.is_set():
            before.append(client.submit("u/admin/add", {"a": len(before)}))

    threads = [threading.Thread(target=load) for _ in range(4)]
    for thread in threads:
        thread.start()
    try:
        while len(before) < 50:
            stop.wait(0.01)
        acknowledged = list(before)
        made = shown("backup", str(tmp_path / "backup.tar"), "--objects", "--data", str(server.data))
    finally:
        stop.set()
        for thread in threads:
            thread.join(20)
    assert (made["objects"], made["schema_version"], made["changed"]) == (2, len(MIGRATIONS), [])
    assert stat.S_IMODE((tmp_path / "backup.tar").stat().st_mode) == 0o600
    assert sorted(path.name for path in tmp_path.iterdir() if "backup" in path.name) == ["backup.tar"]

    other = make_server(data=tmp_path / "other")
    restored = shown("restore", str(tmp_path / "backup.tar"), "--data", str(other.data))
    assert (restored["objects"], restored["kept"]) == (2, None)
    assert shown("check", "--data", str(other.data))["sound"]
    assert not (other.data / "secret.key").exists()  # it is kept elsewhere
    shutil.copy(server.data / "secret.key", other.data)
    client = other.start()
    for number, job_id in enumerate(acknowledged[:50]):
        assert isinstance(client.ended(job_id)["result"], int), number
    answer = client.get("/job_helpers/download_s3_file", file_key="folder/datei ü.txt")
    assert (answer.body, answer.headers["content-type"]) == (b"content", "text/x-special")
    answer = client.get("/job_helpers/download_s3_file", file_key="replaced")
    assert (answer.body, answer.headers["content-type"]) == (b"new and longer", "text/new")
    assert client.run("u/admin/add", {"a": 1}).json() == 11


def make_data(folder: Path, rows: int = 0) -> Path:
    """A data directory with a database of the newest schema."""
    folder.mkdir()
    connection = sqlite3.connect(folder / copies.FILE_NAME, isolation_level=None)
    connection.execute("PRAGMA journal_mode = WAL")
    migrate(connection)
    connection.executemany(
        "INSERT INTO workspace (id, name, created_at) VALUES (?, '', 1)", [(f"w{number}",) for number in range(rows)]
    )
    connection.close()
    return folder


def workspaces(data: Path) -> int:
    connection = sqlite3.connect(data / copies.FILE_NAME)
    number: int = connection.execute("SELECT count(*) FROM workspace").fetchone()[0]
    connection.close()
    return number


def test_a_restore_puts_aside_what_was_there(tmp_path: Path) -> None:
    data = make_data(tmp_path / "data", rows=3)
    back_up(data, tmp_path / "b.tar")
    (data / "objects" / "demo").mkdir(parents=True)
    (data / "objects" / "demo" / "later").write_text("stays: the backup has no objects")
    connection = sqlite3.connect(data / copies.FILE_NAME)
    connection.execute("DELETE FROM workspace")
    connection.commit()
    with pytest.raises(UpkeepError, match="--replace"):
        restore(tmp_path / "b.tar", data)
    assert workspaces(data) == 0
    connection.close()
    restored = restore(tmp_path / "b.tar", data, replace=True)
    assert restored.kept is not None
    assert (workspaces(data), workspaces(Path(restored.kept))) == (3, 0)
    assert (data / "objects" / "demo" / "later").exists()
    # With objects in the backup, even with none, those that are there go aside as well.
    back_up(data, tmp_path / "c.tar", with_objects=True)
    (data / "objects" / "demo" / "after").write_text("x")
    restored = restore(tmp_path / "c.tar", data, replace=True)
    assert sorted(path.name for path in (data / "objects" / "demo").iterdir()) == [".minwebhook", "later"]
    assert (Path(restored.kept or "") / "objects" / "demo" / "after").exists()


def test_what_a_killed_server_committed_last_is_in_the_backup_and_put_aside_with_the_rest(
    make_server: MakeServer, tmp_path: Path
) -> None:
    server = make_server()
    client = server.start()
    client.deploy("u/admin/add", ADD)
    job_id = client.ended(client.submit("u/admin/add", {"a": 1}))["id"]
    server.kill()  # leaves -wal and -shm
    assert (server.data / "minwebhook.db-wal").exists()
    back_up(server.data, tmp_path / "b.tar")
    restored = restore(tmp_path / "b.tar", server.data, replace=True)
    assert (Path(restored.kept or "") / "minwebhook.db").exists()
    assert not (server.data / "minwebhook.db-wal").exists()
    assert server.start().ended(job_id)["result"] == 11


def test_a_directory_in_use_is_left_alone(make_server: MakeServer, tmp_path: Path) -> None:
    server = make_server()
    client = server.start()
    back_up(server.data, tmp_path / "b.tar")
    done = command("restore", str(tmp_path / "b.tar"), "--replace", "--data", str(server.data))
    assert done.returncode == 2
    assert "in use" in done.stderr
    assert "Traceback" not in done.stderr
    assert client.preview("def main():\n    return 1").json() == 1


def test_a_restore_that_did_not_end_keeps_the_server_from_starting(
    make_server: MakeServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = make_data(tmp_path / "data", rows=2)
    back_up(data, tmp_path / "b.tar")

    def die(folder: Path) -> None:
        sync_folder(folder)
        if folder.name.startswith("before-restore-"):
            raise KeyboardInterrupt

    monkeypatch.setattr("minwebhook.upkeep.restore.sync_folder", die)
    with pytest.raises(KeyboardInterrupt):
        restore(tmp_path / "b.tar", data, replace=True)
    monkeypatch.undo()
    server = make_server(data=data)
    with pytest.raises(StartFailed) as failed:
        server.start()
    assert failed.value.code == 2
    assert "run 'minwebhook restore FILE --replace' again" in failed.value.errors
    restore(tmp_path / "b.tar", data, replace=True)
    assert workspaces(data) == 2
    server.start()


def archive_of(*members: tuple[str, bytes], **manifest: Any) -> bytes:
    file = io.BytesIO()
    writer = ArchiveWriter(file)
    writer.add_json(MANIFEST, {"format": FORMAT, "schema_version": 1, "has_objects": True, **manifest})
    for name, content in members:
        writer.add(Member(name, len(content)), io.BytesIO(content))
    writer.finish()
    return file.getvalue()


def database(folder: Path, *statements: str) -> bytes:
    path = make_data(folder / "source") / copies.FILE_NAME
    connection = sqlite3.connect(path, isolation_level=None)
    for statement in statements:
        connection.execute(statement)
    connection.execute("PRAGMA journal_mode = DELETE")
    connection.close()
    return path.read_bytes()


@pytest.mark.parametrize(
    "name",
    [
        "../evil",
        "/etc/evil",
        "objects/../evil",
        "objects/demo/../../evil",
        "objects/demo/.minwebhook/new/evil",
        "objects/demo/a//b",
        "objects/demo/",
        "objects/demo",
        "objects/.hidden/a",
        "minwebhook.db-wal",
        "other",
    ],
)
def test_names_that_lead_elsewhere_are_refused(tmp_path: Path, name: str) -> None:
    (tmp_path / "b.tar").write_bytes(archive_of((DATABASE, database(tmp_path)), (name, b"evil")))
    with pytest.raises(UpkeepError):
        restore(tmp_path / "b.tar", tmp_path / "data" / "below")
    assert not [path for path in tmp_path.rglob("*") if path.is_file() and path.read_bytes() == b"evil"]
    assert [path.name for path in (tmp_path / "data" / "below").iterdir()] == ["minwebhook.db.lock"]


def test_backups_whose_content_does_not_do(tmp_path: Path) -> None:
    good = database(tmp_path)
    page = 4096 * 2
    for members, text in (
        ([], "no database"),
        ([(DATABASE, good), (DATABASE, good)], "twice"),
        ([(DATABASE, b"not a database" * 1000)], "not a database"),
        ([(DATABASE, good[:page] + bytes(len(good) - page))], "damaged|malformed"),
    ):
        (tmp_path / "b.tar").write_bytes(archive_of(*members))
        with pytest.raises(UpkeepError, match=text):
            restore(tmp_path / "b.tar", tmp_path / "data")
    (tmp_path / "x").mkdir()
    newer = database(tmp_path / "x", f"PRAGMA user_version = {len(MIGRATIONS) + 1}")
    (tmp_path / "b.tar").write_bytes(archive_of((DATABASE, newer)))
    with pytest.raises(UpkeepError, match="a newer one"):
        restore(tmp_path / "b.tar", tmp_path / "data")


def test_where_a_backup_may_go(tmp_path: Path) -> None:
    data = make_data(tmp_path / "data")
    (tmp_path / "taken").write_text("precious")
    with pytest.raises(UpkeepError, match="--replace"):
        back_up(data, tmp_path / "taken")
    assert (tmp_path / "taken").read_text() == "precious"
    back_up(data, tmp_path / "taken", replace=True)
    for inside in (data / "b.tar", data / "minwebhook.db"):
        with pytest.raises(UpkeepError, match=r"data directory|exists"):
            back_up(data, inside)
    with pytest.raises(UpkeepError, match="cannot be made"):
        back_up(data, tmp_path / "nowhere" / "b.tar")
    with pytest.raises(UpkeepError, match="no database"):
        back_up(tmp_path, tmp_path / "b.tar")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["data", "taken"]


def test_a_damaged_database_makes_no_backup(tmp_path: Path) -> None:
    data = make_data(tmp_path / "data", rows=2000)
    path = data / copies.FILE_NAME
    size = path.stat().st_size
    with path.open("r+b") as file:
        file.seek(size - 4096 * 20)
        file.write(os.urandom(4096 * 15))
    with pytest.raises(UpkeepError, match=r"damaged|malformed"):
        back_up(data, tmp_path / "b.tar")
    assert not (tmp_path / "b.tar").exists()


def test_progress_is_told(tmp_path: Path) -> None:
    data = make_data(tmp_path / "data", rows=5000)
    told: list[tuple[str, int, int]] = []
    back_up(data, tmp_path / "b.tar", on_progress=lambda *how: told.append(how))
    assert told[-1][0] == "database"
    assert told[-1][1] == told[-1][2] > 0
    told.clear()
    restore(tmp_path / "b.tar", tmp_path / "other", on_progress=lambda *how: told.append(how))
    assert {step for step, *_ in told} == {"reading", "verifying"}


def test_a_lock_that_is_only_looked_at_is_waited_for(tmp_path: Path) -> None:
    path = make_data(tmp_path / "data") / copies.FILE_NAME
    assert not copies.is_locked(path)
    held = copies.lock(path)
    assert copies.is_locked(path)
    with pytest.raises(SettingsError, match="in use"):
        copies.lock(path)
    os.close(held)
    assert not copies.is_locked(path)
