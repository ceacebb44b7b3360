"""Ways around a check by the routes and members beside it: what a developer without rights on a folder, and a token for one
path, try on what is in the folder."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from tests.flows import JSON, js, py, step
from tests.server import Answer, Client, Server, eventually, serving

SECRET = "team-canary-27182"
NEW = {"summary": "", "description": "", "language": "python3"}


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Server, Client, Client]]:
    """An admin with a folder ``team``, and eve, who has nothing to do with it."""
    with serving(tmp_path_factory.mktemp("siblings") / "data", "--workers", "2") as (server, admin):
        assert admin.post("/folders/create", {"name": "team"}).status == 200
        variable = {"path": "f/team/v", "value": SECRET, "is_secret": True, "description": ""}
        assert admin.post("/variables/create", variable).status == 201
        resource = {"path": "f/team/r", "value": {"password": "$var:f/team/v"}, "resource_type": "x"}
        assert admin.post("/resources/create", resource).status == 201
        flow = {"path": "f/team/flow", "summary": "", "value": {"modules": [step("a", py("def main(): return 1"))]}}
        assert admin.post("/flows/create", flow).status == 201
        yield server, admin, server.user("eve")


@pytest.fixture(scope="module")
def admin(server: tuple[Server, Client, Client]) -> Client:
    return server[1]


@pytest.fixture(scope="module")
def eve(server: tuple[Server, Client, Client]) -> Client:
    return server[2]


def deploy(client: Client, path: str, **members: Any) -> Answer:
    content = members.pop("content", f"def main(): return {path!r}")
    return client.post("/scripts/create", {**NEW, "path": path, "content": content, **members})


def run_flow(client: Client, path: str, *modules: JSON) -> Answer:
    """A flow of one's own that reaches for what is not."""
    new = {"path": path, "summary": "", "value": {"modules": modules}}
    assert client.post("/flows/create", new).status == 201
    return client.post(f"/jobs/run_wait_result/f/{path}")


def test_nobody_takes_a_script_of_others_out_of_service_by_following_it(admin: Client, eve: Client) -> None:
    digest = admin.deploy("f/team/hook", "def main(): return 'hook'")
    refused = deploy(eve, "u/eve/takes", parent_hash=digest)
    unknown = deploy(eve, "u/eve/takes", parent_hash="0" * 16)
    assert (refused.status, unknown.status) == (400, 400)
    assert refused.text.replace(digest, "HASH") == unknown.text.replace("0" * 16, "HASH"), "as if it were not there"
    # A token for one path moves nothing away from another, and who may look only moves nothing.
    asked = {"scopes": ["scripts:write:u/admin/*"]}
    narrow = admin.with_token(admin.post("/api/users/tokens/create", asked).text)
    assert deploy(narrow, "u/admin/takes", parent_hash=digest).status == 403
    assert admin.post("/folders/update/team", {"extra_perms": {"u/eve": False}}).status == 200
    assert deploy(eve, "u/eve/takes", parent_hash=digest).status == 400
    assert admin.post("/folders/update/team", {"extra_perms": {}}).status == 200
    assert admin.run("f/team/hook").json() == "hook"
    # Whoever may change both moves it.
    assert deploy(admin, "f/team/moved", parent_hash=digest).status == 201
    assert admin.run("f/team/hook").status == 404


def test_bodies_do_not_reach_where_paths_do_not(eve: Client) -> None:
    assert eve.post("/variables/create", {"path": "u/eve/v", "value": "1", "is_secret": False}).status == 201
    assert eve.post("/variables/update/u/eve/v", {"path": "f/team/w"}).status == 400
    resource = {"path": "f/team/r", "value": 1, "resource_type": "x"}
    assert eve.post("/resources/create", resource, update_if_exists="true").status == 400
    assert eve.post("/resources/create", {**resource, "path": "u/eve/moved"}).status == 201
    assert eve.post("/resources/update/u/eve/moved", {"path": "f/team/moved"}).status == 400
    assert eve.call("DELETE", "/variables/delete_bulk", data={"paths": ["u/eve/v", "f/team/v"]}).status == 400
    flow = {"path": "u/eve/own", "summary": "", "value": {"modules": []}}
    assert eve.post("/flows/create", flow).status == 201
    assert eve.post("/flows/update/u/eve/own", {**flow, "path": "f/team/taken"}).status == 400
    assert eve.post("/flows/update/f/team/flow", flow).status == 400
    for body in ({"owners": ["u/eve"]}, {"extra_perms": {"u/eve": True}}):
        assert eve.post("/folders/update/team", body).status == 404
    assert eve.post("/folders/addowner/team", {"owner": "u/eve"}).status == 404


