"""The load client against a small real server, and what it refuses."""

from __future__ import annotations

import socket
import subprocess
import threading
from collections.abc import Iterator
from contextlib import closing
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from bench.loadclient import LoadError, Request, Shape, build, read_dump, run
from bench.report import percentile


class Handler(BaseHTTPRequestHandler):
    """Answers POST by path; the request's body comes back where nothing else is said."""

    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    server: Server

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        self.server.seen.append((self.path, dict(self.headers.items()), body))
        match self.path:
            case "/echo":
                self.answer(200, body)
            case "/close":
                self.answer(200, body, Connection="close")
            case "/refused":
                self.answer(503, b'{"error": "busy"}')
            case "/empty":
                self.send_response_only(204)
                self.end_headers()
            case "/large":
                self.answer(200, b"x" * 300_000 + body)
            case "/chunked":
                self.send_response_only(200)
                self.send_header("Transfer-Encoding", "chunked")
                self.end_headers()
                for piece in (body[:1], body[1:]):
                    self.wfile.write(b"%x;note=1\r\n%s\r\n" % (len(piece), piece))
                self.wfile.write(b"0\r\nTrailer: 1\r\n\r\n")
            case "/interim":
                self.wfile.write(b"HTTP/1.1 103 Early Hints\r\nLink: </x>\r\n\r\n")
                self.answer(200, body)
            case "/until-closed":
                self.wfile.write(b"HTTP/1.0 200 OK\r\n\r\n" + body)
                self.close_connection = True
            case "/cut-off":
                self.wfile.write(b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nhalf")
                self.close_connection = True
            case "/garbage":
                self.wfile.write(b"SSH-2.0-no http here\r\n\r\n")
                self.close_connection = True
            case "/hang-up":
                self.close_connection = True
            case "/stall-once":
                if len(self.server.seen) == 20:
                    self.server.stall.wait(0.4)
                self.answer(200, body)
            case "/silent":
                self.server.released.wait(30)
                self.close_connection = True
            case "/every-second":
                status = 500 if len(self.server.seen) % 2 == 0 else 200
                self.answer(status, body)

    def answer(self, status: int, body: bytes, **fields: str) -> None:
        self.send_response_only(status)
        self.send_header("Content-Length", str(len(body)))
        for name, value in fields.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: Any) -> None:
        pass


