"""Streams that break: whatever the connection and the server do, what a client puts together is the script's output, once."""

from __future__ import annotations

import base64
import itertools
import json
import select
import signal
import socket
import ssl
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
import trustme

from tests.server import Client, Server, eventually
from tests.sse import Reader
from tests.streaming import CuttingProxy, Record, connected

MakeServer = Callable[..., Server]

#: What makes trouble for whoever cuts, counts or splits lines.
NASTY = "é😀\u2028\r\n\0\x1b[31m:data: id: x"
#: Streams and logs as much as it is told; a null result is the stream, any other is short.
CHATTER = f"""
import sys, time

def main(chunks=40, pause_s=0.0, is_bare=False, text={NASTY!r}):
    for number in range(chunks):
        print("log", number, text)
        chunk = f"chunk {{number}} {{text}}".replace("\\n", "\\\\n")
        sys.stdout.write(f"WM_STREAM: {{chunk}}\\n")
        time.sleep(pause_s)
    return None if is_bare else 7
"""


def expected(chunks: int, text: str = NASTY) -> str:
    return "".join(f"chunk {number} {text}" for number in range(chunks))


@pytest.fixture(autouse=True, scope="module")
def scripts(server: Server) -> None:
    server.client().deploy("u/admin/chatter", CHATTER)


def runs(client: Client) -> int:
    return len(client.get("/jobs/list", script_path_exact="u/admin/chatter").json())


@pytest.mark.parametrize("cut_after", [*range(600, 1200, 37), 3000, 10_000, 100_000])
def test_cut_at_every_so_many_bytes(client: Client, cut_after: int) -> None:
    before = runs(client)
    with CuttingProxy(client.address, cut_after) as proxy:
        behind = Client(proxy.address, client.token)
        # Some are cut while the job runs, some when it has long ended.
        payload = "eyJwYXVzZV9zIjogMC4wMDJ9"  # {"pause_s": 0.002}
        record = Record(behind, "/jobs/run_and_stream/p/u/admin/chatter", {"payload": payload})
        record.read_to_end()
    assert record.stream == expected(40)
    assert record.last["only_result"] == 7
    assert runs(client) == before + 1
    assert record.connections > 1 or cut_after > 5000


@pytest.mark.parametrize("cut_after", [1700, 2500, 5000])
def test_logs_that_are_cut(client: Client, cut_after: int) -> None:
    job_id = client.submit("u/admin/chatter", {"chunks": 300, "pause_s": 0.001})
    with CuttingProxy(client.address, cut_after) as proxy:
        record = Record(Client(proxy.address, client.token), f"/jobs_u/getupdate_sse/{job_id}", {"running": "false"})
        record.read_to_end()
    assert record.logs == client.logs(job_id)
    assert record.stream == expected(300)
    assert [update["running"] for update in record.updates if "running" in update] in ([True, False], [False])


def test_by_offsets_instead_of_ids(client: Client) -> None:
    job_id = client.submit("u/admin/chatter", {"chunks": 60, "pause_s": 0.005})
    logs = stream = ""
    query: dict[str, Any] = {}
    while True:
        with connected(client, f"/jobs_u/getupdate_sse/{job_id}", **query) as source:
            for event in itertools.islice(source.iter_sse(), 3):
                update = json.loads(event.data)
                logs += update.get("new_logs", "")
                stream += update.get("new_result_stream", "")
                query |= {name: update[name] for name in ("log_offset", "stream_offset") if name in update}
        if update.get("completed"):
            break
    assert (logs, stream) == (client.logs(job_id), expected(60))


# --- nasty output -------------------------------------------------------------------------------------------------------

LINES = {
    "CR": b"a\rb\r\r\nc",
    "NUL": b"a\0\0b",
    "separators": "a\u2028b\u2029c\u0085d\x0b\x0c\x1c\x1d\x1e".encode(),
    "invalid": b"a\xff\xfe\xc3(\xf0\x9f\x98b\xed\xa0\x80",
    "fields": b"data: x\nid: 1\nretry: 1\n: comment\nevent: y",
    "blank": b"\n\n\r\n\r\n \n\n",
}
WRITER = """
import base64, sys

def main(data, times=1):
    for _ in range(times):
        sys.stdout.buffer.write(base64.b64decode(data))
"""


@pytest.mark.parametrize("name", LINES)
@pytest.mark.parametrize("mark", [b"", b"\nWM_STREAM: "])
def test_lines_that_could_break_the_framing(client: Client, name: str, mark: bytes) -> None:
    client.deploy("u/admin/writer", WRITER)
    job_id = client.submit("u/admin/writer", {"data": base64.b64encode(mark + LINES[name]).decode()})
    client.ended(job_id)
    body = client.get(f"/jobs_u/getupdate_sse/{job_id}").body
    events = Reader().feed(body)
    assert events
    updates = [json.loads(event.data) for event in events]
    log = "".join(update.get("new_logs", "") for update in updates)
    assert log == client.logs(job_id)
    stream = "".join(update.get("new_result_stream", "") for update in updates)
    line = LINES[name].split(b"\n")[0] if mark else b""
    assert stream == line.decode("utf-8", "replace")
    assert body.count(b"data: {") == len(events)


