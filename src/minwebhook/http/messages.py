"""Requests and responses as values (RFC 9110). Pure: bodies are read and written through callables given by the caller.

Header names are lower-case ``str`` on requests; values are ``str`` decoded as ISO-8859-1, so any legal field value
survives a round trip.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final, Protocol, TypeAlias

if TYPE_CHECKING:
    from minwebhook.http.websocket import WebSocket


class SendChunk(Protocol):
    """Sends a piece of a streamed body and returns when the socket took it (or raises what broke the connection)."""

    def __call__(self, data: bytes, /) -> Awaitable[None]:
        """Sends ``data``, behind what :meth:`send_now` has left."""

    def send_now(self, data: bytes, /) -> bool:
        """Sends what the socket takes at once. False if something is left, which goes out with the next call.

        For those who send in the place of the task that owns the stream, while that waits. Raises nothing: a connection
        that is broken shows itself at the next call.
        """


#: Speaks on a WebSocket; the connection closes when it returns.
ServeWebSocket: TypeAlias = "Callable[[WebSocket], Awaitable[None]]"

TEXT: Final = "text/plain; charset=utf-8"
JSON: Final = "application/json"


class Headers:
    """Field names (lower-case) and values in the order they came. Lookups give the first value."""

    __slots__ = ("_first", "_items")

    def __init__(self, items: list[tuple[str, str]]) -> None:
        self._items = items
        self._first: dict[str, str] | None = None

    def get(self, name: str) -> str | None:
        """The first value of the lower-case field ``name``, or None."""
        first = self._first
        if first is None:
            first = self._first = dict(reversed(self._items))
        return first.get(name)

    def get_all(self, name: str) -> list[str]:
        """Every value of the lower-case field ``name``, in order."""
        if self.get(name) is None:
            return []
        return [value for key, value in self._items if key == name]

    def items(self) -> list[tuple[str, str]]:
        """All fields in the order they came."""
        return self._items


class Body:
    """The unread request body. The connection gives the real one; this one is empty.

    Nothing is read from the peer (and no ``100 Continue`` is sent) before the first call.
    """

    async def read(self, max_bytes: int) -> bytes:
        """The whole body. Raises :class:`~minwebhook.errors.PayloadTooLarge` as soon as it is known to be larger."""
        return b""

    async def read_chunk(self) -> bytes:
        """The next piece as it came, at most 512 KiB; ``b""`` at the end."""
        return b""


@dataclass(slots=True)
class Request:
    """One request, its body still unread."""

    method: str
    #: The path of the target, still percent-encoded, always starting with ``/`` (or ``*`` for OPTIONS).
    path: str
    #: The query of the target without ``?``, still percent-encoded; "" when there is none.
    query: str
    headers: Headers
    #: Identifies the request in logs.
    request_id: str
    #: Who sent it, as far as trusted proxies tell; named as in :mod:`minwebhook.addresses`.
    client: str = ""
    #: ``https`` also if only a trusted proxy says so.
    scheme: str = "http"
    body: Body = field(default_factory=Body)
    #: Calls back once, from the loop, when the peer closes its side while the request is being handled; the
    #: returned function takes the wish back. The default is for requests without a socket (tests).
    on_disconnect: Callable[[Callable[[], None]], Callable[[], None]] = lambda callback: lambda: None
    is_http_1_0: bool = False
    #: The host that the client asked for, if a trusted proxy says another than the field ``Host``.
    forwarded_host: str | None = None
    #: How long it has waited for its turn since its head had come, in seconds.
    waited_s: float = 0.0


@dataclass(frozen=True, slots=True)
class Upgrade:
    """What follows a 101. Made by :func:`~minwebhook.http.handshake.accept_websocket`, which has checked the request."""

    serve: ServeWebSocket
    #: The one that client and server agreed on; None if the server has none.
    subprotocol: str | None


@dataclass(slots=True)
class Response:
    """One response. ``body`` is sent together with the head in one write; ``stream`` is for bodies made on the fly."""

    status: int = 200
    body: bytes = b""
    content_type: str | None = None
    headers: tuple[tuple[str, str], ...] = ()
    #: Writes the body piece by piece; returns at the end of the body. Excludes ``body``.
    stream: Callable[[SendChunk], Awaitable[None]] | None = None
    #: How many bytes the stream will write, if that is known; else they are sent with chunked coding.
    stream_bytes: int | None = None
    #: Makes the connection a WebSocket after the head, whose status is 101 then. Excludes ``body`` and ``stream``.
    upgrade: Upgrade | None = None

    @classmethod
    def text(cls, text: str, status: int = 200, headers: tuple[tuple[str, str], ...] = ()) -> Response:
        """A plain text answer."""
        return cls(status, text.encode(), TEXT, headers)

    @classmethod
    def json(cls, body: bytes, status: int = 200, headers: tuple[tuple[str, str], ...] = ()) -> Response:
        """A JSON answer from already encoded bytes."""
        return cls(status, body, JSON, headers)


#: Answers one request. Exceptions other than cancellation become 500 without details.
Handler = Callable[[Request], Awaitable[Response]]

#: Path parameters of a matched route.
Params = Mapping[str, str]
