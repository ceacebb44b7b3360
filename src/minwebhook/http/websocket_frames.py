"""Plain WebSocket frames without a parser: whole unfragmented messages, masked and unmasked at once. Pure.

Nearly all frames of clients have the same plain form: a whole message, in text or binary, of at most 8 KiB, that has
come in one piece. wsproto spends some 40 microseconds on each; this takes a tenth of that. Whatever is not exactly of that
form, or breaks a rule, is left to wsproto, bytes untouched and in their order. The tests hold both against each other: same
messages, same refusals. The setting ``http_parser = h11`` switches this off.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Final

_TEXT: Final = 0x81
_BINARY: Final = 0x82
_FINAL: Final = 0x80
_MASKED: Final = 0x80
_OPCODE: Final = 0x0F
_CONTROL: Final = 0x08
#: Length fields (RFC 6455 §5.2): what fits into seven bits, and marks of two and eight more bytes.
_TWO_BYTES: Final = 126
_EIGHT_BYTES: Final = 127
_MAX_TWO_BYTES: Final = 0xFFFF
_MASK_BYTES: Final = 4
_MAX_HEAD_BYTES: Final = 14
#: A final frame with text or bytes, without reserved bits, masked, and not of eight bytes of length.
_PLAIN_HEAD: Final = re.compile(rb"[\x81\x82](?:[\x80-\xfd]|\xfe..)....", re.DOTALL)
_PLAIN_HEAD_START: Final = re.compile(rb"[\x81\x82](?:[\x80-\xfd].{,3}|\xfe.{,5})?", re.DOTALL)
_MAX_PLAIN_HEAD_BYTES: Final = 8
#: Longer ones wsproto unmasks as fast.
_MAX_PLAIN_BYTES: Final = 8 * 1024


class FrameRecognizer:
    """Cuts what a client sends into plain messages and bytes for wsproto. One per connection."""

    __slots__ = ("_head", "_is_open", "_max_bytes", "_missing", "_start")

    def __init__(self, *, max_message_bytes: int) -> None:
        """Longer messages are left to wsproto, which refuses them."""
        self._max_bytes = min(max_message_bytes, _MAX_PLAIN_BYTES)
        #: The start of a head that may be plain, held back: nothing can be told from it yet.
        self._start = b""
        #: The start of a head that wsproto has already.
        self._head = b""
        #: Bytes that are still to come of the frame whose beginning wsproto has.
        self._missing = 0
        #: Whether wsproto has fragments of a message that has not ended.
        self._is_open = False

    def pieces(self, data: bytes) -> Iterator[str | bytes | memoryview]:
        """What ``data`` brings, step by step: messages, and as a memoryview what wsproto must look at, in their order."""
        if self._start:
            data, self._start = self._start + data, b""
        at, end = 0, len(data)
        while at < end:
            if not (self._missing or self._head or self._is_open):
                plain = self._plain(data, at)
                if plain is not None:
                    message, at = plain
                    yield message
                    continue
                if end - at < _MAX_PLAIN_HEAD_BYTES and _PLAIN_HEAD_START.fullmatch(data, at):
                    self._start = data[at:]
                    return
            after = self._pass(data, at)
            yield memoryview(data)[at:after]
            at = after

    def _plain(self, data: bytes, at: int) -> tuple[str | bytes, int] | None:
        """The message of the plain frame that begins at ``at``, and where it ends; None if there is none, or not all of it."""
        head = _PLAIN_HEAD.match(data, at)
        if head is None:
            return None
        begin = head.end()
        length = data[at + 1] & ~_MASKED
        if length == _TWO_BYTES:
            length = data[at + 2] << 8 | data[at + 3]
            if length < _TWO_BYTES:
                return None
        after = begin + length
        if after > len(data) or length > self._max_bytes:
            return None
        payload = _unmask(data[begin - _MASK_BYTES : begin], data[begin:after])
        if data[at] == _BINARY:
            return payload, after
        try:
            return payload.decode(), after
        except UnicodeDecodeError:
            return None  # wsproto says what follows from that

    def _pass(self, data: bytes, at: int) -> int:
        """Follows a frame that is left to wsproto, whole or the next bytes of it; where they end in ``data``."""
        if not self._missing:
            known = len(self._head)
            head = self._head + data[at : at + _MAX_HEAD_BYTES - known]
            lengths = _lengths(head)
            if lengths is None:
                self._head = head
                return len(data)
            self._head = b""
            head_length, self._missing = lengths
            if not head[0] & _CONTROL:
                self._is_open = not head[0] & _FINAL
            at += head_length - known
        after = min(at + self._missing, len(data))
        self._missing -= after - at
        return after


def _lengths(head: bytes) -> tuple[int, int] | None:
    """How long the head is, and what follows it; None if that needs more of it. It may break rules: wsproto will say so."""
    if len(head) < 2:
        return None
    size = 2 + (_MASK_BYTES if head[1] & _MASKED else 0)
    length = head[1] & ~_MASKED
    if length >= _TWO_BYTES:
        more = 2 if length == _TWO_BYTES else 8
        size += more
        length = int.from_bytes(head[2 : 2 + more])
    return (size, length) if len(head) >= size else None


def _unmask(mask: bytes, payload: bytes) -> bytes:
    """XOR with the repeated mask, as whole numbers: one operation for all bytes."""
    length = len(payload)
    masks = mask * (length // _MASK_BYTES + 1)
    return (int.from_bytes(payload) ^ int.from_bytes(masks[:length])).to_bytes(length)


def whole_frame(message: str | bytes) -> bytes:
    """The frame of a server with a whole message."""
    if isinstance(message, str):
        first, payload = _TEXT, message.encode()
    else:
        first, payload = _BINARY, message
    length = len(payload)
    if length < _TWO_BYTES:
        return bytes((first, length)) + payload
    if length <= _MAX_TWO_BYTES:
        return b"%c\x7e%b%b" % (first, length.to_bytes(2), payload)
    return b"%c\x7f%b%b" % (first, length.to_bytes(8), payload)
