"""What Windmill's tokens do, as one table: what was asked for at creation, a call, and what it is answered."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any

import pytest

from tests.server import Client

CREATE = "/api/users/tokens/create"
WHOAMI = "/api/users/whoami"
RUN = "/jobs/run_wait_result/p/u/admin/echo"
OTHER = "/jobs/run_wait_result/p/u/admin/add"
PREVIEW = "/jobs/run_wait_result/preview"
LIST = "/jobs/list"
NO = "Permission denied: "
NEEDED = "Permission denied: Access denied. Required scope: "
FINE = "Permission denied: Required scope: "
GONE = "Not authorized: Unauthorized"


@dataclass(frozen=True)
class Row:
    """A token of the admin's and a call with it."""

    name: str
    asked: dict[str, Any]
    call: str
    status: int = 200
    text: str = ""
    data: Any = None


def run_of(path: str, **more: Any) -> dict[str, Any]:
    """What pages of Windmill ask for a webhook's token."""
    return {"scopes": [f"jobs:run:scripts:{path}"], "workspace_id": "demo", "label": "webhook-admin-x7Qp", **more}


HOOK = run_of("u/admin/echo")
ROWS = [
    # what may be asked for
    Row("nothing at all", {}, f"GET {WHOAMI}"),
    Row("nulls", dict.fromkeys(("label", "expiration", "scopes", "workspace_id", "read_only")), f"GET {WHOAMI}"),
    Row("no scopes are no restriction", {"scopes": []}, f"GET {WHOAMI}"),
    Row("members that are not known are ignored", {"impersonate_email": "x@y", "more": 1}, f"GET {WHOAMI}"),
    Row("a time that has passed", {"expiration": "2001-01-01T00:00:00Z"}, f"GET {WHOAMI}", 401, GONE),
    Row("a time to come", {"expiration": "2999-01-01T00:00:00Z"}, f"GET {WHOAMI}"),
    Row("a workspace is for its routes", {"workspace_id": "demo"}, f"GET {LIST}"),
    Row("and for no others", {"workspace_id": "demo"}, f"GET {WHOAMI}", 401, GONE),
    Row("not even to make tokens", {"workspace_id": "demo"}, f"POST {CREATE}", 401, GONE),
    Row("nor for another workspace", {"workspace_id": "admins"}, f"GET {LIST}", 401, GONE),
    # the grammar
    Row("a lone star is no scope and denies all", {"scopes": ["*"]}, f"GET {LIST}", 403, NEEDED + "jobs:read"),
    Row("what is no scope counts as a restriction", {"scopes": ["a:b:c:d:e"]}, f"GET {WHOAMI}", 403, NEEDED + "users:read"),
    Row("an unknown domain is a mistake", {"scopes": ["planets:read"]}, f"GET {LIST}", 400, "Bad request: "),
    Row("a kind is none for other domains", {"scopes": ["jobs:run:apps"]}, f"POST {RUN}", 403, NEEDED),
    Row("domain and action", {"scopes": ["jobs:read"]}, f"GET {LIST}"),
    Row("reading is not running", {"scopes": ["jobs:read"]}, f"POST {RUN}", 403, NEEDED + "jobs:run:scripts"),
    Row("writing includes reading", {"scopes": ["jobs:write"]}, f"GET {LIST}"),
    Row("writing jobs runs none", {"scopes": ["jobs:write"]}, f"POST {RUN}", 403, NEEDED + "jobs:run:scripts"),
    Row("a run by GET is a run", {"scopes": ["jobs:read"]}, f"GET {RUN}", 403, NEEDED + "jobs:run:scripts"),
    Row("running without a kind runs scripts", {"scopes": ["jobs:run"]}, f"POST {RUN}"),
    Row("and previews", {"scopes": ["jobs:run"]}, f"POST {PREVIEW}", data={"language": "bash", "content": "echo 1"}),
    Row("with a kind no previews", {"scopes": ["jobs:run:scripts"]}, f"POST {PREVIEW}", 403, NEEDED + "jobs:run"),
    Row("flows are not scripts", {"scopes": ["jobs:run:flows"]}, f"POST {RUN}", 403, NEEDED + "jobs:run:scripts"),
    Row("running does not list", {"scopes": ["jobs:run"]}, f"GET {LIST}", 403, NEEDED + "jobs:read"),
    Row("a path", {"scopes": ["jobs:run:scripts:u/admin/echo"]}, f"POST {RUN}"),
    Row("another path", {"scopes": ["jobs:run:scripts:u/admin/echo"]}, f"POST {OTHER}", 403,
        FINE + "jobs:run:scripts:u/admin/add"),
    Row("a list of paths", {"scopes": ["jobs:run:scripts:u/x/y,u/admin/add"]}, f"POST {OTHER}", data={"a": 1}),
    Row("all below a path", {"scopes": ["jobs:run:scripts:u/admin/*"]}, f"POST {OTHER}", data={"a": 1}),
    Row("whole segments only", {"scopes": ["jobs:run:scripts:u/adm/*"]}, f"POST {RUN}", 403, FINE),
    Row("no other patterns", {"scopes": ["jobs:run:scripts:u/admin/ech*"]}, f"POST {RUN}", 403, FINE),
    Row("a star is every path", {"scopes": ["jobs:run:scripts:*"]}, f"POST {RUN}"),
    Row("the scope is the path, never the hash", {"scopes": ["jobs:run:scripts:0000000000000001"]}, f"POST {RUN}", 403, FINE),
    *[
        Row(f"the old form {old}", {"scopes": [old]}, call, status)
        for old, call, status in (
            ("run:script/u/admin/echo", f"POST {RUN}", 200),
            ("run:script/u/admin/echo", f"POST {OTHER}", 403),
            ("run:flow/u/admin/echo", f"POST {RUN}", 403),
            ("jobs:runscript", f"POST {RUN}", 200),
            ("jobs:runflow", f"POST {RUN}", 403),
            ("jobs:listjobs", f"GET {LIST}", 200),
            ("jobs:deletejob", f"GET {LIST}", 200),
            ("jobs:deletejob", f"POST {RUN}", 403),
        )
    ],
    Row("tags alone restrict nothing else", {"scopes": ["if_jobs:filter_tags:python3"]}, f"GET {WHOAMI}"),
    Row("tags that the job has", {"scopes": ["if_jobs:filter_tags:python3"]}, f"POST {RUN}"),
    Row("tags that it has not", {"scopes": ["if_jobs:filter_tags:gpu"]}, f"POST {RUN}", 403, "Permission denied: "),
    # reading only
    Row("who reads reads", {"read_only": True}, f"GET {LIST}"),
    Row("and runs nothing", {"read_only": True}, f"POST {RUN}", 403, "Permission denied: "),
    Row("not even by GET", {"read_only": True}, f"GET {RUN}", 403, "Permission denied: "),
    Row("and makes no token", {"read_only": True}, f"POST {CREATE}", 403, "Permission denied: "),
    # the token of a webhook
    Row("a hook runs its script", HOOK, f"POST {RUN}"),
    Row("by GET too", HOOK, f"GET {RUN}"),
    Row("no other one", HOOK, f"POST {OTHER}", 403, FINE),
    Row("no flow", HOOK, "POST /jobs/run_wait_result/f/u/admin/echo", 403, "Permission denied: "),
    Row("no code of its own", HOOK, f"POST {PREVIEW}", 403, NEEDED),
    *[
        Row(f"no {call}", HOOK, call, 403, "Permission denied: ")
        for call in (
            f"GET {LIST}",
            "GET /scripts/list",
            "GET /variables/list",
            "GET /resources/list",
            "POST /jobs_u/queue/cancel/00000000-0000-0000-0000-000000000000",
            "GET /workspaces/encryption_key",
        )
    ],
    Row("no route of the instance", HOOK, f"GET {WHOAMI}", 401, GONE),
    # no token gives more than it has
    Row("a restricted one makes none without limits", {"scopes": ["users:write", "jobs:read"]}, f"POST {CREATE}", 403, NO),
    Row("nor a wider one", {"scopes": ["users:write"]}, f"POST {CREATE}", 403, "Permission denied: ", {"scopes": ["jobs:read"]}),
    Row("but one like itself", {"scopes": ["users:write", "jobs:read"]}, f"POST {CREATE}", 201, data={"scopes": ["jobs:read"]}),
    Row("or a narrower one", {"scopes": ["users:write", "jobs:run:scripts:u/admin/*"]}, f"POST {CREATE}", 201,
        data={"scopes": ["jobs:run:scripts:u/admin/echo"]}),
    Row("tags are only narrowed", {"scopes": ["if_jobs:filter_tags:a"]}, f"POST {CREATE}", 403, "Permission denied: ",
        {"scopes": ["if_jobs:filter_tags:a,b"]}),
]  # fmt: skip


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.name)
def test_a_token(client: Client, row: Row) -> None:
    made = client.post(CREATE, row.asked)
    assert (made.status, re.fullmatch("[A-Za-z0-9]{32}", made.text) is not None) == (201, True)
    assert made.headers["content-type"].startswith("text/plain")
    method, path = row.call.split(" ")
    data = None if method == "GET" else row.data or {}
    answer = client.with_token(made.text).call(method, path, data=data)
    assert (answer.status, answer.text[: len(row.text)]) == (row.status, row.text)
    if row.status >= 400:
        assert answer.headers["content-type"] == "text/plain"


