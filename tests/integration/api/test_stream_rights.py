"""Whose jobs may be followed: the same answer on every way to them, whether by events, by polling or on a WebSocket."""

from __future__ import annotations

import json
from typing import Any

import pytest
from websockets.sync.client import connect
from websockets.typing import Subprotocol

from tests.server import Client, Server

TELL = "def main():\n    yield 'one'\n    yield 'two'\n"


@pytest.fixture(scope="module")
def ada(server: Server) -> Client:
    """Someone who may run what is in the folder ``team``, and sees the jobs of nobody else."""
    admin = server.client()
    admin.post("/api/users/create", {"email": "ada@x.org", "name": "ada"})
    assert admin.post("/workspaces/add_user", {"email": "ada@x.org"}).status == 201
    assert admin.post("/folders/create", {"name": "team", "extra_perms": {"u/ada": False}}).status == 200
    admin.deploy("f/team/tell", TELL)
    admin.deploy("u/admin/tell", TELL)
    return admin.with_token(admin.post("/api/users/tokens/impersonate", {"impersonate_email": "ada@x.org"}).text)


def asked(client: Client, **message: Any) -> dict[str, Any]:
    """The last that is said to one message on a WebSocket."""
    url = f"ws{client.address.removeprefix('http')}/api/w/demo/jobs/ws"
    headers = {"Authorization": f"Bearer {client.token}"}
    with connect(url, subprotocols=[Subprotocol("minwebhook.json")], additional_headers=headers, proxy=None) as socket:
        socket.send(json.dumps({"id": 1, **message}))
        while True:
            told: dict[str, Any] = json.loads(socket.recv(20))
            if told["type"] in ("result", "error"):
                return told


@pytest.mark.parametrize(("path", "run_status"), [("f/team/tell", 403), ("u/admin/tell", 401)])
def test_a_job_of_another_user(client: Client, ada: Client, path: str, run_status: int) -> None:
    job_id = client.submit(path, invisible_to_owner="true")
    client.ended(job_id)
    for kind in ("getupdate", "getupdate_sse"):
        answer = ada.get(f"/jobs_u/{kind}/{job_id}")
        assert (answer.status, "view token" in answer.text) == (403, True), answer.text
        # The id of an event opens nothing.
        assert ada.get(f"/jobs_u/{kind}/{job_id}", headers={"Last-Event-ID": f"{job_id}:0:0:q"}).status == 403
    before = len(client.get("/jobs/list", script_path_exact=path).json())
    answer = ada.get(f"/jobs/run_and_stream/p/{path}", headers={"Last-Event-ID": f"{job_id}:0:0:q"})
    assert answer.status == run_status, answer.text
    assert len(client.get("/jobs/list", script_path_exact=path).json()) == before
    for op in ("subscribe", "cancel"):
        told = asked(ada, op=op, job=job_id)
        assert (told["type"], told["message"].partition(":")[0]) == ("error", "Permission denied")


def test_runs_on_a_websocket_need_what_runs_by_address_need(client: Client, ada: Client) -> None:
    assert asked(ada, op="run", path="f/team/tell")["result"] == "onetwo"
    told = asked(ada, op="run", path="u/admin/tell")
    refused = ada.get("/jobs/run_wait_result/p/u/admin/tell")
    assert (told["type"], told["message"]) == ("error", refused.text)


def test_scopes_count_for_each_message(client: Client, ada: Client) -> None:
    hook = client.with_token(client.post("/api/users/tokens/create", {"scopes": ["jobs:run:scripts:f/team/*"]}).text)
    assert asked(hook, op="run", path="f/team/tell")["result"] == "onetwo"
    told = asked(hook, op="run", path="u/admin/tell")
    assert (told["type"], told["message"]) == (
        "error",
        "Permission denied: Required scope: jobs:run:scripts:u/admin/tell",
    )
    own, other = hook.submit("f/team/tell"), client.submit("u/admin/tell")
    assert asked(hook, op="subscribe", job=own)["result"] == "onetwo"
    assert asked(hook, op="subscribe", job=other)["type"] == "error"


def test_the_longest_offsets(client: Client, ada: Client) -> None:
    job_id = client.submit("f/team/tell")
    client.ended(job_id)
    for kind in ("getupdate", "getupdate_sse"):
        for name in ("log_offset", "stream_offset"):
            assert client.call("GET", f"/jobs_u/{kind}/{job_id}", query={name: 2**31 - 1}).status == 200
            for bad in (2**31, "1.5", "", "0x1", "१", "9" * 30):
                answer = client.call("GET", f"/jobs_u/{kind}/{job_id}", query={name: bad})
                assert (answer.status, answer.text.startswith(f"Bad request: {name}: ")) == (400, True), (bad, answer)
