"""Server-sent events: what goes on the wire, and writing it to one client (WHATWG HTML, "Server-sent events").

The functions are pure. Whatever the data holds, one event in is one event out: each of its lines, however it ends, goes
out as a ``data`` field of its own, and a reader puts them together with LF between them.
"""

from __future__ import annotations

import math
import re
from collections.abc import Awaitable, Callable
from typing import Final, Protocol

import trio

from minwebhook.http.deadlines import DeadlineQueue
from minwebhook.http.messages import Response, SendChunk

EVENT_STREAM: Final = "text/event-stream"
#: Nobody on the way may keep events, or keep them back: ``X-Accel-Buffering`` is for nginx.
EVENT_STREAM_HEADERS: Final = (("Cache-Control", "no-store"), ("X-Accel-Buffering", "no"))
#: A comment: clients ignore it, and whoever is on the way sees that the connection lives. Like ``retry`` it is a line
#: without an empty one behind it, which some readers would take for an event without data.
HEARTBEAT: Final = b":\n"

#: Events of one stream that others send for it, before its own task goes on.
_MOST_AT_ONCE: Final = 8

_LINE_END: Final = re.compile(rb"\r\n|\r|\n")


def encode_event(data: bytes, *, event_id: str = "") -> bytes:
    """One event. ``data`` is UTF-8, else readers replace what is not.

    Raises ValueError for an id that a reader would not take as it is: with a line end or NUL, or not ASCII.
    """
    if b"\n" in data or b"\r" in data:
        data = _LINE_END.sub(b"\ndata: ", data)
    if not event_id:
        return b"data: %b\n\n" % data
    if not (event_id.isascii() and event_id.isprintable()):
        raise ValueError(f"an event cannot have the id {event_id!r}")
    return b"id: %b\ndata: %b\n\n" % (event_id.encode(), data)


def encode_retry(pause_s: float) -> bytes:
    """Tells clients how long to wait before they connect again."""
    return b"retry: %d\n" % round(pause_s * 1000)


def event_stream(
    write: Callable[[EventWriter], Awaitable[None]], *, heartbeats: DeadlineQueue, retry_s: float
) -> Response:
    """The response whose body is what ``write`` writes."""

    async def stream(send: SendChunk) -> None:
        await send(encode_retry(retry_s))
        await write(EventWriter(send, heartbeats))

    return Response(content_type=EVENT_STREAM, headers=EVENT_STREAM_HEADERS, stream=stream)


class EventSource(Protocol):
    """Where the events of one stream come from."""

    has_ended: bool
    #: Whether :meth:`take`, called again at once, may give another event.
    has_more: bool

    def take(self) -> bytes | None:
        """The next event, encoded; None if there is none now."""

    async def wait(self, on_news: Callable[[], bool]) -> None:
        """After :meth:`take` gave None: until it is worth another try. May be cancelled and called again.

        Whenever there may be something, ``on_news`` may be called first, from any task: as long as it says True, the wait
        goes on.
        """


class EventWriter:
    """Writes events to one client. A client that takes them too slowly is cut by the connection, ``write_timeout_s``.

    An event goes to many clients in one pass (:meth:`_send_news`), for which their tasks are not woken: that would take
    several times as long as sending.
    """

    def __init__(self, send: SendChunk, heartbeats: DeadlineQueue) -> None:
        """``heartbeats`` is for all streams of a server: its length is the longest pause without a sign of life."""
        self._send = send
        self._heartbeats = heartbeats
        self._pauses = trio.CancelScope()
        self._until = math.inf
        self._is_interrupted = False
        self._has_rest = False

    async def send(self, event: bytes) -> None:
        """Sends one encoded event; returns when the socket took it."""
        await self._send(event)

    async def send_all(self, source: EventSource, *, until: float) -> bool:
        """Sends the events of ``source`` as they come, to their end.

        False if it is broken off when trio's clock shows ``until``, at the first event or heartbeat from then on.
        """

        self._until = until

        def on_news() -> bool:
            return self._send_news(source)

        while not source.has_ended and trio.current_time() < until:
            # One scope for all pauses until something does not go out at once: entering one costs as much as a third of
            # sending an event. Nothing is sent once it is cancelled.
            with trio.CancelScope() as self._pauses:
                self._is_interrupted = False
                while not (source.has_ended or self._is_interrupted or trio.current_time() >= until):
                    event = source.take()
                    if event is not None:
                        await self._send(event)
                        continue
                    # In the queue only while it waits: a send must not be broken off.
                    self._heartbeats.add(self)
                    try:
                        await source.wait(on_news)
                    finally:
                        self._heartbeats.discard(self)
                    if self._has_rest:
                        break
            if self._has_rest:
                self._has_rest = False
                await self._send(b"")
        return source.has_ended

    def _send_news(self, source: EventSource) -> bool:
        """Sends what has come while the task of this stream waits; False if it must go on itself."""
        now = trio.current_time()
        if now >= self._until or self._has_rest:
            return False
        for count in range(_MOST_AT_ONCE):
            try:
                event = source.take()
            except Exception:  # which the task meets again, and deals with
                return False
            if event is None:
                if count:
                    self._heartbeats.renew(self, now)
                return count > 0
            self._has_rest = not self._send.send_now(event)
            if self._has_rest or source.has_ended:
                return False
            if not source.has_more:
                self._heartbeats.renew(self, now)
                return True
        return False

    def expire(self) -> None:
        """Nothing has come for too long. Called by the deadline queue, while the task of this stream waits.

        It goes on waiting if the socket takes the heartbeat at once.
        """
        if trio.current_time() < self._until and not self._has_rest:
            if self._send.send_now(HEARTBEAT):
                self._heartbeats.add(self)
                return
            self._has_rest = True
        self._is_interrupted = True
        self._pauses.cancel()
