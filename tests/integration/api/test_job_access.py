"""Callers without a token: what they may see, on every route that lets them in, for jobs that live and that have ended."""

from __future__ import annotations

import http.client
import itertools
from collections.abc import Iterator
from dataclasses import dataclass

import pytest

from minwebhook.api.endpoint import Access
from minwebhook.api.routes import all_routes
from tests.server import Answer, Client, Server, eventually, serving

CANARY = "canary-of-a-job"
REFUSAL = "Bad request: As a non logged in user, you can only {} jobs ran by anonymous users"
OPEN = [route for route in all_routes() if route.endpoint.access is Access.OPTIONAL]
#: Signed URLs and the tokens of approval pages are credentials of their own; test_approvals.py is about them.
APPROVALS = [
    route
    for route in OPEN
    if "{signature}" in route.pattern or "/jobs_u/flow/" in route.pattern or route.pattern.startswith("/approve/")
]
BY_ID = [route for route in OPEN if "{id}" in route.pattern and route not in APPROVALS]
READS = [(route.method, route.pattern) for route in BY_ID if route.endpoint.action == "read"]
CANCELS = [(route.method, route.pattern) for route in BY_ID if route.endpoint.action == "cancel"]


@dataclass
class Jobs:
    """Jobs of the admin, which nobody else may see, and of an anonymous caller."""

    server: Server
    admins: dict[str, str]
    anonymous: dict[str, str]

    @property
    def client(self) -> Client:
        """The admin."""
        return self.server.client()

    @property
    def stranger(self) -> Client:
        """Someone without a token."""
        return self.server.client("")


@pytest.fixture(scope="module")
def jobs(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Jobs]:
    """No route makes an anonymous job yet, so rows are changed while the server is down."""
    with serving(tmp_path_factory.mktemp("access") / "data", "--workers", "1") as (server, client):
        client.deploy("u/admin/echo", "def main(**rest):\n    print(rest)\n    return rest")
        client.deploy(
            "u/admin/sleep", "import time\ndef main(**rest):\n    print(rest, flush=True)\n    time.sleep(60)"
        )
        made: list[dict[str, str]] = []
        for _ in range(2):
            ended = client.submit("u/admin/echo", {"secret": CANARY})
            client.ended(ended)
            made.append({"ended": ended})
        for each in made:
            each["live"] = client.submit("u/admin/sleep", {"secret": CANARY})
        server.kill()
        for job_id in made[1].values():
            assert server.execute(
                "UPDATE job SET created_by = 'anonymous' WHERE id = ?", bytes.fromhex(job_id.replace("-", ""))
            )
        server.start().running(made[0]["live"])
        yield Jobs(server, *made)


def call(client: Client, method: str, pattern: str, job_id: str, query: str = "", **fields: str) -> Answer:
    path = pattern.replace("{workspace}", "demo").replace("{id}", job_id)
    headers = {name.replace("_", "-"): value for name, value in fields.items()}
    if pattern.endswith("/getupdate_sse/{id}"):  # does not end before its job does
        return client.call(method, path + query, None, headers, read=first_event)
    return client.call(method, path + query, None, headers, data={} if method == "POST" else None)


def first_event(answer: http.client.HTTPResponse) -> bytes:
    """What comes before the first empty line; an error whole. The time to wait before coming back is left out."""
    lines = iter(answer.readline, b"")
    return b"".join(line for line in itertools.takewhile(lambda line: line.strip(), lines) if b"retry:" not in line)


def test_every_route_that_lets_strangers_in_is_looked_at_here() -> None:
    others = {route.pattern.rpartition("/jobs_u/")[2] for route in OPEN if route not in BY_ID + APPROVALS}
    assert others == {"queue/get_started_at_by_ids", "queue/cancel_persistent/{path...}", "/metrics"}
    assert {route.pattern.split("/")[4] for route in OPEN if route.pattern.startswith("/api/w/")} == {"jobs_u"}


@pytest.mark.parametrize("state", ["ended", "live"])
@pytest.mark.parametrize(("method", "pattern"), READS + CANCELS)
def test_a_stranger_sees_nothing_of_a_job_of_someone_else(jobs: Jobs, method: str, pattern: str, state: str) -> None:
    job_id = jobs.admins[state]
    refusal = REFUSAL.format("see" if (method, pattern) in READS else "cancel")
    other = jobs.client.get(f"/jobs/job_view_token/{jobs.anonymous['ended']}").text
    forged = f"{job_id}.{other.partition('.')[2]}"
    for query, fields in (
        ("", {}),
        ("?view_token=", {}),
        (f"?view_token={other}", {}),
        (f"?view_token={forged}", {}),
        ("", {"X_View_Token": other}),
        ("", {"X_View_Token": "\xff"}),
    ):
        answer = call(jobs.stranger, method, pattern, job_id, query, **fields)
        assert (answer.status, answer.text) == (400, refusal)
    assert jobs.client.job(job_id)["canceled"] is False


