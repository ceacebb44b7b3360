"""A full disk, a locked database, a clock that is set: what was answered is kept, what cannot be kept is not answered."""

from __future__ import annotations

import os
import sqlite3
import struct
import subprocess
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from bench.faults import add_jobs
from tests.preloaded import compiled
from tests.server import Answer, Server, eventually

MakeServer = Callable[..., Server]

MIB = 1024 * 1024
SAME = "def main(number: int, text: str = ''):\n    return number\n"
HOUR = 3600


# --- a full disk ----------------------------------------------------------------------------------------------------------

_DISK_BYTES = 32 * MIB
#: In a mount namespace of its own: the server gets a small disk that nobody else sees. Ends if that is not so.
_ON_SMALL_DISK = f"""
set -eu
mount -t tmpfs -o size={_DISK_BYTES},mode=700 small "$DISK"
test "$(stat -f -c '%T' "$DISK")" = tmpfs
test "$(( $(stat -f -c '%b' "$DISK") * $(stat -f -c '%S' "$DISK") ))" -eq {_DISK_BYTES}
exec "$PYTHON" -m minwebhook "$@"
"""


def on_small_disk(folder: Path) -> Server:
    """A server whose data is on a disk of 32 MiB."""
    disk = folder / "disk"
    disk.mkdir()
    if subprocess.run(["unshare", "--mount", "true"], check=False, capture_output=True).returncode:
        pytest.skip("unshare --mount needs rights that this process does not have")
    server = Server(disk / "data", ("--min-free-disk-bytes", str(MIB)), interpreter="unshare")
    server.program = ("--mount", "--propagation", "private", "sh", "-c", _ON_SMALL_DISK, "sh")
    server.environment = {"DISK": str(disk), "PYTHON": sys.executable}
    return server


