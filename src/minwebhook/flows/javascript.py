"""Evaluates expressions: plain ones here, others in processes that can do nothing else and are killed when they take too long.

A few such processes (``helper.py``) are started when they are needed, evaluate one expression at a time each, and end when
they have had nothing to do for a while. Whatever an expression does, it is the only one that fails by it. Where all
processes are busy the next expression waits; its time begins when it has one.
"""

from __future__ import annotations

import base64
import importlib.util
import json
import logging
import os
import platform
import socket
import struct
import subprocess
import sys
from collections.abc import Awaitable, Callable, Mapping
from pathlib import Path
from typing import Any, Final

import orjson
import trio

import minwebhook
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
from minwebhook.sandbox import seccomp
from minwebhook.settings import FlowSettings

_START: Final = (
    "import sys; sys.path.insert(0, sys.argv[1]); from minwebhook.flows.helper import main; "
    "main(int(sys.argv[2]), int(sys.argv[3]))"
)
_MODULE_PATH: Final = str(Path(minwebhook.__file__).resolve().parent.parent)
_START_TIMEOUT_S: Final = 20.0
_IDLE_S: Final = 60.0
_LENGTH: Final = struct.Struct("!I")
_READ_BYTES: Final = 256 * 1024
#: What an answer has besides the value: a letter, or the text of an error.
_ANSWER_ROOM: Final = 64 * 1024

logger = logging.getLogger(__name__)

#: Looks something up for an expression: ``variable``, ``resource`` or ``flow_user_state``, and its path or key. Gives a JSON
#: value; an :class:`ApiError` or :class:`ExpressionError` is thrown in the expression.
LookUp = Callable[[str, str], Awaitable[Any]]


class _Lost(Exception):
    """The process ended, or says what it must not."""


