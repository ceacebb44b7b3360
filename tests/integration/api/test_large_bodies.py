"""Bodies that are larger, deeper or wider than they should be: refused in time and within bounds."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.server import Client, Server, memory_bytes, serving

MIB = 1024 * 1024
SIZE = 24 * MIB
SYNC = "/jobs/run_wait_result/p/u/admin/size"


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Server]:
    """A server of its own: its peak of memory is looked at."""
    with serving(tmp_path / "data", "--workers", "1") as (server, client):
        client.deploy("u/admin/size", "def main(**rest):\n    return len(str(rest))\n")
        assert client.post(SYNC, {}).status == 200
        yield server


@pytest.mark.parametrize(
    ("content_type", "body"),
    [
        ("application/json", b"[" * SIZE),
        ("application/json", b'{"a":' * (SIZE // 5)),
        ("application/cloudevents+json", b'{"data":' * (SIZE // 8)),
        ("application/cbor", b"\x81" * SIZE),
        ("application/cbor", b"\xa1\x61a" * (SIZE // 3)),
        ("application/cbor", b"\xd9\xd9\xf7" * (SIZE // 3)),
        ("application/cbor", b"\x9f" * SIZE),
        ("application/cbor", b"\x9b\x00\x00\x00\x7f\xff\xff\xff\xff" + b"\x81" * SIZE),
    ],
    ids=["arrays", "objects", "event", "cbor arrays", "cbor maps", "cbor tags", "cbor endless", "cbor huge array"],
)
def test_a_depth_bomb_costs_no_more_than_three_bodies(server: Server, content_type: str, body: bytes) -> None:
    client = server.client()
    before = memory_bytes(server.pid)
    answer = client.call("POST", SYNC, body, {"Content-Type": content_type})
    assert (answer.status, answer.text.startswith("Bad request: invalid ")) == (400, True), answer.text
    assert memory_bytes(server.pid) - before < 3 * len(body)
    assert client.post(SYNC, {}).status == 200


def test_a_body_over_the_limit_is_refused_before_it_is_read(make_server) -> None:  # type: ignore[no-untyped-def]
    client: Client = make_server("--max-body-bytes", "1000").start()
    for coding in ("Content-Length: 1001", "Transfer-Encoding: chunked"):
        head = (
            f"POST /api/w/demo{SYNC} HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {client.token}\r\n"
            f"Content-Type: application/cbor\r\n{coding}\r\nExpect: 100-continue\r\n\r\n"
        )
        client.deploy("u/admin/size", "def main(**rest):\n    return len(str(rest))\n")
        connection = client.raw(head.encode() + (b"3e9\r\n" if "chunked" in coding else b""))
        with connection:
            answer = connection.recv(1 << 16)
        assert answer.startswith(b"HTTP/1.1 413 "), answer


def test_more_values_than_a_body_may_hold(server: Server) -> None:
    client = server.client()
    many = b"\x9a\x00\x0f\x42\x41" + b"\x00" * 1_000_001
    answer = client.call("POST", SYNC, many, {"Content-Type": "application/cbor"})
    assert (answer.status, answer.text) == (400, "Bad request: invalid cbor: more than 1000000 values")


@pytest.mark.parametrize(
    ("content_type", "body"),
    [
        ("application/x-www-form-urlencoded", b"a=" + b"%41" * 3_000_000),
        ("application/cbor", b"\x9a\x00\x0b\x71\xb0" + b"\x80" * 750_000),
    ],
    ids=["form", "cbor"],
)
def test_others_are_answered_while_a_large_body_is_decoded(server: Server, content_type: str, body: bytes) -> None:
    client, other = server.client(), server.client()
    took: list[float] = []

    def send() -> None:
        started = time.monotonic()
        assert client.call("POST", SYNC, body, {"Content-Type": content_type}).status == 200
        took.append(time.monotonic() - started)

    thread = threading.Thread(target=send)
    thread.start()
    longest = 0.0
    while thread.is_alive():
        started = time.monotonic()
        assert other.get("/api/version").status == 200
        longest = max(longest, time.monotonic() - started)
    thread.join()
    assert longest < took[0] / 2


def test_arguments_as_deep_as_they_may_be_reach_the_script(server: Server) -> None:
    client = server.client()
    code = "def main(a):\n    n = 0\n    while isinstance(a, list) and a:\n        a, n = a[0], n + 1\n    return n\n"
    client.deploy("u/admin/depth", code)
    deep = b'{"a":' + b"[" * 1020 + b"]" * 1020 + b"}"
    path = "/jobs/run_wait_result/p/u/admin/depth"
    assert client.call("POST", path, deep, {"Content-Type": "application/json"}).json() == 1019
    added = client.call("POST", path + "?include_query=b&b=1&raw=true", deep[:-1] + b',"b":2}', {})
    assert added.json() == 1019
