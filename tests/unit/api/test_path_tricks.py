"""However a path is written, what is authorized is what is called: both are told by the same match."""

from __future__ import annotations

import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from minwebhook.api.endpoint import Resource
from minwebhook.api.permissions import check_path, check_role, check_scopes
from minwebhook.api.routes import all_routes
from minwebhook.auth.principal import Principal
from minwebhook.auth.scopes import Scopes
from minwebhook.errors import ApiError, NotFound
from minwebhook.http.routing import Router
from minwebhook.paths import Paths

ROUTER = Router(all_routes())
OWN = "u/dev/hook"
HOOK = Principal(
    "dev@x", "dev", False, False, "dev", "demo", None,
    scopes=Scopes([f"jobs:run:scripts:{OWN}"]), readable=Paths(("u/dev/*",)), writable=Paths(("u/dev/*",)),
)  # fmt: skip
PREFIXES = [route.pattern.replace("{workspace}", "demo").partition("{")[0] for route in all_routes()]
PIECES = st.sampled_from([
    "/", "//", "..", ".", "%2e%2e", "%2E.", "%2f", "%2F", "%5c", "\\",
    ";", ";x=1", "?", "%00", "%", "*", "/*", "%2a", "+", "%ef%bc%8f",
    "jobs", "run", "p", "h", "RUN", "Jobs", "u", "dev", "hook", "other",
    "configs", "api", "u/dev/hook", "u/dev/other", "u/admin/x", "%75/dev/hook", "u/dev/hook%20", "u%2fdev%2fother",
])  # fmt: skip


@given(
    st.sampled_from(["GET", "POST", "HEAD", "DELETE"]),
    st.sampled_from([*PREFIXES, "/api/w/demo/", "/", ""]),
    st.lists(PIECES, max_size=6).map("".join),
)
def test_a_token_for_one_script_gets_to_no_other(method: str, prefix: str, rest: str) -> None:
    try:
        match = ROUTER.resolve(method, prefix + rest)
    except ApiError:
        return
    endpoint = match.route.endpoint
    if endpoint.access.value == "public":
        assert endpoint.domain == "public"
        return
    with contextlib.suppress(ApiError):
        check_scopes(HOOK, endpoint)
        check_role(HOOK, endpoint)
        if endpoint.resource is Resource.PATH:
            check_path(HOOK, endpoint, match.params["path"])
            # What the endpoint is called with is the very text that was looked at.
            assert match.params["path"] == OWN
        assert endpoint.action in ("run", "read")
        assert endpoint.follows_run or endpoint.action == "run"


@pytest.mark.parametrize(
    "path",
    [
        "/api/w/demo/jobs/run/p/../../scripts/list",
        "/api/w/demo/jobs/run/p/u/dev/hook/../other",
        "/api/w/demo/jobs/run/p/u/dev/hook/%2e%2e/other",
        "/api/w/demo/jobs/run/p/u/dev/hook;x",
        "/api/w/demo/jobs/run/p/u/dev/HOOK",
        "/api/w/demo/jobs/run/p/u/dev/hook/",
        "/api/w/demo/jobs/run/p/u/dev//hook",
        "/api/w/demo/jobs/run/p/u/dev/hook%00",
        "/api/w/demo/jobs/RUN/p/u/dev/hook",
        "/api/w/demo//jobs/run/p/u/dev/hook",
        "/api/w/demo/jobs/run/p/*",
        "/api/w/demo/jobs/run/p/u/dev/*",
        "/api/w/demo/../admins/jobs/run/p/u/dev/hook",
        "/api/w/demo%2f..%2fadmins/jobs/run/p/u/dev/hook",
        "/api/w/demo/jobs/list/configs",
        "/api/version/../users/whoami",
    ],
)
def test_tricks_by_name(path: str) -> None:
    with pytest.raises(ApiError):
        match = ROUTER.resolve("POST", path)
        if match.params["workspace"] != "demo":  # it is looked up by this very name
            raise NotFound("no such workspace")
        check_scopes(HOOK, match.route.endpoint)
        check_path(HOOK, match.route.endpoint, match.params["path"])


@pytest.mark.parametrize("path", ["u/dev/hook", "u%2fdev%2fhook", "%75/dev/hook", "/u/dev/hook"])
def test_spellings_of_the_same_path_are_the_same(path: str) -> None:
    match = ROUTER.resolve("POST", f"/api/w/demo/jobs/run/p/{path}")
    assert match.params["path"] == OWN
    check_path(HOOK, match.route.endpoint, match.params["path"])
