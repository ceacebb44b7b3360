"""Lists of jobs: filters, order, pages. A server of its own, so that the module knows every job there is."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from tests.server import Client, eventually, serving


@pytest.fixture(scope="module")
def client(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Client]:
    """One worker: a job that sleeps holds back all others."""
    with serving(tmp_path_factory.mktemp("lists") / "data", "--workers", "1") as (_, client):
        client.deploy("u/admin/good", "def main(**rest):\n    return 1")
        client.deploy("u/admin/bad", "def main():\n    1/0")
        client.deploy("f/team/other", "echo", language="bash")
        client.deploy("u/admin/sleep", "import time\ndef main():\n    time.sleep(60)")
        yield client


@pytest.fixture(scope="module")
def ended(client: Client) -> list[str]:
    """Ids of jobs that have ended, oldest first: 3 good, 2 bad, 2 bash (one with a tag), 1 preview, 1 cancelled."""
    other = client.with_token(client.post("/api/users/tokens/create", {"label": "webhook-x"}).text)
    ids = [
        client.submit("u/admin/good", {"n": 0}),
        other.submit("u/admin/good", {"n": 1}),
        client.submit("u/admin/good", parent_job="01890000-0000-7000-8000-000000000001"),
        client.submit("u/admin/bad"),
        client.submit("u/admin/bad"),
        client.submit("f/team/other"),
        client.submit("f/team/other", tag="special"),
        client.post("/jobs/run/preview", {"content": "echo", "language": "bash"}).text,
        client.submit("u/admin/sleep"),
    ]
    client.running(ids[-1])
    client.post(f"/jobs_u/queue/cancel/{ids[-1]}")
    for job_id in ids:
        client.ended(job_id)
    # From the table to the disk: then pages are counted by one source.
    eventually(lambda: len(listed(client, success="false")) == 3, "the rows")
    return ids


def listed(client: Client, **query: Any) -> list[str]:
    answer = client.get("/jobs/list", **query)
    assert answer.status == 200, answer.text
    return [job["id"] for job in answer.json()]


def test_newest_first_and_the_other_way_round(client: Client, ended: list[str]) -> None:
    assert listed(client) == ended[::-1]
    assert listed(client, order_desc="true") == ended[::-1]


@pytest.mark.parametrize(
    ("query", "indexes"),
    [
        ({"success": "true"}, [0, 1, 2, 5, 6, 7]),
        ({"success": "false"}, [3, 4, 8]),
        ({"running": "true"}, []),
        ({"running": "false"}, []),
        ({"script_path_exact": "u/admin/bad"}, [3, 4]),
        ({"script_path_exact": "u/admin/bad,f/team/other"}, [3, 4, 5, 6]),
        ({"script_path_exact": "!u/admin/good,u/admin/bad"}, [5, 6, 7, 8]),
        ({"script_path_exact": "u/admin"}, []),
        ({"script_path_start": "u/admin/"}, [0, 1, 2, 3, 4, 8]),
        ({"script_path_start": "u/%"}, []),
        ({"created_by": "webhook-x"}, [1]),
        ({"created_by": "!webhook-x"}, [0, 2, 3, 4, 5, 6, 7, 8]),
        ({"tag": "special"}, [6]),
        ({"tag": "bash"}, [5, 7]),
        ({"job_kinds": "preview"}, [7]),
        ({"job_kinds": "script,preview", "success": "false"}, [3, 4, 8]),
        ({"parent_job": "01890000-0000-7000-8000-000000000001"}, [2]),
        ({"has_null_parent": "true", "script_path_exact": "u/admin/good"}, [0, 1]),
        ({"unknown": "ignored"}, list(range(9))),
        ({"created_by": "x' OR 1=1 --"}, []),
    ],
)
def test_filters(client: Client, ended: list[str], query: dict[str, str], indexes: list[int]) -> None:
    assert listed(client, **query) == [ended[index] for index in indexes][::-1]


def test_pages(client: Client, ended: list[str]) -> None:
    newest = ended[::-1]
    assert listed(client, per_page=4) == listed(client, page=0, per_page=4) == listed(client, page=1, per_page=4)
    assert [listed(client, page=page, per_page=4) for page in (1, 2, 3, 4)] == [newest[:4], newest[4:8], newest[8:], []]
    assert listed(client, page=-3, per_page=0) == newest[:1]
    assert listed(client, per_page=10**9) == newest
    assert listed(client, page=10**9) == []
    assert client.get("/jobs/list", per_page="x").status == 400


def test_a_list_leaves_out_what_is_large(client: Client, ended: list[str]) -> None:
    for job in client.get("/jobs/list").json():
        assert not {"args", "result", "logs", "raw_code"} & set(job)
        assert job["type"] == "CompletedJob"
    with_args = client.get("/jobs/list", include_args="true", script_path_exact="u/admin/good").json()
    assert [job["args"] for job in with_args] == [{}, {"n": 1}, {"n": 0}]


@pytest.fixture
def live(client: Client, ended: list[str]) -> Iterator[list[str]]:
    """A running job and three that wait behind it."""
    ids = [client.submit("u/admin/sleep")]
    client.running(ids[0])
    ids += [client.submit("u/admin/sleep") for _ in range(3)]
    yield ids
    for job_id in reversed(ids):
        assert client.post(f"/jobs_u/queue/cancel/{job_id}").status == 200
    for job_id in ids:
        client.ended(job_id)


def test_live_jobs_come_first(client: Client, ended: list[str], live: list[str]) -> None:
    shown = listed(client)
    assert shown[:4] == live[::-1]
    assert shown[-len(ended) :] == ended[::-1]
    assert listed(client, running="true") == live[:1]
    assert listed(client, running="false") == live[:0:-1]
    assert not set(listed(client, success="false")) & set(live)
    assert client.get("/jobs/queue/count").json() == {"database_length": 3, "suspended": 0}


def test_pages_miss_nothing_while_jobs_run(client: Client, live: list[str]) -> None:
    everything = listed(client)
    paged: list[str] = []
    for page in range(1, 9):
        paged += listed(client, page=page, per_page=5)
    assert paged == everything
