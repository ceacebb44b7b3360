"""Running, following and cancelling jobs on a WebSocket, with a client that is not ours."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import cbor2
import pytest
from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.sync.client import ClientConnection, connect
from websockets.typing import Subprotocol

from tests.server import WORKSPACE, Client, Server, eventually, serving

TIMEOUT_S = 20
ADD = "def main(a: int = 1, b: int = 2):\n    return a + b\n"
TELL = "def main():\n    print('log')\n    yield 'one'\n    yield 'two'\n"
BYTES = "def main(data: bytes):\n    return {'twice': data * 2}\n"
FAILS = "def main():\n    raise LookupError('no order')\n"
WAITS = "import time\n\ndef main():\n    print('waits')\n    time.sleep(60)\n"


@pytest.fixture(autouse=True, scope="module")
def scripts(server: Server) -> None:
    client = server.client()
    for name, source in (("add", ADD), ("tell", TELL), ("bytes", BYTES), ("fails", FAILS), ("waits", WAITS)):
        client.deploy(f"u/admin/ws_{name}", source)


class Talk:
    """A client of one WebSocket."""

    def __init__(self, connection: ClientConnection, *, cbor: bool) -> None:
        self.connection = connection
        self._cbor = cbor

    def send(self, **message: Any) -> None:
        self.connection.send(cbor2.dumps(message) if self._cbor else json.dumps(message))

    def receive(self) -> dict[str, Any]:
        message = self.connection.recv(TIMEOUT_S)
        value = cbor2.loads(message) if isinstance(message, bytes) else json.loads(message)
        assert isinstance(value, dict)
        return value

    def until_end(self, message_id: Any) -> list[dict[str, Any]]:
        """All messages up to the last one about ``message_id``, which must be of nothing else."""
        told: list[dict[str, Any]] = []
        while not told or told[-1]["type"] not in ("result", "error"):
            told.append(self.receive())
            assert told[-1]["id"] == message_id
        return told

    def closed(self) -> tuple[int, str]:
        """Code and reason of the server's close frame."""
        with pytest.raises(ConnectionClosed) as raised:
            while True:
                self.connection.recv(TIMEOUT_S)
        assert raised.value.rcvd is not None
        return raised.value.rcvd.code, raised.value.rcvd.reason


@contextmanager
def talking(client: Client, subprotocol: str = "json", workspace: str = WORKSPACE, **headers: str) -> Iterator[Talk]:
    fields = headers or {"Authorization": f"Bearer {client.token}"}
    url = f"ws{client.address.removeprefix('http')}/api/w/{workspace}/jobs/ws"
    names = [Subprotocol(f"minwebhook.{subprotocol}")]
    with connect(url, subprotocols=names, additional_headers=fields, proxy=None) as connection:
        assert connection.subprotocol == names[0]
        assert connection.protocol.extensions == []
        yield Talk(connection, cbor=subprotocol == "cbor")


@pytest.mark.parametrize("subprotocol", ["json", "cbor"])
def test_a_run(client: Client, subprotocol: str) -> None:
    with talking(client, subprotocol) as talk:
        talk.send(op="run", id=7, path="u/admin/ws_add", args={"a": 40})
        started, result = talk.until_end(7)
    assert started == {"type": "started", "id": 7, "job": started["job"]}
    assert result == {"type": "result", "id": 7, "job": started["job"], "success": True, "result": 42}
    job = client.job(started["job"])
    assert job["script_path"] == "u/admin/ws_add"
    assert job["args"] == {"a": 40}


def test_a_run_by_hash(client: Client) -> None:
    script_hash = client.deploy("u/admin/ws_by_hash", "def main():\n    return 'this version'\n")
    with talking(client) as talk:
        talk.send(op="run", id="x", hash=script_hash)
        assert talk.until_end("x")[-1]["result"] == "this version"


def test_byte_strings_in_cbor(client: Client) -> None:
    with talking(client, "cbor") as talk:
        talk.send(op="run", id=1, path="u/admin/ws_bytes", args={"data": b"\0\xff"})
        assert talk.until_end(1)[-1]["result"] == {"twice": b"\0\xff\0\xff"}
        talk.send(op="run", id=2, path="u/admin/ws_bytes", args={"data": b"\1"}, logs=True)
        assert talk.until_end(2)[-1]["result"] == {"twice": b"\1\1"}


def test_large_integers_keep_their_digits(client: Client) -> None:
    with talking(client) as talk:
        talk.send(op="run", id=1, path="u/admin/ws_add", args={"a": 10**30, "b": 1})
        assert talk.until_end(1)[-1]["result"] == 10**30 + 1


