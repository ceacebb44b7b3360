"""Following a job, as the contract has it: what clients may ask, the updates they get, and the ids of their events. Pure.

Offsets count what a client has: ``log_offset`` characters of the log plus one, ``stream_offset`` chunks of the streamed
result. Both are sent back as they came. A ``log_offset`` of 0 and one of 1 both mean the beginning.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any, Final, TypeAlias
from uuid import UUID

import orjson

from minwebhook.errors import BadRequest
from minwebhook.webhooks.query import Query

#: Members of an update.
Members: TypeAlias = dict[str, Any]

_LINE_ENDS_TO_BLANKS: Final = bytes.maketrans(b"\r\n", b"  ")
_EVENT_ID: Final = re.compile(r"(?P<job>[0-9a-f-]{36}):(?P<log>[0-9]{1,12}):(?P<stream>[0-9]{1,12}):(?P<told>[qre])")


@dataclass(frozen=True, slots=True)
class UpdateOptions:
    """What a client wants to know of a job, and what it knows already."""

    #: Whether the client knows that the job runs.
    running: bool | None = None
    #: Characters of the log that it has.
    log: int = 0
    #: Chunks of the streamed result that it has.
    stream: int = 0
    no_logs: bool = False
    only_result: bool = False
    #: Whether it wants to know what the job says of its own progress.
    get_progress: bool = False

    @classmethod
    def parse(cls, query: Query) -> UpdateOptions:
        """Raises :class:`BadRequest` naming the parameter."""
        for flag in ("fast", "is_flow"):  # nothing is polled, and which jobs are flows is known here
            query.flag(flag)
        query.number("poll_delay_ms", unit="milliseconds")
        return cls(
            running=None if query.get("running") is None else query.flag("running"),
            log=max((query.number("log_offset", unit="characters") or 0) - 1, 0),
            stream=query.number("stream_offset", unit="chunks") or 0,
            no_logs=query.flag("no_logs"),
            only_result=query.flag("only_result"),
            get_progress=query.flag("get_progress"),
        )

    @property
    def wants_log(self) -> bool:
        """Whether the log is part of the updates."""
        return not (self.no_logs or self.only_result)

    def running_member(self, *, is_running: bool, has_ended: bool) -> bool | None:
        """The member ``running``: that the job has started or left the queue, for those who did not know."""
        if self.only_result:
            return is_running if self.running is False else self.running
        if has_ended:
            return False
        return True if is_running and self.running is False else None


def update_text(members: Members) -> bytes:
    """An update as JSON on one line."""
    text = orjson.dumps(members)
    # JSON has line ends between its values only, where blanks do as well. A result is as its script wrote it.
    return text.translate(_LINE_ENDS_TO_BLANKS) if b"\n" in text or b"\r" in text else text


@dataclass(slots=True)  # a frozen one takes three times as long to make, for every event
class EventId:
    """How far the stream of a job is behind an event: what ``Last-Event-ID`` says when a client comes back."""

    job_id: UUID
    log: int = 0
    stream: int = 0
    #: Whether the client was told that the job runs.
    is_running_told: bool = False
    #: Whether it was the last event.
    is_end: bool = False

    def __str__(self) -> str:
        told = "e" if self.is_end else "r" if self.is_running_told else "q"
        return f"{self.job_id}:{self.log}:{self.stream}:{told}"

    @classmethod
    def parse(cls, text: str) -> EventId:
        """Raises :class:`BadRequest` for what is not the id of an event."""
        match = _EVENT_ID.fullmatch(text)
        try:
            job_id = UUID(match["job"]) if match else None
        except ValueError:
            job_id = None
        if match is None or job_id is None or str(job_id) != match["job"]:
            raise BadRequest(f"Last-Event-ID: send the id of an event of this stream, not {text[:60]!r}")
        told = match["told"]
        return cls(job_id, int(match["log"]), int(match["stream"]), told == "r", told == "e")
