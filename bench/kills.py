"""kill -9 under load: a server, its fork servers or the processes of its jobs end at random moments, and senders go on.

The senders are those of real life: some want an answer and send a request with the same key until they have one, some send
what was answered once more. Each request has a number of its own, which its job gives back: so the rows tell what became of it.
"""

from __future__ import annotations

import contextlib
import http.client
import os
import random
import signal
import sqlite3
import threading
import time
from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

import orjson

from tests.server import Answer, Server, children, descendants, eventually

SCRIPTS: Final = {"u/admin/same": False, "u/admin/kept": True}  # path, whether its processes stay
SCRIPT: Final = "def main(number: int):\n    return number\n"
CLIENTS: Final = 8

#: Ends something of a running server; what it was is for the report.
Kill = Callable[[Server, random.Random], None]


@dataclass
class Ledger:
    """What senders were told."""

    #: Argument by the id of its job.
    acknowledged: dict[str, int] = field(default_factory=dict)
    #: All ids that were answered to one keyed request, by its number.
    ids: dict[int, set[str]] = field(default_factory=lambda: defaultdict(set))
    #: All results that were answered to one keyed request.
    results: dict[int, set[bytes]] = field(default_factory=lambda: defaultdict(set))
    #: Every answer: the number of its request, and the moment at which it was there.
    told: list[tuple[int, int]] = field(default_factory=list)
    repeated: int = 0
    refused: int = 0

    @property
    def keyed(self) -> set[int]:
        """Keyed requests that were answered."""
        return {*self.ids, *self.results}


class Load:
    """Senders that go on until they are told to stop, whatever happens to the server."""

    def __init__(
        self, server: Server, seed: int, *, most_pause_s: float = 0.03, moment: Callable[[], int] = time.monotonic_ns
    ) -> None:
        """They pause between two requests. ``moment`` is what goes for the time of an answer."""
        self._server = server
        self._moment = moment
        self._most_pause_s = most_pause_s
        self._is_stopping = threading.Event()
        self._lock = threading.Lock()
        self.ledger = Ledger()
        self._threads = [
            threading.Thread(target=self._send, args=(number, random.Random(1000 * seed + number)))
            for number in range(CLIENTS)
        ]
        for thread in self._threads:
            thread.start()

    def _send(self, number: int, chance: random.Random) -> None:
        while not self._is_stopping.is_set():
            number += CLIENTS
            path = chance.choice(list(SCRIPTS))
            kind = chance.choice(["plain", "keyed", "sync"])
            if kind == "plain":
                answer = self._call(f"/jobs/run/p/{path}", number, {})
                if answer is not None and answer.status == 201:
                    self._note_id(answer.text, number)
            else:
                self._send_keyed(path, number, is_sync=kind == "sync", chance=chance)
            time.sleep(chance.uniform(0, self._most_pause_s))

    def _send_keyed(self, path: str, number: int, *, is_sync: bool, chance: random.Random) -> None:
        """Until it is answered; some are sent once more."""
        wanted = 1 + (chance.random() < 0.3)
        way = "run_wait_result" if is_sync else "run"
        while wanted and not self._is_stopping.is_set():
            answer = self._call(f"/jobs/{way}/p/{path}", number, {"Idempotency-Key": f"request-{number}"})
            if answer is None or answer.status not in (200, 201):
                continue
            wanted -= 1
            with self._lock:
                self.ledger.told.append((number, self._moment()))
                self.ledger.repeated += number in (self.ledger.results if is_sync else self.ledger.ids)
                if is_sync:
                    self.ledger.results[number].add(answer.body)
                else:
                    self.ledger.ids[number].add(answer.text)
            if not is_sync:
                self._note_id(answer.text, number)

    def _call(self, path: str, number: int, headers: dict[str, str]) -> Answer | None:
        """None if it is dead, died in the middle of its answer, or has too much to do."""
        try:
            answer = self._server.client().post(path, {"number": number}, headers)
        except (OSError, http.client.HTTPException):
            time.sleep(0.005)
            return None
        if answer.status >= 500:
            with self._lock:
                self.ledger.refused += 1
            time.sleep(0.02)
            return None
        return answer

    def _note_id(self, job_id: str, number: int) -> None:
        with self._lock:
            self.ledger.told.append((number, self._moment()))
            self.ledger.acknowledged[job_id] = number

    def end(self) -> Ledger:
        """Stops all senders."""
        self._is_stopping.set()
        for thread in self._threads:
            thread.join(60)
        return self.ledger


