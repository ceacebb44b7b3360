"""``same_worker``: the directory ``./shared`` of the steps of one flow run, in every language, through failures and crashes."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.flows import IDENTITY, JSON, branchall, forloop, js, py, step
from tests.server import Client, Server, eventually, serving

APPEND = "def main(x):\n with open('shared/log', 'a') as file: file.write(f'{x} ')\n return open('shared/log').read()"
READ = "import os\ndef main(): return sorted(os.listdir('shared'))"


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """One server for all."""
    with serving(tmp_path_factory.mktemp("shared") / "data", "--workers", "3", "--job-tmp-bytes", "4194304") as (
        server,
        _,
    ):
        yield server


@pytest.fixture
def client(server: Server) -> Client:
    """A client with the admin's token."""
    return server.client()


def _run(client: Client, *modules: JSON, **value: object) -> object:
    flow = {"modules": list(modules), "same_worker": True, **value}
    return client.post("/jobs/run_wait_result/preview_flow", {"value": flow}).json()


def _append(id: str, x: str, **members: object) -> JSON:
    return step(id, {**py(APPEND), "input_transforms": {"x": js(x)}}, **members)


def _is_empty(server: Server) -> None:
    directory = server.data / "shared"
    eventually(
        lambda: not directory.exists() or not any(directory.iterdir()), "that nothing is left of what was shared"
    )


def test_steps_see_what_those_before_them_left(server: Server, client: Client) -> None:
    loop = step("l", forloop([1, 2], _append("i", "flow_input.iter.value")))
    branches = step(
        "b", branchall([_append("p", "'p'")], [_append("q", "'q'")])
    )  # beside each other, if there were two
    result = _run(client, _append("a", "'a'"), loop, branches, _append("z", "'z'"))
    assert result in ("a 1 2 p q z ", "a 1 2 q p z ")
    _is_empty(server)


def test_flows_share_nothing_with_others_and_without_it_there_is_no_directory(client: Client) -> None:
    assert _run(client, step("a", py(READ))) == []
    value = {"modules": [step("a", py("import os\ndef main(): return os.path.exists('shared')"))]}
    assert client.post("/jobs/run_wait_result/preview_flow", {"value": value}).json() is False


def test_every_language_finds_it_and_files_are_what_they_were(client: Client) -> None:
    bash = "mkdir -p shared/d; echo hello > shared/d/f; chmod 750 shared/d/f; ln -s d/f shared/link; echo 1"
    bun = (
        "import * as fs from 'node:fs';\n"
        "export function main() { fs.appendFileSync('shared/d/f', 'bun'); return fs.readFileSync('shared/link', 'utf8'); }"
    )
    last = (
        "import os\ndef main():\n mode = oct(os.stat('shared/d/f').st_mode)[-3:]\n"
        " return [mode, os.readlink('shared/link'), open('shared/link').read()]"
    )

    def inline(language: str, code: str) -> JSON:
        return {"type": "rawscript", "language": language, "content": code, "input_transforms": {}}

    result = _run(client, step("a", inline("bash", bash)), step("b", inline("bun", bun)), step("c", py(last)))
    assert result == ["750", "d/f", "hello\nbun"]


def test_processes_of_dedicated_scripts_keep_nothing(client: Client) -> None:
    client.deploy("u/admin/keeps", APPEND, dedicated_worker=True)
    deployed = step("a", {"type": "script", "path": "u/admin/keeps", "input_transforms": {"x": js("'a'")}})
    assert _run(client, deployed) == "a "
    assert _run(client, deployed) == "a "


def test_what_a_failed_step_left_is_there_for_its_next_attempt(client: Client) -> None:
    code = "import os\ndef main():\n n = len(os.listdir('shared'))\n open(f'shared/{n}', 'w').close()\n assert n > 1\n return n"
    assert _run(client, step("a", py(code), retry={"constant": {"attempts": 3, "seconds": 0}})) == 2


def test_it_has_a_size(server: Server, client: Client) -> None:
    sparse = "def main():\n for n in range(40):\n  with open(f'shared/{n}', 'wb') as f: f.truncate(1 << 20)"
    error = _run(client, step("a", py(sparse)))
    assert isinstance(error, dict)
    assert "./shared" in error["error"]["message"]
    _is_empty(server)


def test_parallel_loops_are_refused(client: Client) -> None:
    value = {"modules": [step("l", forloop([1], step("i", IDENTITY), parallel=True))], "same_worker": True}
    answer = client.post("/jobs/run/preview_flow", {"value": value})
    assert (answer.status, "module l" in answer.text) == (400, True)


SLOW = """
import os, time, urllib.request
def main():
    seen = open("shared/log").read()
    with open("shared/log", "a") as file: file.write("s ")
    print("running", flush=True)
    url = os.environ["BASE_INTERNAL_URL"] + "/api/w/demo/variables/exists/u/admin/go"
    request = urllib.request.Request(url, headers={"Authorization": "Bearer " + os.environ["WM_TOKEN"]})
    while urllib.request.urlopen(request).read() != b"true": time.sleep(0.05)
    return seen
"""


def test_a_step_that_is_begun_again_after_a_crash_finds_what_it_found_before(tmp_path: Path) -> None:
    modules = [
        _append("a", "'a'"),
        step("w", IDENTITY, suspend={"required_events": 1}),
        _append("b", "'b'"),
        step("s", py(SLOW)),
        step("c", py("def main(seen): return [seen, open('shared/log').read()]", seen="results.s")),
    ]
    with serving(tmp_path / "data", "--workers", "2") as (server, client):
        body = {"value": {"modules": modules, "same_worker": True}}
        job_id = client.post("/jobs/run/preview_flow", body).text
        eventually(lambda: _state(client, job_id, 2) == "WaitingForEvents", "that the flow waits")
        server.kill()
        again = server.start()
        assert again.post(f"/jobs/flow/resume/{job_id}").status == 201
        eventually(lambda: _state(again, job_id, 3) == "InProgress", "that the slow step runs")
        slow_job = again.job(job_id)["flow_status"]["modules"][3]["job"]
        eventually(lambda: "running" in again.logs(slow_job), "that it has written")
        assert len(list((server.data / "shared" / job_id).iterdir())) <= 2
        server.kill()
        third = server.start()
        eventually(lambda: "running" in third.logs(slow_job), "that it runs again")
        assert third.post("/variables/create", {"path": "u/admin/go", "value": "x", "is_secret": False}).status == 201
        assert third.ended(job_id)["result"] == ["a b ", "a b s "]
        _is_empty(server)


def _state(client: Client, job_id: str, number: int) -> str:
    return str(client.job(job_id)["flow_status"]["modules"][number]["type"])
