"""Reads the parameters of a function off its source, for languages that cannot tell them when they run. Pure.

Not a parser of any language: it knows parentheses, quotes and commas, which is what lists of parameters are made of. What
it cannot read it does not give, and then the defaults are the language's own affair.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Final, NamedTuple

_CLOSING: Final = {"(": ")", "[": "]", "{": "}"}
_QUOTES: Final = "\"'`"
#: A list longer than this is none.
_MAX_CHARACTERS: Final = 20_000


class Parameter(NamedTuple):
    """One parameter: its name with whatever the language writes around it, and its default, as they are written."""

    name: str
    #: None without one.
    default: str | None


def parameters(source: str, start: re.Pattern[str], *, default_sign: str = "=") -> list[Parameter]:
    """The parameters in the parentheses that open at the end of the first match of ``start``; empty without one."""
    match = start.search(source)
    if match is None:
        return []
    found = []
    for text in split(source, match.end()):
        name, sign, default = text.partition(default_sign)
        found.append(Parameter(name.strip(), default.strip() if sign else None))
    return found


def split(source: str, start: int) -> list[str]:
    """The parts between commas from ``start``, right behind an opening parenthesis, to the closing one."""
    parts: list[str] = []
    begin = start
    for at, depth in _walk(source, start):
        if depth < 0:
            parts.append(source[begin:at])
            return [text for part in parts if (text := part.strip())]
        if depth == 0 and source[at] == ",":
            parts.append(source[begin:at])
            begin = at + 1
    return []


def closing(source: str, start: int) -> int:
    """Where the parenthesis closes behind whose opening ``start`` is; -1 if it does not."""
    return next((at for at, depth in _walk(source, start) if depth < 0), -1)


def _walk(source: str, start: int) -> Iterator[tuple[int, int]]:
    """Each character that is not inside of quotes, and how deep in parentheses it is: 0 for those of the list."""
    waiting: list[str] = []
    quote = ""
    at = start
    while at < len(source) and at - start < _MAX_CHARACTERS:
        character = source[at]
        if quote:
            if character == "\\":
                at += 1
            elif character == quote:
                quote = ""
        elif character in _QUOTES:
            quote = character
        elif character in _CLOSING:
            waiting.append(_CLOSING[character])
        elif waiting and character == waiting[-1]:
            waiting.pop()
        elif not waiting and character == ")":
            yield at, -1
            return
        else:
            yield at, len(waiting)
        at += 1
