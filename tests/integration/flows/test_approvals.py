"""Waiting flows over a real server: signed URLs, the page's token, logins and rights, repeated and forged ones, restarts."""

from __future__ import annotations

import base64
import functools
import json
import random
import sqlite3
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path
from typing import Any, Final
from urllib.parse import parse_qsl, urlsplit
from uuid import UUID

import pytest

from tests.flows import IDENTITY, JSON, forloop, js, py, step
from tests.server import Answer, Client, Server, eventually, serving

RETURN: Final = "def main(x=None): return x"
SEEN: Final = py(RETURN, x="{resume, resumes, approvers}")
NEVER: Final = "00000000-0000-7000-8000-000000000000"


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """One server for all."""
    with serving(tmp_path_factory.mktemp("approvals") / "data", "--workers", "2") as (server, _):
        yield server


@pytest.fixture
def client(server: Server) -> Client:
    """A client with the admin's token."""
    return server.client()


def flow(*modules: JSON, **more: Any) -> JSON:
    return {"value": {"modules": list(modules), **more}}


def waiting_flow(client: Client, suspend: JSON | None = None, **more: Any) -> str:
    """A flow that waits after its step ``a``, and then gives what it was told."""
    modules = [step("a", IDENTITY, suspend={"required_events": 1, **(suspend or {})}), step("b", SEEN)]
    return started(client, *modules, **more)


def started(client: Client, *modules: JSON, **more: Any) -> str:
    answer = client.post("/jobs/run/preview_flow", flow(*modules, **more))
    assert answer.status == 201, answer.text
    flow_id = answer.text
    eventually(lambda: waits_for(client, flow_id), "the flow waits")
    return flow_id


def waits_for(client: Client, flow_id: str) -> JSON | None:
    """The module that waits."""
    modules: list[JSON] = client.job(flow_id).get("flow_status", {}).get("modules", [])
    return next((each for each in modules if each["type"] == "WaitingForEvents"), None)


def urls(client: Client, job_id: str, number: int = 1, **query: Any) -> dict[str, str]:
    answer = client.get(f"/jobs/resume_urls/{job_id}/{number}", **query)
    assert answer.status == 200, answer.text
    found: dict[str, str] = answer.json()
    return found


def urls_of_step(client: Client, flow_id: str, number: int = 1, **query: Any) -> dict[str, str]:
    module = waits_for(client, flow_id)
    assert module is not None
    return urls(client, module["job"], number, **query)


def visit(client: Client, url: str, method: str = "POST", body: Any = None) -> Answer:
    """As somebody without a token does."""
    parts = urlsplit(url)
    path = parts.path.removeprefix("/api/w/demo") + (f"?{parts.query}" if parts.query else "")
    data = None if body is None else json.dumps(body).encode()
    return client.with_token("").call(method, path, data, {"Content-Type": "application/json"})


def result(client: Client, flow_id: str) -> Any:
    return client.ended(flow_id)["result"]


def test_resumed_with_a_payload(client: Client) -> None:
    flow_id = waiting_flow(client)
    found = urls_of_step(client, flow_id, 7)
    assert set(found) == {"approvalPage", "resume", "cancel"}
    answer = visit(client, found["resume"], body={"ok": [1, None]})
    assert (answer.status, answer.text) == (201, "")
    sent = {"ok": [1, None]}
    assert result(client, flow_id) == {"resume": sent, "resumes": [sent], "approvers": ["anonymous"]}


def test_whoever_approves_names_nothing_that_the_flow_may_read(client: Client) -> None:
    flow_id = waiting_flow(client)
    secret = {"path": "u/admin/approved", "value": "canary-1618", "is_secret": True, "description": ""}
    assert client.post("/variables/create", secret).status == 201
    for body in ("$var:u/admin/approved", {"a": [" $res:u/admin/x"]}, ["$encrypted:x"], {"a": "$WM_TOKEN"}):
        found = urls_of_step(client, flow_id)
        assert visit(client, found["resume"], body=body).status == 400
        assert visit(client, found["cancel"], body=body).status == 400
        payload = base64.b64encode(json.dumps(body).encode()).decode()
        assert visit(client, f"{found['resume']}?payload={payload}", "GET").status == 400
        token = dict(parse_qsl(urlsplit(found["approvalPage"]).query))["token"]
        said = {"payload": body, "approval_token": token, "approved": True}
        answer = client.with_token("").post(f"/jobs_u/flow/resume_suspended/{flow_id}", said)
        assert answer.status == 400, answer.text
        assert client.post(f"/jobs/flow/resume/{flow_id}", body).status == 400
    named = urls_of_step(client, flow_id, approver="$var:u/admin/approved")
    assert visit(client, named["resume"], body=1).status == 400
    assert visit(client, urls_of_step(client, flow_id)["resume"], body="costs $5 or $WM").status == 201
    assert "canary-1618" not in str(result(client, flow_id))


