"""Checks of single JSON values: each takes a field's name and value, and returns the value or raises. Pure."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any, Final

import orjson

from minwebhook.errors import BadRequest

#: Bytes of one text, and of one structured field as JSON.
MAX_TEXT_BYTES: Final = 1024 * 1024

_VARIABLE: Final = re.compile(r"[A-Za-z_][A-Za-z0-9_]*=")

#: The shape of every check.
Check = Callable[[str, Any], Any]


def boolean(name: str, value: Any) -> bool:
    """true or false, nothing that merely looks like it."""
    if not isinstance(value, bool):
        raise BadRequest(f"{name} must be true or false")
    return value


def integer(low: int, high: int) -> Check:
    """A check for a whole number within bounds; 5.0 is not one."""

    def check(name: str, value: Any) -> int:
        if isinstance(value, bool) or not isinstance(value, int) or not low <= value <= high:
            raise BadRequest(f"{name} must be a whole number from {low} to {high}")
        return value

    return check


def word(name: str, value: Any) -> str:
    """A text without more conditions; its user checks on."""
    if not isinstance(value, str):
        raise BadRequest(f"{name} must be a string")
    return value


def text(name: str, value: Any) -> str:
    """A text that can be stored: valid Unicode, no NUL, at most ``MAX_TEXT_BYTES``."""
    word(name, value)
    try:
        size = len(value.encode())
    except UnicodeEncodeError:
        raise BadRequest(f"{name} is not valid Unicode") from None
    if size > MAX_TEXT_BYTES:
        raise BadRequest(f"{name} is too large: at most {MAX_TEXT_BYTES} bytes")
    if "\0" in value:
        raise BadRequest(f"{name} must not contain the character NUL")
    return str(value)


def variable(name: str, value: Any) -> str:
    """An environment variable, ``NAME=value``."""
    if not _VARIABLE.match(text(name, value)):
        raise BadRequest(f"{name} must be NAME=value, the name of letters, digits and _")
    return str(value)


def array(item: Check) -> Check:
    """A check for an array whose items pass ``item``."""

    def check(name: str, value: Any) -> list[Any]:
        if not isinstance(value, list):
            raise BadRequest(f"{name} must be an array")
        return [item(f"{name}[{index}]", entry) for index, entry in enumerate(value)]

    return check


def json_object(name: str, value: Any) -> dict[str, Any]:
    """Any JSON object of bounded size."""
    if not isinstance(value, dict):
        raise BadRequest(f"{name} must be an object")
    encoded_json(name, value)
    return value


def json_array(name: str, value: Any) -> list[Any]:
    """Any JSON array of bounded size."""
    if not isinstance(value, list):
        raise BadRequest(f"{name} must be an array")
    encoded_json(name, value)
    return value


def encoded_json(name: str, value: Any) -> str:
    """``value`` as JSON text; refuses what cannot be encoded or is over ``MAX_TEXT_BYTES``."""
    try:
        encoded = orjson.dumps(value)
    except (TypeError, ValueError, RecursionError):
        raise BadRequest(f"{name} cannot be stored: it is nested too deeply or holds a number out of range") from None
    if len(encoded) > MAX_TEXT_BYTES:
        raise BadRequest(f"{name} is too large: at most {MAX_TEXT_BYTES} bytes")
    return encoded.decode()
