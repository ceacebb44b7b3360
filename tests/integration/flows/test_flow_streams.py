"""Following flows: the chunks of their last steps, where they are, and what jobs say of their own progress."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from httpx_sse import connect_sse

from tests.flows import forloop, py, step
from tests.server import Client, Server, eventually, serving

CHUNKS = py("def main():\n    yield 'a'\n    yield 'b'\n    yield 'c'\n")
NOTHING = py("def main(): return 1\n")
#: Goes on as soon as the file is there.
GATED = """
import os, time

def main(gate):
    yield 'a'
    while not os.path.exists(gate):
        time.sleep(0.005)
    yield 'b'
"""


@pytest.fixture(scope="module")
def client(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Client]:
    with serving(tmp_path_factory.mktemp("flows") / "data", "--sandbox", "none", "--insecure") as (_, client):
        yield client


def deploy(client: Client, path: str, *modules: dict[str, Any]) -> None:
    flow = {"path": path, "summary": "", "value": {"modules": list(modules)}}
    answer = client.post("/flows/create", flow)
    assert answer.status == 201, answer.text


def events(client: Client, path: str, *, last_id: str = "", **query: str) -> Iterator[tuple[str, dict[str, Any]]]:
    headers = {"Authorization": f"Bearer {client.token}", **({"Last-Event-ID": last_id} if last_id else {})}
    address = f"{client.address}/api/w/demo{path}"
    with (
        httpx.Client(timeout=60) as http,
        connect_sse(http, "GET", address, headers=headers, params=query) as source,
    ):
        assert source.response.status_code == 200, source.response.read()
        for event in source.iter_sse():
            yield event.id, json.loads(event.data)


def streamed(updates: list[tuple[str, dict[str, Any]]]) -> str:
    return "".join(update.get("new_result_stream", "") for _, update in updates)


LAST_STEPS = {
    "script": [step("a", NOTHING), step("b", CHUNKS)],
    "only": [step("a", CHUNKS)],
    "branch": [
        step("a", {"type": "branchone", "branches": [], "default": [step("b", NOTHING), step("c", CHUNKS)]}),
    ],
    "flow": [step("a", {"type": "flow", "path": "u/admin/only", "input_transforms": {}})],
    "sleep": [step("a", CHUNKS, sleep={"type": "static", "value": 0})],
}


@pytest.mark.parametrize("name", LAST_STEPS)
def test_the_chunks_of_the_last_step(client: Client, name: str) -> None:
    deploy(client, f"u/admin/{name}", *LAST_STEPS[name])
    updates = list(events(client, f"/jobs/run_and_stream/f/u/admin/{name}"))
    assert streamed(updates) == "abc"
    assert updates[-1][1] == {"type": "update", "completed": True, "only_result": "abc"}
    told = [update["flow_stream_job_id"] for _, update in updates if "flow_stream_job_id" in update]
    assert len(told) == 1
    stream_job = client.job(told[0])
    assert (stream_job["result"], stream_job["is_flow_step"], stream_job["job_kind"]) == ("abc", True, "preview")
    flow_id = updates[0][0].split(":")[0]
    again = list(events(client, f"/jobs_u/getupdate_sse/{flow_id}", only_result="true"))
    assert (streamed(again), again[-1][1]["only_result"]) == ("abc", "abc")
    behind = list(events(client, f"/jobs/run_and_stream/f/u/admin/{name}", last_id=f"{flow_id}:0:1:q"))
    assert streamed(behind) == "bc"
    polled = client.get(f"/jobs_u/getupdate/{flow_id}", stream_offset=2).json()
    assert (polled["new_result_stream"], polled["stream_offset"]) == ("c", 3)
    assert (polled["flow_stream_job_id"], polled["completed"]) == (told[0], True)
    assert [each["type"] for each in polled["flow_status"]["modules"][:1]] == ["Success"]


def test_loops_have_no_chunks_of_one_job(client: Client) -> None:
    deploy(client, "u/admin/loop", step("a", forloop([1, 2], step("b", CHUNKS))))
    updates = list(events(client, "/jobs/run_and_stream/f/u/admin/loop"))
    assert [update for _, update in updates] == [
        {"type": "update"},
        {"type": "update", "completed": True, "only_result": ["abc", "abc"]},
    ]


def test_where_a_flow_is(client: Client, tmp_path: Path) -> None:
    """Each chunk comes while its step still runs, however deep that is."""
    gate = tmp_path / "gate"
    inner = {"type": "branchone", "branches": [], "default": [step("c", py(GATED, gate="flow_input.gate"))]}
    deploy(client, "u/admin/gated", step("a", NOTHING), step("b", inner))
    flow_id = client.post("/jobs/run/f/u/admin/gated", {"gate": str(gate)}).text
    written, states = "", []
    for _, update in events(client, f"/jobs_u/getupdate_sse/{flow_id}", running="false"):
        if status := update.get("flow_status"):
            states.append([each["type"] for each in status["modules"]])
        written += update.get("new_result_stream", "")
        if written == "a" and states and states[-1] == ["Success", "InProgress"]:
            gate.touch()
    assert written == "ab"
    assert update["job"]["flow_status"]["stream_job"] == update["job"]["flow_status"]["modules"][1]["job"]
    assert [each["type"] for each in update["job"]["flow_status"]["modules"]] == ["Success", "Success"]


def test_a_last_step_that_is_tried_again(client: Client) -> None:
    code = "import os\ndef main(n):\n    yield 'a'\n    raise ValueError('no')\n"
    retry = {"constant": {"attempts": 2, "seconds": 0}}
    deploy(client, "u/admin/again", step("a", py(code, n=1), retry=retry))
    updates = list(events(client, "/jobs/run_and_stream/f/u/admin/again"))
    told = [update["flow_stream_job_id"] for _, update in updates if "flow_stream_job_id" in update]
    assert updates[-1][1]["only_result"]["error"]["message"] == "no"
    assert streamed(updates) == "a"
    assert told[-1:] == [client.job(updates[0][0].split(":")[0])["flow_status"]["modules"][0]["job"]]


def test_after_a_restart(make_server: Callable[..., Server]) -> None:
    server = make_server("--sandbox", "none", "--insecure")
    server.start()
    deploy(server.client(), "u/admin/kept", *LAST_STEPS["branch"])
    updates = list(events(server.client(), "/jobs/run_and_stream/f/u/admin/kept"))
    server.stop()
    server.start()
    again = list(events(server.client(), "/jobs/run_and_stream/f/u/admin/kept", last_id=updates[0][0]))
    assert streamed(again) == "abc"


# --- progress ---


def test_what_a_job_says_of_its_progress(client: Client, tmp_path: Path) -> None:
    gate = tmp_path / "gate"
    client.deploy("u/admin/long", GATED)
    job = client.submit("u/admin/long", {"gate": str(gate)})
    assert client.get(f"/job_metrics/get_progress/{job}").json() is None
    eventually(lambda: client.job(job).get("running"), "the job runs")
    set_progress, get_progress = f"/job_metrics/set_progress/{job}", f"/job_metrics/get_progress/{job}"
    for said, shown in ((-3, 0), (40, 40), (30, 40), (40, 40)):
        assert client.post(set_progress, {"percent": said, "flow_job_id": None}).json() == shown
        assert client.get(get_progress).json() == shown
    assert client.get(f"/jobs_u/getupdate/{job}", get_progress="true").json()["progress"] == 40
    assert "progress" not in client.get(f"/jobs_u/getupdate/{job}").json()
    seen = []
    for _, update in events(client, f"/jobs_u/getupdate_sse/{job}", get_progress="true"):
        if "progress" in update:
            seen.append(update["progress"])
            if update["progress"] == 40:
                client.post(set_progress, {"percent": 400})
            else:
                gate.touch()
    assert seen == [40, 99]
    assert client.get(get_progress).json() == 99
    eventually(lambda: client.post(set_progress, {"percent": 5}).status == 404, "the job lives no more")


@pytest.mark.parametrize("body", [{}, {"percent": "5"}, {"percent": True}, {"percent": 1.5}, {"percent": None}, []])
def test_no_percentage(client: Client, body: Any) -> None:
    client.deploy("u/admin/short", "def main(): pass")
    job = client.submit("u/admin/short")
    assert client.post(f"/job_metrics/set_progress/{job}", body).status == 400
    assert client.post(f"/job_metrics/set_progress/{job}", {"percent": 1, "flow_job_id": "x"}).status == 400


def test_the_progress_of_a_step(client: Client, tmp_path: Path) -> None:
    gate = tmp_path / "gate"
    deploy(client, "u/admin/steps", step("a", py(GATED, gate="flow_input.gate")))
    flow_id = client.post("/jobs/run/f/u/admin/steps", {"gate": str(gate)}).text

    def module() -> dict[str, Any]:
        found: dict[str, Any] = client.job(flow_id)["flow_status"]["modules"][0]
        return found

    eventually(lambda: module()["type"] == "InProgress", "the step runs")
    said = {"percent": 12, "flow_job_id": flow_id}
    assert client.post(f"/job_metrics/set_progress/{module()['job']}", said).status == 200
    assert module()["progress"] == 12
    gate.touch()
    assert client.ended(flow_id)["result"] == "ab"
