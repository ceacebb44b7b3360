"""The audit log of a real server: what is told, to whom, and whether it is whole."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from websockets.sync.client import connect
from websockets.typing import Subprotocol

from minwebhook.cli.main import main
from tests.server import Client, Server, eventually, serving

ECHO = "def main(**arguments):\n    return arguments\n"
SECRET = "open-sesame-canary"


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A server with a script."""
    with serving(tmp_path_factory.mktemp("server") / "data", "--workers", "2") as (server, client):
        client.deploy("u/admin/echo", ECHO)
        yield server


@pytest.fixture
def client(server: Server) -> Client:
    """A client with the admin's token."""
    return server.client()


def listed(client: Client, **query: Any) -> list[dict[str, Any]]:
    answer = client.get("/audit/list", **query)
    assert answer.status == 200, answer.text
    found: list[dict[str, Any]] = answer.json()
    return found


def found(client: Client, **query: Any) -> dict[str, Any]:
    """The newest record of a kind, once it is there."""
    records = eventually(lambda: listed(client, **query), f"a record with {query}")
    assert records
    return records[0]


def operations(client: Client, resource: str) -> list[tuple[str, str]]:
    return [(item["operation"], item["action_kind"]) for item in reversed(listed(client, resource=resource))]


def test_changes_are_told_of_and_what_fails_is_not(client: Client) -> None:
    path, new = "u/admin/audited", {"path": "u/admin/audited", "value": SECRET, "is_secret": True}
    assert client.post("/variables/create", new).status == 201
    assert client.post("/variables/create", new).status == 400
    assert client.post(f"/variables/update/{path}", {"value": 1}).status == 400
    assert client.post(f"/variables/update/{path}", {"value": SECRET}).status == 200
    assert client.get(f"/variables/get/{path}", decrypt_secret="false").status == 200
    assert client.get(f"/variables/get_value/{path}").status == 200
    assert client.call("DELETE", f"/variables/delete/{path}").status == 200
    assert client.call("DELETE", f"/variables/delete/{path}").status == 404
    assert operations(client, path) == [
        ("variables.create", "Created"),
        ("variables.update", "Updated"),
        ("variables.decrypt_secret", "Execute"),
        ("variables.delete", "Delete"),
    ]
    assert SECRET not in client.get("/audit/list").text


def test_runs_are_told_of_with_who_started_them(client: Client, server: Server) -> None:
    carol = server.user("carol")
    client.deploy("u/carol/echo", "def main(**arguments): return arguments")
    job_id = carol.submit("u/carol/echo")
    carol.ended(job_id)
    record = found(client, username="carol", operation="jobs.run.script")
    said = {"job_id": job_id, "created_by": "carol", "client": "127.0.0.1", "token": carol.token[:10]}
    assert (record["resource"], record["parameters"]) == ("u/carol/echo", said)
    carol.run("u/carol/echo")
    eventually(lambda: len(listed(client, username="carol")) == 2, "the record of a sync job")
    client.preview("def main(): pass")
    assert found(client, operation="jobs.run.preview")["resource"] is None
    value = {"modules": [{"id": "a", "value": {"type": "rawscript", "language": "bash", "content": "echo 1"}}]}
    for way in ("run", "run_wait_result"):
        carol.post(f"/jobs/{way}/preview_flow", {"value": value})
    kinds = "jobs.run.flowpreview,jobs.run.preview"
    eventually(lambda: len(listed(client, operations=kinds, username="carol")) == 4, "two flows and their steps")
    replayed = carol.post(f"/jobs/replay/{job_id}").text
    carol.ended(replayed)
    records = [*listed(client, operations=kinds, username="carol"), found(client, resource="u/carol/echo")]
    assert {record["parameters"]["client"] for record in records} == {"127.0.0.1"}
    assert records[-1]["parameters"]["job_id"] == replayed


def test_what_is_done_on_a_websocket_is_told_of_like_by_a_route(client: Client, server: Server) -> None:
    erin = server.user("erin")
    client.deploy("u/erin/slow", "import time\ndef main(): time.sleep(60)")
    url = f"{erin.address.replace('http', 'ws')}/api/w/demo/jobs/ws?token={erin.token}"
    with connect(url, subprotocols=[Subprotocol("minwebhook.json")]) as socket:
        socket.send('{"op": "run", "id": 1, "path": "u/erin/slow", "args": {}}')
        job_id = json.loads(socket.recv(timeout=20))["job"]
        socket.send(json.dumps({"op": "cancel", "id": 2, "job": job_id}))
        cancelled = found(client, username="erin", operation="jobs.cancel")
        assert (cancelled["resource"], cancelled["parameters"]) == (
            job_id,
            {"client": "127.0.0.1", "token": erin.token[:10]},
        )
    run = found(client, username="erin", operation="jobs.run.script")
    assert (run["parameters"]["job_id"], run["parameters"]["client"]) == (job_id, "127.0.0.1")


def test_where_a_job_came_from_is_known_after_a_crash(tmp_path: Path) -> None:
    with serving(tmp_path / "data", "--workers", "1") as (server, client):
        client.deploy("u/admin/slow", "import time\ndef main(): time.sleep(60)")
        client.deploy("u/admin/fast", "def main(): pass")
        dave = server.user("dave")
        client.post("/folders/create", {"name": "team", "extra_perms": {"u/dave": True}})
        client.deploy("f/team/fast", "def main(): pass")
        client.running(client.submit("u/admin/slow"))
        job_id = dave.submit("f/team/fast")
        server.kill()
    with serving(tmp_path / "data", "--workers", "2") as (_, client):
        record = found(client, username="dave", operation="jobs.run.script")
        said = {"job_id": job_id, "created_by": "dave", "client": "127.0.0.1", "token": dave.token[:10]}
        assert record["parameters"] == said


