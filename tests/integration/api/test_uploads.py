"""Forms with files: they are in storage before the script runs, and nothing is left of what fails."""

from __future__ import annotations

import hashlib
import hmac
import re
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.server import Client, Server, eventually, memory_bytes, serving

MIB = 1024 * 1024
ECHO = "/jobs/run_wait_result/p/u/admin/echo"
KEY = re.compile(r"windmill_uploads/upload_\d{13}_\d+\.(?P<extension>\w+)")
SECRET = b"not-for-logs-7f3a"

#: Reads the objects with what every job has, as the official client does.
READER = """
import json, os, urllib.request

def main(files, note=None):
    found = []
    for file in files:
        url = (os.environ["BASE_INTERNAL_URL"] + "/api/w/" + os.environ["WM_WORKSPACE"]
               + "/job_helpers/download_s3_file?file_key=" + file["s3"])
        request = urllib.request.Request(url, headers={"Authorization": "Bearer " + os.environ["WM_TOKEN"]})
        with urllib.request.urlopen(request) as answer:
            found.append([answer.headers["Content-Type"], answer.read().decode("latin-1")])
    return [note, found]
"""


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A server that knows a sender's secret."""
    folder = tmp_path_factory.mktemp("uploads")
    secrets = folder / "secrets.toml"
    secrets.write_text(f'sender = "{SECRET.decode()}"\n')
    secrets.chmod(0o600)
    with serving(folder / "data", "--workers", "2", "--hook-secrets", str(secrets)) as (server, client):
        client.deploy("u/admin/echo", "def main(**arguments):\n    return arguments\n")
        client.deploy("u/admin/reader", READER)
        signature = {"secret": "sender", "header": "X-Signature", "prefix": "sha256="}
        client.deploy("u/admin/signed", "def main(**arguments):\n    return arguments\n", signature=signature)
        yield server


@pytest.fixture
def client(server: Server) -> Client:
    return server.client()


def objects(server: Server) -> list[Path]:
    """Every file of the storage but its own bookkeeping without content."""
    root = server.data / "objects"
    return sorted(path for path in root.rglob("*") if path.is_file() and path.name != "lock") if root.exists() else []


def send(client: Client, path: str, files: Any, data: Any = None, **headers: str) -> httpx.Response:
    return httpx.post(
        f"{client.address}/api/w/demo{path}",
        files=files,
        data=data,
        headers={"Authorization": f"Bearer {client.token}", **headers},
        timeout=30,
    )


def form(*parts: str, boundary: str = "b", is_closed: bool = True) -> bytes:
    ending = f"--{boundary}--\r\n" if is_closed else ""
    return ("".join(f"--{boundary}\r\n{part}\r\n" for part in parts) + ending).encode()


FILE = 'Content-Disposition: form-data; name="f"; filename="a.txt"\r\nContent-Type: text/plain\r\n\r\nhello'
TEXT = 'Content-Disposition: form-data; name="t"\r\n\r\nvalue'
MULTIPART = {"Content-Type": "multipart/form-data; boundary=b"}


def test_files_become_lists_of_objects_and_fields_texts(client: Client) -> None:
    files = [
        ("one", ("a.txt", b"hello", "text/plain")),
        ("two", ("b.PDF", b"x", "application/pdf")),
        ("two", ("noextension", b"y", "application/octet-stream")),
    ]
    answer = send(client, ECHO, files, {"note": "é", "two": "lost"}).json()
    assert answer["note"] == "é"
    assert [KEY.fullmatch(each["s3"])["extension"] for each in answer["one"]] == ["txt"]  # type: ignore[index]
    assert [KEY.fullmatch(each["s3"])["extension"] for each in answer["two"]] == ["PDF", "noextension"]  # type: ignore[index]
    assert all(list(each) == ["s3"] for each in answer["one"] + answer["two"])


def test_a_script_reads_them_with_its_own_token(client: Client) -> None:
    files = [("files", ("a.txt", b"hello", "text/plain")), ("files", ("b", b"\x01\xff", "image/png"))]
    answer = send(client, "/jobs/run_wait_result/p/u/admin/reader", files, {"note": "n"})
    assert answer.json() == ["n", [["text/plain", "hello"], ["image/png", "\x01\xff"]]]


def test_async_runs_and_runs_by_hash(client: Client) -> None:
    version = client.get("/scripts/get/p/u/admin/reader").json()["hash"]
    files = [("files", ("a.txt", b"hello", "text/plain"))]
    for path in ("/jobs/run/p/u/admin/reader", f"/jobs/run/h/{version}"):
        answer = send(client, path, files)
        assert answer.status_code == 201
        assert client.ended(answer.text)["result"] == [None, [["text/plain", "hello"]]]
    assert send(client, f"/jobs/run_wait_result/h/{version}", files).json() == [None, [["text/plain", "hello"]]]


