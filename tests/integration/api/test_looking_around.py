"""What users and clients look up about a server: what there is to run, which tokens run it, how it is set up."""

from __future__ import annotations

from typing import Any

from tests.server import Client, Server

FLOW = {"modules": [{"id": "a", "value": {"type": "rawscript", "language": "bash", "content": "echo 1"}}]}


def runnables(client: Client) -> list[dict[str, Any]]:
    answer = client.get("/api/users/all_runnables")
    assert answer.status == 200, answer.text
    found: list[dict[str, Any]] = answer.json()
    return found


def paths(client: Client) -> set[str]:
    return {item["path"] for item in runnables(client)}


def test_everyone_finds_what_they_may_run_and_where(client: Client, server: Server) -> None:
    owner = server.user("runs_owner")
    assert owner.post("/folders/create", {"name": "runs_team", "extra_perms": {"u/runs_reader": False}}).status == 200
    reader, stranger = server.user("runs_reader"), server.user("runs_stranger")
    schema = {"type": "object", "properties": {"a": {"type": "string"}}}
    owner.deploy("f/runs_team/script", "def main(a: str): return a", schema=schema)
    owner.deploy("f/runs_team/gone", "def main(): pass")
    assert owner.post("/scripts/archive/p/f/runs_team/gone").status == 200
    made = owner.post("/flows/create", {"path": "f/runs_team/flow", "summary": "flows", "value": FLOW})
    assert made.status == 201
    found = [item for item in runnables(reader) if item["path"].startswith("f/runs_team")]
    assert [(item["kind"], item["path"], item["endpoint_async"], item["endpoint_sync"]) for item in found] == [
        (kind, f"f/runs_team/{kind}", f"/w/demo/jobs/run/{way}", f"/w/demo/jobs/run_wait_result/{way}")
        for kind, way in (("script", "p/f/runs_team/script"), ("flow", "f/f/runs_team/flow"))
    ]
    assert found[0]["schema"] == schema and found[1]["summary"] == "flows"
    assert reader.call("POST", f"/api{found[1]['endpoint_sync']}", data={}).json() == "1"
    assert "f/runs_team/script" in paths(client)
    assert not any(path.startswith("f/runs_team") for path in paths(stranger))
    # A token finds what its scopes are for.
    made = owner.post("/api/users/tokens/create", {"scopes": ["users:read", "scripts:read:f/runs_team/*"]})
    assert paths(owner.with_token(made.text)) == {"f/runs_team/script"}


def test_a_job_finds_what_is_in_its_workspace(client: Client) -> None:
    assert client.post("/api/workspaces/create", {"id": "runs-other", "name": "x"}).status == 201
    client.with_token(client.token, "runs-other").deploy("u/admin/elsewhere", "def main(): pass")
    assert "u/admin/elsewhere" in paths(client)
    code = (
        "import json, os, urllib.request\ndef main():\n"
        "    url = os.environ['BASE_INTERNAL_URL'] + '/api/users/all_runnables'\n"
        "    fields = {'Authorization': 'Bearer ' + os.environ['WM_TOKEN']}\n"
        "    found = json.load(urllib.request.urlopen(urllib.request.Request(url, headers=fields)))\n"
        "    return sorted({item['workspace'] for item in found})\n"
    )
    client.deploy("u/admin/runs_here", "def main(): pass")
    assert client.preview(code).json() == ["demo"]


def test_tokens_of_a_flow_are_listed_with_whom_they_belong_to(client: Client) -> None:
    client.post("/flows/create", {"path": "u/admin/token_flow", "summary": "", "value": FLOW})
    asked = [
        {"label": "new", "workspace_id": "demo", "scopes": ["jobs:run:flows:u/admin/token_flow"]},
        {"label": "old", "workspace_id": "demo", "scopes": ["jobs:read", "run:flow/u/admin/token_flow"]},
        {"label": "a script's", "workspace_id": "demo", "scopes": ["jobs:run:scripts:u/admin/token_flow"]},
        {"label": "of any workspace", "scopes": ["jobs:run:flows:u/admin/token_flow"]},
    ]
    made = [client.post("/api/users/tokens/create", each).text for each in asked]
    listed = client.get("/flows/list_tokens/u/admin/token_flow").json()
    assert [(item["label"], item["email"]) for item in listed] == [
        ("old", "admin@localhost"),
        ("new", "admin@localhost"),
    ]
    assert not any(token in str(listed) for token in made)
    assert made[0][:10] in str(listed)


def test_a_webhook_of_a_flow_looks_at_the_results_of_its_steps(client: Client) -> None:
    client.post("/flows/create", {"path": "u/admin/step_flow", "summary": "", "value": FLOW})
    for scope, status in (("jobs:run:flows:u/admin/step_flow", 200), ("jobs:run:flows:u/admin/other", 403)):
        hook = client.with_token(
            client.post("/api/users/tokens/create", {"scopes": [scope], "workspace_id": "demo"}).text
        )
        job_id = client.post("/jobs/run/f/u/admin/step_flow").text
        client.ended(job_id)
        assert hook.get(f"/jobs/result_by_id/{job_id}/a").status == status
        assert hook.get(f"/job_metrics/get_progress/{job_id}").status == status


def test_settings_are_told_without_secrets(client: Client, server: Server) -> None:
    user = server.user("settings_reader")
    assert user.get("/api/settings/global/automate_username_creation").json() is True
    assert user.get("/api/settings/global/base_url").json().startswith("http://")
    assert user.get("/api/settings/global/smtp_settings").status == 403
    assert client.get("/api/settings/global/smtp_settings").json() is None
    assert client.get("/api/settings/global/no_such_setting").json() is None
    listed = {item["name"]: item["value"] for item in client.get("/api/settings/list_global").json()}
    assert listed["retention_period_secs"] > 0
    assert user.get("/workspaces/get_settings").status == 403
    assert client.get("/workspaces/get_settings").json()["name"] == "Demo"
    public = user.get("/workspaces/get_public_settings").json()
    assert public == {"workspace_id": "demo", "large_file_storage": None}
    secret = {"bucket": "main", "endPoint": "127.0.0.1:1", "accessKey": "K", "secretKey": "canary-secret"}
    storage = {
        "type": "S3Storage",
        "s3_resource": secret,
        "secondary_storage": {"b": {"type": "S3Storage", "s3_resource": secret}},
    }
    other = client.with_token(client.token, "admins")
    assert other.post("/workspaces/edit_large_file_storage_config", {"large_file_storage": storage}).status == 200
    for route in ("get_settings", "get_public_settings"):
        answer = other.get(f"/workspaces/{route}")
        assert "canary-secret" not in answer.text
        shown = {"type": "S3Storage", "secondary_storage": {"b": {"type": "S3Storage"}}}
        assert answer.json()["large_file_storage"] == shown
    assert other.post("/workspaces/edit_large_file_storage_config", {}).status == 200


def test_small_questions_of_clients(client: Client) -> None:
    stranger = client.with_token("")
    assert (stranger.get("/api/uptodate").text, stranger.get("/api/ee_license").text) == ("yes", "")
    body = {"language": "python3", "content": "def main(a): return a", "args": {"a": 1}}
    assert client.post("/jobs/run_inline/preview", body).json() == 1
