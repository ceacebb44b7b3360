"""Signatures of Python scripts as JSON Schema."""

from __future__ import annotations

from typing import Any

import pytest

from minwebhook.schemas.model import SchemaError
from minwebhook.schemas.reading import read_schema

STRING = {"type": "string", "originalType": "string"}
HEAD = """
import datetime as dt, typing, wmill
from dataclasses import dataclass, field
from datetime import date, datetime
from enum import Enum, IntEnum
from typing import *

class Color(str, Enum):
    RED = "red"
    BLUE = "blue"

class Level(IntEnum):
    LOW = 1
    HIGH = 2

postgresql = dict
Size = Literal["s", "m"]
Sizes = list[Size]
UserId = NewType("UserId", int)

class Base(TypedDict):
    id: int

class Order(Base, total=False):
    items: Required[list[str]]
    note: str

@dataclass
class Point:
    x: float
    y: float = 0.5
    tags: list[str] = field(default_factory=list)
    kind: ClassVar[str] = "p"
    before: "Point | None" = None

class Model(pydantic.BaseModel):
    name: str
    nick: Optional[str]

class c_api:
    pass
"""


def schema(code: str) -> dict[str, Any]:
    return read_schema("python3", code)


@pytest.mark.parametrize(
    ("annotation", "shown"),
    [
        ("str", STRING),
        ("int", {"type": "integer"}),
        ("float", {"type": "number"}),
        ("bool", {"type": "boolean"}),
        ("bytes", {"type": "string", "contentEncoding": "base64", "originalType": "bytes"}),
        ("datetime", {"type": "string", "format": "date-time"}),
        ("dt.datetime", {"type": "string", "format": "date-time"}),
        ("date", {"type": "string", "format": "date"}),
        ("'dt.date'", {"type": "string", "format": "date"}),
        ("dict", {"type": "object"}),
        ("dict[str, int]", {"type": "object"}),
        ("Sql", {"type": "string", "format": "sql"}),
        ("Literal['a', 'b']", {"type": "string", "enum": ["a", "b"], "originalType": "enum"}),
        ("Literal[1, 2]", {"type": "integer", "enum": [1, 2]}),
        ("Size", {"type": "string", "enum": ["s", "m"], "originalType": "enum"}),
        ("Literal['a'] | Literal['b']", {"type": "string", "enum": ["a", "b"], "originalType": "enum"}),
        ("UserId", {"type": "integer"}),
        ("Color", {"type": "string", "enum": ["red", "blue"], "originalType": "enum"}),
        ("Level", {"type": "integer", "enum": [1, 2]}),
        ("Annotated[str, 'about it']", STRING),
        ("DynSelect_city", {"type": "object", "format": "dynselect-city"}),
        ("DynMultiselect_city", {"type": "object", "format": "dynmultiselect-city"}),
        ("wmill.S3Object", {"type": "object", "format": "resource-s3_object"}),
        ("postgresql", {"type": "object", "format": "resource-postgresql"}),
        ("c_api", {"type": "object", "format": "resource-c_api"}),
        ("slack", {"type": "object", "format": "resource-slack"}),
        ("Any", {"type": "object", "originalType": "unknown"}),
        ("int | str", {"type": "object", "originalType": "unknown"}),
        ("list", {"type": "array", "items": {"type": "object"}, "originalType": "object[]"}),
        ("list[int]", {"type": "array", "items": {"type": "number"}, "originalType": "number[]"}),
        ("List[float]", {"type": "array", "items": {"type": "number"}, "originalType": "number[]"}),
        ("tuple[str, ...]", {"type": "array", "items": {"type": "string"}, "originalType": "string[]"}),
        (
            "list[bytes]",
            {"type": "array", "items": {"type": "string", "contentEncoding": "base64"}, "originalType": "bytes[]"},
        ),
        ("Sizes", {"type": "array", "items": {"type": "string", "enum": ["s", "m"]}, "originalType": "enum[]"}),
        (
            "list[wmill.S3Object]",
            {"type": "array", "items": {"type": "resource", "resourceType": "s3_object"}, "originalType": "resource[]"},
        ),
        ("list[dict]", {"type": "array", "items": {"type": "object"}, "originalType": "record[]"}),
        ("list[list[int]]", {"type": "array", "items": {"type": "object"}, "originalType": "object[]"}),
        (
            "Order",
            {
                "type": "object",
                "format": "resource-Order",
                "properties": {
                    "id": {"type": "integer"},
                    "items": {"type": "array", "items": {"type": "string"}, "originalType": "string[]"},
                    "note": STRING,
                },
                "required": ["id", "items"],
            },
        ),
        (
            "Point",
            {
                "type": "object",
                "format": "resource-Point",
                "properties": {
                    "x": {"type": "number"},
                    "y": {"type": "number", "default": 0.5},
                    "tags": {"type": "array", "items": {"type": "string"}, "originalType": "string[]"},
                    "before": {"type": "object", "format": "resource-Point", "default": None},
                },
                "required": ["x"],
            },
        ),
        (
            "Model",
            {
                "type": "object",
                "format": "resource-Model",
                "properties": {"name": STRING, "nick": STRING},
                "required": ["name"],
            },
        ),
    ],
)
def test_a_type(annotation: str, shown: dict[str, Any]) -> None:
    found = schema(f"{HEAD}\ndef main(x: {annotation}): pass")
    assert found == {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "type": "object",
        "properties": {"x": shown},
        "required": ["x"],
        "order": ["x"],
    }
    for spelled in (f"Optional[{annotation}]", f"typing.Union[None, {annotation}]"):
        found = schema(f"{HEAD}\ndef main(x: {spelled}): pass")
        assert (found["properties"], found["required"]) == ({"x": shown}, [])


