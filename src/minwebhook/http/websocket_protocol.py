"""The server's side of RFC 6455 after the handshake, without I/O: bytes → messages, pings, an end; messages → frames. Pure.

wsproto parses frames and checks what one frame can break: masks, reserved bits, opcodes, close codes, UTF-8. Plain frames
are recognized without it (websocket_frames.py). This module joins fragments within a limit, answers the end, and knows what
may still be said. However the bytes are split, the same messages come out. Each connection gets one
:class:`WebSocketProtocol`; extensions are never used.
"""

from __future__ import annotations

import io
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Final, TypeAlias

from wsproto.connection import Connection, ConnectionState, ConnectionType
from wsproto.events import BytesMessage, CloseConnection, TextMessage
from wsproto.events import Ping as PingEvent
from wsproto.events import Pong as PongEvent
from wsproto.frame_protocol import CloseReason

from minwebhook.http.websocket_frames import FrameRecognizer, whole_frame

#: A longer message goes out in fragments of so many bytes or characters: between them, pings can be answered.
FRAGMENT_LENGTH: Final = 64 * 1024

#: Close codes (RFC 6455 §7.4.1, IANA registry).
NORMAL: Final = 1000
GOING_AWAY: Final = 1001
PROTOCOL_ERROR: Final = 1002
#: Only ever reported: the client gave no code.
NO_CODE: Final = 1005
#: Only ever reported: the connection ended without a close frame.
ABNORMAL: Final = 1006
NOT_UTF_8: Final = 1007
POLICY_VIOLATION: Final = 1008
TOO_BIG: Final = 1009
INTERNAL_ERROR: Final = 1011
TRY_AGAIN_LATER: Final = 1013

#: What an endpoint may close with. 1010 is for clients, 1015 like 1005 and 1006 never on the wire.
_SENDABLE: Final = frozenset({1000, 1001, 1002, 1003, 1007, 1008, 1009, 1011, 1012, 1013, 1014})
_SENDABLE_PRIVATE: Final = range(3000, 5000)

_NOT_UTF_8_REASON: Final = "text must be UTF-8"


@dataclass(frozen=True, slots=True)
class Ping:
    """The client wants a pong with this payload, of at most 125 bytes."""

    payload: bytes


@dataclass(frozen=True, slots=True)
class Ended:
    """The last event: nothing more is received.

    ``code`` and ``reason`` are those of the client's close frame, or those that a client who broke a rule is answered
    with (``is_violation``; it may go on sending), or :data:`ABNORMAL`.
    """

    code: int
    reason: str
    #: The close frame to be sent now; empty if none is, or can be, due.
    answer: bytes = b""
    is_violation: bool = False


#: What one frame holds of a message, and whether it is the last.
Piece: TypeAlias = tuple[str | bytes, bool]

#: None: something was received that completes nothing. It is told so that the work for it can be counted.
Event: TypeAlias = str | bytes | Ping | Ended | None


