"""Deployed flows: their versions, every way to run them, what is seen of them meanwhile, and how they are ended."""

from __future__ import annotations

import base64
import json
from typing import Any

import pytest

from tests.flows import IDENTITY, JSON, branchall, branchone, forloop, js, py, step, stop, whileloop
from tests.server import Answer, Client, Server, eventually
from tests.sse import Reader

SLEEP = "import time\ndef main(): time.sleep(60)"


def deploy(client: Client, path: str, *modules: JSON, **more: Any) -> int:
    """A flow, new or changed; the number of the version."""
    settings: JSON = {
        name: more.pop(name) for name in ("timeout", "tag", "deployment_message", "summary") if name in more
    }
    new = {"path": path, "summary": "", "value": {"modules": list(modules), **more}, **settings}
    exists = client.get(f"/flows/exists/{path}").json()
    answer = client.post(f"/flows/update/{path}" if exists else "/flows/create", new)
    assert answer.status == (200 if exists else 201), answer.text
    return int(client.get(f"/flows/get/{path}").json()["version_id"])


def test_versions(client: Client) -> None:
    path = "u/admin/versions"
    value = {"modules": [step("a", IDENTITY, nobody_knows=1)], "notes": [{"x": 1}]}
    new = {"path": path, "summary": "s", "value": value, "schema": {"type": "object"}, "deployment_message": "first"}
    assert client.get(f"/flows/exists/{path}").json() is False
    assert client.get(f"/flows/get/{path}").status == 404
    assert client.get(f"/flows/get_latest_version/{path}").json() is None
    answer = client.post("/flows/create", new)
    assert (answer.status, answer.text) == (201, path)
    assert client.post("/flows/create", new).status == 400
    first = client.get(f"/flows/get/{path}").json()
    assert (first["value"], first["summary"], first["schema"]) == (value, "s", {"type": "object"})
    assert [item["path"] for item in client.get("/flows/list", path_start=path).json()] == [path]
    changed = {**new, "summary": "t", "deployment_message": "second"}
    assert client.post(f"/flows/update/{path}", changed).text == path
    history = client.get(f"/flows/history/p/{path}").json()
    assert [item["deployment_msg"] for item in history] == ["second", "first"]
    assert history[1]["id"] == first["version_id"]
    assert client.get(f"/flows/get/v/{first['version_id']}").json()["summary"] == "s"
    assert client.post(f"/flows/history_update/v/{history[0]['id']}", {"deployment_msg": "new"}).status == 200
    assert client.get(f"/flows/get_latest_version/{path}").json()["deployment_msg"] == "new"
    assert client.get(f"/flows/deployment_status/p/{path}").json() == {
        "lock_error_logs": None,
        "job_id": None,
        "warnings": [],
    }
    moved = "u/admin/moved"
    assert client.post(f"/flows/update/{path}", {**new, "path": moved}).text == moved
    assert client.get(f"/flows/exists/{path}").json() is False
    assert len(client.get(f"/flows/history/p/{moved}").json()) == 3
    assert client.post(f"/flows/archive/{moved}", {}).status == 200
    assert client.get(f"/flows/get/{moved}").json()["archived"] is True
    assert client.post(f"/jobs/run/f/{moved}").status == 404
    assert client.post(f"/flows/archive/{moved}", {"archived": False}).status == 200
    assert client.call("DELETE", f"/flows/delete/{moved}").status == 200
    assert client.get(f"/flows/exists/{moved}").json() is False
    assert client.get(f"/flows/get/v/{first['version_id']}").status == 404


def test_code_that_needs_no_packages_has_an_empty_lock(client: Client) -> None:
    path = "u/admin/unlocked"
    codes = {language: {"type": "rawscript", "language": language, "content": "echo"} for language in ("bash", "go")}
    value = {
        "modules": [
            step("a", codes["bash"]),
            step("l", forloop([1], {"value": codes["go"]})),
            step("b", py("def main(): pass")),
            step("c", {**codes["bash"], "lock": "x"}),
        ],
        "failure_module": {"value": codes["bash"]},
    }
    assert client.post("/flows/create", {"path": path, "summary": "", "value": value}).status == 201
    shown = client.get(f"/flows/get/{path}").json()["value"]
    a, loop, b, c = (module["value"] for module in shown["modules"])
    assert [each["lock"] for each in (a, loop["modules"][0]["value"], b, c)] == ["", "", "", "x"]
    assert shown["failure_module"] == {"value": {**codes["bash"], "lock": ""}}, "all else is as it was sent"