class Server(ThreadingHTTPServer):
    """Remembers what it was asked; ends only after all its threads have."""

    daemon_threads = False

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.seen: list[tuple[str, dict[str, str], bytes]] = []
        self.released = threading.Event()
        #: Never set: waiting for it is a stall.
        self.stall = threading.Event()

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client that has left is no error here."""


@pytest.fixture
def server() -> Iterator[Server]:
    with Server() as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield server
        server.released.set()
        server.shutdown()
        thread.join()


BODY = '{"a":1,"b":"hello"}'


def request(server: Server, path: str, **fields: Any) -> Request:
    return Request(server.server_port, path, BODY, **fields)


def shape(requests: int, **fields: Any) -> Shape:
    return Shape(requests=requests, seconds=10, **fields)


def test_measures_and_keeps_connections(load_binary: Path, server: Server, tmp_path: Path) -> None:
    dump = tmp_path / "latencies"
    load = run(load_binary, request(server, "/echo"), shape(200, connections=4), expect_body=BODY, dump=dump)
    assert (load.n, load.errors, load.error_kinds, load.first_error) == (200, 0, {}, "")
    assert load.connections_opened == 4
    assert load.rps == pytest.approx(200 / load.elapsed_s, rel=0.01)
    ordered = sorted(read_dump(dump))
    assert len(ordered) == 200
    assert load.latency_us["min"] == ordered[0]
    assert load.latency_us["p50"] == percentile(ordered, 500)
    assert load.latency_us["p90"] == percentile(ordered, 900)
    assert load.latency_us["p99"] == percentile(ordered, 990)
    assert load.latency_us["p99.9"] == load.latency_us["max"] == ordered[-1]
    assert load.latency_us["mean"] == pytest.approx(sum(ordered) / 200, abs=0.01)


def test_sends_the_body_and_the_headers(load_binary: Path, server: Server) -> None:
    headers = {"Content-Type": "application/json", "X-Note": "a: b"}
    assert run(load_binary, request(server, "/echo?x=1", headers=headers), shape(1, timeout_s=0.2)).n == 0
    (path, fields, body) = server.seen[0]
    assert path == "/echo?x=1"
    assert body == BODY.encode()
    assert fields["Content-Type"] == "application/json"
    assert fields["X-Note"] == "a: b"
    assert fields["Host"] == f"127.0.0.1:{server.server_port}"


def test_the_window_ends_by_time(load_binary: Path, server: Server) -> None:
    load = run(load_binary, request(server, "/echo"), Shape(seconds=0.2, warmup_s=0.1))
    assert load.errors == 0
    assert 0 < load.n < len(server.seen)


def test_pauses_between_requests(load_binary: Path, server: Server) -> None:
    load = run(load_binary, request(server, "/echo"), shape(5, pace_us=20_000))
    assert load.n == 5
    assert load.elapsed_s >= 4 * 0.020


def test_an_open_loop_keeps_its_rate(load_binary: Path, server: Server) -> None:
    load = run(load_binary, request(server, "/echo"), Shape(connections=8, rate=200, seconds=0.5))
    assert (load.n, load.errors) == (100, 0)
    assert load.elapsed_s == pytest.approx(0.5, abs=0.1)


def test_an_open_loop_charges_a_stall_to_all_who_waited(load_binary: Path, server: Server, tmp_path: Path) -> None:
    dump = tmp_path / "latencies"
    stalled = request(server, "/stall-once")
    open_loop = run(load_binary, stalled, Shape(connections=1, rate=100, seconds=1.0), dump=dump)
    late = [latency for latency in read_dump(dump) if latency > 100_000]
    assert (open_loop.n, open_loop.errors) == (100, 0)
    assert len(late) >= 25  # every one of those due in the first 300 of 400 ms
    server.seen.clear()
    run(load_binary, stalled, Shape(connections=1, requests=100, pace_us=5_000, seconds=10), dump=dump)
    assert sum(latency > 100_000 for latency in read_dump(dump)) == 1  # a closed loop hides the others


def test_an_open_loop_ends_when_nobody_answers(load_binary: Path, server: Server) -> None:
    load = run(load_binary, request(server, "/silent"), Shape(connections=2, rate=50, seconds=0.3, timeout_s=0.3))
    assert (load.n, load.error_kinds) == (0, {"timeout": 15})


def test_what_the_connections_cannot_carry_can_be_left_out(load_binary: Path, server: Server) -> None:
    shape = Shape(connections=1, rate=100, seconds=1.0, leaves_out=True)
    load = run(load_binary, request(server, "/stall-once"), shape)
    assert load.errors == 0
    assert load.left_out >= 25  # those due while the only connection waited for 400 ms
    assert load.n + load.left_out == pytest.approx(100, abs=1)


@pytest.mark.parametrize("path", ["/chunked", "/interim", "/until-closed", "/close"])
def test_reads_every_kind_of_answer(load_binary: Path, server: Server, path: str) -> None:
    load = run(load_binary, request(server, path), shape(5), expect_body=BODY)
    assert (load.n, load.errors) == (5, 0)
    assert load.connections_opened == (5 if path in ("/until-closed", "/close") else 1)


def test_reads_answers_without_a_body(load_binary: Path, server: Server) -> None:
    assert run(load_binary, request(server, "/empty"), shape(3), expect_body="").n == 3


def test_reads_long_answers(load_binary: Path, server: Server) -> None:
    load = run(load_binary, request(server, "/large"), shape(3), expect_contains="xx" + BODY)
    assert (load.n, load.errors) == (3, 0)


@pytest.mark.parametrize(
    ("path", "kind", "words"),
    [
        ("/refused", "status", 'status 503: {"error": "busy"}'),
        ("/cut-off", "protocol", "cut off"),
        ("/garbage", "protocol", "not HTTP"),
        ("/hang-up", "closed", "closed without an answer"),
    ],
)
def test_counts_errors(load_binary: Path, server: Server, path: str, kind: str, words: str) -> None:
    load = run(load_binary, request(server, path), shape(6, connections=2))
    assert (load.n, load.errors, load.error_kinds) == (0, 6, {kind: 6})
    assert words in load.first_error
    assert load.latency_us == {}


def test_counts_unexpected_bodies(load_binary: Path, server: Server) -> None:
    load = run(load_binary, request(server, "/echo"), shape(3), expect_body='{"a":1}')
    assert (load.n, load.error_kinds) == (0, {"body": 3})
    assert load.first_error == f"unexpected body: {BODY}"
    load = run(load_binary, request(server, "/echo"), shape(3), expect_contains="goodbye")
    assert (load.n, load.error_kinds) == (0, {"body": 3})


def test_errors_give_no_latency_and_do_not_end_the_run(load_binary: Path, server: Server) -> None:
    load = run(load_binary, request(server, "/every-second"), shape(10))
    assert (load.n, load.errors) == (5, 5)


def test_counts_answers_that_do_not_come(load_binary: Path, server: Server) -> None:
    load = run(load_binary, request(server, "/silent"), shape(2, timeout_s=0.1))
    assert (load.n, load.error_kinds) == (0, {"timeout": 2})


def test_gives_up_when_nobody_listens(load_binary: Path) -> None:
    with closing(socket.socket()) as unused:
        unused.bind(("127.0.0.1", 0))
        load = run(load_binary, Request(unused.getsockname()[1], "/", BODY), Shape(seconds=10))
    assert load.n == 0
    assert load.error_kinds == {"connect": load.errors}
    assert load.errors >= 100


@pytest.mark.parametrize(
    "host", ["10.0.0.1", "192.168.1.1", "126.255.255.255", "128.0.0.1", "0.0.0.1", "::1", "localhost", "127.1", ""]
)
def test_refuses_other_machines(load_binary: Path, host: str) -> None:
    with pytest.raises(LoadError, match=r"is refused|is not an IPv4 address"):
        run(load_binary, Request(80, "/", host=host), Shape(seconds=0.01))


def test_accepts_the_whole_loopback_net(load_binary: Path) -> None:
    with closing(socket.socket()) as unused:
        unused.bind(("127.255.255.254", 0))
        port = unused.getsockname()[1]
        assert run(load_binary, Request(port, "/", host="127.255.255.254"), Shape(seconds=1)).n == 0


@pytest.mark.parametrize(
    "arguments",
    [
        [],
        ["--port", "0"],
        ["--port", "65536"],
        ["--port", "80x"],
        ["--port", "80", "--connections", "257"],
        ["--port", "80", "--connections", "-1"],
        ["--port", "80", "--seconds", "601"],
        ["--port", "80", "--seconds", "nan"],
        ["--port", "80", "--requests", "10000001"],
        ["--port", "80", "--rate", "0"],
        ["--port", "80", "--rate", "100", "--pace-us", "1"],
        ["--port", "80", "--leave-out"],
        ["--port", "80", "--header", "no colon"],
        ["--port", "80", "--header", "a: b\r\nc: d"],
        ["--port", "80", "--path", "no-slash"],
        ["--port", "80", "--path", "/a b"],
        ["--port", "80", "--method", "get"],
        ["--port", "80", "--unknown"],
        ["--port", "80", "extra"],
    ],
)
def test_wrong_usage_ends_with_status_2(load_binary: Path, arguments: list[str]) -> None:
    result = subprocess.run([load_binary, *arguments], capture_output=True, text=True, timeout=10, check=False)
    assert result.returncode == 2
    assert result.stderr


def test_a_missing_client_or_compiler_is_named(tmp_path: Path) -> None:
    with pytest.raises(LoadError, match="does not exist"):
        run(tmp_path / "load", Request(80, "/"), Shape())
    with pytest.raises(LoadError, match="no C compiler"):
        build(tmp_path / "load", compiler="no-such-compiler")