class WebSocketProtocol:
    """The state of one WebSocket. ``max_message_bytes`` limits what a message of the client has in UTF-8."""

    __slots__ = (
        "_bytes",
        "_connection",
        "_has_ended",
        "_is_cut",
        "_max_message_bytes",
        "_recognizer",
        "_size",
        "_text",
        "is_closing",
    )

    def __init__(self, *, max_message_bytes: int, use_recognizer: bool = True) -> None:
        """Without the recognizer, wsproto sees every frame."""
        self._connection = Connection(ConnectionType.SERVER)
        self._recognizer = FrameRecognizer(max_message_bytes=max_message_bytes) if use_recognizer else None
        #: Whether a message that goes out in fragments has begun and not ended.
        self._is_cut = False
        self._max_message_bytes = max_message_bytes
        # The fragments so far, joined: a list of single characters would take fifty times their bytes.
        self._forget_fragments()
        self._size = 0
        self._has_ended = False
        #: Whether our close frame was made: it must be the last frame that is sent.
        self.is_closing = False

    def events(self, data: bytes) -> Iterator[Event]:
        """What ``data`` brings, found step by step; ``b""`` says that the client sends nothing more.

        Take all of it before the next call. After our own close frame only :class:`Ended` still comes.
        """
        if self._has_ended:
            return
        if not data:
            yield self._end(Ended(ABNORMAL, ""))
            return
        if self._recognizer is None:
            yield from self._parse(data)
            return
        for piece in self._recognizer.pieces(data):
            if not isinstance(piece, memoryview):
                yield None if self.is_closing else piece
                continue
            yield from self._parse(bytes(piece))
            if self._has_ended:
                return

    def _parse(self, data: bytes) -> Iterator[Event]:
        """What wsproto says. The last one may be :class:`Ended`."""
        self._connection.receive_data(data)
        for event in self._connection.events():
            match event:
                case CloseConnection():
                    yield self._client_ended(event)
                    return
                case TextMessage() | BytesMessage() if not self.is_closing:
                    joined = self._join(event)
                    yield joined
                    if isinstance(joined, Ended):
                        return
                case PingEvent() if not self.is_closing:
                    yield Ping(bytes(event.payload))
                case _:
                    yield None

    def frame(self, piece: str | bytes, *, is_last: bool) -> bytes:
        """One frame with a piece of a message. Illegal while :attr:`is_closing`."""
        if is_last and not self._is_cut:
            return whole_frame(piece)
        self._is_cut = not is_last
        if isinstance(piece, str):
            return self._connection.send(TextMessage(piece, message_finished=is_last))
        return self._connection.send(BytesMessage(piece, message_finished=is_last))

    def ping(self) -> bytes:
        """A ping frame. Illegal while :attr:`is_closing`."""
        return self._connection.send(PingEvent())

    def pong(self, payload: bytes) -> bytes:
        """The answer to a ping. Illegal while :attr:`is_closing`."""
        return self._connection.send(PongEvent(payload))

    def close(self, code: int, reason: str) -> bytes:
        """The close frame; of ``reason`` what fits in 123 bytes. Illegal while :attr:`is_closing`.

        Raises ValueError for a code that must not be sent.
        """
        if code not in _SENDABLE and code not in _SENDABLE_PRIVATE:
            raise ValueError(f"{code} is not a close code that a server sends")
        frame = self._connection.send(CloseConnection(code, reason))
        self.is_closing = True
        return frame

    def _join(self, event: TextMessage | BytesMessage) -> Event:
        message: str | bytes = event.data if isinstance(event, TextMessage) else bytes(event.data)
        size = _byte_length(message)
        is_first, self._size = self._size == 0, self._size + size
        if self._size > self._max_message_bytes:
            return self._refuse(TOO_BIG, f"a message may have at most {self._max_message_bytes} bytes")
        if not (is_first and event.message_finished):
            if isinstance(message, str):
                self._text.write(message)
            else:
                self._bytes += message
            if not event.message_finished:
                return None
            message = self._text.getvalue() if isinstance(message, str) else bytes(self._bytes)
            self._forget_fragments()
        self._size = 0
        return message

    def _forget_fragments(self) -> None:
        self._text = io.StringIO(newline="")
        self._bytes = bytearray()

    def _client_ended(self, event: CloseConnection) -> Ended:
        """wsproto tells of the client's close frame and of its own verdict in the same words; the state differs."""
        if self._connection.state in (ConnectionState.OPEN, ConnectionState.LOCAL_CLOSING):
            is_text = event.code == CloseReason.INVALID_FRAME_PAYLOAD_DATA
            return self._refuse(int(event.code), _NOT_UTF_8_REASON if is_text else event.reason or "")
        answer = b""
        if not self.is_closing:
            self.is_closing = True
            answer = self._connection.send(event.response())
        return self._end(Ended(int(event.code), event.reason or "", answer))

    def _refuse(self, code: int, reason: str) -> Ended:
        answer = b"" if self.is_closing else self.close(code, reason)
        return self._end(Ended(code, reason, answer, is_violation=True))

    def _end(self, ended: Ended) -> Ended:
        self._has_ended = True
        self._forget_fragments()
        return ended


def packed(messages: Iterable[str | bytes]) -> Iterator[list[Piece]]:
    """Messages cut and put together for :meth:`WebSocketProtocol.frame`: pieces to be sent at once, in turn.

    A message has pieces of at most :data:`FRAGMENT_LENGTH`, an empty one has one; so many short messages, or one piece of
    a long one, are sent at once. Raises UnicodeEncodeError, before the first piece, for text that UTF-8 cannot say (lone
    surrogates).
    """
    length = 0
    for message in messages:
        length += len(message)
        if isinstance(message, str) and not message.isascii():
            message.encode()
    if length <= FRAGMENT_LENGTH:
        return iter([[(message, True) for message in messages]])
    return _packed(messages)


def _packed(messages: Iterable[str | bytes]) -> Iterator[list[Piece]]:
    parcel: list[Piece] = []
    length = 0
    for message in messages:
        for piece in _pieces(message):
            if parcel and length + len(piece[0]) > FRAGMENT_LENGTH:
                yield parcel
                parcel, length = [], 0
            parcel.append(piece)
            length += len(piece[0])
    if parcel:
        yield parcel


def _pieces(message: str | bytes) -> Iterator[Piece]:
    length = len(message)
    for start in range(0, max(length, 1), FRAGMENT_LENGTH):
        end = start + FRAGMENT_LENGTH
        yield message[start:end], end >= length


def _byte_length(data: str | bytes) -> int:
    """In UTF-8."""
    return len(data) if isinstance(data, bytes) or data.isascii() else len(data.encode())
