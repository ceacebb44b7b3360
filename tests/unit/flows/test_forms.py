"""The form of an approval: what a schema asks for, and what becomes of what was filled in."""

from __future__ import annotations

from html.parser import HTMLParser
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from minwebhook.api import approval_html
from minwebhook.api.approval_html import Question
from minwebhook.errors import BadRequest
from minwebhook.flows.forms import Kind, fields_of, payload_of

SCHEMA = {
    "order": ["n", "who"],
    "required": ["n"],
    "properties": {
        "who": {"type": "string", "enum": ["ada", "grace"], "title": "Who?", "default": "ada"},
        "n": {"type": "integer", "description": "How many."},
        "x": {"type": "number"},
        "ok": {"type": "boolean", "default": True},
        "secret": {"type": "string", "password": True},
        "day": {"type": "string", "format": "date"},
        "text": {"type": "string", "format": "yaml"},
        "more": {"type": "object"},
    },
}


def test_every_kind_is_asked_for_and_read() -> None:
    fields = fields_of(SCHEMA, {"n": 3, "more": {"a": 1}})
    assert [field.name for field in fields] == ["n", "who", "x", "ok", "secret", "day", "text", "more"]
    kinds = [Kind.INTEGER, Kind.CHOICE, Kind.NUMBER, Kind.CHECKBOX, Kind.PASSWORD, Kind.DATE, Kind.LONG_TEXT, Kind.JSON]
    assert [field.kind for field in fields] == kinds
    assert [field.value for field in fields] == ["3", "ada", "", "true", "", "", "", '{"a":1}']
    sent = {"f.n": "4", "f.who": "grace", "f.x": "1.5", "f.day": "2024-02-29", "f.more": "[1]", "action": "resume"}
    assert payload_of(fields, sent) == {"n": 4, "who": "grace", "x": 1.5, "ok": False, "day": "2024-02-29", "more": [1]}


@pytest.mark.parametrize(
    ("sent", "words"),
    [
        ({}, "n is missing"),
        ({"f.n": "x"}, "n must be a whole number"),
        ({"f.n": "1", "f.x": "nan"}, "x must be a number"),
        ({"f.n": "1", "f.who": "eve"}, "Who[?] must be one of ada, grace"),
        ({"f.n": "1", "f.more": "{"}, "more must be JSON"),
    ],
)
def test_what_cannot_be_read_is_named(sent: dict[str, str], words: str) -> None:
    with pytest.raises(BadRequest, match=words):
        payload_of(fields_of(SCHEMA), sent)


def test_the_step_may_say_what_can_be_chosen() -> None:
    (field,) = fields_of({"properties": {"who": {"type": "string", "enum": ["a"]}}}, None, {"who": ["b", "c"]})
    assert field.choices == ("b", "c")


_JSON: Any = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=12,
)


class _Names(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.names: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Collects what there is."""
        self.tags.append(tag)
        known = dict(attrs)
        if tag in ("input", "select", "textarea"):
            self.names.append(known["name"] or "")


@given(_JSON, _JSON, _JSON, st.text())
def test_any_schema_makes_a_page_on_which_nothing_is_alive(schema: Any, defaults: Any, enums: Any, text: str) -> None:
    fields = fields_of({"properties": schema} if isinstance(schema, dict) else schema, defaults, enums)
    response = approval_html.ask(Question(text, text, text, fields, True, [text], 1, text))
    assert isinstance(response.body, bytes)
    parser = _Names()
    parser.feed(response.body.decode())
    known = {"html", "head", "meta", "title", "style", "body", "main", "h1", "pre", "form", "label", "small", "input"}
    assert set(parser.tags) <= known | {"select", "option", "textarea", "button", "footer", "div"}
    assert len(parser.names) == len(fields)
