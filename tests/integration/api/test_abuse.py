"""Guesses at tokens, and pages of other sites that a browser's cookie is sent along with."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from tests.server import Client, Server

RUN = "/jobs/run_wait_result/p/u/admin/echo"
CROSS = {"Sec-Fetch-Site": "cross-site"}
REFERER = {"Referer": "https://evil.example/x"}


def test_guesses_are_slowed_down_and_tokens_in_use_are_not(make_server: Callable[..., Server]) -> None:
    server = make_server("--failed-tokens-per-address", "10", "--failed-tokens-per-prefix", "3")
    admin = server.start()
    used, unused = (admin.post("/api/users/tokens/create", {}).text for _ in range(2))
    assert admin.with_token(used).get("/api/users/whoami").status == 200
    for number in range(3):
        assert admin.with_token(f"{used[:10]}{number:022}").get("/api/users/whoami").status == 401
    answer = admin.with_token(f"{used[:10]}{9:022}").get("/api/users/whoami")
    assert (answer.status, answer.text.partition(":")[0]) == (429, "Too many requests")
    assert 0 < int(answer.headers["retry-after"]) <= 60
    assert admin.with_token(used).get("/api/users/whoami").status == 200
    for number in range(7):
        assert admin.with_token(f"{number}{0:031}").get("/jobs/list").status == 401
    for guess in (f"y{0:031}", unused):  # which of them is one cannot be told
        assert admin.with_token(guess).get("/api/users/whoami").status == 429
    assert admin.with_token(used).get("/api/users/whoami").status == 200
    assert admin.get("/api/users/whoami").status == 200


@pytest.fixture(scope="module")
def browser(server: Server) -> dict[str, str]:
    return {"Cookie": f"token={server.client().post('/api/users/tokens/create', {}).text}"}


@pytest.mark.parametrize("fields", [CROSS, REFERER, {"Referer": "nonsense"}, {**CROSS, "Referer": "http://127.0.0.1/"}])
def test_a_page_of_another_site_runs_nothing_by_get(
    client: Client, browser: dict[str, str], fields: dict[str, str]
) -> None:
    stranger = client.with_token("")
    answer = stranger.get(RUN, {**browser, **fields})
    assert (answer.status, answer.text.startswith("Permission denied: a page of another site")) == (403, True)
    assert stranger.get(RUN, {**browser, **fields}, token=client.token).status == 403  # not rescued
    assert stranger.get("/jobs/run_and_stream/p/u/admin/echo", {**browser, **fields}).status == 403
    assert client.get(RUN, {**browser, **fields}).status == 200  # with a Bearer field
    assert stranger.get(RUN, fields, token=client.token).status == 200  # without the cookie
    assert stranger.post(RUN, {}, {**browser, **fields}).status == 200


@pytest.mark.parametrize(
    "fields",
    [
        {},
        {"Sec-Fetch-Site": "same-origin"},
        {"Sec-Fetch-Site": "same-site"},
        {"Sec-Fetch-Site": "none"},
        {"Sec-Fetch-Site": "same-origin", **REFERER},
        {"Referer": "http://127.0.0.1:1/page"},
        {**REFERER, "X-Forwarded-Host": "evil.example, proxy"},
    ],
)
def test_pages_of_this_site_and_links_do(client: Client, browser: dict[str, str], fields: dict[str, str]) -> None:
    assert client.with_token("").get(RUN, {**browser, **fields}).status == 200


def test_a_page_of_another_site_changes_nothing(client: Client, browser: dict[str, str]) -> None:
    stranger = client.with_token("")
    for fields in (CROSS, REFERER, {"Origin": "https://evil.example"}, {"Origin": "null"}):
        for method, path in (
            ("POST", "/api/users/tokens/create"),
            ("POST", "/api/auth/logout"),
            ("GET", "/api/auth/logout"),
            ("POST", "/scripts/create"),
            ("GET", "/job_helpers/move_s3_file"),
            ("POST", "/jobs/queue/cancel_selection"),
        ):
            assert stranger.call(method, path, None, {**browser, **fields}).status == 403, (path, fields)
        assert stranger.get("/api/users/whoami", {**browser, **fields}).status == 200
    assert stranger.post("/api/users/tokens/create", {}, {**browser, "Origin": client.address}).status == 201
