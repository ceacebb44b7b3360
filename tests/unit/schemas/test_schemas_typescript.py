"""Signatures of scripts in TypeScript as JSON Schema."""

from __future__ import annotations

from typing import Any

import pytest

from minwebhook.schemas.model import SchemaError
from minwebhook.schemas.reading import read_schema

STRING = {"type": "string", "originalType": "string"}
UNKNOWN = {"type": "object", "originalType": "unknown"}
HEAD = """
interface Base { id: number }
export interface Order extends Base { items: string[]; note?: string; "odd key": Date | null; before?: Order }
type Level = "lo" | "hi";
type Pair = { a: number } & Base;
enum Color { Red = "red", Blue = "blue" }
const enum Num { A, B = 5, C }
type Shape = { label: "circle"; r: number } | { label: "rect"; w?: number };
type Maybe = string | undefined;
"""


def schema(code: str, language: str = "bun") -> dict[str, Any]:
    return read_schema(language, code)


@pytest.mark.parametrize(
    ("annotation", "shown"),
    [
        ("string", STRING),
        ("number", {"type": "number"}),
        ("boolean", {"type": "boolean"}),
        ("true | false", {"type": "boolean"}),
        ("bigint", {"type": "integer"}),
        ("object", {"type": "object"}),
        ("Date", {"type": "string", "format": "date-time"}),
        ("Base64", {"type": "string", "contentEncoding": "base64", "originalType": "bytes"}),
        ("Email", {"type": "string", "format": "email"}),
        ("wmill.Sql", {"type": "string", "format": "sql"}),
        ("'a' | \"b\"", {"type": "string", "enum": ["a", "b"], "originalType": "enum"}),
        ("Level", {"type": "string", "enum": ["lo", "hi"], "originalType": "enum"}),
        ("Level | 'mid'", {"type": "string", "enum": ["lo", "hi", "mid"], "originalType": "enum"}),
        ("1 | 2", {"type": "integer", "enum": [1, 2]}),
        ("Color", {"type": "string", "enum": ["red", "blue"], "originalType": "enum"}),
        ("Num", {"type": "integer", "enum": [0, 5, 6]}),
        ("`v${number}`", STRING),
        ("Record<string, any>", {"type": "object"}),
        ("wmill.S3Object", {"type": "object", "format": "resource-s3_object"}),
        ("Resource<'postgresql'>", {"type": "object", "format": "resource-postgresql"}),
        ("CApiKey", {"type": "object", "format": "resource-c_api_key"}),
        ("DynSelect_city", {"type": "object", "format": "dynselect-city"}),
        ("any", UNKNOWN),
        ("string | number", UNKNOWN),
        ("(x: number) => string", UNKNOWN),
        ("string[]", {"type": "array", "items": {"type": "string"}, "originalType": "string[]"}),
        ("readonly number[]", {"type": "array", "items": {"type": "number"}, "originalType": "number[]"}),
        (
            "Array<'a' | 'b'>",
            {"type": "array", "items": {"type": "string", "enum": ["a", "b"]}, "originalType": "enum[]"},
        ),
        ("[number, string]", {"type": "array", "items": {"type": "object"}, "originalType": "object[]"}),
        (
            "{ a: number; b?: 'x'; [key: string]: unknown }",
            {
                "type": "object",
                "properties": {"a": {"type": "number"}, "b": {"type": "string", "enum": ["x"], "originalType": "enum"}},
                "required": ["a"],
            },
        ),
        (
            "{ a: number }[]",
            {
                "type": "array",
                "items": {"type": "object", "properties": {"a": {"type": "number"}}, "required": ["a"]},
                "originalType": "record[]",
            },
        ),
        (
            "Pair",
            {
                "type": "object",
                "format": "resource-pair",
                "properties": {"a": {"type": "number"}, "id": {"type": "number"}},
                "required": ["a", "id"],
            },
        ),
        ("Partial<Pair>", {"type": "object", "properties": {"a": {"type": "number"}, "id": {"type": "number"}}}),
        (
            "Order",
            {
                "type": "object",
                "format": "resource-order",
                "properties": {
                    "id": {"type": "number"},
                    "items": {"type": "array", "items": {"type": "string"}, "originalType": "string[]"},
                    "note": STRING,
                    "odd key": {"type": "string", "format": "date-time"},
                    "before": {"type": "object", "format": "resource-order"},
                },
                "required": ["id", "items"],
            },
        ),
        (
            "Shape",
            {
                "type": "object",
                "oneOf": [
                    {
                        "type": "object",
                        "title": "circle",
                        "properties": {
                            "label": {"type": "string", "enum": ["circle"], "originalType": "enum"},
                            "r": {"type": "number"},
                        },
                        "required": ["label", "r"],
                    },
                    {
                        "type": "object",
                        "title": "rect",
                        "properties": {
                            "label": {"type": "string", "enum": ["rect"], "originalType": "enum"},
                            "w": {"type": "number"},
                        },
                        "required": ["label"],
                    },
                ],
            },
        ),
    ],
)
def test_a_type(annotation: str, shown: dict[str, Any]) -> None:
    found = schema(f"{HEAD}\nexport async function main(x: {annotation}) {{}}")
    assert (found["properties"], found["required"], found["order"]) == ({"x": shown}, ["x"], ["x"])
    for written in (f"x?: {annotation}", f"x: null | ({annotation})", f"x: undefined | ({annotation}) = f()"):
        found = schema(f"{HEAD}\nexport function main({written}) {{}}")
        assert (found["properties"], found["required"]) == ({"x": shown}, [])