def test_locks_of_a_flow_that_comes_with_the_request(client: Client) -> None:
    """What ``wmill generate-metadata`` asks for."""
    code = {"type": "rawscript", "language": "bash", "content": "echo", "input_transforms": {}}
    python = py("def main(): pass")
    value = {"modules": [step("a", code), step("l", forloop([1], step("i", {**code, "lock": "x"}))), step("b", python)]}
    body = {"flow_value": value, "path": "u/admin/unlocked"}
    answer = client.post("/jobs/run/flow_dependencies_async", body)
    assert answer.status == 201, answer.text
    found = client.ended(answer.text)["result"]["updated_flow_value"]
    a, loop, b = (module["value"] for module in found["modules"])
    assert (a, loop["modules"][0]["value"], b) == ({**code, "lock": ""}, {**code, "lock": "x"}, {**python, "lock": ""})
    assert client.post("/jobs/run/flow_dependencies", body).json()["updated_flow_value"] == found
    raw = {"raw_scripts": [{"raw_code": "echo", "language": "bash"}]}
    assert client.post("/jobs/run/dependencies", raw).json()["lock"] == ""
    wrongs: tuple[Any, ...] = ({}, [], {"flow_value": {}}, {"flow_value": {"modules": [step("a", {"type": "x"})]}})
    for wrong in wrongs:
        assert client.post("/jobs/run/flow_dependencies_async", wrong).status == 400


def test_which_flows_are_listed(client: Client) -> None:
    def listed(**query: Any) -> list[str]:
        items = client.get("/flows/list", path_start="u/admin/listed_", **query).json()
        return [item["path"].removeprefix("u/admin/listed_") for item in items]

    for name, more in (
        ("a", {}),
        ("b", {"ws_error_handler_muted": True, "deployment_message": "why", "description": "d"}),
        ("c", {"draft_only": True}),
        ("d", {}),
    ):
        new = {"path": f"u/admin/listed_{name}", "summary": name, "value": {"modules": []}, **more}
        assert client.post("/flows/create", new).status == 201
    assert client.post("/flows/archive/u/admin/listed_d", {}).status == 200
    assert listed() == ["b", "a"], "newest first"
    assert listed(order_desc="false") == ["a", "b"]
    assert (listed(per_page=1), listed(per_page=1, page=2)) == (["b"], ["a"])
    assert listed(include_draft_only="true") == ["c", "b", "a"]
    assert listed(show_archived="true") == ["d"]
    assert (listed(path_exact="u/admin/listed_a"), listed(starred_only="true")) == (["a"], [])
    assert (listed(edited_by="admin"), listed(edited_by="nobody")) == (["b", "a"], [])
    path = "u/admin/listed_b"
    (item,) = client.get("/flows/list", path_exact=path, with_deployment_msg="true").json()
    edited_at = item.pop("edited_at")
    assert item == {
        "workspace_id": "demo",
        "path": path,
        "summary": "b",
        "description": "d",
        "edited_by": "admin",
        "archived": False,
        "extra_perms": {},
        "starred": False,
        "has_draft": False,
        "ws_error_handler_muted": True,
        "deployment_msg": "why",
    }
    (plain,) = client.get("/flows/list", path_exact=path, without_description="true").json()
    assert "description" not in plain and "deployment_msg" not in plain
    shown = client.get(f"/flows/get/{path}").json()
    assert (shown["edited_at"], shown["edited_by"], shown["schema"]) == (edited_at, "admin", None)
    assert shown["ws_error_handler_muted"] is True


def test_runs_may_be_for_their_callers_eyes_alone(client: Client) -> None:
    path = "u/admin/hidden_runs"
    new = {"path": path, "summary": "", "value": {"modules": []}, "visible_to_runner_only": True}
    assert client.post("/flows/create", new).status == 201
    assert client.get(f"/flows/get/{path}").json()["visible_to_runner_only"] is True
    assert client.ended(client.post(f"/jobs/run/f/{path}", {}).text)["visible_to_owner"] is False


def test_a_path_that_is_taken_or_not_there(client: Client) -> None:
    deploy(client, "u/admin/taken_a")
    deploy(client, "u/admin/taken_b")
    new = {"path": "u/admin/taken_a", "summary": "", "value": {"modules": []}}
    assert client.post("/flows/update/u/admin/taken_b", new).status == 400
    assert client.post("/flows/update/u/admin/taken_c", new).status == 404
    assert client.post("/flows/archive/u/admin/taken_c", {}).status == 404
    assert client.call("DELETE", "/flows/delete/u/admin/taken_c").status == 404
    draft = {**new, "path": "u/admin/taken_d", "draft_only": True}
    assert [client.post("/flows/create", {**draft, "draft_only": only}).status for only in (True, False, False)] == [
        201,
        201,
        400,
    ]


def test_a_wrong_definition_is_refused_by_module_and_field(client: Client) -> None:
    bad = step("a", {**py("def main(): pass"), "content": 3})
    answer = client.post("/flows/create", {"path": "u/admin/bad", "summary": "", "value": {"modules": [bad]}})
    assert answer.status == 400
    assert "module a: value.modules[0].value.content" in answer.text


def test_every_way_to_run(client: Client) -> None:
    path = "u/admin/ways"
    version = deploy(client, path, step("a", py("def main(x): return [x]", x="flow_input.x")))
    payload = base64.b64encode(json.dumps({"x": 2}).encode()).decode()
    for name in (f"f/{path}", f"fv/{version}"):
        job = client.post(f"/jobs/run/{name}", {"x": 1})
        assert job.status == 201
        assert client.ended(job.text)["result"] == [1]
        assert client.post(f"/jobs/run_wait_result/{name}", {"x": 1}).json() == [1]
        assert client.get(f"/jobs/run_wait_result/{name}", payload=payload).json() == [2]
        assert '"only_result":[1]' in client.post(f"/jobs/run_and_stream/{name}", {"x": 1}).text
        assert '"only_result":[2]' in client.get(f"/jobs/run_and_stream/{name}", payload=payload).text
        for way in ("run", "run_wait_result", "run_and_stream"):
            assert client.call("HEAD", f"/jobs/{way}/{name}").status == 200
    assert client.post("/jobs/run/fv/999999").status == 404
    assert client.post("/jobs/run/fv/x").status == 400