def test_resumed_by_a_link(client: Client) -> None:
    flow_id = waiting_flow(client)
    url = urls_of_step(client, flow_id, approver="ruben é")["resume"]
    payload = base64.b64encode(b'"by link"').decode()
    assert visit(client, url, "HEAD").status == 200  # a look
    assert visit(client, f"{url}&payload={payload}", "GET").status == 201
    assert result(client, flow_id) == {"resume": "by link", "resumes": ["by link"], "approvers": ["ruben é"]}
    module = client.job(flow_id)["flow_status"]["modules"][0]
    assert module["approvers"] == [{"resume_id": 1, "approver": "ruben é"}]


def test_disapproved(client: Client) -> None:
    flow_id = waiting_flow(client)
    assert visit(client, urls_of_step(client, flow_id, approver="ruben")["cancel"], "GET").status == 201
    assert result(client, flow_id) == {"error": {"name": "SuspendedDisapproved", "message": "Disapproved by ruben"}}


def test_a_step_may_disapprove_before_it_has_ended(client: Client) -> None:
    code = """
import json, os, urllib.request
def main():
    base, job = os.environ["BASE_INTERNAL_URL"], os.environ["WM_JOB_ID"]
    url = f"{base}/api/w/demo/jobs/resume_urls/{job}/1?approver=ruben"
    head = {"Authorization": "Bearer " + os.environ["WM_TOKEN"]}
    cancel = json.load(urllib.request.urlopen(urllib.request.Request(url, headers=head)))["cancel"]
    return urllib.request.urlopen(base + "/api" + cancel.partition("/api")[2]).status
"""
    modules = [step("a", py(code), suspend={"required_events": 1}), step("b", SEEN)]
    flow_id = client.post("/jobs/run/preview_flow", flow(*modules)).text
    assert result(client, flow_id) == {"error": {"name": "SuspendedDisapproved", "message": "Disapproved by ruben"}}


def test_disapproved_and_going_on(client: Client) -> None:
    flow_id = waiting_flow(client, {"continue_on_disapprove_timeout": True})
    assert visit(client, urls_of_step(client, flow_id)["cancel"]).status == 201
    assert result(client, flow_id)["resume"]["error"]["name"] == "SuspendedDisapproved"


def test_nobody_came_in_time(client: Client) -> None:
    flow_id = waiting_flow(client, {"timeout": 1})
    error = result(client, flow_id)["error"]
    assert (error["name"], error["message"]) == ("SuspendedTimedOut", "Timed out waiting to be resumed")


def test_several_approvals(client: Client) -> None:
    flow_id = waiting_flow(client, {"required_events": 3})
    for number in range(3):
        module = waits_for(client, flow_id)
        assert module is not None
        assert module["count"] == 3 - number
        url = urls(client, module["job"], number, approver=f"user{number}")["resume"]
        assert visit(client, url, body=number).status == 201
        assert visit(client, url, body=number).status == 400 if number < 2 else True
    assert result(client, flow_id) == {"resume": 2, "resumes": [0, 1, 2], "approvers": ["user0", "user1", "user2"]}


