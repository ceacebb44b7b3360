"""How JSON Schemas (2020-12) are written down here. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from minwebhook.api.parameters import Schema
from minwebhook.scripts.model import Language


def ref(name: str) -> Schema:
    """A reference to one by name."""
    return {"$ref": f"#/components/schemas/{name}"}


def array(items: Schema) -> Schema:
    """A list."""
    return {"type": "array", "items": items}


def nullable(schema: Schema) -> Schema:
    """``schema``, which has a ``type``, or null."""
    return {**schema, "type": [schema["type"], "null"]}


def described(schema: Schema, sentence: str) -> Schema:
    """``schema`` with a sentence on what it is here."""
    return {**schema, "description": sentence}


def record(properties: Mapping[str, Schema], *, optional: Mapping[str, Schema] | None = None) -> dict[str, Any]:
    """An object that always has ``properties`` and may have ``optional`` ones."""
    return {"type": "object", "properties": {**properties, **(optional or {})}, "required": list(properties)}


#: Any JSON value.
ANYTHING: Final[Schema] = {}
OBJECT: Final[Schema] = {"type": "object"}
INTEGER: Final[Schema] = {"type": "integer"}
NUMBER: Final[Schema] = {"type": "number"}
#: Hashes are lower-case where the server writes them.
SHOWN_HASH: Final[Schema] = {"type": "string", "pattern": "^[0-9a-f]{16}$"}
LANGUAGE: Final[Schema] = {"type": "string", "enum": [language.value for language in Language]}
