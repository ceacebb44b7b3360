"""What is done with large values, by name: bytes and a few words (JSON) in, bytes and a few words out. Pure.

Reading 32 MB of JSON may take seconds, in which no other Python of the process runs, and a GB of memory. So this runs in a
process of its own (``large_helper.py``), with the functions that small values are given to in the server.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Final, TypeAlias

import orjson

from minwebhook import errors
from minwebhook.errors import ApiError
from minwebhook.http.codecs import decode_json
from minwebhook.http.messages import Headers
from minwebhook.jobs import outcomes
from minwebhook.jobs.model import JobState, Outcome
from minwebhook.runtimes.reports import Report
from minwebhook.schemas.validation import check_arguments
from minwebhook.webhooks import messages
from minwebhook.webhooks.arguments import Layout, post_arguments
from minwebhook.webhooks.query import Query
from minwebhook.webhooks.responses import Result, part_response, sync_response

#: What is said beside the bytes; texts of it may be halves of characters (``surrogateescape``).
Words: TypeAlias = dict[str, Any]
_Work: TypeAlias = Callable[[Words, bytes], tuple[Words, bytes]]


@dataclass(slots=True)
class EndedLog:
    """What a log that is closed says of how its job ended."""

    tail_text: str
    last: str
    is_silent: bool
    #: The streamed result; None if there were no chunks.
    stream: str | None

    @dataclass(slots=True)
    class _Chunks:
        whole: str | None
        ends: list[int] = field(default_factory=list)

        def text(self) -> str | None:
            return self.whole

    @property
    def chunks(self) -> EndedLog._Chunks:
        """The streamed result."""
        return self._Chunks(self.stream, [] if self.stream is None else [len(self.stream)])

    def close(self) -> None:
        """It is."""

    def tail(self) -> str:
        """The end of the output."""
        return self.tail_text

    def last_line(self) -> str:
        """The last line of output."""
        return self.last


def _arguments(words: Words, body: bytes) -> tuple[Words, bytes]:
    made = post_arguments(
        Headers([(name, value) for name, value in words["headers"]]),
        body,
        Query(words["query"]),
        layout=Layout(words["layout"]),
        include_headers=tuple(words["names"]),
    )
    return {"mask": made.mask.decode()}, made.text


def _check(words: Words, arguments: bytes) -> tuple[Words, bytes]:
    check_arguments(words["schema"], orjson.loads(arguments))
    return {}, b""


def _count(words: Words, body: bytes) -> tuple[Words, bytes]:
    most, count, waiting = words["most"], 0, [decode_json(body)]
    while waiting:
        value = waiting.pop()
        if isinstance(value, dict | list):
            count += len(value)
            if count > most:
                raise errors.PayloadTooLarge(f"The JSON has more than {most} values")
            waiting += value.values() if isinstance(value, dict) else value
    return {}, b""


def _outcome(words: Words, payload: bytes) -> tuple[Words, bytes]:
    report = Report(words["kind"].encode("latin-1"), payload, words["mask"].encode())
    made = outcomes.judge(report, EndedLog(**words["log"]), words["program"])
    return {
        "state": made.state.value,
        "labels": made.labels,
        "mask": made.mask.decode(),
        "ended_by": made.ended_by,
    }, made.result


def outcome_of(words: Words, result: bytes) -> Outcome:
    """What :func:`_outcome` has found."""
    state = JobState(words["state"])
    return Outcome(state, result, tuple(words["labels"]), mask=words["mask"].encode(), ended_by=words["ended_by"])


def _response(words: Words, text: bytes) -> tuple[Words, bytes]:
    result = Result(text, words["is_success"], words["mask"].encode())
    made = sync_response(result, failure_status=words["failure_status"], as_cbor=words["as_cbor"])
    return {"status": made.status, "content_type": made.content_type, "headers": made.headers}, made.body


def _part(words: Words, text: bytes) -> tuple[Words, bytes]:
    made = part_response(text, words["mask"].encode(), words["path"], as_cbor=words["as_cbor"])
    return {"content_type": made.content_type}, made.body


def _message(words: Words, message: bytes) -> tuple[Words, bytes]:
    is_text = words["subprotocol"] == messages.JSON
    try:
        asked = messages.parse(message.decode() if is_text else message, words["subprotocol"])
    except messages.BadMessage as error:
        return {"problem": error.detail, "id": error.id}, b""
    if not isinstance(asked, messages.Run):
        return {"problem": "this is too much to say for subscribing or cancelling", "id": asked.id}, b""
    found = {name: getattr(asked, name) for name in ("id", "path", "hash", "logs", "stream")}
    return {"run": found, "mask": asked.arguments.mask.decode()}, asked.arguments.text


_WORK: Final[dict[str, _Work]] = {
    "arguments": _arguments,
    "check": _check,
    "count": _count,
    "outcome": _outcome,
    "response": _response,
    "part": _part,
    "message": _message,
}


def work(name: str, words: Words, data: bytes) -> tuple[Words, bytes]:
    """Does it. What is wrong with the value (:class:`ApiError`) is said as ``error`` and ``detail``."""
    try:
        return _WORK[name](words, data)
    except ApiError as error:
        return {"error": type(error).__name__, "detail": error.detail}, b""


def raise_error(words: Words) -> None:
    """Raises what :func:`work` met, if it did."""
    if "error" in words:
        kind = getattr(errors, words["error"])
        assert issubclass(kind, ApiError)  # noqa: S101 - as work has it
        raise kind(words["detail"])
