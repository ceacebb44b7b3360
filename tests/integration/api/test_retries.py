"""Failures that are tried again, what failed for good, and running ended jobs again."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from tests.server import Client, Server, eventually, named, serving, unique

MakeServer = Callable[..., Server]

#: A run knows which one it is from what the runs before it left in their job's log.
FLAKY = """
import json, os, urllib.request

def main(fail_times=2, name="ValueError", **rest):
    request = urllib.request.Request(
        f"{os.environ['BASE_INTERNAL_URL']}/api/w/demo/jobs_u/get_logs/{os.environ['WM_JOB_ID']}",
        headers={"Authorization": "Bearer " + os.environ["WM_TOKEN"]},
    )
    earlier = urllib.request.urlopen(request).read().decode().count("try\\n")
    print("try")
    if earlier < fail_times:
        raise type(name, (Exception,), {})("not yet")
    return earlier
"""
TWICE = {"constant": {"attempts": 2, "seconds": 0}}


@pytest.fixture(scope="module")
def client(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Client]:
    with serving(tmp_path_factory.mktemp("retries") / "data", "--workers", "2") as (_, client):
        client.deploy("u/admin/flaky", FLAKY, retry=TWICE)
        client.deploy("u/admin/once", FLAKY)
        yield client


def dead(client: Client, **query: Any) -> list[str]:
    return [job["id"] for job in client.get("/jobs/dead_letters/list", **query).json()]


def test_a_job_is_tried_again_until_it_works(client: Client) -> None:
    job = client.ended(client.submit("u/admin/flaky"))
    assert (job["success"], job["result"], job["attempts"]) == (True, 2, 3)
    lines = [line for line in job["logs"].splitlines() if not line.startswith("--- PYTHON")]
    assert lines == ["try", "--- ATTEMPT 2 ---", "try", "--- ATTEMPT 3 ---", "try"]
    assert job["id"] not in dead(client)


def test_a_sync_caller_waits_for_the_end_of_it(client: Client) -> None:
    assert client.run("u/admin/flaky").json() == 2
    answer = client.run("u/admin/flaky", {"fail_times": 3})
    assert answer.json()["error"]["message"] == "not yet"
    assert dead(client, script_path_exact="u/admin/none") == []


def test_a_run_may_have_a_policy_of_its_own(client: Client) -> None:
    only = {"constant": {"attempts": 5}, "retry_if": {"error_names": ["TryAgain"]}}
    query = {"retry": json.dumps(only)}
    assert client.run("u/admin/once", {"name": "TryAgain"}, **query).json() == 2
    assert client.run("u/admin/once", {"name": "NeverMind"}, **query).json()["error"]["name"] == "NeverMind"
    for bad in ("{", '{"constant": 1}', '{"constant": {"attempts": -1}}'):
        answer = client.post("/jobs/run/p/u/admin/once", {}, retry=bad)
        assert (answer.status, "retry" in answer.text) == (400, True)


def test_a_script_with_a_broken_policy_is_not_deployed(client: Client) -> None:
    new = {"path": "u/admin/x", "summary": "", "description": "", "content": FLAKY, "language": "python3"}
    answer = client.post("/scripts/create", {**new, "retry": {"exponential": {"attempts": 1, "seconds": 0}}})
    assert (answer.status, "retry.exponential.seconds" in answer.text) == (400, True)


def test_a_pause_can_be_cancelled(client: Client) -> None:
    policy = json.dumps({"constant": {"attempts": 1, "seconds": 3600}})
    job_id = client.submit("u/admin/once", retry=policy)
    eventually(lambda: not (job := client.job(job_id))["running"] and "try" in job["logs"], "the pause")
    assert client.post(f"/jobs_u/queue/cancel/{job_id}", {}).status == 200
    assert client.ended(job_id)["canceled"]


def test_a_timeout_is_tried_again(client: Client) -> None:
    content = "import time\ndef main():\n    print('try')\n    time.sleep(60)"
    client.deploy("u/admin/slow", content, timeout=1, retry={"constant": {"attempts": 1}})
    job = client.ended(client.submit("u/admin/slow"))
    assert (job["success"], job["logs"].count("try"), job["canceled_by"]) == (False, 2, "timeout")


def test_a_streamed_result_is_not_tried_again(client: Client) -> None:
    content = "def main():\n    yield 'a'\n    raise ValueError('after a part')\n"
    client.deploy("u/admin/streams", content, retry=TWICE)
    job = client.ended(client.submit("u/admin/streams"))
    assert (job["success"], job.get("attempts")) == (False, None)


def test_what_failed_for_good_is_listed_driven_again_and_discarded(client: Client) -> None:
    ids = [client.submit("u/admin/flaky", {"fail_times": 9, "n": number}) for number in range(5)]
    for job_id in ids:
        assert client.ended(job_id)["dead"]
    wanted: dict[str, Any] = {"script_path_exact": "u/admin/flaky"}
    eventually(lambda: len(dead(client, **wanted)) == 5, "the rows")
    listed = client.get("/jobs/dead_letters/list", per_page=2, page=2, include_args="true", **wanted).json()
    all_of_them = client.get("/jobs/dead_letters/list", include_args="true", **wanted).json()
    assert listed == all_of_them[2:4]
    assert sorted(job["args"]["n"] for job in all_of_them) == [0, 1, 2, 3, 4]
    first = client.post(f"/jobs/dead_letters/redrive/{ids[0]}")
    assert first.status == 201
    assert client.ended(first.text)["args"] == {"fail_times": 9, "n": 0}
    assert client.post(f"/jobs/dead_letters/redrive/{ids[0]}").status == 404
    assert client.post(f"/jobs/dead_letters/discard/{ids[1]}").text == ids[1]
    assert client.post(f"/jobs/dead_letters/discard/{ids[1]}").status == 404
    # It has failed again: so there are four.
    eventually(lambda: len(dead(client, **wanted)) == 4, "the rows")
    client.deploy("u/admin/flaky", "def main(**rest):\n    return 'fixed'\n")
    done = client.post("/jobs/dead_letters/redrive_all", use_latest_version="true", **wanted).json()
    assert (len(done["jobs"]), done["failed"], done["left"]) == (4, {}, 0)
    assert {client.ended(job_id)["result"] for job_id in done["jobs"]} == {"fixed"}
    client.deploy("u/admin/flaky", FLAKY, retry=TWICE)


def test_who_drives_all_again_hears_of_the_letters_that_he_may_see(make_server: MakeServer) -> None:
    server = make_server("--workers", "2")
    client = server.start()
    bob = server.user("bob")
    for who, path in ((client, "u/admin/flaky"), (bob, "u/bob/flaky")):
        who.deploy(path, "def main():\n    raise ValueError\n", retry=TWICE)
        who.ended(who.submit(path))
    eventually(lambda: len(dead(client)) == 2, "the rows")
    assert len(dead(bob)) == 1
    bob.deploy("u/bob/flaky", "def main():\n    return 'fixed'\n")
    done = bob.post("/jobs/dead_letters/redrive_all", use_latest_version="true").json()
    assert (len(done["jobs"]), done["failed"], done["left"]) == (1, {}, 0)


def test_only_one_of_many_drives_a_letter_again(client: Client) -> None:
    job_id = client.submit("u/admin/flaky", {"fail_times": 9})
    client.ended(job_id)
    eventually(lambda: job_id in dead(client), "the row")
    with ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(lambda _: client.post(f"/jobs/dead_letters/redrive/{job_id}"), range(8)))
    assert sorted(answer.status for answer in answers) == [201] + [404] * 7


def test_an_ended_job_is_replayed(client: Client) -> None:
    client.deploy("u/admin/echo", "def main(**rest):\n    return ['first', rest]\n")
    done = client.ended(client.submit("u/admin/echo", {"a": 1}))
    client.deploy("u/admin/echo", "def main(**rest):\n    return ['second', rest]\n")
    again = client.post(f"/jobs/replay/{done['id']}")
    assert client.ended(again.text)["result"] == ["first", {"a": 1}]
    latest = client.post(f"/jobs/replay/{done['id']}", use_latest_version="true")
    assert client.ended(latest.text)["result"] == ["second", {"a": 1}]
    preview = client.post(
        "/jobs/run/preview", {"content": "def main(a):\n    return a", "language": "python3", "args": {"a": 7}}
    )
    client.ended(preview.text)
    assert client.ended(client.post(f"/jobs/replay/{preview.text}").text)["result"] == 7
    assert client.post("/jobs/replay/01890000-0000-7000-8000-000000000001").status == 404
    client.deploy("u/admin/secretive", "def main(**rest):\n    return 1\n", delete_after_use=True)
    client.run("u/admin/secretive", {"secret": 1})
    wiped = client.get("/jobs/completed/list", script_path_exact="u/admin/secretive").json()[0]["id"]
    assert client.post(f"/jobs/replay/{wiped}").status == 410


WAITER = """
import ctypes, time

