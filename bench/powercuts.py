"""Power cuts at random moments of a server under load: its database opens and has every job that was answered before."""

from __future__ import annotations

import contextlib
import shutil
import sqlite3
import time
from dataclasses import dataclass
from pathlib import Path

import orjson

from bench import kills
from tests import powercut
from tests.server import Server, eventually


@dataclass
class Recording:
    """What a server did to its database, and what it had answered until when."""

    record: Path
    #: How much there was when the load began.
    begin: int
    #: The number of each request that was answered, and how much had been recorded then.
    told: list[tuple[int, int]]
    #: The data directory, for what else is in it.
    data: Path


def record(folder: Path, *, seed: int, seconds: float = 0.0, answers: int = 0, failures: int = 0) -> Recording:
    """Serves senders for so long, and until there are so many answers, and dies. Meanwhile syncs fail for a while, so often."""
    target = folder / "record"
    server = Server(folder / "data", ("--workers", "2"))
    server.environment = powercut.environment(folder, server.data / "minwebhook.db", target)
    try:
        server.start()
        kills.prepare(server)
        begin = target.stat().st_size
        load = kills.Load(server, seed, most_pause_s=0, moment=lambda: target.stat().st_size)
        try:
            for _ in range(failures):
                answered = len(load.ledger.told)
                eventually(lambda: len(load.ledger.told) > answered + 20, "some answers", 60)  # noqa: B023
                (folder / "fail").touch()
                time.sleep(0.1)
                (folder / "fail").unlink()
            time.sleep(seconds)
            eventually(lambda: len(load.ledger.told) >= answers, "so many answers", 60)
        finally:
            ledger = load.end()
    finally:
        server.close()
    return Recording(target, begin, ledger.told, server.data)


def missing(cut: powercut.Cut, recording: Recording, folder: Path) -> list[str]:
    """What is wrong with the database after the cut: it does not open, is damaged, or lacks what was answered."""
    database = folder / "cut.db"
    cut.write(database)
    try:
        with contextlib.closing(sqlite3.connect(database)) as connection:
            found = connection.execute("PRAGMA integrity_check").fetchone()[0]
            if found != "ok":
                return [f"at {cut.moment}: {found}"]
            rows = connection.execute("SELECT args FROM job WHERE kind = 'script'").fetchall()
    except sqlite3.Error as error:
        return [f"at {cut.moment}: {error}"]
    kept = {orjson.loads(row[0]).get("number") for row in rows}
    return [
        f"at {cut.moment}: request {number}, answered at {told}, is lost"
        for number, told in recording.told
        if told <= cut.moment and number not in kept
    ]


def restart(cut: powercut.Cut, recording: Recording, folder: Path) -> kills.Verdict:
    """Starts a server with what the cut has left, which runs what was not done."""
    data = folder / "restarted"
    shutil.rmtree(data, ignore_errors=True)
    shutil.copytree(recording.data, data)
    cut.write(data / "minwebhook.db")
    server = Server(data, ("--workers", "2", "--crash-attempts", "1000"))
    try:
        server.start()
        return kills.judge(server, kills.Ledger())
    finally:
        server.close()
