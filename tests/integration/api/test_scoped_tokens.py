"""Restricted tokens on a real server: what the token of a webhook can do, and that it can do nothing else."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest

from tests.server import Client, Server

RUN_ECHO = "jobs:run:scripts:u/admin/echo"
OTHER = "u/admin/add"


def token(client: Client, *scopes: str, workspace: str | None = "demo", **more: Any) -> Client:
    """A client with a new token of the admin's."""
    body = {"scopes": list(scopes), "workspace_id": workspace, **more}
    answer = client.post("/api/users/tokens/create", body)
    assert answer.status == 201, answer.text
    return client.with_token(answer.text)


@pytest.fixture
def hook(client: Client) -> Client:
    """The token of a webhook, as Windmill's pages make it."""
    return token(client, RUN_ECHO, label="webhook-admin-x7Qp")


def script_hash(client: Client, path: str) -> str:
    found: str = client.get(f"/scripts/get/p/{path}").json()["hash"]
    return found


def denied(answer: Any, scope: str) -> None:
    assert (answer.status, answer.text.removeprefix("Permission denied: ").removeprefix("Access denied. ")) == (
        403,
        f"Required scope: {scope}",
    )
    assert answer.headers["content-type"] == "text/plain"


@pytest.mark.parametrize("scope", [RUN_ECHO, "run:script/u/admin/echo", "jobs:run:scripts:u/admin/*", "jobs:run"])
def test_every_way_to_run_the_script_is_open(client: Client, scope: str) -> None:
    hook, digest = token(client, scope), script_hash(client, "u/admin/echo")
    for target in ("p/u/admin/echo", f"h/{digest}"):
        assert hook.post(f"/jobs/run_wait_result/{target}", {"a": 1}).json() == {"a": 1}
        job_id = hook.post(f"/jobs/run/{target}", {"a": 2}).text
        assert hook.ended(job_id)["result"] == {"a": 2}
        assert b'"completed":true' in hook.post(f"/jobs/run_and_stream/{target}", {"a": 3}).body
        assert hook.call("HEAD", f"/jobs/run/{target}").status == 200
    assert hook.get("/jobs/run_wait_result/p/u/admin/echo", payload="eyJhIjogNH0=").json() == {"a": 4}
    query = client.with_token("").get("/jobs/run_wait_result/p/u/admin/echo", payload="eyJhIjogNH0=", token=hook.token)
    assert query.json() == {"a": 4}


def test_it_follows_its_own_jobs_and_no_others(client: Client, hook: Client) -> None:
    own = hook.submit("u/admin/echo", {"a": 1})
    client.ended(own)
    foreign = client.submit(OTHER, {"a": 1})
    client.ended(foreign)
    preview = client.post("/jobs/run/preview", {"language": "bash", "content": "echo 1", "path": "u/admin/echo"}).text
    client.ended(preview)
    for path in (
        "jobs_u/get/{}",
        "jobs_u/get_args/{}",
        "jobs_u/get_logs/{}",
        "jobs_u/getupdate/{}",
        "jobs_u/getupdate_sse/{}",
        "jobs_u/get_root_job_id/{}",
        "jobs_u/get_completed_logs_tail/{}",
        "jobs_u/completed/get/{}",
        "jobs_u/completed/get_result/{}",
        "jobs_u/completed/get_result_maybe/{}",
        "jobs_u/completed/get_timing/{}",
        "jobs/completed/get/{}",
        "jobs/completed/get_result/{}",
        "jobs/completed/get_result_maybe/{}",
        "jobs/completed/get_timing/{}",
    ):
        assert hook.get("/" + path.format(own)).status == 200, path
        for job_id in (foreign, preview):
            answer = hook.get("/" + path.format(job_id))
            assert (answer.status, answer.text.startswith(f"Permission denied: you may not see job {job_id}")) == (
                403,
                True,
            ), path
    assert client.job(own)["created_by"] == "webhook-admin-x7Qp"
    assert client.job(own)["permissioned_as"] == "u/admin"


