"""Byte strings beside JSON: they come back where they were, and nothing else becomes one."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from minwebhook.child import values
from minwebhook.child.python import encode_result

plain = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0")),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0")), inner, max_size=4)
    ),
    max_leaves=15,
)
with_bytes = st.recursive(
    plain | st.binary(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text("ab01"), inner, max_size=4),
    max_leaves=15,
)


@given(with_bytes)
def test_bytes_come_back_where_they_were(value: Any) -> None:
    text, mask = encode_result(value)
    assert values.restore(json.loads(text), json.loads(mask) if mask else None) == value


@given(plain)
def test_what_has_no_bytes_has_no_mask(value: Any) -> None:
    assert encode_result(value)[1] == b""
    assert values.mask_of(value) is None


masks = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(),
    lambda inner: st.dictionaries(st.text() | st.sampled_from("012"), inner, max_size=4) | st.lists(inner, max_size=2),
    max_leaves=10,
)


@given(plain, masks)
def test_a_mask_that_does_not_fit_does_no_harm(value: Any, mask: Any) -> None:
    """A hostile process may send any mask: only strings of base64 in the place it names can change."""
    before = json.dumps(value)
    after = values.restore(json.loads(before), mask)

    def same(one: Any, other: Any) -> bool:
        if isinstance(other, bytes):
            return isinstance(one, str) and values.to_base64(other) == one
        if isinstance(one, dict):
            return isinstance(other, dict) and one.keys() == other.keys() and all(same(one[k], other[k]) for k in one)
        if isinstance(one, list):
            return isinstance(other, list) and len(one) == len(other) and all(map(same, one, other))
        return bool(one == other)

    assert same(value, after)


def test_names_that_are_no_texts() -> None:
    text, mask = encode_result({1: b"x", None: b"y", False: {2.5: b"z"}})
    assert json.loads(mask) == {"1": True, "null": True, "false": {"2.5": True}}
    assert values.restore(json.loads(text), json.loads(mask)) == {"1": b"x", "null": b"y", "false": {"2.5": b"z"}}


@pytest.mark.parametrize("levels", [10, 990, 1024])
def test_as_deep_as_the_server_lets_in(levels: int) -> None:
    text = "[" * levels + "]" * levels
    assert values.dumps(values.loads(text)) == text


def test_large_integers_keep_their_digits() -> None:
    assert values.dumps(values.loads('{"a":12345678901234567890123}')) == '{"a":12345678901234567890123}'
