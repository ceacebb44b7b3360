"""Faults on a real server: kill -9 under load, and how long a start and a list take when much is in the database.

::

    python bench/faults.py kills --rounds 20     # every acknowledged job ends with one result, none is unknown
    python bench/faults.py start --jobs 10000    # time from the start to listening, with so many queued jobs
    python bench/faults.py list --jobs 1000000   # the first page of jobs/list, with so many ended jobs

Loopback only; data goes to a temporary directory. Every process is ended by its id. Exit status 1 if a promise was broken.
"""

from __future__ import annotations

import argparse
import http.client
import random
import sqlite3
import statistics
import sys
import tempfile
import threading
import time
from pathlib import Path
from typing import Final
from uuid import UUID

ROOT: Final = Path(__file__).resolve().parent.parent
if str(ROOT) not in sys.path:
    sys.path.insert(0, str(ROOT))

from tests.server import Client, Server, serving  # noqa: E402

SCRIPT: Final = "def main(number: int):\n    return number\n"
CLIENTS: Final = 8


class Load:
    """Clients that submit async jobs until they are told to stop; what was acknowledged, with its argument."""

    def __init__(self, client: Client) -> None:
        self._client = client
        self._stop = threading.Event()
        self._lock = threading.Lock()
        self.acknowledged: dict[str, int] = {}
        self._threads = [threading.Thread(target=self._submit, args=(number,)) for number in range(CLIENTS)]
        for thread in self._threads:
            thread.start()

    def _submit(self, number: int) -> None:
        while not self._stop.is_set():
            number += CLIENTS
            try:
                answer = self._client.post("/jobs/run/p/u/admin/same", {"number": number})
            except (OSError, http.client.HTTPException):  # it is dead, or died in the middle of its answer
                time.sleep(0.005)
                continue
            if answer.status == 201:
                with self._lock:
                    self.acknowledged[answer.text] = number

    def end(self) -> None:
        """Stops all clients."""
        self._stop.set()
        for thread in self._threads:
            thread.join(60)


def kill_again_and_again(server: Server, *, rounds: int, seed: int) -> dict[str, int]:
    """Kills the server at random moments under load and starts it again; the jobs that it acknowledged, and their arguments."""
    moments = random.Random(seed)
    acknowledged: dict[str, int] = {}
    for _ in range(rounds):
        load = Load(server.client())
        time.sleep(moments.uniform(0.05, 0.8))
        server.kill()
        load.end()
        acknowledged |= load.acknowledged
        server.start()
    return acknowledged


def broken_promises(server: Server, acknowledged: dict[str, int], *, timeout_s: float = 120) -> list[str]:
    """Jobs that are unknown, did not end, or ended with something else; waits for those that go on."""
    deadline = time.monotonic() + timeout_s
    path = server.data / "minwebhook.db"
    while True:
        connection = sqlite3.connect(f"{path.as_uri()}?mode=ro", uri=True, timeout=10)
        rows = {
            str(UUID(bytes=key)): (status, result)
            for key, status, result in connection.execute("SELECT id, status, result FROM job")
        }
        connection.close()
        broken = [
            f"{job_id}: {rows.get(job_id, 'unknown')}"
            for job_id, number in acknowledged.items()
            if rows.get(job_id) != ("success", str(number).encode())
        ]
        if not broken or time.monotonic() > deadline:
            return broken
        time.sleep(0.1)


def add_jobs(data: Path, number: int, status: str) -> None:
    """So many copies of the newest job, as if they had been called, a millisecond apart."""
    connection = sqlite3.connect(data / "minwebhook.db", isolation_level=None)
    columns = [
        row[1] for row in connection.execute("PRAGMA table_info(job)") if row[1] not in ("id", "status", "created_at")
    ]
    names = ", ".join(columns)
    now = time.time_ns() // 1_000_000
    connection.execute("BEGIN")
    connection.execute("CREATE TEMP TABLE model AS SELECT * FROM job ORDER BY created_at DESC LIMIT 1")
    connection.executemany(
        f"INSERT INTO job (id, status, created_at, {names}) SELECT ?, ?, ?, {names} FROM model",  # noqa: S608
        ((UUID(int=(each << 80) | 7).bytes, status, now - number + each) for each in range(1, number + 1)),
    )
    connection.execute("COMMIT")
    connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    connection.close()


def measure_start(folder: Path, jobs: int) -> float:
    """Seconds from the start of the process to its first line, with so many queued jobs."""
    server = Server(folder / "data", ("--workers", "2"))
    try:
        client = server.start()
        client.deploy("u/admin/same", SCRIPT)
        client.ended(client.submit("u/admin/same", {"number": 1}))
        server.stop()
        started = time.perf_counter()
        server.start()
        print(f"start with an empty queue: {time.perf_counter() - started:.3f} s")
        server.stop()
        add_jobs(server.data, jobs, "queued")
        started = time.perf_counter()
        server.start()
        return time.perf_counter() - started
    finally:
        server.close()


def measure_list(folder: Path, jobs: int, per_page: int) -> list[float]:
    """Milliseconds that the first page takes, again and again, with so many ended jobs."""
    server = Server(folder / "data", ("--workers", "2", "--keep-jobs-s", "0"))
    try:
        client = server.start()
        client.deploy("u/admin/same", SCRIPT)
        client.ended(client.submit("u/admin/same", {"number": 1}))
        server.stop()
        add_jobs(server.data, jobs, "success")
        client = server.start()
        times = []
        for _ in range(30):
            started = time.perf_counter()
            answer = client.get("/jobs/list", per_page=per_page)
            times.append(1000 * (time.perf_counter() - started))
            assert answer.status == 200, answer.text
        return times
    finally:
        server.close()


def main() -> int:
    """Runs one of the experiments."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=["kills", "start", "list"])
    parser.add_argument("--rounds", type=int, default=20)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--jobs", type=int, default=10_000)
    parser.add_argument("--per-page", type=int, default=100)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        if options.what == "start":
            print(f"start with {options.jobs} queued jobs: {measure_start(folder, options.jobs):.3f} s")
            return 0
        if options.what == "list":
            times = measure_list(folder, options.jobs, options.per_page)
            print(
                f"first page ({options.per_page} rows) of {options.jobs} ended jobs: median {statistics.median(times):.1f} ms,"
                f" worst {max(times):.1f} ms, first {times[0]:.1f} ms"
            )
            return 0
        with serving(folder / "data", "--workers", "2") as (server, client):
            client.deploy("u/admin/same", SCRIPT)
            acknowledged = kill_again_and_again(server, rounds=options.rounds, seed=options.seed)
            broken = broken_promises(server, acknowledged)
        print(f"{options.rounds} kills, {len(acknowledged)} acknowledged jobs, {len(broken)} broken promises")
        for each in broken[:20]:
            print(each)
        return 1 if broken else 0


if __name__ == "__main__":
    sys.exit(main())
