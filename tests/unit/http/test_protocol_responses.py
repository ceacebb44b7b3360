"""Responses → bytes, and the state between requests."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

import h11
import pytest
from hypothesis import given
from hypothesis import strategies as st

from minwebhook.http.messages import Response
from minwebhook.http.protocol import ServerProtocol

DATE = b"Sun, 06 Nov 1994 08:49:37 GMT"
GET = b"GET / HTTP/1.1\r\nHost: a\r\n\r\n"


async def no_stream(send: Callable[[bytes], Awaitable[None]]) -> None:
    """A stream that is never run: these tests only look at bytes."""


def protocol_after(raw: bytes) -> ServerProtocol:
    """A protocol that has read the head (and what there is of the body) in ``raw``."""
    protocol = ServerProtocol(max_head_bytes=1024, max_header_fields=16, date=lambda: DATE)
    protocol.receive_data(raw)
    assert protocol.next_head() is not None
    protocol.skip_body()
    return protocol


def answer(response: Response, method: str = "GET", version: str = "1.1") -> tuple[list[bytes], bytes]:
    """The head lines and the body."""
    protocol = protocol_after(f"{method} / HTTP/{version}\r\nHost: a\r\n\r\n".encode())
    head, _, body = protocol.respond(response).partition(b"\r\n\r\n")
    return head.split(b"\r\n"), body


def test_a_whole_answer() -> None:
    lines, body = answer(Response(200, b"ok", "text/plain", (("X-A", "1"), ("X-A", "\xe4"))))
    assert lines == [
        b"HTTP/1.1 200 OK",
        b"Date: " + DATE,
        b"X-A: 1",
        b"X-A: \xe4",
        b"Content-Type: text/plain",
        b"Content-Length: 2",
    ]
    assert body == b"ok"


def test_head_has_the_length_but_no_body() -> None:
    lines, body = answer(Response.text("hello"), "HEAD")
    assert b"Content-Length: 5" in lines
    assert b"Content-Type: text/plain; charset=utf-8" in lines
    assert body == b""


@pytest.mark.parametrize("status", [204, 304])
def test_bodiless_statuses(status: int) -> None:
    lines, body = answer(Response(status, b"ignored"))
    assert not [line for line in lines if line.startswith((b"Content-Length", b"Content-Type", b"Transfer"))]
    assert body == b""


def test_a_body_always_has_a_type_and_an_empty_answer_a_length() -> None:
    assert b"Content-Type: application/octet-stream" in answer(Response(200, b"x"))[0]
    assert answer(Response(201))[0][1:] == [b"Date: " + DATE, b"Content-Length: 0"]


def test_unregistered_status() -> None:
    assert answer(Response(299))[0][0] == b"HTTP/1.1 299 "


def test_http_1_0_closes() -> None:
    assert b"Connection: close" in answer(Response(200), version="1.0")[0]
    assert b"Connection: close" not in answer(Response(200))[0]


def test_framing_fields_of_a_response_are_ours() -> None:
    given_fields = (("Content-Length", "99"), ("transfer-encoding", "gzip"), ("Date", "x"), ("Keep-Alive", "1"))
    lines, _ = answer(Response(200, b"ok", None, given_fields))
    assert len(lines) == 4
    assert b"Content-Length: 2" in lines


def test_a_response_may_close_the_connection() -> None:
    protocol = protocol_after(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")
    assert b"\r\nConnection: close\r\n" in protocol.respond(Response(200, headers=(("connection", "Close"),)))
    assert not protocol.reusable()
    assert not protocol.start_next_cycle()


@pytest.mark.parametrize(
    "response",
    [
        Response(200, headers=(("X", "a\r\nSet-Cookie: b"),)),
        Response(200, headers=(("X", "a\nb"),)),
        Response(200, headers=(("X", "a\0b"),)),
        Response(200, headers=(("X: y\r\nZ", "a"),)),
        Response(200, headers=(("", "a"),)),
        Response(200, headers=(("X", "€"),)),
        Response(200, b"", "text/plain\r\nX: y"),
        Response(100),
        Response(101),
        Response(0),
        Response(1000),
        Response(99999),
    ],
)
def test_responses_that_must_not_go_out(response: Response) -> None:
    with pytest.raises(ValueError):
        answer(response)


def test_chunked_stream() -> None:
    protocol = protocol_after(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")
    response = Response(200, content_type="text/plain", stream=no_stream)
    head = protocol.start_stream(response)
    assert b"\r\nTransfer-Encoding: chunked\r\n" in head
    assert b"Content-Length" not in head
    pieces = [protocol.stream_piece(b"hello"), protocol.stream_piece(b""), protocol.stream_piece(b"x" * 26)]
    assert pieces == [b"5\r\nhello\r\n", b"", b"1a\r\n" + b"x" * 26 + b"\r\n"]
    assert protocol.end_stream() == b"0\r\n\r\n"
    assert protocol.reusable()


def test_stream_to_http_1_0_ends_with_the_connection() -> None:
    protocol = protocol_after(b"GET / HTTP/1.0\r\n\r\n")
    head = protocol.start_stream(Response(200, stream=no_stream))
    assert b"Transfer-Encoding" not in head
    assert b"\r\nConnection: close\r\n" in head
    assert protocol.stream_piece(b"hello") == b"hello"
    assert protocol.end_stream() == b""
    assert not protocol.reusable()


@pytest.mark.parametrize(("method", "status"), [("HEAD", 200), ("GET", 204), ("GET", 304)])
def test_streams_without_a_body(method: str, status: int) -> None:
    protocol = protocol_after(f"{method} / HTTP/1.1\r\nHost: a\r\n\r\n".encode())
    response = Response(status, stream=no_stream)
    head = protocol.start_stream(response)
    assert (b"Transfer-Encoding" in head) == (status == 200)
    assert protocol.is_stream_bodiless(response)
    assert protocol.end_stream() == b""
    assert protocol.reusable()


def test_an_unfinished_body_prevents_reuse() -> None:
    protocol = protocol_after(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nhel")
    assert protocol.skip_body() == 2
    assert not protocol.reusable()
    protocol.receive_data(b"loGET")
    assert protocol.skip_body() == 0
    assert protocol.reusable()
    assert protocol.trailing_data() == b"GET"
    assert not protocol.has_bytes


def test_how_much_of_a_chunked_body_is_missing_is_unknown() -> None:
    protocol = protocol_after(b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n")
    assert protocol.skip_body() is None
    protocol.receive_data(b"0\r\n\r\n")
    assert protocol.skip_body() == 0


def test_continue_is_wanted_until_body_bytes_come() -> None:
    protocol = protocol_after(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\nExpect: 100-continue\r\n\r\n")
    assert protocol.needs_continue
    protocol.receive_data(b"h")
    assert protocol.next_data() == b"h"
    assert not protocol.needs_continue


@pytest.mark.parametrize(
    "raw",
    [
        b"POST / HTTP/1.0\r\nContent-Length: 5\r\nExpect: 100-continue\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\n\r\n",
    ],
)
def test_continue_is_not_for_http_1_0_nor_without_body(raw: bytes) -> None:
    assert not protocol_after(raw).needs_continue


_names = st.from_regex(r"X-[A-Za-z0-9]{1,8}", fullmatch=True)
_values = st.from_regex(r"(?:[\x21-\x7e\x80-\xff](?:[\t\x20-\x7e\x80-\xff]*[\x21-\x7e\x80-\xff])?)?", fullmatch=True)


@given(
    st.integers(200, 999),
    st.binary(max_size=99),
    st.lists(st.tuples(_names, _values), max_size=4),
    st.sampled_from(["GET", "HEAD"]),
)
def test_h11_reads_what_we_write(status: int, body: bytes, fields: list[tuple[str, str]], method: str) -> None:
    protocol = protocol_after(f"{method} / HTTP/1.1\r\nHost: a\r\n\r\n".encode())
    raw = protocol.respond(Response(status, body, None, tuple(fields)))
    client = h11.Connection(h11.CLIENT)
    client.send(h11.Request(method=method, target="/", headers=[("Host", "a")]))
    client.send(h11.EndOfMessage())
    client.receive_data(raw)
    event = client.next_event()
    assert type(event) is h11.Response
    assert event.status_code == status
    got = [(name.decode(), value.decode("latin-1")) for name, value in event.headers]
    assert [pair for pair in got if pair[0].startswith("x-")] == [(name.lower(), value) for name, value in fields]
    received = b""
    while type(event := client.next_event()) is h11.Data:
        received += event.data
    assert type(event) is h11.EndOfMessage
    assert received == (body if method == "GET" and status not in (204, 304) else b"")
    assert client.trailing_data == (b"", False)


# --- streams of known length ---


@pytest.mark.parametrize("version", ["1.0", "1.1"])
def test_a_stream_of_known_length_is_framed_by_it(version: str) -> None:
    protocol = protocol_after(f"GET / HTTP/{version}\r\nHost: a\r\n\r\n".encode())
    head = protocol.start_stream(Response(stream=no_stream, stream_bytes=5, content_type="a/b"))
    assert b"\r\nContent-Length: 5\r\n" in head
    assert b"Transfer-Encoding" not in head
    assert [protocol.stream_piece(data) for data in (b"abc", b"", b"de")] == [b"abc", b"", b"de"]
    assert protocol.end_stream() == b""
    assert protocol.reusable() is (version == "1.1")


def test_a_stream_that_is_too_long_or_too_short_is_a_fault() -> None:
    protocol = protocol_after(GET)
    protocol.start_stream(Response(stream=no_stream, stream_bytes=5))
    protocol.stream_piece(b"abc")
    with pytest.raises(ValueError, match="shorter"):
        protocol.end_stream()
    with pytest.raises(ValueError, match="longer"):
        protocol.stream_piece(b"def")


@pytest.mark.parametrize(("method", "status"), [("HEAD", 200), ("HEAD", 206), ("GET", 304), ("GET", 204)])
def test_a_stream_that_must_not_be_sent(method: str, status: int) -> None:
    protocol = protocol_after(f"{method} / HTTP/1.1\r\nHost: a\r\n\r\n".encode())
    response = Response(status, stream=no_stream, stream_bytes=5)
    head = protocol.start_stream(response)
    assert protocol.is_stream_bodiless(response)
    assert (b"Content-Length: 5" in head) is (method == "HEAD")
    assert b"Transfer-Encoding" not in head
    assert protocol.end_stream() == b""  # nothing is missing
    assert protocol.reusable()


def test_the_length_of_one_stream_does_not_count_for_the_next() -> None:
    protocol = protocol_after(GET)
    protocol.start_stream(Response(stream=no_stream, stream_bytes=1))
    protocol.stream_piece(b"a")
    protocol.end_stream()
    protocol.start_next_cycle()
    protocol.receive_data(GET)
    assert protocol.next_head() is not None
    protocol.start_stream(Response(stream=no_stream))
    assert protocol.stream_piece(b"abc") == b"3\r\nabc\r\n"
    assert protocol.end_stream() == b"0\r\n\r\n"


@given(st.lists(st.binary(max_size=20)))
def test_h11_reads_a_stream_of_known_length(pieces: list[bytes]) -> None:
    protocol = protocol_after(GET)
    body = b"".join(pieces)
    wire = protocol.start_stream(Response(stream=no_stream, stream_bytes=len(body)))
    wire += b"".join(map(protocol.stream_piece, pieces)) + protocol.end_stream()
    client = h11.Connection(h11.CLIENT)
    client.send(h11.Request(method="GET", target="/", headers=[("Host", "a")]))
    client.send(h11.EndOfMessage())
    client.receive_data(wire)
    seen = b""
    while not isinstance(event := client.next_event(), h11.EndOfMessage):
        assert event is not h11.NEED_DATA
        if isinstance(event, h11.Data):
            seen += event.data
    assert seen == body