def test_a_line_of_ten_megabytes(make_server: MakeServer) -> None:
    server = make_server("--workers", "1", "--max-log-bytes", str(32 << 20))
    client = server.start()
    client.deploy("u/admin/long", "def main():\n    print('x' * 10_000_000)\n    yield 'y' * 10_000_000\n")
    record = Record(client, "/jobs/run_and_stream/p/u/admin/long")
    record.read_to_end(connections=1)
    assert record.stream == "y" * 10_000_000 == record.last["only_result"]
    follower = Record(client, f"/jobs_u/getupdate_sse/{record.last_id.partition(':')[0]}", {"stream_offset": 1})
    follower.read_to_end(connections=1)
    assert follower.logs.endswith("\n" + "x" * 10_000_000 + "\n")


def test_a_large_log_is_sent_in_pieces(client: Client) -> None:
    client.deploy("u/admin/large", "def main():\n    for n in range(20_000):\n        print('é😀', n, 'x' * 100)\n")
    job_id = client.submit("u/admin/large")
    client.ended(job_id)
    log = client.logs(job_id)
    assert log.splitlines()[1:] == [f"é😀 {n} {'x' * 100}" for n in range(20_000)]
    answer = client.get(f"/jobs_u/get_logs/{job_id}")
    assert answer.headers["transfer-encoding"] == "chunked"
    assert answer.headers["content-type"] == "text/plain; charset=utf-8"
    hint, _, rest = answer.text.partition("\n")
    assert hint.startswith("to remove ansi colors")
    assert rest == log
    head = client.call("HEAD", f"/jobs_u/get_logs/{job_id}")
    assert (head.status, head.body) == (200, b"")


# --- slow readers -------------------------------------------------------------------------------------------------------


def test_a_reader_that_does_not_read_is_cut_and_holds_up_nobody(make_server: MakeServer, tmp_path: Path) -> None:
    # The kernel keeps little for a unix socket, and megabytes for a TCP connection.
    path = str(tmp_path / "socket")
    server = make_server("--workers", "1", "--write-timeout-s", "0.5", listen=("127.0.0.1:0", f"unix:{path}"))
    client = server.start()
    client.deploy(
        "u/admin/much", "def main():\n    for n in range(20_000):\n        print(n, 'x' * 100)\n    return 'done'\n"
    )
    job_id = client.submit("u/admin/much", scheduled_in_secs=1)
    with socket.socket(socket.AF_UNIX) as slow:
        slow.settimeout(20)
        slow.connect(path)
        request = (
            f"GET /api/w/demo/jobs_u/getupdate_sse/{job_id} HTTP/1.0\r\nAuthorization: Bearer {client.token}\r\n\r\n"
        )
        slow.sendall(request.encode())
        quick = Record(client, f"/jobs_u/getupdate_sse/{job_id}")
        quick.read_to_end(connections=1)
        assert client.job(job_id)["result"] == "done"
        log = client.logs(job_id)
        assert quick.logs == log
        eventually(lambda: is_cut(slow), "the cut")
        _, _, body = read_to_end(slow).partition(b"\r\n\r\n")
    reader = Reader()
    updates = [json.loads(event.data) for event in reader.feed(body)]
    got = "".join(update.get("new_logs", "") for update in updates)
    assert len(got) < len(log)
    assert log.startswith(got)
    record = Record(client, f"/jobs_u/getupdate_sse/{job_id}", last_id=reader.last_id)
    record.read_to_end(connections=1)
    assert got + record.logs == log


def is_cut(connection: socket.socket) -> bool:
    """Whether the peer has closed, unread bytes or not."""
    poll = select.poll()
    poll.register(connection, select.POLLRDHUP)
    return bool(poll.poll(0))


def read_to_end(connection: socket.socket) -> bytes:
    data = b""
    while True:
        try:
            piece = connection.recv(1 << 20)
        except ConnectionResetError:
            return data
        if not piece:
            return data
        data += piece


# --- time ---------------------------------------------------------------------------------------------------------------