def test_everything_else_is_closed(client: Client, hook: Client) -> None:
    own = hook.submit("u/admin/echo")
    client.ended(own)
    other = script_hash(client, OTHER)
    run_other = f"jobs:run:scripts:{OTHER}"
    for answer, scope in (
        (hook.run(OTHER), run_other),
        (hook.post(f"/jobs/run/p/{OTHER}"), run_other),
        (hook.post(f"/jobs/run_and_stream/p/{OTHER}"), run_other),
        (hook.post(f"/jobs/run_wait_result/h/{other}"), run_other),
        (hook.post(f"/jobs/run/h/{other}"), run_other),
        (hook.post(f"/jobs/run_and_stream/h/{other}"), run_other),
        (hook.call("HEAD", f"/jobs/run/p/{OTHER}"), None),
        (hook.preview("def main(): pass"), "jobs:run"),
        (hook.post("/jobs/run/dependencies_async", {"raw_scripts": []}), "jobs:run"),
        (hook.get("/jobs/list"), "jobs:read"),
        (hook.get("/jobs/queue/count"), "jobs:read"),
        (hook.get(f"/jobs/job_view_token/{own}"), "jobs:read"),
        (hook.post(f"/jobs_u/queue/cancel/{own}"), "jobs:cancel"),
        (hook.post("/jobs_u/queue/cancel_persistent/u/admin/echo"), "jobs:cancel"),
        (hook.post("/jobs/queue/cancel_selection", [own]), "jobs:cancel"),
        (hook.post(f"/jobs/completed/delete/{own}"), "jobs:write"),
        (hook.get("/scripts/get/p/u/admin/echo"), "scripts:read"),
        (hook.get("/scripts/list"), "scripts:read"),
        (hook.post("/scripts/create", {}), "scripts:write"),
        (hook.get("/job_helpers/list_stored_files"), "job_helpers:read"),
    ):
        if scope is None:
            assert answer.status == 403
        else:
            denied(answer, scope)
    assert hook.get("/api/users/whoami").status == 401  # bound to a workspace
    assert hook.post("/api/users/tokens/create", {}).status == 401
    assert hook.with_token(hook.token, "admins").run("u/admin/echo").status == 401


def test_replays_are_runs(client: Client, hook: Client) -> None:
    own, foreign = client.submit("u/admin/echo", {"a": 1}), client.submit(OTHER, {"a": 1})
    for job_id in (own, foreign):
        client.ended(job_id)
    assert hook.ended(hook.post(f"/jobs/replay/{own}").text)["result"] == {"a": 1}
    assert hook.post(f"/jobs/replay/{foreign}").status == 403
    reader = token(client, "jobs:read")
    denied(reader.post(f"/jobs/replay/{own}"), "jobs:run:scripts")


def test_lists_show_what_the_token_is_for(client: Client) -> None:
    for path in ("u/admin/echo", OTHER):
        client.ended(client.submit(path, {"a": 1}))
    reader = token(client, "jobs:read:u/admin/echo,f/none/*", "scripts:read:u/admin/add")
    for path in ("/jobs/list", "/jobs/completed/list"):
        shown = {job["script_path"] for job in reader.get(path, per_page=1000).json()}
        assert shown == {"u/admin/echo"}
    assert [script["path"] for script in reader.get("/scripts/list").json()] == [OTHER]
    assert reader.get(f"/scripts/get/p/{OTHER}").status == 200
    denied(reader.get("/scripts/get/p/u/admin/echo"), "scripts:read:u/admin/echo")
    denied(reader.get("/scripts/get/h/" + script_hash(client, "u/admin/echo")), "scripts:read:u/admin/echo")
    denied(reader.get("/scripts/raw/p/u/admin/echo.py"), "scripts:read:u/admin/echo")
    denied(reader.get("/jobs/queue/count"), "jobs:read")  # of all jobs


def test_a_writer_writes_where_it_may(client: Client) -> None:
    writer = token(client, "scripts:write:u/admin/own/*")
    new = {"summary": "", "description": "", "language": "bash", "content": "echo 1"}
    assert writer.post("/scripts/create", {**new, "path": "u/admin/own/a"}).status == 201
    denied(writer.post("/scripts/create", {**new, "path": "u/admin/ownx/a"}), "scripts:write:u/admin/ownx/a")
    denied(writer.post(f"/scripts/archive/p/{OTHER}"), f"scripts:write:{OTHER}")
    assert writer.post("/scripts/archive/p/u/admin/own/a").status == 200


def test_tokens_that_only_read(client: Client) -> None:
    reader = token(client, workspace=None, read_only=True)
    assert reader.get("/jobs/list").status == 200
    assert reader.get("/api/users/whoami").status == 200
    denied(reader.run("u/admin/echo"), "jobs:run:scripts")
    denied(reader.get("/jobs/run_wait_result/p/u/admin/echo"), "jobs:run:scripts")
    denied(reader.post("/api/users/tokens/create", {}), "users:write")
    denied(reader.get("/job_helpers/move_s3_file", src_file_key="a", dest_file_key="b"), "job_helpers:write")


def test_tags(client: Client) -> None:
    tagged = token(client, "if_jobs:filter_tags:python3,fast")
    assert tagged.run("u/admin/echo", {"a": 1}).json() == {"a": 1}
    assert tagged.run("u/admin/echo", {}, tag="fast").status == 200
    for answer in (tagged.run("u/admin/echo", {}, tag="slow"), tagged.preview("echo 1", language="bash")):
        assert (answer.status, answer.text) == (
            403,
            "Permission denied: the token runs jobs with these tags only: fast, python3",
        )
    slow = client.submit("u/admin/echo", {}, tag="slow")
    client.ended(slow)
    for answer in (tagged.get(f"/jobs_u/get/{slow}"), tagged.post(f"/jobs_u/queue/cancel/{slow}", {})):
        assert (answer.status, answer.text) == (404, f"Not found: Job not found at name {slow}")
    assert tagged.post("/jobs_u/queue/get_started_at_by_ids", [slow]).json() == [None]
    assert {job["tag"] for job in tagged.get("/jobs/list").json()} <= {"fast", "python3"}


