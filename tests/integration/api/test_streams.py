"""Streams of events as the contract has them: order and shape of events, parameters, errors; read with httpx-sse."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest

from tests.server import Client, Server, eventually
from tests.sse import Reader
from tests.streaming import Record, connected, follow

TELL = """
import time

def main(words=("one", "two", "three"), pause_s=0.0):
    for word in words:
        print("log of", word)
        yield word
        time.sleep(pause_s)
"""
ASYNC_TELL = TELL.replace("import time", "import asyncio").replace("def main", "async def main")
ASYNC_TELL = ASYNC_TELL.replace("time.sleep", "await asyncio.sleep")
BASH_TELL = 'for word in one two three; do\n  echo "log of $word"\n  echo "WM_STREAM: $word"\ndone\necho last\n'
OBJECT = "def main():\n    print('WM_STREAM: a\\\\nb')\n    return {'x': 1}\n"
NUMBER = "def main():\n    print('WM_STREAM: dropped')\n    return 7\n"
FAILS = "def main():\n    yield 'before'\n    raise ValueError('no')\n"
ID = re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-7[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}:\d+:\d+:[qre]")


@pytest.fixture(autouse=True, scope="module")
def scripts(server: Server) -> None:
    client = server.client()
    client.deploy("u/admin/tell", TELL)
    client.deploy("u/admin/async_tell", ASYNC_TELL)
    client.deploy("u/admin/bash_tell", BASH_TELL, "bash")
    client.deploy("u/admin/object", OBJECT)
    client.deploy("u/admin/number", NUMBER)
    client.deploy("u/admin/fails", FAILS)


def streamed(updates: list[dict[str, Any]]) -> str:
    return "".join(update.get("new_result_stream", "") for update in updates)


@pytest.mark.parametrize(
    ("path", "stream", "result"),
    [
        ("tell", "onetwothree", "onetwothree"),
        ("async_tell", "onetwothree", "onetwothree"),
        ("bash_tell", "onetwothree", "last"),
        ("object", "a\nb", {"x": 1, "wm_stream": "a\nb"}),
        ("number", "dropped", 7),
        ("add", "", {"error": {}}),
    ],
)
@pytest.mark.parametrize("method", ["GET", "POST"])
def test_run_and_stream(client: Client, method: str, path: str, stream: str, result: Any) -> None:
    data: dict[str, Any] | None = {} if method == "POST" else None
    first, *middle, last = follow(client, f"/jobs/run_and_stream/p/u/admin/{path}", method=method, data=data)
    assert first == {"type": "update"}
    count = 0
    for update in middle:
        assert list(update) == ["type", "new_result_stream", "stream_offset"]
        assert update["stream_offset"] > count
        count = update["stream_offset"]
    assert streamed(middle) == stream
    assert list(last) == ["type", "completed", "only_result"]
    assert last["completed"] is True
    if path == "add":  # a failed job is no error of the request
        assert last["only_result"]["error"]["name"] == "TypeError"
    else:
        assert last["only_result"] == result


def test_a_stream_that_ends_with_an_exception(client: Client) -> None:
    *_, chunk, last = follow(client, "/jobs/run_and_stream/p/u/admin/fails")
    assert chunk["new_result_stream"] == "before"
    assert last["only_result"]["error"]["message"] == "no"


def test_arguments_and_version(client: Client) -> None:
    script_hash = client.deploy("u/admin/tell", TELL)
    updates = follow(client, f"/jobs/run_and_stream/h/{script_hash}", method="POST", data={"words": ["a", "b"]})
    assert updates[-1]["only_result"] == "ab"
    updates = follow(client, f"/jobs/run_and_stream/h/{script_hash}", payload="eyJ3b3JkcyI6IFsieCJdfQ==")
    assert updates[-1]["only_result"] == "x"


def test_each_chunk_is_an_event_when_it_is_written(client: Client) -> None:
    data = {"words": ["a", "b", "c"], "pause_s": 0.3}
    updates = follow(client, "/jobs/run_and_stream/p/u/admin/tell", method="POST", data=data)
    assert [update.get("new_result_stream") for update in updates] == [None, "a", "b", "c", None]


def test_what_goes_over_the_wire(client: Client) -> None:
    answer = client.post("/jobs/run_and_stream/p/u/admin/tell", {"words": []})
    assert answer.status == 200
    assert answer.headers["content-type"] == "text/event-stream"
    assert answer.headers["cache-control"] == "no-store"
    assert answer.headers["x-accel-buffering"] == "no"
    assert answer.headers["access-control-allow-origin"] == "*"
    reader = Reader()
    events = reader.feed(answer.body)
    assert [json.loads(event.data).get("completed") for event in events] == [None, True]
    assert all(ID.fullmatch(event.id) for event in events)
    assert reader.retry_ms == 1000
    assert answer.body.count(b"data: ") == 2


def test_the_job_is_an_async_one(client: Client) -> None:
    with connected(client, "/jobs/run_and_stream/p/u/admin/sleep", method="POST", data={"seconds": 0.3}) as source:
        event = next(source.iter_sse())
    job_id = event.id.partition(":")[0]
    # The stream is gone; the job goes on.
    assert client.ended(job_id)["result"] == "slept"


def test_a_stream_that_is_left_ends_on_the_server(client: Client) -> None:
    job_id = client.submit("u/admin/sleep", {"seconds": 60})
    with connected(client, f"/jobs_u/getupdate_sse/{job_id}") as source:
        events = source.iter_sse()
        next(events)
        _, port = source.response.extensions["network_stream"].get_extra_info("client_addr")
        assert is_held(port)
    # Long before the next heartbeat.
    eventually(lambda: not is_held(port), "the end of the connection", timeout_s=5)
    assert client.job(job_id)["running"] is True
    client.post(f"/jobs_u/queue/cancel/{job_id}")


def is_held(port: int) -> bool:
    """Whether some process has a TCP connection with a peer at this port: established, or closed by the peer alone."""
    rows = [line.split() for line in Path("/proc/net/tcp").read_text().splitlines()[1:]]
    return any(int(row[2].split(":")[1], 16) == port and row[3] in ("01", "08") for row in rows)


# --- following ----------------------------------------------------------------------------------------------------------


def test_following_a_job_with_its_log(client: Client) -> None:
    job_id = client.submit("u/admin/tell", {"pause_s": 0.1})
    updates = follow(client, f"/jobs_u/getupdate_sse/{job_id}", running="false")
    assert updates[0] == {"type": "update"}
    log = "".join(update.get("new_logs", "") for update in updates)
    assert log == client.logs(job_id)
    assert log.endswith("log of one\nlog of two\nlog of three\n")
    assert "WM_STREAM" not in log
    assert streamed(updates) == "onetwothree"
    assert [update["running"] for update in updates if "running" in update] == [True, False]
    log_offsets = [update["log_offset"] for update in updates if "log_offset" in update]
    assert log_offsets == sorted(set(log_offsets))
    assert log_offsets[-1] == len(log) + 1
    last = updates[-1]
    assert list(last) == ["type", "running", "completed", "job"]
    assert last["job"]["type"] == "CompletedJob"
    assert last["job"]["result"] == "onetwothree"
    assert not {"logs", "raw_code"} & last["job"].keys()
    assert not any("completed" in update for update in updates[:-1])


def test_an_ended_job_is_told_from_its_beginning(client: Client) -> None:
    job_id = client.submit("u/admin/tell")
    client.ended(job_id)
    first, *told, last = follow(client, f"/jobs_u/getupdate_sse/{job_id}")
    assert first == {"type": "update"}
    assert "".join(update.get("new_logs", "") for update in told) == client.logs(job_id)
    assert streamed(told) == "onetwothree"
    assert last["completed"] is True


@pytest.mark.parametrize(
    ("query", "members"),
    [
        ({"no_logs": "true"}, {"new_result_stream", "stream_offset"}),
        ({"only_result": "true"}, {"new_result_stream", "stream_offset"}),
        ({"stream_offset": 3}, {"new_logs", "log_offset"}),
        ({"stream_offset": 300, "log_offset": 1000}, set()),
        ({"fast": "true", "poll_delay_ms": 100, "is_flow": "false", "get_progress": "true"},
         {"new_logs", "log_offset", "new_result_stream", "stream_offset"}),
    ],
)  # fmt: skip
def test_what_is_asked_for(client: Client, query: dict[str, Any], members: set[str]) -> None:
    job_id = client.submit("u/admin/tell")
    client.ended(job_id)
    _, *told, last = follow(client, f"/jobs_u/getupdate_sse/{job_id}", **query)
    assert {name for update in told for name in update} - {"type"} == members
    assert ("only_result" in last, "job" in last) == (("only_result" in query), ("only_result" not in query))


def test_a_queued_job_is_waited_for(client: Client) -> None:
    job_id = client.submit("u/admin/tell", scheduled_in_secs=1)
    updates = follow(client, f"/jobs_u/getupdate_sse/{job_id}", only_result="true", running="false")
    assert updates[0] == {"type": "update"}
    assert [update["running"] for update in updates if "running" in update] == [False, True, False]
    assert updates[-1]["only_result"] == "onetwothree"


def test_a_job_that_is_cancelled_while_it_is_followed(client: Client) -> None:
    job_id = client.submit("u/admin/sleep", {"seconds": 60})
    with connected(client, f"/jobs_u/getupdate_sse/{job_id}", only_result="true") as source:
        events = source.iter_sse()
        next(events)
        client.post(f"/jobs_u/queue/cancel/{job_id}", {"reason": "enough"})
        last = json.loads(next(events).data)
    assert last["only_result"]["error"]["reason"] == "enough"


def test_a_result_with_line_ends_is_one_line(client: Client) -> None:
    client.deploy("u/admin/pretty", "printf '{\\n\\r \"a\": [\\n1]\\r\\n}\\n' > result.json", "bash")
    answer = client.post("/jobs/run_and_stream/p/u/admin/pretty")
    lines = [line for line in answer.body.split(b"\n") if b'"a"' in line]
    assert lines == [b'data: {"type":"update","completed":true,"only_result":{   "a": [ 1] }}']
    assert json.loads(Reader().feed(answer.body)[-1].data)["only_result"] == {"a": [1]}


# --- coming back --------------------------------------------------------------------------------------------------------


def test_a_repeated_call_continues_its_job(client: Client) -> None:
    before = jobs_of(client, "u/admin/tell")
    record = Record(client, "/jobs/run_and_stream/p/u/admin/tell", {"method": "POST", "data": {"pause_s": 0.2}})
    assert record.read(events=2)
    while not record.has_ended:
        assert record.read(events=1)
    assert record.stream == "onetwothree"
    assert record.last["only_result"] == "onetwothree"
    assert [update for update in record.updates if update == {"type": "update"}] == [{"type": "update"}]
    assert jobs_of(client, "u/admin/tell") == before + 1
    answer = client.get("/jobs/run_and_stream/p/u/admin/tell", headers={"Last-Event-ID": record.last_id})
    assert (answer.status, answer.body) == (204, b"")
    assert jobs_of(client, "u/admin/tell") == before + 1


def test_a_run_of_a_version_is_continued_by_its_hash(client: Client) -> None:
    script_hash = client.deploy("u/admin/tell", TELL)
    record = Record(client, f"/jobs/run_and_stream/h/{script_hash}", {"method": "POST", "data": {"pause_s": 0.1}})
    assert record.read(events=2)
    record.read_to_end(connections=1)
    assert record.stream == "onetwothree"


def jobs_of(client: Client, path: str) -> int:
    return len(client.get("/jobs/list", script_path_exact=path).json())


def test_a_running_job_is_announced_once(client: Client) -> None:
    job_id = client.submit("u/admin/tell", {"pause_s": 0.2})
    record = Record(client, f"/jobs_u/getupdate_sse/{job_id}", {"running": "false"})
    while not record.has_ended:
        assert record.read(events=1)
    assert [update["running"] for update in record.updates if "running" in update] == [True, False]
    assert record.logs == client.logs(job_id)


@pytest.mark.parametrize(
    ("path", "last_id", "status", "text"),
    [
        ("/jobs/run_and_stream/p/u/admin/tell", "17", 400, "Last-Event-ID: send the id of an event of this stream"),
        ("/jobs/run_and_stream/p/u/admin/tell", "{unknown}:0:0:q", 404, "Not found: Job {unknown} not found"),
        ("/jobs/run_and_stream/p/u/admin/add", "{job}:0:0:q", 400, "Last-Event-ID: it is of a job of another script"),
        ("/jobs/run_and_stream/h/0123456789abcdef", "{job}:0:0:q", 400, "Last-Event-ID: it is of a job of another"),
        ("/jobs_u/getupdate_sse/{other}", "{job}:0:0:q", 400, "Last-Event-ID: it is of another job"),
        ("/jobs_u/getupdate_sse/{job}", "x", 400, "Last-Event-ID: send the id"),
    ],
)
def test_forged_ids(client: Client, path: str, last_id: str, status: int, text: str) -> None:
    job_id = client.submit("u/admin/tell")
    known = {"job": job_id, "other": client.submit("u/admin/add"), "unknown": "01a20156-0fca-7000-b6a3-dd03b6257e63"}
    before = len(client.get("/jobs/list").json())
    answer = client.get(path.format(**known), headers={"Last-Event-ID": last_id.format(**known)})
    assert answer.status == status, answer.text
    assert text.format(**known) in answer.text
    assert len(client.get("/jobs/list").json()) == before


def test_a_job_of_another_workspace_is_unknown(client: Client) -> None:
    job_id = client.submit("u/admin/tell")
    elsewhere = client.with_token(client.token, "admins")
    elsewhere.deploy("u/admin/tell", TELL)
    for path in (f"/jobs_u/getupdate_sse/{job_id}", f"/jobs_u/getupdate/{job_id}"):
        assert elsewhere.get(path).status == 404
    answer = elsewhere.get("/jobs/run_and_stream/p/u/admin/tell", headers={"Last-Event-ID": f"{job_id}:0:0:q"})
    assert answer.status == 404


# --- polling ------------------------------------------------------------------------------------------------------------


def test_polling(client: Client) -> None:
    job_id = client.submit("u/admin/tell", scheduled_in_secs=1)
    assert client.get(f"/jobs_u/getupdate/{job_id}", running="false").json() == {
        "completed": False,
        "log_offset": 1,
        "stream_offset": 0,
    }
    client.ended(job_id)
    log = client.logs(job_id)
    everything = {
        "running": False,
        "completed": True,
        "new_logs": log,
        "new_result_stream": "onetwothree",
        "log_offset": len(log) + 1,
        "stream_offset": 3,
    }
    assert client.get(f"/jobs_u/getupdate/{job_id}").json() == everything
    assert client.get(f"/jobs_u/getupdate/{job_id}", log_offset=1, stream_offset=0).json() == everything
    some = client.get(f"/jobs_u/getupdate/{job_id}", log_offset=11, stream_offset=1).json()
    assert some == {**everything, "new_logs": log[10:], "new_result_stream": "twothree"}
    nothing = client.get(f"/jobs_u/getupdate/{job_id}", log_offset=len(log) + 1, stream_offset=3).json()
    assert nothing == {"running": False, "completed": True, "log_offset": len(log) + 1, "stream_offset": 3}
    only = client.get(f"/jobs_u/getupdate/{job_id}", only_result="true", stream_offset=3).json()
    assert only == {"completed": True, "stream_offset": 3, "only_result": "onetwothree"}


def test_polling_a_running_job_as_the_command_line_client_does(client: Client) -> None:
    client.deploy(
        "u/admin/chatty",
        "import time\n\ndef main():\n    for n in range(5):\n        print('é😀', n)\n        time.sleep(0.1)\n",
    )
    job_id = client.submit("u/admin/chatty")
    text, offset, running, seen = "", 0, False, False
    while True:
        update = client.get(f"/jobs_u/getupdate/{job_id}", running=str(running).lower(), log_offset=offset).json()
        running = running or update.get("running") is True
        seen = seen or running
        text += update.get("new_logs", "")
        offset = update["log_offset"]
        if update["completed"]:
            break
    assert seen
    assert text == client.logs(job_id)


def test_a_null_result_is_told(client: Client) -> None:
    client.deploy("u/admin/null", "def main():\n    pass\n")
    assert follow(client, "/jobs/run_and_stream/p/u/admin/null")[-1] == {
        "type": "update",
        "completed": True,
        "only_result": None,
    }


# --- errors, and what may not happen ------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["getupdate", "getupdate_sse"])
@pytest.mark.parametrize(
    ("query", "text"),
    [
        ({"log_offset": -1}, "log_offset"),
        ({"stream_offset": "x"}, "stream_offset"),
        ({"only_result": "1"}, "only_result"),
        ({"running": "yes"}, "running"),
    ],
)
def test_bad_parameters(client: Client, kind: str, query: dict[str, Any], text: str) -> None:
    answer = client.get(f"/jobs_u/{kind}/01a20156-0fca-7000-b6a3-dd03b6257e63", **query)
    assert (answer.status, answer.text.split(":")[1].strip()) == (400, text)


@pytest.mark.parametrize("kind", ["getupdate", "getupdate_sse"])
def test_jobs_that_may_not_be_seen(client: Client, kind: str) -> None:
    unknown = "01a20156-0fca-7000-b6a3-dd03b6257e63"
    answer = client.get(f"/jobs_u/{kind}/{unknown}")
    assert (answer.status, answer.text) == (404, f"Not found: Job {unknown} not found")
    assert client.get(f"/jobs_u/{kind}/{unknown[:-1]}").status == 400
    job_id = client.submit("u/admin/tell")
    anonymous = client.with_token("")
    answer = anonymous.get(f"/jobs_u/{kind}/{job_id}")
    assert (answer.status, "non logged in" in answer.text) == (400, True)
    view_token = client.get(f"/jobs/job_view_token/{job_id}").text
    assert anonymous.get(f"/jobs_u/{kind}/{job_id}", view_token=view_token).status == 200


def test_errors_before_the_stream(client: Client) -> None:
    run = "/jobs/run_and_stream/p/u/admin"
    assert client.with_token("").get(f"{run}/tell").status == 401
    assert client.get(f"{run}/nobody").status == 404
    assert client.get(f"{run}/tell", payload="%").status == 400
    assert client.call("POST", f"{run}/tell", b"{", {"Content-Type": "application/json"}).status == 400
    assert client.get("/jobs/run_and_stream/h/xyz").status == 400
    assert client.call("PUT", f"{run}/tell").headers["allow"] == "GET, HEAD, OPTIONS, POST"


def test_head_runs_nothing(client: Client) -> None:
    before = jobs_of(client, "u/admin/tell")
    for path in ("p/u/admin/tell", "p/u/admin/nobody", "h/0123456789abcdef"):
        answer = client.call("HEAD", f"/jobs/run_and_stream/{path}")
        assert (answer.status, answer.body) == (200, b"")
    assert client.with_token("").call("HEAD", "/jobs/run_and_stream/p/u/admin/tell").status == 401
    assert jobs_of(client, "u/admin/tell") == before


def test_a_wiped_job_shows_nothing_of_its_stream(client: Client) -> None:
    client.deploy("u/admin/wiped", "def main():\n    yield 'hush'\n", delete_after_use=True)
    job_id = "01a20156-0fca-7000-b6a3-dd03b6257e99"
    assert client.run("u/admin/wiped", job_id=job_id).json() == "hush"
    update = client.get(f"/jobs_u/getupdate/{job_id}").json()
    assert "new_result_stream" not in update
    assert b"hush" not in client.get(f"/jobs_u/getupdate_sse/{job_id}").body