def test_what_is_forged_or_repeated(client: Client) -> None:
    flow_id = waiting_flow(client, {"required_events": 2})
    other = waits_for(client, waiting_flow(client))
    assert other is not None
    url = urls_of_step(client, flow_id, 5, approver="alice")["resume"]
    head, _, signature = url.partition("?")[0].rpartition("/")
    job = head.split("/")[-2]
    forged = {
        f"{head}/{'0' * 64}?approver=alice": 403,
        f"{head}/{signature}": 403,  # for alice only
        f"{head}/{signature}?approver=bob": 403,
        f"{head}/{signature[:-1]}?approver=alice": 400,
        f"{head}/{'z' * 64}?approver=alice": 400,
        f"{head.removesuffix('/5')}/6/{signature}?approver=alice": 403,
        f"{head.replace(job, other['job'])}/{signature}?approver=alice": 403,
        f"{head.replace(job, NEVER)}/{signature}?approver=alice": 403,
        f"{head.replace('/5', '/4294967296')}/{signature}?approver=alice": 400,
        f"{head.replace(job, 'x')}/{signature}?approver=alice": 400,
        f"{head.replace('/w/demo/', '/w/admins/')}/{signature}?approver=alice": 403,
        f"{url}&payload=%21": 400,
    }
    for attempt, status in forged.items():
        for way in ("resume", "cancel"):
            tried = attempt.replace("/resume/", f"/{way}/")
            parts = urlsplit(tried)
            answer = client.with_token("", parts.path.split("/")[3]).call(
                "GET", "/" + "/".join(parts.path.split("/")[4:]) + f"?{parts.query}"
            )
            assert answer.status == status, (tried, answer.text)
    module = waits_for(client, flow_id)
    assert module is not None
    assert module["count"] == 2
    assert visit(client, url, body="}").status == 201  # a JSON text
    again = visit(client, url)
    assert (again.status, again.text) == (400, "Bad request: resume request already sent: each counts once")
    assert visit(client, url.replace("/resume/", "/cancel/")).status == 400  # a word is a word
    assert visit(client, urls_of_step(client, flow_id, 6)["resume"]).status == 201
    client.ended(flow_id)
    late = visit(client, urls(client, job, 9)["resume"])
    assert (late.status, "has ended" in late.text) == (400, True)


def test_a_body_that_is_no_json(client: Client) -> None:
    flow_id = waiting_flow(client)
    parts = urlsplit(urls_of_step(client, flow_id)["resume"])
    answer = client.with_token("").call("POST", parts.path.removeprefix("/api/w/demo"), b"{nope")
    assert answer.status == 400
    assert waits_for(client, flow_id) is not None


def test_an_approval_may_come_before_the_step_has_ended(client: Client) -> None:
    """The step resumes its own flow while it runs."""
    code = """
import json, os, urllib.request
def main():
    base, job = os.environ["BASE_INTERNAL_URL"] + "/api/w/demo", os.environ["WM_JOB_ID"]
    ask = urllib.request.Request(f"{base}/jobs/resume_urls/{job}/3?approver=early")
    ask.add_header("Authorization", "Bearer " + os.environ["WM_TOKEN"])
    url = json.load(urllib.request.urlopen(ask))["resume"]
    url = base + url[url.index("/jobs_u/"):]
    urllib.request.urlopen(urllib.request.Request(url, b'"at once"', {"Content-Type": "application/json"}))
"""
    modules = [step("a", py(code), suspend={"required_events": 1}), step("b", SEEN)]
    flow_id = client.post("/jobs/run/preview_flow", flow(*modules)).text
    assert result(client, flow_id) == {"resume": "at once", "resumes": ["at once"], "approvers": ["early"]}


def test_an_approval_of_the_flow_counts_for_one_step(client: Client) -> None:
    suspend = {"required_events": 1}
    twice = [step(name, IDENTITY, suspend=suspend) for name in ("a", "b")]
    flow_id = started(client, *twice, step("c", SEEN))
    module = waits_for(client, flow_id)
    assert module is not None
    found = urls(client, module["job"], 1, flow_level="true")
    assert found["resume"].split("/")[-3] == flow_id
    assert visit(client, found["resume"], body="first").status == 201
    eventually(lambda: (waits_for(client, flow_id) or {}).get("id") == "c", "the flow waits again")
    assert visit(client, found["resume"], body="again").status == 400
    assert visit(client, urls(client, flow_id, 2)["resume"], body="second").status == 201
    assert result(client, flow_id)["resume"] == "second"