def test_an_old_version_is_run_as_it_was(client: Client) -> None:
    path = "u/admin/pinned"
    first = deploy(client, path, step("a", py("def main(): return 1")))
    deploy(client, path, step("a", py("def main(): return 2")))
    assert client.post(f"/jobs/run_wait_result/fv/{first}").json() == 1
    assert client.post(f"/jobs/run_wait_result/f/{path}").json() == 2


def test_idempotency_keys_are_of_a_flow(client: Client) -> None:
    path = "u/admin/keyed"
    version = deploy(client, path, step("a", py("import random\ndef main(): return random.random()")))
    key = {"Idempotency-Key": '"once"'}
    answers = {client.post(f"/jobs/run_wait_result/f/{path}", {}, key).text for _ in range(3)}
    assert len(answers) == 1
    assert client.post(f"/jobs/run_wait_result/fv/{version}", {}, key).text not in answers


def test_scripts_and_flows_as_steps(client: Client) -> None:
    client.deploy("u/admin/plus", "def main(n): return n + 1")
    client.deploy("u/admin/stays", "def main(n): return n * 10", dedicated_worker=True)
    deploy(client, "u/admin/inner", step("x", {"type": "script", "path": "u/admin/plus", "input_transforms": {"n": js("flow_input.n")}}, stop_after_if=stop("true")), step("y", py("def main(): raise ValueError")))  # fmt: skip  # noqa: E501
    deploy(
        client,
        "u/admin/outer",
        step("a", {"type": "flow", "path": "u/admin/inner", "input_transforms": {"n": js("flow_input.n")}}),
        step("b", {"type": "script", "path": "u/admin/stays", "input_transforms": {"n": js("results.a")}}),
    )
    job = client.ended(client.post("/jobs/run/f/u/admin/outer", {"n": 4}).text)
    assert job["result"] == 50  # a stop inside a flow ends that flow only
    inner = client.job(job["flow_status"]["modules"][0]["job"])
    assert (inner["job_kind"], inner["script_path"], inner["parent_job"]) == ("flow", "u/admin/inner", job["id"])
    last = client.job(job["flow_status"]["modules"][1]["job"])
    assert (last["job_kind"], last["is_flow_step"], last["flow_step_id"]) == ("script", True, "b")
    assert client.get(f"/jobs_u/get_root_job_id/{inner['flow_status']['modules'][0]['job']}").json() == job["id"]


def test_a_step_may_be_a_version_of_a_script(client: Client) -> None:
    first = client.deploy("u/admin/versioned", "def main(): return 1")
    client.deploy("u/admin/versioned", "def main(): return 2", parent_hash=first)
    script = {"type": "script", "path": "u/admin/versioned", "input_transforms": {}}
    pinned, unknown = {**script, "hash": first}, {**script, "hash": "00000000000000ff"}
    modules = [step("a", pinned), step("b", py("def main(x): return x", x="[results.a]")), step("c", script)]
    gathered = step("d", py("def main(x): return x", x="[results.b[0], results.c]"))
    value = {"modules": [*modules, gathered]}
    assert client.post("/jobs/run_wait_result/preview_flow", {"value": value}).json() == [1, 2]
    answer = client.post("/jobs/run_wait_result/preview_flow", {"value": {"modules": [step("a", unknown)]}}).json()
    assert (answer["error"]["step_id"], "hash" in answer["error"]["message"]) == ("a", True)


def test_the_steps_know_their_flow(client: Client) -> None:
    names = ("FLOW_JOB_ID", "ROOT_FLOW_JOB_ID", "FLOW_STEP_ID", "FLOW_PATH", "STATE_PATH", "OBJECT_PATH", "JOB_ID")
    code = f"import os\ndef main(): return [os.environ['WM_' + name] for name in {names}]"
    path = "u/admin/knows"
    client.deploy("u/admin/knowing", code)
    deployed = {"type": "script", "path": "u/admin/knowing", "input_transforms": {}}
    loop = forloop([1], step("i", py(code)), step("j", IDENTITY))
    deploy(client, path, step("l", loop), step("s", deployed))
    outer = "u/admin/knows-outer"
    whole = step("f", {"type": "flow", "path": path, "input_transforms": {}})
    deploy(client, outer, whole, step("g", py("def main(x): return x", x="[results.f]")), step("e", py(code)))
    job = client.ended(client.post(f"/jobs/run/f/{outer}").text)
    called = client.job(job["flow_status"]["modules"][0]["job"])
    inner = called["flow_status"]["modules"][0]["flow_jobs"][0]
    known = [*client.get(f"/jobs/result_by_id/{called['id']}/l").json(), called["result"], job["result"]]
    places = [(inner, "i", path), (called["id"], "s", path), (job["id"], "e", outer)]
    for (flow_job, root, id, flow_path, state, place, job_id), (expected_job, expected_id, expected) in zip(
        known, places, strict=True
    ):
        assert (flow_job, root, id, flow_path) == (expected_job, job["id"], expected_id, expected)
        assert state == f"{expected}/{expected_id}_user"
        made_ms = place.removeprefix(f"{expected.replace('/', '_')}/manual/{expected_id}/").removesuffix(f"_{job_id}")
        assert made_ms.isdigit(), place


