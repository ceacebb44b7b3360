"""From what a child reported to how its job ended: results, error objects, labels. Pure.

Error objects follow Windmill: a failed job's result is ``{"error": {...}}`` with at least ``message`` and ``name``.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import replace
from typing import Any, Final, Protocol

import orjson

from minwebhook.child import wire
from minwebhook.http.codecs import json_text, with_members
from minwebhook.jobs.model import Cancellation, JobState, Outcome
from minwebhook.runtimes.reports import Broken, Report, Vanished

#: How programs say that a limit stopped them, in their last words.
_LAST_WORDS: Final = {"fork: Resource temporarily unavailable": "pids", "Cannot allocate memory": "oom"}

#: Labels of one job; of more, the first in their order count.
MAX_LABELS: Final = 1000


class Chunks(Protocol):
    """A streamed result."""

    def text(self) -> str | None:
        """All of it; None if there was none."""

    @property
    def ends(self) -> Sequence[int]:
        """Where each chunk ends."""


class Output(Protocol):
    """What a job wrote, as far as that says how it ended."""

    def close(self) -> None:
        """Nothing more counts."""

    def tail(self) -> str:
        """The end of it, for error messages."""

    def last_line(self) -> str:
        """The last line of it."""

    @property
    def is_silent(self) -> bool:
        """Whether nothing was written to the log."""

    @property
    def chunks(self) -> Chunks:
        """The streamed result."""


def failure(error: Any, cancellation: Cancellation | None = None, *, ended_by: str = "") -> Outcome:
    """A failed job with this error object."""
    return _failure(json_text(error), cancellation, ended_by=ended_by)


def _failure(
    error: bytes, cancellation: Cancellation | None = None, mask: bytes = b"", *, ended_by: str = ""
) -> Outcome:
    """The same from JSON text, which is kept as it is."""
    mask = b'{"error":%b}' % mask if mask else b""
    result = b'{"error":%b}' % error
    return Outcome(JobState.FAILURE, result, cancellation=cancellation, mask=mask, ended_by=ended_by)


def execution_error(text: str, cancellation: Cancellation | None = None, *, ended_by: str = "") -> Outcome:
    """A failure that is not the script's own: a limit, a missing process."""
    error = {"message": f"execution error:\n{text}", "name": "ExecutionErr"}
    return failure(error, cancellation, ended_by=ended_by)


def exit_error(program: str, code: int, log: Output) -> Outcome:
    """A program that ended without a result."""
    tail = log.tail()
    message = f'exit code for "{program}": {code}, last log lines:\n{tail}'
    error = {"message": message, "name": "ExecutionErr", "exit_code": code}
    return failure(error, ended_by=next((limit for words, limit in _LAST_WORDS.items() if words in tail), ""))


def signal_error(program: str, number: int, log: Output) -> Outcome:
    """A program that a signal ended."""
    message = f'"{program}" was ended by signal {number}, last log lines:\n{log.tail()}'
    error = {"message": message, "name": "ExecutionErr", "exit_code": 128 + number, "signal": number}
    return failure(error, ended_by=f"signal {number}")


def canceled(cancellation: Cancellation) -> Outcome:
    """A job that someone cancelled, before or while it ran."""
    error = {
        "message": f"Job canceled: {cancellation.reason} by {cancellation.by}",
        "name": "Canceled",
        "reason": cancellation.reason,
        "canceler": cancellation.by,
    }
    return Outcome(JobState.CANCELED, orjson.dumps({"error": error}), cancellation=cancellation)


def timed_out(limit_s: float, *, is_own_limit: bool) -> Outcome:
    """A job that ran longer than its own limit or the instance's."""
    whose = "job-specific" if is_own_limit else "instance-wide job"
    return execution_error(
        f"job process terminated due to timeout after exceeding {whose} duration limit",
        Cancellation("timeout", f"duration > {limit_s:g}"),
        ended_by="timeout",
    )


def out_of_cpu(limit_s: float) -> Outcome:
    """A job whose processes together used more processor time than they may."""
    return execution_error(f"job process terminated due to more than {limit_s:g} s of processor time", ended_by="cpu")


def judge(end: Report | Vanished | Broken, log: Output, program: str, *, log_limit: str = "max_log_bytes") -> Outcome:
    """The outcome of a run that nobody ended from outside. Closes the log. ``log_limit`` names its limit."""
    log.close()
    if isinstance(end, Broken):
        if end.limit == "log":
            return execution_error(f"job process terminated due to a log above {log_limit}", ended_by="log")
        text = f"job process terminated due to a broken answer: {end.reason}"
        return execution_error(text, ended_by=end.limit)
    if isinstance(end, Vanished):
        if end.code is not None:
            return exit_error(program, end.code, log)
        if end.signal is not None:
            return signal_error(program, end.signal, log)
        return execution_error("job process was lost together with its sandbox")
    if end.kind == wire.RESULT:
        return _result(end.payload, log, _mask(end.mask))
    if end.kind == wire.ERROR:
        return _error(end.payload, _mask(end.mask))
    return _exit(end.payload, log, program)


