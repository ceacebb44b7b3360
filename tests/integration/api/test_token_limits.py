"""Where tokens and scripts may be used from, how often a token may be used, and what previews may do with their own token."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from websockets.exceptions import InvalidStatus
from websockets.sync.client import ClientConnection, connect
from websockets.typing import Subprotocol

from tests.server import Answer, Client, serving

HERE = ["127.0.0.0/8"]
THERE = ["203.0.113.0/24", "2001:db8::/32"]
FROM_THERE = {"X-Forwarded-For": "203.0.113.7"}
ECHO = "def main(**arguments): return arguments"
ASK = (
    "import json, os, urllib.request, urllib.error\n"
    "def main(path='', method='GET', data=None):\n"
    "    url = os.environ['BASE_INTERNAL_URL'] + path\n"
    "    fields = {'Authorization': 'Bearer ' + os.environ['WM_TOKEN'], 'Content-Type': 'application/json'}\n"
    "    body = None if data is None else json.dumps(data).encode()\n"
    "    try:\n"
    "        with urllib.request.urlopen(urllib.request.Request(url, body, fields, method=method)) as answer:\n"
    "            return answer.status\n"
    "    except urllib.error.HTTPError as error:\n"
    "        return error.code\n"
)


@pytest.fixture(scope="module")
def admin(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Client]:
    data = tmp_path_factory.mktemp("limits") / "data"
    with serving(data, "--workers", "2", "--trusted-proxies", "127.0.0.1") as (_, admin):
        admin.deploy("u/admin/echo", ECHO)
        admin.deploy("u/admin/near", ECHO, allowed_networks=HERE)
        admin.deploy("u/admin/far", ECHO, allowed_networks=THERE)
        admin.deploy("u/admin/ask", ASK)
        secret = {"path": "u/admin/secret", "value": "sesame-open-up", "is_secret": True, "description": ""}
        assert admin.post("/variables/create", secret).status == 201
        door = {"path": "u/admin/door", "value": {"key": "$var:u/admin/secret"}, "resource_type": "any"}
        assert admin.post("/resources/create", door).status == 201
        yield admin


def token(client: Client, **asked: Any) -> Client:
    answer = client.post("/api/users/tokens/create", asked)
    assert answer.status == 201, answer.text
    return client.with_token(answer.text)


def refused(answer: Answer, text: str) -> None:
    assert (answer.status, answer.text.startswith(f"Permission denied: {text}")) == (403, True), answer.text


# --- where from -------------------------------------------------------------------------------------------------------


def test_a_token_is_good_from_its_networks_alone(admin: Client) -> None:
    far, near = token(admin, allowed_networks=THERE), token(admin, allowed_networks=HERE)
    for path in ("/jobs/run_wait_result/p/u/admin/echo", "/jobs/run/preview", "/jobs/run/p/u/admin/echo"):
        refused(far.post(path, {"language": "bash", "content": "echo"}), "this token cannot be used from 127.0.0.1")
    refused(far.get("/api/users/whoami"), "this token cannot be used from 127.0.0.1")
    assert far.get("/api/users/whoami", FROM_THERE).status == 200
    assert far.get("/api/users/whoami", {"X-Forwarded-For": "2001:db8::9"}).status == 200
    assert far.post("/jobs/run_wait_result/p/u/admin/echo", {"a": 1}, FROM_THERE).json() == {"a": 1}
    refused(far.get("/api/users/whoami", {"X-Forwarded-For": "203.0.113.7, 198.51.100.1"}), "this token")
    refused(far.get("/api/users/whoami", {"X-Forwarded-For": "unknown"}), "this token cannot be used from unknown")
    assert near.get("/api/users/whoami").status == 200
    refused(near.get("/api/users/whoami", FROM_THERE), "this token cannot be used from 203.0.113.7")
    listed = admin.get("/api/users/tokens/list", per_page=100).json()
    shown = next(each for each in listed if each["token_prefix"] == far.token[:10])
    assert shown["allowed_networks"] == THERE


def test_a_script_runs_from_its_networks_alone_by_every_route(admin: Client) -> None:
    digest = admin.get("/scripts/get/p/u/admin/far").json()["hash"]
    routes = [f"/jobs/{run}/{what}" for run in ("run", "run_wait_result", "run_and_stream")
              for what in ("p/u/admin/far", f"h/{digest}")]  # fmt: skip
    for route in routes:
        refused(admin.post(route), "u/admin/far cannot be run from 127.0.0.1")
        assert admin.post(route, {}, FROM_THERE).status in (200, 201)
    for run in ("run_wait_result", "run_and_stream"):
        refused(admin.get(f"/jobs/{run}/p/u/admin/far"), "u/admin/far cannot be run")
    job = admin.post("/jobs/run/p/u/admin/far", {}, FROM_THERE).text
    admin.ended(job)
    refused(admin.post(f"/jobs/replay/{job}"), "u/admin/far cannot be run from 127.0.0.1")
    assert admin.post(f"/jobs/replay/{job}", {}, FROM_THERE).status == 201
    assert admin.run("u/admin/near").status == 200
    refused(admin.post("/jobs/run_wait_result/p/u/admin/near", {}, FROM_THERE), "u/admin/near cannot be run")
    # A script that calls it is on this machine.
    for path, status in (("far", 403), ("near", 200)):
        asked = {"path": f"/api/w/demo/jobs/run_wait_result/p/u/admin/{path}", "method": "POST", "data": {}}
        assert admin.run("u/admin/ask", asked).json() == status


def test_on_a_websocket_each_message_is_asked_where_it_is_from(admin: Client) -> None:
    limited = token(admin, requests_per_minute=3, allowed_networks=HERE)
    url = f"ws{admin.address.removeprefix('http')}/api/w/demo/jobs/ws"
    fields, names = {"Authorization": f"Bearer {limited.token}"}, [Subprotocol("minwebhook.json")]

    def ask(connection: ClientConnection, path: str) -> str:
        connection.send(json.dumps({"op": "run", "id": 1, "path": path, "args": {}}))
        while True:
            told = json.loads(connection.recv(20))
            if told["type"] in ("result", "error"):
                return str(told.get("message", told["type"]))

    with connect(url, subprotocols=names, additional_headers=fields, proxy=None) as connection:
        assert ask(connection, "u/admin/far").startswith("Permission denied: u/admin/far cannot be run from 127.0.0.1")
        assert ask(connection, "u/admin/near") == "result"
        assert ask(connection, "u/admin/near").startswith("Too many requests: this token may make 3 requests a minute")
    with pytest.raises(InvalidStatus) as refused_token:
        connect(url, subprotocols=names, additional_headers={**fields, **FROM_THERE}, proxy=None)
    assert refused_token.value.response.status_code == 403


@pytest.mark.parametrize(
    "networks", [[], "10.0.0.0/8", [1], ["10.0.0.1/8"], ["example.com"], ["unix"], ["10.0.0.0/8"] * 257]
)
def test_what_are_no_networks(admin: Client, networks: Any) -> None:
    answer = admin.post("/api/users/tokens/create", {"allowed_networks": networks})
    assert (answer.status, answer.text.startswith("Bad request: allowed_networks")) == (400, True)
    script = {"path": "u/admin/x", "summary": "", "description": "", "content": ECHO, "language": "python3"}
    answer = admin.post("/scripts/create", {**script, "allowed_networks": networks})
    assert (answer.status, answer.text.startswith("Bad request: allowed_networks")) == (400, True)


def test_no_token_makes_one_that_may_more(admin: Client) -> None:
    near = token(admin, allowed_networks=HERE, requests_per_minute=100)
    create = "/api/users/tokens/create"
    refused(near.post(create), "allowed_networks: send networks within those of your own token, 127.0.0.0/8")
    refused(near.post(create, {"allowed_networks": ["127.0.0.1", "10.0.0.1"]}), "allowed_networks:")
    refused(near.post(create, {"allowed_networks": ["127.0.0.1"], "requests_per_minute": 101}), "requests_per_minute:")
    made = near.post(create, {"allowed_networks": ["127.0.0.1"], "requests_per_minute": 99})
    assert made.status == 201
    unsaid = near.post(create, {"allowed_networks": ["127.0.0.1"]})
    shown = {each["token_prefix"]: each for each in admin.get("/api/users/tokens/list", per_page=100).json()}
    assert shown[unsaid.text[:10]]["requests_per_minute"] == 100


# --- how often --------------------------------------------------------------------------------------------------------


def test_a_token_has_so_many_requests_a_minute(admin: Client) -> None:
    limited = token(admin, requests_per_minute=5)
    first = limited.get("/api/users/whoami")
    assert first.headers["ratelimit-policy"] == '"token";q=5;w=60'
    assert first.headers["ratelimit"].startswith('"token";r=4;t=')
    run = limited.run("u/admin/echo", {"a": 1})
    assert (run.json(), run.headers["ratelimit"][:11]) == ({"a": 1}, '"token";r=3')
    refused_run = limited.get("/api/users/tokens/nothing")
    assert refused_run.status == 404  # no route, nobody asked who it is
    for _ in range(3):
        assert limited.get("/api/users/whoami").status == 200
    answer = limited.get("/api/users/whoami")
    assert (answer.status, answer.text.startswith("Too many requests: this token may make 5 requests a minute")) == (
        429,
        True,
    )
    assert 0 < int(answer.headers["retry-after"]) <= 12
    assert answer.headers["ratelimit"].startswith('"token";r=0;t=')
    assert "ratelimit" not in admin.get("/api/users/whoami").headers
    assert token(admin, requests_per_minute=5).get("/api/users/whoami").status == 200


def test_the_instance_has_a_number_for_tokens_that_say_none(tmp_path: Path) -> None:
    with serving(tmp_path / "data", "--token-requests-per-minute", "3") as (_, admin):
        plain, more = token(admin), token(admin, requests_per_minute=50)
        assert [plain.get("/api/users/whoami").status for _ in range(4)] == [200, 200, 200, 429]
        assert [more.get("/api/users/whoami").status for _ in range(6)] == [200] * 6
        assert [admin.get("/api/users/whoami").status for _ in range(6)] == [200] * 6  # the token of the settings


@pytest.mark.parametrize("number", [0, -1, 1.5, True, "9", 1_000_001])
def test_what_is_no_number_of_requests(admin: Client, number: Any) -> None:
    answer = admin.post("/api/users/tokens/create", {"requests_per_minute": number})
    assert (answer.status, answer.text.startswith("Bad request: requests_per_minute must be")) == (400, True)


# --- what a job may with its own token --------------------------------------------------------------------------------


def test_a_preview_may_no_more_than_the_token_that_sent_it(admin: Client) -> None:
    secret, listing = "/api/w/demo/variables/get_value/u/admin/secret", "/api/w/demo/jobs/list"
    runner, reader = token(admin, scopes=["jobs:run"]), token(admin, scopes=["jobs:run", "variables:read:u/admin/*"])
    for path, statuses in ((secret, (200, 403, 200)), (listing, (200, 403, 403))):
        found = tuple(each.preview(ASK, {"path": path}).json() for each in (admin, runner, reader))
        assert found == statuses, path
    # One in the other, and by way of a deployed script, which acts for its user.
    nested = {"language": "python3", "content": ASK, "args": {"path": secret}}
    outer = ASK.replace("return answer.status", "return json.loads(answer.read())")
    asked = {"path": "/api/w/demo/jobs/run_wait_result/preview", "method": "POST", "data": nested}
    assert runner.preview(outer, asked).json() == 403
    deployed = {"path": "/api/w/demo/jobs/run_wait_result/p/u/admin/ask", "method": "POST", "data": {"path": secret}}
    assert runner.preview(outer, deployed).json() == 200
    # Queued ones, too, and those that are run again.
    job = runner.post("/jobs/run/preview", {"language": "python3", "content": ASK, "args": {"path": secret}}).text
    assert admin.ended(job)["result"] == 403
    again = admin.post(f"/jobs/replay/{job}").text
    assert admin.ended(again)["result"] == 200


def flow(asked: str, **step: Any) -> dict[str, Any]:
    """A flow of one step, which asks for a path."""
    inputs = {"path": {"type": "static", "value": asked}}
    return {"modules": [{"id": "a", "value": {"input_transforms": inputs, **step}}]}


def test_a_flow_that_comes_with_a_request_may_no_more_than_its_token(admin: Client) -> None:
    secret = "/api/w/demo/variables/get_value/u/admin/secret"
    inline = flow(secret, type="rawscript", language="python3", content=ASK)
    deployed = flow(secret, type="script", path="u/admin/ask")
    named = flow("", type="rawscript", language="python3", content="def main(path): return path")
    named["modules"][0]["value"]["input_transforms"]["path"] = {
        "type": "javascript",
        "expr": "variable('u/admin/secret')",
    }
    runner = token(admin, scopes=["jobs:run"])
    for value, everything, little in ((inline, "200", "403"), (deployed, "200", "200")):
        for client, wanted in ((admin, everything), (runner, little)):
            answer = client.post("/jobs/run_wait_result/preview_flow", {"value": value, "args": {}})
            assert answer.text == wanted
    for client, knows in ((admin, True), (runner, False)):
        answer = client.post("/jobs/run_wait_result/preview_flow", {"value": named, "args": {}})
        assert ("sesame" in answer.text) is knows


def test_a_preview_that_outlives_the_server_still_may_no_more(tmp_path: Path) -> None:
    data = tmp_path / "data"
    with serving(data, "--workers", "1") as (server, admin):
        runner = token(admin, scopes=["jobs:run"])
        ask = {"language": "python3", "content": ASK, "args": {"path": "/api/w/demo/variables/list"}}
        job = runner.post("/jobs/run/preview", ask, scheduled_in_secs=2).text
        server.kill()
        assert server.start().ended(job)["result"] == 403


def test_references_are_followed_as_far_as_the_token_goes(admin: Client) -> None:
    hook = token(admin, scopes=["jobs:run:scripts:u/admin/echo"], workspace_id="demo")
    reader = token(admin, scopes=["jobs:run:scripts:u/admin/echo", "variables:read"], workspace_id="demo")
    for reference in ("$var:u/admin/secret", "$res:u/admin/door"):
        assert admin.run("u/admin/echo", {"a": reference}).status == 200
        answer = hook.run("u/admin/echo", {"a": reference})
        assert "not found" in answer.text and "sesame" not in answer.text
        job = hook.submit("u/admin/echo", {"a": reference})
        assert admin.ended(job)["success"] is False
    assert reader.run("u/admin/echo", {"a": "$var:u/admin/secret"}).json() == {"a": "sesame-open-up"}
    assert "not found" in reader.run("u/admin/echo", {"a": "$res:u/admin/door"}).text


def test_what_a_resource_names_is_read_with_the_scopes_of_the_token(admin: Client) -> None:
    path = "/resources/get_value_interpolated/u/admin/door"
    both, one = token(admin, scopes=["resources:read", "variables:read"]), token(admin, scopes=["resources:read"])
    assert both.get(path).json() == {"key": "sesame-open-up"}
    answer = one.get(path)
    assert (answer.status, "sesame" in answer.text) == (404, False)
    assert one.get("/resources/get_value/u/admin/door").json() == {"key": "$var:u/admin/secret"}


# --- what is counted, kept and sealed ---------------------------------------------------------------------------------


def test_counts_are_of_what_the_caller_may_see(tmp_path: Path) -> None:
    with serving(tmp_path / "data", "--workers", "1") as (server, admin):
        carol = server.user("carol")
        admin.deploy("u/admin/echo", ECHO)
        admin.deploy("u/carol/echo", ECHO)
        for client, path in ((admin, "u/admin/echo"), (carol, "u/carol/echo")):
            client.ended(client.submit(path))
        assert admin.get("/jobs/completed/count").json()["database_length"] == 2
        assert carol.get("/jobs/completed/count").json()["database_length"] == 1
        assert (admin.get("/jobs/completed/count_jobs").json(), carol.get("/jobs/completed/count_jobs").json()) == (
            2,
            1,
        )
        running = admin.post("/jobs/run/preview", {"language": "bash", "content": "sleep 600"}).text
        admin.running(running)
        admin.submit("u/admin/echo")
        carol.submit("u/carol/echo")
        assert admin.get("/jobs/queue/count").json()["database_length"] == 2
        assert carol.get("/jobs/queue/count").json()["database_length"] == 1
        reader = token(carol, scopes=["jobs:read:u/nobody/*"])
        assert reader.get("/jobs/queue/count").status == 403
        assert admin.post(f"/jobs_u/queue/cancel/{running}").status == 200


def test_keys_of_workspaces_are_sealed_also_those_of_earlier_versions(tmp_path: Path) -> None:
    with serving(tmp_path / "data") as (server, admin):
        job = admin.post("/jobs/run/preview", {"language": "bash", "content": "echo 1"}).text
        admin.ended(job)
        shared = admin.get(f"/jobs/job_view_token/{job}").text
        stranger = admin.with_token("")
        assert stranger.get(f"/jobs_u/get/{job}", view_token=shared).status == 200
        old = "ab" * 32
        assert server.execute("UPDATE workspace SET key = ?, sealed_key = NULL WHERE id = 'demo'", old) == 1
        server.stop()
        restarted = server.start()
        assert server.execute("UPDATE workspace SET name = name WHERE key IS NULL AND sealed_key LIKE 'sealed:%'") == 2
        stranger = restarted.with_token("")
        assert stranger.get(f"/jobs_u/get/{job}", view_token=shared).status != 200
        renewed = restarted.get(f"/jobs/job_view_token/{job}").text
        assert stranger.get(f"/jobs_u/get/{job}", view_token=renewed).status == 200
