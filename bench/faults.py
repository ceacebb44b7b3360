"""Faults on a real server: kill -9 under load, and how long a start and a list take when much is in the database.

::

    python bench/faults.py kills --rounds 300    # of the server, its fork servers, processes of jobs: nothing promised is lost
    python bench/faults.py power --rounds 5      # power cuts: what was not synced is gone, what was answered is not
    python bench/faults.py start --jobs 10000    # time from the start to listening, with so many queued jobs
    python bench/faults.py list --jobs 1000000   # the first page of jobs/list, with so many ended jobs

Loopback only; data goes to a temporary directory. Every process is ended by its id. Exit status 1 if a promise was broken.
"""

from __future__ import annotations

import argparse
import sqlite3
import statistics
import sys
import tempfile
import time
from pathlib import Path
from typing import Final
from uuid import UUID

ROOT: Final = Path(__file__).resolve().parent.parent
if str(ROOT) not in sys.path:
    sys.path.insert(0, str(ROOT))

from bench import kills, powercuts, report  # noqa: E402
from tests import powercut  # noqa: E402
from tests.server import Server, cpu_s  # noqa: E402


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


def measure_start(folder: Path, jobs: int) -> None:
    """From the start of the process to its first line, without and with so many queued jobs."""
    server = Server(folder / "data", ("--workers", "2"))
    try:
        client = server.start()
        client.deploy("u/admin/same", kills.SCRIPT)
        client.ended(client.submit("u/admin/same", {"number": 1}))
        server.stop()
        for number in (0, jobs):
            if number:
                add_jobs(server.data, number, "queued")
            started = time.perf_counter()
            server.start()
            took_s = time.perf_counter() - started
            print(f"start with {number} queued jobs: {took_s:.3f} s, {cpu_s(server.pid):.2f} s of processor time")
            if not number:
                server.stop()
    finally:
        server.close()


def measure_list(folder: Path, jobs: int, per_page: int) -> None:
    """The first page, again and again, with so many ended jobs."""
    server = Server(folder / "data", ("--workers", "2", "--keep-jobs-s", "0"))
    try:
        client = server.start()
        client.deploy("u/admin/same", kills.SCRIPT)
        client.ended(client.submit("u/admin/same", {"number": 1}))
        server.stop()
        add_jobs(server.data, jobs, "success")
        client = server.start()
        for rows in sorted({30, 100, per_page}):
            times, pages = [], 100
            before_s = cpu_s(server.pid)
            for _ in range(pages):
                started = time.perf_counter()
                answer = client.get("/jobs/list", per_page=rows)
                times.append(1000 * (time.perf_counter() - started))
                assert answer.status == 200, answer.text
            used_ms = 1000 * (cpu_s(server.pid) - before_s) / pages
            print(
                f"first page ({rows} rows) of {jobs} ended jobs: median {statistics.median(times):.1f} ms, best"
                f" {min(times):.1f} ms, worst {max(times):.1f} ms; {used_ms:.1f} ms of processor time"
            )
    finally:
        server.close()


def cut_power(folder: Path, rounds: int, cuts: int, seed: int) -> int:
    """Prints a table; how many promises were broken."""
    table, broken = [], []
    for number in range(rounds):
        place = folder / f"recorded-{number}"
        place.mkdir()
        recording = powercuts.record(place, seconds=4, seed=seed + number)
        done = list(powercut.operations(recording.record.read_bytes()))
        syncs = sum(operation.kind == "S" for operation in done)
        of_database = sum(operation.kind == "S" and operation.name == "." for operation in done)
        found: dict[bool, list[str]] = {}
        for obeys in (True, False):
            found[obeys] = [
                problem
                for cut in powercut.cuts(
                    recording.record, cuts, seed + number, after=recording.begin, obeys_syncs=obeys
                )
                for problem in powercuts.missing(cut, recording, place)[:1]
            ]
        broken += found[True]
        counts = (len(recording.told), len(done), syncs, of_database, cuts, len(found[True]), len(found[False]))
        table.append((str(number + 1), *map(str, counts)))
    heads = (
        "load",
        "answers",
        "calls",
        "syncs",
        "of the database file",
        "cuts",
        "with a loss",
        "on a disk that does not sync",
    )
    print(report.table(heads, table))
    for each in broken[:20]:
        print(each)
    return len(broken)


#: What is killed, and for how long at most the load goes on before the next one.
KILLS: Final[dict[str, tuple[kills.Kill, float]]] = {
    "server": (kills.kill_server, 0.8),
    "fork server": (kills.kill_fork_server, 0.8),
    "process of a job": (kills.kill_child, 0.2),
}


def kill_all_kinds(folder: Path, rounds: int, seed: int) -> int:
    """Prints a table; how many promises were broken."""
    table, broken = [], []
    for number, (what, (kill, most_s)) in enumerate(KILLS.items()):
        # A job that meets the end of the server again and again is given up; here none shall be.
        server = Server(
            folder / f"data-{number}", ("--workers", "2", "--crash-attempts", "1000", "--log-level", "error")
        )
        started = time.monotonic()
        try:
            server.start()
            kills.prepare(server)
            ledger = kills.kill_again_and_again(server, kill, rounds=rounds, seed=seed, most_s=most_s)
            verdict = kills.judge(server, ledger)
        finally:
            server.close()
        broken += verdict.broken
        failed = ", ".join(f"{count} {why}" for why, count in sorted(verdict.failures.items())) or "0"
        numbers = (
            rounds,
            len(ledger.acknowledged),
            len(ledger.keyed),
            ledger.repeated,
            verdict.jobs,
            verdict.begun_again,
        )
        table.append(
            (what, *map(str, numbers), failed, str(len(verdict.broken)), f"{time.monotonic() - started:.0f} s")
        )
        print(f"{what}: done", file=sys.stderr)
    heads = (
        "killed", "kills", "ids answered", "keyed", "answered again", "jobs", "begun again", "failed", "broken promises", "",
    )  # fmt: skip
    print(report.table(heads, table))
    for each in broken[:20]:
        print(each)
    return len(broken)


def main() -> int:
    """Runs one of the experiments."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=["kills", "power", "start", "list"])
    parser.add_argument("--rounds", type=int, default=20)
    parser.add_argument("--cuts", type=int, default=200, help="power cuts in each round (default 200)")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--jobs", type=int, default=10_000)
    parser.add_argument("--per-page", type=int, default=1000)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        if options.what == "start":
            measure_start(folder, options.jobs)
            return 0
        if options.what == "list":
            measure_list(folder, options.jobs, options.per_page)
            return 0
        if options.what == "power":
            return 1 if cut_power(folder, options.rounds, options.cuts, options.seed) else 0
        return 1 if kill_all_kinds(folder, options.rounds, options.seed) else 0


if __name__ == "__main__":
    sys.exit(main())
