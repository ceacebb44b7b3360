"""Lists of jobs: filters, order, pages. A server of its own, so that the module knows every job there is."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from tests.server import Client, Server, eventually, serving


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """One worker: a job that sleeps holds back all others."""
    with serving(tmp_path_factory.mktemp("lists") / "data", "--workers", "1") as (server, client):
        client.deploy("u/admin/good", "def main(**rest):\n    return {'wm_labels': ['good', 'n' + str(rest.get('n'))]}")
        client.deploy("u/admin/bad", "def main():\n    1/0")
        client.deploy("f/team/other", "echo", language="bash")
        client.deploy("u/admin/sleep", "import time\ndef main():\n    time.sleep(60)")
        yield server


@pytest.fixture(scope="module")
def client(server: Server) -> Client:
    """A client with the admin's token."""
    return server.client()


@pytest.fixture(scope="module")
def ended(client: Client) -> list[str]:
    """Ids of jobs that have ended, oldest first: 3 good, 2 bad, 2 bash (one with a tag), 1 preview, 1 cancelled.

    The good ones have labels.
    """
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
        ({"has_null_parent": "false"}, list(range(9))),
        ({"script_path_start": "u/admin/g,f/"}, [0, 1, 2, 5, 6]),
        ({"script_path_start": "!u/admin/g,f/"}, [3, 4, 7, 8]),
        ({"job_kinds": "!script"}, [7]),
        ({"status": "canceled"}, [8]),
        ({"status": "failure"}, [3, 4]),
        ({"status": "skipped"}, []),
        ({"is_skipped": "true"}, []),
        ({"is_skipped": "false", "success": "false"}, [3, 4, 8]),
        ({"label": "n0"}, [0]),
        ({"label": "n0,n1"}, [0, 1]),
        ({"label": "good"}, [0, 1, 2]),
        ({"label": "!good"}, [3, 4, 5, 6, 7, 8]),
        ({"label": "n*"}, []),
        ({"label": "n*", "allow_wildcards": "true"}, [0, 1, 2]),
        ({"tag": "*special*,sp*x", "allow_wildcards": "true"}, [6]),
        ({"tag": "!*", "allow_wildcards": "true"}, []),
        ({"worker": "w"}, []),
        ({"worker": "!w"}, list(range(9))),
        ({"trigger_kind": "webhook"}, [0, 1, 2, 3, 4, 5, 6, 8]),
        ({"trigger_kind": "!webhook,schedule"}, [7]),
        ({"trigger_path": "u/a/b"}, []),
        ({"schedule_path": "u/a/b"}, []),
        ({"is_not_schedule": "true", "tag": "special"}, [6]),
        ({"is_flow_step": "true"}, []),
        ({"is_flow_step": "false", "tag": "special"}, [6]),
        ({"suspended": "true"}, []),
        ({"scheduled_for_before_now": "true"}, list(range(9))),
        ({"args": '{"n": 1}'}, [1]),
        ({"args": "{}", "script_path_exact": "u/admin/bad"}, [3, 4]),
        ({"args": '{"m": 1}'}, []),
        ({"result": '{"wm_labels": ["n1"]}'}, [1]),
        ({"result": '{"error": {"name": "Canceled"}}'}, [8]),
        ({"broad_filter": "ADMIN/B"}, [3, 4]),
        ({"broad_filter": "special"}, [6]),
        ({"broad_filter": "nothing"}, []),
        ({"created_before": "2020-01-31T12:00:00Z"}, []),
        ({"created_after": "2020-01-31T12:00:00Z"}, list(range(9))),
        ({"completed_after": "2020-01-31T12:00:00+02:00"}, list(range(9))),
        ({"completed_after": "2220-01-31T12:00:00Z"}, []),
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


def test_the_version_and_the_times_of_jobs(client: Client, ended: list[str]) -> None:
    script = client.get("/scripts/get/p/u/admin/bad").json()["hash"]
    assert listed(client, script_hash=script) == [ended[4], ended[3]]
    assert set(listed(client, script_hash=f"!{script}")) == {*ended} - {ended[3], ended[4]}
    middle = client.job(ended[4])
    for name in ("created", "started", "completed", "created_or_started"):
        moment = middle["started_at" if name == "created_or_started" else f"{name}_at"]
        before, after = (listed(client, **{f"{name}_{end}": moment}) for end in ("before", "after"))
        assert ended[4] in before  # both ends are included
        assert ended[4] in after
        assert set(before) | set(after) == set(ended)
        assert ended[0] in before
        assert ended[8] in after
        assert ended[8] not in before
        assert ended[0] not in after


