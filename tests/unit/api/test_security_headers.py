"""What browsers are told: nothing a script says is changed, and no page of a script is at home here."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from minwebhook.api.security_headers import secure
from minwebhook.http.messages import JSON, Response

SANDBOX = "sandbox allow-scripts allow-forms allow-popups allow-modals allow-downloads"
PAGES = [
    "text/html",
    "TEXT/HTML; charset=utf-8",
    "image/svg+xml",
    "application/xhtml+xml",
    "text/xml",
    "application/rss+xml",
]


def fields(
    content_type: str | None, *own: tuple[str, str], is_scripts: bool = False, trusts_scripts: bool = False
) -> dict[str, str]:
    response = Response(200, b"x", content_type, own)
    secure(response, is_scripts=is_scripts, trusts_scripts=trusts_scripts)
    assert response.headers[: len(own)] == own
    return {name.lower(): value for name, value in response.headers[len(own) :]}


@pytest.mark.parametrize(
    "content_type", [JSON, None, "text/plain", "text/plain; charset=utf-8", "image/png", "text/csv"]
)
@pytest.mark.parametrize("is_scripts", [True, False])
def test_what_is_no_page(content_type: str | None, is_scripts: bool) -> None:
    assert fields(content_type, is_scripts=is_scripts) == {"x-content-type-options": "nosniff"}
    assert fields(content_type, ("x-content-TYPE-options", "mine"), is_scripts=is_scripts) == {}
    assert fields(content_type, ("X-Other", "1"), is_scripts=is_scripts) == {"x-content-type-options": "nosniff"}


@pytest.mark.parametrize("content_type", PAGES)
def test_pages_of_scripts(content_type: str) -> None:
    sandboxed = {
        "x-content-type-options": "nosniff",
        "content-security-policy": SANDBOX,
        "referrer-policy": "no-referrer",
    }
    assert fields(content_type, is_scripts=True) == sandboxed
    own = ("Content-Security-Policy", "default-src *"), ("Referrer-Policy", "origin"), ("X-Frame-Options", "SAMEORIGIN")
    assert fields(content_type, *own, is_scripts=True) == {
        "x-content-type-options": "nosniff",
        "content-security-policy": SANDBOX,
    }
    assert "content-security-policy" not in fields(content_type, is_scripts=True, trusts_scripts=True)


@pytest.mark.parametrize("content_type", PAGES)
def test_pages_of_the_server(content_type: str) -> None:
    made = fields(content_type)
    assert (made["x-frame-options"], made["referrer-policy"]) == ("DENY", "same-origin")
    assert "frame-ancestors 'none'" in made["content-security-policy"]
    assert "content-security-policy" not in fields(content_type, ("Content-Security-Policy", "sandbox"))


NAMES = st.sampled_from(
    ["X-Content-Type-Options", "content-security-policy", "Referrer-Policy", "X-Frame-Options", "A"]
)


@given(st.none() | st.sampled_from([*PAGES, JSON]), st.lists(st.tuples(NAMES, st.text(max_size=5))), st.booleans())
def test_what_is_said_stays_and_nothing_is_said_twice_but_policies(
    content_type: str | None, own: list[tuple[str, str]], is_scripts: bool
) -> None:
    added = fields(content_type, *own, is_scripts=is_scripts)
    said = {name.lower() for name, _ in own}
    assert said & added.keys() <= {"content-security-policy"}
    assert "x-content-type-options" in said | added.keys()