@pytest.mark.parametrize(
    ("written", "shown"),
    [
        ("x = 5", {"type": "number", "default": 5}),
        ("x = 10n", {"type": "integer", "default": 10}),
        ("x = 0x1_0", {"type": "number", "default": 16}),
        ("x = -2.5", {"type": "number", "default": -2.5}),
        ("x = true", {"type": "boolean", "default": True}),
        ("x = 'a\\u0062\\n\\x41'", {**STRING, "default": "ab\nA"}),
        ("x = `one`", {**STRING, "default": "one"}),
        ("x = `${1}`", UNKNOWN),
        ("x: string = '\\ud800'", STRING),
        ("x: Date = new Date()", {"type": "string", "format": "date-time"}),
        (
            "x: Color = Color.Blue",
            {"type": "string", "enum": ["red", "blue"], "originalType": "enum", "default": "blue"},
        ),
        ("x = [1, 2]", {"type": "array", "items": {"type": "number"}, "originalType": "number[]", "default": [1, 2]}),
        ("x = { a: [1, 'b'], 'c d': null }", {"type": "object", "default": {"a": [1, "b"], "c d": None}}),
        ("x: any = null", {**UNKNOWN, "default": None}),
    ],
)
def test_a_default(written: str, shown: dict[str, Any]) -> None:
    found = schema(f"{HEAD}\nexport const main = async ({written}) => {{}}")
    assert (found["properties"], found["required"]) == ({"x": shown}, [])


@pytest.mark.parametrize(
    ("code", "order", "required"),
    [
        ("export const main = x => x", ["x"], ["x"]),
        ("export let main = function (a, b?, ...rest) {}", ["a", "b"], ["a"]),
        ("function run(q: string) {}\nexport { run as main }", ["q"], ["q"]),
        ("async function main(q: string) {}\nexport { main, other }", ["q"], ["q"]),
        ("export async function* main<T extends {}>(this: any, a: T, b = 1) {}", ["a", "b"], ["a"]),
        ("export function main({ a, b = 2, c: d, ...e }: { a: string; b?: number; f: Date }) {}", ["a", "b", "c", "f"],
         ["a", "c", "f"]),
        ("export function main({ a, b = 2 }) {}", ["a", "b"], ["a"]),
        ("function main(a) {}", [], []),
        ("export const x = 1", [], []),
        ("", [], []),
    ],
)  # fmt: skip
def test_the_exported_main_counts(code: str, order: list[str], required: list[str]) -> None:
    for language in ("bun", "deno", "nativets", "bunnative"):
        found = schema(code, language)
        assert (found["order"], found["required"]) == (order, required)


def test_descriptions_come_from_the_comment() -> None:
    found = schema("/**\n * Does it.\n * @param a the first\n * @param {number} [b=5] - the second\n */\n"
                   "export async function main(a: string, b = 5, c = 6) {}")  # fmt: skip
    descriptions = {name: shown.get("description") for name, shown in found["properties"].items()}
    assert descriptions == {"a": "the first", "b": "the second", "c": None}


def test_errors_elsewhere_do_not_matter() -> None:
    assert schema("const = ;\nexport function main(a: string) { return ( }")["order"] == ["a"]


@pytest.mark.parametrize("code", ["export function main( {", "export function main(a: ) {}", "]]]"])
def test_what_cannot_be_read_is_told(code: str) -> None:
    with pytest.raises(SchemaError, match="line 1: "):
        schema(code)


def test_types_within_types_are_bounded() -> None:
    members = "abcdefghijkl"
    types = "\n".join(f"type T{n} = {{ {'; '.join(f'{name}: T{n + 1}' for name in members)} }};" for n in range(3))
    with pytest.raises(SchemaError, match="made of more than 1000 types"):
        schema(f"{types}\ntype T3 = string;\nexport function main(x: T0) {{}}")
    assert schema("type A = B; type B = A & A;\nexport function main(x: A) {}")["order"] == ["x"]