@pytest.mark.parametrize(
    ("written", "shown"),
    [
        ("x: int = 5", {"type": "integer", "default": 5}),
        ("x: float = -1.5", {"type": "number", "default": -1.5}),
        ("x: str = None", {**STRING, "default": None}),
        (
            "x: bytes = b'x'",
            {"type": "string", "contentEncoding": "base64", "originalType": "bytes", "default": "eA=="},
        ),
        ("x: Color = Color.RED", {"type": "string", "enum": ["red", "blue"], "originalType": "enum", "default": "red"}),
        ("x: datetime = datetime.now()", {"type": "string", "format": "date-time", "default": "<function call>"}),
        ("x: str = HEAD", STRING),
        ("x: int = 10**30", {"type": "integer"}),
        (f"x: int = {2**63}", {"type": "integer"}),
        ("x: str = '\\ud800'", STRING),
        ("x: float = 1e999", {"type": "number"}),
        ("x='t'", {**STRING, "default": "t"}),
        ("x=1", {"type": "integer", "default": 1}),
        ("x=True", {"type": "boolean", "default": True}),
        ("x=None", {"type": "object", "originalType": "unknown", "default": None}),
        ("x=[]", {"type": "array", "items": {"type": "string"}, "originalType": "string[]", "default": []}),
        ("x=(1, 2)", {"type": "array", "items": {"type": "number"}, "originalType": "number[]", "default": [1, 2]}),
        ("x={'a': [1]}", {"type": "object", "default": {"a": [1]}}),
    ],
)
def test_a_default(written: str, shown: dict[str, Any]) -> None:
    found = schema(f"{HEAD}\nasync def main({written}): pass")
    assert (found["properties"], found["required"]) == ({"x": shown}, [])


def test_the_order_is_that_of_the_signature_and_stars_are_no_arguments() -> None:
    found = schema("def main(b, /, a=1, *args, d, c=2, **kwargs): pass")
    assert (found["order"], found["required"]) == (["b", "a", "d", "c"], ["b", "d"])


def test_the_last_main_counts_as_it_does_when_it_runs() -> None:
    assert schema("def main(a): pass\ndef main(b): pass\nclass X:\n    def main(c): pass")["order"] == ["b"]
    assert schema("def other(a): pass")["order"] == []


def test_descriptions_come_from_the_docstring() -> None:
    found = schema(
        '''
def main(a, b=1, c=2, d=3):
    """Does it.

    Args:
        a (str): the first,
            which goes on
        b: the second: it counts

    Returns:
        d: nothing

    :param int c: the third
    """
'''
    )
    descriptions = {name: shown.get("description") for name, shown in found["properties"].items()}
    assert descriptions == {"a": "the first, which goes on", "b": "the second: it counts", "c": "the third", "d": None}


@pytest.mark.parametrize(
    ("code", "problem"),
    [
        ("def main(:", "line 1: "),
        ("x = 1\ndef main(a) pass", "line 2: "),
        ("x = '\0'", r"null bytes|NUL"),
        ("x = " + "-" * 100_000 + "1", "nested too deeply"),
        ("x = " + "(" * 1000, "line 1: too many nested parentheses"),
    ],
)
def test_what_cannot_be_read_is_told(code: str, problem: str) -> None:
    with pytest.raises(SchemaError, match=problem):
        schema(code)


def test_types_within_types_are_bounded() -> None:
    members = "\n".join(f"class T{n}(TypedDict):\n    a: 'T{n + 1}'\n    b: 'T{n + 1}'" for n in range(15))
    with pytest.raises(SchemaError, match="made of more than 1000 types"):
        schema(f"{members}\nclass T15(TypedDict):\n    a: int\ndef main(x: T0): pass")
    with pytest.raises(SchemaError, match="larger than"):
        schema(f"def main(x='{'x' * 300_000}'): pass")
    assert schema("A = 'B'\nB = Optional[B]\ndef main(x: B, y: A): pass")["order"] == ["x", "y"]