def test_the_page(client: Client) -> None:
    form = {"schema": {"type": "object", "properties": {"why": {"type": "string"}}}}
    said = py("def main(): return {'description': 'sure?', 'default_args': {'why': 'x'}}")
    suspend = {"required_events": 1, "resume_form": form, "hide_cancel": True}
    flow_id = started(client, step("a", said, suspend=suspend, summary="ask"), step("b", SEEN))
    page = urlsplit(urls_of_step(client, flow_id)["approvalPage"])
    assert page.path == f"/approve/demo/{flow_id}"
    token = page.query.removeprefix("token=")
    stranger = client.with_token("")
    info = stranger.get(f"/jobs_u/flow/approval_info/{flow_id}?token={token}").json()
    assert info["form_schema"] == form["schema"]
    assert (info["description"], info["default_args"], info["summary"]) == ("sure?", {"why": "x"}, "ask")
    assert all((info["is_waiting"], info["can_approve"], info["hide_cancel"]))
    assert info["required_events"] == 1
    for wrong in ("", "?token=" + "0" * 64, "?token=%C3%A9"):
        assert stranger.get(f"/jobs_u/flow/approval_info/{flow_id}{wrong}").status == 401
    path = f"/jobs_u/flow/resume_suspended/{flow_id}"
    assert stranger.post(path, {"payload": 1}).status == 401
    assert stranger.post(path, {"payload": 1, "approval_token": "0" * 64}).status == 401
    assert stranger.post(path, {"approval_token": token, "approved": "yes"}).status == 400
    assert stranger.post(path, {"approval_token": token, "payload": {"why": "y"}}).status == 201
    assert result(client, flow_id)["resume"] == {"why": "y"}
    after = stranger.get(f"/jobs_u/flow/approval_info/{flow_id}?token={token}").json()
    assert (after["is_waiting"], after["can_approve"]) == (False, False)


def test_with_the_page_each_has_one_word(client: Client) -> None:
    flow_id = waiting_flow(client, {"required_events": 2})
    token = urls_of_step(client, flow_id)["approvalPage"].rpartition("=")[2]
    path = f"/jobs_u/flow/resume_suspended/{flow_id}"
    stranger = client.with_token("")
    assert stranger.post(path, {"approval_token": token}).status == 201
    assert stranger.post(path, {"approval_token": token}).status == 400
    assert client.post(path, {"approved": True}).status == 201
    assert result(client, flow_id)["approvers"] == ["anonymous", "admin"]


def test_get_flow(client: Client) -> None:
    flow_id = waiting_flow(client, {"required_events": 2})
    url = urls_of_step(client, flow_id, approver="alice")["resume"]
    assert visit(client, url).status == 201
    looked = visit(client, url.replace("/resume/", "/get_flow/"), "GET")
    assert looked.status == 200
    assert looked.json()["job"]["id"] == flow_id
    assert looked.json()["approvers"] == [{"resume_id": 1, "approver": "alice"}]
    assert visit(client, url.replace("/resume/", "/get_flow/").replace("alice", "bob"), "GET").status == 403


def test_who_may_resume_without_a_signature(server: Server, client: Client) -> None:
    flow_id, mallory = waiting_flow(client), server.user("mallory")
    for path in (f"/jobs/flow/resume/{flow_id}", f"/jobs_u/flow/resume_suspended/{flow_id}"):
        assert client.with_token("").post(path, {}).status == 401
        assert mallory.post(path, {}).status == 403
    assert client.post(f"/jobs/flow/resume/{flow_id}", {"by": "owner"}).status == 201
    assert result(client, flow_id) == {"resume": {"by": "owner"}, "resumes": [{"by": "owner"}], "approvers": ["admin"]}
    assert client.post(f"/jobs/flow/resume/{NEVER}").status == 404
    assert client.post(f"/jobs/flow/resume/{flow_id}").status == 400


def test_who_names_a_flow_as_the_parent_of_a_job_has_no_signature_for_it(server: Server, client: Client) -> None:
    flow_id = waiting_flow(client, {"required_events": 1})
    stranger = server.user("names_parents")
    assert stranger.get(f"/jobs/resume_urls/{flow_id}/1").status == 403
    stranger.deploy("u/names_parents/own", "def main(): return 1")
    own = stranger.post("/jobs/run/p/u/names_parents/own", {}, parent_job=flow_id).text
    stranger.ended(own)
    for level in ("true", "false"):
        found = urls(stranger, own, flow_level=level)
        assert flow_id not in json.dumps(found)
        assert visit(client, found["resume"]).status == 400
        assert visit(client, found["resume"].replace(own, flow_id)).status in (401, 403)
    assert waits_for(client, flow_id) is not None
    client.post(f"/jobs_u/queue/cancel/{flow_id}", {})