def test_a_loop_over_one_script_has_its_jobs_and_no_flow_between(client: Client) -> None:
    path = "u/admin/short_loop"
    code = "import os\ndef main(n, m):\n    assert n < 3, n\n    return [n, m, os.environ['WM_FLOW_STEP_ID']]"
    inputs = {"n": "flow_input.iter.value", "m": "`${results.a}${flow_input.q}${previous_result.iter.index}`"}
    modules = [
        step("a", py("def main(): return 'r'")),
        step("l", forloop([1, 2], step("i", py(code, **inputs)))),
        step("w", whileloop(step("k", py(code, **inputs))), stop_after_if=stop("result[0] == 1")),
    ]
    deploy(client, path, *modules)
    job = client.ended(client.post(f"/jobs/run/f/{path}", {"q": 7}).text)
    assert job["result"] == [[0, "r70", "w"], [1, "r71", "w"]]
    loop = job["flow_status"]["modules"][1]
    assert client.get(f"/jobs/result_by_id/{job['id']}/l").json() == [[1, "r70", "l"], [2, "r71", "l"]]
    for each in (client.job(id) for id in loop["flow_jobs"]):
        assert (each["job_kind"], each["flow_step_id"], each["parent_job"]) == ("preview", "l", job["id"])
        assert client.get(f"/jobs_u/get_root_job_id/{each['id']}").json() == job["id"]
    preview = client.post("/jobs/run/preview_flow", {"value": {"modules": modules}, "args": {"q": 7}})
    shown = client.ended(preview.text)
    assert shown["result"] == job["result"]
    first, second = (client.job(shown["flow_status"]["modules"][n]["flow_jobs"][0]) for n in (1, 2))
    assert (first["job_kind"], second["job_kind"]) == ("flowpreview", "preview")


def test_a_loop_over_one_script_fails_as_any_other(client: Client) -> None:
    path = "u/admin/short_failing"
    fails = step("i", py("def main(n):\n    assert n < 3, n\n    return n", n="flow_input.iter.value"))
    unknown = step("k", py("def main(n): return n", n="nothing.there"))
    for modules, places in (
        ([step("l", forloop([1, 3, 5], fails))], {1: "i"}),
        ([step("l", forloop([3, 1], fails, skip_failures=True))], {0: "i"}),
        ([step("l", forloop([1], unknown))], {0: "k"}),
    ):
        deploy(client, path, *modules)
        job = client.ended(client.post(f"/jobs/run/f/{path}", {}).text)
        found = {n: each["error"]["step_id"] for n, each in enumerate(job["result"]) if isinstance(each, dict)}
        assert (found, job["success"]) == (places, bool(modules[0]["value"]["skip_failures"]))


def test_pauses_of_retries_are_waited_for(client: Client) -> None:
    retry = {"constant": {"attempts": 1, "seconds": 1}}
    value = {"modules": [step("a", py("def main(): raise ValueError"), retry=retry)]}
    job = client.ended(client.post("/jobs/run/preview_flow", {"value": value}).text)
    assert 1000 <= job["duration_ms"] < 10_000


def test_a_preprocessor_makes_the_arguments(client: Client) -> None:
    path = "u/admin/prepared"
    code = "def preprocessor(event): return {'foo': event['body']['a'] + '-baz', 'kind': event['kind']}"
    deploy(
        client,
        path,
        step(
            "a", py("def main(foo, kind): return f'Hello {foo} {kind}'", foo="flow_input.foo", kind="flow_input.kind")
        ),
        preprocessor_module={"id": "preprocessor", "value": py(code)},
    )
    job = client.ended(client.post(f"/jobs/run/f/{path}", {"a": "bar"}).text)
    assert job["result"] == "Hello bar-baz webhook"
    assert job["preprocessed"] is True
    assert job["args"] == {"foo": "bar-baz", "kind": "webhook"}
    module = job["flow_status"]["preprocessor_module"]
    assert module["type"] == "Success"
    assert client.job(module["job"])["args"] == {"reason": "PREPROCESSOR_ARGS_ARE_DISCARDED"}
    plain = client.post(f"/jobs/run_wait_result/f/{path}", {"foo": 1, "kind": 2}, skip_preprocessor="true")
    assert plain.json() == "Hello 1 2"


