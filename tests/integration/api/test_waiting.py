"""Waiting for results: Server-Timing, Prefer, queue limits, kept results, leaving."""

from __future__ import annotations

import re
import socket
from typing import Any

import pytest

from tests.server import Client, eventually

ECHO = "/jobs/run_wait_result/p/u/admin/echo"
SLEEP = "/jobs/run_wait_result/p/u/admin/sleep"
TIMING = re.compile(r"queue;dur=(\d+\.\d\d), start;dur=(\d+\.\d\d), run;dur=(\d+\.\d\d)")


def test_every_result_says_where_the_time_went(client: Client) -> None:
    answer = client.post(SLEEP, {"seconds": 0.2})
    found = TIMING.fullmatch(answer.headers["server-timing"])
    assert found
    assert float(found[3]) >= 200
    failed = client.preview("def main():\n    raise ValueError")
    assert TIMING.fullmatch(failed.headers["server-timing"])
    unfit = client.preview("def main():\n    return {'wm_status_code': 99}")
    assert (unfit.status, unfit.text) == (500, "Invalid status code")
    assert TIMING.fullmatch(unfit.headers["server-timing"])


def test_a_job_that_ends_in_time_is_answered_with_its_result(client: Client) -> None:
    answer = client.post(ECHO, {"a": 1}, {"Prefer": "wait=20"})
    assert (answer.status, answer.json(), answer.headers["preference-applied"]) == (200, {"a": 1}, "wait=20")
    assert TIMING.fullmatch(answer.headers["server-timing"])
    assert "location" not in answer.headers


@pytest.mark.parametrize("prefer", ["wait=0", "respond-async", "respond-async, wait=0"])
def test_a_job_that_takes_longer_goes_on_elsewhere(client: Client, prefer: str) -> None:
    job_id = "01890000-0000-7000-8000-" + f"{abs(hash(prefer)):012x}"[-12:]
    answer = client.post(SLEEP, {"seconds": 0.3}, {"Prefer": prefer}, job_id=job_id)
    assert (answer.status, answer.text) == (202, job_id)
    assert answer.headers["preference-applied"] == ("respond-async" if prefer == "respond-async" else "wait=0")
    assert answer.headers["location"] == f"/api/w/demo/jobs_u/completed/get_result/{job_id}"
    assert answer.headers["server-timing"].startswith("queue;dur=")
    result = eventually(
        lambda: client.get(answer.headers["location"]) if client.job(job_id)["type"] == "CompletedJob" else None,
        "the result",
    )
    assert result is not None
    assert (result.status, result.json()) == (200, "slept")


def test_a_job_that_was_left_behind_survives_a_crash(make_server: Any) -> None:
    server = make_server("--workers", "1")
    client = server.start()
    client.deploy("u/admin/sleep", "import time\n\ndef main(seconds):\n    time.sleep(seconds)\n    return 'slept'")
    answer = client.post(SLEEP, {"seconds": 0.5}, {"Prefer": "respond-async"})
    assert answer.status == 202
    server.kill()
    client = server.start()
    assert client.ended(answer.text)["result"] == "slept"


def test_bad_input_is_told_before_anything_is_queued(client: Client) -> None:
    assert client.call("POST", ECHO, b"{", {"Prefer": "wait=1", "Content-Type": "application/json"}).status == 400


def test_a_caller_that_leaves_while_it_waits_takes_its_job_along(client: Client) -> None:
    job_id = "01890000-0000-7000-8000-0000000000aa"
    request = (
        f"POST /api/w/demo{SLEEP[0:]}?job_id={job_id} HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {client.token}\r\n"
        "Prefer: wait=50\r\nContent-Type: application/json\r\nContent-Length: 2\r\n\r\n{}"
    )
    connection = client.raw(request.encode())
    eventually(lambda: client.get(f"/jobs_u/get/{job_id}").status == 200, "the job")
    connection.shutdown(socket.SHUT_WR)
    connection.close()
    done = client.ended(job_id)
    assert (done["canceled"], done["canceled_reason"]) == (True, "http connection broke")


def test_a_caller_that_left_before_its_job_was_stored_takes_it_along(client: Client) -> None:
    for number in range(5):
        job_id = f"01890000-0000-7000-8000-0000000000b{number}"
        request = (
            f"POST /api/w/demo{SLEEP}?job_id={job_id} HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {client.token}\r\n"
            "Prefer: wait=50\r\nContent-Type: application/json\r\nContent-Length: 2\r\n\r\n{}"
        )
        connection = client.raw(request.encode())
        connection.shutdown(socket.SHUT_WR)
        eventually(lambda job_id=job_id: client.get(f"/jobs_u/get/{job_id}").status == 200, "the job")  # type: ignore[misc]
        done = client.ended(job_id)
        assert (done["canceled"], done["canceled_reason"]) == (True, "http connection broke")
        connection.close()


