"""Parameters of a script as JSON Schema, in the dialect of Windmill's own clients. Pure.

::

    {"$schema": "https://json-schema.org/draft/2020-12/schema", "type": "object",
     "properties": {NAME: {"type": …, "default"?, "description"?, "format"?, "enum"?, "originalType"?, …}},
     "required": [NAME…],      without a default, and not nullable
     "order": [NAME…]}         as they are declared

``originalType`` says more than ``type``: for a type that is not known, which is an object by convention, it is ``unknown``
(ours), for a list of such things ``object[]``; such arguments may be anything.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, Final

DIALECT: Final = "https://json-schema.org/draft/2020-12/schema"
#: Of a whole schema, as JSON.
MAX_SCHEMA_BYTES: Final = 256 * 1024
#: Types within types that are looked at.
MAX_DEPTH: Final = 20
#: Types of the script's own that are looked up for one schema.
MAX_TYPES: Final = 1000
#: What clients record for a default that is the result of a call; whoever sends it means the default.
FUNCTION_CALL: Final = "<function call>"
UNKNOWN_TYPE: Final = "unknown"
UNKNOWN_ITEMS: Final = "object[]"

_MAX_INTEGER: Final = 2**63 - 1


class SchemaError(Exception):
    """A signature cannot be read; the text says why, with the line."""


class Lookups:
    """Looks up the types that a script declares: each within itself is cut short, and all together are bounded."""

    def __init__(self) -> None:
        self._open: set[str] = set()
        self._left = MAX_TYPES

    @contextmanager
    def of(self, name: str) -> Iterator[bool]:
        """Whether the type is to be looked at. Raises :class:`SchemaError` for too many."""
        self._left -= 1
        if self._left < 0:
            raise SchemaError(f"the types of the arguments are made of more than {MAX_TYPES} types")
        is_new = name not in self._open and len(self._open) < MAX_DEPTH
        if not is_new:
            yield False
            return
        self._open.add(name)
        try:
            yield True
        finally:
            self._open.discard(name)


class NoDefault:
    """Stands for a default that there is not, or that is no literal."""


NO_DEFAULT: Final = NoDefault()


@dataclass(frozen=True, slots=True)
class Type:
    """What a value may be: as a property, and as the items of a list, whose ``originalType`` is ``list_name``."""

    schema: Mapping[str, Any]
    items: Mapping[str, Any] = field(default_factory=lambda: {"type": "object"})
    list_name: str = UNKNOWN_ITEMS


@dataclass(frozen=True, slots=True)
class Parameter:
    """One parameter of ``main``, or one member of an object."""

    name: str
    type: Type
    is_required: bool = True
    default: Any = NO_DEFAULT
    description: str = ""

    def to_property(self) -> dict[str, Any]:
        """Its property in the schema."""
        shown = dict(self.type.schema)
        if self.description:
            shown["description"] = self.description
        if not isinstance(self.default, NoDefault):
            shown["default"] = self.default
        return shown


INTEGER: Final = Type({"type": "integer"}, {"type": "number"}, "number[]")
NUMBER: Final = Type({"type": "number"}, {"type": "number"}, "number[]")
BOOLEAN: Final = Type({"type": "boolean"})
STRING: Final = Type({"type": "string", "originalType": "string"}, {"type": "string"}, "string[]")
BYTES: Final = Type(
    {"type": "string", "contentEncoding": "base64", "originalType": "bytes"},
    {"type": "string", "contentEncoding": "base64"},
    "bytes[]",
)
OBJECT: Final = Type({"type": "object"}, {"type": "object"}, "record[]")
UNKNOWN: Final = Type({"type": "object", "originalType": UNKNOWN_TYPE})


def formatted(name: str) -> Type:
    """A text of a format: ``date-time``, ``date``, ``email``, ``sql``, ``yaml``."""
    return Type({"type": "string", "format": name}, {"type": "string", "format": name}, "string[]")


DATE_TIME: Final = formatted("date-time")
DATE: Final = formatted("date")


def choices(values: Iterable[Any]) -> Type:
    """One of these; of numbers and the like it is the type of the first."""
    found = list(dict.fromkeys(values))
    if all(isinstance(value, str) for value in found):
        return Type(
            {"type": "string", "enum": found, "originalType": "enum"}, {"type": "string", "enum": found}, "enum[]"
        )
    of_numbers = all(isinstance(value, int) and not isinstance(value, bool) for value in found)
    return Type({"type": "integer", "enum": found}) if of_numbers else UNKNOWN


def record(members: Sequence[Parameter], name: str = "") -> Type:
    """An object with these members; the ``name`` of its type may be that of a resource type."""
    shown: dict[str, Any] = {"type": "object", "properties": {member.name: member.to_property() for member in members}}
    if required := [member.name for member in members if member.is_required]:
        shown["required"] = required
    return Type({**shown, "format": f"resource-{name}"} if name else shown, shown, "record[]")


def resource(name: str) -> Type:
    """A resource of a type."""
    return Type(
        {"type": "object", "format": f"resource-{name}"}, {"type": "resource", "resourceType": name}, "resource[]"
    )


def dynamic(name: str) -> Type | None:
    """A choice that a function of the script gives, if the name of the type says so: ``DynSelect_f``."""
    for prefix, kind in (("DynSelect_", "dynselect"), ("DynMultiselect_", "dynmultiselect")):
        if name.startswith(prefix):
            return Type({"type": "object", "format": f"{kind}-{name.removeprefix(prefix)}"})
    return None


def one_of(variants: Mapping[str, Sequence[Parameter]]) -> Type:
    """One of several kinds of objects, which their labels tell apart."""
    return Type(
        {
            "type": "object",
            "oneOf": [
                {"type": "object", "title": label, **record(members).items} for label, members in variants.items()
            ],
        }
    )


def list_of(item: Type) -> Type:
    """A list."""
    return Type({"type": "array", "items": dict(item.items), "originalType": item.list_name})


def type_of_value(value: Any) -> Type:
    """The type of a parameter that has no other than that of its default."""
    if isinstance(value, bool):
        return BOOLEAN
    if isinstance(value, int):
        return INTEGER
    if isinstance(value, float):
        return NUMBER
    if isinstance(value, str):
        return STRING
    if isinstance(value, list):
        kinds = {type_of_value(each).list_name for each in value}
        return list_of(type_of_value(value[0]) if len(kinds) == 1 else UNKNOWN if kinds else STRING)
    return OBJECT if isinstance(value, dict) else UNKNOWN


def is_plain(value: Any, depth: int = 0) -> bool:
    """Whether a default can be written as JSON that every reader takes: no half characters, no numbers beyond 64 bits."""
    if value is None or isinstance(value, bool):
        return True
    if isinstance(value, int):
        return -_MAX_INTEGER <= value <= _MAX_INTEGER
    if isinstance(value, float):
        return math.isfinite(value)
    if isinstance(value, str):
        return value.isascii() or not any("\ud800" <= character <= "\udfff" for character in value)
    if depth >= MAX_DEPTH:
        return False
    if isinstance(value, list):
        return all(is_plain(each, depth + 1) for each in value)
    return isinstance(value, dict) and all(
        isinstance(name, str) and is_plain(name) and is_plain(each, depth + 1) for name, each in value.items()
    )


def schema_of(parameters: Sequence[Parameter]) -> dict[str, Any]:
    """The schema. Raises :class:`SchemaError` if it is too large."""
    last = {parameter.name: parameter for parameter in parameters}
    schema = {
        "$schema": DIALECT,
        "type": "object",
        "properties": {name: parameter.to_property() for name, parameter in last.items()},
        "required": [name for name, parameter in last.items() if parameter.is_required],
        "order": list(last),
    }
    if len(json.dumps(schema)) > MAX_SCHEMA_BYTES:
        raise SchemaError(f"the schema is larger than {MAX_SCHEMA_BYTES} bytes")
    return schema


#: What people add to a property by hand, which a new signature does not take away.
EDITED: Final = frozenset(
    {"description", "pattern", "min", "max", "minimum", "maximum", "minLength", "maxLength", "title", "placeholder"}
    | {
        "password",
        "showExpr",
        "customErrorMessage",
        "currency",
        "currencyLocale",
        "nullable",
        "disabled",
        "multiselect",
    }
)


def keep_edits(schema: dict[str, Any], before: Mapping[str, Any] | None) -> dict[str, Any]:
    """``schema`` with what people had added to the properties of the schema ``before``."""
    known = before.get("properties") if before is not None else None
    if not isinstance(known, dict):
        return schema
    properties = {}
    for name, shown in schema["properties"].items():
        old = known.get(name)
        edits = {key: value for key, value in old.items() if key in EDITED} if isinstance(old, dict) else {}
        properties[name] = {**edits, **shown}
    return {**schema, "properties": properties}
