"""``job_helpers/*`` and ``s3_proxy`` over a real server, on a directory and on a real S3 server alike."""

from __future__ import annotations

import io
import json
import secrets
import socket
import urllib.parse
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import multipart_form_data_conformance
import pytest
import wmill

from tests import seaweed
from tests.server import Client, Server, eventually, memory_bytes, serving

MIB = 1024 * 1024
HELPERS = "/job_helpers"
ECHO = "/jobs/run_wait_result/p/u/admin/echo"
FILE = b'--b\r\nContent-Disposition: form-data; name="f"; filename="a.txt"\r\nContent-Type: text/plain\r\n\r\nhello'
FORM = {"Content-Type": "multipart/form-data; boundary=b"}


@dataclass
class Subject:
    """A server, and what its storage holds."""

    server: Server
    client: Client
    #: Every object and everything pending.
    contents: Callable[[], list[str]]


def objects_in(server: Server) -> list[str]:
    """Every file of the local storages but their bookkeeping of what is not there any more."""
    root = server.data / "objects"
    return sorted(str(path) for path in root.rglob("*") if path.is_file() and path.name != "lock")


def objects_of(s3: seaweed.Seaweed, prefix: str) -> list[str]:
    """Every object and unfinished upload, as another client sees them."""
    client = s3.client()
    found = [each["Key"] for each in client.list_objects_v2(Bucket=seaweed.BUCKET, Prefix=prefix).get("Contents", [])]
    pending = client.list_multipart_uploads(Bucket=seaweed.BUCKET, Prefix=prefix).get("Uploads", [])
    return found + [f"pending {each['Key']}" for each in pending]


@pytest.fixture(scope="module", params=["local", "s3"])
def subject(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Subject]:
    flags: tuple[str, ...] = ("--workers", "2")
    environment: dict[str, str] = {}
    s3: seaweed.Seaweed | None = None
    if request.param == "s3":
        s3 = request.getfixturevalue("s3_server")
        flags, environment = flags + s3.flags, s3.environment
    with serving(tmp_path_factory.mktemp("files") / "data", *flags, environment=environment) as (server, client):
        client.deploy("u/admin/echo", "def main(**arguments):\n    return arguments\n")
        yield Subject(server, client, lambda: objects_in(server) if s3 is None else objects_of(s3, "demo/"))


@pytest.fixture
def client(subject: Subject) -> Client:
    return subject.client


@pytest.fixture
def folder() -> str:
    """Keys below it are this test's own."""
    return secrets.token_hex(6)


def upload(client: Client, key: str, data: bytes, **query: str) -> None:
    answer = client.call("POST", f"{HELPERS}/upload_s3_file", data, query={"file_key": key, **query})
    assert (answer.status, answer.json()) == (200, {"file_key": key}), answer.text


def download(client: Client, key: str, headers: dict[str, str] | None = None) -> Any:
    return client.get(f"{HELPERS}/download_s3_file", headers, file_key=key)


# --- uploads ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("size", [0, 1, 70_000, 6 * MIB])
def test_what_is_stored_comes_back(client: Client, folder: str, size: int) -> None:
    data = secrets.token_bytes(size)
    key = f"{folder}/é 100%+&#?/ä.bin"
    upload(client, key, data, content_type="image/x-test", content_disposition='inline; filename="x"')
    answer = download(client, key)
    assert (answer.status, answer.body == data) == (200, True)
    assert answer.headers["content-type"] == "image/x-test"
    assert answer.headers["content-disposition"] == 'inline; filename="x"'
    assert answer.headers["content-length"] == str(size)
    assert (answer.headers["content-security-policy"], answer.headers["x-content-type-options"]) == (
        "sandbox",
        "nosniff",
    )


def test_chunked_bodies_of_any_size_are_stored(client: Client, folder: str) -> None:
    pieces = [b"x" * 100_000, b"", b"y" * 7] * 3
    answer = httpx.post(
        f"{client.address}/api/w/demo{HELPERS}/upload_s3_file?file_key={folder}/c",
        content=iter(pieces),
        headers={"Authorization": f"Bearer {client.token}"},
    )
    assert answer.status_code == 200
    assert download(client, f"{folder}/c").body == b"".join(pieces)