def test_an_early_answer(client: Client) -> None:
    path = "u/admin/early"
    deploy(client, path, step("a", py("def main(): return 'early'")), step("b", py(SLEEP)), early_return="a")
    assert client.post(f"/jobs/run_wait_result/f/{path}").json() == "early"
    streamed = _events(client.post(f"/jobs/run_and_stream/f/{path}"))[-1]
    assert (streamed["completed"], streamed["only_result"]) == (True, "early")
    running = [each["id"] for each in client.get("/jobs/queue/list").json() if each["script_path"] == path]
    assert len(running) == 2
    for job_id in running:
        assert client.post(f"/jobs_u/queue/cancel/{job_id}", {"reason": "enough"}).status == 200
        job = client.ended(job_id)
        assert (job["success"], job["result"]["error"]["name"]) == (False, "Canceled")
    failing = step("a", py("def main(): raise ValueError('early')"))
    deploy(client, path, failing, early_return="a")
    assert client.post(f"/jobs/run_wait_result/f/{path}").json()["error"]["message"] == "early"
    handler = {"id": "failure", "value": py("def main(): return 'handled'")}
    deploy(client, path, failing, early_return="a", failure_module=handler)
    assert client.post(f"/jobs/run_wait_result/f/{path}").json() == "handled"


def _events(answer: Answer) -> list[JSON]:
    return [json.loads(event.data) for event in Reader().feed(answer.body)]


def test_what_is_seen_of_a_flow_that_runs(client: Client) -> None:
    path = "u/admin/seen"
    deploy(client, path, step("a", py("def main(): return {'x': [1, 2]}")), step("b", py(SLEEP)), step("c", IDENTITY))
    job_id = client.post(f"/jobs/run/f/{path}").text
    shown = client.job(job_id)
    assert shown["running"] is True
    assert [module["id"] for module in shown["flow_status"]["modules"]] == ["a", "b", "c"]

    def second_runs() -> bool:
        return bool(client.job(job_id)["flow_status"]["modules"][1]["type"] == "InProgress")

    eventually(second_runs, "the second step")
    modules = client.job(job_id)["flow_status"]["modules"]
    assert [module["type"] for module in modules] == ["Success", "InProgress", "WaitingForPriorSteps"]
    assert set(modules[0]["timing_ms"]) == {"queue", "start", "run"}
    assert client.get(f"/jobs/result_by_id/{job_id}/a").json() == {"x": [1, 2]}
    assert client.get(f"/jobs/result_by_id/{job_id}/a", json_path="x.1").json() == 2
    assert client.get(f"/jobs/result_by_id/{job_id}/b").status == 404
    assert client.post(f"/jobs_u/queue/cancel/{job_id}", {"reason": "enough"}).status == 200
    job = client.ended(job_id)
    assert (job["canceled"], job["canceled_reason"]) == (True, "enough")
    assert client.job(modules[1]["job"])["canceled"] is True
    assert client.get(f"/jobs/result_by_id/{job_id}/a").json() == {"x": [1, 2]}
    assert "flow completed with error" in client.get(f"/jobs_u/get_logs/{job_id}").text


def test_cancel_reaches_every_child(client: Client) -> None:
    path = "u/admin/deep"
    inner = step("m", forloop([1, 2], step("i", py(SLEEP)), parallel=True))
    deploy(client, path, step("l", forloop([1, 2], inner, parallel=True)))
    job_id = client.post(f"/jobs/run/f/{path}").text

    def count() -> bool:
        queue = client.get("/jobs/queue/list", per_page=100).json()
        steps = [each for each in queue if each["job_kind"] == "preview" and each["script_path"].startswith(path)]
        return len(steps) == 4

    eventually(count, "four jobs")
    assert client.post(f"/jobs_u/queue/cancel/{job_id}", {"reason": "all of it"}).status == 200
    assert client.ended(job_id)["canceled"] is True
    left = [each for each in client.get("/jobs/queue/list").json() if (each["script_path"] or "").startswith(path)]
    assert left == []


def test_a_while_loop_without_an_end_ends_with_the_time_of_its_flow(client: Client) -> None:
    path = "u/admin/endless"
    deploy(client, path, step("w", whileloop(step("i", py("def main(): return 1")))), timeout=1)
    job = client.ended(client.post(f"/jobs/run/f/{path}").text)
    assert job["success"] is False
    assert "timeout" in job["result"]["error"]["message"]


def test_a_loop_whose_iterations_end_as_they_begin_holds_nobody_up(client: Client) -> None:
    missing = {"type": "script", "path": "u/admin/is_not_there", "input_transforms": {}}
    value = {"modules": [step("w", whileloop(step("i", missing), skip_failures=True))]}
    job_id = client.post("/jobs/run/preview_flow", {"value": value}).text

    def has_gone_on() -> bool:
        status = client.get(f"/jobs_u/get/{job_id}").json()["flow_status"]
        return bool(status["modules"][0].get("iterator", {}).get("index", 0) > 200)

    eventually(has_gone_on, "the loop goes on")
    assert client.post(f"/jobs_u/queue/cancel/{job_id}", {}).status == 200
    assert client.ended(job_id)["canceled"] is True


def test_a_flow_that_runs_itself_comes_to_an_end(client: Client) -> None:
    path = "u/admin/itself"
    deploy(client, path, step("a", {"type": "flow", "path": path, "input_transforms": {}}))
    job = client.ended(client.post(f"/jobs/run/f/{path}", {}).text)
    assert job["success"] is False
    assert "does one of them run itself?" in job["result"]["error"]["message"]


