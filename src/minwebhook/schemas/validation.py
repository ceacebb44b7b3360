"""Whether arguments fit a schema, where a script asks for that with a comment ``schema_validation`` at its top. Pure.

Checked are the words of JSON Schema that signatures become and that people add in forms: ``type``, ``enum``, ``const``,
``properties``, ``required``, ``items``, ``oneOf``, ``anyOf``, ``allOf``, the bounds of numbers, texts and lists, base64, and the
formats ``date-time``, ``date`` and ``email``. Not ``pattern``: a pattern that takes for ever would hold up everybody. Not
looked into: what the script itself does not know the type of, and references (``$var:``, ``$res:``), which only the job
follows. null is as good as nothing, because it leaves a default in place.
"""

from __future__ import annotations

import binascii
import datetime
import math
import operator
import re
from collections.abc import Callable, Mapping
from typing import Any, Final

from minwebhook.errors import BadRequest
from minwebhook.schemas.model import FUNCTION_CALL, UNKNOWN_ITEMS, UNKNOWN_TYPE

ANNOTATION: Final = "schema_validation"
#: Schemas within schemas that are looked at.
_MAX_DEPTH: Final = 60
_MARKS: Final[Mapping[str, str]] = dict.fromkeys(("bun", "deno", "nativets", "bunnative", "go", "php"), "//")
_EMAIL: Final = re.compile(r"[^@\s]+@[^@\s]+")
#: As the runtimes read them (child/python.py).
_DATE: Final = re.compile(r"\d{4}-\d\d-\d\d|\d{4}/\d\d?/\d\d?|\d\d?[-/]\d\d?[-/]\d{4}")
_REFERENCES: Final = ("$var:", "$res:", "$encrypted:")

_KINDS: Final[Mapping[str, tuple[str, Callable[[Any], bool]]]] = {
    "string": ("a text", lambda value: isinstance(value, str)),
    # Numbers of more than 64 bits have become floats on the way.
    "integer": (
        "a whole number",
        lambda value: isinstance(value, int | float) and not isinstance(value, bool) and value == value // 1,
    ),
    "number": ("a number", lambda value: isinstance(value, int | float) and not isinstance(value, bool)),
    "boolean": ("true or false", lambda value: isinstance(value, bool)),
    "object": ("an object", lambda value: isinstance(value, dict)),
    "resource": ("an object", lambda value: isinstance(value, dict)),
    "array": ("an array", lambda value: isinstance(value, list)),
    "null": ("null", lambda value: value is None),
}
#: Of numbers; the short names are those of Windmill's forms.
_BOUNDS: Final[Mapping[str, tuple[str, Callable[[float, float], bool]]]] = {
    "minimum": ("at least", operator.ge),
    "min": ("at least", operator.ge),
    "maximum": ("at most", operator.le),
    "max": ("at most", operator.le),
    "exclusiveMinimum": ("more than", operator.gt),
    "exclusiveMaximum": ("less than", operator.lt),
}


def asks_for_validation(language: str, source: str) -> bool:
    """Whether one of the comments that the source begins with is ``schema_validation``."""
    mark = _MARKS.get(language, "#")
    for line in source.split("\n", 100)[:100]:
        text = line.strip()
        if text.startswith(mark):
            if text.removeprefix(mark).strip() == ANNOTATION:
                return True
        elif text and not text.startswith("#!") and text != "<?php":
            return False
    return False


class TooMuch(BadRequest):
    """To tell whether arguments fit would take more steps than were given."""


class _Steps:
    """How many more looks at a value may be taken."""

    __slots__ = ("_left",)

    def __init__(self, most: float) -> None:
        self._left = most

    def take(self, count: int) -> None:
        """Raises :class:`TooMuch`."""
        self._left -= count
        if self._left < 0:
            raise TooMuch("the arguments are too many, or their schema too large, for a look at all of them")


def check_arguments(schema: Mapping[str, Any], arguments: Mapping[str, Any], *, steps: float = math.inf) -> None:
    """Raises :class:`BadRequest` naming the first argument that does not fit, and :class:`TooMuch` after so many steps,
    each of which is a microsecond or two."""
    if (problem := misfit(schema, arguments, steps=steps)) is not None:
        where, what = problem
        raise BadRequest(f"argument {where}: {what}" if where else f"the arguments: {what}")


def misfit(schema: Mapping[str, Any], value: Any, *, steps: float = math.inf) -> tuple[str, str] | None:
    """Where ``value`` does not fit, and what must be there; None if it fits. Raises :class:`TooMuch`."""
    return _misfit({"type": "object", **schema}, value, "", 0, _Steps(steps))


