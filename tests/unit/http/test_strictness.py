"""The contract of strictness, byte by byte: what is accepted or refused with which status, however split."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

import h11
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from minwebhook.http.framing import MAX_PIECE_BYTES
from minwebhook.http.protocol import ServerProtocol
from minwebhook.http.recognizer import recognize
from minwebhook.http.strict import Refusal

MAX_HEAD = 2048
MAX_FIELDS = 16


@dataclass(frozen=True)
class Seen:
    """One request as the protocol gave it."""

    method: str
    path: str
    query: str
    fields: tuple[tuple[str, str], ...]
    body: bytes
    keep_alive: bool


@dataclass(frozen=True)
class Outcome:
    """All requests of a connection, the body bytes of an unfinished one, and how it ended."""

    requests: tuple[Seen, ...]
    unfinished_body: bytes
    refused: tuple[int, str] | None
    rest: bytes


def drive(pieces: list[bytes], *, eof: bool = False) -> Outcome:
    """Feed ``pieces``, answering each request at once, until the connection would close.

    Everything is parsed twice, with and without the recognizer of plain heads: no test may see a difference.
    """
    outcome = _drive(pieces, eof=eof, use_recognizer=True)
    assert outcome == _drive(pieces, eof=eof, use_recognizer=False)
    return outcome


def _drive(pieces: list[bytes], *, eof: bool, use_recognizer: bool) -> Outcome:
    protocol = ServerProtocol(
        max_head_bytes=MAX_HEAD, max_header_fields=MAX_FIELDS, date=lambda: b"now", use_recognizer=use_recognizer
    )
    seen: list[Seen] = []
    body = b""
    incoming = [*pieces, *([b""] if eof else [])]
    try:
        for piece in incoming:
            protocol.receive_data(piece)
            while True:
                if protocol.head is None and protocol.next_head() is None:
                    break
                assert protocol.head is not None
                data = protocol.next_data()
                if data is None:
                    break
                assert len(data) <= MAX_PIECE_BYTES
                body += data
                if data:
                    continue
                head = protocol.head
                seen.append(
                    Seen(head.method, head.path, head.query, tuple(head.headers.items()), body, head.keep_alive)
                )
                body = b""
                if not protocol.reusable():
                    return Outcome(tuple(seen), b"", None, b"")
                protocol.start_next_cycle()
    except Refusal as refusal:
        assert not protocol.reusable()
        return Outcome(tuple(seen), body, (refusal.status, refusal.text), b"")
    return Outcome(tuple(seen), body, None, protocol.trailing_data())


def status_of(raw: bytes, *, eof: bool = False) -> int | None:
    """200 for one accepted request and nothing else, the status of a refusal of the first, None for "more bytes"."""
    outcome = drive([raw], eof=eof)
    if outcome.requests:
        assert len(outcome.requests) == 1
        assert outcome.refused is None
        assert outcome.rest == b""
        return 200
    return outcome.refused[0] if outcome.refused else None


def head(*lines: bytes, start: bytes = b"GET / HTTP/1.1", host: bytes | None = b"Host: a") -> bytes:
    """A head with a Host field, unless told otherwise."""
    return b"\r\n".join([start, *([host] if host else []), *lines, b"", b""])


def post(*lines: bytes, body: bytes = b"") -> bytes:
    """A POST with ``lines`` as its fields."""
    return head(*lines, start=b"POST / HTTP/1.1") + body


def chunked(body: bytes) -> bytes:
    """A POST with a raw chunked body."""
    return post(b"Transfer-Encoding: chunked", body=body)


#: The number of the point in the contract, the bytes, the expected status.
CASES: list[tuple[int, bytes, int | None]] = [
    # 1: Content-Length together with Transfer-Encoding
    (1, post(b"Content-Length: 5", b"Transfer-Encoding: chunked", body=b"0\r\n\r\n"), 400),
    (1, post(b"Transfer-Encoding: chunked", b"Content-Length: 5", body=b"0\r\n\r\n"), 400),
    (1, post(b"transfer-encoding:chunked", b"CONTENT-LENGTH:0", body=b"0\r\n\r\n"), 400),
    # 2: lines end with CRLF, none is folded
    (2, b"GET / HTTP/1.1\nHost: a\n\n", 400),
    (2, b"GET / HTTP/1.1\r\nHost: a\n\r\n", 400),
    (2, b"GET / HTTP/1.1\r\nHost: a\r\n\nGET /x HTTP/1.1\r\nHost: a\r\n\r\n", 400),
    (2, b"GET / HTTP/1.1\r\nHost: a\r\rX: b\r\n\r\n", 400),
    (2, head(b"X: a\rb"), 400),
    (2, head(b"X: a\nTransfer-Encoding: chunked"), 400),
    (2, head(b"X: a", b" folded"), 400),
    (2, head(b"X: a", b"\tfolded"), 400),
    (2, b"GET / HTTP/1.1\r\n Host: a\r\n\r\n", 400),
    (2, b"GET / HTTP/1.1\r\n\r\n Host: a\r\n\r\n", 400),
    (2, chunked(b"1\na\r\n0\r\n\r\n"), 400),
    (2, chunked(b"1\r\na\n0\r\n\r\n"), 400),
    (2, chunked(b"1\r\naX0\r\n\r\n"), 400),
    (2, chunked(b"0\r\nX: a\n\r\n"), 400),
    (2, chunked(b"0\r\nX: a\r\n\n"), 400),
    (2, chunked(b"0\r\nX: a\rb"), 400),
    (2, chunked(b"0\r\nX: a\r\n folded\r\n\r\n"), 400),
    # 3: bytes of field values
    (3, head(b"X: \x00"), 400),
    (3, head(b"X: a\x01b"), 400),
    (3, head(b"X: a\x0bb"), 400),
    (3, head(b"X: a\x0cb"), 400),
    (3, head(b"X: \x7f"), 400),
    (3, head(b"X: a\tb\x80\xff"), 200),
    (3, head(b"X:"), 200),
    (3, head(b"X : a"), 400),
    (3, head(b": a"), 400),
    (3, head(b"X"), 400),
    (3, head(b"X\x80: a"), 400),
    # 4: the value of Transfer-Encoding
    (4, post(b"Transfer-Encoding: CHUNKED", body=b"0\r\n\r\n"), 200),
    (4, post(b"Transfer-Encoding: gzip"), 501),
    (4, post(b"Transfer-Encoding: identity"), 501),
    (4, post(b"Transfer-Encoding: xchunked"), 501),
    (4, post(b"Transfer-Encoding:"), 400),
    (4, post(b"Transfer-Encoding: gzip, chunked"), 400),
    (4, post(b"Transfer-Encoding: chunked, chunked"), 400),
    (4, post(b"Transfer-Encoding: chunked;q=1"), 400),
    (4, post(b"Transfer-Encoding: ,chunked"), 400),
    (4, post(b"Transfer-Encoding: \x0bchunked"), 400),
    (4, post(b'Transfer-Encoding: "chunked"'), 400),
    (4, post(b"Transfer-Encoding: chunked", b"Transfer-Encoding: chunked", body=b"0\r\n\r\n"), 400),
    (4, post(b"Transfer-Encoding: gzip", b"transfer-encoding: chunked", body=b"0\r\n\r\n"), 400),
    # 5: Transfer-Encoding in HTTP/1.0
    (5, head(b"Transfer-Encoding: chunked", start=b"POST / HTTP/1.0") + b"0\r\n\r\n", 400),
    # 6: Host
    (6, head(host=None), 400),
    (6, head(host=b"Host:"), 400),
    (6, head(b"Host: a"), 400),
    (6, head(b"host: b"), 400),
    (6, head(host=b"Host: user@a"), 400),
    (6, head(host=b"Host: a/b"), 400),
    (6, head(host=b"Host: a, b"), 400),
    (6, head(host=b"Host: a b"), 400),
    (6, head(host=b"Host: a:b"), 400),
    (6, head(host=b"Host: a:80:80"), 400),
    (6, head(host=b"Host: http://a"), 400),
    (6, head(host=b"Host: [::1"), 400),
    (6, head(host=b"Host: ::1"), 400),
    (6, head(host=b"Host: \xe4"), 400),
    (6, head(host=b"Host: a?b"), 400),
    (6, head(host=b"Host: :80"), 400),
    (6, head(host=b"Host: a:8000"), 200),
    (6, head(host=b"Host: a_b.example.:"), 200),
    (6, head(host=b"Host: [::1]:8000"), 200),
    (6, head(host=b"Host: 127.0.0.1"), 200),
    (6, head(start=b"GET / HTTP/1.0", host=None), 200),
    # 7: chunk-size lines
    (7, chunked(b"5\r\nhello\r\n0\r\n\r\n"), 200),
    (7, chunked(b"0000000000000005\r\nhello\r\n0\r\n\r\n"), 200),
    (7, chunked(b'5;a;b=c ; d = "e\\" f"\r\nhello\r\n0;x\r\n\r\n'), 200),
    (7, chunked(b"00000000000000005\r\nhello\r\n0\r\n\r\n"), 400),
    (7, chunked(b"\r\nhello"), 400),
    (7, chunked(b"0x5\r\nhello\r\n0\r\n\r\n"), 400),
    (7, chunked(b"+5\r\nhello\r\n0\r\n\r\n"), 400),
    (7, chunked(b"-1\r\nhello\r\n0\r\n\r\n"), 400),
    (7, chunked(b"5_0\r\nhello\r\n0\r\n\r\n"), 400),
    (7, chunked(b" 5\r\nhello\r\n0\r\n\r\n"), 400),
    (7, chunked(b"5 \r\nhello\r\n0\r\n\r\n"), 400),
    (7, chunked(b"5;\r\nhello\r\n0\r\n\r\n"), 400),
    (7, chunked(b"5;a=\r\nhello\r\n0\r\n\r\n"), 400),
    (7, chunked(b'5;a="b\r\nhello\r\n0\r\n\r\n'), 400),
    (7, chunked(b"5;a\x00\r\nhello\r\n0\r\n\r\n"), 400),
    (7, chunked(b"5;a\rb\r\nhello\r\n0\r\n\r\n"), 400),
    (7, chunked(b"5;" + b"a" * 300 + b"\r\nhello\r\n0\r\n\r\n"), 400),
    (7, chunked(b"5;" + b"a" * 300), 400),
    (7, chunked(b"5\r\nhelloworld\r\n0\r\n\r\n"), 400),
    (7, chunked((b"1;" + b"a" * 200 + b"\r\nx\r\n") * 100 + b"0\r\n\r\n"), 400),
    # 8: absurd lengths (those over a handler's own limit: the io tests)
    (8, post(b"Content-Length: 99999999999999999999"), 413),
    (8, post(b"Content-Length: " + b"9" * 40), 413),
    # 9: request targets
    (9, head(start=b"OPTIONS * HTTP/1.1"), 200),
    (9, head(start=b"GET * HTTP/1.1"), 400),
    (9, head(start=b"GET a HTTP/1.1"), 400),
    (9, head(start=b"GET ?a HTTP/1.1"), 400),
    (9, head(start=b"GET http://a/b?c HTTP/1.1"), 200),
    (9, head(start=b"GET http://a HTTP/1.1"), 200),
    (9, head(start=b"GET http:///b HTTP/1.1"), 400),
    (9, head(start=b"GET http://u@a/b HTTP/1.1"), 400),
    (9, head(start=b"GET ftp://a/b HTTP/1.1"), 400),
    (9, head(start=b"CONNECT a:80 HTTP/1.1"), 501),
    (9, head(start=b"GET /a#b HTTP/1.1"), 400),
    (9, head(start=b"GET /a\\b HTTP/1.1"), 400),
    (9, head(start=b"GET /a%00 HTTP/1.1"), 400),
    (9, head(start=b"GET /a%0d HTTP/1.1"), 400),
    (9, head(start=b"GET /a?b=%0A HTTP/1.1"), 200),
    (9, head(start=b"GET /a\x80 HTTP/1.1"), 400),
    (9, head(start=b"GET /a b HTTP/1.1"), 400),
    (9, head(start=b"GET  / HTTP/1.1"), 400),
    (9, head(start=b"GET /\tHTTP/1.1"), 400),
    (9, head(start=b"GET / HTTP/1.1 "), 400),
    (9, head(start=b"GET /"), 400),
    (9, head(start=b"GET //a/../%2e?b=%0b HTTP/1.1"), 200),
    # 10: versions
    (10, head(start=b"GET / HTTP/1.2"), 505),
    (10, head(start=b"GET / HTTP/2.0"), 505),
    (10, head(start=b"GET / HTTP/0.9"), 505),
    (10, b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", 505),
    (10, head(start=b"GET / HTTP/11.1"), 400),
    (10, head(start=b"GET / http/1.1"), 400),
    (10, head(start=b"GET / HTTP/1.01"), 400),
    # 11: sizes, of heads that are complete and of heads that are not
    (11, head(start=b"GET /" + b"a" * MAX_HEAD + b" HTTP/1.1"), 414),
    (11, b"GET /" + b"a" * MAX_HEAD, 414),
    (11, head(b"X: " + b"a" * MAX_HEAD), 431),
    (11, b"GET / HTTP/1.1\r\nX: " + b"a" * MAX_HEAD, 431),
    (11, head(*[b"X: a"] * MAX_FIELDS), 431),
    (11, head(*[b"X: a"] * (MAX_FIELDS - 1)), 200),
    (11, chunked(b"0\r\n" + b"X: a\r\n" * (MAX_FIELDS + 1) + b"\r\n"), 431),
    (11, chunked(b"0\r\nX: " + b"a" * MAX_HEAD + b"\r\n\r\n"), 431),
    # 12: Content-Length
    (12, post(b"Content-Length: 0"), 200),
    (12, post(b"Content-Length:\t 5 ", body=b"hello"), 200),
    (12, post(b"Content-Length: 05", body=b"hello"), 400),
    (12, post(b"Content-Length: 00"), 400),
    (12, post(b"Content-Length: 5, 5", body=b"hello"), 400),
    (12, post(b"Content-Length: 5", b"Content-Length: 5", body=b"hello"), 400),
    (12, post(b"Content-Length: 5", b"Content-Length: 6", body=b"hello"), 400),
    (12, post(b"Content-Length: +5", body=b"hello"), 400),
    (12, post(b"Content-Length: -5", body=b"hello"), 400),
    (12, post(b"Content-Length: 0x5", body=b"hello"), 400),
    (12, post(b"Content-Length: 5 5", body=b"hello"), 400),
    (12, post(b"Content-Length: 5.0", body=b"hello"), 400),
    (12, post(b"Content-Length: \xb2"), 400),
    (12, post(b"Content-Length:"), 400),
    (12, post(b"Content-Length : 5", body=b"hello"), 400),
    # 13: Content-Type, methods
    (13, post(b"Content-Type: a/b", b"content-type: a/b"), 400),
    (13, post(b"Content-Type: a/b"), 200),
    (13, head(start=b"BREW / HTTP/1.1"), 501),
    (13, head(start=b"get / HTTP/1.1"), 501),
    (13, head(start=b"TRACE / HTTP/1.1"), 501),
    (13, head(start=b"G(T / HTTP/1.1"), 400),
    # 14: trailers
    (14, chunked(b"0\r\nX-Sum: abc\r\nY:\r\n\r\n"), 200),
    (14, chunked(b"0\r\nContent-Length: 5\r\n\r\n"), 400),
    (14, chunked(b"0\r\ntransfer-encoding: chunked\r\n\r\n"), 400),
    (14, chunked(b"0\r\nHost: b\r\n\r\n"), 400),
    (14, chunked(b"0\r\nAuthorization: b\r\n\r\n"), 400),
    (14, chunked(b"0\r\nCookie: b\r\n\r\n"), 400),
    (14, chunked(b"0\r\nContent-Type: b\r\n\r\n"), 400),
    (14, chunked(b"0\r\nX y: b\r\n\r\n"), 400),
    (14, chunked(b"0\r\nX: \x00\r\n\r\n"), 400),
    # and what the contract takes for granted
    (0, b"", None),
    (0, b"GET / HT", None),
    (0, b"\r\n" + head(), 200),
    (0, b"\r\n\r\n" + head(), 400),
    (0, b"\n" + head(), 400),
    (0, b" " + head(), 400),
    (0, b"\x16\x03\x01\x02\x00\x01\x00", 400),
    (0, b"\x00", 400),
    (0, post(b"Content-Length: 5", b"Content-Encoding: gzip", body=b"hello"), 415),
    (0, post(b"Content-Length: 5", b"Content-Encoding: Identity", body=b"hello"), 200),
    (0, post(b"Content-Encoding: gzip"), 200),
    (0, post(b"Expect: 100-Continue", b"Content-Length: 1", body=b"x"), 200),
    (0, post(b"Expect: tea"), 417),
]


@pytest.mark.parametrize(("point", "raw", "status"), CASES)
def test_contract(point: int, raw: bytes, status: int | None) -> None:
    assert status_of(raw) == status
    # One byte at a time, the verdict comes at the latest with the last byte, and it is the same.
    assert drive([raw[i : i + 1] for i in range(len(raw))]) == drive([raw])


def test_every_point_with_bytes_has_cases() -> None:
    assert {point for point, _, _ in CASES} == set(range(15))


@pytest.mark.parametrize(
    "hidden",
    [
        post(b"Content-Length: 4", b"Transfer-Encoding: chunked", body=b"0\r\n\r\n" + head(start=b"GET /x HTTP/1.1")),
        post(
            b"Transfer-Encoding: chunked", b"Transfer-Encoding: x", body=b"0\r\n\r\n" + head(start=b"GET /x HTTP/1.1")
        ),
        post(b"Transfer-Encoding : chunked", body=b"0\r\n\r\n" + head(start=b"GET /x HTTP/1.1")),
        post(b"X: a\nTransfer-Encoding: chunked", body=b"0\r\n\r\n" + head(start=b"GET /x HTTP/1.1")),
        post(b"Content-Length: 0, 46", body=head(start=b"GET /x HTTP/1.1")),
        chunked(b"3 \r\nabc\r\n0\r\n\r\n" + head(start=b"GET /x HTTP/1.1")),
        chunked(b"3\r\nabcde0\r\n\r\n" + head(start=b"GET /x HTTP/1.1")),
        chunked(b"0\r\nX: y\n\r\n" + head(start=b"GET /x HTTP/1.1")),
        chunked(b"ffffffffffffffff0\r\n" + head(start=b"GET /x HTTP/1.1")),
        head(b"Transfer-Encoding: chunked", start=b"POST / HTTP/1.0") + b"0\r\n\r\n" + head(start=b"GET /x HTTP/1.1"),
    ],
)
def test_no_request_hides_behind_a_refused_one(hidden: bytes) -> None:
    outcome = drive([head(start=b"GET /first HTTP/1.1") + hidden])
    assert [request.path for request in outcome.requests] == ["/first"]
    assert outcome.refused is not None
    assert outcome.refused[0] == 400


def test_pipelined_requests_come_in_order() -> None:
    raw = (
        head(start=b"GET /1 HTTP/1.1")
        + post(b"Content-Length: 3", body=b"abc")
        + chunked(b"2\r\nde\r\n0\r\n\r\n")
        + head()
    )
    outcome = drive([raw])
    assert [(request.path, request.body) for request in outcome.requests] == [
        ("/1", b""),
        ("/", b"abc"),
        ("/", b"de"),
        ("/", b""),
    ]


@pytest.mark.parametrize(
    "first",
    [
        head(b"Connection: close"),
        head(b"Connection: x, CLOSE"),
        head(b"Connection: keep-alive", b"Connection: close"),
        head(start=b"GET / HTTP/1.0"),
        head(b"Connection: keep-alive", start=b"GET / HTTP/1.0"),
    ],
)
def test_close_and_http_1_0_end_the_connection(first: bytes) -> None:
    outcome = drive([first + head()])
    assert len(outcome.requests) == 1
    assert not outcome.requests[0].keep_alive


def test_trailers_are_not_merged() -> None:
    outcome = drive([chunked(b"0\r\nX-Admin: yes\r\n\r\n")])
    assert "x-admin" not in dict(outcome.requests[0].fields)


def test_absolute_target_replaces_host() -> None:
    (request,) = drive([head(start=b"GET HTTP://b:81?q HTTP/1.1")]).requests
    assert (request.path, request.query) == ("/", "q")
    assert dict(request.fields)["host"] == "b:81"


def test_fields_keep_order_repetition_and_bytes() -> None:
    (request,) = drive([head(b"X-A: 1", b"x-a:  2\t", b"Y: \xe4")]).requests
    assert request.fields == (("host", "a"), ("x-a", "1"), ("x-a", "2"), ("y", "\xe4"))


@pytest.mark.parametrize(
    "raw",
    [
        b"GET / HT",
        b"garbage",
        head()[:-1],
        post(b"Content-Length: 5", body=b"hell"),
        chunked(b"5\r\nhel"),
        chunked(b"0\r\n"),
    ],
)
def test_an_end_in_the_middle_is_400(raw: bytes) -> None:
    assert status_of(raw, eof=True) == 400


def test_an_end_between_requests_is_no_error() -> None:
    assert drive([head()], eof=True).refused is None
    assert drive([head(), b"\r\n"], eof=True).refused is None


# Properties

_fields = st.sampled_from(
    [
        b"X: a",
        b"Content-Length: 3",
        b"Transfer-Encoding: chunked",
        b"Connection: close",
        b"Expect: 100-continue",
        b"Host: b",
    ]
)
_bodies = st.sampled_from(
    [b"", b"abc", b"3\r\nabc\r\n0\r\n\r\n", b"1;x=y\r\na\r\n2\r\nbc\r\n0\r\nT: u\r\n\r\n", b"0\r\nHost: a\r\n\r\n"]
)
_starts = st.sampled_from([b"GET / HTTP/1.1", b"POST /x HTTP/1.1", b"POST /y HTTP/1.0", b"\r\nGET / HTTP/1.1", b"A"])
_requests = st.builds(
    lambda start, fields, body: head(*fields, start=start) + body, _starts, st.lists(_fields, max_size=2), _bodies
)
_mutations = st.lists(
    st.tuples(
        st.integers(0, 400),
        st.sampled_from([b"\r", b"\n", b"\r\n", b"\0", b" ", b":", b";", b"0", b"\xff", b"a" * 300]),
    ),
    max_size=2,
)


@st.composite
def streams(draw: st.DrawFn) -> bytes:
    """A few pipelined requests, some of them damaged."""
    raw = b"".join(draw(st.lists(_requests, max_size=4)))
    for at, damage in draw(_mutations):
        raw = raw[:at] + damage + raw[at:]
    return raw


@given(streams(), st.lists(st.integers(0, 600)), st.booleans())
@example(b"\r\n\r\n", [1, 2, 3], False)
@example(b"\r\n\r" + b"x", [1, 2, 3], True)
def test_splitting_changes_nothing(raw: bytes, cuts: list[int], eof: bool) -> None:
    edges = sorted({0, len(raw), *(cut for cut in cuts if cut < len(raw))})
    pieces = [raw[a:b] for a, b in pairwise(edges)]
    assert drive(pieces, eof=eof) == drive([raw] if raw else [], eof=eof)


@given(st.binary(max_size=300), st.booleans())
@example(b"\r", True)
def test_arbitrary_bytes_raise_nothing_but_refusals(raw: bytes, eof: bool) -> None:
    drive([raw] if raw else [], eof=eof)
    drive([chunked(raw)], eof=eof)
    drive([post(b"X: " + raw)], eof=eof)
    drive([b"GET /" + raw + b" HTTP/1.1\r\nHost: a\r\n\r\n"], eof=eof)
    drive([b"GET / HTTP/1.1\r\n" + raw + b"\r\nHost: a\r\n\r\n"], eof=eof)


@given(streams())
def test_what_is_accepted_means_the_same_to_h11(raw: bytes) -> None:
    """h11's own framing is the second opinion: whatever we accept, it must cut in the same places."""
    ours = drive([raw] if raw else []).requests
    if raw.startswith(b"\r\n"):
        return  # the forgiven empty line, which h11 refuses
    connection = h11.Connection(h11.SERVER, MAX_HEAD)
    connection.receive_data(raw)
    for request in ours:
        event = connection.next_event()
        if type(event) is not h11.Request:
            return  # an empty line between requests
        assert (event.method, len(event.headers)) == (request.method.encode(), len(request.fields))
        body = b""
        while type(event := connection.next_event()) is h11.Data:
            body += event.data
        assert type(event) is h11.EndOfMessage
        assert body == request.body
        connection.send(h11.Response(status_code=204, headers=[]))
        connection.send(h11.EndOfMessage())
        if connection.our_state is not h11.DONE:
            return
        connection.start_next_cycle()
        if connection.trailing_data[0].startswith(b"\r\n"):
            return


