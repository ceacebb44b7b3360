"""Which pages may use the cookie."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from minwebhook.http.messages import Headers, Request
from minwebhook.http.origin import may_use_cookie

BASE = "https://hooks.example.com/path?x=1"


def request(origin: str | None, host: str | None, scheme: str = "http", *more: tuple[str, str]) -> Request:
    """A request of a page."""
    fields = [("host", host), ("origin", origin), *more]
    return Request(
        "GET", "/", "", Headers([(name, value) for name, value in fields if value is not None]), "id", scheme=scheme
    )


@pytest.mark.parametrize(
    ("origin", "host", "scheme"),
    [
        (None, "a.example", "http"),  # no page
        ("http://a.example", "a.example", "http"),
        ("http://A.example", "a.EXAMPLE", "http"),
        ("http://a.example", "a.example:80", "http"),
        ("http://a.example", "a.example:", "http"),
        ("http://a.example:8000", "a.example:8000", "http"),
        ("https://a.example", "a.example", "https"),
        ("https://a.example", "a.example:443", "https"),
        ("https://a.example", "a.example", "http"),  # a proxy ends TLS
        ("http://[::1]:8000", "[::1]:8000", "http"),
        ("http://127.0.0.1:8000", "127.0.0.1:8000", "http"),
        ("https://hooks.example.com", "internal:8000", "http"),  # base_url
        ("https://hooks.example.com:443", "internal:8000", "http"),
    ],
)
def test_pages_of_this_server(origin: str | None, host: str, scheme: str) -> None:
    assert may_use_cookie(request(origin, host, scheme), BASE)


@pytest.mark.parametrize(
    ("origin", "host", "scheme"),
    [
        ("null", "a.example", "http"),
        ("", "a.example", "http"),
        ("http://b.example", "a.example", "http"),
        ("http://a.example.evil", "a.example", "http"),
        ("http://evil-a.example", "a.example", "http"),
        ("http://sub.a.example", "a.example", "http"),
        ("http://a.example:8001", "a.example:8000", "http"),
        ("http://a.example:8000", "a.example", "http"),
        ("http://a.example", "a.example:8000", "http"),
        ("http://a.example", "a.example:443", "http"),
        ("http://a.example", "a.example", "https"),  # a page without TLS, of a site that has it
        ("ftp://a.example", "a.example", "http"),
        ("chrome-extension://a.example", "a.example", "http"),
        ("a.example", "a.example", "http"),
        ("http://a.example/", "a.example", "http"),
        ("http://a.example http://b.example", "a.example", "http"),
        ("http://user@a.example", "a.example", "http"),
        ("http://a.example:", "a.example", "http"),
        ("http://a.example:80x", "a.example", "http"),
        ("http://a.example", None, "http"),
        ("http://a.example", "", "http"),
        ("http://hooks.example.com", "internal", "http"),  # base_url is https
        ("https://hooks.example.com:8443", "internal", "http"),
        ("https://hooks.example.com.evil", "internal", "http"),
    ],
)
def test_pages_of_strangers(origin: str, host: str | None, scheme: str) -> None:
    assert not may_use_cookie(request(origin, host, scheme), BASE)


def test_two_origins_are_none() -> None:
    twice = request("http://a", "a", "http", ("origin", "http://a"))
    assert not may_use_cookie(twice)


def test_what_proxies_say_does_not_count() -> None:
    forged = (("x-forwarded-host", "evil.example"), ("x-forwarded-proto", "http"), ("forwarded", "host=evil.example"))
    assert not may_use_cookie(request("http://evil.example", "a.example", "http", *forged))


@pytest.mark.parametrize("base_url", ["", "nonsense", "https://", "file:///etc", "https://[", "//hooks.example.com"])
def test_a_base_url_that_is_none(base_url: str) -> None:
    assert not may_use_cookie(request("https://hooks.example.com", "a"), base_url)
    assert may_use_cookie(request("http://a", "a"), base_url)


@given(st.text(max_size=40), st.text(max_size=40), st.text(max_size=40))
def test_any_text_is_judged(origin: str, host: str, base_url: str) -> None:
    assert may_use_cookie(request(f"http://{origin}", "a.example"), base_url) <= (
        origin.lower() in ("a.example", "a.example:80")
    )
    assert may_use_cookie(request(origin, host), base_url) in (True, False)