def test_a_key_of_the_servers_choice(client: Client) -> None:
    keys = []
    for query, ending in (({}, "file"), ({"file_extension": "csv"}, "csv"), ({"file_extension": "../x"}, "x")):
        answer = client.call("POST", f"{HELPERS}/upload_s3_file", b"x", query=query)
        keys.append(answer.json()["file_key"])
        assert keys[-1].startswith("windmill_uploads/upload_")
        assert keys[-1].endswith(f".{ending}")
        assert download(client, keys[-1]).body == b"x"
    assert len(set(keys)) == 3


def test_an_object_is_replaced(client: Client, folder: str) -> None:
    upload(client, f"{folder}/a", b"one", content_type="text/plain")
    first = download(client, f"{folder}/a")
    upload(client, f"{folder}/a", b"three")
    second = download(client, f"{folder}/a")
    assert (second.body, second.headers["content-type"]) == (b"three", "application/octet-stream")
    assert first.headers["etag"] != second.headers["etag"]


def test_an_upload_that_breaks_off_leaves_nothing(subject: Subject, folder: str) -> None:
    upload(subject.client, f"{folder}/kept", b"kept")
    before = subject.contents()
    for key in (f"{folder}/new", f"{folder}/kept"):
        for sent in (0, 10, 5 * MIB, 11 * MIB):
            head = (
                f"POST /api/w/demo{HELPERS}/upload_s3_file?file_key={key} HTTP/1.1\r\nHost: x\r\n"
                f"Authorization: Bearer {subject.client.token}\r\nContent-Length: {12 * MIB}\r\n\r\n"
            ).encode()
            connection = subject.client.raw(head + bytes(sent))
            connection.shutdown(socket.SHUT_WR)
            assert b" 400 " in connection.recv(1000) or sent
            connection.close()
    eventually(lambda: subject.contents() == before, "what was begun to be gone")
    assert download(subject.client, f"{folder}/kept").body == b"kept"


# --- downloads --------------------------------------------------------------------------------------------------------


def test_ranges(client: Client, folder: str) -> None:
    key = f"{folder}/r"
    upload(client, key, b"0123456789")
    for wanted, status, body, content_range in (
        ("bytes=0-0", 206, b"0", "bytes 0-0/10"),
        ("bytes=2-4", 206, b"234", "bytes 2-4/10"),
        ("bytes=8-", 206, b"89", "bytes 8-9/10"),
        ("bytes=8-99", 206, b"89", "bytes 8-9/10"),
        ("bytes=-3", 206, b"789", "bytes 7-9/10"),
        ("bytes=-99", 206, b"0123456789", "bytes 0-9/10"),
        ("bytes=0-1,3-4", 200, b"0123456789", None),
        ("lines=1", 200, b"0123456789", None),
    ):
        answer = download(client, key, {"Range": wanted})
        assert (answer.status, answer.body) == (status, body), wanted
        assert answer.headers.get("content-range") == content_range
    for wanted in ("bytes=10-", "bytes=99-100", "bytes=-0"):
        answer = download(client, key, {"Range": wanted})
        assert (answer.status, answer.headers["content-range"]) == (416, "bytes */10"), wanted


def test_conditions(client: Client, folder: str) -> None:
    key = f"{folder}/c"
    upload(client, key, b"0123456789")
    etag = download(client, key).headers["etag"]
    same = download(client, key, {"If-None-Match": f'"x", {etag}'})
    assert (same.status, same.body, same.headers["etag"]) == (304, b"", etag)
    assert download(client, key, {"If-None-Match": '"x"'}).status == 200
    assert download(client, key, {"Range": "bytes=0-0", "If-Range": etag}).status == 206
    assert download(client, key, {"Range": "bytes=0-0", "If-Range": '"x"'}).status == 200


def test_head_is_get_without_the_bytes(client: Client, folder: str) -> None:
    key = f"{folder}/h"
    upload(client, key, b"0123456789", content_type="a/b")
    path = f"{HELPERS}/download_s3_file?file_key={key}"
    answer = client.call("HEAD", path, headers={"Range": "bytes=0-0"})
    assert (answer.status, answer.body) == (200, b"")
    assert (answer.headers["content-length"], answer.headers["content-type"]) == ("10", "a/b")
    assert client.call("HEAD", f"{path}x").status == 404