_NAMES = st.sampled_from(
    [
        b"Host",
        b"host",
        b"HOST",
        b"Content-Length",
        b"Transfer-Encoding",
        b"Connection",
        b"Expect",
        b"Upgrade",
        b"TE",
        b"X-A",
        b"x_b",
        b"Content-Type",
        b"Content-Encoding",
        b"Authorization",
        b"Cookie",
        b"A B",
        b"",
        b"X\x80",
        b"Host ",
    ]
)
_VALUES = st.one_of(
    st.sampled_from(
        [
            b"a",
            b" a",
            b"\ta ",
            b"",
            b" ",
            b"a:80",
            b"a,b",
            b"close",
            b"Keep-Alive",
            b"100-continue",
            b"chunked",
            b"0",
            b"3",
            b"gzip",
            b"identity",
            b"\xa0a\x85",
            b"a  b",
            b"\x00",
            b"h2c",
            b"application/json",
        ]
    ),
    st.binary(max_size=6),
)
_STARTS = st.sampled_from(
    [
        b"GET / HTTP/1.1",
        b"POST /a?b=c HTTP/1.1",
        b"GET /a HTTP/1.0",
        b"get / HTTP/1.1",
        b"PUT * HTTP/1.1",
        b"OPTIONS * HTTP/1.1",
        b"GET http://a/b HTTP/1.1",
        b"GET /\x80 HTTP/1.1",
        b"GET  / HTTP/1.1",
        b"BREW / HTTP/1.1",
        b"GET /a#b HTTP/1.1",
        b"GET /%0a HTTP/1.1",
    ]
)