def test_a_preprocessor_gets_the_form_as_body(client: Client) -> None:
    client.deploy("u/admin/pre_form", "def preprocessor(event):\n    return {'e': event}\n\ndef main(e):\n    return e")
    event = send(client, "/jobs/run_wait_result/p/u/admin/pre_form", [("f", ("a.txt", b"x", "a/b"))], {"t": "1"}).json()
    assert (event["body"]["t"], event["raw_string"]) == ("1", None)
    assert KEY.fullmatch(event["body"]["f"][0]["s3"])


def test_a_filename_alone_makes_no_file(client: Client) -> None:
    body = form('Content-Disposition: form-data; name="f"; filename="a.txt"\r\n\r\nhello')
    assert client.call("POST", ECHO, body, MULTIPART).json() == {"f": "hello"}


def test_details_for_those_who_want_them(make_server: Any) -> None:
    client = make_server("--upload-details").start()
    client.deploy("u/admin/echo", "def main(**arguments):\n    return arguments\n")
    (file,) = send(client, ECHO, [("f", ("é.txt", b"hello", "text/plain"))]).json()["f"]
    assert (file["filename"], file["size"], file["sha256"]) == ("é.txt", 5, hashlib.sha256(b"hello").hexdigest())


@pytest.mark.parametrize(
    ("body", "content_type", "status", "text"),
    [
        (form(FILE, TEXT), "multipart/form-data", 400, "Bad request: Content-Type: no boundary"),
        (form(FILE, TEXT), "multipart/form-data; boundary=c", 400, "Bad request: Error reading multipart field: "),
        (
            form(FILE, FILE, is_closed=False),
            MULTIPART["Content-Type"],
            400,
            "Bad request: Error reading multipart field",
        ),
        (form(FILE, FILE)[:-30], MULTIPART["Content-Type"], 400, "Bad request: Error reading multipart field: "),
        (form(FILE, "broken"), MULTIPART["Content-Type"], 400, "Bad request: Error reading multipart field: "),
        (
            form(FILE, 'Content-Disposition: form-data; name=""\r\n\r\nx'),
            MULTIPART["Content-Type"],
            400,
            "Bad request: ",
        ),
        (form(FILE, *[TEXT] * 128), MULTIPART["Content-Type"], 413, "The form has more than 128 parts"),
        (form(FILE, TEXT + "x" * MIB), MULTIPART["Content-Type"], 413, "A form field is larger than"),
        (
            form(FILE, "X: " + "y" * 9000 + "\r\n" + TEXT),
            MULTIPART["Content-Type"],
            413,
            "The head of a multipart field",
        ),
        (b"", MULTIPART["Content-Type"], 400, "Bad request: Error reading multipart field: "),
    ],
)
def test_what_is_refused_leaves_nothing(
    client: Client, server: Server, body: bytes, content_type: str, status: int, text: str
) -> None:
    before = objects(server)
    jobs = client.get("/jobs/list").json()
    answer = client.call("POST", ECHO, body, {"Content-Type": content_type})
    assert (answer.status, answer.text.startswith(text)) == (status, True), answer.text
    assert objects(server) == before
    assert client.get("/jobs/list").json() == jobs


def test_requests_that_get_no_job_leave_nothing(client: Client, server: Server) -> None:
    client.deploy("u/admin/plain", "def main(**rest):\n    return 1")
    taken = client.submit("u/admin/plain")
    client.ended(taken)
    before = objects(server)
    for query in (f"?job_id={taken}", "?raw=1", "?queue_limit=-1"):
        for path in (ECHO, "/jobs/run/p/u/admin/echo"):
            assert client.call("POST", path + query, form(FILE), MULTIPART).status == 400, query
    assert client.call("POST", "/jobs/run/p/u/admin/none", form(FILE), MULTIPART).status == 404
    assert client.call("POST", ECHO, form(FILE), {**MULTIPART, "Authorization": "Bearer wrong"}).status == 401
    assert objects(server) == before


def test_a_sender_that_breaks_off_at_any_byte_leaves_nothing(client: Client, server: Server) -> None:
    body = form(FILE, FILE)
    head = (
        f"POST /api/w/demo{ECHO} HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {client.token}\r\n"
        f"Content-Type: {MULTIPART['Content-Type']}\r\nContent-Length: {len(body)}\r\n\r\n"
    ).encode()
    before = objects(server)
    jobs = len(client.get("/jobs/list").json())
    for cut in range(0, len(body), 7):
        connection = client.raw(head + body[:cut])
        if cut % 2:
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\x01\x00\x00\x00\x00\x00\x00\x00")  # a reset
        connection.close()
    eventually(lambda: objects(server) == before, "the files to be gone")
    assert len(client.get("/jobs/list").json()) == jobs


