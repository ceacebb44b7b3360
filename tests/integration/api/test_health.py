"""Health, readiness and metrics of a real server, and what they say when something is wrong."""

from __future__ import annotations

import os
import signal
import sqlite3
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from prometheus_client.parser import text_string_to_metric_families

from tests.server import ADMIN_TOKEN, Client, Server, StartFailed, eventually, fork_servers

MakeServer = Callable[..., Server]
SLEEPER = (
    "import time\ndef main(seconds: float):\n    print('started', flush=True)\n    time.sleep(seconds)\n    return 1\n"
)


def figures(client: Client) -> dict[tuple[str, ...], float]:
    """All samples: the name and the values of the labels, sorted by the labels' names."""
    answer = client.get("/metrics")
    assert answer.status == 200, answer.text
    return {
        (sample.name, *(value for _, value in sorted(sample.labels.items()))): sample.value
        for family in text_string_to_metric_families(answer.text)
        for sample in family.samples
    }


def test_a_server_that_is_well(make_server: MakeServer) -> None:
    server = make_server("--workers", "2")
    client = server.start()
    stranger = client.with_token("")
    shown = stranger.get("/api/health/status").json()
    assert (shown["status"], shown["database_healthy"], shown["workers_alive"]) == ("healthy", True, 2)
    answer = stranger.get("/readyz")
    assert (answer.status, answer.json()) == (200, {"ready": True, "reasons": []})
    assert stranger.get("/api/health/detailed").status == 401
    answer = client.get("/api/health/detailed")
    checks = answer.json()["checks"]
    assert answer.status == 200
    assert all(checks[name]["healthy"] for name in ("database", "workers", "disk", "readiness"))
    assert checks["queue"] == {"pending_jobs": 0, "running_jobs": 0, "oldest_pending_s": 0}
    assert checks["sandbox"]["rung"] in ("root", "userns", "none")
    assert checks["disk"]["free_bytes"] > 0
    assert checks["database"]["latency_ms"] > 0


def test_probes_share_one_look(make_server: MakeServer) -> None:
    client = make_server().start()
    before = figures(client)[("minwebhook_db_commit_seconds_count",)]
    for _ in range(20):
        for path in ("/readyz", "/api/health/status", "/api/health/status?force=true", "/api/health/detailed"):
            assert client.get(path).status == 200
    assert figures(client)[("minwebhook_db_commit_seconds_count",)] - before < 10