@pytest.mark.parametrize(
    ("label", "creator"),
    [
        (None, "admin"),
        ("", "admin"),
        ("ci", "label-ci"),
        ("webhook-a", "webhook-a"),
        ("http-a", "http-a"),
        ("email-a", "email-a"),
        ("ws-a", "ws-a"),
        ("webhooks", "label-webhooks"),
    ],
)
def test_whose_job_it_is(client: Client, label: str | None, creator: str) -> None:
    hook = client.with_token(client.post(CREATE, {"label": label}).text)
    job = client.ended(hook.submit("u/admin/echo"))
    assert (job["created_by"], job["permissioned_as"]) == (creator, "u/admin")


def test_the_first_credential_counts_and_no_other_helps(client: Client) -> None:
    good, bad, stranger = client.post(CREATE).text, "x" * 32, client.with_token("")
    for fields, query, status in (
        ({"Authorization": f"Bearer {bad}", "Cookie": f"token={good}"}, good, 401),
        ({"Cookie": f"token={bad}"}, good, 401),
        ({}, good, 200),
        ({"Authorization": "Basic eDp5"}, good, 200),
        ({"Authorization": f"bearer {good}"}, None, 401),
        ({"Authorization": f"Bearer  {good}"}, None, 401),
        ({"Authorization": "Basic eDp5", "Cookie": f"token={good}"}, bad, 200),
        ({}, None, 401),
    ):
        assert stranger.get(WHOAMI, fields, **({} if query is None else {"token": query})).status == status, fields
    assert stranger.get(WHOAMI).text == "Unauthorized"
    assert client.with_token(bad).get(WHOAMI).text == GONE
    assert stranger.call("OPTIONS", RUN).status == 200


def test_all_tokens_of_a_prefix_go_at_once_and_none_is_no_mistake(client: Client) -> None:
    token = client.post(CREATE).text
    delete = f"/api/users/tokens/delete/{token[:10]}"
    for count in ("1", "0"):
        answer = client.call("DELETE", delete)
        assert (answer.status, answer.text) == (200, f"{count} tokens deleted with prefix {token[:10]}*****")
        assert client.with_token(token).get(WHOAMI).status == 401