def test_a_killed_server_leaves_nothing(make_server: Any) -> None:
    server = make_server("--workers", "1")
    client = server.start()
    client.deploy("u/admin/echo", "def main(**arguments):\n    return arguments\n")
    kept = send(client, ECHO, [("f", ("a.txt", b"kept", "text/plain"))]).json()["f"][0]["s3"]
    before = objects(server)
    part = f"--b\r\n{FILE}\r\n".encode()
    unfinished = b"--b\r\n" + FILE.encode() + b"x" * 5 * MIB
    head = (
        f"POST /api/w/demo{ECHO} HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {client.token}\r\n"
        f"Content-Type: {MULTIPART['Content-Type']}\r\nContent-Length: {100 * MIB}\r\n\r\n"
    ).encode()
    connections = [client.raw(head + part * 2 + unfinished), client.raw(head + part), client.raw(head + unfinished)]
    eventually(lambda: len(objects(server)) > len(before) + 4, "the files to come in")
    server.kill()
    for connection in connections:
        connection.close()
    client = server.start()
    eventually(lambda: objects(server) == before, "the files to be gone")
    assert client.get("/job_helpers/download_s3_file", file_key=kept).body == b"kept"


def test_memory_stays_small_whatever_the_size(client: Client, server: Server) -> None:
    send(client, ECHO, [("f", ("a.txt", b"x" * MIB, "text/plain"))])
    before = memory_bytes(server.pid)
    size = 96 * MIB

    def pieces() -> Iterator[bytes]:
        yield b"--b\r\n" + FILE.encode()
        for _ in range(size // MIB):
            yield bytes(MIB)
        yield b"\r\n--b--\r\n"

    answer = httpx.post(
        f"{client.address}/api/w/demo{ECHO}",
        content=pieces(),
        headers={"Authorization": f"Bearer {client.token}", **MULTIPART},
        timeout=50,
    )
    key = answer.json()["f"][0]["s3"]
    assert memory_bytes(server.pid) - before < 16 * MIB
    assert client.get("/job_helpers/load_file_metadata", file_key=key).json()["size_in_bytes"] == size + 5
    assert client.call("DELETE", f"/job_helpers/delete_s3_file?file_key={key}").status == 200


# --- signatures -------------------------------------------------------------------------------------------------------


def signed(body: bytes, secret: bytes = SECRET) -> dict[str, str]:
    return {"X-Signature": "sha256=" + hmac.new(secret, body, "sha256").hexdigest()}


SIGNED = "/jobs/run_wait_result/p/u/admin/signed"


def test_a_signed_form_is_taken_and_a_changed_one_leaves_nothing(client: Client, server: Server) -> None:
    body = form(FILE, TEXT)
    good = client.call("POST", SIGNED, body, {**MULTIPART, **signed(body)})
    assert (good.status, good.json()["t"]) == (200, "value")
    before = objects(server)
    jobs = client.get("/jobs/list").json()
    for bad in (
        client.call("POST", SIGNED, body.replace(b"hello", b"hallo"), {**MULTIPART, **signed(body)}),
        client.call("POST", SIGNED, body + b"\r\n", {**MULTIPART, **signed(body)}),
        client.call("POST", SIGNED, body, {**MULTIPART, **signed(body, b"other")}),
        client.call("POST", SIGNED, body, MULTIPART),
        client.call("POST", SIGNED.replace("run_wait_result", "run"), body, MULTIPART),
    ):
        assert bad.status == 401, bad.text
    assert objects(server) == before
    assert client.get("/jobs/list").json() == jobs


def test_every_way_to_run_the_script_is_checked(client: Client, server: Server) -> None:
    version = client.get("/scripts/get/p/u/admin/signed").json()["hash"]
    json_body = b'{"a": 1}'
    paths = (
        SIGNED,
        SIGNED.replace("run_wait_result", "run"),
        f"/jobs/run_wait_result/h/{version}",
        f"/jobs/run/h/{version}",
    )
    for path in paths:
        answer = client.call("POST", path, json_body, {"Content-Type": "application/json", **signed(json_body)})
        assert answer.status in (200, 201), answer.text
        refused = client.call("POST", path, json_body, {"Content-Type": "application/json", **signed(b"{}")})
        assert (refused.status, refused.text) == (401, "Not authorized: the signature does not fit the body")
    assert client.get(SIGNED, payload="e30").status == 401
    assert client.get(SIGNED, signed(b""), payload="e30").status == 200  # nobody but the sender can sign even nothing
    assert SECRET.decode() not in server.log
    assert "sender" in client.get("/scripts/get/p/u/admin/signed").text


def test_a_bad_declaration_is_refused_at_deploy_time(client: Client) -> None:
    new = {"path": "u/admin/x", "summary": "", "description": "", "content": "", "language": "bash"}
    answer = client.post("/scripts/create", {**new, "signature": {"secret": "s"}})
    assert (answer.status, answer.text) == (400, "Bad request: signature.header is missing")


def test_secrets_must_not_be_readable_by_others(make_server: Any, tmp_path: Path) -> None:
    from tests.server import StartFailed

    secrets = tmp_path / "secrets.toml"
    secrets.write_text('a = "b"\n')
    secrets.chmod(0o644)
    with pytest.raises(StartFailed, match="can be read by others"):
        make_server("--hook-secrets", str(secrets)).start()