def test_scopes_that_cannot_be_understood(client: Client) -> None:
    assert token(client, "*", workspace=None).get("/api/users/whoami").status == 403
    answer = token(client, "jobs:fly").get("/jobs/list")
    assert (answer.status, answer.text) == (400, "Bad request: the token has a scope with an unknown word: jobs:fly")


def test_changes_count_at_once(client: Client) -> None:
    made = token(client, "jobs:read", workspace=None)
    assert made.get("/jobs/list").status == 200
    prefix = made.token[:10]
    answer = client.post(f"/api/users/tokens/update_scopes/{prefix}", {"scopes": ["scripts:read"]})
    assert answer.status == 200
    denied(made.get("/jobs/list"), "jobs:read")
    assert client.post(f"/api/users/tokens/update_scopes/{prefix}", {"scopes": None}).status == 200
    assert made.get("/jobs/list").status == 200
    assert client.post(f"/api/users/tokens/update_label/{prefix}", {"label": "renamed"}).status == 200
    listed = {each["token_prefix"]: each for each in client.get("/api/users/tokens/list", per_page=100).json()}
    assert (listed[prefix]["label"], listed[prefix]["scopes"], listed[prefix]["read_only"]) == ("renamed", None, False)
    assert client.post("/api/users/tokens/update_label/nosuchpref", {"label": "x"}).status == 404
    assert client.call("DELETE", f"/api/users/tokens/delete/{prefix}").status == 200
    assert made.get("/jobs/list").status == 401


def test_a_restricted_token_makes_no_wider_one(client: Client) -> None:
    maker = token(client, "users:write", RUN_ECHO, workspace=None)
    assert maker.post("/api/users/tokens/create", {"scopes": [RUN_ECHO]}).status == 201
    for scopes in (None, [], ["jobs:run"], [RUN_ECHO, "jobs:read"]):
        answer = maker.post("/api/users/tokens/create", {"scopes": scopes})
        assert answer.status == 403
        assert "a restricted token makes tokens only" in answer.text
        answer = maker.post(f"/api/users/tokens/update_scopes/{maker.token[:10]}", {"scopes": scopes})
        assert answer.status == 403


def test_no_scope_leads_to_all_rights(client: Client) -> None:
    """By a password, another user or a token in another's name."""
    manager = token(client, "users:write", "users:read", workspace=None)
    assert manager.get("/api/users/list_as_super_admin").status == 200
    for method, path in (
        ("POST", "/api/users/setpassword"),
        ("POST", "/api/users/create"),
        ("POST", "/api/users/update/admin@localhost"),
        ("POST", "/api/users/set_password_of/admin@localhost"),
        ("DELETE", "/api/users/delete/admin@localhost"),
        ("POST", "/api/users/tokens/impersonate"),
    ):
        answer = manager.call(
            method, path, data={"password": "a long password", "impersonate_email": "admin@localhost"}
        )
        assert (answer.status, "a restricted token cannot do this" in answer.text) == (403, True), path


def test_tokens_of_a_script(client: Client, server: Server) -> None:
    made = token(client, RUN_ECHO, label="webhook-admin-list")
    listed = client.get("/scripts/list_tokens/u/admin/echo").json()
    found = [each for each in listed if each["label"] == "webhook-admin-list"]
    assert [(each["token_prefix"], each["email"]) for each in found] == [(made.token[:10], "admin@localhost")]
    assert client.get(f"/scripts/list_tokens/{OTHER}").json() == []
    domains = {each["name"] for each in client.get("/api/tokens/list/scopes").json()}
    assert domains >= {"jobs", "scripts"}


def test_impersonation_is_for_super_admins(client: Client, server: Server) -> None:
    ada = server.user("ada")
    answer = client.post("/api/users/tokens/impersonate", {"impersonate_email": "ada@localhost", "label": "by admin"})
    assert answer.status == 201
    assert client.with_token(answer.text).get("/api/users/whoami").json()["username"] == "ada"
    assert ada.post("/api/users/tokens/impersonate", {"impersonate_email": "admin@localhost"}).status == 403
    assert client.post("/api/users/tokens/impersonate", {}).status == 400
    assert client.post("/api/users/tokens/impersonate", {"impersonate_email": "nobody@x"}).status == 404


def test_no_token_lasts_for_ever_if_the_instance_says_so(make_server: Callable[..., Server]) -> None:
    client = make_server("--max-token-expiration-days", "1").start()
    assert client.post("/api/users/tokens/create", {"expiration": "2999-01-01T00:00:00Z"}).status == 201
    expiration = client.get("/api/users/tokens/list").json()[0]["expiration"]
    assert json.dumps(expiration) < '"2999'
