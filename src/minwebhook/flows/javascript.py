"""Evaluates expressions: plain ones here, others in processes that can do nothing else and are killed when they take too long.

A few such processes (``helper.py``) are started when they are needed, evaluate one expression at a time each, and end when
they have had nothing to do for a while. Whatever an expression does, it is the only one that fails by it. Where all
processes are busy the next expression waits; its time begins when it has one.
"""

from __future__ import annotations

import importlib.util
import json
import logging
from collections.abc import Awaitable, Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any, Final

import orjson
import trio

from minwebhook.child import values
from minwebhook.errors import ApiError
from minwebhook.flows.expressions import (
    NOT_PLAIN,
    ExpressionError,
    is_truthy,
    mentioned_names,
    mentioned_steps,
    parse_call,
    resolve,
    to_program,
)
from minwebhook.sandbox.computing import Computers, Lost, NotStarted, packed_filter
from minwebhook.settings import FlowSettings

#: What an answer has besides the value: a letter, or the text of an error.
_ANSWER_ROOM: Final = 64 * 1024

logger = logging.getLogger(__name__)

#: Looks something up for an expression: ``variable``, ``resource`` or ``flow_user_state``, and its path or key. Gives a JSON
#: value; an :class:`ApiError` or :class:`ExpressionError` is thrown in the expression.
LookUp = Callable[[str, str], Awaitable[Any]]


class Evaluator:
    """The processes, and what is asked of them."""

    def __init__(self, settings: FlowSettings, *, max_value_bytes: int, insecure: bool) -> None:
        """``max_value_bytes``: of one value as JSON. ``insecure``: go on where the kernel has no system call filter."""
        self._limit_s = settings.expression_timeout_s
        self._computers = Computers(
            "minwebhook.flows.helper",
            {
                "engine": str(_engine_directory()),
                "memory_bytes": settings.expression_memory_bytes,
                "value_bytes": max_value_bytes,
                "filter": packed_filter(insecure=insecure),
            },
            count=settings.expression_processes,
            max_answer_bytes=max_value_bytes + _ANSWER_ROOM,
        )

    @property
    def process_count(self) -> int:
        """Processes that run now."""
        return self._computers.process_count

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Ends processes that have nothing to do, until cancelled; then all."""
        await self._computers.run(task_status=task_status)

    async def evaluate(
        self,
        expression: str,
        context: Mapping[str, Any],
        *,
        is_predicate: bool = False,
        look_up: LookUp | None = None,
    ) -> Any:
        """The value as JSON has it; of a predicate True or False. Raises :class:`ExpressionError`.

        ``context`` is by name what the expression may use, as JSON values; only what the expression mentions is asked for.
        Plain expressions are answered at once, without a checkpoint. Cancelling ends the process that evaluates.
        """
        value = resolve(expression, context)
        if value is NOT_PLAIN and look_up is not None and (call := parse_call(expression.strip())) is not None:
            found, value = await _ask(look_up, call.function, call.argument)
            if not found:
                raise ExpressionError("Error", value)
        if value is not NOT_PLAIN:
            return is_truthy(value) if is_predicate else value
        program = to_program(expression, is_predicate=is_predicate)
        parts = [program.expression, program.body, "p" if program.is_predicate else ""]
        try:
            request = [*(part.encode() for part in parts), _to_json(_mentioned(expression, context))]
        except UnicodeEncodeError:
            raise ExpressionError("SyntaxError", "the expression holds half a surrogate pair") from None
        return _read_answer(await self._ask(request, look_up))

    async def _ask(self, request: list[bytes], look_up: LookUp | None) -> bytes:
        try:
            return await self._computers.ask(
                request, timeout_s=self._limit_s, on_question=partial(_answer_question, look_up=look_up)
            )
        except trio.TooSlowError:
            raise ExpressionError(
                "TimeoutError", f"not done within {self._limit_s:g} s (expression_timeout_s)"
            ) from None
        except Lost:
            raise ExpressionError("InternalError", "the expression brought its process to an end") from None
        except NotStarted as error:
            logger.error("expressions cannot be evaluated: %s", error)
            raise ExpressionError("InternalError", f"expressions cannot be evaluated: {error}") from error


async def _answer_question(question: bytes, look_up: LookUp | None) -> bytes:
    try:
        function, argument = orjson.loads(question)
    except (ValueError, TypeError):
        raise Lost("the process does not keep to its protocol") from None
    if look_up is None:
        return orjson.dumps([False, f"{function}() cannot be used here"])
    return _to_json(await _ask(look_up, str(function), str(argument)))


async def _ask(look_up: LookUp, function: str, argument: str) -> tuple[bool, Any]:
    """Whether it was found, and what; else the reason."""
    try:
        return True, await look_up(function, argument)
    except ApiError as error:
        return False, error.text
    except ExpressionError as error:
        return False, error.message


def _mentioned(expression: str, context: Mapping[str, Any]) -> dict[str, Any]:
    """What of the context the expression may reach: a large value that it does not mention costs nothing."""
    names = mentioned_names(expression)
    given = {name: context[name] for name in context if names is None or name in names}
    if (results := given.get("results")) is not None:
        steps = mentioned_steps(expression)
        given["results"] = {step: results[step] for step in (results if steps is None else steps) if step in results}
    return given


def _to_json(value: Any) -> bytes:
    try:
        return orjson.dumps(value)
    except TypeError:  # integers, nesting and halves of surrogate pairs that it refuses
        return json.dumps(value, separators=(",", ":")).encode()


def _read_answer(answer: bytes) -> Any:
    kind, text = answer[:1], answer[1:]
    try:
        value = _from_json(text)
    except (ValueError, RecursionError):
        raise ExpressionError("RangeError", "the value is nested too deeply") from None
    if kind == b"v":
        return value
    if kind == b"e" and isinstance(value, list) and len(value) == 2:
        raise ExpressionError(str(value[0]), str(value[1]))
    raise ExpressionError("InternalError", "the expression brought its process to an end")


def _from_json(text: bytes) -> Any:
    """The value; halves of surrogate pairs, which are no text, become question marks."""
    try:
        return orjson.loads(text)
    except ValueError:
        return orjson.loads(values.dumps(values.loads(text)).encode("utf-8", "replace"))


def _engine_directory() -> Path:
    """Where the module of quickjs-ng is. Only its compiled part is used: the package around it starts a thread."""
    found = importlib.util.find_spec("_quickjs")
    if found is None or found.origin is None:
        raise ModuleNotFoundError("the package quickjs-ng is not installed")
    return Path(found.origin).resolve().parent
