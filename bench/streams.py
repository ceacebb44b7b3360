"""What streams of events cost: from the write of a script to the socket of a client, idle, and to a crowd.

    make bench-streams

The server and its jobs are kept on one core, the reader has the other. Scripts stream the time of each write. Two times
are compared with it: when the kernel put the bytes into the socket of the client (``SO_TIMESTAMPNS``, man 7 socket), which
is what the server is answerable for, and when the reader had them, which also measures a Python program with hundreds of
sockets. All by CLOCK_REALTIME, which is one for the whole machine. Loopback only; bounded in time and number. Not part of
the suite, which asserts no speed.
"""

from __future__ import annotations

import argparse
import http.client
import json
import os
import re
import resource
import select
import socket
import statistics
import struct
import sys
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Final, NamedTuple

if __package__ in (None, ""):  # run as a file
    sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from bench.machine import describe, load_average
from bench.processes import free_port, plain_environment, running
from bench.websocket import measure_http, measure_websocket

TOKEN: Final = "token-of-this-benchmark"  # of a server that lives for seconds, on the loopback interface
WORKSPACE: Final = "/api/w/demo"
START_TIMEOUT_S: Final = 30.0
#: Written by scripts, looked for by the reader.
STAMP: Final = re.compile(rb"@(\d+)@")
SCRIPT: Final = """
import time

def main(count: int, pause_s: float, delay_s: float = 0.0):
    time.sleep(delay_s)
    for _ in range(count):
        yield f"@{time.time_ns()}@"
        time.sleep(pause_s)
"""


#: Of <asm-generic/socket.h>; Python does not name it.
SO_TIMESTAMPNS: Final = 35
#: A ``struct timespec``.
TIMESPEC: Final = struct.Struct("qq")


class Arrival(NamedTuple):
    """One event at one stream. Times in nanoseconds since 1970."""

    written: int
    #: When it was in the socket of the client.
    arrived: int
    #: When the reader had it.
    read: int


@dataclass(frozen=True, slots=True)
class Delays:
    """Times in milliseconds, sorted."""

    values: Sequence[float]

    @classmethod
    def between(cls, pairs: Iterable[tuple[int, int]]) -> Delays:
        """From one time to the other, both in nanoseconds."""
        return cls(sorted((end - start) / 1e6 for start, end in pairs))

    def percentile(self, share: float) -> float:
        """Nearest rank."""
        return self.values[min(int(share * len(self.values)), len(self.values) - 1)]

    def __str__(self) -> str:
        p50, p99 = self.percentile(0.5), self.percentile(0.99)
        return f"p50 {p50:.2f} ms, p99 {p99:.2f} ms, max {self.values[-1]:.2f} ms (n = {len(self.values)})"


