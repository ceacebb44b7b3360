"""The log of a running job: stdout and stderr as they came, capped, blank lines dropped. Pure.

Lines that start with ``WM_STREAM: `` are chunks of a streamed result, not log; a newline inside a chunk is written
as ``\\n``.
"""

from __future__ import annotations

import re
from typing import Final

_BLANK_LINES: Final = re.compile(rb"\n{2,}")
_LINES: Final = re.compile(rb"[^\n]*\n|[^\n]+")
_STREAM_MARK: Final = b"WM_STREAM: "
_ANSI: Final = re.compile(r"\x1b\[[0-?]*[ -/]*[@-~]")
#: Characters of the log that the error of a failed program quotes.
TAIL_CHARACTERS: Final = 600


class JobLog:
    """Collects the output of one job."""

    __slots__ = ("_banner_bytes", "_buffer", "_max_bytes")

    def __init__(self, banner: str, max_bytes: int) -> None:
        """Starts with the runtime's ``banner`` line; holds at most ``max_bytes`` of output."""
        self._buffer = bytearray(banner.encode())
        self._banner_bytes = len(self._buffer)
        self._max_bytes = max_bytes

    def write(self, data: bytes) -> bool:
        """Adds a piece. False when the limit is passed: what fits is kept, the rest is not."""
        buffer = self._buffer
        if b"\n\n" in data:
            data = _BLANK_LINES.sub(b"\n", data)
        if data[:1] == b"\n" and buffer[-1:] == b"\n":
            data = data[1:]
        room = self._max_bytes + self._banner_bytes - len(buffer)
        buffer += data[: max(room, 0)]
        return len(data) <= room

    def take_stream(self) -> str | None:
        """Removes the chunks of a streamed result and gives them joined; None if there are none."""
        if _STREAM_MARK not in self._buffer:
            return None
        chunks: list[str] = []
        kept: list[bytes] = []
        for line in _LINES.findall(self._buffer):  # splitlines would also cut at carriage returns
            if line.startswith(_STREAM_MARK):
                text = line[len(_STREAM_MARK) :].decode("utf-8", "replace")
                chunks.append(text.removesuffix("\n").replace("\\n", "\n"))
            else:
                kept.append(line)
        self._buffer = bytearray(b"".join(kept))
        return "".join(chunks) if chunks else None

    @property
    def is_empty(self) -> bool:
        """Whether there is nothing but the banner."""
        return len(self._buffer) == self._banner_bytes

    def text(self) -> str:
        """The whole log; "" if nothing was written. Bytes that are not UTF-8 are replaced."""
        if self.is_empty:
            return ""
        return self._buffer.decode("utf-8", "replace")

    def last_line(self) -> str:
        """The last line of output, without surrounding blanks; "" if there was none."""
        output = self._buffer[self._banner_bytes :].rstrip()
        return output[output.rfind(b"\n") + 1 :].decode("utf-8", "replace").strip()

    def tail(self) -> str:
        """The end of the output without terminal colors, for error messages."""
        # A colour code or a character may be cut at the start; four bytes a character and some are enough.
        end = self._buffer[max(self._banner_bytes, len(self._buffer) - 8 * TAIL_CHARACTERS) :]
        return _ANSI.sub("", end.decode("utf-8", "replace")).strip()[-TAIL_CHARACTERS:]