def test_a_sync_call_that_would_wait_behind_too_many_is_refused(make_server: Any) -> None:
    client = make_server("--workers", "1").start()
    client.deploy("u/admin/sleep", "import time\n\ndef main(seconds=60):\n    time.sleep(seconds)")
    client.deploy("u/admin/echo", "def main(**rest):\n    return rest")
    version = client.get("/scripts/get/p/u/admin/echo").json()["hash"]
    first = client.submit("u/admin/sleep")
    client.running(first)
    client.submit("u/admin/sleep", scheduled_in_secs=3600)  # not due, not counted
    waiting = client.submit("u/admin/sleep")
    for path in (ECHO, f"/jobs/run_wait_result/h/{version}"):
        refused = client.post(path, {}, queue_limit=1)
        assert (refused.status, refused.headers["retry-after"]) == (500, "1")
        assert refused.text.startswith("Internal: Number of queued job is too high: 2 > 1")
    assert client.post("/jobs/run/p/u/admin/echo", {}, queue_limit=1).status == 201
    for job_id in (first, waiting):
        client.post(f"/jobs_u/queue/cancel/{job_id}")
    assert client.post(ECHO, {"a": 1}, queue_limit=5).json() == {"a": 1}


def test_the_instance_may_set_the_queue_limit(make_server: Any) -> None:
    client = make_server(environment={"QUEUE_LIMIT_WAIT_RESULT": "0"}).start()
    client.deploy("u/admin/echo", "def main(**rest):\n    return rest")
    client.deploy("u/admin/sleep", "import time\n\ndef main():\n    time.sleep(60)")
    assert client.post(ECHO, {}).status == 200
    client.running(client.submit("u/admin/sleep"))
    assert client.post(ECHO, {}, queue_limit=100).text.startswith("Internal: Number of queued job is too high: 1 > 0")


def test_timeout_wait_result(make_server: Any) -> None:
    client = make_server(environment={"TIMEOUT_WAIT_RESULT": "0.3"}).start()
    client.deploy("u/admin/sleep", "import time\n\ndef main():\n    time.sleep(60)")
    answer = client.post(SLEEP, {}, job_id="01890000-0000-7000-8000-0000000000ab")
    assert (answer.status, answer.text) == (500, "timeout after 0.3s")
    done = client.ended("01890000-0000-7000-8000-0000000000ab")
    assert (done["canceled"], done["canceled_reason"]) == (True, "http connection broke")


CLOCK = "import time\n\ndef main(a=0, fails=False):\n    if fails:\n        raise ValueError\n    return time.time_ns()"


def test_equal_runs_within_cache_ttl_have_one_result(client: Client) -> None:
    client.deploy("u/admin/kept", CLOCK, cache_ttl=600)
    first = client.run("u/admin/kept", {"a": 1, "fails": False}).json()
    assert client.run("u/admin/kept", {"fails": False, "a": 1}).json() == first
    job_id = client.submit("u/admin/kept", {"a": 1, "fails": False})
    done = client.ended(job_id)
    assert (done["result"], done["success"]) == (first, True)
    assert client.run("u/admin/kept", {"a": 2}).json() != first
    client.run("u/admin/kept", {"fails": True})
    assert client.run("u/admin/kept", {"fails": True}).error["name"] == "ValueError"
    client.deploy("u/admin/kept", CLOCK + "  # a new version", cache_ttl=600)
    assert client.run("u/admin/kept", {"a": 1, "fails": False}).json() != first


def test_cache_ttl_of_a_run_counts_by_hash_only(client: Client) -> None:
    version = client.deploy("u/admin/not_kept", CLOCK)
    by_hash = f"/jobs/run_wait_result/h/{version}"
    first = client.post(by_hash, {"a": 1}, cache_ttl=600).json()
    assert client.post(by_hash, {"a": 1}, cache_ttl=600).json() == first
    assert client.post(by_hash, {"a": 1}).json() != first
    assert client.run("u/admin/not_kept", {"a": 1}, cache_ttl=600).json() != first
    kept = client.deploy("u/admin/not_kept", CLOCK + "  # kept", cache_ttl=600)
    assert client.run("u/admin/not_kept").json() == client.run("u/admin/not_kept").json()
    by_hash = f"/jobs/run_wait_result/h/{kept}"
    assert client.post(by_hash, cache_ttl=0).json() != client.post(by_hash, cache_ttl=0).json()


def test_a_scheduled_job_waits_for_its_time(client: Client) -> None:
    job_id = client.submit("u/admin/echo", scheduled_for="2099-01-01T00:00:00Z", scheduled_in_secs=0)
    shown = client.job(job_id)
    assert (shown["running"], shown["scheduled_for"]) == (False, "2099-01-01T00:00:00.000000Z")
    soon = client.submit("u/admin/echo", {"a": 1}, scheduled_in_secs=1)
    assert client.job(soon)["type"] == "QueuedJob"
    assert client.ended(soon)["result"] == {"a": 1}
    client.post(f"/jobs_u/queue/cancel/{job_id}")


