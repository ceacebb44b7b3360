"""A storage that is full, gone, slow or says no, under a real server: the answer says so, and nothing is left."""

from __future__ import annotations

import http.client
import secrets
import socket
import subprocess
import threading
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
import trio

from tests import seaweed
from tests.conftest import missing
from tests.fake_s3 import BUCKET, Answer, Call, FakeS3, error
from tests.integration.api.test_files import FILE, FORM, HELPERS, objects_in, objects_of
from tests.server import Client, Server, eventually

MIB = 1024 * 1024
ECHO = "/jobs/run_wait_result/p/u/admin/echo"
SMALL = FILE + b"\r\n--b--\r\n"
LARGE = FILE + bytes(12 * MIB) + b"\r\n--b--\r\n"
MakeServer = Callable[..., Server]


def deploy(client: Client) -> Client:
    client.deploy("u/admin/echo", "def main(**arguments):\n    return arguments\n")
    return client


def post(client: Client, path: str, fields: dict[str, str], body: bytes) -> tuple[int, str]:
    """Status and text of the answer, also to a body of which not all is taken."""
    lines = {**fields, "Host": "x", "Authorization": f"Bearer {client.token}", "Content-Length": str(len(body))}
    head = f"POST /api/w/demo{path} HTTP/1.1\r\n" + "".join(f"{name}: {text}\r\n" for name, text in lines.items())
    with client.raw(f"{head}\r\n".encode()) as connection:
        with suppress(BrokenPipeError, ConnectionResetError):
            connection.sendall(body)
        answer = http.client.HTTPResponse(connection)
        answer.begin()
        return answer.status, answer.read().decode()


def send(client: Client, body: bytes) -> tuple[int, str]:
    return post(client, ECHO, FORM, body)


def put(client: Client, size: int) -> tuple[int, str]:
    return post(client, f"{HELPERS}/upload_s3_file?file_key=a/b", {}, bytes(size))


@pytest.fixture
def fake() -> Iterator[FakeS3]:
    """An S3 server of our own, in a thread."""
    fake, ready = FakeS3(), threading.Event()
    tokens: list[trio.lowlevel.TrioToken] = []
    scopes: list[trio.CancelScope] = []

    async def run() -> None:
        async with trio.open_nursery() as nursery:
            tokens.append(trio.lowlevel.current_trio_token())
            scopes.append(nursery.cancel_scope)
            await nursery.start(fake.run)
            ready.set()

    thread = threading.Thread(target=trio.run, args=(run,))
    thread.start()
    assert ready.wait(10)
    yield fake
    trio.from_thread.run_sync(scopes[0].cancel, trio_token=tokens[0])
    thread.join(10)


def on_fake(make_server: MakeServer, fake: FakeS3, *flags: str) -> Server:
    return make_server(
        *("--storage", "s3", "--s3-endpoint", fake.endpoint, "--s3-bucket", BUCKET, "--s3-access-key", "key"),
        *("--s3-plain-http-hosts", f"127.0.0.1:{fake.port}", "--s3-timeout-s", "2", "--workers", "1", *flags),
        environment={"MINWEBHOOK_S3_SECRET_KEY": "secret"},
    )


def fails(step: str, answer: Answer, *, after: int = 0) -> Callable[[Call], Answer | None]:
    """A fault of one step, but for the first ``after`` times."""
    seen = 0

    def fault(call: Call) -> Answer | None:
        nonlocal seen
        seen += call.step == step
        return answer if call.step == step and seen > after else None

    return fault


FAULTS = {
    "500": (fails("part", error(500, "InternalError")), LARGE),
    "500 at the end": (fails("complete", error(500, "InternalError")), LARGE),
    "500 of a small one": (fails("put", error(500, "InternalError")), SMALL),
    "403": (fails("put", error(403, "AccessDenied")), SMALL),
    "403 midway": (fails("part", error(403, "AccessDenied"), after=1), LARGE),
    "slow": (fails("put", Answer(delay_s=30)), SMALL),
    "cut": (fails("part", Answer(body=b"x" * 100, cut_after=10)), LARGE),
    "another checksum": (fails("part", error(400, "XAmzContentSHA256Mismatch")), LARGE),
}


