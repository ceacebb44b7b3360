"""How jobs end from outside: cancelled while queued or running, by a caller that leaves, by limits of time."""

from __future__ import annotations

import json
import os
import socket
import struct
from collections.abc import Callable, Iterator

import pytest

from tests.server import ADMIN_TOKEN, Client, Server, descendants, eventually, named, serving, unique

#: Runs under a name that can be found from outside, together with a child of its own.
NAMED = """
import ctypes, os, time

def main(name):
    ctypes.CDLL(None).prctl(15, name.encode(), 0, 0, 0)
    if os.fork() == 0:
        os.setsid()
        time.sleep(60)
    print("started")
    time.sleep(60)
"""


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """One worker, so that a second job waits; short limits."""
    flags = ("--workers", "1", "--wait-result-timeout-s", "3")
    with serving(tmp_path_factory.mktemp("cancel") / "data", *flags) as (server, client):
        client.deploy("u/admin/named", NAMED)
        client.deploy("u/admin/limited", "import time\ndef main():\n    time.sleep(60)", timeout=1)
        client.deploy("u/admin/quick", "def main():\n    return 1")
        yield server


@pytest.fixture
def client(server: Server) -> Client:
    """A client with the admin's token."""
    return server.client()


def canceled(reason: str) -> dict[str, dict[str, str]]:
    message = f"Job canceled: {reason} by admin"
    return {"error": {"message": message, "name": "Canceled", "reason": reason, "canceler": "admin"}}


def test_a_running_and_a_queued_job(client: Client) -> None:
    running = client.submit("u/admin/named", {"name": unique("running")})
    eventually(lambda: len(named(unique("running"))) == 2, "both processes")
    queued = client.submit("u/admin/named", {"name": unique("queued")})
    for job_id, body, reason in ((queued, {}, "unexplicited reasons"), (running, {"reason": "enough"}, "enough")):
        answer = client.post(f"/jobs_u/queue/cancel/{job_id}", body)
        assert (answer.status, answer.text) == (200, job_id)
        done = client.ended(job_id)
        assert done["result"] == canceled(reason)
        assert (done["success"], done["canceled"]) == (False, True)
        assert (done["canceled_by"], done["canceled_reason"]) == ("admin", reason)
        again = client.post(f"/jobs_u/queue/cancel/{job_id}")
        assert (again.status, again.text) == (200, f"queued job id {job_id} is already completed")
    eventually(lambda: not named(unique("running")), "the end of its processes")
    assert named(unique("queued")) == []
    assert client.ended(queued)["started_at"] is None
    assert client.run("u/admin/quick").json() == 1


def test_force_cancel_and_an_id_of_nobody(client: Client) -> None:
    job_id = client.submit("u/admin/named", {"name": unique("forced")})
    assert client.post(f"/jobs_u/queue/force_cancel/{job_id}", {"reason": None}).text == job_id
    assert client.ended(job_id)["result"] == canceled("unexplicited reasons")
    nobody = "01890000-0000-7000-8000-000000000000"
    answer = client.post(f"/jobs_u/queue/force_cancel/{nobody}")
    assert (answer.status, answer.text) == (404, f"Not found: queued job id {nobody} does not exist")


def test_the_answer_to_force_cancel_comes_when_the_job_has_ended(client: Client) -> None:
    job_id = client.submit("u/admin/named", {"name": unique("now")})
    eventually(lambda: len(named(unique("now"))) == 2, "both processes")
    assert client.post(f"/jobs_u/queue/force_cancel/{job_id}", {"reason": "at once"}).text == job_id
    assert client.job(job_id)["result"] == canceled("at once")


def test_the_children_of_a_cancelled_job(client: Client) -> None:
    parent = client.submit("u/admin/named", {"name": unique("parent")})
    client.running(parent)
    children = [client.submit("u/admin/quick", parent_job=parent) for _ in range(2)]
    grandchild = client.submit("u/admin/quick", parent_job=children[0])
    other = client.submit("u/admin/quick", root_job=parent)
    assert client.post(f"/jobs_u/queue/cancel/{parent}", {"reason": "all of you"}).text == parent
    for job_id in (parent, *children, grandchild):
        assert client.ended(job_id)["result"] == canceled("all of you")
    assert client.ended(other)["result"] == 1
    listed = client.get("/jobs/list", parent_job=parent).json()
    assert {job["id"] for job in listed} == set(children)