def prepare(server: Server) -> None:
    """Deploys what the senders call."""
    for path, stays in SCRIPTS.items():
        server.client().deploy(path, SCRIPT, dedicated_worker=stays)


def kill_server(server: Server, chance: random.Random) -> None:
    """The server and everything it started; it comes again."""
    server.kill()
    server.start()


def kill_fork_server(server: Server, chance: random.Random) -> None:
    """One that makes the processes of jobs."""
    _kill(chance, [pid for pid in children(server.pid) if children(pid)])


def kill_child(server: Server, chance: random.Random) -> None:
    """A process of a job, of one to come, or between."""
    _kill(chance, sorted(set(descendants(server.pid)) - set(children(server.pid))))


def _kill(chance: random.Random, found: list[int]) -> None:
    if found:
        with contextlib.suppress(ProcessLookupError):  # it has just ended
            os.kill(chance.choice(found), signal.SIGKILL)


def kill_again_and_again(
    server: Server, kill: Kill, *, rounds: int, seed: int, most_s: float = 0.8, most_pause_s: float = 0.03
) -> Ledger:
    """Kills something of a server under load at random moments; what the senders were told, which is something of each kind."""
    moments = random.Random(seed)
    load = Load(server, seed, most_pause_s=most_pause_s)
    try:
        for _ in range(rounds):
            time.sleep(moments.uniform(0.05, most_s))
            kill(server, moments)
        eventually(lambda: load.ledger.ids and load.ledger.results, "answers of each kind", 60)
    finally:
        ledger = load.end()
    return ledger


@dataclass
class Verdict:
    """What the rows say of the promises."""

    #: One line for each that was not kept.
    broken: list[str]
    #: Jobs that ended with a failure, which is a result as well; by what ended them.
    failures: dict[str, int]
    jobs: int
    #: Jobs that were begun more than once, because the server died while they ran.
    begun_again: int


def judge(server: Server, ledger: Ledger, *, timeout_s: float = 120) -> Verdict:
    """Waits until all jobs have ended, then looks at what was promised."""
    deadline = time.monotonic() + timeout_s
    path = server.data / "minwebhook.db"
    while time.monotonic() < deadline:
        rows = _rows(path)
        if not any(row[2] == "queued" for row in rows):
            break
        time.sleep(0.1)
    return _compare(rows, ledger)


def _rows(path: Path) -> list[tuple[str, int, str, bytes, int, str]]:
    with contextlib.closing(sqlite3.connect(f"{path.as_uri()}?mode=ro", uri=True, timeout=10)) as connection:
        found = connection.execute(
            "SELECT lower(hex(id)), args, status, result, attempts, ended_by FROM job WHERE kind = 'script'"
        )
        return [(row[0], orjson.loads(row[1]).get("number", -1), *row[2:]) for row in found]


def _compare(rows: list[tuple[str, int, str, bytes, int, str]], ledger: Ledger) -> Verdict:
    by_id = {row[0]: row for row in rows}
    by_number: dict[int, list[str]] = defaultdict(list)
    for row in rows:
        by_number[row[1]].append(row[0])
    broken: list[str] = []
    for job_id, number in ledger.acknowledged.items():
        known = by_id.get(job_id.replace("-", ""))
        if known is None:
            broken.append(f"{job_id}: unknown")
        elif known[2] not in ("success", "failure"):
            broken.append(f"{job_id}: {known[2]}")
        elif known[2] == "success" and known[3] != str(number).encode():
            broken.append(f"{job_id}: {known[3]!r} instead of {number}")
    for number in ledger.keyed:
        if len(by_number[number]) != 1:
            broken.append(f"keyed request {number}: {len(by_number[number])} jobs")
    broken += [f"keyed request {number}: answered with {ids}" for number, ids in ledger.ids.items() if len(ids) != 1]
    for number, results in ledger.results.items():
        # A run that was killed is answered with its error, and so is whoever asks again.
        if len(results) != 1 or (
            str(number).encode() not in results and not all(b'"error"' in each for each in results)
        ):
            broken.append(f"keyed request {number}: answered with {results}")
    failures: dict[str, int] = defaultdict(int)
    for row in rows:
        if row[2] == "failure":
            failures[row[5] or _reason(row[3])] += 1
    return Verdict(broken, dict(failures), len(rows), sum(row[4] > 1 for row in rows))


def _reason(result: bytes) -> str:
    """The first line of an error without its code."""
    return str(orjson.loads(result)["error"]["message"]).strip().replace("execution error:\n", "").splitlines()[0]
