"""Runs on a WebSocket that have no task of their own: a dedicated worker's process that waits is given the job at once."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tests.integration.api.test_job_websocket import Talk, talking
from tests.server import Client, eventually, serving

#: ``wait`` holds its process until another run, or nobody, writes the file.
SCRIPT = """
import os
import time

calls = 0

def main(do: str, value: object = None):
    global calls
    calls += 1
    if do == "exit":
        os._exit(3)
    if do == "fail":
        raise LookupError(f"no order {value}")
    if do == "deaf":
        os.closerange(3, 64)
        time.sleep(60)
    if do == "print":
        print("said", value)
    if do == "flood":
        print("x" * value)
    if do == "long":
        value = "x" * value
    if do == "wait":
        time.sleep(60)
    return {"value": value, "calls": calls}
"""
PATH = "u/admin/started"


@pytest.fixture(autouse=True, scope="module")
def script(server: Any) -> None:
    server.client().deploy(PATH, SCRIPT, dedicated_worker=True)


def warm_up(talk: Talk) -> None:
    """Until two processes wait for the next job."""
    for number in range(2):
        talk.send(op="run", id=f"first {number}", path=PATH, args={"do": "nothing"})
    ends(talk, 2)


def ends(talk: Talk, count: int) -> dict[Any, dict[str, Any]]:
    """The last messages of so many requests, by their ids."""
    found: dict[Any, dict[str, Any]] = {}
    while len(found) < count:
        message = talk.receive()
        if message["type"] in ("result", "error"):
            assert message["id"] not in found
            found[message["id"]] = message
    return found


def run(talk: Talk, *what: tuple[str, Any]) -> list[dict[str, Any]]:
    """All at once; their last messages in the order of the requests."""
    for number, (do, value) in enumerate(what):
        talk.send(op="run", id=number, path=PATH, args={"do": do, "value": value})
    found = ends(talk, len(what))
    return [found[number] for number in range(len(what))]


@pytest.mark.parametrize("subprotocol", ["json", "cbor"])
def test_each_answer_belongs_to_its_request(client: Client, subprotocol: str) -> None:
    with talking(client, subprotocol) as talk:
        warm_up(talk)
        told = run(talk, *(("nothing", number) for number in range(50)))
        assert [message["result"]["value"] for message in told] == list(range(50))
        assert max(message["result"]["calls"] for message in told) > 10  # in processes that stay
        job = client.ended(told[-1]["job"])
    assert job["success"] is True
    assert job["args"] == {"do": "nothing", "value": 49}
    assert client.get(f"/jobs_u/completed/get_result/{told[-1]['job']}").json()["value"] == 49


def test_ten_thousand_calls_that_overlap_get_their_own_answers(client: Client) -> None:
    """On two connections at once; every now and then one raises or ends its process, and another takes its place."""
    kinds = ["nothing"] * 199 + ["fail"] + ["nothing"] * 200 + ["exit"]
    with talking(client) as one, talking(client, "cbor") as other:
        for first in range(0, 10_000, 50):
            sent: dict[str, str] = {}
            for number in range(first, first + 50):
                talk, name = ((one, "one"), (other, "other"))[number % 2]
                sent[f"{name} {number}"] = kind = kinds[number % len(kinds)]
                talk.send(op="run", id=f"{name} {number}", path=PATH, args={"do": kind, "value": [name, number]})
            for key, message in (ends(one, 25) | ends(other, 25)).items():
                name, number = key.split()
                assert (message["type"], message["success"]) == ("result", sent[key] == "nothing")
                if message["success"]:
                    assert message["result"]["value"] == [name, int(number)]
                elif sent[key] == "fail":
                    assert message["result"]["error"]["message"] == f"no order {[name, int(number)]}"


def test_large_arguments_and_results(client: Client) -> None:
    text = "x" * 400_000
    with talking(client) as talk:
        warm_up(talk)
        told = run(talk, ("nothing", text), ("long", len(text)), ("nothing", 1))
    assert [message["result"]["value"] for message in told] == [text, text, 1]


@pytest.mark.parametrize(
    ("do", "text"), [("exit", "exit code"), ("fail", "no order"), ("deaf", "ended by signal 9"), ("flood", "log above")]
)
def test_one_that_fails_takes_nobody_along(client: Client, do: str, text: str) -> None:
    with talking(client) as talk:
        warm_up(talk)
        told = run(talk, (do, 50_000_000), ("nothing", 1), ("nothing", 2))
        assert told[0]["success"] is False
        assert text in told[0]["result"]["error"]["message"]
        assert [message["result"]["value"] for message in told[1:]] == [1, 2]
        assert run(talk, ("nothing", 3), ("nothing", 4))[1]["result"]["value"] == 4


def test_what_it_writes_is_its_log(client: Client) -> None:
    with talking(client) as talk:
        warm_up(talk)
        told = run(talk, ("print", 1), ("print", 2))
    for number, message in enumerate(told):
        assert f"said {number + 1}\n" in client.logs(message["job"])


def test_one_that_is_cancelled(client: Client) -> None:
    with talking(client) as talk:
        warm_up(talk)
        talk.send(op="run", id="wait", path=PATH, args={"do": "wait"})
        talk.send(op="run", id="other", path=PATH, args={"do": "nothing"})
        jobs: dict[str, str] = {}
        while len(jobs) < 2:
            message = talk.receive()
            jobs[message["id"]] = message["job"]
        talk.send(op="cancel", id="cancel", job=jobs["wait"], reason="enough")
        while (message := talk.receive())["id"] != "wait":
            pass
        assert "enough" in message["result"]["error"]["message"]
    assert client.job(jobs["wait"])["canceled_reason"] == "enough"


def test_who_leaves_takes_them_along(client: Client) -> None:
    with talking(client) as talk:
        warm_up(talk)
        for number in range(2):
            talk.send(op="run", id=number, path=PATH, args={"do": "wait"})
        jobs = [talk.receive()["job"] for _ in range(2)]
    for job_id in jobs:
        assert client.ended(job_id)["canceled_reason"] == "http connection broke"


def test_limits_of_time(tmp_path: Path) -> None:
    with serving(tmp_path / "data", "--job-timeout-s=1") as (_, client):
        client.deploy(PATH, SCRIPT, dedicated_worker=True)
        with talking(client) as talk:
            warm_up(talk)
            told = run(talk, ("wait", 1), ("nothing", 1), ("wait", 2))
        assert ["timeout" in str(message["result"]) for message in told] == [True, False, True]


def test_a_server_that_stops_ends_them(tmp_path: Path) -> None:
    with serving(tmp_path / "data", "--grace-s=0.5") as (server, client):
        client.deploy(PATH, SCRIPT, dedicated_worker=True)
        with talking(client) as talk:
            warm_up(talk)
            for number in range(2):
                talk.send(op="run", id=number, path=PATH, args={"do": "wait"})
            jobs = [talk.receive()["job"] for _ in range(2)]
            server.signal(15)
            assert talk.closed()[0] == 1001
        assert server.wait() == 0
    with serving(tmp_path / "data") as (_, client):
        for job_id in jobs:
            assert client.job(job_id)["canceled"] is True
        eventually(lambda: client.get("/jobs/queue/count").json()["database_length"] == 0, "no job to run again")
