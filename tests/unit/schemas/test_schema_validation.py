"""Arguments against schemas."""

from __future__ import annotations

from typing import Any

import jsonschema
import pytest
from hypothesis import given
from hypothesis import strategies as st

from minwebhook.errors import BadRequest
from minwebhook.schemas.reading import read_schema
from minwebhook.schemas.validation import asks_for_validation, check_arguments, misfit


@pytest.mark.parametrize(
    ("language", "code", "asks"),
    [
        ("python3", "# schema_validation\ndef main(): pass", True),
        ("python3", "#!/usr/bin/env python3\n\n# requirements:\n#  a\n#schema_validation", True),
        ("python3", "import os\n# schema_validation", False),
        ("python3", "# no schema_validation", False),
        ("bun", "//native\n// schema_validation\n", True),
        ("bun", "# schema_validation", False),
        ("go", "// schema_validation\npackage inner", True),
        ("php", "<?php\n// schema_validation", True),
        ("bash", "#!/bin/bash\n# schema_validation", True),
        ("ruby", "", False),
        ("ruby", "#\n" * 200 + "# schema_validation", False),
    ],
)
def test_scripts_ask_by_a_comment_at_their_top(language: str, code: str, asks: bool) -> None:
    assert asks_for_validation(language, code) is asks


PYTHON = """
from datetime import date, datetime
from typing import Literal, TypedDict

class Order(TypedDict):
    item: str
    sizes: list[Literal["s", "m"]]

def main(name: str, count: int = 1, ratio: float = 0.5, on: bool = False, when: datetime = None, day: date = None,
         raw: bytes = b"", kind: Literal["a", "b"] = "a", order: Order = None, tags: list[str] = [],
         what=None, db: pg = None): ...
"""


@pytest.mark.parametrize(
    ("arguments", "problem"),
    [
        ({"name": "x"}, ""),
        ({}, "argument name: is missing"),
        ({"name": None}, "argument name: is missing"),
        ({"name": 5}, "argument name: must be a text, and is 5"),
        ({"name": {"secret": 1}}, "argument name: must be a text, and is an object"),
        ({"count": None}, ""),
        ({"count": 2**70 * 1.0}, ""),
        ({"count": 1.5}, "argument count: must be a whole number, and is 1.5"),
        ({"count": True}, "argument count: must be a whole number, and is true"),
        ({"count": "5"}, "argument count: must be a whole number, and is the text '5'"),
        ({"count": "$var:u/ada/count"}, ""),
        ({"ratio": 1}, ""),
        ({"ratio": "1"}, "argument ratio: must be a number, and is the text '1'"),
        ({"on": 1}, "argument on: must be true or false, and is 1"),
        ({"when": "2024-02-29T12:30:00.123Z"}, ""),
        (
            {"when": "tomorrow"},
            "argument when: must be a date and time such as 2026-01-31T12:00:00Z, and is the text 'tomorrow'",
        ),
        ({"when": "<function call>"}, ""),
        ({"day": "2024-02-29"}, ""),
        ({"day": "29-02-2024"}, ""),
        ({"day": "never"}, "argument day: must be a date such as 2026-01-31, and is the text 'never'"),
        ({"raw": "eA=="}, ""),
        ({"raw": "?" * 50}, "argument raw: must be base64, and is a text of 50 characters"),
        ({"kind": "b"}, ""),
        ({"kind": "c"}, "argument kind: must be one of the text 'a', the text 'b', and is the text 'c'"),
        ({"order": {"item": "x", "sizes": ["s"], "more": 1}}, ""),
        ({"order": {"sizes": []}}, "argument order.item: is missing"),
        ({"order": {"item": "x", "sizes": ["s", "xl"]}}, "argument order.sizes[1]: must be one of"),
        ({"tags": ["a", 1]}, "argument tags[1]: must be a text, and is 1"),
        ({"what": [1]}, ""),
        ({"db": "$res:u/ada/db"}, ""),
        ({"db": "ada"}, "argument db: must be an object, and is the text 'ada'"),
        ({"unknown": 1}, ""),
    ],
)
def test_what_fits_a_signature(arguments: dict[str, Any], problem: str) -> None:
    schema = read_schema("python3", PYTHON)
    given = arguments if "name" in arguments or not arguments else {"name": "x", **arguments}
    if not problem:
        check_arguments(schema, given)
        return
    with pytest.raises(BadRequest) as caught:
        check_arguments(schema, given)
    assert caught.value.detail.startswith(problem)


