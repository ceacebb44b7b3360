"""How it ends: drained by a signal, killed in the middle of work, or with its fork server shot away."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Callable

import pytest

from tests.server import (
    Answer,
    Client,
    Server,
    children,
    descendants,
    eventually,
    fork_servers,
    is_alive,
    named,
    unique,
)

MakeServer = Callable[..., Server]

#: Ends when a file appears that the test makes; found from outside by its name.
WAITER = """
import ctypes, time

def main(name, seconds=1.0):
    ctypes.CDLL(None).prctl(15, name.encode(), 0, 0, 0)
    time.sleep(seconds)
    return "done " + name
"""


class Call(threading.Thread):
    """A sync run in a thread of its own."""

    def __init__(self, client: Client, name: str, seconds: float) -> None:
        super().__init__()
        self._client, self._data = client, {"name": name, "seconds": seconds}
        self.answer: Answer | None = None
        self.error: Exception | None = None
        self.start()

    def run(self) -> None:
        try:
            self.answer = self._client.run("u/admin/waiter", self._data)
        except Exception as error:
            self.error = error


@pytest.fixture
def server(make_server: MakeServer) -> Server:
    server = make_server("--workers", "2")
    server.start().deploy("u/admin/waiter", WAITER)
    return server


def test_sigterm_lets_requests_and_jobs_end(server: Server) -> None:
    client = server.client()
    call = Call(client, unique("sync"), 1.0)
    eventually(lambda: named(unique("sync")), "the sync job")
    running = client.submit("u/admin/waiter", {"name": unique("async"), "seconds": 1.0})
    eventually(lambda: named(unique("async")), "the async job")
    queued = client.submit("u/admin/waiter", {"name": unique("later"), "seconds": 0})
    started = descendants(server.pid)
    before = time.monotonic()
    server.signal(signal.SIGTERM)
    eventually(lambda: is_refused(client), "no more connections", timeout_s=5)
    call.join(10)
    assert call.answer is not None
    assert call.answer.json() == "done " + unique("sync")
    assert server.wait() == 0
    assert time.monotonic() - before < 5
    assert not any(is_alive(pid, born) for pid, born in started.items())
    # What ran has ended; what waited runs after the next start.
    client = server.start()
    done = client.job(running)
    assert (done["type"], done["result"]) == ("CompletedJob", "done " + unique("async"))
    assert client.ended(queued)["result"] == "done " + unique("later")


def is_refused(client: Client) -> bool:
    try:
        client.with_token("").get("/api/version")
    except OSError:
        return True
    return False


def test_a_second_signal_ends_at_once_and_the_async_job_runs_again(server: Server) -> None:
    client = server.client()
    job_id = client.submit("u/admin/waiter", {"name": unique("second"), "seconds": 60})
    eventually(lambda: named(unique("second")), "the job")
    server.signal(signal.SIGINT)
    eventually(lambda: "draining" in server.log, "the drain")
    assert server.process is not None
    assert server.process.poll() is None
    server.signal(signal.SIGTERM)
    assert server.wait(5) == 0
    eventually(lambda: not named(unique("second")), "the end of its processes")
    client = server.start()
    client.running(job_id)


def test_jobs_that_outlast_the_grace_are_ended_and_run_again(make_server: MakeServer) -> None:
    server = make_server("--workers", "1", "--grace-s", "0.3")
    client = server.start()
    client.deploy("u/admin/waiter", WAITER)
    job_id = client.submit("u/admin/waiter", {"name": unique("grace"), "seconds": 60})
    eventually(lambda: named(unique("grace")), "the job")
    server.signal(signal.SIGTERM)
    assert server.wait(5) == 0
    assert named(unique("grace")) == []
    assert "Traceback" not in server.log
    client = server.start()
    client.running(job_id)


@pytest.mark.parametrize("round", range(3))
def test_accepted_jobs_survive_a_kill(server: Server, round: int) -> None:
    client = server.client()
    dedicated = "def main(n):\n    return n + 100\n"
    client.deploy("u/admin/dedicated", dedicated, dedicated_worker=True)
    running = [client.submit("u/admin/waiter", {"name": unique(f"kill{n}"), "seconds": 0.7}) for n in range(2)]
    eventually(lambda: named(unique("kill0")) and named(unique("kill1")), "both running jobs")
    queued = [client.submit("u/admin/waiter", {"name": unique(f"wait{n}"), "seconds": 0}) for n in range(3)]
    queued.append(client.submit("u/admin/dedicated", {"n": 1}))
    preview = {"content": "def main(x):\n    return x", "language": "python3", "args": {"x": "preview"}}
    queued.append(client.post("/jobs/run/preview", preview).text)
    server.kill()
    assert named(unique("kill0")) == named(unique("kill1")) == []

    client = server.start()
    results = [client.ended(job_id)["result"] for job_id in running + queued]
    assert results[:5] == ["done " + unique(name) for name in ("kill0", "kill1", "wait0", "wait1", "wait2")]
    assert results[5:] == [101, "preview"]
    assert len(client.get("/jobs/list").json()) == 7
    # Once done it stays done.
    server.kill()
    client = server.start()
    assert client.get("/jobs/queue/count").json()["database_length"] == 0
    assert [client.job(job_id)["type"] for job_id in running + queued] == ["CompletedJob"] * 7


def test_every_acknowledged_id_is_there_after_a_kill_in_the_middle_of_submissions(server: Server) -> None:
    client = server.client()
    acknowledged: list[str] = []
    stop = threading.Event()

    def submit() -> None:
        while not stop.is_set():
            try:
                acknowledged.append(client.submit("u/admin/waiter", {"name": unique("many"), "seconds": 0}))
            except (OSError, AssertionError, Exception):
                return

    threads = [threading.Thread(target=submit) for _ in range(4)]
    for thread in threads:
        thread.start()
    eventually(lambda: len(acknowledged) > 50, "some submissions")
    server.kill()
    stop.set()
    for thread in threads:
        thread.join(30)
    client = server.start()
    for job_id in acknowledged:
        assert client.ended(job_id)["result"] == "done " + unique("many")


@pytest.mark.parametrize("which", ["outer", "inner"])
@pytest.mark.parametrize("busy", [False, True])
def test_the_server_outlives_its_fork_server(server: Server, which: str, busy: bool) -> None:
    client = server.client()
    job_id = client.submit("u/admin/waiter", {"name": unique("zygote"), "seconds": 60}) if busy else ""
    if busy:
        eventually(lambda: named(unique("zygote")), "the job")
    else:
        assert client.run("u/admin/waiter", {"name": "x", "seconds": 0}).status == 200
    (outer,) = fork_servers(server.pid)
    (inner,) = children(outer)
    below = descendants(outer)
    found = {pid: born for pid, born in descendants(server.pid).items() if pid == outer or pid in below}
    os.kill(outer if which == "outer" else inner, signal.SIGKILL)
    eventually(lambda: not any(is_alive(pid, born) for pid, born in found.items()), "the end of the fork server")
    if busy:
        error = client.ended(job_id)["result"]["error"]
        assert error["name"] == "ExecutionErr"
        assert error["message"].startswith("execution error:\njob process was lost") or error.get("signal") == 9
        eventually(lambda: not named(unique("zygote")), "the end of its processes")
    for _ in range(3):
        assert client.run("u/admin/waiter", {"name": unique("after"), "seconds": 0}).json() == "done " + unique("after")
    assert client.preview("echo on", language="bash").json() == "on"
    assert server.stop() == 0


def test_the_end_of_the_server_ends_everything(server: Server) -> None:
    client = server.client()
    client.submit("u/admin/waiter", {"name": unique("orphan"), "seconds": 60})
    eventually(lambda: named(unique("orphan")), "the job")
    server.kill()  # waits for the end of all that it started
    assert named(unique("orphan")) == []
