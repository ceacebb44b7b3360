"""Signatures of the other languages, what is kept of an earlier schema, and sources of any kind."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from minwebhook.schemas.conventions import literal
from minwebhook.schemas.model import MAX_SCHEMA_BYTES, NO_DEFAULT, SchemaError, keep_edits
from minwebhook.schemas.reading import has_signature, read_schema
from minwebhook.scripts.model import TYPESCRIPT, Language

STRING = {"type": "string", "originalType": "string"}
UNKNOWN = {"type": "object", "originalType": "unknown"}
STRINGS = {"type": "array", "items": {"type": "string"}, "originalType": "string[]"}
DATE_TIME = {"type": "string", "format": "date-time"}

GO = """
import "time"

type Base struct {
	ID int `json:"id"`
}

type Order struct {
	Base
	Item   string `json:"item"`
	Count  *int64 `json:"count,omitempty"`
	When   time.Time
	hidden int
	Skip   string `json:"-"`
	Next   *Order
}

func main(a, b string, n uint8, raw []byte, f []float64, o Order, m map[string]int, i interface{}, p *bool, rest ...string) {}
"""


@pytest.mark.parametrize(
    ("language", "code", "properties", "required"),
    [
        (
            "go",
            GO,
            {
                "a": STRING,
                "b": STRING,
                "n": {"type": "integer"},
                "raw": {"type": "string", "contentEncoding": "base64", "originalType": "bytes"},
                "f": {"type": "array", "items": {"type": "number"}, "originalType": "number[]"},
                "o": {
                    "type": "object",
                    "properties": {
                        "id": {"type": "integer"},
                        "item": STRING,
                        "count": {"type": "integer"},
                        "When": DATE_TIME,
                        "Next": UNKNOWN,
                    },
                    "required": ["id", "item", "When"],
                },
                "m": {"type": "object"},
                "i": UNKNOWN,
                "p": {"type": "boolean"},
                "rest": STRINGS,
            },
            ["a", "b", "n", "raw", "f", "o", "m", "i"],
        ),
        (
            "bash",
            'name="$1"\nwho="${2:-you all}" # c\nlast="${3}"\nother="$5"',
            {"name": STRING, "who": {**STRING, "default": "you all"}, "last": STRING},
            ["name", "last"],
        ),
        (
            "php",
            "<?php\nfunction main(int $a, ?string $b, array $c = [], DateTimeImmutable $d = null, float|null $e = 1.5,"
            " #[Sensitive] bool $f = true, $g = 'x', \\Foo\\Bar $h = new X(), &$i = -3, object $j, A|B $k, ...$rest) {}",
            {
                "a": {"type": "integer"},
                "b": STRING,
                "c": {**UNKNOWN, "default": []},
                "d": {**DATE_TIME, "default": None},
                "e": {"type": "number", "default": 1.5},
                "f": {"type": "boolean", "default": True},
                "g": {**STRING, "default": "x"},
                "h": {"type": "object", "format": "resource-Bar"},
                "i": {"type": "integer", "default": -3},
                "j": {"type": "object"},
                "k": UNKNOWN,
            },
            ["a", "j", "k"],
        ),
        (
            "ruby",
            'def main(a, b = "d", c: 5, d:, e: nil, *rest, **others, &block)\nend',
            {
                "a": UNKNOWN,
                "b": {**STRING, "default": "d"},
                "c": {"type": "integer", "default": 5},
                "d": UNKNOWN,
                "e": {**UNKNOWN, "default": None},
            },
            ["a", "d"],
        ),
        (
            "perl",
            "use v5.36;\n\nsub main ($b, $a = 'd', $n = 3, @list) {\n}",
            {
                "b": UNKNOWN,
                "a": {**STRING, "default": "d"},
                "n": {"type": "integer", "default": 3},
                "list": {"type": "array", "items": {"type": "object"}, "originalType": "object[]"},
            },
            ["b", "a", "n"][:1],
        ),
        ("perl", "sub main {\n    my ($x, $y) = @_;\n}", {"x": UNKNOWN, "y": UNKNOWN}, ["x", "y"]),
        (
            "powershell",
            "param(\n  [Parameter(Mandatory=$true, Position=0)][string]$Name,\n  [int] $Count = 5,\n"
            "  [ValidateSet('a','b')][string]$Kind = 'a',\n  [string[]]$Tags, [switch]$On, $Rest,\n"
            "  [datetime]$When, [PSCustomObject]$Object, $n = 5, [decimal]$Money\n)\n",
            {
                "Name": STRING,
                "Count": {"type": "integer", "default": 5},
                "Kind": {"type": "string", "enum": ["a", "b"], "originalType": "enum", "default": "a"},
                "Tags": STRINGS,
                "On": {"type": "boolean"},
                "Rest": STRING,
                "When": DATE_TIME,
                "Object": {"type": "object"},
                "n": {"type": "integer", "default": 5},
                "Money": {"type": "number"},
            },
            ["Name", "Tags", "Rest", "When", "Object", "Money"],
        ),
    ],
)
def test_a_language(language: str, code: str, properties: dict[str, Any], required: list[str]) -> None:
    found = read_schema(language, code)
    assert found["properties"] == properties
    assert (found["required"], found["order"]) == (required, list(properties))


def test_what_cannot_be_read_is_told() -> None:
    for language, code in (("go", "func main( {"), ("exec", "#!/bin/sh")):
        with pytest.raises(SchemaError, match=r"line 1: not Go|have no signature"):
            read_schema(language, code)


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("5", 5), ("-1.5", -1.5), ("1e3", 1000.0), ("1_000", 1000), ("true", True), ("$False", False), ("nil", None),
        ("undef", None), ('"a b"', "a b"), ("'$x'", "$x"), ('"$x"', NO_DEFAULT), ("'a\\'b'", NO_DEFAULT), ("x", NO_DEFAULT),
        ("", NO_DEFAULT), ('"', NO_DEFAULT), ("[]", []), ("[1]", NO_DEFAULT), ("9" * 30, NO_DEFAULT), ("9" * 5000, NO_DEFAULT),
    ],
)  # fmt: skip
def test_a_literal(text: str, value: Any) -> None:
    assert literal(text) == value


def test_what_people_added_to_a_schema_stays() -> None:
    schema = read_schema("python3", "def main(a: str, b: int = 2): pass")
    before = {
        "properties": {
            "a": {"type": "integer", "description": "mine", "maxLength": 5, "default": "no"},
            "b": 5,
            "gone": {"description": "x"},
        }
    }
    kept = keep_edits(schema, before)
    assert kept["properties"] == {
        "a": {**STRING, "description": "mine", "maxLength": 5},
        "b": {"type": "integer", "default": 2},
    }
    assert kept["order"] == ["a", "b"]
    others: tuple[Any, ...] = (None, {}, {"properties": []})
    for other in others:
        assert keep_edits(schema, other) == schema


#: One of each way to read.
LANGUAGES = [
    language.value
    for language in Language
    if has_signature(language.value) and language not in TYPESCRIPT - {Language.BUN}
]
#: What signatures are made of, besides what has spaces in it.
WORDS = (
    "def export async function main( func sub param( a b , : = ( ) [ ] { } < > | & ' \" ` \\ # // /* */ $ @ % ; ? => . - * ..."
    ' string int Optional Literal class type interface enum struct import new null None a.b """ @param $1 1 é \0 \ud800'
)
PIECES = st.sampled_from(
    [*WORDS.split(" "), " ", "\n", "def main(", "export function main(", "func main(", "Args:\n  a: b\n"]
)


@given(st.sampled_from(LANGUAGES), st.text(max_size=200) | st.lists(PIECES, max_size=60).map("".join))
def test_any_source_gives_a_schema_or_an_error(language: str, code: str) -> None:
    try:
        found = read_schema(language, code)
    except SchemaError as error:
        assert str(error)
        return
    assert list(found["properties"]) == found["order"]
    assert set(found["required"]) <= set(found["order"])


@pytest.mark.parametrize("language", LANGUAGES)
@pytest.mark.parametrize(
    "piece", ["(", "[", "{", "<", "a|", "a[", "-", "'", '"', "`", "${", "@", "main(", "a.", "::", "\\"]
)
def test_much_of_one_thing(language: str, piece: str) -> None:
    for start in (
        "",
        "def main(x: ",
        "export function main(x: ",
        "func main(x ",
        "<?php function main(",
        "param(",
        "sub main (",
    ):
        try:
            assert len(str(read_schema(language, start + piece * 3000))) < MAX_SCHEMA_BYTES
        except SchemaError as error:
            assert str(error)
