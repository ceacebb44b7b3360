"""How many runs of a flow, or of a step, run at a time; and preprocessors in several languages."""

from __future__ import annotations

import itertools
import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.flows import IDENTITY, JSON, forloop, js, py, step
from tests.server import Client, Server, eventually, serving

WAITS = [step("a", IDENTITY, suspend={"required_events": 1}), step("b", IDENTITY)]


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """One server for all."""
    with serving(tmp_path_factory.mktemp("limits") / "data", "--workers", "3") as (server, _):
        yield server


@pytest.fixture
def client(server: Server) -> Client:
    """A client with the admin's token."""
    return server.client()


def _deploy(client: Client, path: str, modules: list[JSON], **value: object) -> None:
    answer = client.post("/flows/create", {"path": path, "summary": "", "value": {"modules": modules, **value}})
    assert answer.status == 201, answer.text


def _start(client: Client, path: str, data: JSON | None = None) -> str:
    return client.post(f"/jobs/run/f/{path}", data or {}).text


def _is_suspended(client: Client, job_id: str) -> bool:
    return bool(client.job(job_id)["flow_status"]["modules"][1]["type"] == "WaitingForEvents")


def _suspended(client: Client, job_id: str) -> None:
    eventually(lambda: _is_suspended(client, job_id), "that the flow waits")


def _resume(client: Client, job_id: str) -> None:
    assert client.post(f"/jobs/flow/resume/{job_id}").status == 201
    assert client.ended(job_id)["success"]


def test_so_many_runs_of_a_flow_at_a_time_also_after_a_crash(tmp_path: Path) -> None:
    with serving(tmp_path / "data", "--workers", "2") as (server, client):
        _deploy(client, "u/admin/one", WAITS, concurrent_limit=1)
        first, second, third = (_start(client, "u/admin/one") for _ in range(3))
        _suspended(client, first)
        assert [client.job(job_id)["running"] for job_id in (first, second, third)] == [True, False, False]
        assert client.job(second)["flow_status"]["modules"][0]["type"] == "WaitingForPriorSteps"
        server.kill()
        again = server.start()
        _suspended(again, first)
        assert [again.job(job_id)["running"] for job_id in (first, second, third)] == [True, False, False]
        _resume(again, first)
        _suspended(again, second)
        assert not again.job(third)["running"]
        assert again.post(f"/jobs_u/queue/cancel/{second}", {"reason": "enough"}).status == 200
        _suspended(again, third)
        assert again.ended(second)["result"]["error"]["name"] == "Canceled"
        _resume(again, third)


def test_the_key_of_a_flow_may_hold_arguments(client: Client) -> None:
    key = "of-$workspace-$args[who]"
    _deploy(client, "u/admin/each", WAITS, concurrent_limit=1, concurrency_key=key)
    one, same, other = (_start(client, "u/admin/each", {"who": who}) for who in ("ada", "ada", "grace"))
    _suspended(client, one)
    _suspended(client, other)
    assert not client.job(same)["running"]
    _resume(client, one)
    _suspended(client, same)
    for job_id in (same, other):
        _resume(client, job_id)


def test_a_window_counts_runs_that_have_ended_also_before_a_restart(tmp_path: Path) -> None:
    with serving(tmp_path / "data", "--workers", "2") as (server, client):
        _deploy(client, "u/admin/window", [step("a", IDENTITY)], concurrent_limit=1, concurrency_time_window_s=3600)
        assert client.ended(_start(client, "u/admin/window"))["success"]
        held = _start(client, "u/admin/window")
        server.kill()
        again = server.start()
        assert not again.job(held)["running"]
        assert again.post("/jobs/run_wait_result/preview_flow", {"value": {"modules": []}}).status == 200
        assert not again.job(held)["running"]


def test_a_caller_waits_for_the_turn_of_its_flow_and_not_for_ever(tmp_path: Path) -> None:
    with serving(tmp_path / "data", "--max-sync-wait-s", "0.3") as (_, client):
        _deploy(client, "u/admin/sync", WAITS, concurrent_limit=1)
        first = _start(client, "u/admin/sync")
        _suspended(client, first)
        answer = client.post("/jobs/run_wait_result/f/u/admin/sync")
        assert (answer.status, "max_sync_wait_s" in answer.text) == (503, True)
        _resume(client, first)


def test_so_many_runs_of_a_step_at_a_time(client: Client) -> None:
    code = "import time\ndef main():\n    start = time.time()\n    time.sleep(0.1)\n    return [start, time.time()]"
    limited = {**py(code), "concurrent_limit": 1, "custom_concurrency_key": "of the step"}
    _deploy(client, "u/admin/steps", [step("l", forloop([1, 2, 3], step("i", limited), parallel=True))])
    spans = sorted(client.post("/jobs/run_wait_result/f/u/admin/steps").json())
    assert all(before[1] <= after[0] for before, after in itertools.pairwise(spans))


HOLD = py("import time\ndef main():\n    time.sleep(600)")


def _preview(client: Client, modules: list[JSON], path: str, **value: object) -> str:
    body = {"value": {"modules": modules, **value}, "args": {}, "path": path}
    answer = client.post("/jobs/run/preview_flow", body)
    assert answer.status == 201, answer.text
    return answer.text


def _runs_step(client: Client, flow_id: str) -> None:
    """Until a job of the flow that is no flow itself has its turn."""

    def probe() -> bool:
        found = client.get("/jobs/list", running="true", job_kinds="preview,script").json()
        return any(client.job(job["id"]).get("root_job") == flow_id for job in found)

    eventually(probe, "that a step of the flow runs")


