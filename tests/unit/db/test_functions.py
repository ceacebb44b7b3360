"""Containment of JSON, as PostgreSQL's ``jsonb @>`` has it."""

from __future__ import annotations

import json
import sqlite3
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from minwebhook.db.functions import MAX_SEARCHED_BYTES, contains, json_contains, register

scalars = st.none() | st.booleans() | st.integers(-2, 2) | st.sampled_from([0.5, 1.0]) | st.sampled_from(["", "a", "1"])
values = st.recursive(
    scalars, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text("ab"), inner, max_size=3)
)


@pytest.mark.parametrize(
    ("whole", "part", "expected"),
    [
        # The examples of PostgreSQL's manual, 8.14.3.
        ('"foo"', '"foo"', True),
        ("[1, 2, 3]", "[1, 3]", True),
        ("[1, 2, 3]", "[3, 1]", True),
        ("[1, 2, 3]", "[1, 2, 2]", True),
        ('{"product": "PostgreSQL", "version": 9.4, "jsonb": true}', '{"version": 9.4}', True),
        ("[1, 2, [1, 3]]", "[1, 3]", False),
        ("[1, 2, [1, 3]]", "[[1, 3]]", True),
        ('{"foo": {"bar": "baz"}}', '{"bar": "baz"}', False),
        ('{"foo": {"bar": "baz"}}', '{"foo": {}}', True),
        ('["foo", "bar"]', '"bar"', True),
        ('"bar"', '["bar"]', False),
        # Kinds of values.
        ('{"a": 1}', '{"a": 1.0}', True),
        ('{"a": 1}', '{"a": true}', False),
        ('{"a": false}', '{"a": 0}', False),
        ('{"a": "1"}', '{"a": 1}', False),
        ('{"a": null}', '{"a": null}', True),
        ("{}", '{"a": null}', False),
        ('{"a": 9007199254740993}', '{"a": 9007199254740992}', False),
        ('{"a": [{"b": 1, "c": 2}]}', '{"a": [{"b": 1}]}', True),
        ('{"a": [1]}', '{"a": 1}', False),
        ("{}", "{}", True),
        ("{}", "[]", False),
        ("[]", "{}", False),
        ("[[1], 2]", "[[]]", True),
    ],
)
def test_examples(whole: str, part: str, expected: bool) -> None:
    assert json_contains(whole, part) is expected
    assert json_contains(whole.encode(), part) is expected


@given(values)
def test_everything_contains_itself(value: Any) -> None:
    assert contains(value, value)


@given(values, values, values)
def test_containment_is_transitive_but_for_scalars_in_arrays(a: Any, b: Any, c: Any) -> None:
    if isinstance(c, list | dict) and contains(a, b) and contains(b, c):
        assert contains(a, c)


@st.composite
def parts(draw: st.DrawFn, value: Any) -> Any:
    """A value that ``value`` contains: some of its members and items, in another order and more than once."""
    if isinstance(value, dict):
        names = draw(st.lists(st.sampled_from(sorted(value)), unique=True)) if value else []
        return {name: draw(parts(value[name])) for name in names}
    if isinstance(value, list):
        chosen = draw(st.lists(st.sampled_from(range(len(value))), max_size=4)) if value else []
        return [draw(parts(value[index])) for index in chosen]
    return value


@given(values.flatmap(lambda value: st.tuples(st.just(value), parts(value))))
def test_what_is_taken_from_a_value_is_contained_in_it(pair: tuple[Any, Any]) -> None:
    whole, part = pair
    assert contains(whole, part)


@given(st.dictionaries(st.text("ab"), values, max_size=3), values)
def test_a_new_member_is_not_contained(whole: dict[str, Any], value: Any) -> None:
    assert not contains(whole, {**whole, "new": value})


@given(values, values)
def test_sql_says_the_same(whole: Any, part: Any) -> None:
    connection = sqlite3.connect(":memory:")
    try:
        register(connection)
        row = connection.execute(
            "SELECT json_contains(?, ?)", (json.dumps(whole).encode(), json.dumps(part))
        ).fetchone()
    finally:
        connection.close()
    assert row == (int(contains(whole, part)),)


def test_what_cannot_be_looked_into_contains_nothing() -> None:
    assert not json_contains(None, "{}")
    assert not json_contains(b"{", "{}")
    assert not json_contains(b"", "{}")
    fits = json.dumps({"a": "x" * (MAX_SEARCHED_BYTES - 9)}).encode()
    assert len(fits) == MAX_SEARCHED_BYTES
    assert json_contains(fits, "{}")
    assert not json_contains(fits + b" ", "{}")


def test_a_deep_part_is_compared() -> None:
    deep = "[" * 200 + "]" * 200
    assert json_contains(deep, deep)
    assert not json_contains(deep, deep.replace("[]", "[1]"))