def test_an_empty_object_has_no_range(client: Client, folder: str) -> None:
    upload(client, f"{folder}/e", b"")
    assert (answer := download(client, f"{folder}/e", {"Range": "bytes=0-0"})).status == 200, answer.text
    assert answer.body == b""


# --- the rest ---------------------------------------------------------------------------------------------------------


def test_metadata(client: Client, folder: str) -> None:
    upload(client, f"{folder}/m", b"12345", content_type="a/b")
    shown = client.get(f"{HELPERS}/load_file_metadata", file_key=f"{folder}/m").json()
    assert shown.pop("last_modified").startswith("20")
    assert shown == {"mime_type": "a/b", "size_in_bytes": 5, "expires": None, "version_id": None}


def test_lists_in_pages(client: Client, folder: str) -> None:
    keys = [f"{folder}/{name}" for name in ("a", "a b", "b/c", "é")]
    for key in keys:
        upload(client, key, b"x")
    listed: list[str] = []
    marker = ""
    while True:
        page = client.get(f"{HELPERS}/list_stored_files", max_keys=3, prefix=f"{folder}/", marker=marker).json()
        assert page["restricted_access"] is False
        listed += [found["s3"] for found in page["windmill_large_files"]]
        if page["next_marker"] is None:
            break
        marker = page["next_marker"]
    assert listed == keys
    part = client.get(f"{HELPERS}/list_stored_files", max_keys=9999, prefix=f"{folder}/b").json()
    assert part["windmill_large_files"] == [{"s3": f"{folder}/b/c"}]
    assert client.get(f"{HELPERS}/list_stored_files", prefix=f"{folder}/none").json()["windmill_large_files"] == []
    for bad in ("max_keys=0", "max_keys=x", "prefix=a%00"):
        assert client.get(f"{HELPERS}/list_stored_files?{bad}").status == 400


def test_previews(client: Client, folder: str) -> None:
    upload(client, f"{folder}/t.CSV", b'a;"b;c"\n1;2\n')
    upload(client, f"{folder}/t.json", '{"é": 1}'.encode())
    upload(client, f"{folder}/t.bin", b"\x00")

    def preview(name: str, **query: Any) -> Any:
        return client.get(f"{HELPERS}/load_file_preview", file_key=f"{folder}/{name}", **query)

    table = preview("t.CSV", read_bytes_length=100, csv_separator=";").json()
    assert table == {"content": "a,b;c\n1,2\n", "content_type": "Csv", "msg": None}
    headless = preview("t.CSV", read_bytes_length=100, csv_separator=";", csv_has_header="false").json()
    assert headless["content"] == "column_1,column_2\na,b;c\n1,2\n"
    piece = preview("t.json", read_bytes_from=2, read_bytes_length=3).json()
    assert (piece["content"], piece["content_type"]) == ('é"', "RawText")
    assert preview("t.json", read_bytes_from=99, read_bytes_length=3).json()["content"] == ""
    unknown = preview("t.bin", read_bytes_length=3).json()
    assert (unknown["content"], unknown["content_type"]) == (None, "Unknown")
    for bad in (
        {},
        {"read_bytes_length": 0},
        {"read_bytes_length": 8 * MIB + 1},
        {"read_bytes_length": 5, "csv_separator": ";;"},
        {"read_bytes_length": 5, "csv_separator": '"'},
        {"read_bytes_length": 5, "csv_separator": "\0"},
        {"read_bytes_length": 5, "csv_has_header": "no"},
        {"read_bytes_length": 5, "read_bytes_from": -1},
    ):
        assert preview("t.CSV", **bad).status == 400, bad
    assert preview("none.csv", read_bytes_length=5).status == 404