def test_log_and_stream_of_a_run(client: Client) -> None:
    with talking(client) as talk:
        talk.send(op="run", id=1, path="u/admin/ws_tell", logs=True, stream=True)
        started, *told, result = talk.until_end(1)
    assert started["type"] == "started"
    assert {message["type"] for message in told} == {"log", "stream"}
    assert "".join(message["text"] for message in told if message["type"] == "stream") == "onetwo"
    assert "".join(message["text"] for message in told if message["type"] == "log") == client.logs(started["job"])
    assert result["result"] == "onetwo"


def test_a_failure_is_a_result(client: Client) -> None:
    with talking(client) as talk:
        talk.send(op="run", id=1, path="u/admin/ws_fails")
        result = talk.until_end(1)[-1]
    assert result["success"] is False
    assert result["result"]["error"]["message"] == "no order"


def test_many_at_once(client: Client) -> None:
    count = 100
    with talking(client) as talk:
        for number in range(count):
            talk.send(op="run", id=number, path="u/admin/ws_add", args={"a": number, "b": 0})
        told = [talk.receive() for _ in range(2 * count)]
    assert [message["id"] for message in told if message["type"] == "started"] == list(range(count))
    results = {message["id"]: message["result"] for message in told if message["type"] == "result"}
    assert results == {number: number for number in range(count)}
    has_started = set()
    for message in told:
        if message["type"] == "started":
            has_started.add(message["id"])
        assert message["id"] in has_started


@pytest.mark.parametrize("is_over", [True, False])
def test_subscribing(client: Client, is_over: bool) -> None:
    job_id = client.submit("u/admin/ws_tell")
    if is_over:
        client.ended(job_id)
    with talking(client) as talk:
        talk.send(op="subscribe", id=1, job=job_id)
        *told, result = talk.until_end(1)
    assert "".join(message["text"] for message in told if message["type"] == "stream") == "onetwo"
    assert "".join(message["text"] for message in told if message["type"] == "log") == client.logs(job_id)
    assert result == {"type": "result", "id": 1, "job": job_id, "success": True, "result": "onetwo"}


def test_cancelling_what_runs_here(client: Client) -> None:
    with talking(client) as talk:
        talk.send(op="run", id="run", path="u/admin/ws_waits", logs=True)
        job_id = talk.receive()["job"]
        while "waits" not in talk.receive()["text"]:
            pass
        talk.send(op="cancel", id="cancel", job=job_id, reason="enough")
        ends: list[dict[str, Any]] = []
        while len(ends) < 2:
            message = talk.receive()
            if message["type"] != "log":  # the end of the line may come late
                ends.append(message)
    assert {message["id"] for message in ends} == {"run", "cancel"}
    for message in ends:
        assert message["type"] == "result"
        assert message["success"] is False
        assert "enough" in message["result"]["error"]["message"]
    assert client.job(job_id)["canceled_reason"] == "enough"


def test_who_leaves_takes_the_runs_along_but_not_what_is_only_followed(client: Client) -> None:
    followed = client.submit("u/admin/ws_waits")
    client.running(followed)
    with talking(client) as talk:
        talk.send(op="subscribe", id=1, job=followed)
        assert talk.receive()["type"] == "log"
        talk.send(op="run", id=2, path="u/admin/ws_waits")
        while (started := talk.receive())["type"] != "started":
            pass
    job_id = started["job"]
    job = client.ended(job_id)
    assert job["canceled_reason"] == "http connection broke"
    assert client.job(followed)["type"] == "QueuedJob"
    client.post(f"/jobs_u/queue/force_cancel/{followed}", {})


@pytest.mark.parametrize(
    ("message", "message_id", "text"),
    [
        ("{", None, "Bad request: "),
        ("[]", None, "send an object"),
        ('{"op": "dance", "id": 3}', 3, "op: send"),
        ('{"op": "run", "id": [1]}', None, "id: send"),
        ('{"op": "run", "id": 1}', 1, "the path or the hash"),
        ('{"op": "run", "id": 1, "path": 5}', 1, "path: send a text"),
        ('{"op": "run", "id": 1, "path": "u/admin/nobody"}', 1, "Not found: script not found at name u/admin/nobody"),
        ('{"op": "run", "id": 1, "hash": "zz"}', 1, "Bad request: "),
        ('{"op": "run", "id": 1, "path": "u/admin/ws_add", "args": [1]}', 1, "args: send an object"),
        ('{"op": "run", "id": 1, "path": "u/admin/ws_add", "logs": 1}', 1, "logs: send true or false"),
        ('{"op": "subscribe", "id": 1}', 1, "job: send the id"),
        ('{"op": "subscribe", "id": 1, "job": "x"}', 1, "is not a UUID"),
        ('{"op": "subscribe", "id": 1, "job": "01a20156-0fca-7000-b6a3-dd03b6257e63"}', 1, "Not found: Job"),
        ('{"op": "cancel", "id": 1, "job": "01a20156-0fca-7000-b6a3-dd03b6257e63"}', 1, "Not found: "),
        (b"{}", None, "send JSON in text messages"),
    ],
)
def test_messages_that_cannot_be_followed(client: Client, message: str | bytes, message_id: Any, text: str) -> None:
    with talking(client) as talk:
        talk.connection.send(message)
        told = talk.receive()
        assert (told["type"], told["id"], told["job"]) == ("error", message_id, None)
        assert text in told["message"]
        talk.send(op="run", id=1, path="u/admin/ws_add")  # the conversation goes on
        assert talk.until_end(1)[-1]["result"] == 3


