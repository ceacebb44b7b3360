"""kill -9 in the middle of flows: each ends with its one result, and what its steps did is counted once, or again as an
attempt. ``bench/flows.py --kill`` does it for longer.
"""

from __future__ import annotations

import socket
from pathlib import Path

import pytest

from bench.flows import KillRun
from tests.flows import IDENTITY, forloop, py, step
from tests.server import Client, serving


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


#: Fails when it is told to.
_FAILS_LATER = """
import socket
def main(port, x):
    with socket.create_connection(("127.0.0.1", port), 20) as s:
        s.recv(1)
    raise ValueError(str(x))
"""


def test_what_was_approved_counts_for_a_loop_that_is_repeated_after_a_crash(tmp_path: Path) -> None:
    with (
        socket.create_server(("127.0.0.1", 0)) as listener,
        serving(tmp_path / "data", "--workers", "2") as (server, client),
    ):
        listener.settimeout(20)
        port = listener.getsockname()[1]
        modules = [
            step("a", IDENTITY, suspend={"required_events": 1}),
            step(
                "l",
                forloop("[resume.n]", step("i", py(_FAILS_LATER, port=port, x="flow_input.iter.value"))),
                retry={"constant": {"attempts": 1, "seconds": 0}},
            ),
        ]
        job_id = client.post("/jobs/run/preview_flow", {"value": {"modules": modules}, "args": {}}).text
        client.post(f"/jobs/flow/resume/{job_id}", {"n": 5})
        with listener.accept()[0]:
            server.kill()
        again = server.start()
        for _ in range(2):  # what was begun, begun again, and the retry
            with listener.accept()[0] as connection:
                connection.send(b"x")
        (entry,) = again.ended(job_id)["result"]
        assert entry["error"]["message"] == "5"


def _types(client: Client, job_id: str) -> list[str]:
    return [module["type"] for module in client.job(job_id)["flow_status"]["modules"]]
