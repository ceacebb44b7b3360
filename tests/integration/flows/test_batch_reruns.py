"""Running many jobs again by one request, and who uses a script or a flow."""

from __future__ import annotations

from typing import Any

import pytest

from tests.flows import IDENTITY, JSON, js, py, step
from tests.server import Answer, Client, eventually

GONE = "01890000-0000-7000-8000-00000000dead"


def _deploy_flow(client: Client, path: str, *modules: JSON) -> None:
    exists = client.get(f"/flows/exists/{path}").json()
    new = {"path": path, "summary": "", "value": {"modules": modules}}
    answer = client.post(f"/flows/update/{path}" if exists else "/flows/create", new)
    assert answer.status in (200, 201), answer.text


def _rerun(client: Client, body: JSON) -> Answer:
    return client.post("/jobs/run/batch_rerun_jobs", body)


def test_many_jobs_run_again(client: Client) -> None:
    script, flow = "u/admin/rerun_script", "u/admin/rerun_flow"
    client.deploy(script, "def main(x, y=0): return [x, y]")
    _deploy_flow(client, flow, step("a", py("def main(x): return x", x="flow_input.x")))
    jobs = [client.post(f"/jobs/run/p/{script}", {"x": x}).text for x in (1, 2)]
    jobs.append(client.post(f"/jobs/run/f/{flow}", {"x": 3}).text)
    for job in jobs:
        client.ended(job)
    answer = _rerun(client, {"job_ids": [*jobs, GONE]})
    assert (answer.status, answer.headers["content-type"]) == (201, "text/event-stream")
    *again, wrong = answer.text.splitlines()
    assert [client.ended(job)["result"] for job in again] == [[1, 0], [2, 0], 3]
    assert wrong == f"Error: job {GONE} was not found"
    _deploy_flow(client, flow, step("a", py("def main(x): return {'new': x}", x="flow_input.x")))
    transforms = {"y": js("job.input.x"), "x": {"type": "static", "value": "s"}}
    options = {
        "script_options_by_path": {script: {"input_transforms": transforms}},
        "flow_options_by_path": {flow: {"use_latest_version": True, "input_transforms": {"x": js("job.script_path")}}},
    }
    lines = _rerun(client, {"job_ids": jobs, **options}).text.splitlines()
    assert [client.ended(job)["result"] for job in lines] == [["s", 1], ["s", 2], {"new": flow}]
    assert client.job(lines[0])["args"] == {"x": "s", "y": 1}


def test_arguments_that_stay_keep_their_digits(client: Client) -> None:
    script, large = "u/admin/rerun_digits", 123456789012345678901234567890
    client.deploy(script, "def main(n, x, m=0): return [str(n), str(m), x]")
    first = client.post(f"/jobs/run/p/{script}", {"n": large, "x": 1}).text
    client.ended(first)
    transforms = {"x": {"type": "static", "value": 2}, "m": js("job.input.n")}
    body = {"job_ids": [first], "script_options_by_path": {script: {"input_transforms": transforms}}}
    (again,) = _rerun(client, body).text.splitlines()
    assert client.ended(again)["result"] == [str(large), str(large), 2]


def test_other_arguments_count_for_the_limit_of_a_key(client: Client) -> None:
    script = "u/admin/rerun_limited"
    client.deploy(
        script,
        "import time\ndef main(k, s): time.sleep(s)",
        concurrent_limit=1,
        concurrency_time_window_s=0,
        concurrency_key="k-$args[k]",
    )
    first = client.post(f"/jobs/run/p/{script}", {"k": "a", "s": 0}).text
    client.ended(first)
    holder = client.post(f"/jobs/run/p/{script}", {"k": "b", "s": 60}).text
    eventually(lambda: client.job(holder).get("started_at"), "the other key is taken")
    options = {"script_options_by_path": {script: {"input_transforms": {"k": {"type": "static", "value": "b"}}}}}
    (again,) = _rerun(client, {"job_ids": [first], **options}).text.splitlines()
    same = _rerun(client, {"job_ids": [first]}).text.strip()
    client.ended(same)  # which would have come behind it
    assert client.job(again)["type"] == "QueuedJob"
    for job in (holder, again):
        client.post(f"/jobs_u/queue/cancel/{job}", {})
        client.ended(job)