def test_a_list_leaves_out_what_is_large(client: Client, ended: list[str]) -> None:
    for job in client.get("/jobs/list").json():
        assert not {"args", "result", "logs", "raw_code"} & set(job)
        assert job["type"] == "CompletedJob"
    for path in ("/jobs/list", "/jobs/completed/list"):
        with_args = client.get(path, include_args="true", script_path_exact="u/admin/good").json()
        assert [job["args"] for job in with_args] == [{}, {"n": 1}, {"n": 0}]
        assert not {"result", "logs", "raw_code"} & set(with_args[0])


def test_the_list_of_ended_jobs(client: Client, ended: list[str]) -> None:
    shown = client.get("/jobs/completed/list").json()
    assert shown == client.get("/jobs/list").json()
    assert {job["type"] for job in shown} == {"CompletedJob"}
    ids = [job["id"] for job in client.get("/jobs/completed/list", order_desc="false", per_page=5, page=2).json()]
    assert ids == ended[5:]
    assert client.get("/jobs/completed/list", running="true").json() == []
    assert client.get("/jobs/queue/list").json() == []
    assert client.get("/jobs/queue/list", success="true").json() == []


def test_ids_are_for_admins(client: Client, server: Server, ended: list[str], live: list[str]) -> None:
    assert client.get("/jobs/list_filtered_uuids").json() == listed(client)
    assert client.get("/jobs/list_filtered_uuids", tag="bash", order_desc="false").json() == [ended[5], ended[7]]
    assert client.get("/jobs/list_filtered_uuids", per_page=2, page=2).json() == listed(client, per_page=2, page=2)
    assert client.get("/jobs/queue/list_filtered_uuids").json() == live[::-1]
    assert client.get("/jobs/queue/list_filtered_uuids", running="true").json() == live[:1]
    alice = server.user("alice")
    for path in ("/jobs/list_filtered_uuids", "/jobs/queue/list_filtered_uuids"):
        answer = alice.get(path)
        assert (answer.status, answer.text) == (403, "Require Admin privileges for alice")
    assert listed(alice) == []  # of others, below their own paths


def test_counts(client: Client, server: Server, ended: list[str]) -> None:
    total = len(client.get("/jobs/completed/list").json())
    assert client.get("/jobs/completed/count").json() == {"database_length": total, "suspended": None}
    for query, expected in (
        ({}, total),
        ({"completed_after_s_ago": 3600}, total),
        ({"completed_after_s_ago": 0}, 0),
        ({"success": "true"}, len(client.get("/jobs/completed/list", success="true").json())),
        ({"success": "false", "tags": "special"}, 0),
        ({"success": "true", "tags": "special,none"}, 1),
        ({"tags": "special"}, 1),
        ({"tag": "special"}, total),  # not a parameter of this route
    ):
        assert client.get("/jobs/completed/count_jobs", None, **query).json() == expected, query
    by_tag = client.get("/api/jobs/completed/count_by_tag").json()
    assert sum(each["count"] for each in by_tag) == total
    assert {"tag": "special", "count": 1} in by_tag
    assert [each["count"] for each in by_tag] == sorted((each["count"] for each in by_tag), reverse=True)
    assert client.get("/api/jobs/completed/count_by_tag", horizon_secs=0).json() == []
    assert client.get("/api/jobs/completed/count_by_tag", workspace_id="admins").json() == []
    assert client.get("/api/jobs/completed/count_by_tag", workspace_id="demo").json() == by_tag
    bob = server.user("bob")
    assert bob.get("/api/jobs/completed/count_by_tag").status == 403
    assert bob.get("/jobs/completed/count").json()["database_length"] == 0, "of what he may see"


