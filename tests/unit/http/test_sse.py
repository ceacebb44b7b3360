"""Event streams: whatever is sent, two independent readers see one event for each, however the bytes are cut."""

from __future__ import annotations

import re
from collections.abc import Iterator
from itertools import pairwise

import httpx
import httpx_sse
import pytest
import trio
import trio.testing
from hypothesis import example, given
from hypothesis import strategies as st

from minwebhook.http.messages import Response
from minwebhook.http.sse import HEARTBEAT, EventWriter, encode_event, encode_retry, event_stream
from tests.sse import Event, Reader

#: What breaks parsers of lines: every line end that Unicode knows, field names, blanks, halves of characters.
NASTY = st.lists(
    st.sampled_from(
        [b"\r", b"\n", b"\r\n", b"\0", b":", b" ", b"data: ", b"id: x", b"retry: 1", b"event: y", b"\n\n", b"\r\r",
         "\u2028".encode(), "\u2029".encode(), "\u0085".encode(), "\ufeff".encode(), b"\x0b", b"\x0c", b"\x1c", b"\xff",
         b"\xc3", b"\xf0\x9f", "é😀".encode(), b"{}", b"a"]
    ),
    max_size=12,
).map(b"".join)  # fmt: skip
IDS = st.text("0123456789abcdef-:.", max_size=20)
TEN_MB = b"x" * 10_000_000


def joined(data: bytes) -> str:
    """What a reader makes of ``data``: any line end is LF."""
    return re.sub("\r\n|\r", "\n", data.decode("utf-8", "replace"))


def cut(data: bytes, cuts: list[int]) -> Iterator[bytes]:
    points = sorted({0, len(data), *(each % (len(data) + 1) for each in cuts)})
    return (data[a:b] for a, b in pairwise(points))


@given(st.lists(st.tuples(NASTY, IDS), max_size=4), st.lists(st.integers(0, 10_000), max_size=6), st.booleans())
@example([(b"a\r", "1"), (b"\nb", "2")], [7], False)
def test_one_event_in_is_one_event_out(sent: list[tuple[bytes, str]], cuts: list[int], has_heartbeats: bool) -> None:
    wire = encode_retry(1.5)
    for data, event_id in sent:
        wire += encode_event(data, event_id=event_id) + (HEARTBEAT if has_heartbeats else b"")
    expected, last = [], ""
    for data, event_id in sent:
        last = event_id or last  # an event without an id keeps the one before
        expected.append(Event(joined(data), last))
    for pieces in ([wire], cut(wire, cuts), (wire[i : i + 1] for i in range(len(wire)))):
        reader = Reader()
        assert [event for piece in pieces for event in reader.feed(piece)] == expected
        assert (reader.last_id, reader.retry_ms) == (last, 1500)
        assert len(reader.comments) == (len(sent) if has_heartbeats else 0)


@given(st.lists(st.tuples(NASTY, IDS), max_size=4))
def test_httpx_sse_sees_the_same(sent: list[tuple[bytes, str]]) -> None:
    wire = encode_retry(1) + b"".join(encode_event(data, event_id=event_id) + HEARTBEAT for data, event_id in sent)
    response = httpx.Response(200, headers={"Content-Type": "text/event-stream"}, content=wire)
    seen = [event.data for event in httpx_sse.EventSource(response).iter_sse()]
    # It leaves out events without data but with an id, and lines are decoded by httpx as a whole.
    assert [data for data in seen if data] == [data for data in (joined(data) for data, _ in sent) if data]


@pytest.mark.parametrize("data", [TEN_MB, b"\r" * 100_000, b"\n" * 100_000, TEN_MB + b"\r\n" + TEN_MB])
def test_large_lines(data: bytes) -> None:
    wire = encode_event(data, event_id="1")
    assert wire.startswith(b"id: 1\ndata: ")
    assert wire.endswith(b"\n\n")
    assert wire.count(b"\n\n") == 1
    lines = wire.removesuffix(b"\n\n").split(b"\n")[1:]
    assert b"\n".join(line.removeprefix(b"data: ") for line in lines) == joined(data).encode()


@pytest.mark.parametrize("event_id", ["a\nb", "a\rb", "a\0b", "é", "\x7f", "a\u2028"])
def test_an_id_that_would_not_arrive_as_it_is(event_id: str) -> None:
    with pytest.raises(ValueError, match="cannot have the id"):
        encode_event(b"", event_id=event_id)


async def body_of(response: Response) -> list[tuple[float, bytes]]:
    """What is written, and when."""
    sent: list[tuple[float, bytes]] = []

    async def send(data: bytes) -> None:
        sent.append((trio.current_time(), data))

    assert response.stream is not None
    await response.stream(send)
    return sent


async def test_a_heartbeat_for_every_pause(autojump_clock: trio.testing.MockClock) -> None:
    start = trio.current_time()

    async def write(events: EventWriter) -> None:
        async def slow() -> None:
            await trio.sleep_until(start + 40)

        await events.pause(slow, until=start + 100)
        await events.send(b"late", event_id="1")

        async def never() -> None:
            await trio.sleep_forever()

        await events.pause(never, until=start + 50)

    response = event_stream(write, heartbeat_s=15, retry_s=2)
    assert (response.status, response.content_type) == (200, "text/event-stream")
    assert dict(response.headers) == {"Cache-Control": "no-store", "X-Accel-Buffering": "no"}
    assert [(round(at - start), data) for at, data in await body_of(response)] == [
        (0, b"retry: 2000\n"),
        (15, HEARTBEAT),
        (30, HEARTBEAT),
        (40, b"id: 1\ndata: late\n\n"),
    ]
    assert round(trio.current_time() - start) == 50


async def test_a_pause_that_is_over_at_once(autojump_clock: trio.testing.MockClock) -> None:
    async def write(events: EventWriter) -> None:
        await events.pause(trio.lowlevel.checkpoint, until=trio.current_time() + 1)
        await events.pause(trio.sleep_forever, until=trio.current_time() - 1)

    assert [data for _, data in await body_of(event_stream(write, heartbeat_s=0.001, retry_s=1))] == [b"retry: 1000\n"]
