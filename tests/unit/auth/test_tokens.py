"""Tokens as text, principals, and the body of a token creation."""

from __future__ import annotations

import contextlib
import hashlib
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from minwebhook.auth.principal import Principal
from minwebhook.auth.requests import NewToken
from minwebhook.auth.tokens import display_name, new_token, same_hash, token_hash, token_prefix
from minwebhook.errors import BadRequest

json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=5,
)
FIELDS = ("label", "expiration", "scopes", "workspace_id", "read_only")


def test_a_token_is_32_letters_and_digits_and_never_the_same() -> None:
    tokens = {new_token() for _ in range(100)}
    assert len(tokens) == 100
    assert all(re.fullmatch("[A-Za-z0-9]{32}", token) for token in tokens)


def test_the_stored_form_is_hex_sha256() -> None:
    assert token_hash("secret") == hashlib.sha256(b"secret").hexdigest()
    assert token_prefix("abcdefghijklmnop") == "abcdefghij"
    assert same_hash(token_hash("a"), token_hash("a"))
    assert not same_hash(token_hash("a"), token_hash("b"))


@given(st.text(st.characters()))
def test_any_text_has_a_hash(token: str) -> None:
    assert re.fullmatch("[0-9a-f]{64}", token_hash(token))


@pytest.mark.parametrize(
    ("label", "shown"),
    [
        (None, "alice"),
        ("", "alice"),
        ("session", "alice"),
        ("ephemeral-script", "alice"),
        ("webhook-alice-x7Qp", "webhook-alice-x7Qp"),
        ("http-route", "http-route"),
        ("email-in", "email-in"),
        ("ws-feed", "ws-feed"),
        ("ci", "label-ci"),
        ("webhooks", "label-webhooks"),
    ],
)
def test_the_label_decides_the_name_shown(label: str | None, shown: str) -> None:
    assert display_name(label, "alice") == shown


def test_permissions_belong_to_the_user_whatever_is_shown() -> None:
    member = Principal("a@x", "alice", False, False, "webhook-alice-1", "demo", "abc")
    guest = Principal("root@x", "root@x", True, True, "root@x", "demo", "abc")
    assert member.permissioned_as == "u/alice"
    assert guest.permissioned_as == "root@x"


def test_a_restricted_token_is_asked_for_by_its_scopes() -> None:
    asked = NewToken.parse({"scopes": ["jobs:run", "*"], "read_only": True})
    assert asked == NewToken(scopes=("jobs:run", "*"), read_only=True)


def test_an_empty_body_asks_for_a_token_without_limits() -> None:
    assert NewToken.parse({}) == NewToken(None, None, None)
    nulls = dict.fromkeys(FIELDS)
    assert NewToken.parse({**nulls, "scopes": [], "read_only": False, "impersonate_email": "x"}) == NewToken()


@pytest.mark.parametrize(
    ("text", "milliseconds"),
    [
        ("1970-01-01T00:00:01Z", 1000),
        ("1970-01-01T00:00:01.5Z", 1500),
        ("1970-01-01t00:00:01.123456789z", 1123),
        ("1970-01-01T02:00:00+02:00", 0),
        ("1969-12-31 23:59:59.999-00:00", -1),
        ("9999-12-31T23:59:59Z", 253402300799000),
        ("0001-01-01T00:00:00Z", -62135596800000),
    ],
)
def test_expiration_is_an_rfc_3339_time(text: str, milliseconds: int) -> None:
    assert NewToken.parse({"expiration": text}).expiration_ms == milliseconds


@pytest.mark.parametrize(
    ("body", "text"),
    [
        (None, "the body must be a JSON object"),
        ([], "the body must be a JSON object"),
        ({"label": 1}, "label must be a string"),
        ({"label": "x" * 1001}, "label must have at most 1000 characters"),
        ({"label": "session"}, "label is reserved"),
        ({"label": "Ephemeral-x"}, "label is reserved"),
        ({"label": "a\0"}, "label holds characters"),
        ({"expiration": 5}, "expiration must be an RFC 3339"),
        ({"expiration": "2030-01-31"}, "expiration must be an RFC 3339"),
        ({"expiration": "2030-01-31T12:00:00"}, "expiration must be an RFC 3339"),
        ({"expiration": "2030-02-31T12:00:00Z"}, "expiration must be an RFC 3339"),
        ({"expiration": "9999-12-31T23:59:59-00:01"}, "expiration must be an RFC 3339"),
        ({"expiration": "0001-01-01T00:00:00+00:01"}, "expiration must be an RFC 3339"),
        ({"scopes": "jobs:run"}, "scopes must be an array"),
        ({"scopes": ["jobs:run", 1]}, "scopes must be an array"),
        ({"scopes": ["jobs:run"] * 201}, "scopes: send at most 200"),
        ({"scopes": ["x" * 2001]}, "scopes: send at most 200"),
        ({"scopes": ["jobs:\0"]}, "scopes holds characters"),
        ({"read_only": 1}, "read_only must be true, false or null"),
        ({"workspace_id": 1}, "workspace_id must be a string"),
    ],
)
def test_bad_bodies_are_refused_by_name(body: object, text: str) -> None:
    with pytest.raises(BadRequest) as caught:
        NewToken.parse(body)
    assert caught.value.detail.startswith(text)


@given(json_values | st.fixed_dictionaries({}, optional=dict.fromkeys(FIELDS, json_values)))
def test_parsing_raises_nothing_but_bad_request(body: object) -> None:
    with contextlib.suppress(BadRequest):
        NewToken.parse(body)
