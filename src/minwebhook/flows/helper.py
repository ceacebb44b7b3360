"""Runs JavaScript in a process of its own, which can do nothing else: ``python -I -S -c START ...`` (``javascript.py``).

:: (the frames: ``child/computing.py``)

    server -> helper   for each evaluation four parts: the expression, the function body, flags (``p``: a predicate), the
                       values by name as a JSON object
                       after ``?``: one part, [true, VALUE] or [false, TEXT] as JSON
    helper -> server   ``v`` the value as JSON; ``e`` [NAME, MESSAGE] as JSON
                       ``?`` [FUNCTION, ARGUMENT] as JSON: the expression waits for a look-up

Each expression gets an engine of its own, which was made while nothing was to be done. Imports nothing of the server but the
``child`` package.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable
from typing import Any, Final

from minwebhook.child import confine
from minwebhook.child.computing import Channel, Size, give_up_everything

#: Of the stack of the process, which has 8 MiB.
_STACK_BYTES: Final = 2 << 20
#: Address space beside the engine's memory, for the texts of values on their way in and out.
_TEXT_BYTES: Final = 128 << 20
#: A process that has grown by more than this is replaced.
_GROWTH_BYTES: Final = 64 << 20
#: How much of an error's text is told.
_MAX_ERROR_CHARACTERS: Final = 4000

_PRELUDE: Final = """
(() => {
  const AsyncFunction = (async () => {}).constructor, {parse, stringify} = JSON, limit = LIMIT;
  const ask = globalThis.__ask, {defineProperty} = Object;
  delete globalThis.__ask;
  const words = (value) => String(value).slice(0, limit);
  const plain = (name, value) => (typeof value === 'bigint' ? value.toString() : value);
  // Two values, because the binding does not know the strings that the engine puts together lazily.
  let kind = '', answer = '';
  const fail = (error) => {
    let told;
    try {
      told = error instanceof Error
        ? [words(error.name), words(error.message)]
        : ['Error', words(typeof error === 'object' ? stringify(error) : error)];
    } catch (_) {
      told = ['Error', 'something was thrown that cannot be shown'];
    }
    kind = 'e';
    answer = stringify(told);
  };
  for (const name of ['variable', 'resource', 'flow_user_state']) {
    globalThis[name] = (key) => {
      const [found, value] = parse(ask(stringify([name, String(key)])));
      if (!found) throw new Error(value);
      return value;
    };
  }
  const compile = (expression, body) => {
    if (expression) {
      try {
        return new AsyncFunction('return (\\n' + expression + '\\n)');
      } catch (error) {
        if (!body) throw error;
      }
    }
    return new AsyncFunction(body);
  };
  return [
    (expression, body, predicate, values) => {
      try {
        const given = parse(values);
        for (const name in given) {
          defineProperty(globalThis, name, {value: given[name], writable: true, configurable: true, enumerable: true});
        }
        compile(expression, body)().then((value) => {
          answer = predicate ? (value ? 'true' : 'false') : (stringify(value, plain) ?? 'null');
          kind = 'v';
        }).catch(fail);
      } catch (error) {
        fail(error);
      }
    },
    () => kind,
    () => answer,
  ];
})()
""".replace("LIMIT", str(_MAX_ERROR_CHARACTERS))


def main(server_pid: int, fd: int) -> None:
    """Answers until the socket closes."""
    channel = _Channel(fd)
    confine.die_with_parent()
    if os.getppid() != server_pid:
        return  # the server died before the line above
    settings: dict[str, Any] = json.loads(channel.read_part())
    try:
        sys.path.insert(0, settings["engine"])
        import _quickjs  # noqa: F401, PLC0415 - from the server's packages, and before the file system is gone

        size = Size()
        give_up_everything(int(settings["memory_bytes"]) + _TEXT_BYTES, settings["filter"])
        engine = Engine(channel.look_up, settings)
    except (OSError, ImportError, ValueError) as error:
        channel.answer(b"f" + str(error).encode())
        return
    channel.answer(b"r")
    grown = size.resident_bytes() + _GROWTH_BYTES
    while True:
        try:
            answer = engine.run(*(channel.read_part() for _ in range(4)))
        except EOFError:
            return
        is_large = size.resident_bytes() > grown
        channel.answer(answer[:1].upper() + answer[1:] if is_large else answer)
        if is_large:
            return
        del answer
        engine = Engine(channel.look_up, settings)


class _Channel(Channel):
    """The socket to the server, which looks things up for expressions."""

    def look_up(self, question: str) -> str:
        """What the server answers to ``[FUNCTION, ARGUMENT]``, both as JSON."""
        self.answer(b"?" + question.encode("utf-8", "replace"))
        return self.read_part().decode()


class Engine:
    """A fresh JavaScript engine, for one evaluation."""

    def __init__(self, look_up: Callable[[str], str], settings: dict[str, Any]) -> None:
        import _quickjs  # noqa: PLC0415

        self._context = context = _quickjs.Context()
        self._max_value_bytes: int = settings["value_bytes"]
        context.set_memory_limit(settings["memory_bytes"])
        context.set_max_stack_size(_STACK_BYTES)
        context.add_callable("__ask", look_up)
        context.set("__parts", context.eval(_PRELUDE))
        self._start, self._kind, self._answer = (context.eval(f"__parts[{index}]") for index in range(3))
        context.eval("delete globalThis.__parts")

    def run(self, expression: bytes, body: bytes, flags: bytes, values: bytes) -> bytes:
        """The answer: ``v`` and the value as JSON, or ``e`` and ``[NAME, MESSAGE]``."""
        try:
            self._start(expression.decode(), body.decode(), b"p" in flags, values.decode())
            del values
            while self._context.execute_pending_job():
                pass
            kind: str = self._kind()
            answer: bytes = self._answer().encode()
        except Exception as error:  # the engine could not even tell what went wrong
            return _error("InternalError", next(iter(str(error).splitlines()), "") or "out of memory")
        if not kind:
            return _error("Error", "the expression waits for something that never comes")
        if len(answer) > self._max_value_bytes:
            return _error("RangeError", f"the value is larger than {self._max_value_bytes} bytes")
        return kind.encode() + answer


def _error(name: str, message: str) -> bytes:
    return b"e" + json.dumps([name, message[:_MAX_ERROR_CHARACTERS]]).encode()