def test_moving_and_deleting(client: Client, folder: str) -> None:
    upload(client, f"{folder}/a", b"one", content_type="a/b")
    upload(client, f"{folder}/b", b"two")
    move = f"{HELPERS}/move_s3_file"
    both: dict[str, Any] = {"src_file_key": f"{folder}/a", "dest_file_key": f"{folder}/b"}
    assert client.call("HEAD", move, query=both).status == 200  # moves nothing
    assert download(client, f"{folder}/b").body == b"two"
    answer = client.get(move, **both)
    assert (answer.status, answer.body) == (200, b"null")
    assert download(client, f"{folder}/a").status == 404
    moved = download(client, f"{folder}/b")
    assert (moved.body, moved.headers["content-type"]) == (b"one", "a/b")
    assert client.get(move, **both).status == 404
    for _ in range(2):
        answer = client.call("DELETE", f"{HELPERS}/delete_s3_file", query={"file_key": f"{folder}/b"})
        assert (answer.status, answer.body) == (200, b"null")
    assert download(client, f"{folder}/b").status == 404


def test_the_storage_answers(client: Client) -> None:
    assert (answer := client.get(f"{HELPERS}/test_connection")).status == 200
    assert answer.body == b"null"


def test_old_names_say_what_to_call(client: Client) -> None:
    for name in ("multipart_upload_s3_file", "multipart_download_s3_file"):
        answer = client.post(f"{HELPERS}/{name}")
        assert answer.status == 400
        assert "upload_s3_file and download_s3_file" in answer.text


ESCAPES = [
    "..", "../x", "a/../../x", "a/..", "./x", "a/./x", "/etc/passwd", "a/", "a//b", "a\\..\\b", "a\0b", "a\nb", "a\x7fb",
    ".minwebhook/lock", "x" * 1025, "%c0%ae%c0%ae/x", "%ff", "%ED%A0%80", "%2e%2e/x", "%2fetc", "a%5cb", "",
]  # fmt: skip


@pytest.mark.parametrize("key", ESCAPES, ids=range(len(ESCAPES)))
def test_no_key_escapes(subject: Subject, key: str) -> None:
    client = subject.client
    before = subject.contents()
    quoted = key if "%" in key else urllib.parse.quote(key, safe="")
    calls = [
        ("GET", f"{HELPERS}/download_s3_file?file_key={quoted}"),
        ("GET", f"{HELPERS}/load_file_metadata?file_key={quoted}"),
        ("GET", f"{HELPERS}/load_file_preview?read_bytes_length=9&file_key={quoted}"),
        ("GET", f"{HELPERS}/move_s3_file?src_file_key={quoted}&dest_file_key=x"),
        ("GET", f"{HELPERS}/move_s3_file?src_file_key=x&dest_file_key={quoted}"),
        ("DELETE", f"{HELPERS}/delete_s3_file?file_key={quoted}"),
    ]
    if key:  # an empty one is none: the server makes a key
        calls.append(("POST", f"{HELPERS}/upload_s3_file?file_key={quoted}"))
        calls.append(("GET", f"/s3_proxy/_default_/{quoted}?exp=9999999999&sig={'0' * 64}"))
    for method, path in calls:
        answer = client.call(method, path, b"x" if method == "POST" else None)
        assert answer.status == 400, (path, answer.text)
    if "%" not in key:
        answer = client.post("/apps/sign_s3_objects", {"s3_objects": [{"s3": key}]})
        assert answer.status == 400, answer.text
    assert subject.contents() == before


def test_workspaces_do_not_see_each_other(client: Client, folder: str) -> None:
    upload(client, f"{folder}/a", b"secret")
    other = client.with_token(client.token, "admins")
    assert download(other, f"{folder}/a").status == 404
    assert other.get(f"{HELPERS}/list_stored_files", prefix=folder).json()["windmill_large_files"] == []
    for sideways in ("../demo", "%2e%2e/demo", "/demo"):
        assert other.call("GET", f"{HELPERS}/download_s3_file?file_key={sideways}/{folder}/a").status == 400
    assert download(other, f"demo/{folder}/a").status == 404
    (signed,) = other.post("/apps/sign_s3_objects", {"s3_objects": [{"s3": f"{folder}/a"}]}).json()
    link = f"/s3_proxy/_default_/{folder}/a?{signed['presigned']}"
    assert client.with_token("").get(link).status == 403
    assert client.with_token("", "admins").get(link).status == 404


# --- signed addresses -------------------------------------------------------------------------------------------------


