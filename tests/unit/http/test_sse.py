"""Event streams: whatever is sent, two independent readers see one event for each, however the bytes are cut."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterator
from itertools import pairwise

import httpx
import httpx_sse
import pytest
import trio
import trio.testing
from hypothesis import example, given
from hypothesis import strategies as st

from minwebhook.http.deadlines import DeadlineQueue
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


class Source:
    """Events at given times, in seconds from now; then the end, or nothing more."""

    def __init__(self, *at_s: float, ends: bool = True, calls: bool = False) -> None:
        """With ``calls`` it has others send, as :class:`~minwebhook.jobs.watch.Watchers` does."""
        self.calls = calls
        self.start = trio.current_time()
        self.has_ended = False
        self.has_more = True
        self._at = [self.start + each for each in at_s]
        self._ends = ends
        self.waits = 0

    def take(self) -> bytes | None:
        if not self._at or self._at[0] > trio.current_time():
            return None
        at = self._at.pop(0)
        self.has_more = bool(self._at) and self._at[0] <= trio.current_time()
        self.has_ended = self._ends and not self._at
        return b"%g" % round(at - self.start, 3)

    async def wait(self, on_news: Callable[[], bool]) -> None:
        self.waits += 1
        while True:
            await trio.sleep_until(self._at[0] if self._at else math.inf)
            if not (self.calls and on_news()):
                return


async def sent_by(
    source: Source, *, heartbeat_s: float, until_s: float = math.inf, room: int = 1 << 20
) -> tuple[bool, list[tuple[float, bytes]]]:
    """Whether it came to its end, and what was written when."""
    written: list[tuple[float, bytes]] = []
    heartbeats = DeadlineQueue(heartbeat_s)
    ends: list[bool] = []

    class Send:
        """A socket that takes at once as many bytes as it has ``room``, and then all at the next call."""

        def __init__(self) -> None:
            self.rest = b""

        async def __call__(self, data: bytes) -> None:
            written.append((round(trio.current_time() - source.start, 3), self.rest + data))
            self.rest = b""
            await trio.lowlevel.checkpoint()

        def send_now(self, data: bytes) -> bool:
            assert not self.rest
            if len(data) > room:
                self.rest = data[room:]
            written.append((round(trio.current_time() - source.start, 3), data[:room]))
            return not self.rest

    async def write(events: EventWriter) -> None:
        ends.append(await events.send_all(source, until=source.start + until_s))

    response = event_stream(write, heartbeats=heartbeats, retry_s=2)
    assert (response.status, response.content_type) == (200, "text/event-stream")
    assert dict(response.headers) == {"Cache-Control": "no-store", "X-Accel-Buffering": "no"}
    assert response.stream is not None
    async with trio.open_nursery() as nursery:
        nursery.start_soon(heartbeats.run)
        await response.stream(Send())
        nursery.cancel_scope.cancel()
    assert len(heartbeats) == 0
    assert written.pop(0) == (0, b"retry: 2000\n")
    return ends[0], written


async def test_a_heartbeat_for_every_pause(autojump_clock: trio.testing.MockClock) -> None:
    ended, written = await sent_by(Source(0, 40, 50), heartbeat_s=15)
    assert ended
    assert written == [(0, b"0"), (15, HEARTBEAT), (30, HEARTBEAT), (40, b"40"), (50, b"50")]


async def test_a_stream_that_is_broken_off_while_nothing_happens(autojump_clock: trio.testing.MockClock) -> None:
    ended, written = await sent_by(Source(1, ends=False), heartbeat_s=15, until_s=40)
    assert not ended
    assert written == [(1, b"1"), (16, HEARTBEAT), (31, HEARTBEAT)]


async def test_a_stream_that_is_broken_off_while_much_happens(autojump_clock: trio.testing.MockClock) -> None:
    source = Source(*range(100))
    ended, written = await sent_by(source, heartbeat_s=15, until_s=5.5)
    assert not ended
    assert [at for at, _ in written] == [0, 1, 2, 3, 4, 5]


async def test_what_is_there_at_once_is_not_waited_for(autojump_clock: trio.testing.MockClock) -> None:
    source = Source(0, 0, 0)
    ended, written = await sent_by(source, heartbeat_s=0.001)
    assert (ended, source.waits, len(written)) == (True, 0, 3)


async def test_a_heartbeat_that_is_due_when_an_event_comes(autojump_clock: trio.testing.MockClock) -> None:
    ended, written = await sent_by(Source(15, 30, 45, 46), heartbeat_s=15)
    assert ended
    assert [data for _, data in written if data != HEARTBEAT] == [b"15", b"30", b"45", b"46"]


async def test_others_send_for_a_stream_that_waits(autojump_clock: trio.testing.MockClock) -> None:
    source = Source(0, 1, 2, 18, 40, calls=True)
    ended, written = await sent_by(source, heartbeat_s=15)
    assert ended
    assert written == [(0, b"0"), (1, b"1"), (2, b"2"), (17, HEARTBEAT), (18, b"18"), (33, HEARTBEAT), (40, b"40")]
    assert source.waits == 1


async def test_what_does_not_go_out_at_once_is_sent_by_the_stream_itself(
    autojump_clock: trio.testing.MockClock,
) -> None:
    source = Source(1, 20, 30, calls=True)
    ended, written = await sent_by(source, heartbeat_s=60, room=1)
    assert ended
    assert written == [(1, b"1"), (20, b"2"), (20, b"0"), (30, b"3"), (30, b"0")]


async def test_a_heartbeat_that_does_not_go_out_at_once(autojump_clock: trio.testing.MockClock) -> None:
    for calls in (False, True):
        source = Source(1, 40, calls=calls)
        ended, written = await sent_by(source, heartbeat_s=15, room=1)
        assert ended
        assert b"".join(data for _, data in written) == b"1" + 2 * HEARTBEAT + b"40"
        assert [at for at, data in written if data in HEARTBEAT] == [16, 16, 31, 31]


async def test_a_stream_that_others_send_for_is_broken_off(autojump_clock: trio.testing.MockClock) -> None:
    ended, written = await sent_by(Source(*range(100), calls=True), heartbeat_s=15, until_s=5.5)
    assert not ended
    assert [at for at, _ in written] == [0, 1, 2, 3, 4, 5]


async def test_many_events_at_once_are_left_to_the_stream(autojump_clock: trio.testing.MockClock) -> None:
    source = Source(1, *[5] * 30, calls=True)
    ended, written = await sent_by(source, heartbeat_s=60)
    assert ended
    assert [data for _, data in written] == [b"1", *[b"5"] * 30]
    assert source.waits == 1