@pytest.mark.parametrize(
    ("schema", "value", "fits"),
    [
        ({"minimum": 1, "maximum": 3}, 3, True),
        ({"minimum": 1}, 0, False),
        ({"max": 3}, 4, False),
        ({"exclusiveMaximum": 3}, 3, False),
        ({"minLength": 2}, "a", False),
        ({"maxLength": 2}, "abc", False),
        ({"minItems": 1}, [], False),
        ({"maxItems": 1}, [1, 2], False),
        ({"format": "email"}, "ada@localhost", True),
        ({"format": "email"}, "ada", False),
        ({"const": 1}, True, False),
        ({"enum": [1]}, True, False),
        ({"type": ["string", "null"]}, None, True),
        ({"type": ["string", "integer"]}, [], False),
        ({"type": "any"}, [], True),
        (
            {"type": 5, "enum": 5, "required": 5, "properties": 5, "items": 5, "oneOf": 5, "minimum": "a"},
            {"a": [1]},
            True,
        ),
        ({"allOf": [{"type": "string"}, {"minLength": 2}]}, "a", False),
        ({"anyOf": [{"type": "string"}, {"type": "null"}]}, 1, False),
        (
            {"oneOf": [{"type": "object", "title": "x", "required": ["x"]}, {"title": "y", "required": ["y"]}]},
            {"y": 1},
            True,
        ),
        (
            {"oneOf": [{"type": "object", "title": "x", "required": ["x"]}, {"title": "y", "required": ["y"]}]},
            {},
            False,
        ),
        ({"items": {"type": "object"}, "originalType": "object[]"}, [1], True),
        ({"items": {"type": "resource", "resourceType": "s3_object"}}, [{"s3": "a"}, "$res:u/a/b"], True),
        (True, 1, True),
    ],
)
def test_words_of_schemas(schema: Any, value: Any, fits: bool) -> None:
    assert (misfit({"properties": {"x": schema}}, {"x": value}) is None) is (fits or value is None)


def test_schemas_within_schemas_are_bounded() -> None:
    schema: dict[str, Any] = {"type": "string"}
    value: Any = 1
    for _ in range(900):
        schema, value = {"properties": {"a": schema}}, {"a": value}
    assert misfit(schema, value) is None


JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-5, 5) | st.floats(-2, 2) | st.sampled_from(["", "a", "é"]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from("ab"), inner, max_size=2),
    max_leaves=6,
)
KINDS = st.sampled_from(["string", "integer", "number", "boolean", "object", "array", "null"])
SCHEMAS = st.recursive(
    st.fixed_dictionaries(
        {},
        optional={
            "type": KINDS | st.lists(KINDS, min_size=1, max_size=2, unique=True),
            "enum": st.lists(JSON, min_size=1, max_size=3),
            "const": JSON,
            "minimum": st.integers(-3, 3),
            "exclusiveMaximum": st.integers(-3, 3),
            "minLength": st.integers(0, 2),
            "maxItems": st.integers(0, 2),
        },
    ),
    lambda inner: st.fixed_dictionaries(
        {},
        optional={
            "items": inner,
            "properties": st.dictionaries(st.sampled_from("ab"), inner, max_size=2),
            "anyOf": st.lists(inner, min_size=1, max_size=2),
            "allOf": st.lists(inner, min_size=1, max_size=2),
        },
    ),
    max_leaves=4,
)


def _without_null(value: Any) -> Any:
    """Null leaves a default in place, which JSON Schema knows nothing of."""
    if isinstance(value, dict):
        return {name: _without_null(each) for name, each in value.items() if each is not None}
    return [_without_null(each) for each in value if each is not None] if isinstance(value, list) else value


@given(SCHEMAS, JSON)
def test_a_second_opinion(schema: dict[str, Any], value: Any) -> None:
    whole, value = {"type": "object", "properties": {"x": schema}}, _without_null({"x": value})
    assert (misfit(whole, value) is None) is jsonschema.Draft202012Validator(whole).is_valid(value)