def test_signed_addresses_open_one_object_without_a_token(client: Client, folder: str) -> None:
    key = f"{folder}/a b/é.txt"
    upload(client, key, b"0123456789", content_type="text/plain")
    answer = client.post("/apps/sign_s3_objects", {"s3_objects": [{"s3": key, "storage": None, "filename": "n"}]})
    (signed,) = answer.json()
    assert signed == {"s3": key, "filename": "n", "presigned": signed["presigned"]}
    stranger, liar = client.with_token(""), client.with_token("wrong")
    quoted = urllib.parse.quote(key)
    link = f"/s3_proxy/_default_/{quoted}?{signed['presigned']}"
    for caller in (stranger, liar, client):
        assert caller.get(link).body == b"0123456789"
    assert stranger.get(link, {"Range": "bytes=1-2"}).body == b"12"
    assert stranger.call("HEAD", link).status == 200
    assert stranger.get(link.replace(quoted, urllib.parse.quote(key, safe=""))).status == 200
    refused = {
        "no signature": f"/s3_proxy/_default_/{quoted}",
        "another key": link.replace("%20b/", "%20c/"),
        "another time": link.replace("exp=", "exp=1"),
        "another signature": link[:-1] + ("0" if link[-1] != "0" else "1"),
        "no hexadecimal": f"/s3_proxy/_default_/{quoted}?exp=9999999999&sig=é",
    }
    for name, path in refused.items():
        answer = stranger.call("GET", urllib.parse.quote(path, safe="/?&=%"))
        assert (answer.status, answer.text) == (
            403,
            "Permission denied: the signature does not fit the object",
        ), name
    other_storage = stranger.get(link.replace("_default_", "archive"))
    assert (other_storage.status, other_storage.text) == (
        400,
        "Bad request: there is no secondary storage called 'archive'",
    )
    nowhere = client.with_token("", "nowhere").get(link)
    assert (nowhere.status, nowhere.text) == (404, "Not found: workspace nowhere not found")


def test_a_signature_expires(client: Client, folder: str) -> None:
    upload(client, f"{folder}/a", b"x")
    (signed,) = client.post("/apps/sign_s3_objects", {"s3_objects": [{"s3": f"{folder}/a"}], "expiry_secs": 1}).json()
    link = f"/s3_proxy/_default_/{folder}/a?{signed['presigned']}"
    expired = eventually(lambda: (answer := client.with_token("").get(link)).status == 403 and answer, "the end")
    assert expired
    assert expired.text == "Permission denied: the signature has expired; ask for a new one"


@pytest.mark.parametrize(
    "body",
    [
        [],
        {},
        {"s3_objects": {}},
        {"s3_objects": ["a"]},
        {"s3_objects": [{}]},
        {"s3_objects": [{"s3": 1}]},
        {"s3_objects": [{"s3": "a", "storage": 1}]},
        {"s3_objects": [{"s3": "a", "storage": "none"}]},
        {"s3_objects": [{"s3": "a"}], "expiry_secs": 0},
        {"s3_objects": [{"s3": "a"}], "expiry_secs": True},
        {"s3_objects": [{"s3": "a"}], "expiry_secs": 604_801},
        {"s3_objects": [{"s3": "a"}] * 1001},
    ],
)
def test_what_cannot_be_signed(client: Client, body: Any) -> None:
    answer = client.post("/apps/sign_s3_objects", body)
    assert answer.status == 400, answer.text


# --- the official client ----------------------------------------------------------------------------------------------