@given(_STARTS, st.lists(st.tuples(_NAMES, _VALUES), max_size=6), st.sampled_from([b"\r\n", b"\r\n", b"\n"]))
@settings(max_examples=1500)
def test_the_recognizer_sees_what_h11_sees(start: bytes, fields: list[tuple[bytes, bytes]], line_end: bytes) -> None:
    """Heads near the plain form: the same request, or the same refusal, from both parsers (``drive`` compares)."""
    lines = [start, *(name + b":" + value for name, value in fields)]
    drive([line_end.join(lines) + line_end * 2 + b"abc"], eof=True)


def test_the_recognizer_takes_what_clients_send() -> None:
    """It is of use only if ordinary requests pass; h11 is not even asked for them."""
    plain = b"POST /x?y=z HTTP/1.1\r\nHost: a:1\r\nUser-Agent: curl/8\r\nAccept: */*\r\nContent-Length: 2\r\n\r\n"
    assert recognize(plain) == (
        "POST",
        "/x?y=z",
        [("host", "a:1"), ("user-agent", "curl/8"), ("accept", "*/*"), ("content-length", "2")],
    )


#: Alike, so that one may be taken for the other: repeated heads are not parsed again.
REPEATED = (
    post(b"Content-Length: 2", body=b"ab"),
    post(b"Content-Length: 2", body=b"cd"),
    post(b"Content-Length: 1", body=b"\r"),
    post(b"Content-Length: 2", b"X: y", body=b"ef"),
    post(b"Expect: 100-continue", b"Content-Length: 2", body=b"gh"),
    post(b"Transfer-Encoding: chunked", body=b"1\r\nx\r\n0\r\n\r\n"),
    head(),
    head(b"X: " + b"y" * 3000),
    head(start=b"GET /other HTTP/1.1"),
    b"\r\n" + head(),
    head(b"Connection: close"),
    head(b"Content-Length: 1", b"Content-Length: 1"),
)


@given(st.lists(st.sampled_from(REPEATED), max_size=8), st.lists(st.integers(1, 100), max_size=20))
@example([REPEATED[0], REPEATED[0], REPEATED[1]], [])
@example([REPEATED[6], REPEATED[9], REPEATED[6], REPEATED[10], REPEATED[6]], [])
def test_a_repeated_head_is_what_it_was(requests: list[bytes], sizes: list[int]) -> None:
    raw = b"".join(requests)
    pieces = []
    for size in sizes:
        pieces.append(raw[:size])
        raw = raw[size:]
    whole = drive([*requests])
    cut = drive([piece for piece in (*pieces, raw) if piece])
    assert (cut.requests, cut.refused) == (whole.requests, whole.refused)
