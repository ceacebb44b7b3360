"""Single jobs: what else can be read of them, and deleting what they hold."""

from __future__ import annotations

import time
from collections.abc import Callable
from datetime import datetime
from typing import Any

from tests.server import Client, Server

CANARY = "canary-of-a-deleted-job"
ROOT = "01890000-0000-7000-8000-00000000000a"
PARENT = "01890000-0000-7000-8000-00000000000b"


def test_a_job_that_waits_shows_what_it_will_be_run_with(client: Client) -> None:
    client.deploy("u/admin/urgent", "import time\ndef main():\n    time.sleep(60)", timeout=90, priority=7)
    job_id = client.submit("u/admin/urgent", parent_job=PARENT, root_job=ROOT)
    client.running(job_id)
    shown = client.job(job_id)
    assert (shown["timeout"], shown["priority"], shown["root_job"], shown["parent_job"]) == (90, 7, ROOT, PARENT)
    assert isinstance(shown["timeout"], int)
    started, due = (datetime.fromisoformat(shown[name]) for name in ("started_at", "scheduled_for"))
    assert shown["self_wait_time_ms"] == round((started - due).total_seconds() * 1000)
    due_ms = int(client.get(f"/jobs/queue/scheduled_for/{job_id}").text)
    assert due_ms == round(due.timestamp() * 1000)
    assert client.get(f"/jobs_u/get_root_job_id/{job_id}").json() == ROOT
    for path in ("completed/get_timing", "get_completed_logs_tail"):
        assert client.get(f"/jobs_u/{path}/{job_id}").status == 404
    client.post(f"/jobs_u/queue/force_cancel/{job_id}")
    assert client.get(f"/jobs/queue/scheduled_for/{job_id}").status == 404
    assert client.job(job_id)["priority"] == 7


def test_timing_arguments_and_the_end_of_the_log(client: Client) -> None:
    client.deploy("u/admin/speaks", "def main(a, **rest):\n    print('x' * 30000)\n    print('the end')\n    return a")
    job_id = client.submit("u/admin/speaks", {"a": "y" * 100_000})
    done = client.ended(job_id)
    timing = {name: done[name] for name in ("created_at", "started_at", "duration_ms")}
    for group in ("jobs", "jobs_u"):
        assert client.get(f"/{group}/completed/get_timing/{job_id}").json() == timing
    assert done["args"] == {"reason": "WINDMILL_TOO_BIG"}
    assert client.get(f"/jobs_u/get_args/{job_id}").json() == {"a": "y" * 100_000}
    tail = client.get(f"/jobs_u/get_completed_logs_tail/{job_id}").json()
    assert tail.endswith("xxx\nthe end\n")
    assert tail == done["logs"] == client.logs(job_id)[-20_000:]
    quiet = client.submit("u/admin/add", {"a": 1})
    client.ended(quiet)
    assert client.get(f"/jobs_u/get_completed_logs_tail/{quiet}").json() == ""
    assert client.get(f"/jobs_u/get_root_job_id/{quiet}").json() == quiet
    of_parent = client.submit("u/admin/add", {"a": 1}, parent_job=PARENT)
    assert client.get(f"/jobs_u/get_root_job_id/{of_parent}").json() == PARENT


def test_a_result_can_be_asked_for_in_the_way_of_approvers(client: Client) -> None:
    job_id = client.submit("u/admin/echo", {"a": [1, 2]})
    client.ended(job_id)
    query: dict[str, Any] = {
        "suspended_job": PARENT,
        "resume_id": 1,
        "secret": "00",
        "approver": "x",
        "json_path": "a.1",
    }
    assert client.get(f"/jobs_u/completed/get_result/{job_id}", **query).json() == 2
    assert client.get(f"/jobs_u/completed/get_result/{job_id}", json_path="a." + "9" * 5000).json() is None