def test_every_run_of_a_script(client: Client) -> None:
    running = client.submit("u/admin/named", {"name": unique("each")})
    client.running(running)
    queued = [client.submit("u/admin/named", {"name": unique("each")}) for _ in range(2)]
    others = [client.submit("u/admin/quick")]
    preview = {"content": "def main():\n    return 2", "language": "python3", "path": "u/admin/named"}
    others.append(client.post("/jobs/run/preview", preview).text)
    path = "/jobs_u/queue/cancel_persistent/u/admin/named"
    stranger = client.with_token("").post(path)
    assert (stranger.status, stranger.text) == (400, "Bad request: log in to cancel the runs of a script")
    answer = client.post(path, {"reason": "no more"})
    assert (answer.status, answer.body) == (200, b"")
    for job_id in (running, *queued):
        assert client.ended(job_id)["result"] == canceled("no more")
    assert [client.ended(job_id)["success"] for job_id in others] == [True, True]
    assert client.post(path).status == 200  # nothing to do


def test_a_selection_of_jobs(client: Client) -> None:
    ended = client.submit("u/admin/quick")
    client.ended(ended)
    running = client.submit("u/admin/named", {"name": unique("select")})
    client.running(running)
    queued = client.submit("u/admin/quick")
    spared = client.submit("u/admin/quick")
    nobody = "01890000-0000-7000-8000-000000000000"
    path, ids = "/jobs/queue/cancel_selection", [ended, running, nobody, queued, queued]
    admins = client.with_token(client.token, "admins")
    assert admins.post(path, ids).json() == []  # of another workspace
    answer = client.post(path, ids, force_cancel="true")
    assert (answer.status, answer.json()) == (200, [running, queued])
    for job_id in (running, queued):
        assert client.job(job_id)["result"] == canceled("cancel all")
    assert client.ended(spared)["result"] == 1
    assert client.post(path, []).json() == []
    far = client.submit("u/admin/named", {"name": unique("far")})
    assert admins.post(path, [far], all_workspaces="true").json() == [far]
    assert client.ended(far)["result"] == canceled("cancel all")


@pytest.mark.parametrize("how", ["closes", "resets", "closes its sending side"])
def test_a_caller_that_leaves_ends_its_job(client: Client, how: str) -> None:
    name = unique(f"{how[:4]}{len(how)}")
    body = json.dumps({"name": name}).encode()
    head = (
        "POST /api/w/demo/jobs/run_wait_result/p/u/admin/named HTTP/1.1\r\nHost: x\r\n"
        f"Authorization: Bearer {ADMIN_TOKEN}\r\nContent-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
    )
    connection = client.raw(head.encode() + body)
    try:
        eventually(lambda: len(named(name)) == 2, "both processes")
        job_id = client.get("/jobs/list", running="true").json()[0]["id"]
        if how == "closes its sending side":
            connection.shutdown(1)
        elif how == "resets":
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            connection.close()
        else:
            connection.close()
        done = client.ended(job_id, timeout_s=2.5)  # before the limit of the wait
        assert done["result"] == canceled("http connection broke")
        assert (done["canceled_by"], done["canceled_reason"]) == ("admin", "http connection broke")
        eventually(lambda: not named(name), "the end of its processes")
    finally:
        connection.close()


def test_a_caller_that_leaves_while_its_job_waits(client: Client) -> None:
    first = client.submit("u/admin/named", {"name": unique("first")})
    eventually(lambda: named(unique("first")), "the first job")
    head = (
        "GET /api/w/demo/jobs/run_wait_result/p/u/admin/quick HTTP/1.1\r\nHost: x\r\n"
        f"Authorization: Bearer {ADMIN_TOKEN}\r\n\r\n"
    )
    with client.raw(head.encode()):
        queued = eventually(lambda: client.get("/jobs/list", running="false").json(), "the queued job")[0]["id"]
    assert client.ended(queued, timeout_s=2.5)["result"] == canceled("http connection broke")
    client.post(f"/jobs_u/queue/cancel/{first}")
    client.ended(first)


