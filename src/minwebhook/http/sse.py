"""Server-sent events: what goes on the wire, and writing it to one client (WHATWG HTML, "Server-sent events").

The functions are pure. Whatever the data holds, one event in is one event out: each of its lines, however it ends, goes
out as a ``data`` field of its own, and a reader puts them together with LF between them.
"""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable
from typing import Final

import trio

from minwebhook.http.messages import Response, SendChunk

EVENT_STREAM: Final = "text/event-stream"
#: Nobody on the way may keep events, or keep them back: ``X-Accel-Buffering`` is for nginx.
EVENT_STREAM_HEADERS: Final = (("Cache-Control", "no-store"), ("X-Accel-Buffering", "no"))
#: A comment: clients ignore it, and whoever is on the way sees that the connection lives. Like ``retry`` it is a line
#: without an empty one behind it, which some readers would take for an event without data.
HEARTBEAT: Final = b":\n"

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


def event_stream(write: Callable[[EventWriter], Awaitable[None]], *, heartbeat_s: float, retry_s: float) -> Response:
    """The response whose body is what ``write`` writes."""

    async def stream(send: SendChunk) -> None:
        await send(encode_retry(retry_s))
        await write(EventWriter(send, heartbeat_s))

    return Response(content_type=EVENT_STREAM, headers=EVENT_STREAM_HEADERS, stream=stream)


class EventWriter:
    """Writes events to one client. A client that takes them too slowly is cut by the connection, ``write_timeout_s``."""

    __slots__ = ("_heartbeat_s", "_send")

    def __init__(self, send: SendChunk, heartbeat_s: float) -> None:
        self._send = send
        self._heartbeat_s = heartbeat_s

    async def send(self, data: bytes, *, event_id: str = "") -> None:
        """Sends one event; returns when the socket took it."""
        await self._send(encode_event(data, event_id=event_id))

    async def send_retry(self, pause_s: float) -> None:
        """Tells the client how long to wait before it connects again."""
        await self._send(encode_retry(pause_s))

    async def pause(self, wait: Callable[[], Awaitable[None]], *, until: float) -> None:
        """Waits with ``wait``, until trio's clock shows ``until`` at most.

        A heartbeat goes out whenever it takes another ``heartbeat_s``; ``wait`` is cancelled and called again then.
        """
        while True:
            with trio.CancelScope(deadline=min(trio.current_time() + self._heartbeat_s, until)):
                return await wait()
            if trio.current_time() >= until:
                return None
            await self._send(HEARTBEAT)
