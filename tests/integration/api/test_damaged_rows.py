"""Rows that are damaged when the server starts: their jobs have failed, and no other one waits for them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from tests.flows import py, step
from tests.server import Client, Server, eventually


def eventually_result(client: Client, job_id: str) -> Any:
    path = f"/jobs_u/completed/get_result_maybe/{job_id}"
    return eventually(lambda: (found := client.get(path).json())["completed"] and found, "its end")["result"]


def test_a_damaged_row_keeps_no_other_job_from_being_queued_again(tmp_path: Path) -> None:
    server = Server(tmp_path / "data", ("--workers", "2"))
    try:
        client = server.start()
        client.deploy("u/admin/same", "def main(number): return number\n")
        number, options = (client.submit("u/admin/same", {"number": each}, scheduled_in_secs=3600) for each in range(2))
        body = {
            "value": {
                "modules": [
                    step("a", py("def main(): return 1"), suspend={"required_events": 1}),
                    step("b", {"type": "identity"}),
                ]
            }
        }
        flow = client.post("/jobs/run/preview_flow", body, scheduled_in_secs=3600).text
        assert server.stop() == 0
        for job_id, column in ((options, "options"), (flow, "raw_code")):
            query = f"UPDATE job SET {column} = 'no JSON' WHERE id = ?"  # noqa: S608 - constants
            assert server.execute(query, bytes.fromhex(job_id.replace("-", ""))) == 1
        client = server.start()
        assert [job["id"] for job in client.get("/jobs/queue/list").json()] == [number]
        for job_id in (options, flow):
            answer = eventually_result(client, job_id)
            assert "the record of the job is damaged" in answer["error"]["message"]
        assert client.job(options)["success"] is False
        assert {job["id"] for job in client.get("/jobs/completed/list").json()} == {options, flow}
        assert client.run("u/admin/same", {"number": 5}).json() == 5
    finally:
        server.close()