def test_a_secret_that_a_job_was_told_is_told_of(client: Client) -> None:
    client.post("/variables/create", {"path": "f/team/s", "value": SECRET, "is_secret": True})
    client.post("/resources/create", {"path": "f/team/r", "value": {"a": "$var:f/team/s"}, "resource_type": "any"})
    job_id = client.submit("u/admin/echo", {"x": "$res:f/team/r"})
    client.ended(job_id)
    record = found(client, operation="variables.decrypt_secret", resource="f/team/s")
    assert record["parameters"] == {"job_id": job_id}
    assert client.get("/resources/get_value_interpolated/f/team/r").status == 200
    eventually(
        lambda: len(listed(client, operation="variables.decrypt_secret", resource="f/team/s")) == 2, "the record"
    )


def test_everybody_sees_their_own_and_admins_see_all(client: Client, server: Server) -> None:
    dave = server.user("dave")
    dave.post("/variables/create", {"path": "u/dave/x", "value": "", "is_secret": False})
    mine = listed(dave)
    assert [(item["username"], item["operation"]) for item in mine] == [("dave", "variables.create")]
    assert listed(dave, username="admin") == []
    assert dave.get(f"/audit/get/{mine[0]['id']}").json() == mine[0]
    assert dave.get(f"/audit/get/{mine[0]['id'] - 1}").status == 404
    assert client.get(f"/audit/get/{mine[0]['id'] - 1}").status == 200
    assert mine[0] in listed(client)
    assert mine[0] not in listed(client.with_token(client.token, "admins"))


def test_records_are_found_by_what_they_tell(client: Client) -> None:
    client.post("/variables/create", {"path": "u/admin/find", "value": "", "is_secret": False})
    record = listed(client, resource="u/admin/find")[0]
    when = record["timestamp"]
    for query in (
        {"after": when, "before": when},
        {"operations": "variables.create,variables.delete"},
        {"exclude_operations": "jobs.run.script"},
        {"action_kind": "Created"},
    ):
        assert record in listed(client, **query), query
    for query in ({"after": "2999-01-01T00:00:00Z"}, {"before": "2000-01-01T00:00:00Z"}, {"operations": "none"}):
        assert record not in listed(client, **query), query
    assert len(listed(client, per_page=1)) == 1
    assert listed(client, per_page=1, page=2) == listed(client)[1:2]
    mistakes: list[dict[str, Any]] = [
        {"action_kind": "x"},
        {"after": "soon"},
        {"page": "x"},
        {"operations": "x," * 101},
    ]
    for bad in mistakes:
        assert client.get("/audit/list", **bad).status == 400


def test_tokens_and_cancellations_are_told_of(client: Client) -> None:
    token = client.post("/api/users/tokens/create", {"label": "audited-door"}).text
    assert client.call("DELETE", f"/api/users/tokens/delete/{token[:10]}").status == 200
    job_id = client.submit("u/admin/echo", scheduled_for="2999-12-31T23:59:59Z")
    assert client.post(f"/jobs_u/queue/cancel/{job_id}", {"reason": "x"}).status == 200
    assert operations(client, job_id) == [("jobs.cancel", "Delete")]


def verify(server: Server, *more: str) -> int:
    return main(["audit", "verify", "--data", str(server.data), *more])


def test_a_record_that_somebody_changes_is_found(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with serving(tmp_path / "data") as (server, client):
        for number in range(5):
            client.post("/variables/create", {"path": f"u/admin/v{number}", "value": "", "is_secret": False})
        client.post("/api/users/tokens/create", {"label": "audited-door"})
        assert verify(server) == 0
        place = capsys.readouterr().out.split()[-1]
        assert place.startswith("6:")
        client.deploy("u/admin/echo", ECHO)
        client.run("u/admin/echo")
        server.kill()
        server.start()
        assert server.stop() == 0
    assert verify(server, "--expect", place) == verify(server, "--json") == 0
    shown = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert shown["whole"] and shown["records"] >= 7
    assert main(["audit", "export", "--data", str(server.data)]) == 0
    exported = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [item["id"] for item in exported] == list(range(1, shown["records"] + 1))
    assert f"{exported[5]['id']}:{exported[5]['hash']}" == place
    for change, name in (
        ("UPDATE audit SET username = 'nobody' WHERE id = 3", "record 3 is broken"),
        ("DELETE FROM audit WHERE id = 3", "record 4 is broken: the records from 3 on"),
        ("DELETE FROM audit WHERE id > 4", "record 6 is missing: there are 4"),
        ("UPDATE audit SET parameters = '{}', hash = x'00' WHERE id = 6", "record 6 is broken"),
    ):
        with closing(sqlite3.connect(server.data / "minwebhook.db", isolation_level=None)) as connection:
            kept = connection.execute("SELECT * FROM audit").fetchall()
            connection.execute(change)
            assert verify(server, "--expect", place) == 1
            assert name in capsys.readouterr().out
            connection.execute("DELETE FROM audit")
            connection.executemany("INSERT INTO audit VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)", kept)
    assert verify(server, "--expect", "6:" + "0" * 64) == 1
    assert "record 6 is another one" in capsys.readouterr().out
    assert verify(server, "--expect", "six") == 1


def test_runs_are_left_out_if_the_setting_says_so(tmp_path: Path) -> None:
    with serving(tmp_path / "data", "--no-audit-runs") as (_, client):
        client.deploy("u/admin/echo", ECHO)
        client.ended(client.submit("u/admin/echo"))
        assert [item["operation"] for item in listed(client)] == ["scripts.create"]
