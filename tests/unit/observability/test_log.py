"""The log: one JSON object a line, without credentials."""

from __future__ import annotations

import json
import logging
import string
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from minwebhook.observability.log import JsonFormatter
from minwebhook.observability.redaction import HIDDEN, hide, kept_header, kept_query, redact

SECRET = "aB3xY9"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (f"/jobs?token={SECRET}", "/jobs?token=[hidden]"),
        (f"/jobs?a=1&token={SECRET}&b=2", "/jobs?a=1&token=[hidden]&b=2"),
        (f"/jobs?TOKEN={SECRET}", "/jobs?TOKEN=[hidden]"),
        (f"/jobs_u/get/1?view_token={SECRET}.{SECRET}&a=1", "/jobs_u/get/1?view_token=[hidden]&a=1"),
        (f"/jobs_u/get?suspended_job=1&secret={SECRET}", "/jobs_u/get?suspended_job=1&secret=[hidden]"),
        (f"/jobs?payload={SECRET}%3D%3D&x=y", "/jobs?payload=[hidden]&x=y"),
        (f"Authorization: Bearer {SECRET}", "Authorization: Bearer [hidden]"),
        (f"authorization: bearer   {SECRET} rest", "authorization: bearer   [hidden] rest"),
        (f"Cookie: a=b; token={SECRET}; c=d", "Cookie: a=b; token=[hidden]; c=d"),
        (f"'token={SECRET}'", "'token=[hidden]'"),
        (f"https://user:{SECRET}@example.org/simple", "https://[hidden]@example.org/simple"),
        ("Basic dXNlcjpwYXNz and Basic usage", "Basic [hidden] and Basic usage"),
        (f'{{"secretKey": "{SECRET}", "a": "b"}}', '{"secretKey": "[hidden]", "a": "b"}'),
        (f'{{"password":"x\\"{SECRET}"}}', '{"password":"[hidden]"}'),
        (f"the token mwj_{SECRET} and the key mwk_{SECRET}-_", "the token mwj_[hidden] and the key mwk_[hidden]"),
        (f"/x?api_key={SECRET}&client_secret={SECRET}", "/x?api_key=[hidden]&client_secret=[hidden]"),
        ("nothing secret: tokens, Bearers", "nothing secret: tokens, Bearers"),
        ("/jobs?my_token_count=7", "/jobs?my_token_count=7"),
        ("", ""),
    ],
)
def test_credentials_are_hidden(text: str, expected: str) -> None:
    assert redact(text) == expected


@pytest.mark.parametrize(
    "piece", ["a.", "a+", "://", "a://", "a@", "Basic ", "Bearer ", '"token":"', '"token" ', "?token=", "\\"]
)
def test_long_texts_of_strangers_are_gone_through_once(piece: str) -> None:
    text = piece * (500_000 // len(piece))  # within the time that a test has: paths of any request are logged
    assert len(redact(text)) <= 2 * len(text)


def test_values_of_settings_are_hidden_wherever_they_are() -> None:
    hide(["open sesame", "open sesame 2", "short"])
    try:
        assert redact("it is open sesame 2, not open sesame or short") == f"it is {HIDDEN}, not {HIDDEN} or short"
    finally:
        hide([])
    assert redact("open sesame") == "open sesame"


def test_what_is_kept_of_a_request_has_no_token() -> None:
    assert kept_header("authorization", f"Bearer {SECRET}") == f"Bearer {HIDDEN}"
    assert kept_header("authorization", "Signature abc") == "Signature abc"
    assert kept_header("cookie", f"a=b; token={SECRET}; mytoken=c") == f"a=b; token={HIDDEN}; mytoken=c"
    assert kept_header("x-gitlab-token", SECRET) == SECRET  # a script may check it
    assert kept_query({"token": SECRET, "a": "b"}) == {"a": "b"}


# With a digit in front, so that it is no part of the text around it.
tokens = st.text(string.ascii_letters + string.digits + "-_.~%+/=").map(lambda text: "7" + text)


@given(tokens, st.text(string.ascii_letters + "/=", max_size=20), st.text(string.ascii_letters, max_size=20))
def test_no_token_survives(token: str, before: str, after: str) -> None:
    for text in (f"{before}?token={token}&{after}", f"{before} Bearer {token} {after}", f"x; token={token}; {after}"):
        assert token not in redact(text)
        assert redact(redact(text)) == redact(text)


@pytest.mark.parametrize("token", ["abc;rest-of-it", "abc,rest-of-it", "abc'rest-of-it"])
def test_a_token_of_legal_query_characters_is_hidden_whole(token: str) -> None:
    assert "rest-of-it" not in redact(f"/api/w/demo/jobs/list?token={token}&page=1")


def record(message: str = "hello", *args: object, **fields: object) -> logging.LogRecord:
    made = logging.LogRecord("minwebhook.api.dispatch", logging.INFO, __file__, 1, message, args, None)
    made.__dict__.update(fields)
    return made


def test_a_line_is_one_object() -> None:
    line = JsonFormatter().format(
        record("a %s\nb", "x", path=f"/x?token={SECRET}", status=200, duration_ms=1.5, request_id=None, other="dropped")
    )
    assert "\n" not in line
    shown = json.loads(line)
    assert shown.pop("time").endswith("+00:00")
    assert shown == {
        "level": "info",
        "logger": "api.dispatch",
        "message": "a x\nb",
        "path": "/x?token=[hidden]",
        "status": 200,
        "duration_ms": 1.5,
    }


def test_tracebacks_are_there_without_credentials() -> None:
    made = record("failed")
    try:
        raise ValueError(f"Bearer {SECRET}")
    except ValueError:
        made.exc_info = sys.exc_info()
    shown = json.loads(JsonFormatter().format(made))
    assert "ValueError: Bearer [hidden]" in shown["traceback"]
    assert SECRET not in json.dumps(shown)


@given(st.text(st.characters(exclude_categories=["Cs"])), st.text(st.characters(exclude_categories=["Cs"])))
def test_any_text_is_one_line(message: str, path: str) -> None:
    line = JsonFormatter().format(record("%s", message, path=path))
    assert "\n" not in line
    json.loads(line)


def test_text_that_is_no_unicode_does_not_break_the_log() -> None:
    line = JsonFormatter().format(record("%s", b"\xff".decode("utf-8", "surrogateescape")))
    json.loads(line)