@pytest.mark.parametrize(("fault", "body"), FAULTS.values(), ids=FAULTS)
def test_a_store_that_fails_is_502_and_nothing_is_left(
    make_server: MakeServer, fake: FakeS3, fault: Callable[[Call], Answer | None], body: bytes
) -> None:
    client = deploy(on_fake(make_server, fake).start())
    fake.fault = fault
    status, text = send(client, body)
    assert status == 502, text
    assert text.startswith("Bad gateway: the object storage ")
    assert "127.0.0.1" not in text
    fake.fault = lambda call: None
    assert client.get("/jobs/list").json() == []
    assert send(client, b'--b\r\nContent-Disposition: form-data; name="t"\r\n\r\nx\r\n--b--\r\n') == (200, '{"t":"x"}')
    assert (fake.objects, fake.uploads) == ({}, {})
    assert send(client, SMALL)[0] == 200


def test_files_that_were_whole_go_too_when_a_later_one_fails(make_server: MakeServer, fake: FakeS3) -> None:
    client = deploy(on_fake(make_server, fake).start())
    fake.fault = fails("put", error(403, "AccessDenied"), after=2)
    status, _ = send(client, FILE + b"\r\n" + FILE + b"\r\n" + SMALL)
    assert (status, fake.objects) == (502, {})


def test_what_cannot_be_removed_now_is_removed_by_the_next_start(make_server: MakeServer, fake: FakeS3) -> None:
    server = on_fake(make_server, fake)
    client = deploy(server.start())
    fake.fault = fails("delete", error(403, "AccessDenied"))
    assert send(client, FILE + b"\r\n" + FILE)[0] == 400  # cut: the first file was whole
    assert len(fake.objects) == 1
    assert "could not be removed" in server.log
    server.stop()
    fake.fault = lambda call: None
    server.start()
    eventually(lambda: fake.objects == {}, "the file to be gone")
    eventually(lambda: server.execute("UPDATE upload SET key = key") == 0, "the journal to be empty")


@pytest.mark.parametrize("path", ["download_s3_file", "load_file_metadata", "list_stored_files", "test_connection"])
def test_reads_of_a_store_that_fails_are_502(make_server: MakeServer, fake: FakeS3, path: str) -> None:
    client = on_fake(make_server, fake).start()
    fake.fault = lambda call: error(500, "InternalError")
    answer = client.get(f"{HELPERS}/{path}", file_key="a")
    assert (answer.status, answer.text.startswith("Bad gateway: the object storage ")) == (502, True)


def test_a_download_that_breaks_off_is_not_taken_for_whole(make_server: MakeServer, fake: FakeS3) -> None:
    client = on_fake(make_server, fake).start()
    assert put(client, 5 * MIB)[0] == 200
    fake.fault = fails("get", Answer(200, bytes(5 * MIB), {"etag": '"x"'}, cut_after=MIB))
    with pytest.raises(http.client.IncompleteRead):
        client.get(f"{HELPERS}/download_s3_file", file_key="a/b")


def test_a_store_that_is_gone_is_502(make_server: MakeServer) -> None:
    with socket.socket() as nobody:
        nobody.bind(("127.0.0.1", 0))  # and does not listen
        port = nobody.getsockname()[1]
        client = make_server(
            *("--storage", "s3", "--s3-endpoint", f"http://127.0.0.1:{port}", "--s3-bucket", BUCKET),
            *("--s3-access-key", "k", "--s3-plain-http-hosts", f"127.0.0.1:{port}", "--s3-timeout-s", "2"),
            environment={"MINWEBHOOK_S3_SECRET_KEY": "s"},
        ).start()
        deploy(client)
        for answer in (send(client, SMALL), send(client, LARGE), put(client, 10), put(client, 6 * MIB)):
            assert answer == (502, "Bad gateway: the object storage does not answer")
        assert client.get(f"{HELPERS}/test_connection").status == 502
        assert client.get("/jobs/list").json() == []


