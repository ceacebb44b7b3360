"""Whatever a job started is gone with it: by timeout, by cancellation, and when the server is killed; within 50 ms of it.

The time is measured from outside, from the kill to the last process, with room for a busy machine in the deadline only.
"""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import missing
from tests.sandbox.conftest import ordinary_interpreter, start
from tests.server import Client, Server, descendants, eventually, is_alive, named, unique

#: One of each kind; all have the name by which they are found, and are as hard to end as a process can make itself.
KINDS = """
import ctypes, os, signal, subprocess, sys, time

def rename(name):
    ctypes.CDLL(None).prctl(15, name.encode(), 0, 0, 0)

def deaf():
    for number in range(1, 65):
        try:
            signal.signal(number, signal.SIG_IGN)
        except (OSError, ValueError):
            pass

def child(work):
    if os.fork() == 0:
        try:
            work()
            while True:
                time.sleep(300)
        finally:
            os._exit(0)

def session():
    os.setsid()

def daemon():
    os.setsid()
    if os.fork():
        os._exit(0)
    os.chdir("/")
    for fd in range(64):
        try:
            os.close(fd)
        except OSError:
            pass

def stopped():
    os.kill(os.getpid(), signal.SIGSTOP)

def busy():
    while True:
        pass

def deep(depth=5):
    if depth and os.fork() == 0:
        deep(depth - 1)

def main(name, own):
    rename(name)
    for work in (session, daemon, deaf, busy, deep, stopped):
        child(work)
    subprocess.Popen(["sleep", "300"], start_new_session=True)  # by vfork
    subprocess.Popen(["bash", "-c", "kill -STOP $$"])
    print("started", flush=True)
    if own == "busy":
        busy()
    if own == "deaf":
        deaf()
    while True:
        time.sleep(300)
"""

OWN = ("sleeping", "busy", "deaf")


def flags_of(rung: str) -> tuple[str, ...]:
    """What the server needs for this rung; skips if the machine does not have it."""
    if rung == "landlock" and os.geteuid() == 0:
        if not (interpreter := ordinary_interpreter()):
            missing("an interpreter that ordinary users may read")
        return ("--python", interpreter)
    return ("--insecure",) if rung == "none" else ()


@pytest.fixture(scope="module", params=["root", "userns", "landlock", "none"])
def rung(request: pytest.FixtureRequest) -> str:
    """Every rung: what is done here can hurt nobody, wherever it gets out of."""
    name: str = request.param
    if name == "root" and os.geteuid() != 0:
        missing("the sandbox rung root: not running as root")
    return name


@pytest.fixture(scope="module")
def server(rung: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A server on this rung."""
    server = start(rung, tmp_path_factory.mktemp(rung) / "data", *flags_of(rung))
    yield server
    server.close()


def begun(client: Client, name: str, own: str, **query: Any) -> tuple[str, dict[int, str]]:
    """The id of a job that runs, and its processes by id and start time."""
    body = {"content": KINDS, "language": "python3", "args": {"name": name, "own": own}}
    job_id = client.post("/jobs/run/preview", body, **query).text
    eventually(lambda: "started" in client.logs(job_id) and len(named(name)) >= 8, "its processes")
    first = min(named(name))
    tree = {**descendants(first), first: Path(f"/proc/{first}/stat").read_text().rpartition(")")[2].split()[19]}
    assert len(tree) >= 10, tree
    return job_id, tree


def gone(tree: dict[int, str]) -> float:
    """Waits until none of them lives; how long that took, in seconds."""
    begin = time.monotonic()
    while any(is_alive(pid, born) for pid, born in tree.items()):
        assert time.monotonic() - begin < 5, "processes are left"
    return time.monotonic() - begin


@pytest.mark.parametrize("own", OWN)
def test_a_cancellation(client: Client, own: str) -> None:
    job_id, tree = begun(client, unique(f"c{own[:4]}"), own)
    client.post(f"/jobs_u/queue/cancel/{job_id}")
    gone(tree)
    assert client.ended(job_id)["canceled"]


@pytest.mark.parametrize("own", OWN)
def test_a_timeout(client: Client, own: str) -> None:
    job_id, tree = begun(client, unique(f"t{own[:4]}"), own, timeout=2)
    assert client.ended(job_id)["ended_by"] == "timeout"
    gone(tree)


@pytest.mark.parametrize("own", OWN)
def test_the_server_is_killed(rung: str, tmp_path: Path, own: str) -> None:
    server = start(rung, tmp_path / "data", *flags_of(rung))
    try:
        client = server.client()
        _, tree = begun(client, unique(f"k{own[:4]}"), own)
        others = descendants(server.pid)
        assert len(others) > len(tree)
        os.kill(server.pid, signal.SIGKILL)
        gone({**tree, **others})
    finally:
        server.close()


def test_the_fork_server_is_killed(rung: str, tmp_path: Path) -> None:
    server = start(rung, tmp_path / "data", *flags_of(rung))
    try:
        client = server.client()
        job_id, tree = begun(client, unique("fork"), "busy")
        (outer,) = [
            pid
            for pid in descendants(server.pid)
            if Path(f"/proc/{pid}/stat").read_text().split()[3] == str(server.pid)
        ]
        os.kill(outer, signal.SIGKILL)
        gone(tree)
        assert "lost together with its sandbox" in client.ended(job_id)["result"]["error"]["message"]
        assert client.preview("def main():\n    return 1").json() == 1
    finally:
        server.close()