def test_starts_of_several_jobs(client: Client) -> None:
    job_id = client.submit("u/admin/add", {"a": 1})
    started = client.ended(job_id)["started_at"]
    nobody = "00000000-0000-7000-8000-000000000000"
    path = "/jobs_u/queue/get_started_at_by_ids"
    assert client.post(path, [nobody, job_id, nobody]).json() == [None, started, None]
    assert client.post(path, [nobody] * 99 + [job_id, job_id]).json() == [None] * 99 + [started]
    answer = client.post(path, [nobody] * 10_001)
    assert (answer.status, answer.text) == (400, "Bad request: send at most 10000 job ids")


def test_the_clock_of_the_server(client: Client) -> None:
    before = time.time_ns() // 10**6
    answer = client.with_token("").get("/api/jobs/db_clock")
    assert before <= answer.json() <= time.time_ns() // 10**6


def test_deleting_takes_the_data_of_a_job_and_leaves_its_record(client: Client, server: Server) -> None:
    client.deploy("u/admin/tells", "def main(a):\n    print(a)\n    return {'a': a, 'wm_labels': ['told']}")
    job_id = client.submit("u/admin/tells", {"a": CANARY})
    before = client.ended(job_id)
    assert CANARY in before["logs"]
    answer = client.call("POST", f"/jobs/completed/delete/{job_id}")  # official clients send no body
    assert answer.status == 200
    deleted = answer.json()
    assert deleted == client.get(f"/jobs_u/completed/get/{job_id}").json()
    changed = {"args": {}, "result": {}, "logs": "##DELETED##", "deleted": True}
    del before["type"]
    assert deleted == {**before, **changed}
    assert client.logs(job_id) == "##DELETED##"
    assert client.get(f"/jobs_u/get_completed_logs_tail/{job_id}").json() == "##DELETED##"
    assert client.get(f"/jobs_u/get_args/{job_id}").json() == {}
    assert client.get(f"/jobs_u/completed/get_result/{job_id}").json() == {}
    assert client.get(f"/jobs_u/completed/get_result_maybe/{job_id}").json()["result"] == {}
    [listed] = client.get("/jobs/list", script_path_exact="u/admin/tells", include_args="true").json()
    assert (listed["deleted"], listed["args"], listed["labels"]) == (True, {}, ["told"])
    assert client.get("/jobs/list", args=f'{{"a": "{CANARY}"}}').json() == []
    assert client.post(f"/jobs/completed/delete/{job_id}").json() == deleted


def test_jobs_that_are_deleted_as_soon_as_they_have_ended(make_server: Callable[..., Server]) -> None:
    """Their rows are not written yet, or being written."""
    server = make_server()
    client = server.start()
    ids = [f"01890000-0000-7000-8000-{number:012}" for number in range(10)]
    for job_id in ids:
        assert client.preview("def main(a):\n    print(a)\n    return a", {"a": CANARY}, job_id=job_id).json() == CANARY
        deleted = client.post(f"/jobs/completed/delete/{job_id}").json()
        for shown in (deleted, client.job(job_id)):
            assert (shown["deleted"], shown["args"], shown["result"], shown["logs"]) == (True, {}, {}, "##DELETED##")
    assert server.stop() == 0
    query = "UPDATE job SET tag = '' WHERE deleted = 1 AND args = x'7b7d' AND result = x'7b7d' AND status = 'success'"
    assert server.execute(query) == len(ids)
    assert server.execute("UPDATE job_log SET log = '' WHERE log = '##DELETED##'") == len(ids)


def test_only_admins_delete_and_only_what_has_ended(client: Client, server: Server) -> None:
    alice = server.user("alice")
    job_id = client.submit("u/admin/sleep", {"seconds": 0.3})
    answer = client.post(f"/jobs/completed/delete/{job_id}")
    assert (answer.status, answer.text) == (404, f"Not found: Completed Job not found at name {job_id}")
    assert client.ended(job_id)["result"] == "slept"
    answer = alice.post(f"/jobs/completed/delete/{job_id}")
    assert (answer.status, answer.text) == (403, "Require Admin privileges for alice")
    assert (client.job(job_id)["deleted"], client.job(job_id)["result"]) == (False, "slept")