def test_a_killed_server_leaves_nothing_in_s3(make_server: MakeServer, s3_server: seaweed.Seaweed) -> None:
    def workspace_objects() -> list[str]:
        return objects_of(s3_server, "demo/windmill_uploads/")

    before = workspace_objects()
    server = make_server("--workers", "1", *s3_server.flags, environment=s3_server.environment)
    client = deploy(server.start())
    head = (
        f"POST /api/w/demo{ECHO} HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {client.token}\r\n"
        f"Content-Type: {FORM['Content-Type']}\r\nContent-Length: {100 * MIB}\r\n\r\n"
    ).encode()
    connection = client.raw(head + FILE + b"\r\n" + FILE + secrets.token_bytes(17 * MIB))

    def both_kinds() -> bool:
        left = set(workspace_objects()) - set(before)
        return any(name.startswith("pending") for name in left) and any(name.startswith("demo") for name in left)

    eventually(both_kinds, "an object and a pending upload")
    server.kill()
    connection.close()
    server.start()
    eventually(lambda: workspace_objects() == before, "both to be gone")


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A data directory whose objects are on a disk of 8 MiB; the database has all the room it wants."""
    disk = tmp_path / "data" / "objects"
    disk.mkdir(parents=True, mode=0o700)
    if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=8m", "tmpfs", str(disk)], check=False).returncode:
        missing("mounting is not allowed")
    yield disk.parent
    subprocess.run(["umount", str(disk)], check=True)


def test_a_full_disk_is_507_and_nothing_is_left(small_disk: Path, make_server: MakeServer) -> None:
    server = make_server("--workers", "1", data=small_disk)
    client = deploy(server.start())
    try:
        assert put(client, 1000)[0] == 200
        before = objects_in(server)
        full = "Insufficient storage: the disk of the object storage is full"
        for body in (LARGE, FILE + b"\r\n" + LARGE):
            assert send(client, body) == (507, full)
            assert objects_in(server) == before
        assert put(client, 9 * MIB) == (507, full)
        assert objects_in(server) == before
        assert client.get("/jobs/list").json() == []
        assert send(client, SMALL)[0] == 200  # there is room again
    finally:
        server.close()


# --- limits and configurations ----------------------------------------------------------------------------------------


def test_limits(make_server: MakeServer) -> None:
    server = make_server("--max-upload-bytes", "1000", "--max-form-bytes", "3000", "--workers", "1")
    client = deploy(server.start())
    file = FILE + bytes(995)
    assert send(client, file + b"\r\n--b--\r\n")[0] == 200
    before = objects_in(server)
    assert send(client, file + b"x\r\n--b--\r\n") == (413, "A file of the form is larger than 1000 bytes")
    assert send(client, b"\r\n".join([file] * 3) + b"\r\n--b--\r\n") == (
        413,
        "The multipart body is larger than 3000 bytes",
    )
    assert put(client, 1001) == (413, "The file is larger than 1000 bytes (max_upload_bytes)")
    assert objects_in(server) == before
    assert put(client, 1000)[0] == 200


def test_without_a_storage(make_server: MakeServer) -> None:
    client = deploy(make_server("--storage", "none", "--workers", "1").start())
    wanted = "Bad request: You need to connect your workspace to an S3 bucket to use multipart/form-data"
    assert send(client, SMALL) == (400, wanted)
    text = b'--b\r\nContent-Disposition: form-data; name="t"\r\n\r\nx\r\n--b--\r\n'
    assert send(client, text) == (200, '{"t":"x"}')
    nothing = "this workspace has no storage: configure one with edit_large_file_storage_config"
    assert put(client, 1) == (400, f"Bad request: {nothing}")
    for path in ("download_s3_file", "load_file_metadata", "list_stored_files"):
        answer = client.get(f"{HELPERS}/{path}", file_key="a")
        assert (answer.status, answer.text) == (400, f"Bad request: {nothing}")
    answer = client.get(f"{HELPERS}/test_connection")
    assert (answer.status, answer.text) == (404, f"Not found: {nothing}")
    answer = client.post("/apps/sign_s3_objects", {"s3_objects": [{"s3": "a"}]})
    assert (answer.status, answer.text) == (400, f"Bad request: {nothing}")


def configure(client: Client, storage: Any) -> tuple[int, str]:
    answer = client.post("/workspaces/edit_large_file_storage_config", {"large_file_storage": storage})
    return answer.status, answer.text


def test_storages_of_a_workspace(make_server: MakeServer, fake: FakeS3, tmp_path: Path) -> None:
    root = tmp_path / "srv"
    host = f"127.0.0.1:{fake.port}"
    server = make_server("--storage-root", str(root), "--s3-plain-http-hosts", host, "--workers", "1")
    client = deploy(server.start())
    names = "/workspaces/get_secondary_storage_names"
    assert client.get(names).json() == []
    resource = {"bucket": BUCKET, "endPoint": fake.endpoint, "useSSL": False, "accessKey": "k", "secretKey": "hidden"}
    storage = {
        "type": "FilesystemStorage",
        "root_path": str(root / "demo"),
        "secondary_storage": {"bucket": {"type": "S3Storage", "s3_resource": resource}},
    }
    assert configure(client, storage) == (200, "Edit large file storage config for workspace demo")
    assert client.get(names).json() == ["bucket"]
    assert "hidden" not in client.get(names).text + server.log

    assert put(client, 5)[0] == 200
    assert (root / "demo" / "a" / "b").read_bytes() == bytes(5)
    answer = client.call("POST", f"{HELPERS}/upload_s3_file?file_key=a/b&storage=bucket", b"second")
    assert (answer.status, fake.objects["a/b"][0]) == (200, b"second")
    assert client.get(f"{HELPERS}/download_s3_file", file_key="a/b", storage="bucket").body == b"second"
    assert client.get(f"{HELPERS}/download_s3_file", file_key="a/b").body == bytes(5)
    listed = client.get(f"{HELPERS}/list_stored_files", storage="bucket").json()
    assert listed["windmill_large_files"] == [{"s3": "a/b"}]
    unknown = client.get(f"{HELPERS}/download_s3_file", file_key="a/b", storage="other")
    assert (unknown.status, unknown.text) == (400, "Bad request: there is no secondary storage called 'other'")
    assert client.get(f"{HELPERS}/download_s3_file", file_key="a/b", s3_resource_path="u/a/b").status == 400

    body = {"s3_objects": [{"s3": "a/b"}, {"s3": "a/b", "storage": "bucket"}]}
    first, second = client.post("/apps/sign_s3_objects", body).json()
    stranger = client.with_token("")
    assert stranger.get(f"/s3_proxy/_default_/a/b?{first['presigned']}").body == bytes(5)
    assert stranger.get(f"/s3_proxy/bucket/a/b?{second['presigned']}").body == b"second"
    assert stranger.get(f"/s3_proxy/bucket/a/b?{first['presigned']}").status == 403
    assert stranger.get(f"/s3_proxy/_default_/a/b?{second['presigned']}").status == 403

    server.stop()
    client = server.start()
    assert client.get(f"{HELPERS}/download_s3_file", file_key="a/b", storage="bucket").body == b"second"
    assert configure(client, None)[0] == 200
    assert client.get(f"{HELPERS}/download_s3_file", file_key="a/b").status == 404
    assert client.get(names).json() == []


def test_who_may_configure_and_what(make_server: MakeServer) -> None:
    server = make_server("--workers", "1")
    client = server.start()
    ada = server.user("ada")
    answer = ada.post("/workspaces/edit_large_file_storage_config", {"large_file_storage": None})
    assert (answer.status, answer.text) == (403, "Require Admin privileges for ada")
    assert ada.call("POST", f"{HELPERS}/upload_s3_file?file_key=a", b"x").status == 200
    refused: tuple[Any, ...] = (
        [],
        {"type": "X"},
        {"type": "S3AwsOidc"},
        {"type": "FilesystemStorage", "root_path": "/etc"},
        {"type": "S3Storage", "s3_resource_path": "$res:u/a/b"},
        {"type": "S3Storage", "s3_resource": {"bucket": "b", "endPoint": "http://169.254.169.254"}},
        {"type": "S3Storage", "s3_resource": {"bucket": "b", "endPoint": "s3.example.org"}},
    )
    for bad in refused:
        status, text = configure(client, bad)
        assert status == 400, text
        assert text.startswith("Bad request: large_file_storage"), text