def test_flows_that_become_more_and_more_are_cancelled(client: Client) -> None:
    path = "u/admin/doubles"
    itself = {"type": "flow", "path": path, "input_transforms": {}}
    deploy(client, path, step("a", branchall([step("b", itself)], [step("c", itself)])))
    job_id = client.post(f"/jobs/run/f/{path}", {}).text
    eventually(lambda: len(client.get("/jobs/queue/list", per_page=100).json()) > 20, "some of them")
    assert client.post(f"/jobs_u/queue/cancel/{job_id}", {}).status == 200
    assert client.ended(job_id)["canceled"] is True


def test_a_cache_answers_a_step(client: Client) -> None:
    module = step("a", py("import random\ndef main(): return random.random()"), cache_ttl=60)
    path = "u/admin/cached"
    deploy(client, path, module)
    assert len({client.post(f"/jobs/run_wait_result/f/{path}").text for _ in range(3)}) == 1


def test_a_cache_answers_nobody_else_a_step(client: Client, server: Server) -> None:
    module = step("a", py("import random\ndef main(): return random.random()"), cache_ttl=60)
    others = server.user("reads_caches")

    def run(who: Client) -> Any:
        return who.ended(who.post("/jobs/run/preview_flow", {"value": {"modules": [module]}}).text)["result"]

    assert run(client) == run(client)
    assert run(others) != run(client)


def test_a_cache_answers_a_flow(client: Client) -> None:
    path = "u/admin/cached_whole"
    deploy(client, path, step("a", py("import random\ndef main(): return random.random()")), cache_ttl=60)
    assert len({client.post(f"/jobs/run_wait_result/f/{path}", {"x": 1}).text for _ in range(3)}) == 1
    assert len({client.post(f"/jobs/run_wait_result/f/{path}", {"x": x}).text for x in range(3)}) == 3


def test_steps_that_are_deleted_after_use(client: Client) -> None:
    path = "u/admin/wiped"
    secret = step("s", py("def main(x): print('told'); return x", x=["secret"]), delete_after_use=True)
    loop = step("l", forloop([1], {**secret, "id": "i"}, step("j", py("def main(): return 2"))))
    deploy(client, path, secret, loop, step("b", py("def main(x): return len(x)", x="results.s")))
    job = client.ended(client.post(f"/jobs/run/f/{path}").text)
    assert job["result"] == 1
    inner = client.job(job["flow_status"]["modules"][1]["flow_jobs"][0])["flow_status"]["modules"]
    for wiped in (job["flow_status"]["modules"][0]["job"], inner[0]["job"]):
        eventually(lambda id=wiped: client.job(id)["args"] == {}, "nothing left")  # type: ignore[misc]
        shown = client.job(wiped)
        assert (shown["result"], "secret" in str(shown), "told" in str(shown.get("logs"))) == ({}, False, False)
    assert client.job(inner[1]["job"])["result"] == 2


def test_what_may_be_wrong_with_a_flow_is_said(client: Client) -> None:
    path = "u/admin/odd"
    deploy(
        client,
        path,
        step("a", py("def main(x): pass", x="results.nobody.x + results.a")),
        step("b", branchone(("true", []), ("flow_input.x", []), default=[])),
        step("c", {"type": "script", "path": "u/admin/none", "input_transforms": {}}),
        step("d", {"type": "flow", "path": "u/admin/odd", "input_transforms": {}}),
    )
    assert client.get(f"/flows/deployment_status/p/{path}").json()["warnings"] == [
        "module a: input_transforms.x mentions the step nobody, which does not exist",
        "module b: branch 1 is never reached",
        "module c: there is no script at u/admin/none",
    ]


def test_tags_and_priorities(client: Client) -> None:
    path = "u/admin/tagged"
    client.deploy("u/admin/with_tag", "def main(): pass", tag="scripts")
    script = {"type": "script", "path": "u/admin/with_tag", "input_transforms": {}}
    steps = [
        step("a", {**py("def main(): pass"), "tag": "mine"}, priority=7),
        step("b", py("def main(): pass")),
        step("c", script),
        step("d", {**script, "tag_override": "over"}),
    ]
    deploy(client, path, *steps, priority=3)
    job = client.ended(client.post(f"/jobs/run/f/{path}").text)
    jobs = [client.job(module["job"]) for module in job["flow_status"]["modules"]]
    assert [(each["tag"], each["priority"]) for each in jobs] == [
        ("mine", 7),
        ("python3", 3),
        ("scripts", 3),
        ("over", 3),
    ]
    deploy(client, path, *steps, tag="all")
    job = client.ended(client.post(f"/jobs/run/f/{path}").text)
    assert {client.job(module["job"])["tag"] for module in job["flow_status"]["modules"]} == {"all"}


def test_a_preprocessor_has_its_own_tag(client: Client) -> None:
    path = "u/admin/tagged_preprocessor"
    code = "def preprocessor(event): return {}"
    modules = [step("a", {**py("def main(): pass"), "tag": "mine"})]
    deploy(client, path, *modules, preprocessor_module={"value": {**py(code), "tag": "its"}}, tag="all")
    status = client.ended(client.post(f"/jobs/run/f/{path}", {}).text)["flow_status"]
    tags = [client.job(module["job"])["tag"] for module in (status["preprocessor_module"], *status["modules"])]
    assert tags == ["its", "all"]