def test_the_official_client(client: Client, folder: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WM_TOKEN", client.token)
    monkeypatch.setenv("WM_WORKSPACE", client.workspace)
    monkeypatch.setenv("BASE_INTERNAL_URL", client.address)
    monkeypatch.setenv("WM_BASE_URL", client.address)
    theirs: Any = wmill.Windmill()  # type: ignore[no-untyped-call]
    try:
        stored = theirs.write_s3_file({"s3": f"{folder}/a b.txt"}, b"hello", None, content_type="text/plain")
        assert stored["s3"] == f"{folder}/a b.txt"
        assert theirs.load_s3_file(stored, None) == b"hello"
        assert theirs.load_s3_file(f"s3:///{folder}/a b.txt", None) == b"hello"
        with theirs.load_s3_file_reader(stored, None) as reader:
            assert reader.read() == b"hello"
        large = secrets.token_bytes(3 * MIB)
        chosen = theirs.write_s3_file(None, io.BufferedReader(io.BytesIO(large)), None)
        assert chosen["s3"].startswith("windmill_uploads/")
        assert theirs.load_s3_file(chosen, None) == large
        signed = theirs.sign_s3_object(stored)
        assert signed["presigned"].startswith("exp=")
        assert [each["s3"] for each in theirs.sign_s3_objects([chosen, stored])] == [chosen["s3"], stored["s3"]]
        link = theirs.get_presigned_s3_public_url(stored, expiry_secs=60)
        assert httpx.get(link).text == "hello"
        theirs.delete_s3_object(stored)
        with pytest.raises(Exception, match="404"):
            theirs.load_s3_file(stored, None)
    finally:
        theirs.client.close()


# --- forms ------------------------------------------------------------------------------------------------------------

CASES = [
    case
    for case in sorted(multipart_form_data_conformance.get_tests_dir().glob("*/*"))
    if case.name.startswith(("002", "004", "005", "022", "043", "045", "082", "100", "200", "201", "203", "205", "207"))
]


@pytest.mark.parametrize("case", CASES, ids=[case.name for case in CASES])
def test_forms_of_others(client: Client, case: Path) -> None:
    expected = json.loads((case / "test.json").read_text(encoding="utf-8"))["expected"]
    content_type = json.loads((case / "headers.json").read_text(encoding="utf-8"))["content-type"]
    answer = client.call("POST", ECHO, (case / "input.raw").read_bytes(), {"Content-Type": content_type})
    if not expected["valid"]:
        assert answer.status == 400, answer.text
        assert answer.text.startswith(("Bad request: Error reading multipart field: ", "Bad request: Content-Type: "))
        return
    arguments = answer.json()
    assert arguments.keys() == {part["name"] for part in expected["parts"]}
    for part in expected["parts"]:
        value = arguments[part["name"]]
        if part["content_type"] is None:
            assert value == part.get("body_text", value)
        elif "body_text" in part and len(value) == 1:
            assert download(client, value[0]["s3"]).body.decode() == part["body_text"]


def test_a_form_that_breaks_off_at_any_byte_leaves_nothing(subject: Subject) -> None:
    client = subject.client
    body = FILE + b"\r\n" + FILE + bytes(6 * MIB)
    head = (
        f"POST /api/w/demo{ECHO} HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {client.token}\r\n"
        f"Content-Type: {FORM['Content-Type']}\r\nContent-Length: {len(body) + 10}\r\n\r\n"
    ).encode()
    before = subject.contents()
    jobs = len(client.get("/jobs/list").json())
    for cut in [*range(0, 250, 17), MIB, 5 * MIB, len(body)]:
        connection = client.raw(head + body[:cut])
        if cut % 2:
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\x01\x00\x00\x00\x00\x00\x00\x00")  # a reset
        connection.close()
    eventually(lambda: subject.contents() == before, "the files to be gone", 30)
    assert len(client.get("/jobs/list").json()) == jobs


def test_a_large_form_takes_little_memory(subject: Subject) -> None:
    client = subject.client
    client.call("POST", ECHO, FILE + b"\r\n--b--\r\n", FORM)
    before, size = memory_bytes(subject.server.pid), 64 * MIB

    def pieces() -> Iterator[bytes]:
        yield FILE
        for _ in range(size // MIB):
            yield bytes(MIB)
        yield b"\r\n--b--\r\n"

    answer = httpx.post(
        f"{client.address}/api/w/demo{ECHO}",
        content=pieces(),
        headers={"Authorization": f"Bearer {client.token}", **FORM},
        timeout=50,
    )
    (file,) = answer.json()["f"]
    shown = client.get(f"{HELPERS}/load_file_metadata", file_key=file["s3"]).json()
    assert (shown["size_in_bytes"], shown["mime_type"]) == (size + 5, "text/plain")
    assert memory_bytes(subject.server.pid) - before < 48 * MIB
    assert client.call("DELETE", f"{HELPERS}/delete_s3_file?file_key={file['s3']}").status == 200