def test_what_a_run_was_given_is_shown(client: Client) -> None:
    root = "01890000-0000-7000-8000-000000000001"
    job_id = client.submit("u/admin/echo", root_job=root, tag="special", invisible_to_owner="true")
    done = client.ended(job_id)
    assert (done["tag"], done["visible_to_owner"], done["priority"]) == ("special", False, 2)
    again = client.post("/jobs/run/p/u/admin/echo", {}, job_id=job_id)
    assert (again.status, again.text.startswith("Bad request: a job with id")) == (400, True)


# --- deletion after use -----------------------------------------------------------------------------------------------

SECRET = "def main(secret):\n    print('seen', secret)\n    return {'secret': secret}"
RESULT = {"secret": "s3cr3t"}


def wiped(client: Client, job_id: str) -> None:
    shown = client.job(job_id)
    assert (shown["args"], shown["result"], shown["logs"]) == ({}, {}, "##DELETED##")
    assert client.get(f"/jobs_u/completed/get_result/{job_id}").json() == {}
    assert "s3cr3t" not in client.logs(job_id)


def runs(client: Client, number: int) -> tuple[str, dict[str, str]]:
    return f"01890000-0000-7000-8000-0000000001{number:02d}", RESULT


@pytest.mark.parametrize(
    ("number", "settings"),
    [
        (1, {"delete_after_use": True}),
        (2, {"delete_after_secs": 0}),
        (3, {"delete_after_use": False, "delete_after_secs": 0}),
    ],
)
def test_what_was_used_is_gone_when_the_answer_is_there(client: Client, number: int, settings: dict[str, Any]) -> None:
    version = client.deploy("u/admin/used", SECRET, **settings)
    job_id, data = runs(client, number)
    assert client.run("u/admin/used", data, job_id=job_id).json() == RESULT
    wiped(client, job_id)
    job_id, data = runs(client, number + 10)
    assert client.post(f"/jobs/run_wait_result/h/{version}", data, job_id=job_id).json() == RESULT
    wiped(client, job_id)
    job_id, data = runs(client, number + 20)
    answer = client.post("/jobs/run_wait_result/p/u/admin/used", data, {"Prefer": "wait=20"}, job_id=job_id)
    assert answer.json() == RESULT
    wiped(client, job_id)
    # From the disk, too, and nothing of it is in the file.
    eventually(lambda: client.get("/jobs/list", script_path_exact="u/admin/used", success="true").json(), "the rows")
    wiped(client, job_id)


@pytest.mark.parametrize(
    "settings", [{}, {"delete_after_secs": -1}, {"delete_after_use": True, "delete_after_secs": -5}]
)
def test_what_is_not_to_be_deleted_stays(client: Client, settings: dict[str, Any]) -> None:
    client.deploy("u/admin/stays", SECRET, **settings)
    job_id = client.submit("u/admin/stays", RESULT)
    client.ended(job_id)
    answer = client.run("u/admin/stays", RESULT)
    assert answer.json() == RESULT
    newest = client.get("/jobs/list", script_path_exact="u/admin/stays", include_args="true").json()
    assert [job["args"] for job in newest[:2]] == [RESULT, RESULT]


def test_async_runs_keep_their_result_and_so_do_those_that_were_left_behind(client: Client) -> None:
    client.deploy("u/admin/used", SECRET, delete_after_use=True)
    job_id = client.submit("u/admin/used", RESULT)
    assert client.ended(job_id)["result"] == RESULT
    left = client.post("/jobs/run_wait_result/p/u/admin/used", RESULT, {"Prefer": "respond-async"})
    assert left.status == 202
    assert client.ended(left.text)["result"] == RESULT


def test_deletion_some_seconds_later(client: Client) -> None:
    client.deploy("u/admin/later", SECRET, delete_after_secs=1)
    job_id, data = runs(client, 50)
    assert client.run("u/admin/later", data, job_id=job_id).json() == RESULT
    assert client.job(job_id)["result"] == RESULT
    eventually(lambda: client.job(job_id)["result"] == {}, "the deletion")
    wiped(client, job_id)


def test_failures_are_deleted_and_nothing_is_kept_for_equal_runs(client: Client) -> None:
    client.deploy(
        "u/admin/used", "def main(secret):\n    raise ValueError(secret)", delete_after_use=True, cache_ttl=60
    )
    job_id, data = runs(client, 60)
    assert client.run("u/admin/used", data, job_id=job_id).error["message"] == "s3cr3t"
    wiped(client, job_id)
    client.deploy("u/admin/used", CLOCK, delete_after_use=True, cache_ttl=60)
    assert client.run("u/admin/used").json() != client.run("u/admin/used").json()
