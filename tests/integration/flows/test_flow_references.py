"""References in the arguments of flows: what the sender sent is followed within the sender's scopes, what the author of a
deployed flow wrote with the rights of the flow's user."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import pytest

from tests.flows import JSON, forloop, js, py, static, step
from tests.server import Answer, Client, Server, eventually, serving

SHOW: Final = "def main(given=None, own=None): return [given, own]"
SECRET: Final = "$var:u/admin/hidden"
VALUE: Final = "canary-3141"
W: Final = "u/admin"
PREPROCESSOR: Final = "def preprocessor(event): return {'x': event['body']['x']}"


def flow_step(path: str, **inputs: JSON) -> JSON:
    """A deployed flow."""
    return {"type": "flow", "path": path, "input_transforms": inputs}


#: Flows by name: their modules.
FLOWS: Final[dict[str, list[JSON]]] = {
    "shows": [step("a", py(SHOW, given="flow_input.x", own=[SECRET]))],
    "looks_up": [step("a", py(
        "def main(given, own): print(given, own); return [len(given), len(own)]",
        given=" variable('u/admin/hidden') ", own='resource("u/admin/r")',
    ))],
    "builds": [step("a", py(SHOW, given="'$var:' + flow_input.x"))],
    "echoes": [step("a", py("def main(x): return x[::-1]", x="flow_input.x")), step("b", py(SHOW, given="results.a"))],
    "inner": [step("a", py(SHOW, given="flow_input.x", own="flow_input.db.password"))],
    "outer": [step("a", flow_step(f"{W}/inner", x=js("flow_input.x"), db=static({"password": SECRET})))],
    "loops": [step("l", forloop([SECRET], step("a", py(SHOW, given="flow_input.x", own="flow_input.iter.value"))))],
    "walks": [step("l", forloop("flow_input.x", step("a", py(SHOW, given="flow_input.iter.value", own=[SECRET]))))],
    "prepares": [step("a", py(SHOW, given="flow_input.x", own=[SECRET]))],
    "directly": [step("a", py("def main(x): return x"), pass_flow_input_directly=True)],
    "fails": [step("a", py("def main(x): raise ValueError(x[::-1])", x="flow_input.y"))],
    "asks": [step("a", py(
        "import json, os, urllib.request\ndef main():\n"
        "    url = f\"{os.environ['BASE_INTERNAL_URL']}/api/w/demo/variables/get_value/u/admin/hidden\"\n"
        "    request = urllib.request.Request(url, headers={'Authorization': 'Bearer ' + os.environ['WM_TOKEN']})\n"
        "    return json.load(urllib.request.urlopen(request))"
    ))],
}  # fmt: skip


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Server, Client]]:
    """With a secret, and flows that show what they get."""
    with serving(tmp_path_factory.mktemp("references") / "data", "--workers", "2") as (server, client):
        secret = {"path": "u/admin/hidden", "value": VALUE, "is_secret": True, "description": ""}
        assert client.post("/variables/create", secret).status == 201
        assert (
            client.post("/resources/create", {"path": "u/admin/r", "value": SECRET, "resource_type": "x"}).status == 201
        )
        client.deploy("u/admin/cached", "def main(x): return x", cache_ttl=600)
        for name, modules in FLOWS.items():
            value: JSON = {"modules": modules}
            if name == "prepares":
                value["preprocessor_module"] = step("preprocessor", py(PREPROCESSOR))
            if name == "fails":
                value["failure_module"] = step("failure", py(SHOW, given="error.message", own=[SECRET]))
            made = client.post("/flows/create", {"path": f"{W}/{name}", "summary": "", "value": value})
            assert made.status == 201, made.text
        yield server, client


@pytest.fixture(scope="module")
def client(server: tuple[Server, Client]) -> Client:
    return server[1]


@pytest.fixture(scope="module")
def hook(client: Client) -> Client:
    return token(client, "jobs:run:flows:u/admin/*", "jobs:run:scripts:u/admin/*")


def token(client: Client, *scopes: str) -> Client:
    made = client.post("/api/users/tokens/create", {"scopes": scopes})
    assert made.status == 201, made.text
    return client.with_token(made.text)


def run(client: Client, name: str, body: bytes | None = None, **arguments: Any) -> Answer:
    path = f"/jobs/run_wait_result/f/{W}/{name}"
    if body is not None:
        return client.call("POST", path, body, {"Content-Type": "application/json"})
    return client.post(path, arguments)


def assert_refused(answer: Answer, client: Client) -> None:
    """The step failed, and nothing of the secret is in the answer."""
    assert VALUE not in answer.text, answer.text
    assert "not found" in answer.text or "$encrypted" in answer.text, answer.text


@pytest.mark.parametrize(
    "body",
    [
        b'{"x": "$var:u/admin/hidden"}',
        b'{"x": "\\u0024var:u/admin/hidden"}',
        b'{"x": ["a", {"b": "$res:u/admin/r"}]}',
    ],
)
@pytest.mark.parametrize("name", ["shows", "directly", "outer", "loops"])
def test_what_a_sender_names_is_not_read_for_a_token_that_may_not(
    client: Client, hook: Client, name: str, body: bytes
) -> None:
    assert_refused(run(hook, name, body), hook)
    assert VALUE in run(client, name, body).text, "its user may"


def test_the_authors_own_is_followed_for_every_sender(hook: Client) -> None:
    assert run(hook, "shows", x="plain").json() == ["plain", [VALUE]]
    assert run(hook, "shows", x="cut me: $var:u/admin/hidden").json() == ["cut me: $var:u/admin/hidden", [VALUE]]


def test_what_expressions_make_of_what_was_sent_is_the_senders(hook: Client) -> None:
    assert_refused(run(hook, "builds", x="u/admin/hidden"), hook)
    assert_refused(run(hook, "echoes", x=SECRET[::-1]), hook)
    assert_refused(run(hook, "walks", x=[SECRET]), hook)
    assert_refused(run(hook, "fails", y=SECRET[::-1]), hook)
    assert run(hook, "fails", y="nialp").json() == ["plain", [VALUE]]


def test_what_an_author_gives_to_a_flow_inside_or_goes_through_is_followed_there(hook: Client) -> None:
    assert run(hook, "outer", x=1).json() == [1, VALUE]
    assert run(hook, "loops", x=1).json() == [[1, VALUE]]


def test_an_argument_whose_name_is_that_of_a_part_of_another_is_the_senders(hook: Client) -> None:
    answer = hook.call(
        "POST",
        f"/jobs/run_wait_result/f/{W}/loops",
        b'{"x": 1, "iter.value": "$var:u/admin/hidden"}',
        {"Content-Type": "application/json"},
    )
    assert VALUE not in answer.text


def test_a_scope_for_the_variable_lets_it_be_named(client: Client) -> None:
    reads = token(client, "jobs:run:flows:u/admin/shows", "variables:read:u/admin/hidden")
    assert run(reads, "shows", x=SECRET).json() == [VALUE, [VALUE]]
    assert_refused(run(reads, "shows", x="$res:u/admin/r"), reads)


def test_sealed_texts_are_for_tokens_that_may_read_every_variable(client: Client, hook: Client) -> None:
    sealed = "$encrypted:" + client.post("/variables/encrypt", VALUE).text
    client.deploy("u/admin/echo", "def main(x): return x")
    for reader in (hook, token(client, "jobs:run", "variables:read:u/admin/*")):
        assert_refused(run(reader, "shows", x=sealed), reader)
        assert_refused(reader.run("u/admin/echo", {"x": sealed}), reader)
    for reader in (client, token(client, "jobs:run", "variables:read")):
        assert run(reader, "shows", x=sealed).json()[0] == VALUE
        assert reader.run("u/admin/echo", {"x": sealed}).json() == VALUE


def test_no_sender_gets_more_than_its_token_by_naming_that_of_the_job(client: Client, hook: Client) -> None:
    client.deploy("u/admin/echo", "def main(x): return x")
    assert hook.run("u/admin/echo", {"x": "$WM_TOKEN"}).json() == "$WM_TOKEN"
    assert run(hook, "shows", x="$WM_TOKEN").json()[0] == "$WM_TOKEN"
    assert hook.run("u/admin/echo", {"x": "$WM_USERNAME"}).json() == "admin"
    assert client.run("u/admin/echo", {"x": "$WM_TOKEN"}).json().startswith("mwj_")


def test_a_flow_that_comes_with_a_request_lends_no_rights_to_what_it_gives_to_deployed_ones(client: Client) -> None:
    previews = token(client, "jobs:run")
    for inner in ("inner", "shows"):
        value = {"modules": [step("a", flow_step(f"{W}/{inner}", x=static(SECRET), db=static({})))]}
        answer = previews.post("/jobs/run_wait_result/preview_flow", {"value": value})
        assert_refused(answer, previews)
        allowed = client.post("/jobs/run_wait_result/preview_flow", {"value": value})
        assert allowed.json()[0] == VALUE
    plain = {"modules": [step("a", flow_step(f"{W}/shows", x=static(1)))]}
    assert previews.post("/jobs/run_wait_result/preview_flow", {"value": plain}).json() == [1, [VALUE]]


def test_the_code_of_a_deployed_flow_acts_for_its_user_whoever_sent(hook: Client) -> None:
    assert run(hook, "asks").json() == VALUE


def test_a_kept_result_is_not_for_tokens_that_could_not_have_made_it(client: Client, hook: Client) -> None:
    assert client.run("u/admin/cached", {"x": SECRET}).json() == VALUE
    assert_refused(hook.run("u/admin/cached", {"x": SECRET}), hook)
    assert client.run("u/admin/cached", {"x": SECRET}).json() == VALUE


def test_running_again_gives_a_token_no_more_than_it_has(client: Client, hook: Client) -> None:
    job = client.post(f"/jobs/run/f/{W}/shows", {"x": SECRET}).text
    client.ended(job)
    again = hook.post(f"/jobs/replay/{job}").text
    assert hook.ended(again)["success"] is False
    from_a = hook.post(f"/jobs/restart/f/{job}", {"step_id": "a"}).text
    assert hook.ended(from_a)["success"] is False
    [part] = client.get("/jobs/list", parent_job=job).json()
    previews = token(client, "jobs:run")
    assert previews.ended(previews.post(f"/jobs/replay/{part['id']}").text)["success"] is False


def test_what_an_input_looks_up_is_not_written_down(client: Client, hook: Client) -> None:
    for caller in (client, hook):
        job = caller.post(f"/jobs/run/f/{W}/looks_up").text
        assert caller.ended(job)["result"] == [len(VALUE), len(VALUE)]
        [part] = client.get("/jobs/list", parent_job=job, include_args="true").json()
        assert part["args"] == {"given": "$var:u/admin/hidden", "own": "$res:u/admin/r"}
        assert "******** ********" in client.logs(part["id"])


def test_what_a_preprocessor_takes_and_makes_is_left_as_it_was_sent(client: Client, hook: Client) -> None:
    client.deploy("u/admin/prepares", PREPROCESSOR + "\ndef main(x): return x")
    for caller in (client, hook):
        assert run(caller, "prepares", x=SECRET).json() == [SECRET, [VALUE]]
        assert caller.run("u/admin/prepares", {"x": SECRET}).json() == SECRET
    for path, result in ((f"f/{W}/prepares", [SECRET, [VALUE]]), ("p/u/admin/prepares", SECRET)):
        job = client.post(f"/jobs/run/{path}", {"x": SECRET}).text
        client.ended(job)
        assert client.ended(client.post(f"/jobs/replay/{job}").text)["result"] == result


def test_after_a_restart_it_is_still_known_who_wrote_what(tmp_path: Path) -> None:
    data = tmp_path / "data"
    with serving(data, "--workers", "1") as (server, client):
        assert (
            client.post("/variables/create", {"path": "u/admin/hidden", "value": VALUE, "is_secret": True}).status
            == 201
        )
        waits = step("w", py("def main(): return 1"), suspend={"required_events": 1, "timeout": 600})
        modules = [waits, *FLOWS["shows"]]
        loop = [step("l", forloop([SECRET], waits, step("a", py(SHOW, own="flow_input.iter.value"))))]
        jobs = []
        for name, value in (("shows", modules), ("loops", loop)):
            made = client.post("/flows/create", {"path": f"{W}/{name}", "summary": "", "value": {"modules": value}})
            assert made.status == 201, made.text
            hook = token(client, f"jobs:run:flows:{W}/{name}")
            jobs.append(hook.post(f"/jobs/run/f/{W}/{name}", {"x": "plain"}).text)
            jobs.append(hook.post(f"/jobs/run/f/{W}/{name}", {"x": SECRET}).text)
        for job in jobs:
            info = f"/jobs_u/flow/approval_info/{job}"
            eventually(lambda path=info: client.get(path).json()["is_waiting"], "the wait")  # type: ignore[misc]
        server.kill()
    with serving(data, "--workers", "1") as (_, client):
        for job in jobs:
            answer = client.post(f"/jobs/flow/resume/{job}")
            assert answer.status == 201, answer.text
        results = [client.ended(job)["result"] for job in jobs]
        assert results[0] == ["plain", [VALUE]]
        assert VALUE not in str(results[1])
        assert results[2] == results[3] == [[None, VALUE]]