def test_what_names_things_finds_them_with_the_rights_of_who_asks(admin: Client, eve: Client) -> None:
    digest = admin.deploy("f/team/named", "def main(): return 'named'")
    value = {"x": "$res:f/team/r", "y": "$var:f/team/v"}
    assert eve.post("/resources/create", {"path": "u/eve/names", "value": value, "resource_type": "x"}).status == 201
    assert eve.get("/resources/get_value_interpolated/u/eve/names").status == 404
    assert deploy(eve, "u/eve/signed", signature={"secret": "f/team/v", "header": "X"}).status == 400
    for code in (
        "from f.team.named import main as m\ndef main(): return m()",
        "import f.team.named as m\ndef main(): return m.main()",
    ):
        assert eve.preview(code).status == 400
        assert deploy(eve, "u/eve/imports", content=code).status == 400
    tell = "def main(x): return x"
    for number, module in enumerate(
        (
            {"type": "script", "path": "f/team/named", "input_transforms": {}},
            {"type": "script", "path": "u/eve/own", "hash": digest, "input_transforms": {}},
            {"type": "flow", "path": "f/team/flow", "input_transforms": {}},
            py(tell, x="variable('f/team/v')"),
            py(tell, x="variable('f/' + 'team/v')"),
            py(tell, x="resource('f/team/r')"),
            {**py(tell), "input_transforms": {"x": {"type": "static", "value": ["$var:f/team/v"]}}},
            {**py(tell), "input_transforms": {"x": js("'$res:f/team/r'")}},
        )
    ):
        answer = run_flow(eve, f"u/eve/reaches_{number}", step("a", module))
        assert "not found" in answer.text.lower(), (number, answer.text)
        assert SECRET not in answer.text
        assert "error" in answer.json()


def test_jobs_of_others_are_nowhere_to_be_seen(admin: Client, eve: Client) -> None:
    admin.deploy("f/team/secret_job", "def main(): print('log'); return 'result'")
    deploy(eve, "u/eve/mine")
    job = admin.submit("f/team/secret_job")
    admin.ended(job)
    flow = admin.post("/jobs/run/f/f/team/flow").text
    admin.ended(flow)
    for job_id in (job, flow):
        for route in (
            *("jobs_u/get", "jobs_u/get_args", "jobs_u/get_logs", "jobs_u/getupdate", "jobs_u/getupdate_sse"),
            *("jobs_u/get_flow_debug_info", "jobs_u/get_root_job_id", "jobs_u/completed/get_result"),
            *("jobs/completed/get", "jobs/completed/get_timing", "jobs/job_view_token", "job_metrics/get_progress"),
        ):
            assert eve.get(f"/{route}/{job_id}").status == 403, route
        for route in ("jobs/result_by_id", "jobs/flow_env_by_flow_job_id", "jobs/flow/user_states", "jobs/resume_urls"):
            assert eve.get(f"/{route}/{job_id}/1").status == 403, route
        for route in ("jobs/replay", "jobs_u/queue/cancel", "job_metrics/set_progress", "jobs/restart/f"):
            assert eve.post(f"/{route}/{job_id}", {"percent": 1, "step_id": "a"}).status == 403, route
        restart = {"value": {"modules": []}, "restarted_from": {"flow_job_id": job_id, "step_id": "a"}}
        assert eve.post("/jobs/run/preview_flow", restart).status == 403
        assert eve.post("/jobs_u/queue/get_started_at_by_ids", [job_id]).json() == [None]
        assert eve.post("/jobs/queue/cancel_selection", [job_id]).json() == []
        mine = eve.call("POST", "/jobs/run_and_stream/p/u/eve/mine", b"{}", {"Last-Event-ID": f"{job_id}:0:0"})
        assert mine.status in (400, 403)
    for route in ("jobs/list", "jobs/completed/list", "jobs/queue/list", "jobs/dead_letters/list"):
        listed = eve.get(f"/{route}", per_page=1000, parent_job=flow) if "dead" not in route else eve.get(f"/{route}")
        assert listed.json() == []
    # A parent that is named opens nothing.
    assert eve.post("/jobs/run_wait_result/p/u/eve/mine", {}, root_job=job, parent_job=job).status == 200
    assert eve.get(f"/jobs_u/get/{job}").status == 403
    assert eve.get("/jobs/list", all_workspaces="true").status in (400, 403)


def test_a_webhook_does_not_slip_its_run_into_the_flow_of_another(admin: Client) -> None:
    admin.deploy("f/team/family", "def main(): return 1")
    told = py("def main(x): return x", x="flow_user_state('k')")
    made = admin.post("/flows/create", {"path": "f/team/tells", "summary": "", "value": {"modules": [step("a", told)]}})
    assert made.status == 201
    wait = step("w", {"type": "identity"}, suspend={"required_events": 1, "timeout": 600})
    flow = admin.post("/jobs/run/preview_flow", {"value": {"modules": [wait]}}).text
    eventually(lambda: admin.get(f"/jobs_u/flow/approval_info/{flow}").json()["is_waiting"], "the wait")
    assert admin.post(f"/jobs/flow/user_states/{flow}/k", SECRET).status == 200
    own = admin.submit("f/team/family")
    scopes = ["jobs:run:scripts:f/team/family", "jobs:run:flows:f/team/tells"]
    hook = admin.with_token(admin.post("/api/users/tokens/create", {"scopes": scopes}).text)
    for name in ("root_job", "parent_job"):
        for way in ("p/f/team/family", "f/f/team/tells"):
            for run in ("run", "run_wait_result", "run_and_stream"):
                refused = hook.call("POST", f"/jobs/{run}/{way}", data={}, query={name: flow})
                assert refused.status == 403, (name, way, run)
        assert hook.run("f/team/family", {}, **{name: own}).json() == 1
    assert admin.post("/jobs/run_wait_result/f/f/team/tells", {}, root_job=flow).json() == SECRET
    other = admin.with_token(admin.token, "admins")
    assert (
        other.post(
            "/flows/create", {"path": "u/admin/tells", "summary": "", "value": {"modules": [step("a", told)]}}
        ).status
        == 201
    )
    assert other.post("/jobs/run_wait_result/f/u/admin/tells", {}, root_job=flow).json() is None
