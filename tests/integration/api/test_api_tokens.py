"""Tokens over the wire: made, listed, deleted at once, expired, bound to a workspace; and which credential counts."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from tests.server import Client, eventually

LIST = "/jobs/list"
REFUSED = (401, "Not authorized: Unauthorized")


def make(client: Client, **fields: object) -> str:
    answer = client.post("/api/users/tokens/create", fields)
    assert answer.status == 201, answer.text
    return answer.text


def status(client: Client, token: str, path: str = LIST) -> int:
    return client.with_token(token).get(path).status


def test_a_token_works_is_listed_without_its_secret_and_ends_at_once(client: Client) -> None:
    token = make(client, label="ci")
    assert status(client, token) == 200
    listed = [item for item in client.get("/api/users/tokens/list").json() if token.startswith(item["token_prefix"])]
    assert len(listed) == 1
    assert listed[0]["label"] == "ci"
    assert token not in client.get("/api/users/tokens/list").text
    deleted = client.call("DELETE", f"/api/users/tokens/delete/{listed[0]['token_prefix']}")
    assert (deleted.status, deleted.text) == (200, f"1 tokens deleted with prefix {listed[0]['token_prefix']}*****")
    assert status(client, token) == 401
    answer = client.with_token(token).get(LIST)
    assert (answer.status, answer.text) == REFUSED


def test_an_expired_token_is_refused(client: Client) -> None:
    past = make(client, expiration="2020-01-01T00:00:00Z")
    assert status(client, past) == 401
    soon = datetime.now(UTC) + timedelta(seconds=1)
    token = make(client, expiration=soon.isoformat())
    assert status(client, token) == 200
    eventually(lambda: status(client, token) == 401, "the expiry", timeout_s=5)
    assert datetime.now(UTC) >= soon


def test_a_token_of_one_workspace_is_no_good_elsewhere(client: Client) -> None:
    token = make(client, workspace_id="demo")
    assert status(client, token) == 200
    answer = client.with_token(token, "admins").get(LIST)
    assert (answer.status, answer.text) == REFUSED


@pytest.mark.parametrize(
    ("label", "creator"),
    [(None, "admin"), ("ci", "label-ci"), ("webhook-github", "webhook-github"), ("http-x", "http-x")],
)
def test_the_label_is_who_created_a_job(client: Client, label: str | None, creator: str) -> None:
    token = make(client, label=label)
    job_id = client.with_token(token).submit("u/admin/add", {"a": 1})
    job = client.ended(job_id)
    assert (job["created_by"], job["permissioned_as"]) == (creator, "u/admin")


def test_which_credential_counts(client: Client) -> None:
    good, bad = make(client), "wrong"
    anonymous = client.with_token("")

    def ask(bearer: str | None = None, cookie: str | None = None, query: str | None = None) -> int:
        headers = {}
        if bearer is not None:
            headers["Authorization"] = bearer
        if cookie is not None:
            headers["Cookie"] = cookie
        return anonymous.get(LIST + ("" if query is None else f"?token={query}"), headers).status

    assert ask(bearer=f"Bearer {good}") == 200
    assert ask(cookie=f"token={good}") == 200
    assert ask(cookie=f"a=b; token={good}; c=d") == 200
    assert ask(query=good) == 200
    # The first one present counts; a better one behind it does not rescue.
    assert ask(bearer=f"Bearer {bad}", cookie=f"token={good}", query=good) == 401
    assert ask(cookie=f"token={bad}", query=good) == 401
    assert ask(bearer=f"Bearer {good}", cookie=f"token={bad}", query=bad) == 200
    # Not a Bearer field: as if it were not there. The prefix is exact.
    assert ask(bearer="Basic abc", query=good) == 200
    assert ask(bearer=f"bearer {good}") == 401
    assert ask(bearer=f"bearer {good}", query=good) == 200
    # Given twice: two readers of the URL could disagree.
    assert ask(query=f"{good}&token={bad}") in (400, 401)
    assert ask(query=f"{bad}&token={good}") in (400, 401)
    assert ask(query="") == 401


@pytest.mark.parametrize(
    ("fields", "text"),
    [
        ({"expiration": "tomorrow"}, "Bad request: expiration must be"),
        ({"expiration": 7}, "Bad request: expiration must be"),
        ({"label": 7}, "Bad request: label must be"),
        ({"label": "session"}, "Bad request: label is reserved"),
        ({"scopes": "jobs:run"}, "Bad request: scopes must be"),
        ({"read_only": 1}, "Bad request: read_only must be"),
    ],
)
def test_tokens_that_cannot_be_made(client: Client, fields: dict[str, object], text: str) -> None:
    answer = client.post("/api/users/tokens/create", fields)
    assert answer.status == 400
    assert answer.text.startswith(text)


def test_the_token_in_the_path_is_not_logged(client: Client, server) -> None:  # type: ignore[no-untyped-def]
    token = make(client)
    assert client.with_token("").get(f"{LIST}?token={token}").status == 200
    assert client.with_token("").get(LIST, {"Cookie": f"token={token}"}).status == 200
    assert status(client, token) == 200
    assert token not in server.log
