"""Routing: precedence, strict decoding, and nothing normalized."""

from __future__ import annotations

from contextlib import suppress
from urllib.parse import quote

import pytest
from hypothesis import given
from hypothesis import strategies as st

from minwebhook.errors import BadRequest, MethodNotAllowed, NotFound
from minwebhook.http.routing import Route, Router

ROUTER = Router(
    [
        Route("GET", "/", "root"),
        Route("GET", "/api/version", "version"),
        Route("POST", "/api/w/{workspace}/jobs/run/p/{path...}", "run"),
        Route("GET", "/api/w/{workspace}/jobs/run/p/{path...}", "run-get"),
        Route("GET", "/api/w/{workspace}/jobs/{id}", "job"),
        Route("GET", "/api/w/{workspace}/jobs/list", "list"),
        Route("HEAD", "/api/w/{workspace}/jobs/list", "list-head"),
        Route("GET", "/api/w/admins/jobs/{id}/logs", "admin-logs"),
        Route("GET", "/{page}/end", "page"),
        Route("DELETE", "/files/{rest...}", "files"),
        Route("DELETE", "/files/{name}/meta", "meta"),
    ]
)
RUN = "/api/w/{}/jobs/run/p/{}"


@pytest.mark.parametrize(
    ("method", "path", "endpoint", "params"),
    [
        ("GET", "/", "root", {}),
        ("POST", "/api/w/w1/jobs/run/p/u/x/y", "run", {"workspace": "w1", "path": "u/x/y"}),
        ("POST", "/api/w/w1/jobs/run/p//u/x/y", "run", {"workspace": "w1", "path": "u/x/y"}),
        ("POST", "/api/w/w1/jobs/run/p/u%2Fx/%C3%A4", "run", {"workspace": "w1", "path": "u/x/ä"}),
        ("POST", "/api/w/a%2Fb/jobs/run/p/x", "run", {"workspace": "a/b", "path": "x"}),
        ("POST", "/api/w/../jobs/run/p/./..//x/", "run", {"workspace": "..", "path": "./..//x/"}),
        ("GET", "/api/w/w1/jobs/list", "list", {"workspace": "w1"}),
        ("HEAD", "/api/w/w1/jobs/list", "list-head", {"workspace": "w1"}),
        ("HEAD", "/api/w/w1/jobs/1", "job", {"workspace": "w1", "id": "1"}),
        ("GET", "/api/w/w1/jobs/l%69st", "job", {"workspace": "w1", "id": "list"}),
        ("GET", "/api/w/admins/jobs/1/logs", "admin-logs", {"id": "1"}),
        ("GET", "/api/w/admins/jobs/1", "job", {"workspace": "admins", "id": "1"}),
        ("GET", "/api/end", "page", {"page": "api"}),
        ("DELETE", "/files/a/meta", "meta", {"name": "a"}),
        ("DELETE", "/files/a/metal", "files", {"rest": "a/metal"}),
    ],
)
def test_resolve(method: str, path: str, endpoint: str, params: dict[str, str]) -> None:
    match = ROUTER.resolve(method, path)
    assert (match.route.endpoint, match.params) == (endpoint, params)


@pytest.mark.parametrize(
    "path",
    [
        "",
        "*",
        "api/version",
        "//api/version",
        "/api//version",
        "/api/version/",
        "/api/version/..",
        "/API/version",
        "/%61pi/version",
        "/api%2Fversion",
        "/api/./version",
        "/api/w//jobs/list",
        "/api/w/a/b/jobs/list",
        "/api/w/a%2Fb/c/jobs/list",
        "/api/w/w1/jobs/run/p",
        "/api/w/w1/jobs/run/p/",
        "/api/w/w1/jobs/run/p//",
        "/api/w/w1/jobs/",
    ],
)
def test_other_spellings_are_other_paths(path: str) -> None:
    with pytest.raises(NotFound):
        ROUTER.resolve("GET", path)
    with pytest.raises(NotFound):
        ROUTER.allowed(path)


@pytest.mark.parametrize("value", ["%", "%4", "%zz", "%+1", "%00", "a%00b", "%ff", "%C3", "%ed%a0%80", "%c0%af"])
def test_undecodable_parameters(value: str) -> None:
    for path in (RUN.format("w", value), RUN.format(value, "x")):
        with pytest.raises(BadRequest):
            ROUTER.resolve("POST", path)


def test_method_not_allowed_says_what_is() -> None:
    with pytest.raises(MethodNotAllowed) as caught:
        ROUTER.resolve("DELETE", "/api/w/w1/jobs/run/p/x")
    assert caught.value.headers == (("Allow", "GET, HEAD, OPTIONS, POST"),)
    assert ROUTER.allowed("/api/w/w1/jobs/run/p/x") == ("GET", "HEAD", "OPTIONS", "POST")
    assert ROUTER.allowed("/files/x") == ("DELETE", "OPTIONS")
    with pytest.raises(MethodNotAllowed):
        ROUTER.resolve("HEAD", "/files/x")


@pytest.mark.parametrize(
    "patterns",
    [
        ("/a/{x}", "/a/{y}"),
        ("/a/{x}{y}",),
        ("/a{x}",),
        ("/{x...}/a",),
        ("/{x}/{x}",),
        ("/a/{X}",),
        ("/{x...}", "/{y...}"),
    ],
)
def test_bad_patterns_are_refused_at_the_start(patterns: tuple[str, ...]) -> None:
    with pytest.raises(ValueError):
        Router([Route("GET", pattern, None) for pattern in patterns])


@given(
    st.text(min_size=1).filter(lambda text: "\0" not in text), st.text(min_size=1).filter(lambda text: "\0" not in text)
)
def test_encoded_parameters_come_back(workspace: str, path: str) -> None:
    match = ROUTER.resolve("POST", RUN.format(quote(workspace, safe=""), quote(path, safe="")))
    assert match.params == {"workspace": workspace, "path": path}


@given(st.text(alphabet="/%.2Fa{}pi", max_size=30))
def test_any_path_resolves_or_is_refused(path: str) -> None:
    for method in ("GET", "POST", "HEAD"):
        with suppress(NotFound, MethodNotAllowed, BadRequest):
            ROUTER.resolve(method, path)