@pytest.mark.parametrize("state", ["ended", "live"])
@pytest.mark.parametrize(("method", "pattern"), READS)
def test_a_stranger_sees_an_anonymous_job_and_one_that_was_shared(
    jobs: Jobs, method: str, pattern: str, state: str
) -> None:
    by_admin = [call(jobs.client, method, pattern, each[state]) for each in (jobs.admins, jobs.anonymous)]
    assert {answer.status for answer in by_admin} <= {200, 404}  # not ended yet
    token = jobs.client.get(f"/jobs/job_view_token/{jobs.admins[state]}").text
    for query, fields in ((f"?view_token={token}", {}), ("", {"X_View_Token": token})):
        shared = call(jobs.stranger, method, pattern, jobs.admins[state], query, **fields)
        assert (shared.status, shared.body) == (by_admin[0].status, by_admin[0].body)
    own = call(jobs.stranger, method, pattern, jobs.anonymous[state])
    assert (own.status, own.body) == (by_admin[1].status, by_admin[1].body)


def test_what_was_shared_can_be_seen_but_not_cancelled(jobs: Jobs) -> None:
    token = jobs.client.get(f"/jobs/job_view_token/{jobs.admins['live']}").text
    for method, pattern in CANCELS:
        answer = call(jobs.stranger, method, pattern, jobs.admins["live"], f"?view_token={token}")
        assert (answer.status, answer.text) == (400, REFUSAL.format("cancel"))


def test_a_view_token_does_not_log_in(jobs: Jobs) -> None:
    token = jobs.client.get(f"/jobs/job_view_token/{jobs.admins['ended']}").text
    assert jobs.stranger.get(f"/jobs/completed/get/{jobs.admins['ended']}", view_token=token).status == 401
    assert jobs.stranger.with_token(token).get(f"/jobs_u/get/{jobs.admins['ended']}").status == 401
    wrong = jobs.stranger.with_token("wrong").get(f"/jobs_u/get/{jobs.admins['ended']}", view_token=token)
    assert wrong.status == 401


def test_the_token_is_of_one_workspace_and_stays_out_of_the_log(jobs: Jobs) -> None:
    job_id = jobs.admins["ended"]
    answer = jobs.client.get(f"/jobs/job_view_token/{job_id}")
    assert (answer.status, answer.text.partition(".")[0]) == (200, job_id)
    assert len(answer.text) == 36 + 1 + 64
    assert jobs.stranger.get(f"/jobs_u/get/{job_id}", view_token=answer.text).status == 200
    admins = jobs.client.with_token(jobs.client.token, "admins")
    assert admins.get(f"/jobs/job_view_token/{job_id}").status == 404
    eventually(lambda: "view_token=[hidden]" in jobs.server.log, "the line of the log")
    assert answer.text.partition(".")[2] not in jobs.server.log


def test_starts_of_jobs_that_a_stranger_may_see(jobs: Jobs) -> None:
    ids = [*jobs.admins.values(), *jobs.anonymous.values()]
    path = "/jobs_u/queue/get_started_at_by_ids"
    known = jobs.client.post(path, ids).json()
    assert known == [jobs.client.job(job_id).get("started_at") for job_id in ids]
    assert all(known[:3])
    assert jobs.stranger.post(path, ids).json() == [None, None, *known[2:]]
    assert jobs.stranger.post(path, []).json() == []


def test_unknown_jobs_look_the_same_to_everyone(jobs: Jobs) -> None:
    nobody = "00000000-0000-7000-8000-000000000000"
    for method, pattern in READS + CANCELS:
        answers = [call(client, method, pattern, nobody) for client in (jobs.client, jobs.stranger)]
        assert answers[0].status == (200 if "maybe" in pattern else 404)
        assert (answers[0].status, answers[0].body) == (answers[1].status, answers[1].body)


def test_a_stranger_cancels_an_anonymous_job(jobs: Jobs) -> None:
    job_id = jobs.anonymous["live"]
    assert jobs.stranger.post(f"/jobs_u/queue/cancel/{job_id}").text == job_id
    done = jobs.client.ended(job_id)
    assert (done["canceled_by"], done["canceled_reason"]) == ("anonymous", "unexplicited reasons")
    again = jobs.stranger.post(f"/jobs_u/queue/force_cancel/{job_id}")
    assert again.text == f"queued job id {job_id} is already completed"