def test_what_waits_may_be_inside(client: Client) -> None:
    """An iteration of a loop waits: who speaks to the flow speaks to it."""
    inner = [step("b", IDENTITY, suspend={"required_events": 1}), step("c", py(RETURN, x="resume"))]
    flow_id = client.post("/jobs/run/preview_flow", flow(step("a", forloop([1, 2], *inner)))).text
    for number in range(2):
        eventually(functools.partial(inner_info, client, flow_id, number), "an iteration waits")
        assert client.post(f"/jobs_u/flow/resume_suspended/{flow_id}", {"payload": number}).status == 201
    assert result(client, flow_id) == [0, 1]


def inner_info(client: Client, flow_id: str, number: int) -> bool:
    """Whether the iteration waits which is the first after so many approvals."""
    iterations = client.job(flow_id)["flow_status"]["modules"][0].get("flow_jobs", [])
    info = client.get(f"/jobs_u/flow/approval_info/{flow_id}").json()
    return len(iterations) == number + 1 and info["is_waiting"] and info["step_id"] == "b"


def test_a_login_may_be_needed(server: Server, client: Client) -> None:
    ann, bob, eve = server.user("ann"), server.user("bob"), server.user("eve")
    client.post("/groups/create", {"name": "bosses", "summary": ""})
    for name in ("ann", "bob"):
        assert client.post("/groups/adduser/bosses", {"username": name}).status == 200
    conditions = {"user_auth_required": True, "self_approval_disabled": True}
    groups = {"user_groups_required": js("['bosses']")}
    flow_id = waiting_flow(ann, {**conditions, **groups})
    assert ann.job(flow_id)["flow_status"]["approval_conditions"] == {**conditions, "user_groups_required": ["bosses"]}
    module = waits_for(ann, flow_id)
    assert module is not None
    parts = urlsplit(urls(ann, module["job"])["resume"])
    path = parts.path.removeprefix("/api/w/demo")
    token = urls(ann, module["job"])["approvalPage"].rpartition("=")[2]
    info = f"/jobs_u/flow/approval_info/{flow_id}?token={token}"
    for who, status, may in ((client.with_token(""), 401, False), (ann, 403, False), (eve, 403, False)):
        assert who.post(path, {}).status == status
        assert who.get(info).json()["can_approve"] is may
    assert bob.get(info).json()["can_approve"] is True
    assert bob.post(path, {"yes": 1}).status == 201
    assert result(ann, flow_id)["approvers"] == ["bob"]


def test_nobody_is_heard_before_it_is_known_who_may_approve(client: Client) -> None:
    """The expression that says so takes its time; a signature alone is not enough meanwhile."""
    slowly = js("(() => { const end = Date.now() + 2000; while (Date.now() < end) {} return ['bosses'] })()")
    suspend = {"required_events": 1, "user_auth_required": True, "user_groups_required": slowly}
    modules = [step("a", IDENTITY, suspend=suspend), step("b", SEEN)]
    flow_id = client.post("/jobs/run/preview_flow", flow(*modules)).text
    eventually(lambda: first_step(client, flow_id)["type"] == "Success", "the step has ended")
    job = first_step(client, flow_id)["job"]
    assert visit(client, urls(client, job)["resume"]).status == 400
    assert visit(client, urls(client, flow_id)["resume"]).status == 400
    eventually(lambda: waits_for(client, flow_id), "the flow waits")
    assert visit(client, urls(client, job)["resume"]).status == 401
    assert client.post(f"/jobs/flow/resume/{flow_id}").status == 201
    assert result(client, flow_id)["approvers"] == ["admin"]


def first_step(client: Client, flow_id: str) -> JSON:
    """Where it is."""
    module: JSON = client.job(flow_id).get("flow_status", {}).get("modules", [{"type": ""}])[0]
    return module