class Server:
    """One server on a core of its own, seen from outside."""

    def __init__(self, port: int, pid: int) -> None:
        self.port = port
        self._pid = pid

    def call(self, method: str, path: str, data: Any = None) -> str:
        """One request below the workspace; the body of its answer."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=30)
        try:
            headers = {"Authorization": f"Bearer {TOKEN}", "Content-Type": "application/json"}
            connection.request(method, WORKSPACE + path, None if data is None else json.dumps(data), headers)
            response = connection.getresponse()
            body = response.read().decode()
            if response.status >= 400:
                raise RuntimeError(f"{method} {path}: {response.status} {body}")
            return body
        finally:
            connection.close()

    def submit(self, **arguments: Any) -> str:
        """Starts the script; the id of the job."""
        return self.call("POST", "/jobs/run/p/u/admin/bench_stream", arguments)

    def cancel(self, job_id: str) -> None:
        """Ends a job."""
        self.call("POST", f"/jobs_u/queue/cancel/{job_id}", {})

    def memory_mb(self) -> float:
        """Private memory of the server's process."""
        text = Path(f"/proc/{self._pid}/smaps_rollup").read_text()
        return sum(int(kib) for kib in re.findall(r"^Private_\w+:\s+(\d+) kB", text, re.MULTILINE)) / 1024

    def cpu_s(self) -> float:
        """Processor time of the server's process so far."""
        fields = Path(f"/proc/{self._pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


@contextmanager
def serving(directory: Path, workers: int, *, is_pinned: bool = True) -> Iterator[Server]:
    """A server on the first core and this process on the last one, or both wherever they are put."""
    cores = sorted(os.sched_getaffinity(0))
    port = free_port()
    command = ["taskset", "-c", str(cores[0])] if is_pinned else []
    command += [sys.executable, "-m", "minwebhook", "serve", "--no-access-log"]
    command += ["--listen", f"127.0.0.1:{port}", "--data", str(directory / "data"), "--workers", str(workers)]
    command += ["--warm-children", "4", "--max-connections", "4096"]
    environment = {**plain_environment(), "MINWEBHOOK_ADMIN_TOKEN": TOKEN}
    log = directory / "log"
    with running(command, directory=directory, environment=environment, log=log) as process:
        if is_pinned:
            os.sched_setaffinity(0, {cores[-1]})
        try:
            server = Server(port, process.pid)
            deadline = time.monotonic() + START_TIMEOUT_S
            while "listening on" not in log.read_text(errors="replace"):
                if process.poll() is not None or time.monotonic() > deadline:
                    raise RuntimeError(f"the server does not start: {log.read_text(errors='replace')[-2000:]}")
                time.sleep(0.02)
            script = {"path": "u/admin/bench_stream", "summary": "", "description": "", "language": "python3"}
            server.call("POST", "/scripts/create", {**script, "content": SCRIPT})
            yield server
        finally:
            os.sched_setaffinity(0, set(cores))


class Readers:
    """Many open streams, read by one epoll."""

    def __init__(self, server: Server, jobs: Sequence[str], count: int) -> None:
        """``count`` streams, spread evenly over ``jobs``."""
        self._epoll = select.epoll()
        self._sockets: dict[int, socket.socket] = {}
        for number in range(count):
            connection = socket.create_connection(("127.0.0.1", server.port), timeout=30)
            path = f"{WORKSPACE}/jobs_u/getupdate_sse/{jobs[number % len(jobs)]}?only_result=true"
            connection.sendall(f"GET {path} HTTP/1.1\r\nHost: a\r\nAuthorization: Bearer {TOKEN}\r\n\r\n".encode())
            connection.setblocking(False)
            connection.setsockopt(socket.SOL_SOCKET, SO_TIMESTAMPNS, 1)
            self._sockets[connection.fileno()] = connection
            self._epoll.register(connection, select.EPOLLIN)
        waiting = set(self._sockets)
        while waiting:  # until each has its first event
            for fd, _ in self._epoll.poll(30) or sys.exit("a stream does not begin"):
                if b"data: " in self._sockets[fd].recv(65536):
                    waiting.discard(fd)

    def read(self, expected: int, timeout_s: float) -> list[Arrival]:
        """What comes, until it is ``expected`` arrivals."""
        found: list[Arrival] = []
        deadline = time.monotonic() + timeout_s
        while len(found) < expected and (left := deadline - time.monotonic()) > 0:
            for fd, _ in self._epoll.poll(left):
                data, ancillary, _, _ = self._sockets[fd].recvmsg(65536, 64)
                now = time.time_ns()
                arrived = now
                for _, kind, stamp in ancillary:
                    if kind == SO_TIMESTAMPNS:  # of the last of these bytes
                        seconds, nanoseconds = TIMESPEC.unpack(stamp)
                        arrived = seconds * 10**9 + nanoseconds
                # The last event has the whole result, with the stamps of all chunks.
                for written in STAMP.findall(data.partition(b'"completed"')[0]):
                    found.append(Arrival(int(written), arrived, now))
                if not data:
                    self._epoll.unregister(fd)
        return found

    def close(self) -> None:
        """Leaves all streams."""
        for connection in self._sockets.values():
            connection.close()
        self._epoll.close()


def measure_delays(
    server: Server, *, streams: int, jobs: int, count: int, pause_s: float
) -> Iterator[tuple[str, Delays]]:
    """With so many streams open, spread over jobs that write now and then: what is measured, and how long it took."""
    # Not all in the same moment: the beginnings are spread over one pause.
    ids = [server.submit(count=count, pause_s=pause_s, delay_s=2 + pause_s * number / jobs) for number in range(jobs)]
    readers = Readers(server, ids, streams)
    busy = server.cpu_s()
    found = readers.read(expected=streams * count, timeout_s=10 + 2 * count * pause_s)
    busy = server.cpu_s() - busy
    readers.close()
    # In the first and the last moments jobs begin and end, which is work of another kind.
    begun, ended = (min(each.written for each in found) + 10**9, max(each.written for each in found) - 10**9)
    steady = [each for each in found if begun < each.written < ended]
    yield "written -> in the client's socket", Delays.between((each.written, each.arrived) for each in steady)
    yield "written -> read", Delays.between((each.written, each.read) for each in steady)
    yield (
        "in the socket, with the beginning and the end of the jobs",
        Delays.between((each.written, each.arrived) for each in found),
    )
    print(f"    processor time of the server: {busy / len(found) * 1e6:.0f} us for each event at each stream")


def measure_idle(server: Server, *, streams: int, seconds: float) -> tuple[float, float]:
    """Memory in MB that so many idle streams add, and the share of a core that they take."""
    job = server.submit(count=0, pause_s=0, delay_s=seconds + 60)
    warm_up = Readers(server, [job], 20)
    warm_up.close()
    time.sleep(1)
    before = server.memory_mb()
    readers = Readers(server, [job], streams)
    time.sleep(1)
    memory = server.memory_mb() - before
    started, busy = time.monotonic(), server.cpu_s()
    time.sleep(seconds)
    share = (server.cpu_s() - busy) / (time.monotonic() - started)
    readers.close()
    server.cancel(job)
    return memory, share


def measure_crowd(server: Server, *, streams: int, events: int) -> tuple[Delays, Delays]:
    """For each event of one job, the time until the last of so many readers has it in its socket, and has read it."""
    job = server.submit(count=events, pause_s=0.5, delay_s=6)
    readers = Readers(server, [job], streams)
    found = readers.read(expected=streams * events, timeout_s=20 + events)
    readers.close()
    last: dict[int, tuple[int, int]] = {}
    for written, arrived, read in found:
        known = last.get(written, (0, 0))
        last[written] = max(arrived, known[0]), max(read, known[1])
    return Delays.between((written, each[0]) for written, each in last.items()), Delays.between(
        (written, each[1]) for written, each in last.items()
    )


def measure_connections(server: Server, *, count: int, in_flight: int, rounds: int) -> tuple[float, float]:
    """Runs per second of a no-op in a dedicated worker, on one WebSocket and on one connection of HTTP: medians."""
    script = {"path": "u/admin/bench_noop", "summary": "", "description": "", "language": "python3"}
    server.call("POST", "/scripts/create", {**script, "content": "def main():\n    pass\n", "dedicated_worker": True})
    websocket, http_runs = [], []
    for _ in range(rounds):  # alternating, for machines whose speed changes
        path = f"{WORKSPACE}/jobs/run_wait_result/p/u/admin/bench_noop"
        http_runs.append(measure_http(server.port, TOKEN, path, count=count, in_flight=in_flight))
        websocket.append(
            measure_websocket(server.port, TOKEN, WORKSPACE, "u/admin/bench_noop", count=count, in_flight=in_flight)
        )
    return statistics.median(websocket), statistics.median(http_runs)


def main() -> None:
    """Measures and prints."""
    parser = argparse.ArgumentParser(description="What streams of events cost.")
    parser.add_argument("--streams", type=int, default=200, help="open streams while delays are measured (200)")
    parser.add_argument("--jobs", type=int, default=10, help="jobs that write meanwhile (10)")
    parser.add_argument("--crowd", type=int, default=1000, help="idle streams, and readers of one job (1000)")
    parser.add_argument("--idle-seconds", type=float, default=40.0, help="how long idle streams are watched (40)")
    options = parser.parse_args()
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    print(describe(), f"load {load_average()[0]:.2f}")
    with TemporaryDirectory() as name, serving(Path(name), 8, is_pinned=False) as server:
        websocket, plain = measure_connections(server, count=2000, in_flight=8, rounds=5)
        print(
            f"dedicated worker, one connection, 8 in flight: WebSocket {websocket:.0f} runs/s, HTTP {plain:.0f} runs/s, "
            f"ratio {websocket / plain:.2f}"
        )
    with TemporaryDirectory() as name, serving(Path(name), options.jobs + 2) as server:
        for jobs in (options.jobs, 1):
            print(f"{options.streams} streams of {jobs} jobs, 10 writes/s each:")
            for what, delays in measure_delays(server, streams=options.streams, jobs=jobs, count=100, pause_s=0.1):
                print(f"    {what}: {delays}")
        memory, share = measure_idle(server, streams=options.crowd, seconds=options.idle_seconds)
        print(f"{options.crowd} idle streams: {memory:.1f} MB, {100 * share:.2f} % of a core")
        arrived, read = measure_crowd(server, streams=options.crowd, events=20)
        print(f"one event in the sockets of {options.crowd} readers: {arrived}")
        print(f"    and read by all of them: {read}")


if __name__ == "__main__":
    main()
