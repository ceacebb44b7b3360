"""What a running job writes: its log, and the chunks of a streamed result, told apart as the bytes come. Pure.

The log is stdout and stderr as they came, capped, blank lines dropped. Lines that start with ``WM_STREAM: `` are chunks of
a streamed result and never part of the log; a newline inside a chunk is written as ``\\n``. Both are kept as valid UTF-8,
bytes that are not are replaced, so that a position in them means the same while the job runs and when it is stored.
Secrets that the job was given are hidden (``masking.py``).
"""

from __future__ import annotations

import codecs
import re
from array import array
from bisect import bisect_right
from typing import Final

from minwebhook.jobs.masking import Mask

_BLANK_LINES: Final = re.compile(rb"\n{2,}")
_NEWLINE: Final = ord("\n")
_STREAM_MARK: Final = b"WM_STREAM: "
_ANSI: Final = re.compile(r"\x1b\[[0-?]*[ -/]*[@-~]")
#: Characters of the log that the error of a failed program quotes.
TAIL_CHARACTERS: Final = 600


class JobLog:
    """Collects the output of one job."""

    __slots__ = (
        "_banner_bytes",
        "_buffer",
        "_cut",
        "_is_closed",
        "_is_line_start",
        "_line",
        "_mask",
        "_output_start",
        "_room",
        "chunks",
    )

    def __init__(self, banner: str, max_bytes: int) -> None:
        """Starts with the runtime's ``banner`` line; takes at most ``max_bytes`` of output, chunks included."""
        self._buffer = bytearray(banner, "utf-8")
        self._banner_bytes = len(self._buffer)
        #: Where the output of the present run begins.
        self._output_start = self._banner_bytes
        self._room = max_bytes
        self._is_line_start = True
        #: The beginning of a line that is a chunk, or may become one.
        self._line = bytearray()
        #: The beginning of a character of the log.
        self._cut = b""
        self._is_closed = False
        self._mask: Mask | None = None
        self.chunks = Chunks()

    def hide(self, secret: str) -> None:
        """From now on ``secret`` is not shown, neither in the log nor in chunks."""
        if self._mask is None:
            self._mask = Mask()
        self._mask.add(secret)

    def hidden_in(self, text: bytes) -> bytes:
        """``text`` without the secrets that are hidden here."""
        return text if self._mask is None else self._mask.hide(text)

    def write(self, data: bytes) -> bool:
        """Adds a piece. False when the limit is passed: what fits is kept, the rest is not."""
        if self._is_closed:
            return True
        return self._take(data if self._mask is None else self._mask.feed(data))

    def _take(self, data: bytes) -> bool:
        if b"\n\n" in data:
            data = _BLANK_LINES.sub(b"\n", data)
        if self._is_line_start and data[:1] == b"\n":
            data = data[1:]
        fits = len(data) <= self._room
        if not fits:
            data = data[: self._room]
        self._room -= len(data)
        start = 0
        while start < len(data):
            if self._line:
                end = data.find(b"\n", start) + 1 or len(data)
                self._line += data[start:end]
                self._settle_line()
            else:
                end = self._find_chunk(data, start)
                if end > start:
                    self._append(data[start:end])
                elif end < len(data):
                    end = data.find(b"\n", start) + 1 or len(data)
                    self._line += data[start:end]
                    self._settle_line()
            start = end
        if data:
            self._is_line_start = data[-1] == _NEWLINE
        return fits

    def _find_chunk(self, data: bytes, start: int) -> int:
        """Where the next line begins that is a chunk, or may become one; the end of ``data`` if there is none."""
        at = data.find(_STREAM_MARK, start)
        while at >= 0 and not (data[at - 1] == _NEWLINE if at else self._is_line_start):
            at = data.find(_STREAM_MARK, at + 1)
        if at >= 0:
            return at
        last_line = data.rfind(b"\n") + 1
        if (last_line or self._is_line_start) and _STREAM_MARK.startswith(data[last_line:]):
            return last_line
        return len(data)

    def _settle_line(self) -> None:
        """What is known of the line so far: a whole chunk, log after all, or not enough yet."""
        line = self._line
        if not line.startswith(_STREAM_MARK[: len(line)]):
            self._line = bytearray()
            self._append(bytes(line))
        elif line[-1] == _NEWLINE:
            self._line = bytearray()
            self.chunks.add(line[len(_STREAM_MARK) : -1])

    def _append(self, data: bytes) -> None:
        """Adds to the log; the beginning of a character waits for its end."""
        if self._cut or not data.isascii():
            data = self._cut + data
            text, used = codecs.utf_8_decode(data, "replace", False)
            self._cut = data[used:]
            data = text.encode()
        self._buffer += data

    def close(self) -> None:
        """Nothing more counts: what is incomplete is as complete as it gets. May be called again."""
        if self._is_closed:
            return
        if self._mask is not None and (rest := self._mask.flush()):
            self._take(rest)
        self._is_closed = True
        if not self._line and not self._cut:
            return
        if self._line.startswith(_STREAM_MARK):
            self.chunks.add(self._line[len(_STREAM_MARK) :])
        else:
            self._append(bytes(self._line))
        self._line = bytearray()
        self._buffer += self._cut.decode("utf-8", "replace").encode()
        self._cut = b""

    def reopen(self, line: str) -> None:
        """Goes on with another run, behind a line that says so."""
        self.close()
        self._is_closed = False
        if not self._buffer.endswith(b"\n"):
            self._buffer += b"\n"
        self._buffer += line.encode() + b"\n"
        self._output_start = len(self._buffer)
        self._is_line_start = True

    @property
    def is_silent(self) -> bool:
        """Whether the present run has written nothing to the log."""
        return len(self._buffer) == self._output_start

    @property
    def is_empty(self) -> bool:
        """Whether there is nothing but the banner."""
        return len(self._buffer) == self._banner_bytes

    @property
    def extent(self) -> tuple[int, int]:
        """How much there is, log and chunks: as long as it is the same, nothing is new."""
        return len(self._buffer), len(self.chunks.ends)

    def text(self) -> str:
        """The whole log; "" if nothing was written."""
        return "" if self.is_empty else self._buffer.decode()

    def log_piece(self, start: int, size: int) -> bytes:
        """Bytes of :meth:`text`, from ``start`` on, at most ``size``; b"" if there are none yet."""
        return b"" if self.is_empty else bytes(self._buffer[start : start + size])

    def chunks_from(self, first: int, size: int) -> tuple[bytes, int]:
        """See :meth:`Chunks.read`."""
        return self.chunks.read(first, size)

    def last_line(self) -> str:
        """The last line of output, without surrounding blanks; "" if there was none."""
        output = self._buffer[self._output_start :].rstrip()
        return output[output.rfind(b"\n") + 1 :].decode().strip()

    def tail(self) -> str:
        """The end of the output without terminal colors, for error messages."""
        # A colour code or a character may be cut at the start; four bytes a character and some are enough.
        end = self._buffer[max(self._output_start, len(self._buffer) - 8 * TAIL_CHARACTERS) :]
        return _ANSI.sub("", end.decode("utf-8", "replace")).strip()[-TAIL_CHARACTERS:]


class Chunks:
    """The chunks of a streamed result: their text, joined, and where each ends in it."""

    __slots__ = ("ends", "joined")

    def __init__(self) -> None:
        self.joined = bytearray()
        #: Positions in ``joined``, in bytes.
        self.ends = array("I")

    def add(self, line: bytes | bytearray) -> None:
        """A chunk as a script prints it."""
        text = line.replace(b"\\n", b"\n")
        self.joined += text if text.isascii() else text.decode("utf-8", "replace").encode()
        self.ends.append(len(self.joined))

    def text(self) -> str | None:
        """All of them; None if there was none, not even an empty one."""
        return self.joined.decode() if self.ends else None

    def read(self, first: int, size: int) -> tuple[bytes, int]:
        """The text of the chunks from number ``first`` on, and the number of the one after them.

        As many as fit into ``size`` bytes, at least one; b"" and ``first`` if there are none yet.
        """
        ends = self.ends
        if first >= len(ends):
            return b"", first
        start = ends[first - 1] if first else 0
        after = max(bisect_right(ends, start + size, first), first + 1)
        return bytes(self.joined[start : ends[after - 1]]), after