@pytest.mark.parametrize("key", [{}, {"concurrency_key": "everybody's"}], ids=["path", "key"])
def test_a_preview_takes_no_turn_of_the_flow_whose_path_or_key_it_names(tmp_path: Path, key: JSON) -> None:
    limits = {"concurrent_limit": 1, **key}
    with serving(tmp_path / "data", "--workers", "2") as (server, admin):
        _deploy(admin, "u/admin/q", WAITS, **limits)
        mallory = server.user("mallory")
        held, second = (_preview(mallory, WAITS, "u/admin/q", **limits) for _ in range(2))
        _suspended(admin, held)
        _suspended(admin, _start(admin, "u/admin/q"))
        waits = _start(admin, "u/admin/q")
        server.kill()
        again = server.start()
        _suspended(again, held)
        # It would take the place of the deployed one, or of the other preview, if it were counted otherwise than before.
        assert not again.job(second)["running"] and not again.job(waits)["running"]
        _resume(again, held)
        _suspended(again, second)
        assert not again.job(waits)["running"]


@pytest.mark.parametrize("key", [{}, {"custom_concurrency_key": "everybody's"}], ids=["path", "key"])
def test_a_step_of_a_preview_takes_no_turn_of_the_step_whose_path_or_key_it_names(tmp_path: Path, key: JSON) -> None:
    limited = {**HOLD, "concurrent_limit": 1, **key}
    modules = [step("l", forloop([1], step("i", IDENTITY), step("s", limited)))]
    with serving(tmp_path / "data", "--workers", "4") as (server, admin):
        _deploy(admin, "u/admin/q", modules)
        mallory = server.user("mallory")
        held = _preview(mallory, modules, "u/admin/q")
        _runs_step(admin, held)
        server.kill()
        again = server.start()
        _runs_step(again, held)
        deployed = _start(again, "u/admin/q")
        _runs_step(again, deployed)
        for job_id in (held, deployed):
            assert again.post(f"/jobs_u/queue/cancel/{job_id}", {}).status == 200


PREPROCESSORS = {
    "python3": "def main(): raise ValueError\ndef preprocessor(event): return {'n': event['body']['n'] + 1}",
    "bun": "export function preprocessor(event: any) { return {n: event.body.n + 1}; }\nexport function main() { throw 1; }",
    "deno": "export async function preprocessor(event: any) { return {n: event.body.n + 1}; }",
    "bash": 'event="$1"\necho "{\\"n\\": $(echo "$event" | tr -dc 0-9 | head -c 1)2}" > result.json',
}


@pytest.mark.parametrize("language", PREPROCESSORS)
@pytest.mark.parametrize("is_deployed", [False, True])
def test_a_preprocessor_may_be_written_in_any_language(client: Client, language: str, is_deployed: bool) -> None:
    path, code = f"u/admin/prep-{language}-{is_deployed}".lower(), PREPROCESSORS[language]
    value: JSON = {"type": "rawscript", "language": language, "content": code, "input_transforms": {}}
    if is_deployed:
        client.deploy(f"{path}-script", code, language)
        value = {"type": "script", "path": f"{path}-script", "input_transforms": {}}
    _deploy(
        client, path, [step("a", py("def main(n): return n", n="flow_input.n"))],
        preprocessor_module={"id": "preprocessor", "value": value},
    )  # fmt: skip
    sent = 41 if language != "bash" else 4
    job = client.ended(client.post(f"/jobs/run/f/{path}", {"n": sent}).text)
    assert job["result"] == 42, client.logs(job["flow_status"]["preprocessor_module"]["job"])


def test_a_step_may_have_its_arguments_prepared(client: Client) -> None:
    code = "def preprocessor(a): return {'b': a + 1}\ndef main(b): return b"
    prepared = step("a", {**py(code), "input_transforms": {"a": js("flow_input.a")}}, apply_preprocessor=True)
    value = {"modules": [prepared]}
    assert client.post("/jobs/run_wait_result/preview_flow", {"value": value, "args": {"a": 1}}).json() == 2


def test_no_timeout_of_a_step_is_too_long(client: Client) -> None:
    module = step("a", py("def main(): return 1"), timeout={"type": "static", "value": 2**64 - 1})
    assert client.ended(client.post("/jobs/run/preview_flow", {"value": {"modules": [module]}}).text)["result"] == 1


def test_what_is_nested_too_deeply_for_an_expression_fails_its_step_alone(client: Client) -> None:
    modules = json.dumps([step("a", py("def main(x): return 1", x="JSON.stringify(flow_input.deep)"))])
    deep = "[" * 1000 + "]" * 1000
    body = f'{{"value": {{"modules": {modules}}}, "args": {{"deep": {deep}}}}}'.encode()
    answer = client.call("POST", "/jobs/run/preview_flow", body, {"Content-Type": "application/json"})
    if answer.status == 201:
        maybe = f"/jobs_u/completed/get_result_maybe/{answer.text}"
        eventually(lambda: client.get(maybe).json()["completed"], "its end")
        assert client.get(maybe).json()["success"] is False
    small = {"modules": [step("b", py("def main(): return 2"))]}
    assert client.ended(client.post("/jobs/run/preview_flow", {"value": small}).text)["result"] == 2


def test_a_long_parallel_loop_lets_others_through(client: Client) -> None:
    loop = forloop(list(range(3000)), step("i", IDENTITY), parallel=True)
    job_id = client.post("/jobs/run/preview_flow", {"value": {"modules": [step("l", loop)]}}).text
    client.ended(job_id)
    assert len(client.get(f"/jobs_u/completed/get_result/{job_id}").json()) == 3000