def test_a_store_that_cannot_be_written(make_server: MakeServer) -> None:
    server = make_server()
    client = server.start()

    def status() -> tuple[int, Any]:
        answer = client.get("/api/health/status", force="true")
        return answer.status, answer.json()["status"]

    other = sqlite3.connect(server.data / "minwebhook.db", isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    eventually(lambda: status() == (503, "unhealthy"), "that it is seen")
    answer = client.get("/readyz")
    assert answer.status == 503
    assert answer.json()["reasons"] == ["the store cannot be written: the database is locked by another program"]
    found = figures(client)
    assert (found[("minwebhook_health",)], found[("minwebhook_ready",)]) == (0, 0)
    assert found[("minwebhook_db_failed_transactions_total",)] > 0
    other.execute("ROLLBACK")
    other.close()
    eventually(lambda: status() == (200, "healthy"), "that it is well again")


def test_a_disk_that_is_nearly_full(make_server: MakeServer) -> None:
    client = make_server("--min-free-disk-bytes", str(1 << 60)).start()
    answer = client.get("/api/health/status")
    assert (answer.status, answer.json()["status"]) == (200, "degraded")
    answer = client.get("/readyz")
    assert (answer.status, answer.json()["reasons"]) == (
        503,
        ["the disk has less room than min_free_disk_bytes"],
    )
    assert figures(client)[("minwebhook_health",)] == 0.5


def test_a_fork_server_that_does_not_run(make_server: MakeServer) -> None:
    server = make_server()
    client = server.start()
    stop = threading.Event()

    def kill_again_and_again() -> None:
        while not stop.wait(0.02):
            for pid in fork_servers(server.pid):
                os.kill(pid, signal.SIGKILL)

    thread = threading.Thread(target=kill_again_and_again)
    thread.start()
    try:

        def look() -> bool:
            answer = client.get("/api/health/status", force="true")
            return bool(answer.json()["status"] == "degraded" and answer.json()["workers_alive"] == 0)

        eventually(look, "that it is seen", 30)
        assert client.get("/readyz").json()["reasons"] == ["no script can be started: the fork server does not run"]
    finally:
        stop.set()
        thread.join()
    eventually(lambda: client.get("/api/health/status", force="true").json()["status"] == "healthy", "the next one", 30)


def test_how_long_jobs_wait(make_server: MakeServer) -> None:
    client = make_server("--workers", "1").start()
    client.deploy("u/admin/sleep", SLEEPER)
    client.running(client.submit("u/admin/sleep", {"seconds": 60}))
    client.submit("u/admin/sleep", {"seconds": 0})
    client.submit("u/admin/sleep", {"seconds": 0}, scheduled_in_secs=3600)

    def waits() -> bool:
        queue = client.get("/api/health/detailed", force="true").json()["checks"]["queue"]
        return (queue["pending_jobs"], queue["running_jobs"]) == (2, 1) and bool(queue["oldest_pending_s"] >= 1)

    eventually(waits, "that a job waits for a second")
    found = figures(client)
    assert (found[("minwebhook_jobs_queued",)], found[("minwebhook_jobs_running",)]) == (2, 1)


def test_the_drain_can_be_seen(make_server: MakeServer, tmp_path: Path) -> None:
    path = tmp_path / "probes"
    server = make_server("--metrics-listen", f"unix:{path}")
    client = server.start()
    probes = server.client(address=f"unix:{path}", token="")
    client.deploy("u/admin/sleep", SLEEPER)
    job_id = client.submit("u/admin/sleep", {"seconds": 3})
    client.running(job_id)
    assert probes.get("/readyz").status == 200
    server.signal(signal.SIGTERM)

    def drains() -> bool:
        answer = probes.get("/readyz")
        return answer.status == 503 and answer.json()["reasons"] == ["the server is shutting down"]

    eventually(drains, "that it drains")
    assert figures(probes)[("minwebhook_health",)] == 0
    assert server.wait() == 0
    assert not path.exists()


def test_requests_are_counted_by_route_and_jobs_by_state(make_server: MakeServer) -> None:
    server = make_server("--workers", "2")
    client = server.start()
    client.deploy("u/admin/add", "def main(a: int):\n    return a + 1")
    for number in range(3):
        assert client.run("u/admin/add", {"a": number}).json() == number + 1
    client.ended(client.submit("u/admin/add", {}))  # fails: an argument is missing
    for number in range(50):
        client.get(f"/no/such/route/{number}")
    client.run("u/admin/none")
    found = figures(client)
    wait = "/api/w/{workspace}/jobs/run_wait_result/p/{path...}"
    requests = "minwebhook_http_requests_total"
    assert found[(requests, "POST", wait, "200")] == 3
    assert found[(requests, "POST", wait, "404")] == 1
    assert found[(requests, "POST", "/api/w/{workspace}/jobs/run/p/{path...}", "201")] == 1
    assert found[(requests, "", "", "404")] == 50
    assert found[("minwebhook_http_request_seconds_total", "POST", wait, "200")] > 0
    assert found[("minwebhook_jobs_ended_total", "success")] == 3
    assert found[("minwebhook_jobs_ended_total", "failure")] == 1
    for name in ("queue", "start", "run"):
        assert found[(f"minwebhook_job_{name}_seconds_count",)] == 4
    assert found[("minwebhook_http_connections",)] == 1
    eventually(lambda: figures(client)[("minwebhook_jobs_unsaved",)] == 0, "the rows")
    assert figures(client)[("minwebhook_db_writes_total",)] >= 5
    assert ADMIN_TOKEN not in client.get("/metrics").text


def test_open_streams_are_counted(make_server: MakeServer) -> None:
    client = make_server().start()
    client.deploy("u/admin/sleep", SLEEPER)
    job_id = client.submit("u/admin/sleep", {"seconds": 60})
    head = f"GET /api/w/demo/jobs_u/getupdate_sse/{job_id} HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {ADMIN_TOKEN}\r\n\r\n"
    with client.raw(head.encode()) as connection:
        assert connection.recv(100).startswith(b"HTTP/1.1 200")
        eventually(lambda: figures(client)[("minwebhook_http_streams",)] == 1, "the stream")
    eventually(lambda: figures(client)[("minwebhook_http_streams",)] == 0, "its end")


def test_who_may_read_metrics(make_server: MakeServer, tmp_path: Path) -> None:
    server = make_server("--metrics-listen", f"unix:{tmp_path / 'probes'}")
    client = server.start()
    assert client.with_token("").get("/metrics").status == 401
    assert client.with_token("wrong").get("/metrics").status == 401
    assert server.user("somebody").get("/metrics").status == 403
    assert client.get("/metrics").headers["content-type"].startswith("text/plain; version=")
    probes = server.client(address=f"unix:{tmp_path / 'probes'}", token="")
    assert "minwebhook_info" in probes.get("/metrics").text
    assert probes.get("/api/version").status == 404
    assert probes.post("/metrics").status == 405
    server.stop()
    open_one = make_server("--metrics-public").start()
    assert open_one.with_token("").get("/metrics").status == 200


@pytest.mark.parametrize("address", ["nowhere", "127.0.0.1:99999"])
def test_an_address_for_metrics_that_cannot_be_had(make_server: MakeServer, address: str) -> None:
    with pytest.raises(StartFailed) as failed:
        make_server("--metrics-listen", address).start()
    assert failed.value.code == 2
    assert "metrics_listen: " in failed.value.errors