class Disk:
    """The disk of a running server, seen through its process."""

    def __init__(self, server: Server) -> None:
        self.path = Path(f"/proc/{server.pid}/root{server.data.parent}")
        found = os.statvfs(self.path)
        assert found.f_blocks * found.f_frsize == _DISK_BYTES  # never the machine's

    def fill(self) -> None:
        """Leaves no room at all."""
        with (self.path / "filler").open("ab", buffering=0) as file:
            for size in (MIB, 4096):
                try:
                    for _ in range(2 * _DISK_BYTES // size):
                        file.write(bytes(size))
                except OSError:
                    continue
        assert os.statvfs(self.path).f_bfree == 0

    def free(self) -> None:
        """Gives it back."""
        (self.path / "filler").unlink()


def test_on_a_full_disk_nothing_is_answered_that_cannot_be_kept_and_it_passes(tmp_path: Path) -> None:
    server = on_small_disk(tmp_path)
    try:
        client = server.start()
        disk = Disk(server)
        client.deploy("u/admin/same", SAME)
        answered = [client.submit("u/admin/same", {"number": number}) for number in range(20)]
        disk.fill()
        refused: Answer | None = None
        for number in range(20, 2000):  # what there is still room for in its files, it may take
            answer = client.post("/jobs/run/p/u/admin/same", {"number": number, "text": "x" * 10_000})
            if answer.status != 201:
                refused = answer
                break
            answered.append(answer.text)
        assert refused is not None
        assert (refused.status, "disk is full" in refused.text) == (503, True)
        assert int(refused.headers["retry-after"]) >= 1
        ready = client.get("/readyz")
        assert (ready.status, "disk" in ready.text) == (503, True)
        # A caller who waits for the result needs no disk.
        assert client.run("u/admin/same", {"number": 7}).json() == 7
        disk.free()
        eventually(lambda: client.get("/readyz").status == 200, "room again")
        answered.append(client.submit("u/admin/same", {"number": 1}))
        for job_id in answered:
            assert client.ended(job_id)["success"]
        client.ended(client.submit("u/admin/same", {"number": 1}))  # the results before it are on disk as well
        server.kill()
    finally:
        server.close()


# --- a database that another program has locked ---------------------------------------------------------------------------


def test_while_another_program_has_locked_the_database_callers_are_told_and_nothing_is_lost(
    make_server: MakeServer,
) -> None:
    server = make_server()
    client = server.start()
    client.deploy("u/admin/same", SAME)
    before = client.submit("u/admin/same", {"number": 1})
    with closing(sqlite3.connect(server.data / "minwebhook.db", isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        answer = client.post("/jobs/run/p/u/admin/same", {"number": 2})
        assert (answer.status, "locked by another program" in answer.text) == (503, True)
        assert int(answer.headers["retry-after"]) >= 1
        with ThreadPoolExecutor(4) as pool:  # callers who wait for the result need no database
            results = list(pool.map(lambda number: client.run("u/admin/same", {"number": number}).json(), range(4)))
        assert results == [0, 1, 2, 3]
        assert client.get("/readyz").status == 503
        other.execute("ROLLBACK")
    eventually(lambda: client.get("/readyz").status == 200, "the lock is gone")
    assert client.ended(before)["result"] == 1
    assert client.ended(client.submit("u/admin/same", {"number": 3}))["result"] == 3
    # Those that ran meanwhile have their rows, and the refused one has none.
    eventually(lambda: len(client.get("/jobs/completed/list").json()) == 6, "all results on disk")


# --- a clock that is set --------------------------------------------------------------------------------------------------


class Clock:
    """The wall clock of a server."""

    def __init__(self, folder: Path) -> None:
        self._file = folder / "clock"
        self.set(0)
        self.environment = {"LD_PRELOAD": str(compiled("clock", folder)), "CLOCK_FILE": str(self._file)}

    def set(self, offset_s: int) -> None:
        """So much later than this machine's."""
        with self._file.open("r+b" if self._file.exists() else "wb", buffering=0) as file:
            file.write(struct.pack("=q", offset_s))


@pytest.fixture
def clock(tmp_path: Path) -> Clock:
    return Clock(tmp_path)


def test_a_clock_that_is_set_back_holds_up_no_job(make_server: MakeServer, clock: Clock) -> None:
    server = make_server("--workers", "2", environment=clock.environment)
    client = server.start()
    client.deploy("u/admin/same", SAME)
    limited: dict[str, Any] = {"concurrent_limit": 2, "concurrency_time_window_s": 600}
    client.deploy("u/admin/limited", SAME, **limited)
    token = client.post("/api/users/tokens/create", {"label": "x"}).text
    key = {"Idempotency-Key": "k"}
    first = client.post("/jobs/run/p/u/admin/same", {"number": 1}, key).text
    for number in range(2):
        assert client.run("u/admin/limited", {"number": number}).json() == number
    later = client.submit("u/admin/same", {"number": 2}, scheduled_in_secs=HOUR)
    client.ended(first)
    clock.set(-2 * HOUR)
    shown = client.ended(client.submit("u/admin/same", {"number": 3}), 10)
    assert shown["result"] == 3
    assert client.run("u/admin/same", {"number": 4}).json() == 4
    # Runs that seem to have ended in the future do not count: their key is free again.
    assert client.run("u/admin/limited", {"number": 5}).json() == 5
    assert client.post("/jobs/run/p/u/admin/same", {"number": 1}, key).text == first
    assert client.with_token(token).run("u/admin/same", {"number": 6}).json() == 6
    assert {job["id"] for job in client.get("/jobs/queue/list").json()} == {later}
    assert len(client.get("/jobs/completed/list").json()) == 7
    # Over a restart as well: a job that was made in the future is one.
    assert server.stop() == 0
    client = server.start()
    assert client.ended(client.submit("u/admin/same", {"number": 8}), 10)["result"] == 8
    assert {job["id"] for job in client.get("/jobs/queue/list").json()} == {later}
    clock.set(2 * HOUR)
    assert client.run("u/admin/same", {"number": 9}).json() == 9  # whatever comes next, the server looks at its clock
    assert client.ended(later)["result"] == 2
    assert server.stop() == 0


def test_uploads_and_logs_go_when_their_time_is_over(make_server: MakeServer, clock: Clock) -> None:
    server = make_server("--keep-uploads-s", "3600", "--keep-logs-s", "3600", environment=clock.environment)
    client = server.start()
    client.deploy("u/admin/files", "def main(files):\n    print('a line')\n    return files\n")
    form = b'--b\r\nContent-Disposition: form-data; name="files"; filename="a.txt"\r\nContent-Type: a/b\r\n\r\nhello\r\n--b--\r\n'
    fields = {"Content-Type": "multipart/form-data; boundary=b"}
    done = client.call("POST", "/jobs/run/p/u/admin/files", form, fields).text
    shown = client.ended(done)
    assert shown["success"], shown
    key = shown["result"][0]["s3"]
    assert client.get("/job_helpers/load_file_metadata", file_key=key).json()["size_in_bytes"] == 5
    assert "a line" in client.logs(done)
    assert server.stop() == 0
    clock.set(2 * HOUR)
    client = server.start()
    eventually(lambda: client.get("/job_helpers/load_file_metadata", file_key=key).status == 404, "the file is gone")
    eventually(lambda: "a line" not in client.logs(done), "the log is gone")
    assert client.job(done)["success"]


# --- many jobs ------------------------------------------------------------------------------------------------------------


def test_ten_thousand_queued_jobs_are_all_there_after_a_restart(make_server: MakeServer) -> None:
    server = make_server("--workers", "2")
    client = server.start()
    client.deploy("u/admin/same", SAME)
    client.ended(client.submit("u/admin/same", {"number": 1}))
    assert server.stop() == 0
    add_jobs(server.data, 10_000, "queued")
    client = server.start()
    waiting = client.get("/jobs/queue/count").json()["database_length"]
    assert 9_000 < waiting <= 10_000
    token = client.post("/api/users/tokens/create", {"label": "x"}).text
    assert client.with_token(token).run("u/admin/same", {"number": 2}).json() == 2  # tokens take turns
    eventually(lambda: client.get("/jobs/queue/count").json()["database_length"] < waiting - 10, "they run")
    server.kill()
    with closing(sqlite3.connect(server.data / "minwebhook.db")) as connection:
        states = dict(
            connection.execute("SELECT status, count(*) FROM job WHERE kind = 'script' GROUP BY 1").fetchall()
        )
    assert states["queued"] + states["success"] >= 10_001
    assert set(states) == {"queued", "success"}