def test_a_flow_inside_has_its_own_error_handler(client: Client) -> None:
    inner, outer = "u/admin/handled_inside", "u/admin/handled_outside"

    def handler(name: str) -> JSON:
        return {
            "failure_module": {
                "value": py("def main(name, e): return {'by': name, 'of': e}", name=f"'{name}'", e="previous_result")
            }
        }

    deploy(client, inner, step("a", py("def main(): raise ValueError")), **handler("inner"))
    deploy(client, outer, step("f", {"type": "flow", "path": inner, "input_transforms": {}}), **handler("outer"))
    job = client.ended(client.post(f"/jobs/run/f/{outer}").text)
    assert (job["success"], job["result"]["by"], job["result"]["of"]["by"]) == (False, "outer", "inner")


def test_the_log_of_a_flow_says_how_it_ended(client: Client) -> None:
    good, bad = step("a", py("def main(): return {'recover': True}")), step("a", py("def main(): raise ValueError"))
    for module, more, words in (
        (good, {}, "flow completed with success"),
        (step("a", IDENTITY, stop_after_if=stop("true")), {}, "flow stopped early, because a predicate says so"),
        (bad, {"failure_module": {"value": good["value"]}}, "its error handler was triggered (recover: true)"),
        (bad, {"failure_module": {"value": IDENTITY}}, "its error handler was triggered (recover: false)"),
    ):
        job = client.ended(client.post("/jobs/run/preview_flow", {"value": {"modules": [module], **more}}).text)
        assert words in client.get(f"/jobs_u/get_logs/{job['id']}").text


def test_results_keep_the_order_of_their_keys(client: Client) -> None:
    path = "u/admin/ordered"
    deploy(client, path, step("a", py("def main(): return {'b': 1, 'a': 2}")), step("c", IDENTITY))
    job_id = client.post(f"/jobs/run/f/{path}").text
    assert list(client.ended(job_id)["result"]) == ["b", "a"]
    expected = '{"b":1,"a":2}'
    assert client.post(f"/jobs/run_wait_result/f/{path}").text == expected
    assert client.get(f"/jobs_u/completed/get_result/{job_id}").text == expected
    for answer in (client.get(f"/jobs_u/completed/get_result_maybe/{job_id}"), client.get(f"/jobs_u/get/{job_id}")):
        assert f'"result":{expected}' in answer.text
    assert client.get(f"/jobs/result_by_id/{job_id}/a").text == expected


def test_flows_are_run_again_whole(client: Client) -> None:
    path = "u/admin/replayed"
    version = deploy(client, path, step("a", py("def main(x): return [x]", x="flow_input.x")))
    job = client.ended(client.post(f"/jobs/run/fv/{version}", {"x": 1}).text)
    again = client.ended(client.post(f"/jobs/replay/{job['id']}").text)
    assert (again["result"], again["job_kind"], again["script_path"]) == ([1], "flow", path)
    answer = client.post(f"/jobs/replay/{job['flow_status']['modules'][0]['job']}")
    assert answer.status == 201  # a step is a job like any other
    assert client.ended(answer.text)["is_flow_step"] is False
    preview = client.post(
        "/jobs/run/preview_flow", {"value": {"modules": [step("l", forloop([1], step("i", IDENTITY)))]}}
    )
    job = client.ended(preview.text)
    assert client.ended(client.post(f"/jobs/replay/{preview.text}").text)["result"] == job["result"]
    assert client.post(f"/jobs/replay/{job['flow_status']['modules'][0]['flow_jobs'][0]}").status == 400


def test_a_flow_is_restarted_from_a_step(client: Client) -> None:
    path = "u/admin/restarted"
    random = "import random\ndef main(): return random.random()"
    pause = {"required_events": 1, "timeout": 1, "continue_on_disapprove_timeout": True}
    modules = [step("a", py(random), suspend=pause), step("b", py("def main(x): raise ValueError(x)", x="results.a"))]
    deploy(client, path, *modules)
    first = client.ended(client.post(f"/jobs/run/f/{path}", {"x": 1}).text)
    modules[1] = step("b", py("def main(a, x): return [a, x]", a="results.a", x="flow_input.x"))
    version = deploy(client, path, *modules)
    answer = client.post(f"/jobs/restart/f/{first['id']}", {"step_id": "b", "flow_version": version})
    assert answer.status == 201, answer.text
    again = client.ended(answer.text)
    known = client.get(f"/jobs/result_by_id/{first['id']}/a").json()
    assert again["result"] == [known, 1]
    assert again["flow_status"]["modules"][0]["job"] == first["flow_status"]["modules"][0]["job"]
    point = {"flow_job_id": first["id"], "step_id": "b", "flow_version": version}
    assert again["flow_status"]["restarted_from"] == point
    assert again["duration_ms"] < 1000  # the approval is not waited for again
    for body in (
        {"step_id": "z"},
        {},
        {"step_id": 1},
        {"step_id": "b", "branch_or_iteration_n": 1},
        {"step_id": "b", "branch_or_iteration_n": -1},
        {"step_id": "b", "flow_version": 0},
    ):
        assert client.post(f"/jobs/restart/f/{first['id']}", body).status == 400
    deploy(client, path, *modules, step("c", IDENTITY))
    answer = client.post(f"/jobs/restart/f/{first['id']}", {"step_id": "c", "flow_version": version + 1})
    assert (answer.status, "step b" in answer.text) == (400, True)


