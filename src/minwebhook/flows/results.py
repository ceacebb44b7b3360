"""Texts of results and arguments: arrays of results, error objects, the arguments of iterations, pauses of retries. Pure."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, Final

import orjson

from minwebhook.flows.model import Retry
from minwebhook.http.codecs import json_text

#: No pause is longer.
MAX_PAUSE_S: Final = 6 * 3600
#: The argument that an iteration has besides; those of the loops around it have this name and ``_parent``, once or more.
ITERATION: Final = "iter"


def joined(results: Iterable[bytes]) -> bytes:
    """An array of results."""
    return b"[" + b",".join(results) + b"]"


def error_result(name: str, message: str) -> bytes:
    """The result of what has failed."""
    return orjson.dumps({"error": {"name": name, "message": message}})


def with_step_id(result: bytes, step_id: str) -> bytes:
    """The result of a failed step, whose error says which one it was; what has another shape stays as it is."""
    try:
        value = orjson.loads(result)
    except orjson.JSONDecodeError:
        return result
    error = value.get("error") if isinstance(value, dict) else None
    if not isinstance(error, dict) or "step_id" in error:
        return result
    error["step_id"] = step_id
    return json_text(value)


class IterationArguments:
    """The arguments of the iterations of a loop: those around it, with ``iter``; an outer loop's is ``iter_parent``."""

    def __init__(self, arguments: bytes) -> None:
        outer = orjson.loads(arguments)
        moved = dict[str, Any]()
        if isinstance(outer, dict) and "iter" in outer:
            while (name := ITERATION + "_parent" * len(moved)) in outer:
                moved[name + "_parent"] = outer.pop(name)
            arguments = json_text({**outer, **moved})
        body = arguments.strip()[1:-1].strip()
        self._start = b"{" + body + (b"," if body else b"") + b'"iter":{"index":'

    def of(self, index: int, value: bytes) -> bytes:
        """JSON text for one iteration."""
        return b'%b%d,"value":%b}}' % (self._start, index, value)


def pause_s(retry: Retry, failures: int, random: Callable[[], float]) -> float | None:
    """Seconds until the next run, if there is one. ``failures``: how many there were before this one."""
    if failures < retry.constant_attempts:
        return retry.constant_s
    if failures - retry.constant_attempts >= retry.exponential_attempts:
        return None
    try:
        pause = retry.multiplier * float(retry.exponential_s) ** (failures + 1)
    except OverflowError:
        pause = MAX_PAUSE_S
    if retry.random_factor:
        percent = int(random() * retry.random_factor)
        pause *= 1 + (percent if random() < 0.5 else -percent) / 100
    return min(pause, MAX_PAUSE_S)