def test_one_that_cannot_run_again_keeps_no_other_from_it(client: Client) -> None:
    script, flow = "u/admin/rerun_other", "u/admin/rerun_waits"
    client.deploy(script, "def main(x): return x")
    _deploy_flow(client, flow, step("a", IDENTITY, suspend={"required_events": 1}))
    ended = client.post(f"/jobs/run/p/{script}", {"x": 1}).text
    client.ended(ended)
    waiting = client.post(f"/jobs/run/f/{flow}", {}).text
    bad = {"script_options_by_path": {script: {"input_transforms": {"x": js("1 + 1")}}}}
    lines = _rerun(client, {"job_ids": [ended, waiting], **bad}).text.splitlines()
    assert lines[0].startswith("Error: input_transforms.x: an expression can be a path like job.input.x")
    assert lines[1] == f"Error: job {waiting} has not ended"
    for own in (ended, waiting):
        client.post(f"/jobs_u/queue/cancel/{own}", {})
    assert client.call("HEAD", "/jobs/run/batch_rerun_jobs").status == 200
    assert _rerun(client, {"job_ids": []}).text == ""


@pytest.mark.parametrize(
    ("body", "words"),
    [
        (7, "must be an object"),
        ({}, "array of job ids"),
        ({"job_ids": ["x"]}, "job id"),
        ({"job_ids": [GONE] * 1001}, "at most 1000"),
        ({"job_ids": [], "script_options_by_path": []}, "script_options_by_path must be an object"),
        ({"job_ids": [], "flow_options_by_path": {"f/a": 1}}, "flow_options_by_path.f/a must be an object"),
        ({"job_ids": [], "flow_options_by_path": {"f/a": {"use_latest_version": 1}}}, "use_latest_version must be"),
        (
            {"job_ids": [], "flow_options_by_path": {"f/a": {"input_transforms": {"x": {"type": "js"}}}}},
            "flow_options_by_path.f/a.input_transforms.x.type must be",
        ),
    ],
)
def test_what_is_wrong_with_a_request_is_named(client: Client, body: Any, words: str) -> None:
    answer = _rerun(client, body)
    assert answer.status == 400
    assert words in answer.text


def test_who_uses_a_script_or_a_flow(client: Client) -> None:
    module, script = "u/admin/used_module", "u/admin/used_by_script"
    client.deploy(module, "def f(): return 1\ndef main(): pass")
    code = "from u.admin.used_module import f\ndef main(): return f()"
    client.deploy(script, code)
    as_step = step("a", {"type": "script", "path": module, "input_transforms": {}})
    inside = {"type": "forloopflow", "iterator": {"type": "static", "value": []}, "modules": [as_step]}
    _deploy_flow(client, "u/admin/used_in_step", step("l", inside))
    _deploy_flow(client, "u/admin/used_in_code", step("a", py(code)))
    _deploy_flow(client, "u/admin/used_flow", step("a", {"type": "flow", "path": "u/admin/used_in_step"}))
    _deploy_flow(client, "u/admin/used_not", step("a", py(f"def main(): return '{module}'")))
    flows = "/flows/list_paths_from_workspace_runnable"
    assert client.get(f"{flows}/script/{module}").json() == ["u/admin/used_in_code", "u/admin/used_in_step"]
    assert client.get(f"{flows}/flow/u/admin/used_in_step").json() == ["u/admin/used_flow"]
    assert client.get(f"{flows}/flow/{module}").json() == []
    assert client.get(f"/scripts/list_paths_from_workspace_runnable/{module}").json() == [script]
    assert client.get(f"/scripts/list_paths_from_workspace_runnable/{script}").json() == []
    assert client.get(f"{flows}/app/{module}").status == 400
    assert client.get(f"{flows}/script/{'0' * 300}").status == 400
    assert client.get(f"/scripts/list_paths_from_workspace_runnable/{'0' * 300}").status == 400
