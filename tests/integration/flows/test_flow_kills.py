"""kill -9 in the middle of flows: each ends with its one result, and what its steps did is counted once, or again as an
attempt. ``bench/flows.py --kill`` does it for longer.
"""

from __future__ import annotations

import http.client
import socket
import sqlite3
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path

import pytest

from bench.flows import KillRun
from tests.flows import IDENTITY, JSON, py
from tests.server import Answer, Client, Server, eventually, serving


@pytest.mark.slow
@pytest.mark.timeout(180)
def test_flows_go_on_where_they_were_however_often_the_server_is_killed(tmp_path: Path) -> None:
    run = KillRun(tmp_path, seed=7)
    run.kill(rounds=6)
    assert run.faults() == []


def test_a_suspended_and_a_sleeping_flow_outlive_the_server(tmp_path: Path) -> None:
    modules = [
        {"id": "a", "value": {"type": "identity"}, "sleep": {"type": "static", "value": 3}},
        {"id": "b", "value": {"type": "identity"}, "suspend": {"required_events": 1, "timeout": 1}},
        {"id": "c", "value": {"type": "identity"}},
    ]
    with serving(tmp_path / "data", "--workers", "2") as (server, client):
        job_id = client.post("/jobs/run/preview_flow", {"value": {"modules": modules}, "args": {"x": 1}}).text
        assert _types(client, job_id)[0] == "Success"
        server.kill()
        again = server.start()
        job = again.ended(job_id)
        assert job["duration_ms"] >= 4000
        assert job["result"]["error"]["name"] == "SuspendedTimedOut"
        assert job["flow_status"]["modules"][1]["type"] == "Success"


def test_a_flow_that_somebody_waited_for_goes_on_with_its_first_step(tmp_path: Path) -> None:
    """That began before the flow was on disk."""
    listener = socket.create_server(("127.0.0.1", 0))
    tell = "import os, socket, time\ndef main(port):\n    with socket.create_connection(('127.0.0.1', port)) as s:\n"
    code = f"{tell}        s.sendall(os.environ['WM_JOB_ID'].encode())\n        s.recv(1)\n    return 7"
    step = {"id": "a", "value": py(code, port="flow_input.port")}
    flow = {"value": {"modules": [step, {"id": "b", "value": IDENTITY}]}, "args": {"port": listener.getsockname()[1]}}
    flow_id = "01890000-0000-7000-8000-000000000001"
    listener.settimeout(20)
    with listener, serving(tmp_path / "data", "--workers", "2") as (server, client), ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(_call, client, flow, flow_id)
        first, _ = listener.accept()
        job_id = first.recv(100).decode()
        eventually(lambda: _rows(server) == 2, "flow and step are on disk")
        server.kill()
        assert waiting.result() is None
        again = server.start()
        second, _ = listener.accept()
        assert second.recv(100).decode() == job_id
        second.close()
        first.close()
        job = again.ended(flow_id)
        assert (job["success"], job["result"]) == (True, 7)
        assert job["flow_status"]["modules"][0]["job"] == job_id


def _call(client: Client, flow: JSON, flow_id: str) -> Answer | None:
    try:
        return client.post("/jobs/run_wait_result/preview_flow", flow, job_id=flow_id)
    except (OSError, http.client.HTTPException):
        return None


def _rows(server: Server) -> int:
    with closing(sqlite3.connect(server.data / "minwebhook.db", timeout=10)) as connection:
        return int(connection.execute("SELECT count(*) FROM job WHERE status = 'queued'").fetchone()[0])


def _types(client: Client, job_id: str) -> list[str]:
    return [module["type"] for module in client.job(job_id)["flow_status"]["modules"]]
