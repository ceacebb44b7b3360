"""Where requests begin and end: a sans-IO cutter of the byte stream into heads and body pieces.

It alone decides framing. h11 is given complete heads only (``head.py``), so no second opinion about the length of a
body can creep in; the tests hold it against h11's body readers. However the bytes are split, the same heads, bodies and
refusals come out: each rule is judged at the first byte that breaks it. Pure.

Order of calls: :meth:`Framer.next_head` until it gives a head, :meth:`Framer.start_body` with its announced length,
:meth:`Framer.next_data` until ``b""``, and again. After a refusal, every call raises it again.
"""

from __future__ import annotations

from enum import Enum, auto
from typing import Final

from minwebhook.http import strict
from minwebhook.http.strict import Refusal

#: Largest piece of body given out at once, in bytes.
MAX_PIECE_BYTES: Final = 512 * 1024
#: Bytes of chunk extensions in one body. They mean nothing to us; megabytes of them are an attack.
MAX_EXTENSION_BYTES: Final = 16 * 1024
#: A longer head is not remembered: it would be kept for as long as its connection is open.
MAX_REMEMBERED_BYTES: Final = 2 * 1024


class _Chunk(Enum):
    """What comes next in a chunked body."""

    SIZE = auto()
    DATA = auto()
    DATA_END = auto()
    TRAILERS = auto()


