"""A workspace that is deleted leaves nothing but the audit log, and another one of its name knows nothing of it."""

from __future__ import annotations

import sqlite3
from contextlib import closing

from tests.server import Client, Server, eventually


def test_what_was_in_a_deleted_workspace_is_gone(server: Server, client: Client) -> None:
    wanted = {"id": "doomed", "name": "Doomed"}
    assert client.post("/api/workspaces/create", wanted).status == 201
    inside = client.with_token(client.token, "doomed")
    inside.deploy("u/admin/script", "def main(): return 'old'")
    inside.deploy("u/admin/slow", "import time\ndef main(): time.sleep(60)")
    step = {"id": "a", "value": {"type": "rawscript", "language": "python3", "content": "def main(): return 1"}}
    flow = {"path": "u/admin/flow", "summary": "", "value": {"modules": [step]}}
    assert inside.post("/flows/create", flow).status == 201
    variable = {"path": "u/admin/v", "value": "x", "is_secret": True, "description": ""}
    assert inside.post("/variables/create", variable).status == 201
    bound = client.post("/api/users/tokens/create", {"workspace_id": "doomed"}).text
    assert inside.run("u/admin/script").json() == "old"
    assert inside.post("/jobs/run_wait_result/f/u/admin/flow").status == 200
    inside.ended(inside.post("/jobs/run/p/u/admin/script", {}, {"Idempotency-Key": "k"}).text)
    slow = inside.submit("u/admin/slow")
    inside.running(slow)

    def delete() -> tuple[int, str]:
        answer = client.call("DELETE", "/api/workspaces/delete/doomed")
        return answer.status, answer.text

    assert delete()[0] == 400, "it is in service"
    assert inside.post(f"/jobs_u/queue/cancel/{slow}", {}).status == 200
    inside.ended(slow)
    slow = inside.submit("u/admin/slow")
    inside.running(slow)
    assert inside.post("/workspaces/archive").status == 200
    assert "have not ended" in delete()[1]
    assert client.post("/api/workspaces/unarchive/doomed").status == 200
    assert inside.post(f"/jobs_u/queue/cancel/{slow}", {}).status == 200
    inside.ended(slow)
    assert inside.post("/workspaces/archive").status == 200
    eventually(lambda: delete()[0] == 200, "the end of the workspace")
    assert delete()[0] == 404
    with closing(sqlite3.connect(server.data / "minwebhook.db")) as connection:
        tables = [row[0] for row in connection.execute("SELECT name FROM sqlite_schema WHERE type = 'table'")]
        for table in tables:
            columns = [row[1] for row in connection.execute(f"PRAGMA table_info({table})")]
            if "workspace_id" in columns and table != "audit":
                query = f"SELECT count(*) FROM {table} WHERE workspace_id = 'doomed'"  # noqa: S608 - names of tables
                assert connection.execute(query).fetchone() == (0,), table
        for table in ("job_log", "job_stream", "flow_items", "idempotency"):
            query = f"SELECT count(*) FROM {table} WHERE job_id NOT IN (SELECT id FROM job)"  # noqa: S608 - names of tables
            assert connection.execute(query).fetchone() == (0,), table

    assert client.post("/api/workspaces/create", wanted).status == 201
    assert inside.run("u/admin/script").status == 404
    assert inside.post("/jobs/run_wait_result/f/u/admin/flow").status == 404
    assert inside.get("/jobs/list").json() == []
    assert inside.get("/variables/list").json() == []
    assert client.with_token(bound, "doomed").get("/users/whoami").status == 401


def test_the_first_workspaces_stay(client: Client, server: Server) -> None:
    for workspace in ("admins", "demo"):
        assert client.call("DELETE", f"/api/workspaces/delete/{workspace}").status == 400
    assert server.user("no_admin").call("DELETE", "/api/workspaces/delete/demo").status == 403