def test_user_states(client: Client) -> None:
    flow_id = waiting_flow(client)
    path = f"/jobs/flow/user_states/{flow_id}"
    assert client.get(f"{path}/key").text == "null"
    assert client.post(f"{path}/key", {"a": [1]}).status == 200
    assert client.get(f"{path}/key").json() == {"a": [1]}
    assert client.job(flow_id)["flow_status"]["user_states"] == {"key": {"a": [1]}}
    assert client.post(f"{path}/key", "x" * 300_000).status == 413
    assert client.post(f"/jobs/flow/user_states/{NEVER}/key", 1).status == 404
    plain = client.post("/jobs/run/preview", {"content": "def main(): pass", "language": "python3"}).text
    assert client.get(f"/jobs/flow/user_states/{plain}/key").status == 404
    assert visit(client, urls_of_step(client, flow_id)["resume"]).status == 201
    client.ended(flow_id)
    assert client.get(f"{path}/key").json() == {"a": [1]}
    assert client.post(f"{path}/key", 1).status == 404


def test_jobs_that_wait_for_nothing(client: Client) -> None:
    plain = client.post("/jobs/run/preview", {"content": "def main(): pass", "language": "python3"}).text
    answer = visit(client, urls(client, plain)["resume"])
    assert (answer.status, "no step of a flow" in answer.text) == (400, True)
    assert client.get(f"/jobs/resume_urls/{NEVER}/1").status == 404
    assert client.get(f"/jobs/resume_urls/{plain}/x").status == 400
    signature = client.get(f"/jobs/job_signature/{plain}/1").text
    assert len(signature) == 64
    assert urls(client, plain)["resume"].endswith(f"/{plain}/1/{signature}")


def test_restarts(tmp_path: Path) -> None:
    """Approvals, early ones and the state of a flow outlive kill -9."""
    with serving(tmp_path / "data", "--workers", "2") as (server, first):
        flow_id = waiting_flow(first, {"required_events": 3})
        found = [urls_of_step(first, flow_id, number)["resume"] for number in range(3)]
        assert visit(first, found[0], body="before").status == 201
        assert first.post(f"/jobs/flow/user_states/{flow_id}/k", "kept").status == 200
        second = killed_and_started(server)
        assert visit(second, found[0], body="again").status == 400
        assert visit(second, found[1], body="between").status == 201
        third = killed_and_started(server)
        assert third.get(f"/jobs/flow/user_states/{flow_id}/k").json() == "kept"
        assert visit(third, found[2], body="after").status == 201
        assert result(third, flow_id)["resumes"] == ["before", "between", "after"]
        other = waiting_flow(third, {"required_events": 2})
        assert visit(third, urls_of_step(third, other)["resume"]).status == 201
        server.stop()
        server.start()
        eventually(lambda: messages(server) == [other], "messages to the flow that has ended are removed")


def killed_and_started(server: Server) -> Client:
    server.kill()
    return server.start()


def messages(server: Server) -> list[str]:
    """The flows that have some."""
    with closing(sqlite3.connect(server.data / "minwebhook.db", timeout=10)) as connection:
        return [str(UUID(bytes=row[0])) for row in connection.execute("SELECT flow_id FROM approval")]


@pytest.mark.slow
def test_a_hundred_at_once(client: Client) -> None:
    """In any order, some twice, some forged: each flow goes on once, and no repeated or forged one is accepted."""
    draw = random.Random(20)
    modules = [step("a", IDENTITY, suspend={"required_events": 1}), step("b", SEEN)]
    flows = [client.post("/jobs/run/preview_flow", flow(*modules)).text for _ in range(100)]
    visits: list[tuple[int, str, bool]] = []
    for number, flow_id in enumerate(flows):
        eventually(functools.partial(waits_for, client, flow_id), "the flow waits")
        url = urls_of_step(client, flow_id, number)["resume"]
        visits.append((number, url, False))
        if draw.random() < 0.4:
            visits.append((number, url, False))
        if draw.random() < 0.4:
            visits.append((number, url[:-1] + ("0" if url[-1] != "0" else "1"), True))
    draw.shuffle(visits)
    with ThreadPoolExecutor(16) as pool:
        answers = list(pool.map(lambda each: visit(client, each[1], body=each[0]).status, visits))
    accepted: dict[int, int] = {}
    for (number, _, is_forged), status in zip(visits, answers, strict=True):
        assert status in ((403,) if is_forged else (201, 400))
        accepted[number] = accepted.get(number, 0) + (status == 201)
    assert accepted == dict.fromkeys(range(100), 1)
    for number, flow_id in enumerate(flows):
        assert result(client, flow_id)["resumes"] == [number]
