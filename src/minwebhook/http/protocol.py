"""The server's side of HTTP/1.1 without I/O: received bytes → heads and body pieces; responses → bytes to send.

One :class:`ServerProtocol` per connection. It knows what may come next on the wire; it does not know sockets, deadlines
or handlers. Cycle: :meth:`~ServerProtocol.next_head`, any number of :meth:`~ServerProtocol.next_data`, one response
(:meth:`~ServerProtocol.respond`, or :meth:`~ServerProtocol.start_stream` with its pieces and end), then
:meth:`~ServerProtocol.start_next_cycle` while :meth:`~ServerProtocol.reusable`. Pure.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from http import HTTPStatus
from typing import Final

from minwebhook.http.framing import MAX_REMEMBERED_BYTES, Framer
from minwebhook.http.head import RequestHead, parse_head
from minwebhook.http.messages import Response
from minwebhook.http.strict import Refusal

CONTINUE: Final = b"HTTP/1.1 100 Continue\r\n\r\n"
LAST_CHUNK: Final = b"0\r\n\r\n"

#: What this server changes to. A 426 must say so (RFC 9110 §15.5.22).
_UPGRADE: Final = b"Upgrade: websocket\r\nConnection: Upgrade\r\n"
_UPGRADE_AND_CLOSE: Final = b"Upgrade: websocket\r\nConnection: Upgrade, close\r\n"
_SWITCHING: Final = b"HTTP/1.1 101 Switching Protocols\r\n" + _UPGRADE

_STATUS_LINES: Final = {status.value: f"HTTP/1.1 {status.value} {status.phrase}\r\n".encode() for status in HTTPStatus}
#: Field lines that are safe to send, if there are as many as there are fields: nothing in one ends it (RFC 9110 §5.5).
_FIELD_LINES: Final = re.compile(r"(?:[!#$%&'*+.^_`|~0-9A-Za-z-]+: [\t\x20-\x7e\x80-\xff]*\r\n)*")
#: Fields that describe the connection or the framing. They are decided here; those in a Response are left out, except
#: that ``Connection: close`` is obeyed.
_OWN_FIELDS: Final = frozenset(
    {"connection", "content-length", "date", "keep-alive", "trailer", "transfer-encoding", "upgrade"}
)
#: The fields of answers that are given again and again, as they are sent: with few fields, or when there is too much to do.
_RENDERED: Final[dict[tuple[tuple[tuple[str, str], ...], str], bytes]] = {}
_MAX_RENDERED: Final = 256
_REPEATED: Final = frozenset({429, 503})
#: Statuses whose answers have no body (RFC 9110 §6.4.1).
_BODILESS: Final = frozenset({204, 304})


class ServerProtocol:
    """State of one connection. ``date`` gives the current value of the Date field."""

    __slots__ = (
        "_date",
        "_framer",
        "_is_closing",
        "_is_eof",
        "_known_head",
        "_known_raw",
        "_stream_left",
        "_streams_chunks",
        "_use_recognizer",
        "head",
        "needs_continue",
    )

    def __init__(
        self, *, max_head_bytes: int, max_header_fields: int, date: Callable[[], bytes], use_recognizer: bool = True
    ) -> None:
        self._use_recognizer = use_recognizer
        self._framer = Framer(
            max_head_bytes=max_head_bytes, max_header_fields=max_header_fields, remembers=use_recognizer
        )
        # Callers send the same head again and again: what it means is found out once.
        self._known_raw = b""
        self._known_head: RequestHead | None = None
        self._date = date
        self._is_eof = False
        self._is_closing = False
        self._streams_chunks = False
        self._stream_left: int | None = None
        #: The head of the current request; None between requests.
        self.head: RequestHead | None = None
        #: Whether the client still waits for :data:`CONTINUE` before it sends the body.
        self.needs_continue = False

    def receive_data(self, data: bytes) -> None:
        """Take bytes from the peer; ``b""`` says that it will send no more."""
        if data:
            self._framer.feed(data)
        else:
            self._is_eof = True

    def next_head(self) -> RequestHead | None:
        """The next request's head; None if bytes are missing or (see :attr:`is_closed`) none will come.

        Raises :class:`Refusal`, also for a connection that ends within a head.
        """
        framer = self._framer
        found = framer.next_head()
        if found is None and not (self._is_eof and framer.has_bytes):
            return None
        self._is_closing = True  # if anything is wrong with it
        if found is None:
            raise Refusal(400, "The request head is incomplete")
        raw, length = found
        head = self._known_head
        if head is None or raw is not self._known_raw:
            head = parse_head(raw, length, use_recognizer=self._use_recognizer)
            is_kept = self._use_recognizer and len(raw) <= MAX_REMEMBERED_BYTES
            self._known_raw, self._known_head = (raw, head) if is_kept else (b"", None)
        framer.start_body(head.body_length)
        self.head = head
        self.needs_continue = head.expects_continue
        self._is_closing = not head.keep_alive
        return head

    def next_data(self) -> bytes | None:
        """The next piece of the body, at most 512 KiB; ``b""`` at its end; None if bytes are missing.

        Raises :class:`Refusal` for broken framing, also for a connection that ends within the body.
        """
        data = self._framer.next_data()
        if data is None and self._is_eof:
            self._is_closing = True
            raise Refusal(400, "The request body is incomplete")
        if data is not None:
            self.needs_continue = False
        return data

    @property
    def is_closed(self) -> bool:
        """Whether the peer closed its side and all its bytes have been used."""
        return self._is_eof and not self._framer.has_bytes

    @property
    def has_bytes(self) -> bool:
        """Whether bytes of a head, a body or a further request are waiting."""
        return self._framer.has_bytes

    @property
    def announced_bytes(self) -> int:
        """Size of the body as far as the client has announced it."""
        return self._framer.announced_bytes

    @property
    def is_body_complete(self) -> bool:
        """Whether the current request's body has been taken to its end."""
        return self._framer.is_body_complete

    def skip_body(self) -> int | None:
        """Throw away what has arrived of an unread body; gives the bytes still to come, None if that is unknown."""
        framer = self._framer
        while not framer.is_body_complete and framer.next_data() is not None:
            pass
        return framer.bytes_to_come

    @property
    def is_closing(self) -> bool:
        """Whether the response says, or said, ``Connection: close``."""
        return self._is_closing or self._framer.is_refused

    def close_after_response(self) -> None:
        """The next response says ``Connection: close``, and no further request is taken."""
        self._is_closing = True

    def respond(self, response: Response) -> bytes:
        """Head and body of a complete response, to be sent as they are.

        The head of a 101 is the last thing that is HTTP; :meth:`trailing_data` is what the client has sent behind it.
        HEAD gets the head that GET would get. Raises ValueError for a response that must not go out: an impossible
        status, or a field that would break the line.
        """
        body = response.body
        status = response.status
        if status in _BODILESS:
            return self._render_head(response, b"")
        if response.upgrade is not None:
            return self._switch(response)
        head = self._render_head(response, b"Content-Length: %d\r\n" % len(body))
        if self.head is not None and self.head.method == "HEAD":
            return head
        return head + body

    def start_stream(self, response: Response) -> bytes:
        """The head of a response whose body follows in pieces.

        Framed by its length if that is known; else chunked, or until the end of the connection for 1.0.
        """
        length = response.stream_bytes
        self._streams_chunks = length is None and (self.head is None or not self.head.is_http_1_0)
        self._stream_left = length
        framing = b"Transfer-Encoding: chunked\r\n" if length is None else b"Content-Length: %d\r\n" % length
        if self.is_stream_bodiless(response):
            self._streams_chunks, self._stream_left = False, None
            return self._render_head(response, b"" if response.status in _BODILESS else framing)
        if length is None and not self._streams_chunks:
            self._is_closing = True
            return self._render_head(response, b"")
        return self._render_head(response, framing)

    def is_stream_bodiless(self, response: Response) -> bool:
        """Whether this streamed response must not have a body at all: an answer to HEAD, 204 or 304."""
        return response.status in _BODILESS or (self.head is not None and self.head.method == "HEAD")

    def stream_piece(self, data: bytes) -> bytes:
        """One piece of a streamed body as it goes on the wire; nothing for an empty piece, which would end the body.

        Raises ValueError for more bytes than were announced.
        """
        if self._stream_left is not None:
            self._stream_left -= len(data)
            if self._stream_left < 0:
                raise ValueError("a streamed body is longer than announced")
        if not data or not self._streams_chunks:
            return data
        return b"%x\r\n%b\r\n" % (len(data), data)

    def end_stream(self) -> bytes:
        """What ends a streamed body. Raises ValueError if it is shorter than announced."""
        if self._stream_left:
            raise ValueError("a streamed body is shorter than announced")
        return LAST_CHUNK if self._streams_chunks else b""

    def reusable(self) -> bool:
        """Whether another request may follow on this connection."""
        return not self.is_closing and self._framer.is_body_complete

    def start_next_cycle(self) -> bool:
        """Forget the answered request. False, and nothing has happened, if no other may follow (:meth:`reusable`)."""
        if not self.reusable():
            return False
        self.head = None
        self.needs_continue = False
        return True

    def trailing_data(self) -> bytes:
        """Bytes after the current request, for the protocol that follows an upgrade. They are gone from here."""
        return self._framer.take_rest()

    def _switch(self, response: Response) -> bytes:
        """The head of a 101: what comes after it on this connection is not HTTP, neither way."""
        self._is_closing = True
        fields = _checked([f"{name}: {value}\r\n" for name, value in response.headers])
        return _SWITCHING + fields.encode("latin-1") + b"\r\n"

    def _render_head(self, response: Response, framing: bytes) -> bytes:
        status = response.status
        line = _STATUS_LINES.get(status)
        if line is None or status < 200:
            if not 200 <= status <= 999:  # any three digits that are final (RFC 9110 §15)
                raise ValueError(f"impossible response status {status}")
            line = b"HTTP/1.1 %d \r\n" % status
        headers = response.headers
        if response.content_type is not None and (len(headers) <= 2 or status in _REPEATED):
            known = headers, response.content_type
            fields = _RENDERED.get(known)
            if fields is None:
                fields = self._render_fields(response)
                if not any(name.lower() in _OWN_FIELDS for name, _ in headers):
                    if len(_RENDERED) >= _MAX_RENDERED:
                        _RENDERED.clear()
                    _RENDERED[known] = fields
        else:
            fields = self._render_fields(response)
        connection = b"Connection: close\r\n" if self.is_closing else b""
        if status == HTTPStatus.UPGRADE_REQUIRED:
            connection = _UPGRADE_AND_CLOSE if self.is_closing else _UPGRADE
        return b"%bDate: %b\r\n%b%b%b\r\n" % (line, self._date(), fields, framing, connection)

    def _render_fields(self, response: Response) -> bytes:
        """Its own fields. Raises ValueError for one that must not be sent."""
        status = response.status
        lines: list[str] = []
        for name, value in response.headers:
            key = name.lower()
            if key in _OWN_FIELDS:
                if key == "connection" and value.strip().lower() == "close":
                    self._is_closing = True
                continue
            lines.append(f"{name}: {value}\r\n")
        content_type = response.content_type
        if content_type is None and response.body and status not in _BODILESS:
            content_type = "application/octet-stream"
        if content_type is not None:
            lines.append(f"Content-Type: {content_type}\r\n")
        return _checked(lines).encode("latin-1")


def _checked(lines: list[str]) -> str:
    """Field lines together; ValueError for one that must not be sent. Looked at together: nearly always all are good."""
    fields = "".join(lines)
    if not _FIELD_LINES.fullmatch(fields) or fields.count("\n") != len(lines):
        bad = next(line for line in lines if not _FIELD_LINES.fullmatch(line) or line.count("\n") != 1)
        raise ValueError(f"response field {bad.partition(':')[0]!r} cannot be sent")
    return fields