class Framer:
    """Cuts the bytes of one connection. ``max_head_bytes`` and ``max_header_fields`` limit heads and trailers alike."""

    __slots__ = (
        "_buffer",
        "_checked",
        "_chunk",
        "_empty_line_allowed",
        "_extension_bytes",
        "_is_chunked",
        "_last_head",
        "_last_length",
        "_max_head_bytes",
        "_max_header_fields",
        "_position",
        "_refusal",
        "_remembers",
        "_trailer_bytes",
        "_trailer_count",
        "announced_bytes",
        "is_body_complete",
        "remaining_bytes",
    )

    def __init__(self, *, max_head_bytes: int, max_header_fields: int, remembers: bool = False) -> None:
        """``remembers``: a head that is the same as the one before is not checked again."""
        self._remembers = remembers
        self._last_head = b""
        self._last_length = 0
        self._max_head_bytes = max_head_bytes
        self._max_header_fields = max_header_fields
        self._buffer = b""
        self._position = 0  # of the first byte not given out
        self._checked = 0  # bytes of an incomplete head whose line ends are known to be good
        self._empty_line_allowed = True
        self._refusal: Refusal | None = None
        self._is_chunked = False
        self._chunk = _Chunk.SIZE
        self._extension_bytes = self._trailer_bytes = self._trailer_count = 0
        #: Body bytes the sender has announced so far: the Content-Length, or the sum of the chunk sizes seen.
        self.announced_bytes = 0
        #: Bytes still to come of a body with Content-Length, or of the current chunk.
        self.remaining_bytes = 0
        #: Whether the end of the current body has been seen.
        self.is_body_complete = True

    @property
    def has_bytes(self) -> bool:
        """Whether bytes are waiting that were not given out."""
        return self._position < len(self._buffer)

    @property
    def is_refused(self) -> bool:
        """Whether the stream broke a rule, so that no further request can be found in it."""
        return self._refusal is not None

    def feed(self, data: bytes) -> None:
        """Take bytes as they came from the peer."""
        if self._position == len(self._buffer):
            self._buffer = data
        else:
            self._buffer = self._buffer[self._position :] + data
        self._position = 0

    def take_rest(self) -> bytes:
        """Everything not given out, for a protocol that follows this one after an upgrade."""
        rest = self._buffer[self._position :]
        self._buffer, self._position = b"", 0
        return rest

    def next_head(self) -> tuple[bytes, int] | None:
        """A complete head up to and with its empty line, and the body length it announces; None if bytes are missing.

        A head that was remembered is the same object again.
        Raises :class:`Refusal` as soon as the head cannot become a good one.
        """
        if self._refusal is not None:
            raise self._refusal
        try:
            return self._next_head()
        except Refusal as refusal:
            self._refusal = refusal
            raise

    def _next_head(self) -> tuple[bytes, int] | None:
        buffer, start = self._buffer, self._position
        if buffer.startswith(b"\r\n", start) and self._empty_line_allowed:
            # Old clients send an extra CRLF after a body (RFC 9112 §2.2): one is forgiven, not a stream of them.
            self._empty_line_allowed = False
            self._position = start = start + 2
        if start == len(buffer):
            return None
        if self._last_head and buffer.startswith(self._last_head, start):
            self._position = start + len(self._last_head)
            self._checked = 0
            self._empty_line_allowed = True
            return self._last_head, self._last_length
        self._check_first_byte(buffer[start : start + 2])
        limit = start + self._max_head_bytes
        end = buffer.find(b"\r\n\r\n", max(start, start + self._checked - 3), limit)
        if end < 0:
            self._check_incomplete_head(start, limit)
            return None
        end += 4
        head = buffer[start:end]
        strict.check_line_ends(head)
        length = strict.check_head_bytes(head, self._max_header_fields)
        self._position = end
        self._checked = 0
        self._empty_line_allowed = True
        if self._remembers and len(head) <= MAX_REMEMBERED_BYTES:
            self._last_head, self._last_length = head, length
        return head, length

    def _check_first_byte(self, first: bytes) -> None:
        if first == b"\r" and self._empty_line_allowed:
            return
        if 0x21 <= first[0] <= 0x7E:
            return
        if first[0] == 0x16:
            raise Refusal(400, "This address speaks plain HTTP, not TLS")
        raise Refusal(400, "A request must start with a method")

    def _check_incomplete_head(self, start: int, limit: int) -> None:
        buffer = self._buffer
        end = min(len(buffer), limit)
        good = start + self._checked
        checkable = end - 1 if buffer[end - 1] == 0x0D else end
        strict.check_line_ends(buffer[good:checkable], buffer[max(start, good - 1) : good])
        self._checked = checkable - start
        if len(buffer) >= limit:
            if buffer.find(b"\r\n", start, limit) < 0:
                raise Refusal(414, f"The request line is longer than {self._max_head_bytes} bytes")
            raise Refusal(431, f"The request head is longer than {self._max_head_bytes} bytes")

    def start_body(self, length: int) -> None:
        """The body of the head just given has ``length`` bytes, or is :data:`~minwebhook.http.strict.CHUNKED`."""
        self._is_chunked = length == strict.CHUNKED
        self.is_body_complete = length == 0
        self.announced_bytes = self.remaining_bytes = max(length, 0)
        if self._is_chunked:
            self._chunk = _Chunk.SIZE
            self._extension_bytes = self._trailer_bytes = self._trailer_count = 0

    @property
    def bytes_to_come(self) -> int | None:
        """Bytes not given out until the body is complete; None for an unfinished chunked body, which does not say."""
        return self.remaining_bytes if self.is_body_complete or not self._is_chunked else None

    def next_data(self) -> bytes | None:
        """A piece of body of 1 to 512 KiB, ``b""`` at its end, None if bytes are missing.

        Raises :class:`Refusal` for broken chunk framing or trailers, after all data before the fault.
        """
        if self.is_body_complete:
            return b""
        if self._refusal is not None:
            raise self._refusal
        if not self._is_chunked:
            piece = self._take(MAX_PIECE_BYTES)
            self.is_body_complete = self.remaining_bytes == 0
            return piece or None
        pieces: list[bytes] = []
        room = MAX_PIECE_BYTES
        try:
            while room and self._chunk_step():
                if self.is_body_complete:
                    return b"".join(pieces)
                if self._chunk is _Chunk.DATA and (piece := self._take(room)):
                    pieces.append(piece)
                    room -= len(piece)
        except Refusal as refusal:
            self._refusal = refusal
            if not pieces:
                raise
        return b"".join(pieces) or None

    def _take(self, most: int) -> bytes:
        start = self._position
        piece = self._buffer[start : start + min(most, self.remaining_bytes)]
        self._position = start + len(piece)
        self.remaining_bytes -= len(piece)
        return piece

    def _chunk_step(self) -> bool:
        """Pass one element of chunked coding that is not data; False if bytes are missing."""
        if self._chunk is _Chunk.DATA:
            if self.remaining_bytes:
                return self.has_bytes
            self._chunk = _Chunk.DATA_END
        if self._chunk is _Chunk.DATA_END:
            return self._pass_data_end()
        if self._chunk is _Chunk.SIZE:
            return self._pass_chunk_size()
        return self._pass_trailer()

    def _pass_data_end(self) -> bool:
        ending = self._buffer[self._position : self._position + 2]
        if not b"\r\n".startswith(ending):
            raise Refusal(400, "The data of a chunk must end with CRLF")
        if len(ending) < 2:
            return False
        self._position += 2
        self._chunk = _Chunk.SIZE
        return True

    def _pass_chunk_size(self) -> bool:
        line = self._next_line(strict.MAX_CHUNK_LINE_BYTES, Refusal(400, "Malformed chunk size"))
        if line is None:
            return False
        size = strict.chunk_size(line)
        if b";" in line:
            self._extension_bytes += len(line)
            if self._extension_bytes > MAX_EXTENSION_BYTES:
                raise Refusal(400, "Too many chunk extensions")
        self.announced_bytes += size
        self.remaining_bytes = size
        self._chunk = _Chunk.DATA if size else _Chunk.TRAILERS
        return True

    def _pass_trailer(self) -> bool:
        too_long = Refusal(431, "The trailers are too long")
        line = self._next_line(self._max_head_bytes - self._trailer_bytes, too_long)
        if line is None:
            return False
        if line == b"\r\n":
            self.is_body_complete = True
            return True
        self._trailer_bytes += len(line)
        self._trailer_count += 1
        if self._trailer_count > self._max_header_fields:
            raise too_long
        strict.check_trailer(line)
        return True

    def _next_line(self, limit: int, too_long: Refusal) -> bytes | None:
        """The next line with its CRLF, None if it is incomplete. Refuses bare CR and LF, and over ``limit`` bytes."""
        buffer, start = self._buffer, self._position
        end = buffer.find(b"\n", start, start + limit) + 1
        line = buffer[start:end] if end else buffer[start : start + limit]
        cr = line.find(b"\r")
        if (end and cr != len(line) - 2) or (not end and 0 <= cr < len(line) - 1):
            raise Refusal(400, "Only CRLF may end a line of chunked coding")
        if not end:
            if len(line) >= limit:
                raise too_long
            return None
        self._position = end
        return line