def test_heartbeats_and_the_end_of_time(make_server: MakeServer) -> None:
    server = make_server(
        "--stream-heartbeat-s", "0.05", "--stream-retry-s", "0.25", environment={"TIMEOUT_SSE_STREAM": "0.6"}
    )
    client = server.start()
    client.deploy("u/admin/chatter", CHATTER)
    job_id = client.submit("u/admin/chatter", scheduled_in_secs=2)
    reader = Reader()
    events = reader.feed(client.get(f"/jobs_u/getupdate_sse/{job_id}").body)
    assert [json.loads(event.data) for event in events] == [{"type": "update"}, {"type": "timeout"}]
    assert reader.retry_ms == 250
    assert len(reader.comments) >= 2
    assert reader.last_id == f"{job_id}:0:0:q"
    # The job does not mind, and the client comes back until it has all.
    record = Record(client, f"/jobs_u/getupdate_sse/{job_id}", {"only_result": "true"}, last_id=reader.last_id)
    record.read_to_end()
    assert record.connections > 1
    assert record.stream == expected(40)


def test_heartbeats_between_events_over_tls(make_server: MakeServer, tmp_path: Path) -> None:
    """There nothing can be sent without waiting: each stream sends for itself."""
    authority = trustme.CA()
    issued = authority.issue_cert("127.0.0.1")
    cert, key = tmp_path / "cert.pem", tmp_path / "key.pem"
    issued.cert_chain_pems[0].write_to_path(str(cert))
    issued.private_key_pem.write_to_path(str(key))
    trust = ssl.create_default_context()
    authority.configure_trust(trust)
    flags = ("--stream-heartbeat-s", "0.02", "--tls-cert", str(cert), "--tls-key", str(key))
    client = make_server(*flags).start()
    client.tls = trust
    client.deploy("u/admin/chatter", CHATTER)
    job_id = client.submit("u/admin/chatter", {"chunks": 10, "pause_s": 0.06})
    with ThreadPoolExecutor(5) as readers:  # they wait for the same events
        bodies = list(readers.map(lambda _: client.get(f"/jobs_u/getupdate_sse/{job_id}").body, range(5)))
    for body in bodies:
        reader = Reader()
        updates = [json.loads(event.data) for event in reader.feed(body)]
        assert "".join(update.get("new_result_stream", "") for update in updates) == expected(10)
        assert len(reader.comments) >= 5


# --- the server goes away -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("how", [signal.SIGTERM, signal.SIGKILL])
def test_an_ended_job_after_a_restart(make_server: MakeServer, how: signal.Signals) -> None:
    server = make_server("--workers", "1")
    client = server.start()
    client.deploy("u/admin/chatter", CHATTER)
    job_id = client.submit("u/admin/chatter", {"chunks": 2000})
    client.ended(job_id)
    record = Record(client, f"/jobs_u/getupdate_sse/{job_id}")
    assert record.read(events=4)
    assert 0 < len(record.stream) < len(expected(2000))
    # The row of an ended job is on disk some hundredths of a second after its end.
    eventually(lambda: client.get("/jobs/completed/count").json()["database_length"] == 1, "the row")
    server.signal(how)
    server.wait()
    record.client = client = server.start()
    record.read_to_end(connections=1)
    assert record.stream == expected(2000)
    assert record.logs == client.logs(job_id)


def test_a_running_job_that_a_crash_interrupts(make_server: MakeServer) -> None:
    server = make_server("--workers", "1")
    client = server.start()
    client.deploy("u/admin/chatter", CHATTER)
    record = Record(client, "/jobs/run_and_stream/p/u/admin/chatter")
    record.query = {"method": "POST", "data": {"chunks": 30, "pause_s": 0.05, "is_bare": True}}
    assert record.read(events=6)
    server.kill()
    assert not record.read()
    record.client = client = server.start()
    # The job runs again from its beginning; the client gets what it does not have.
    record.read_to_end(connections=1)
    assert record.stream == expected(30) == record.last["only_result"]
    assert runs(client) == 1


def test_a_stop_closes_the_streams_of_jobs_that_wait_and_not_of_those_that_run(make_server: MakeServer) -> None:
    server = make_server("--workers", "1")
    client = server.start()
    client.deploy("u/admin/chatter", CHATTER)
    running = Record(client, "/jobs/run_and_stream/p/u/admin/chatter")
    running.query = {"method": "POST", "data": {"chunks": 20, "pause_s": 0.1}}
    assert running.read(events=2)
    waiting_id = client.submit("u/admin/chatter", {"chunks": 3})
    waiting = Record(client, f"/jobs_u/getupdate_sse/{waiting_id}", {"no_logs": "true"})
    with (
        connected(client, waiting.path) as source,
        connected(client, running.path, last_id=running.last_id, **running.query) as other,
    ):
        events, others = source.iter_sse(), other.iter_sse()
        waiting.take(next(events))
        running.take(next(others))
        server.signal(signal.SIGTERM)
        assert list(events) == []  # closed, and whole
        for event in others:
            running.take(event)
        assert running.has_ended
    assert running.stream == expected(20)
    assert server.wait() == 0
    waiting.client = client = server.start()
    waiting.read_to_end(connections=1)
    assert waiting.stream == expected(3)
