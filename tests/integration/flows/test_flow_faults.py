"""What the database does not take, or give, of one flow ends or delays that flow, and no other."""

from __future__ import annotations

from pathlib import Path

from tests.flows import JSON, py, step
from tests.server import Client, eventually, serving

ONE = py("def main(): return 1")
#: The status of a flow with a step of this name is refused; that it has failed is not.
_REFUSES = (
    "CREATE TRIGGER refuses BEFORE UPDATE OF flow_status ON job"
    " WHEN instr(CAST(NEW.flow_status AS TEXT), 'culprit') BEGIN SELECT RAISE(ABORT, 'this status is not welcome'); END"
)


def _start(client: Client, *modules: JSON) -> str:
    answer = client.post("/jobs/run/preview_flow", {"value": {"modules": list(modules)}})
    assert answer.status == 201, answer.text
    return answer.text


def test_a_flow_that_cannot_be_written_fails_and_holds_up_no_other(tmp_path: Path) -> None:
    with serving(tmp_path / "data", "--workers", "2") as (server, client):
        before = _start(client, step("wait", ONE, suspend={"required_events": 1}), step("after", ONE))
        eventually(lambda: (client.job(before).get("flow_status") or {}).get("step") == 1, "a flow that waits")
        server.execute(_REFUSES)
        culprits = [_start(client, step("culprit", ONE), step("b", ONE)) for _ in range(3)]
        others = [_start(client, step("a", ONE), step("b", ONE)) for _ in range(3)]
        assert [client.ended(job_id)["result"] for job_id in others] == [1, 1, 1]
        for job_id in culprits:
            shown = client.ended(job_id)
            assert shown["success"] is False
            assert "the server's log says more" in shown["result"]["error"]["message"]
        body = {"value": {"modules": [step("culprit", ONE), step("b", ONE)]}}
        waited_for = client.post("/jobs/run_wait_result/preview_flow", body)
        assert "internal error" in waited_for.error["message"]
        inner = {"type": "branchall", "branches": [{"modules": [step("culprit", ONE), step("b", ONE)]}]}
        outer = client.ended(_start(client, step("outer", inner)))
        assert outer["success"] is False
        # None of them is left to be begun again.
        server.execute("DROP TRIGGER refuses")
        server.kill()
        again = server.start()
        assert {job["id"] for job in again.get("/jobs/queue/list").json()} == {before}
        assert again.post(f"/jobs/flow/resume/{before}").status in (200, 201)
        assert again.ended(before)["result"] == 1


def test_messages_that_cannot_be_read_are_looked_for_again(tmp_path: Path) -> None:
    with serving(tmp_path / "data", "--workers", "2") as (server, client):
        server.execute("ALTER TABLE approval RENAME TO away")
        job_id = _start(client, step("a", ONE, suspend={"required_events": 1, "timeout": 60}), step("b", ONE))
        eventually(lambda: "a flow waits for the disk" in server.log, "a look in vain")
        assert client.ended(_start(client, step("a", ONE)))["result"] == 1
        server.execute(
            "INSERT INTO away (workspace_id, flow_id, job_id, resume_id, approved, payload, created_at)"
            " SELECT workspace_id, id, id, 1, 1, x'6e756c6c', 1 FROM job WHERE flow_status IS NOT NULL AND status = 'queued'"
        )
        server.execute("ALTER TABLE away RENAME TO approval")
        assert client.ended(job_id)["result"] == 1
