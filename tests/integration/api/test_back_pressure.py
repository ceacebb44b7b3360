"""Limits on what runs and waits at once, and what callers are told."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from tests.server import Answer, Client, Server, eventually, serving

SPAN = """
import time

def main(**rest):
    start = time.monotonic()
    time.sleep(0.004)
    return [start, time.monotonic()]
"""


def overlap(spans: list[list[float]]) -> int:
    """The most that were under way at one time."""
    edges = sorted([(start, 1) for start, _ in spans] + [(end, -1) for _, end in spans])
    most = now = 0
    for _, step in edges:
        now += step
        most = max(most, now)
    return most


def at_once(client: Client, path: str, bodies: list[dict[str, Any]]) -> list[Answer]:
    """All sync runs side by side, a hundred at a time."""
    with ThreadPoolExecutor(100) as pool:
        return list(pool.map(lambda body: client.run(path, body), bodies))


@pytest.fixture(scope="module")
def wide(tmp_path_factory: pytest.TempPathFactory) -> Any:
    with serving(tmp_path_factory.mktemp("wide") / "data", "--workers", "6") as (_, client):
        yield client


def test_a_script_with_a_limit_of_one_never_runs_twice_at_a_time(wide: Client) -> None:
    wide.deploy("u/admin/single", SPAN, concurrent_limit=1)
    wide.deploy("u/admin/free", SPAN)
    answers = at_once(wide, "u/admin/single", [{}] * 1000)
    assert {answer.status for answer in answers} == {200}
    assert overlap([answer.json() for answer in answers]) == 1
    assert overlap([answer.json() for answer in at_once(wide, "u/admin/free", [{}] * 60)]) > 1


def test_a_key_of_its_own_counts_by_argument(wide: Client) -> None:
    wide.deploy("u/admin/by-tenant", SPAN, concurrent_limit=1, concurrency_key="$workspace/tenant/$args[tenant]")
    bodies = [{"tenant": f"t{number % 3}"} for number in range(90)]
    answers = at_once(wide, "u/admin/by-tenant", bodies)
    spans: dict[str, list[list[float]]] = {}
    for body, answer in zip(bodies, answers, strict=True):
        spans.setdefault(body["tenant"], []).append(answer.json())
    assert [overlap(each) for each in spans.values()] == [1, 1, 1]
    assert overlap([span for each in spans.values() for span in each]) > 1


def test_a_window_counts_what_ended_within_it(wide: Client) -> None:
    wide.deploy("u/admin/windowed", SPAN, concurrent_limit=2, concurrency_time_window_s=1)
    spans = sorted(answer.json() for answer in at_once(wide, "u/admin/windowed", [{}] * 4))
    # The third may start a second after the first has ended, the fourth a second after the second.
    assert spans[2][0] - min(end for _, end in spans[:2]) > 0.95
    assert spans[1][0] - spans[0][0] < 0.9


HOLD = "import os, time\n\ndef main():\n    while True:\n        time.sleep(0.05)\n"


def test_a_full_queue_is_a_calm_answer(tmp_path: Path) -> None:
    flags = ("--workers", "1", "--max-queued-jobs", "4", "--max-queued-jobs-per-script", "2")
    with serving(tmp_path / "data", *flags) as (_, client):
        client.deploy("u/admin/hold", HOLD)
        client.deploy("u/admin/other", HOLD)
        running = client.submit("u/admin/hold")
        client.running(running)
        queued = [client.submit("u/admin/hold") for _ in range(2)]
        refused = client.post("/jobs/run/p/u/admin/hold")
        assert refused.status == 429
        assert "max_queued_jobs_per_script" in refused.text
        assert int(refused.headers["retry-after"]) >= 1
        assert refused.headers["ratelimit-policy"] == '"script";q=2'
        assert refused.headers["ratelimit"].startswith('"script";r=0;t=')
        # Before anything of the body was read.
        head = (
            "POST /api/w/demo/jobs/run/p/u/admin/hold HTTP/1.1\r\nHost: x\r\nContent-Length: 100\r\n"
            f"Content-Type: application/json\r\nAuthorization: Bearer {client.token}\r\n\r\n"
        )
        with client.raw(head.encode()) as early:
            assert early.recv(1000).startswith(b"HTTP/1.1 429 ")
        queued += [client.submit("u/admin/other") for _ in range(2)]
        full = client.post("/jobs/run_wait_result/p/u/admin/other")
        assert (full.status, full.headers["ratelimit-policy"]) == (503, '"instance";q=4')
        # Room again, for what is acknowledged then.
        assert client.post(f"/jobs_u/queue/cancel/{queued[0]}", {}).status == 200
        client.submit("u/admin/hold")


def test_a_sync_caller_does_not_wait_for_its_turn_for_ever(tmp_path: Path) -> None:
    with serving(tmp_path / "data", "--workers", "1", "--max-sync-wait-s", "0.2") as (_, client):
        client.deploy("u/admin/hold", HOLD)
        client.running(client.submit("u/admin/hold"))
        late = client.run("u/admin/hold")
        assert late.status == 503
        assert "max_sync_wait_s" in late.text
        assert "retry-after" in late.headers
        assert len(client.get("/jobs/queue/list").json()) == 1  # the one that runs


def test_a_quiet_token_does_not_wait_behind_a_noisy_one(tmp_path: Path) -> None:
    with serving(tmp_path / "data", "--workers", "1") as (_, client), ThreadPoolExecutor(1) as pool:
        client.deploy("u/admin/hold", HOLD)
        client.deploy("u/admin/span", SPAN)
        gate = client.submit("u/admin/hold")
        client.running(gate)
        quiet = client.with_token(client.post("/api/users/tokens/create", {"label": "quiet"}).text)
        noisy = [client.submit("u/admin/span") for _ in range(30)]
        answer = pool.submit(lambda: quiet.run("u/admin/span"))
        eventually(lambda: client.get("/jobs/queue/count").json()["database_length"] == 31, "all of them to wait")
        assert client.post(f"/jobs_u/queue/cancel/{gate}", {}).status == 200
        own = answer.result().json()[1]
        # All of the noisy ones came first, and at most one of them is served earlier.
        assert sum(client.ended(job_id)["result"][1] < own for job_id in noisy) <= 1


def test_a_window_holds_across_a_restart(make_server: Callable[..., Server]) -> None:
    server = make_server("--workers", "2")
    client = server.start()
    limited: dict[str, Any] = {"concurrent_limit": 1, "concurrency_time_window_s": 600}
    client.deploy("u/admin/by_name", SPAN, concurrency_key="$workspace-$args[name]", **limited)
    client.deploy("u/admin/by_path", SPAN, **limited)
    paths = [("u/admin/by_name", {"name": "a"}), ("u/admin/by_path", {})]
    for path, arguments in paths:
        client.ended(client.submit(path, arguments))
    held = [client.submit(path, arguments) for path, arguments in paths]
    server.kill()
    client = server.start()
    held += [client.submit(path, arguments) for path, arguments in paths]
    client.ended(client.submit("u/admin/by_name", {"name": "b"}))  # another key
    assert {job["id"] for job in client.get("/jobs/queue/list", running="false").json()} == set(held)
