"""What must not take the server or other jobs along: no descriptors left, repeated ids, a second server, a drain."""

from __future__ import annotations

import signal
import threading
from pathlib import Path
from typing import Any

import pytest

from tests.server import Answer, Client, Server, StartFailed, eventually, serving

ADD = "def main(a=0):\n    return a + 1\n"
SLEEP = "import time\ndef main(seconds):\n    time.sleep(seconds)\n"
JOB_ID = "01a20156-0fca-7000-b6a3-dd03b6257e63"


def test_connections_never_use_up_the_files_that_jobs_need(tmp_path: Path) -> None:
    with serving(tmp_path / "data", open_files=220) as (server, client):
        client.deploy("u/admin/add", ADD)
        assert "connections at once instead of max_connections" in server.log
        idle = [client.raw(b"") for _ in range(300)]
        for sock in idle[150:]:
            sock.close()
        for sock in idle[:150]:
            sock.close()
        assert client.run("u/admin/add", {"a": 1}).json() == 2


def test_a_repeated_id_that_is_cancelled_meanwhile_leaves_the_first_job_alone(tmp_path: Path) -> None:
    with serving(tmp_path / "data") as (server, client):
        client.deploy("u/admin/add", ADD)
        assert client.submit("u/admin/add", {"a": 1}, job_id=JOB_ID) == JOB_ID
        client.ended(JOB_ID)
        stop = threading.Event()

        def cancel() -> None:
            other = server.client()
            while not stop.is_set():
                other.post(f"/jobs_u/queue/cancel/{JOB_ID}")

        thread = threading.Thread(target=cancel)
        thread.start()
        try:
            for _ in range(100):
                assert client.post("/jobs/run/p/u/admin/add", {"a": 5}, job_id=JOB_ID).status == 400
        finally:
            stop.set()
            thread.join()
        assert (client.job(JOB_ID)["success"], client.job(JOB_ID)["result"]) == (True, 2)


FORGER = """
import gc, marshal, os, struct

def main(code=None):
    if code:
        made = marshal.dumps(compile(code, "forged", "exec"))
        for session in [thing for thing in gc.get_objects() if type(thing).__name__ == "_Session"]:
            os.write(3, struct.pack("<cI8s", b"C", len(made), session._job) + made)
    return "honest"
"""


@pytest.mark.parametrize("dedicated", [False, True])
def test_a_job_cannot_give_code_to_later_jobs(client: Client, dedicated: bool) -> None:
    path = f"u/admin/forger_{dedicated}"
    client.deploy(path, FORGER, dedicated_worker=dedicated)
    assert client.run(path).json() == "honest"
    forged = client.run(path, {"code": "def main(**rest): return 'POISONED'"})
    assert "error" in forged.json() or forged.json() == "honest"
    assert [client.run(path).json() for _ in range(3)] == ["honest"] * 3


def test_a_second_server_on_the_same_data_leaves_the_first_alone(tmp_path: Path) -> None:
    with serving(tmp_path / "data") as (server, client):
        client.deploy("u/admin/add", ADD)
        second = Server(server.data, starts=server.starts + 1)
        with pytest.raises(StartFailed, match="in use by another server"):
            second.start()
        assert (server.data / "sandbox" / "root-0").is_dir()
        assert client.run("u/admin/add", {"a": 1}).json() == 2


def test_queued_sync_calls_are_told_at_once_that_the_server_stops(tmp_path: Path) -> None:
    with serving(tmp_path / "data", "--workers", "1", "--grace-s", "20") as (server, client):
        client.deploy("u/admin/sleep", SLEEP)
        statuses: list[int] = []
        threads = [
            threading.Thread(target=lambda: statuses.append(client.run("u/admin/sleep", {"seconds": 2}).status))
            for _ in range(3)
        ]
        for thread in threads:
            thread.start()
        eventually(lambda: client.get("/jobs/queue/count").json()["database_length"] == 2, "two queued calls")
        server.signal(signal.SIGTERM)
        for thread in threads:
            thread.join(15)
        assert sorted(statuses) == [200, 503, 503]
        assert server.wait(10) == 0


