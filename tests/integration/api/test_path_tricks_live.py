"""Paths that are written in other ways, sent as they are to a running server: a token for one script runs that one or none, and
what the answer says ran is what the job says."""

from __future__ import annotations

import http.client
import json
import re
from collections.abc import Iterator

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.server import Client, Server, serving

OWN = "u/admin/hook"
#: Others, with paths that tricks would lead to.
OTHERS = ("u/admin/other", "u/admin/hook/other", "u/admin/HOOK", "u/admin/hook2", "f/team/hook", "u/other/hook")
RUNS = "/api/w/demo/jobs/run_wait_result/p/"
PIECES = st.sampled_from([
    "u", "admin", "hook", "other", "team", "f", "..", ".", "/", "//", "%2e%2e", "%2E%2e", "%2f", "%2F", "%5c", ";", ";a=b",
    "%3b", "%00", "%25", "%252f", "%252e", "HOOK", "Hook", "h%6fok", "%68ook", "u/admin/hook", "u/admin/other", "hook2",
    "%e2%80%ae", "%c0%af", "%u002f", "*", "?x=/../", "+", "%20", "u%2fadmin%2fother", "%2575",
])  # fmt: skip
PREFIXES = st.sampled_from([
    RUNS, RUNS.upper(), "/api//w/demo/jobs/run_wait_result/p/", "/api/w/demo/jobs/run_wait_result/p",
    "/api/w/admins/../demo/jobs/run_wait_result/p/",
    "/api/w/demo/jobs/run_wait_result/p/u/admin/hook/../",
    "/api/w/demo/jobs/run_wait_result/P/", "/api/w/demo/jobs/run/../run_wait_result/p/",
    "/api/w/demo%2f..%2fdemo/jobs/run_wait_result/p/",
    "/api/w/demo;x=1/jobs/run_wait_result/p/", "/api/w/DEMO/jobs/run_wait_result/p/", "/api/w/demo/jobs/run_wait_result;/p/",
])  # fmt: skip


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Server, Client]]:
    """A server whose scripts answer with their own path, and a token for one of them."""
    flags = ("--workers", "2", "--failed-tokens-per-address", "0", "--failed-tokens-per-prefix", "0")
    with serving(tmp_path_factory.mktemp("tricks") / "data", *flags) as (server, admin):
        for path in (OWN, *OTHERS):
            admin.deploy(path, f"def main(**arguments): return {path!r}", dedicated_worker=True)
        asked = {"workspace_id": "demo", "scopes": [f"jobs:run:scripts:{OWN}"]}
        yield server, admin.with_token(admin.post("/api/users/tokens/create", asked).text)


def send(client: Client, method: str, target: str) -> tuple[int, bytes]:
    """A request whose target nobody has touched."""
    host, _, port = client.address.removeprefix("http://").partition(":")
    connection = http.client.HTTPConnection(host, int(port), timeout=20)
    try:
        connection.putrequest(method, target, skip_accept_encoding=True)
        connection.putheader("Authorization", f"Bearer {client.token}")
        connection.putheader("Content-Type", "application/json")
        connection.putheader("Content-Length", "2")
        connection.endheaders(b"{}")
        response = connection.getresponse()
        return response.status, response.read()
    finally:
        connection.close()


def check(status: int, body: bytes) -> None:
    if status == 200:
        assert json.loads(body) == OWN
    else:
        assert 400 <= status < 500, (status, body)
        assert not any(path.encode() == json.loads(body) for path in OTHERS if body.startswith(b'"'))


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.sampled_from(["POST", "GET"]), PREFIXES, st.lists(PIECES, max_size=6))
def test_no_writing_of_a_path_runs_another_script(
    place: tuple[Server, Client], method: str, prefix: str, pieces: list[str]
) -> None:
    target = prefix + "".join(pieces)
    if not re.search(r"[\s\x00]", target):
        check(*send(place[1], method, target))


@pytest.mark.parametrize(
    "target",
    [
        "/api/w/demo/jobs/run/p/../../x",
        "/api/w/demo/jobs/run/p/../../scripts/list",
        "/api/w/demo/jobs/run/p/%2e%2e/%2e%2e/jobs/list",
        f"{RUNS}{OWN}/../other",
        f"{RUNS}u/admin/%2e%2e/admin/other",
        f"{RUNS}{OWN};/other",
        f"{RUNS}/{OWN}//other",
        "/api/version/../users/whoami",
        "/api/w/demo/jobs_u/get/../../jobs/list",
        "//api/w/demo/jobs/list",
        "/API/W/demo/jobs/list",
        "/api/w/demo/jobs/list/",
        "/api/w/demo/jobs/list;a=b",
        "/api/w/demo/jobs%2flist",
        "http://other/api/w/demo/jobs/list",
    ],
)
@pytest.mark.parametrize("method", ["GET", "POST"])
def test_tricks_by_name(place: tuple[Server, Client], method: str, target: str) -> None:
    status, body = send(place[1], method, target)
    assert 400 <= status < 500, (status, body)


@pytest.mark.parametrize("spelling", [OWN, "u%2fadmin%2fhook", "%75/admin/hook", "u/admin/h%6Fok"])
def test_spellings_of_the_same_path_run_it(place: tuple[Server, Client], spelling: str) -> None:
    assert send(place[1], "POST", RUNS + spelling) == (200, f'"{OWN}"'.encode())