def main(name, seconds=60):
    ctypes.CDLL(None).prctl(15, name.encode(), 0, 0, 0)
    print("try", flush=True)
    time.sleep(seconds)
"""


@pytest.mark.parametrize(("own", "begun"), [(None, 2), (1, 1)])
def test_a_run_that_dies_with_the_server_is_begun_as_often_as_allowed(
    make_server: MakeServer, own: int | None, begun: int
) -> None:
    server = make_server("--workers", "1", "--crash-attempts", "2")
    client = server.start()
    client.deploy("u/admin/waiter", WAITER, crash_attempts=own)
    job_id = client.submit("u/admin/waiter", {"name": unique("crash")})
    for _ in range(begun):
        eventually(lambda: named(unique("crash")), "the run")
        server.kill()
        eventually(lambda: not named(unique("crash")), "its end")
        client = server.start()
    job = client.ended(job_id)
    assert (job["success"], job["dead"], job.get("attempts", 1)) == (False, True, begun)
    assert "the server died while the job ran" in job["result"]["error"]["message"]
    assert dead(client) == [job_id]


def test_a_shutdown_is_no_crash(make_server: MakeServer) -> None:
    server = make_server("--workers", "1", "--grace-s", "0.1")
    client = server.start()
    client.deploy("u/admin/waiter", WAITER, crash_attempts=1)
    job_id = client.submit("u/admin/waiter", {"name": unique("drain"), "seconds": 1.5})
    eventually(lambda: named(unique("drain")), "the run")
    assert server.stop() == 0
    client = server.start()
    assert client.ended(job_id)["success"]