def test_an_id_is_used_once_at_a_time(client: Client) -> None:
    with talking(client) as talk:
        talk.send(op="run", id=1, path="u/admin/ws_waits")
        assert talk.receive()["type"] == "started"
        talk.send(op="run", id=1, path="u/admin/ws_add")
        assert "in use" in talk.receive()["message"]
        talk.send(op="run", id="1", path="u/admin/ws_add")
        assert talk.until_end("1")[-1]["result"] == 3


def test_a_cancelled_job_cannot_be_cancelled_again(client: Client) -> None:
    job_id = client.submit("u/admin/ws_add")
    client.ended(job_id)
    with talking(client) as talk:
        talk.send(op="cancel", id=1, job=job_id)
        assert "already completed" in talk.receive()["message"]


def test_the_token_is_looked_at_for_each_message(client: Client) -> None:
    token = client.post("/api/users/tokens/create", {"label": "short"}).text
    short = client.with_token(token)
    with talking(short) as talk:
        talk.send(op="run", id=1, path="u/admin/ws_add")
        assert talk.until_end(1)[-1]["result"] == 3
        client.call("DELETE", f"/api/users/tokens/delete/{token[:10]}")
        talk.send(op="run", id=2, path="u/admin/ws_add")
        code, _ = talk.closed()
    assert code == 1008


def test_which_pages_may_use_the_cookie(client: Client) -> None:
    cookie = f"token={client.token}"
    with talking(client, Cookie=cookie, Origin=client.address) as talk:
        talk.send(op="run", id=1, path="u/admin/ws_add")
        assert talk.until_end(1)[-1]["result"] == 3
    with pytest.raises(InvalidStatus) as raised, talking(client, Cookie=cookie, Origin="http://evil.example"):
        pass
    assert raised.value.response.status_code == 403
    bearer = f"Bearer {client.token}"
    with talking(client, Authorization=bearer, Cookie=cookie, Origin="http://evil.example"):
        pass  # no page of a stranger knows the token


def test_a_script_that_takes_signed_requests_only(client: Client) -> None:
    signature = {"header": "X-Signature", "secret": "unknown", "algorithm": "sha256"}
    client.deploy("u/admin/ws_signed", ADD, signature=signature)
    with talking(client) as talk:
        talk.send(op="run", id=1, path="u/admin/ws_signed")
        assert "Permission denied: this script takes signed requests only" in talk.receive()["message"]


@pytest.mark.parametrize(("headers", "status"), [({"X-None": "1"}, 401), ({"Authorization": "Bearer wrong"}, 401)])
def test_who_may_not_talk(client: Client, headers: dict[str, str], status: int) -> None:
    with pytest.raises(InvalidStatus) as raised, talking(client, **headers):
        pass
    assert raised.value.response.status_code == status


def test_another_subprotocol(client: Client) -> None:
    with pytest.raises(InvalidStatus) as raised, talking(client, "xml"):
        pass
    assert raised.value.response.status_code == 400
    assert client.get("/jobs/ws").status == 426


def test_limits(tmp_path: Path) -> None:
    flags = ("--max-websocket-jobs=2", "--max-websocket-message-bytes=2000")
    with serving(tmp_path / "data", *flags) as (_, client):
        client.deploy("u/admin/waits", WAITS)
        with talking(client) as talk:
            for number in range(3):
                talk.send(op="run", id=number, path="u/admin/waits")
            code, reason = talk.closed()
        assert code == 1013
        assert "max_websocket_jobs" in reason
        with talking(client) as talk:
            talk.send(op="run", id=1, path="u/admin/waits", args={"x": "x" * 3000})
            code, _ = talk.closed()
        assert code == 1009
        eventually(lambda: client.get("/jobs/queue/count").json()["database_length"] == 0, "the jobs to be gone")


def test_a_stopping_server_tells_what_still_ends(tmp_path: Path) -> None:
    with serving(tmp_path / "data", "--grace-s=20") as (server, client):
        client.deploy(
            "u/admin/short", "import time\n\ndef main():\n    print('runs')\n    time.sleep(1)\n    return 5\n"
        )
        with talking(client) as talk:
            talk.send(op="run", id=1, path="u/admin/short", logs=True)
            while talk.receive().get("text", "").count("runs") == 0:
                pass
            server.signal(15)
            assert talk.until_end(1)[-1]["result"] == 5
            assert talk.closed()[0] == 1001
        server.wait()