class Evaluator:
    """The processes, and what is asked of them."""

    def __init__(self, settings: FlowSettings, *, max_value_bytes: int, insecure: bool) -> None:
        """``max_value_bytes``: of one value as JSON. ``insecure``: go on where the kernel has no system call filter."""
        self._limit_s = settings.expression_timeout_s
        self._settings = {
            "engine": str(_engine_directory()),
            "memory_bytes": settings.expression_memory_bytes,
            "value_bytes": max_value_bytes,
            "filter": _filter(insecure),
        }
        self._places = trio.Semaphore(settings.expression_processes)
        self._idle: list[_Helper] = []  # the one used last at the end
        self._running: set[_Helper] = set()
        self._nursery: trio.Nursery | None = None

    @property
    def process_count(self) -> int:
        """Processes that run now."""
        return len(self._running)

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Ends processes that have nothing to do, until cancelled; then all."""
        async with trio.open_nursery() as self._nursery:
            try:
                task_status.started()
                while True:
                    await trio.sleep(_IDLE_S / 2)
                    while self._idle and self._idle[0].idle_since < trio.current_time() - _IDLE_S:
                        self._end(self._idle.pop(0))
            finally:
                for helper in list(self._running):
                    self._end(helper)
                self._idle.clear()

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
        async with self._places:
            answer = await self._evaluate(request, look_up)
        return _read_answer(answer)

    async def _evaluate(self, request: list[bytes], look_up: LookUp | None) -> bytes:
        helper = await self._take()
        try:
            with trio.fail_after(self._limit_s):
                answer = await helper.evaluate(request, look_up)
        except trio.TooSlowError:
            self._end(helper)
            raise ExpressionError(
                "TimeoutError", f"not done within {self._limit_s:g} s (expression_timeout_s)"
            ) from None
        except _Lost:
            self._end(helper)
            raise ExpressionError("InternalError", "the expression brought its process to an end") from None
        except BaseException:
            self._end(helper)
            raise
        if answer[:1].isupper():
            self._end(helper)
        else:
            helper.idle_since = trio.current_time()
            self._idle.append(helper)
        return answer

    async def _take(self) -> _Helper:
        while self._idle:
            helper = self._idle.pop()
            if helper.is_there():
                return helper
            self._end(helper)
        try:
            helper = _Helper()
        except OSError as error:
            raise _no_process(error) from error
        self._running.add(helper)
        try:
            with trio.fail_after(_START_TIMEOUT_S):
                await helper.start(self._settings)
        except BaseException as error:
            self._end(helper)
            if isinstance(error, _Lost | trio.TooSlowError):
                raise _no_process(error) from error
            raise
        return helper

    def _end(self, helper: _Helper) -> None:
        if helper in self._running:
            self._running.discard(helper)
            helper.kill()
            if self._nursery is not None:
                self._nursery.start_soon(helper.wait)


def _no_process(error: Exception) -> ExpressionError:
    logger.error("expressions cannot be evaluated: %s", error)
    return ExpressionError("InternalError", f"expressions cannot be evaluated: {error}")


class _Helper:
    """The server's end of one process."""

    def __init__(self) -> None:
        self._socket, theirs = socket.socketpair()
        self.idle_since = 0.0
        with theirs:
            try:
                self._process = subprocess.Popen(
                    [sys.executable, "-I", "-S", "-c", _START, _MODULE_PATH, str(os.getpid()), str(theirs.fileno())],
                    pass_fds=[theirs.fileno()],
                    env={"TZ": "UTC"},
                    stdin=subprocess.DEVNULL,
                    stdout=subprocess.DEVNULL,
                    stderr=subprocess.DEVNULL,
                    start_new_session=True,
                    cwd="/",
                )
            except OSError:
                self._socket.close()
                raise
        self._socket.setblocking(False)

    def is_there(self) -> bool:
        """Whether it can be asked: it neither ended nor said anything unasked."""
        try:
            self._socket.recv(1, socket.MSG_PEEK)
        except BlockingIOError:
            return True
        except OSError:
            return False
        return False

    async def start(self, settings: Mapping[str, Any]) -> None:
        """Waits until it is ready. Raises :class:`_Lost` with the reason why it will not be."""
        await self._send([orjson.dumps(settings)])
        answer = await self._receive(_ANSWER_ROOM)
        if answer != b"r":
            raise _Lost(answer[1:].decode("utf-8", "replace"))
        self._max_answer = int(settings["value_bytes"]) + _ANSWER_ROOM

    async def evaluate(self, request: list[bytes], look_up: LookUp | None) -> bytes:
        """Its answer. Raises :class:`_Lost`."""
        await self._send(request)
        while True:
            answer = await self._receive(self._max_answer)
            if answer[:1] != b"?":
                return answer
            await self._send([await _answer_question(answer[1:], look_up)])

    async def _send(self, parts: list[bytes]) -> None:
        data = memoryview(b"".join(piece for part in parts for piece in (_LENGTH.pack(len(part)), part)))
        try:
            while data:
                try:
                    data = data[self._socket.send(data) :]
                except BlockingIOError:
                    await trio.lowlevel.wait_writable(self._socket)
        except (OSError, trio.ClosedResourceError):
            raise _Lost("the process ended") from None

    async def _receive(self, most: int) -> bytes:
        received = bytearray()
        size = _LENGTH.size
        length = 0
        while len(received) < size:
            try:
                piece = self._socket.recv(min(_READ_BYTES, size - len(received)))
            except BlockingIOError:
                await _wait_readable(self._socket)
                continue
            except OSError:
                piece = b""
            if not piece:
                raise _Lost("the process ended")
            received += piece
            if not length and len(received) == _LENGTH.size:
                (length,) = _LENGTH.unpack(received)
                if not 1 <= length <= most:
                    raise _Lost("the process does not keep to its protocol")
                size += length
        return bytes(received[_LENGTH.size :])

    def kill(self) -> None:
        """Ends it, once."""
        trio.lowlevel.notify_closing(self._socket)
        self._socket.close()
        self._process.kill()

    async def wait(self) -> None:
        """Until it is gone: the kernel takes some time to free much memory."""
        if self._process.poll() is not None:
            return
        ended = os.pidfd_open(self._process.pid)
        try:
            await trio.lowlevel.wait_readable(ended)
        finally:
            os.close(ended)
            self._process.wait()


async def _wait_readable(channel: socket.socket) -> None:
    try:
        await trio.lowlevel.wait_readable(channel)
    except trio.ClosedResourceError:
        raise _Lost("the process was ended") from None


async def _answer_question(question: bytes, look_up: LookUp | None) -> bytes:
    try:
        function, argument = orjson.loads(question)
    except (ValueError, TypeError):
        raise _Lost("the process does not keep to its protocol") from None
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
    kind, text = answer[:1].lower(), answer[1:]
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


def _filter(insecure: bool) -> str:
    try:
        return base64.b64encode(seccomp.assemble_computing(platform.machine())).decode()
    except ValueError:
        if insecure:
            return ""
        raise
