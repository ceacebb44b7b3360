"""What SQL may call besides SQLite's own functions: pure functions, registered on every reading connection.

A function of Python holds the interpreter while it runs, also against the loop. So it is a last resort, and large values
are not looked into.
"""

from __future__ import annotations

import sqlite3
from functools import lru_cache
from typing import Any, Final

import orjson

#: Larger JSON texts contain nothing, as far as :func:`json_contains` is concerned: parsing one takes some 10 ms.
MAX_SEARCHED_BYTES: Final = 1_000_000


def register(connection: sqlite3.Connection) -> None:
    """Makes the functions known to SQL on this connection."""
    connection.create_function("json_contains", 2, json_contains, deterministic=True)


def json_contains(whole: bytes | str | None, part: str) -> bool:
    """Whether the JSON text ``whole`` contains the JSON text ``part``; see :func:`contains`. None contains nothing."""
    if whole is None or len(whole) > MAX_SEARCHED_BYTES:
        return False
    try:
        return contains(orjson.loads(whole), _parsed(part))
    except orjson.JSONDecodeError:
        return False


def contains(whole: Any, part: Any) -> bool:
    """Whether one JSON value contains another as PostgreSQL's ``jsonb @>`` defines it.

    An object contains another one whose members it contains; an array one whose items it contains, in whatever order and
    however often; a scalar an equal one. At the top an array also contains each of its scalars. Recursion is as deep as
    ``part``.
    """
    if isinstance(whole, list) and not isinstance(part, list | dict):
        return any(_equal(item, part) for item in whole)
    return _within(whole, part)


def _within(whole: Any, part: Any) -> bool:
    # Loops, because the generators of all() and any() would make the stack four times as deep.
    if isinstance(part, dict):
        if not isinstance(whole, dict):
            return False
        for name, wanted in part.items():  # noqa: SIM110 - see above
            if name not in whole or not _within(whole[name], wanted):
                return False
        return True
    if isinstance(part, list):
        if not isinstance(whole, list):
            return False
        for wanted in part:
            for item in whole:
                if _within(item, wanted):
                    break
            else:
                return False
        return True
    return _equal(whole, part)


def _equal(value: Any, scalar: Any) -> bool:
    """Whether a value is an equal scalar; 1 is 1.0, but not true."""
    return isinstance(value, bool) is isinstance(scalar, bool) and bool(value == scalar)


@lru_cache(maxsize=16)  # the same for every row of a query
def _parsed(text: str) -> Any:
    return orjson.loads(text)
