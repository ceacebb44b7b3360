"""Where the credential of a request is found."""

from __future__ import annotations

import pytest

from minwebhook.api.context import find_token
from minwebhook.http.messages import Headers, Request


def token(*, query: str = "", **fields: str) -> str | None:
    """The one of a GET with these header fields."""
    return find_token(Request("GET", "/", query, Headers(list(fields.items())), "1"))


@pytest.mark.parametrize(
    ("cookie", "found"),
    [
        ("token=a", "a"),
        ("x=1; token=a; y=2", "a"),
        ("x=1;token=a", "a"),
        ('token="a"', "a"),
        ("token=a; token=b", "b"),
        ("token=a=b", "a=b"),
        ("token=", None),
        ("token", None),
        ("my_token=a", None),
        ("Token=a", None),
        ('token="' + "\\" * 60_000 + '"', "\\" * 60_000),  # within the time that a test has
        ("", None),
    ],
)
def test_the_cookie(cookie: str, found: str | None) -> None:
    assert token(cookie=cookie) == found


def test_the_first_of_field_cookie_and_query_counts() -> None:
    assert token(authorization="Bearer a", cookie="token=b", query="token=c") == "a"
    assert token(authorization="Basic a", cookie="token=b", query="token=c") == "b"
    assert token(cookie="x=b", query="token=c") == "c"
    assert token(authorization="bearer a") is None