@pytest.mark.parametrize("is_loop", [True, False])
def test_a_flow_is_restarted_from_an_iteration_or_a_branch(client: Client, is_loop: bool) -> None:
    path = f"u/admin/restarted-{is_loop}".lower()
    code = "import random\ndef main(n, most):\n    assert n < most, n\n    return [n, random.random()]"

    def modules(most: int) -> list[JSON]:
        if is_loop:
            inputs = {"n": js("flow_input.iter.value"), "most": js(str(most))}
            return [step("l", forloop([0, 1, 2, 3], step("i", {**py(code), "input_transforms": inputs})))]
        branches = [
            [step(f"i{n}", {**py(code), "input_transforms": {"n": js(str(n)), "most": js(str(most))}})]
            for n in range(4)
        ]
        return [step("l", branchall(*branches, parallel=False))]

    deploy(client, path, *modules(2))
    first = client.ended(client.post(f"/jobs/run/f/{path}").text)
    assert not first["success"]
    version = deploy(client, path, *modules(9))
    body = {"step_id": "l", "branch_or_iteration_n": 2, "flow_version": version}
    again = client.ended(client.post(f"/jobs/restart/f/{first['id']}", body).text)
    assert [n for n, _ in again["result"]] == [0, 1, 2, 3]
    before, after = (job["flow_status"]["modules"][0]["flow_jobs"] for job in (first, again))
    assert (after[:2], len(after)) == (before[:2], 4)
    assert again["result"][:2] == first["result"][:2]
    assert again["flow_status"]["restarted_from"] == {"flow_job_id": first["id"], **body}
    answer = client.post(f"/jobs/restart/f/{first['id']}", {**body, "branch_or_iteration_n": 4})
    assert (answer.status, "have ended" in answer.text) == (400, True)
    preview = {"value": {"modules": modules(9)}, "restarted_from": {"flow_job_id": first["id"], **body}}
    assert client.post("/jobs/run_wait_result/preview_flow", preview).json()[:2] == first["result"][:2]
    if is_loop:  # what it goes through may have become shorter
        short = step("l", {**modules(9)[0]["value"], "iterator": js("[0, 1]")})
        error = client.post("/jobs/run_wait_result/preview_flow", {**preview, "value": {"modules": [short]}}).error
        assert (error["name"], error["step_id"]) == ("BadRestart", "l")


def test_previews_that_are_wrong(client: Client) -> None:
    for body, words in (
        ({"value": {}}, "value.modules is missing"),
        ({"value": {"modules": []}, "args": 3}, "args"),
        ({"value": {"modules": []}, "restarted_from": {"step_id": "a"}}, "restarted_from"),
        ({"value": {"modules": []}, "restarted_from": {"flow_job_id": "x", "step_id": "a"}}, "flow_job_id"),
    ):
        answer = client.post("/jobs/run_wait_result/preview_flow", body)
        assert (answer.status, words in answer.text) == (400, True)


def test_what_is_shown_of_a_definition(client: Client) -> None:
    path = "u/admin/shown_whole"
    modules = [
        step("l", forloop([1, 2], step("i", py("def main(x): return x", x="flow_input.iter.value")), parallel=True))
    ]
    version = deploy(client, path, *modules, flow_env={"A": [1], "B": None})
    value = client.get(f"/flows/get/{path}").json()["value"]
    assert client.get(f"/flows/get/draft/{path}").json()["value"] == value
    assert client.get(f"/flows/get/v/{version}/p/{path}").json()["value"] == value
    assert client.get(f"/flows/get/v/{version}/p/{path}x").status == 404
    assert path in client.get("/flows/list_paths").json()
    assert {"path": path, "value": value} in client.get("/flows/list_search").json()
    job = client.ended(client.post(f"/jobs/run/f/{path}", {}).text)
    assert job["raw_flow"] == value
    assert "raw_flow" not in client.get(f"/jobs_u/get/{job['id']}", no_code="true").json()
    preview = client.ended(client.post("/jobs/run/preview_flow", {"value": {"modules": modules}}).text)
    assert preview["raw_flow"]["modules"] == modules
    for name, expected in (("A", [1]), ("B", None), ("C", None)):
        assert client.get(f"/jobs/flow_env_by_flow_job_id/{job['id']}/{name}").json() == expected
    found = client.get(f"/jobs_u/get_flow_debug_info/{job['id']}").json()
    (loop,) = job["flow_status"]["modules"]
    inner = [found[id]["flow_status"]["modules"][0]["job"] for id in loop["flow_jobs"]]
    assert set(found) == {job["id"], *loop["flow_jobs"], *inner}
    assert [found[id]["result"] for id in inner] == [1, 2]
    for route in ("jobs/flow_env_by_flow_job_id/{}/A", "jobs_u/get_flow_debug_info/{}"):
        assert client.get("/" + route.format(inner[0])).status == 404
