"""The form of an approval: from a JSON Schema to fields, and from what a browser sends to JSON. Pure.

Of a schema counts what forms are made of: ``properties`` with ``type``, ``title``, ``description``, ``default``, ``enum``,
``format`` and ``password``; ``required``; ``order``. What has no field of its own, objects and arrays, is sent as JSON text.
"""

from __future__ import annotations

import enum
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import orjson

from minwebhook.errors import BadRequest
from minwebhook.http.codecs import json_text

#: Fields of one form.
MAX_FIELDS: Final = 200
#: The beginning of the names of fields in what a browser sends; other names are the page's own.
PREFIX: Final = "f."


class Kind(enum.Enum):
    """How something is asked for."""

    TEXT = "text"
    LONG_TEXT = "long text"
    PASSWORD = "password"  # noqa: S105 - a word, not a secret
    INTEGER = "integer"
    NUMBER = "number"
    CHECKBOX = "checkbox"
    CHOICE = "choice"
    DATE = "date"
    JSON = "json"


@dataclass(frozen=True, slots=True)
class Field:
    """One question."""

    name: str
    kind: Kind
    label: str
    description: str = ""
    is_required: bool = False
    #: What it begins with; of a checkbox ``true`` or nothing.
    value: str = ""
    #: Of a choice: each as shown, which is its text or JSON.
    choices: tuple[str, ...] = ()


def fields_of(schema: Any, defaults: Any = None, enums: Any = None) -> list[Field]:
    """The fields of a form, in their order. ``defaults`` and ``enums`` are what the step said of them, by name."""
    properties = schema.get("properties") if isinstance(schema, Mapping) else None
    if not isinstance(properties, Mapping):
        return []
    defaults = defaults if isinstance(defaults, Mapping) else {}
    enums = enums if isinstance(enums, Mapping) else {}
    required = schema.get("required")
    needed = set(map(str, required)) if isinstance(required, list) else set()
    order = schema.get("order")
    names = [name for name in order if name in properties] if isinstance(order, list) else []
    names += [name for name in properties if name not in names]
    return [
        _field(name, properties[name], defaults.get(name), enums.get(name), is_required=name in needed)
        for name in names[:MAX_FIELDS]
    ]


def payload_of(fields: Sequence[Field], sent: Mapping[str, str]) -> dict[str, Any]:
    """What was filled in, by name. What is empty is left out. Raises :class:`BadRequest` naming the field."""
    payload: dict[str, Any] = {}
    for field in fields:
        text = sent.get(PREFIX + field.name, "")
        if field.kind is Kind.CHECKBOX:
            payload[field.name] = text != ""
        elif text:
            payload[field.name] = _value(field, text)
        elif field.is_required:
            raise BadRequest(f"{field.label} is missing: go back and fill it in")
    return payload


def _value(field: Field, text: str) -> Any:
    if field.kind is Kind.INTEGER or field.kind is Kind.NUMBER:
        try:
            number: int | float = int(text) if field.kind is Kind.INTEGER else float(text)
        except ValueError:
            number = math.nan
        if not math.isfinite(number) or abs(number) > 2**53:
            raise BadRequest(f"{field.label} must be {'a whole number' if field.kind is Kind.INTEGER else 'a number'}")
        return number
    if field.kind is Kind.CHOICE and text not in field.choices:
        raise BadRequest(f"{field.label} must be one of {', '.join(field.choices)}")
    if field.kind is Kind.JSON:
        try:
            return orjson.loads(text)
        except orjson.JSONDecodeError as error:
            raise BadRequest(f"{field.label} must be JSON: {error}") from None
    return text


def _field(name: str, said: Any, default: Any, choices: Any, *, is_required: bool) -> Field:
    schema = said if isinstance(said, Mapping) else {}
    choices = choices if isinstance(choices, list) else schema.get("enum")
    default = schema.get("default") if default is None else default
    shown = tuple(map(_text, choices)) if isinstance(choices, list) and choices else ()
    kind = Kind.CHOICE if shown and all(isinstance(each, str) for each in choices) else _kind(schema)
    value = "" if default is None or default is False else _text(default)
    return Field(
        name,
        kind,
        str(schema.get("title") or name),
        str(schema.get("description") or ""),
        is_required and kind is not Kind.CHECKBOX,
        value,
        shown if kind is Kind.CHOICE else (),
    )


def _kind(schema: Mapping[str, Any]) -> Kind:
    kind = schema.get("type")
    if kind == "string":
        if schema.get("password"):
            return Kind.PASSWORD
        if schema.get("format") == "date":
            return Kind.DATE
        is_long = schema.get("format") in ("yaml", "sql") or bool(schema.get("minRows"))
        return Kind.LONG_TEXT if is_long else Kind.TEXT
    simple = {"integer": Kind.INTEGER, "number": Kind.NUMBER, "boolean": Kind.CHECKBOX}
    return simple.get(kind, Kind.JSON) if isinstance(kind, str) else Kind.JSON


def _text(value: Any) -> str:
    return value if isinstance(value, str) else json_text(value).decode()