def test_all_workspaces_are_seen_from_admins_by_super_admins(client: Client, server: Server, ended: list[str]) -> None:
    admins = client.with_token(client.token, "admins")
    assert listed(admins) == []
    assert listed(admins, all_workspaces="true") == listed(client)
    assert listed(admins, all_workspaces="false") == []
    total = len(client.get("/jobs/completed/list").json())
    assert admins.get("/jobs/completed/count", all_workspaces="true").json()["database_length"] == total
    assert admins.get("/jobs/completed/count_jobs", all_workspaces="true").json() == total
    assert admins.get("/jobs/completed/count").json()["database_length"] == 0
    assert admins.get("/jobs/list_filtered_uuids", all_workspaces="true").json() == listed(client)
    carol = server.user("carol", "admins")
    for path in ("list", "queue/list", "completed/list", "queue/count", "completed/count", "completed/count_jobs"):
        answer = carol.get(f"/jobs/{path}", all_workspaces="true")
        assert (answer.status, answer.text) == (403, "Require Admin privileges for carol")
        assert carol.get(f"/jobs/{path}").status == 200


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


def test_the_queue(client: Client, live: list[str]) -> None:
    shown = client.get("/jobs/queue/list").json()
    assert [job["id"] for job in shown] == live[::-1]
    script = client.get("/scripts/get/p/u/admin/sleep").json()
    running = shown[-1]
    whole = client.job(live[0])
    assert running == {
        "id": live[0],
        "running": True,
        "created_by": "admin",
        "created_at": whole["created_at"],
        "started_at": whole["started_at"],
        "scheduled_for": whole["scheduled_for"],
        "script_hash": script["hash"],
        "script_path": "u/admin/sleep",
        "args": None,
        "job_kind": "script",
        "schedule_path": None,
        "is_flow_step": False,
        "language": "python3",
        "email": whole["email"],
        "suspend": 0,
        "tag": "python3",
        "priority": None,
        "workspace_id": "demo",
    }
    assert (shown[0]["running"], shown[0]["started_at"]) == (False, None)
    assert [job["args"] for job in client.get("/jobs/queue/list", include_args="true").json()] == [{}] * 4
    ids = [job["id"] for job in client.get("/jobs/queue/list", order_desc="false", per_page=2).json()]
    assert ids == live[:2]
    assert client.get("/jobs/queue/list", job_kinds="preview").json() == []
    assert len(client.get("/jobs/queue/list", scheduled_for_before_now="true").json()) == 4
    after: dict[str, Any] = {"created_after_queue": "2220-01-31T12:00:00Z"}
    assert client.get("/jobs/queue/list", **after).json() == []
    assert len(client.get("/jobs/completed/list", **after).json()) >= 9
    assert client.get("/jobs/completed/list", script_path_exact="u/admin/sleep", running="true").json() == []
    admins = client.with_token(client.token, "admins")
    assert admins.get("/jobs/queue/list").json() == []
    everywhere = admins.get("/jobs/queue/list", all_workspaces="true", per_page=100_000).json()
    assert everywhere == client.get("/jobs/queue/list").json()
    assert admins.get("/jobs/queue/count", all_workspaces="true").json()["database_length"] == 3
    assert admins.get("/jobs/queue/count").json()["database_length"] == 0
    assert client.get("/jobs/queue/count", tags="python3,bash").json()["database_length"] == 3
    assert client.get("/jobs/queue/count", tags="bash").json()["database_length"] == 0


def test_places_in_the_queue(client: Client, live: list[str]) -> None:
    due = [int(client.get(f"/jobs/queue/scheduled_for/{job_id}").text) for job_id in live]
    assert client.get(f"/jobs/queue/position/{due[0]}").json() == {"position": 1}  # a running job is not in front
    expected = 1 + sum(time_ms < due[3] for time_ms in due[1:])
    assert client.get(f"/jobs/queue/position/{due[3]}").json() == {"position": expected}
    admins = client.with_token(client.token, "admins")
    assert admins.get(f"/jobs/queue/position/{due[3] + 1}").json() == {"position": 4}
    assert admins.get(f"/jobs/queue/scheduled_for/{live[0]}").status == 404


def test_pages_miss_nothing_while_jobs_run(client: Client, live: list[str]) -> None:
    everything = listed(client)
    paged: list[str] = []
    for page in range(1, 9):
        paged += listed(client, page=page, per_page=5)
    assert paged == everything
