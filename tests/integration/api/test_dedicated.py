"""Scripts with ``dedicated_worker``: one process for many jobs, never for another version."""

from __future__ import annotations

from pathlib import Path

from tests.server import Client, Server, serving

COUNTER = """
import os

count = 0

def main(version={version}, fail=False, **rest):
    global count
    count += 1
    if fail:
        raise ValueError("asked for")
    return [version, count, os.environ["WM_JOB_ID"]]
"""


def test_state_stays_between_jobs_and_a_redeploy_switches_at_once(client: Client) -> None:
    first = client.deploy("u/admin/counter", COUNTER.format(version=1), dedicated_worker=True)
    answers = [client.run("u/admin/counter").json() for _ in range(5)]
    assert [answer[:2] for answer in answers] == [[1, count] for count in range(1, 6)]
    assert len({answer[2] for answer in answers}) == 5  # the environment is each job's own
    client.deploy("u/admin/counter", COUNTER.format(version=2), dedicated_worker=True)
    assert [client.run("u/admin/counter").json()[:2] for _ in range(2)] == [[2, 1], [2, 2]]
    assert client.post(f"/jobs_u/../jobs/run_wait_result/h/{first}").status in (400, 404)
    assert client.post(f"/jobs/run_wait_result/h/{first}").json()[:2] == [1, 6]


def test_an_exception_does_not_end_the_process_and_an_exit_does(client: Client) -> None:
    code = COUNTER.format(version=1) + "\ndef leave():\n    os._exit(3)\n"
    code = code.replace("    if fail:", "    if fail == 'exit':\n        leave()\n    if fail:")
    client.deploy("u/admin/falls", code, dedicated_worker=True)
    assert client.run("u/admin/falls").json()[1] == 1
    assert client.run("u/admin/falls", {"fail": True}).error["message"] == "asked for"
    assert client.run("u/admin/falls").json()[1] == 3
    assert client.run("u/admin/falls", {"fail": "exit"}).error["exit_code"] == 3
    assert client.run("u/admin/falls").json()[1] == 1


def test_without_it_nothing_stays(client: Client) -> None:
    client.deploy("u/admin/fresh", COUNTER.format(version=1))
    assert {client.run("u/admin/fresh").json()[1] for _ in range(10)} == {1}


def test_a_cancelled_job_takes_its_process_with_it(client: Client, server: Server) -> None:
    code = "import time\ncount = 0\ndef main(slow=False):\n    global count\n    count += 1\n"
    client.deploy("u/admin/stuck", code + "    time.sleep(60 * slow)\n    return count", dedicated_worker=True)
    assert client.run("u/admin/stuck").json() == 1
    job_id = client.submit("u/admin/stuck", {"slow": True})
    client.running(job_id)
    client.post(f"/jobs_u/queue/cancel/{job_id}")
    client.ended(job_id)
    assert client.run("u/admin/stuck").json() == 1


def test_output_between_jobs_belongs_to_no_other_job(client: Client) -> None:
    code = (
        "import threading, time\n"
        "def main(n):\n"
        "    threading.Timer(0.05, lambda: print('late', n)).start()\n"
        "    print('on time', n)\n"
    )
    client.deploy("u/admin/late", code, dedicated_worker=True)
    first = client.submit("u/admin/late", {"n": 1})
    client.ended(first)
    second = client.submit("u/admin/late", {"n": 2})
    client.ended(second)
    assert "on time 2" in client.logs(second)
    assert "on time 1" in client.logs(first)
    assert "on time 1" not in client.logs(second)


def test_a_script_that_cannot_be_called_fails_each_time_the_same_way(client: Client) -> None:
    """A process that stays is given its script once, unless it could make nothing of it."""
    client.deploy("u/admin/mainless", "def other():\n    pass\n", dedicated_worker=True)
    answers = [client.run("u/admin/mainless").error["message"] for _ in range(3)]
    assert answers == ["main function is missing"] * 3


def test_a_large_script_that_cannot_be_loaded_says_so_every_time(client: Client) -> None:
    """Its compiled form is too large to be kept, so the process that stays compiles it again."""
    code = "".join(f"def f{number}(): pass\n" for number in range(12_000))
    client.deploy("u/admin/large", code, dedicated_worker=True)
    errors = [client.run("u/admin/large").error for _ in range(3)]
    assert errors[0] == errors[1] == errors[2]
    assert "main" in errors[0]["message"]


def test_a_process_that_has_served_its_time_is_replaced(tmp_path: Path) -> None:
    leaks = "kept = []\ndef main(mib=0):\n    kept.append(b'x' * (mib << 20))\n    return len(kept)\n"
    flags = ("--dedicated-max-jobs", "5", "--dedicated-max-memory-bytes", str(100 << 20))
    with serving(tmp_path / "data", *flags) as (_, client):
        client.deploy("u/admin/leaks", leaks, dedicated_worker=True)
        assert [client.run("u/admin/leaks").json() for _ in range(11)] == [1, 2, 3, 4, 5, 1, 2, 3, 4, 5, 1]
        client.deploy("u/admin/large", leaks + "# large", dedicated_worker=True)
        assert [client.run("u/admin/large", {"mib": 120}).json() for _ in range(3)] == [1, 1, 1]