def _misfit(schema: Any, value: Any, where: str, depth: int, steps: _Steps) -> tuple[str, str] | None:
    steps.take(1)
    if not isinstance(schema, Mapping) or depth > _MAX_DEPTH or schema.get("originalType") == UNKNOWN_TYPE:
        return None
    if isinstance(value, str) and (value == FUNCTION_CALL or value.startswith(_REFERENCES)):
        return None
    if (wanted := _wanted_kind(schema.get("type"), value)) is not None:
        return where, f"must be {wanted}, and is {_shown(value)}"
    if isinstance(enum := schema.get("enum"), list):
        steps.take(len(enum) // 8)
    if isinstance(enum, list) and not any(_is_same(value, each) for each in enum):
        return where, f"must be one of {', '.join(map(_shown, enum[:20]))}, and is {_shown(value)}"
    if "const" in schema and not _is_same(value, schema["const"]):
        return where, f"must be {_shown(schema['const'])}, and is {_shown(value)}"
    if (wanted := _of_values(schema, value)) is not None:
        return where, f"must be {wanted}, and is {_shown(value)}"
    return _inner_misfit(schema, value, where, depth, steps) or _combined_misfit(schema, value, where, depth, steps)


def _wanted_kind(kinds: Any, value: Any) -> str | None:
    """What the value should be; None if it is, or if the schema does not say."""
    names = [kinds] if isinstance(kinds, str) else kinds if isinstance(kinds, list) else []
    known = [_KINDS[name] for name in names if isinstance(name, str) and name in _KINDS]
    if not known or len(known) < len(names) or any(fits(value) for _, fits in known):
        return None
    return " or ".join(name for name, _ in known)


def _of_values(schema: Mapping[str, Any], value: Any) -> str | None:
    """Bounds and formats: what the value should be; None if it is."""
    if isinstance(value, str):
        return _of_texts(schema, value)
    if isinstance(value, list):
        return _in_bounds(schema, len(value), "minItems", "maxItems", "items")
    if isinstance(value, int | float) and not isinstance(value, bool):
        for name, (words, fits) in _BOUNDS.items():
            limit = schema.get(name)
            if isinstance(limit, int | float) and not isinstance(limit, bool) and not fits(value, limit):
                return f"{words} {limit}"
    return None


def _of_texts(schema: Mapping[str, Any], value: str) -> str | None:
    if schema.get("contentEncoding") == "base64":
        try:
            binascii.a2b_base64(value.encode(), strict_mode=True)
        except ValueError:
            return "base64"
    match schema.get("format"):
        case "date-time":
            try:
                datetime.datetime.fromisoformat(value)
            except ValueError:
                return "a date and time such as 2026-01-31T12:00:00Z"
        case "date" if not _is_date(value):
            return "a date such as 2026-01-31"
        case "email" if not _EMAIL.fullmatch(value):
            return "an e-mail address"
    return _in_bounds(schema, len(value), "minLength", "maxLength", "characters")


def _is_date(value: str) -> bool:
    if _DATE.fullmatch(value):
        return True
    try:
        datetime.date.fromisoformat(value)
    except ValueError:
        return False
    return True


def _in_bounds(schema: Mapping[str, Any], count: int, least: str, most: str, unit: str) -> str | None:
    lowest, highest = schema.get(least), schema.get(most)
    if isinstance(lowest, int) and count < lowest:
        return f"at least {lowest} {unit}"
    if isinstance(highest, int) and count > highest:
        return f"at most {highest} {unit}"
    return None


def _inner_misfit(
    schema: Mapping[str, Any], value: Any, where: str, depth: int, steps: _Steps
) -> tuple[str, str] | None:
    if isinstance(value, dict):
        required, properties = schema.get("required"), schema.get("properties")
        steps.take(sum(len(names) // 8 for names in (required, properties) if isinstance(names, list | dict)))
        for name in required if isinstance(required, list) else ():
            if isinstance(name, str) and value.get(name) is None:
                return _member(where, name), "is missing"
        for name, inner in properties.items() if isinstance(properties, dict) else ():
            if value.get(name) is not None and (
                found := _misfit(inner, value[name], _member(where, name), depth + 1, steps)
            ):
                return found
    elif isinstance(value, list) and schema.get("originalType") != UNKNOWN_ITEMS:
        for at, each in enumerate(value):
            if found := _misfit(schema.get("items"), each, f"{where}[{at}]", depth + 1, steps):
                return found
    return None


def _combined_misfit(
    schema: Mapping[str, Any], value: Any, where: str, depth: int, steps: _Steps
) -> tuple[str, str] | None:
    for inner in _schemas(schema, "allOf"):
        if found := _misfit(inner, value, where, depth + 1, steps):
            return found
    for name in ("oneOf", "anyOf"):
        variants = _schemas(schema, name)
        problems = [_misfit(inner, value, where, depth + 1, steps) for inner in variants]
        if problems and None not in problems:
            titles = [str(inner["title"]) for inner in variants if isinstance(inner, dict) and "title" in inner]
            return where, f"must be one of {', '.join(titles)}" if titles else f"fits none of its {len(variants)} kinds"
    return None


def _schemas(schema: Mapping[str, Any], name: str) -> list[Any]:
    found = schema.get(name)
    return found if isinstance(found, list) else []


def _member(where: str, name: str) -> str:
    return f"{where}.{name}" if where else name


def _is_same(one: Any, other: Any) -> bool:
    """Equal as JSON has it: true is not 1."""
    return isinstance(one, bool) == isinstance(other, bool) and bool(one == other)


def _shown(value: Any) -> str:
    """A value for a message: it may be a secret, or large, so that only small ones of a few kinds are shown."""
    if value is None or isinstance(value, bool):
        return {None: "null", True: "true", False: "false"}[value]
    if isinstance(value, str):
        return (
            f"the text {value!r}" if len(value) <= 40 and value.isprintable() else f"a text of {len(value)} characters"
        )
    if isinstance(value, int | float):
        return str(value)
    return "an array" if isinstance(value, list) else "an object"
