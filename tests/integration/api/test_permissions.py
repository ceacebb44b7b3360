"""Every route with every kind of caller, on a running server: the answers are those of the table."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import pytest

from minwebhook.api.routes import all_routes
from minwebhook.auth.scopes import ACTIONS, DOMAINS
from tests.permission_table import DECISIONS, KINDS, PAGE, decisions, page
from tests.server import Answer, Client, Server, eventually, serving

W = "/api/w/{workspace}"
SCRIPT = "def main(**arguments): return arguments"
#: Tells its token, and stays.
LASTS = """
import json, os, time, urllib.request

def main():
    token = os.environ["WM_TOKEN"]
    body = json.dumps({"path": "u/admin/of_job", "value": token, "is_secret": True, "description": ""}).encode()
    fields = {"Authorization": f"Bearer {token}", "Content-Type": "application/json"}
    url = f"{os.environ['BASE_INTERNAL_URL']}/api/w/demo/variables/create"
    urllib.request.urlopen(urllib.request.Request(url, body, fields))
    time.sleep(600)
"""
NEW_SCRIPT = {"summary": "", "description": "", "language": "python3", "content": SCRIPT, "auto_parent": True}
FLOW: dict[str, Any] = {"summary": "", "value": {"modules": []}}
#: Bodies of calls; an empty object for the others.
BODIES: dict[str, Any] = {
    f"{W}/jobs/run/batch_rerun_jobs": {"job_ids": []},
    "/api/users/tokens/update_scopes/{prefix}": {"scopes": None},
    f"{W}/scripts/create": {**NEW_SCRIPT, "path": "f/team/new"},
    f"{W}/flows/create": {**FLOW, "path": "f/team/new"},
    f"{W}/flows/update/{{path...}}": {**FLOW, "path": "f/team/echo"},
    f"{W}/jobs/run/preview_flow": FLOW,
    f"{W}/jobs/run_wait_result/preview_flow": FLOW,
    f"{W}/users/exists": {"username": "dev"},
    f"{W}/workspaces/encryption_key": {"new_key": "k" * 64},
    f"{W}/folders/create": {"name": "team"},
    f"{W}/folders/addowner/{{name}}": {"owner": "u/dev"},
    f"{W}/folders/removeowner/{{name}}": {"owner": "u/nobody"},
    f"{W}/scripts/schema": {"language": "bash", "content": "echo 1"},
    f"{W}/jobs/run/preview": {"language": "bash", "content": "echo 1"},
    f"{W}/jobs/run_wait_result/preview": {"language": "bash", "content": "echo 1"},
    f"{W}/jobs/run_inline/preview": {"language": "bash", "content": "echo 1"},
    f"{W}/jobs/queue/cancel_selection": [],
    f"{W}/jobs_u/queue/get_started_at_by_ids": [],
    f"{W}/apps/sign_s3_objects": {"s3_objects": []},
    f"{W}/workspaces/edit_large_file_storage_config": {},
    "/api/workspaces/exists": {"id": "demo"},
    f"{W}/variables/create": {"path": "f/team/new", "value": "x", "is_secret": False, "description": ""},
    f"{W}/variables/update/{{path...}}": {"description": "changed"},
    f"{W}/variables/encrypt": "x",
    f"{W}/resources/create": {"path": "f/team/new", "value": {}, "resource_type": "any"},
    f"{W}/resources/update/{{path...}}": {"description": "changed"},
    f"{W}/resources/update_value/{{path...}}": {"value": {}},
}
#: What puts back, in the name of the admin, what a call has changed: method, path, body.
RESTORE: dict[tuple[str, str], tuple[str, str, Any]] = {
    ("DELETE", f"{W}/folders/delete/{{name}}"): (
        "POST",
        "/folders/create",
        {"name": "team", "owners": ["u/dev"], "extra_perms": {"u/op": False}},
    ),
    ("POST", f"{W}/flows/create"): ("DELETE", "/flows/delete/f/team/new", None),
    ("POST", f"{W}/flows/archive/{{path...}}"): ("POST", "/flows/archive/f/team/echo", {"archived": False}),
    ("DELETE", f"{W}/flows/delete/{{path...}}"): ("POST", "/flows/create", {**FLOW, "path": "f/team/echo"}),
    ("POST", f"{W}/variables/create"): ("DELETE", "/variables/delete/f/team/new", None),
    ("DELETE", f"{W}/variables/delete/{{path...}}"): (
        "POST",
        "/variables/create",
        {"path": "f/team/echo", "value": "x", "is_secret": True, "description": ""},
    ),
    ("POST", f"{W}/resources/create"): ("DELETE", "/resources/delete/f/team/new", None),
    ("DELETE", f"{W}/resources/delete/{{path...}}"): (
        "POST",
        "/resources/create",
        {"path": "f/team/echo", "value": {}, "resource_type": "any"},
    ),
}
#: How a call is answered that may be made, if not by 200 or 201.
MAY: dict[str, int] = {
    "/api/auth/login": 400,
    "/api/users/setpassword": 400,
    "/api/users/create": 400,
    "/api/users/tokens/impersonate": 400,
    "/api/users/tokens/update_scopes/{prefix}": 404,
    "/api/users/tokens/update_label/{prefix}": 404,
    "/api/users/update/{email}": 404,
    "/api/users/set_password_of/{email}": 400,
    "/api/users/delete/{email}": 404,
    "/api/workspaces/create": 400,
    "/api/users/refresh_token": 400,
    "/api/settings/test_smtp": 400,
    "/api/workspaces/exists_username": 400,
    f"{W}/variables/delete_bulk": 415,
    "/api/workspaces/unarchive/{workspace_id}": 404,
    "/api/workspaces/delete/{workspace_id}": 404,
    "/api/auth/request_password_reset": 400,
    "/api/auth/reset_password": 400,
    f"{W}/s3_proxy/{{storage}}/{{key...}}": 403,
    f"{W}/users/update/{{username}}": 404,
    f"{W}/users/delete/{{username}}": 404,
    f"{W}/users/get/{{username}}": 404,
    f"{W}/users/whois/{{username}}": 404,
    f"{W}/users/username_to_email/{{username}}": 404,
    f"{W}/workspaces/add_user": 400,
    f"{W}/groups/create": 400,
    f"{W}/groups/get/{{name}}": 404,
    f"{W}/groups/update/{{name}}": 404,
    f"{W}/groups/adduser/{{name}}": 400,
    f"{W}/groups/removeuser/{{name}}": 400,
    f"{W}/groups/delete/{{name}}": 404,
    f"{W}/folders/create": 400,
    f"{W}/job_helpers/download_s3_file": 400,
    f"{W}/job_helpers/load_file_metadata": 400,
    f"{W}/job_helpers/load_file_preview": 400,
    f"{W}/job_helpers/delete_s3_file": 400,
    f"{W}/job_helpers/move_s3_file": 400,
    f"{W}/job_helpers/multipart_upload_s3_file": 400,
    f"{W}/job_helpers/multipart_download_s3_file": 400,
    f"{W}/jobs/run/dependencies": 400,
    f"{W}/jobs/run/dependencies_async": 400,
    f"{W}/jobs/run/flow_dependencies": 400,
    f"{W}/jobs/run/flow_dependencies_async": 400,
    f"{W}/scripts/delete_bulk": 415,
    f"{W}/jobs/queue/scheduled_for/{{id}}": 404,
    f"{W}/jobs/dead_letters/redrive/{{id}}": 404,
    f"{W}/jobs/dead_letters/discard/{{id}}": 404,
    f"{W}/jobs/ws": 426,
    f"{W}/jobs/restart/f/{{id}}": 400,
    f"{W}/jobs/result_by_id/{{id}}/{{node}}": 404,
    f"{W}/jobs_u/resume/{{id}}/{{resume_id}}/{{signature}}": 403,
    f"{W}/jobs_u/cancel/{{id}}/{{resume_id}}/{{signature}}": 403,
    f"{W}/jobs_u/get_flow/{{id}}/{{resume_id}}/{{signature}}": 403,
    f"{W}/jobs/flow_env_by_flow_job_id/{{id}}/{{env_name}}": 404,
    f"{W}/jobs_u/get_flow_debug_info/{{id}}": 404,
    "/approve/{workspace}/{id}": 400,
    "/approve/{workspace}/{id}/{resume_id}/{signature}": 403,
    f"{W}/jobs/flow/resume/{{id}}": 400,
    f"{W}/jobs_u/flow/resume_suspended/{{id}}": 400,
    f"{W}/jobs_u/flow/approval_info/{{id}}": 400,
    f"{W}/jobs/flow/user_states/{{id}}/{{key}}": 404,
    f"{W}/job_metrics/set_progress/{{id}}": 400,
    f"{W}/resources/type/create": 400,
    f"{W}/resources/type/get/{{name}}": 404,
    f"{W}/resources/type/update/{{name}}": 404,
    f"{W}/resources/type/delete/{{name}}": 404,
}
#: Calls that would take away what the others need; that they can be made is tested elsewhere.
LAST = {"/api/auth/logout", f"{W}/users/leave", f"{W}/workspaces/archive"}


#: Most calls here are refused.
NO_LIMITS = ("--failed-tokens-per-address", "0", "--failed-tokens-per-prefix", "0")


@dataclass
class Scene:
    """A server with one of each kind of caller."""

    server: Server
    callers: dict[str, Client]
    values: dict[str, str]

    def call(self, kind: str, method: str, pattern: str) -> Answer:
        path = pattern.replace("/delete/{id}", f"/delete/{self.values['wiped']}")
        path = path.replace("/audit/get/{id}", f"/audit/get/{self.values['record']}")
        if "{version}" in pattern:  # flows were deleted and made again
            newest = self.callers["super"].get("/flows/get_latest_version/f/team/echo").json()
            path = path.replace("{version}", str(newest["id"]))
        for name, value in self.values.items():
            path = path.replace(f"{{{name}}}", value)
        if "/raw/p/" in path or "/raw_unpinned/p/" in path:
            path += ".py"
        if "{name}" in pattern:
            path = path.replace("{name}", "team")
        data = BODIES.get(pattern, {}) if method == "POST" else None
        return self.callers[kind].call(method, path, data=data)


def member(admin: Client, name: str, **role: bool) -> Client:
    email = f"{name}@x"
    assert admin.post("/api/users/create", {"email": email}).status == 201
    assert admin.post("/workspaces/add_user", {"email": email, **role}).status == 201
    return admin.with_token(admin.post("/api/users/tokens/impersonate", {"impersonate_email": email}).text)


def token(client: Client, **asked: Any) -> Client:
    answer = client.post("/api/users/tokens/create", asked)
    assert answer.status == 201, answer.text
    return client.with_token(answer.text)


def token_of_job(client: Client) -> str:
    """The token of a job that runs as long as anybody asks."""
    client.deploy("u/admin/lasts", LASTS)
    client.submit("u/admin/lasts")

    def probe() -> str:
        found = client.get("/variables/get_value/u/admin/of_job")
        return str(found.json()) if found.status == 200 else ""

    return eventually(probe, "the token of the job")


@pytest.fixture(scope="module")
def scene(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Scene]:
    with serving(tmp_path_factory.mktemp("permissions") / "data", "--workers", "3", *NO_LIMITS) as (server, admin):
        owner, other = member(admin, "dev"), member(admin, "other")
        operator, boss = member(admin, "op", operator=True), member(admin, "boss", is_admin=True)
        assert owner.post("/folders/create", {"name": "team", "extra_perms": {"u/op": False}}).status == 200
        digest = owner.deploy("f/team/echo", SCRIPT)
        owner.deploy("f/team/other", SCRIPT)
        job = owner.submit("f/team/echo")
        wiped = owner.submit("f/team/echo")
        for each in (job, wiped):
            owner.ended(each)
        for undo, path, data in RESTORE.values():
            if undo == "POST" and path.endswith("/create") and path != "/folders/create":
                assert owner.post(path, data).status == 201
        callers = {
            "none": admin.with_token(""),
            "wrong": admin.with_token("x" * 32),
            "expired": token(owner, expiration="2020-01-01T00:00:00Z"),
            "elsewhere": token(admin, workspace_id="admins"),
            "abroad": token(owner, allowed_networks=["203.0.113.0/24", "2001:db8::/32"]),
            "read-only": token(owner, read_only=True),
            "hook": token(
                owner, workspace_id="demo", scopes=[f"jobs:run:{kind}:f/team/echo" for kind in ("scripts", "flows")]
            ),
            "other hook": token(
                owner, workspace_id="demo", scopes=[f"jobs:run:{kind}:f/team/other" for kind in ("scripts", "flows")]
            ),
            "operator": operator,
            "other": other,
            "owner": owner,
            "admin": boss,
            "super": admin,
            "job": admin.with_token(token_of_job(admin)),
        }
        values = {
            "workspace": "demo",
            "path...": "f/team/echo",
            "hash": digest,
            "file": f"{digest}.py",
            "id": job,
            "wiped": wiped,
            "record": str(admin.get("/audit/list", per_page=1, username="admin").json()[0]["id"]),
            "epoch_ms": "1",
            "prefix": "abcdefghij",
            "email": "nobody@x",
            "username": "nobody",
            "workspace_id": "none",
            "storage": "_default_",
            "key...": "a",
            "node": "a",
            "resume_id": "1",
            "signature": "0" * 64,
            "key": "base_url",
            "env_name": "a",
            "kind": "script",
        }
        yield Scene(server, callers, values)


def test_every_route_has_a_decision_and_no_decision_is_without_a_route() -> None:
    assert set(decisions()) == {(route.method, route.pattern) for route in all_routes()}
    assert set(decisions().values()) == set(DECISIONS)
    assert all(len(statuses) == len(KINDS) for statuses in DECISIONS.values())


def test_every_route_says_what_tokens_are_for() -> None:
    for route in all_routes():
        endpoint = route.endpoint
        assert endpoint.domain in DOMAINS | {"public"}, route.pattern
        assert endpoint.action in ACTIONS, route.pattern


@pytest.mark.parametrize(("method", "pattern"), list(decisions()), ids=[" ".join(each) for each in decisions()])
def test_the_server_decides_as_the_table_says(scene: Scene, method: str, pattern: str) -> None:
    statuses = dict(zip(KINDS, DECISIONS[decisions()[method, pattern]], strict=True))
    found: dict[str, int] = {}
    expected: dict[str, int] = {}
    for kind, status in statuses.items():
        if not status and pattern in LAST and method != "HEAD":
            continue
        answer = scene.call(kind, method, pattern)
        may = {MAY[pattern]} if pattern in MAY and method != "HEAD" else {200, 201}
        expected[kind] = status or (answer.status if answer.status in may else min(may))
        found[kind] = answer.status
        if (method, pattern) in RESTORE and answer.status in (200, 201):
            undo, path, data = RESTORE[method, pattern]
            assert scene.callers["super"].call(undo, path, data=data).status in (200, 201)
        if pattern.startswith((f"{W}/scripts/archive/", f"{W}/scripts/delete/")) and answer.status == 200:
            _run_again(scene, f"{pattern} by {kind}")
    assert found == expected


def _run_again(scene: Scene, after: str) -> None:
    """What the others look at: a version of the script, and a job of it."""
    owner = scene.callers["owner"]
    digest = owner.deploy("f/team/echo", f"{SCRIPT}  # after {after}")
    scene.values |= {"hash": digest, "file": f"{digest}.py", "id": owner.submit("f/team/echo")}
    owner.ended(scene.values["id"])


def test_the_page_is_made_from_the_table() -> None:
    assert PAGE.read_text(encoding="utf-8") == page()