def test_a_wait_that_is_too_long_is_a_500_and_ends_the_job(client: Client) -> None:
    answer = client.run("u/admin/named", {"name": unique("late")})
    assert (answer.status, answer.text) == (500, "timeout after 3s")
    assert answer.headers["content-type"].startswith("text/plain")
    eventually(lambda: not named(unique("late")), "the end of its processes")
    job = client.get("/jobs/list", success="false", per_page=1).json()[0]
    assert (job["canceled_by"], job["canceled_reason"]) == ("admin", "http connection broke")


def test_the_timeout_of_a_script(client: Client) -> None:
    job_id = client.submit("u/admin/limited")
    done = client.ended(job_id)
    assert done["result"] == {
        "error": {
            "message": "execution error:\njob process terminated due to timeout after exceeding job-specific duration limit",
            "name": "ExecutionErr",
        }
    }
    assert (done["success"], done["canceled"]) == (False, True)
    assert (done["canceled_by"], done["canceled_reason"]) == ("timeout", "duration > 1")
    assert 1000 <= done["duration_ms"] < 3000
    error = client.preview("import time\ndef main():\n    time.sleep(60)", timeout=1).error
    assert error["message"].endswith("job-specific duration limit")


def test_the_timeout_of_the_instance(make_server: Callable[..., Server]) -> None:
    client = make_server("--job-timeout-s", "0.5").start()
    error = client.preview("sleep 60", language="bash", timeout=50).error
    assert error["message"] == (
        "execution error:\njob process terminated due to timeout after exceeding instance-wide job duration limit"
    )
    # What it printed until then is kept.
    job_id = client.post("/jobs/run/preview", {"content": "echo on; sleep 60", "language": "bash"}).text
    client.ended(job_id)
    assert client.logs(job_id) == "--- BASH CODE EXECUTION ---\non\n"


def test_a_full_queue_refuses_with_503(make_server: Callable[..., Server]) -> None:
    client = make_server("--workers", "1", "--max-queued-jobs", "2").start()
    client.deploy("u/admin/sleep", "sleep 60", language="bash")
    running = client.submit("u/admin/sleep")
    client.running(running)
    queued = [client.submit("u/admin/sleep") for _ in range(2)]
    for answer in (client.post("/jobs/run/p/u/admin/sleep"), client.run("u/admin/sleep")):
        assert (answer.status, answer.headers["retry-after"]) == (503, "10")
        assert answer.text == "Unavailable: 2 jobs are queued, the limit is 2 (max_queued_jobs)"
    client.post(f"/jobs_u/queue/cancel/{queued[0]}")
    assert client.submit("u/admin/sleep")


def test_priority_comes_first_then_arrival(client: Client) -> None:
    blocker = client.submit("u/admin/named", {"name": unique("blocker")})
    client.running(blocker)
    client.deploy("u/admin/urgent", "def main(**x):\n    pass", priority=5)
    client.deploy("u/admin/lazy", "def main(**x):\n    pass", priority=-5)
    order = [client.submit(f"u/admin/{name}") for name in ("lazy", "quick", "urgent", "quick", "urgent")]
    client.post(f"/jobs_u/queue/cancel/{blocker}")
    started = sorted(order, key=lambda job_id: str(client.ended(job_id)["completed_at"]) + job_id)
    expected = [order[2], order[4], order[1], order[3], order[0]]
    times = [client.ended(job_id)["started_at"] for job_id in expected]
    assert times == sorted(times), started


def test_the_fork_server_has_a_session_of_its_own(server: Server) -> None:
    """Ctrl-C in a terminal goes to the whole group of the server, which then lets jobs end."""
    own = os.getsid(server.pid)
    assert all(os.getsid(pid) != own for pid in descendants(server.pid))