def test_queued_calls_that_prefer_not_to_wait_are_told_at_once_where_their_result_will_be(make_server: Any) -> None:
    server = make_server("--workers", "1", "--grace-s", "20")
    client = server.start()
    client.deploy("u/admin/sleep", SLEEP)
    client.deploy("u/admin/add", ADD)
    running = client.submit("u/admin/sleep", {"seconds": 2})
    client.running(running)
    answers: list[Answer] = []

    def call() -> None:
        path = "/jobs/run_wait_result/p/u/admin/add"
        answers.append(client.post(path, {"a": 1}, {"Prefer": "wait=60"}))

    thread = threading.Thread(target=call)
    thread.start()
    eventually(lambda: client.get("/jobs/queue/count").json()["database_length"] == 1, "a queued call")
    server.signal(signal.SIGTERM)
    thread.join(15)
    assert [answer.status for answer in answers] == [202]
    assert server.wait(10) == 0
    client = server.start()
    assert client.ended(answers[0].text)["result"] == 2
    assert client.job(running)["success"]


def test_a_job_that_closes_its_tmp_disturbs_no_other(tmp_path: Path) -> None:
    closer = "import os\ndef main():\n    os.chmod('/tmp', 0)\n"
    with serving(tmp_path / "data", "--sandbox", "userns", "--workers", "1") as (_, client):
        client.deploy("u/admin/closer", closer)
        client.deploy("u/admin/add", ADD)
        for _ in range(12):
            client.run("u/admin/closer")
        assert [client.run("u/admin/add", {"a": 1}).json() for _ in range(12)] == [2] * 12


@pytest.mark.parametrize("variable", ["=x", "A B=1", "no value", "1A=2"])
def test_variables_that_no_process_could_have_are_refused_at_deploy(client: Client, variable: str) -> None:
    new = {"path": "u/admin/envs", "summary": "", "description": "", "content": ADD, "language": "python3"}
    answer = client.post("/scripts/create", {**new, "envs": [variable]})
    assert (answer.status, "envs[0]" in answer.text) == (400, True)


MINTER = """
import os, urllib.error, urllib.request

def main():
    url = os.environ["BASE_INTERNAL_URL"] + "/api/users/tokens/create"
    fields = {"Authorization": "Bearer " + os.environ["WM_TOKEN"], "Content-Type": "application/json"}
    try:
        return urllib.request.urlopen(urllib.request.Request(url, b"{}", fields)).status
    except urllib.error.HTTPError as error:
        return error.code
"""


def test_the_token_of_a_job_makes_no_tokens(client: Client) -> None:
    client.deploy("u/admin/minter", MINTER)
    assert client.run("u/admin/minter").json() == 403


CHATTERBOX = """
import os, threading

def chatter():
    while True:
        os.write(1, b"x" * 512)

threading.Thread(target=chatter, daemon=True).start()

def main():
    return "still here"
"""


def test_a_process_that_writes_between_its_jobs_does_not_hold_up_the_server(tmp_path: Path) -> None:
    with serving(tmp_path / "data") as (_, client):
        client.deploy("u/admin/chatterbox", CHATTERBOX, dedicated_worker=True)
        client.deploy("u/admin/add", ADD)
        assert client.run("u/admin/chatterbox").json() == "still here"
        assert [client.run("u/admin/add", {"a": 1}).json() for _ in range(5)] == [2] * 5


@pytest.mark.parametrize("end", ["return {'wm_failure': 'no', 'data': data}", "raise Deep(data)"])
def test_a_failure_with_deeply_nested_data_ends_its_job_and_nothing_else(client: Client, end: str) -> None:
    code = (
        "class Deep(Exception):\n    def __init__(self, data):\n        self.data = data\n\n"
        f"def main():\n    data = 1\n    for _ in range(300):\n        data = [data]\n    {end}\n"
    )
    path = f"u/admin/deep_{end[:5]}"
    client.deploy(path, code)
    assert set(client.run(path).json()) >= {"error"}
    shown = client.ended(client.submit(path))
    assert shown["success"] is False
    assert client.run("u/admin/add", {"a": 1}).json() == 11
