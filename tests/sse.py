"""A reader of event streams written from the standard alone (WHATWG HTML, 9.2.6): slow, plain, and nothing of ours in it."""

from __future__ import annotations

import codecs
from dataclasses import dataclass, field


@dataclass(frozen=True)
class Event:
    """One dispatched event."""

    data: str
    id: str
    type: str = "message"


@dataclass
class Reader:
    """Takes bytes as they come, gives events. ``last_id`` is what a client sends as ``Last-Event-ID``."""

    last_id: str = ""
    retry_ms: int | None = None
    comments: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        self._decoder = codecs.getincrementaldecoder("utf-8")("replace")
        self._line = ""
        self._is_first = True
        self._after_cr = False
        self._data: list[str] = []
        self._type = ""
        self._id = self.last_id

    def feed(self, data: bytes) -> list[Event]:
        """The events that are complete with these bytes."""
        events: list[Event] = []
        for character in self._decoder.decode(data):
            if self._is_first:
                self._is_first = False
                if character == "\ufeff":
                    continue
            if character == "\n" and self._after_cr:
                self._after_cr = False
                continue
            self._after_cr = character == "\r"
            if character in "\r\n":
                line, self._line = self._line, ""
                events += self._take_line(line)
            else:
                self._line += character
        return events

    def _take_line(self, line: str) -> list[Event]:
        if not line:
            return self._dispatch()
        if line.startswith(":"):
            self.comments.append(line[1:])
            return []
        name, _, value = line.partition(":")
        value = value.removeprefix(" ")
        if name == "data":
            self._data.append(value)
        elif name == "event":
            self._type = value
        elif name == "id" and "\0" not in value:
            self._id = value
        elif name == "retry" and value.isascii() and value.isdigit():
            self.retry_ms = int(value)
        return []

    def _dispatch(self) -> list[Event]:
        self.last_id = self._id
        data, kind = self._data, self._type
        self._data, self._type = [], ""
        return [Event("\n".join(data), self._id, kind or "message")] if data else []