def with_limit(outcome: Outcome, hit: Collection[str], counted: Collection[str]) -> Outcome:
    """A failure with what the kernel said about its limits in the place of what the job's last words let guess.

    ``hit``: ``oom`` and ``pids``, if the kernel said so; ``counted``: what it was asked about (``memory``, ``processes``).
    """
    if "oom" in hit:
        if outcome.ended_by.startswith("signal"):
            text = "job process terminated due to more memory of all its processes and files than it may have"
            return execution_error(text, ended_by="oom")
        return replace(outcome, ended_by="oom")
    if outcome.ended_by in ("", "pids") and "processes" in counted:
        return replace(outcome, ended_by="pids" if "pids" in hit else "")
    return outcome


def error_name(outcome: Outcome) -> str:
    """The ``name`` in the error of a failure; "" if it has none."""
    value = orjson.loads(outcome.result)
    error = value.get("error") if isinstance(value, dict) else None
    name = error.get("name") if isinstance(error, dict) else None
    return name if isinstance(name, str) else ""


def _mask(text: bytes) -> bytes:
    """A mask that is JSON, whatever a process sent."""
    try:
        return text if text and orjson.loads(text) is not None else b""
    except orjson.JSONDecodeError:
        return b""


def _result(payload: bytes, log: Output, mask: bytes = b"") -> Outcome:
    """The script returned. Its JSON is checked, because a hostile process may write anything, and kept as it is."""
    try:
        value = orjson.loads(payload)
    except orjson.JSONDecodeError as error:
        return execution_error(f"the result is not valid JSON: {error}")
    stream = log.chunks.text()
    if stream is not None:
        if value is None:
            return Outcome(JobState.SUCCESS, orjson.dumps(stream))
        if isinstance(value, dict):
            payload = with_members(payload, value, {"wm_stream": orjson.dumps(stream)})
    if not isinstance(value, dict):
        return Outcome(JobState.SUCCESS, payload, mask=mask)
    names = _labels(value)
    message = value.get("wm_failure")
    if isinstance(message, str):
        added = {"error": orjson.dumps({"name": "ManualFailure", "message": message})}
        return Outcome(JobState.FAILURE, with_members(payload, value, added), names, mask=mask)
    return Outcome(JobState.SUCCESS, payload, names, mask=mask)


def _labels(value: dict[str, Any]) -> tuple[str, ...]:
    labels = value.get("wm_labels")
    if isinstance(labels, list) and all(isinstance(label, str) for label in labels):
        return tuple(sorted(set(labels))[:MAX_LABELS])
    return ()


def labels_of(result: bytes) -> tuple[str, ...]:
    """The labels in a result."""
    value = orjson.loads(result) if b'"wm_labels"' in result else None
    return _labels(value) if isinstance(value, dict) else ()


def repeated(result: bytes, mask: bytes) -> Outcome:
    """A success with the result of an earlier one, and so with its labels."""
    value = orjson.loads(result)
    return Outcome(JobState.SUCCESS, result, _labels(value) if isinstance(value, dict) else (), mask=mask)


def _error(payload: bytes, mask: bytes) -> Outcome:
    try:
        error = orjson.loads(payload)
    except orjson.JSONDecodeError as broken:
        return execution_error(f"the error is not valid JSON: {broken}")
    if not isinstance(error, dict):
        return execution_error("the error is not a JSON object")
    return _failure(payload, mask=mask, ended_by=_limit_behind(error))


def _limit_behind(error: dict[str, Any]) -> str:
    """The limit that made a script raise this, as far as exceptions tell."""
    name, message, stack = error.get("name"), str(error.get("message")), str(error.get("stack"))
    if name == "MemoryError":
        return "oom"
    if name == "RuntimeError" and message == "can't start new thread":
        return "pids"
    # os.fork, pty.fork, _posixsubprocess.fork_exec; other calls for which a resource is not there just now have no fork
    if name == "BlockingIOError" and "fork" in stack.rpartition("File ")[2]:
        return "pids"
    return ""


def _exit(payload: bytes, log: Output, program: str) -> Outcome:
    """A program ended: the rules for ``result.json``, ``result.out`` and the last line."""
    try:
        report = orjson.loads(payload)
        code, signal = int(report["code"]), report.get("signal")
        result_json, result_text = report.get("result_json"), report.get("result_text")
        program = str(report.get("program") or program)
    except (orjson.JSONDecodeError, KeyError, TypeError, ValueError, AttributeError):
        return execution_error("the process ended with an unreadable report")
    if isinstance(result_json, str):
        try:
            orjson.loads(result_json)
        except orjson.JSONDecodeError as error:
            return execution_error(f"result.json is not valid JSON: {error}")
        text = result_json.strip().encode()
        return _result(text, log) if code == 0 else _failure(text)
    if isinstance(signal, int):
        return signal_error(program, signal, log)
    if code != 0:
        return exit_error(program, code, log)
    if isinstance(result_text, str):
        return _result(orjson.dumps(result_text), log)
    # A script that wrote nothing but chunks has no last line, and its result is the stream.
    has_streamed = log.is_silent and log.chunks.ends
    return _result(b"null" if has_streamed else orjson.dumps(log.last_line()), log)
