"""What happens when there is too much: intake of async jobs, a flood, callers beside it, and a restart with a full queue.

    make bench-overload

1. Intake: async calls whose jobs are due tomorrow, 8 connections, so that only the promise is measured: the id is answered
   when the row is on disk. Beside it the same server with one commit for each request.
2. Memory of queued jobs, and the time from start to listening with 10,000 of them.
3. Overload: ten times what the server can do, at fixed times (open loop), with a short queue. What it accepts must still be fast,
   what it refuses it must refuse at once. What is due while all 256 connections wait for an answer is left out, and counted: more
   than a server can refuse, its senders cannot send.
4. A quiet token beside one that floods.

Loopback only; bounded in time and number. Not part of the suite, which asserts no speed.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import threading
import time
from collections.abc import Sequence
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory
from typing import Final

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from bench import loadclient, machine, report
from bench.loadclient import Request, Shape
from bench.memory import tree_memory
from bench.paths import LOAD_BINARY
from bench.systems import SCRIPT_PATH, Running, call, start_own

_QUEUED: Final = 10_000
_GROWN_UP: Final = 8_000
#: A server that commits every write on its own, for comparison: the size of a transaction is a constant of its database.
_ONE_BY_ONE: Final = (
    "import minwebhook.db.database as d; d.MAX_BATCH = 1; "
    "from minwebhook.cli.main import main; raise SystemExit(main())"
)


def _async(running: Running) -> Request:
    """The same call as an async run that is due tomorrow."""
    path = f"/api/w/demo/jobs/run/p/{SCRIPT_PATH}?scheduled_in_secs=86400"
    return Request(running.request.port, path, running.request.body, running.request.headers)


def intake(directory: Path, seconds: float, rounds: int) -> None:
    """Acknowledged async jobs per second."""
    rates: dict[str, list[float]] = {"group commit": [], "one commit per request": []}
    p99s: dict[str, list[float]] = {name: [] for name in rates}
    for number in range(rounds):
        for name, program in (("group commit", None), ("one commit per request", _ONE_BY_ONE)):
            place = directory / f"intake-{number}-{name.partition(' ')[0]}"
            place.mkdir()
            with start_own(place, program=program) as running:
                load = loadclient.run(LOAD_BINARY, _async(running), Shape(connections=8, seconds=seconds, warmup_s=0.5))
            rates[name].append(load.rps)
            p99s[name].append(load.latency_us.get("p99", 0.0))
    rows = [
        (
            name,
            f"{median(rates[name]):.0f}/s",
            f"{min(rates[name]):.0f} - {max(rates[name]):.0f}",
            report.duration(median(p99s[name])),
        )
        for name in rates
    ]
    print("\nIntake of async jobs, 8 connections, synchronous=FULL\n")
    print(report.table(("", "median", "range", "p99"), rows))
    ratios = [mine / theirs for mine, theirs in zip(*rates.values(), strict=True)]
    print(f"group commit / one commit per request: {median(ratios):.2f} ({min(ratios):.2f} - {max(ratios):.2f})")


def _fill(running: Running, count: int) -> None:
    load = loadclient.run(LOAD_BINARY, _async(running), Shape(connections=8, seconds=60, requests=count))
    if load.n != count:
        raise SystemExit(f"only {load.n} of {count} jobs were taken: {load.first_error}")


def full_queue(directory: Path) -> None:
    """Memory of queued jobs, and a start with them."""
    place = directory / "full"
    place.mkdir()
    with start_own(place) as running:
        _fill(running, _GROWN_UP)  # whatever grows once, such as the cache of the database, has grown
        before = tree_memory(running.pid).private_kib
        _fill(running, _QUEUED)
        grown = tree_memory(running.pid).private_kib - before
    place = directory / "restart"
    place.mkdir()
    with start_own(place) as running:
        _fill(running, _QUEUED)
    started = time.perf_counter()
    with start_own(place, deploys=False) as running:
        listening = running.listening_at - started
    print(
        f"\nA queued job takes {1024 * grown / _QUEUED:.0f} bytes of memory (args of {len(running.request.body)} bytes)."
    )
    print(f"With {_QUEUED} queued jobs the server listens {listening:.2f} s after its start.")


def overload(directory: Path, seconds: float, *, dedicated: bool) -> None:
    """Ten times too much."""
    place = directory / f"overload-{dedicated}"
    place.mkdir()
    with start_own(place, dedicated=dedicated, flags=("--max-queued-jobs", "2")) as running:
        request, body = running.request, running.expected_body
        calm = loadclient.run(LOAD_BINARY, request, Shape(connections=2, seconds=3, warmup_s=0.5), expect_body=body)
        memory_before = tree_memory(running.pid).private_kib
        shape = Shape(
            connections=256,
            rate=10 * calm.rps,
            leaves_out=True,
            seconds=seconds,
            warmup_s=0.5,
            timeout_s=5,
            max_errors=1_000_000,
        )
        flood = loadclient.run(LOAD_BINARY, request, shape, expect_body=body)
        memory_after = tree_memory(running.pid).private_kib
    refused = flood.error_kinds.get("status", 0)
    others = flood.errors - refused
    kind = "dedicated worker" if dedicated else "one-shot"
    print(
        f"\nOverload, {kind}: {10 * calm.rps:.0f} requests/s offered for {seconds:g} s, 256 connections, max_queued_jobs = 2\n"
    )
    rows = [
        ("unloaded, 2 connections", f"{calm.rps:.0f}/s", *_percentiles(calm), "0"),
        ("10 x", f"{flood.rps:.0f}/s", *_percentiles(flood), str(refused)),
    ]
    print(report.table(("", "answered", "p50", "p99", "refused"), rows))
    print(
        f"left out: {flood.left_out}; other errors: {others}; memory {memory_before / 1024:.1f} -> {memory_after / 1024:.1f} MiB"
    )


def _percentiles(load: loadclient.Load) -> tuple[str, str]:
    if not load.n:
        return "", ""
    return report.duration(load.latency_us["p50"]), report.duration(load.latency_us["p99"])


def quiet_token(directory: Path, seconds: float) -> None:
    """Somebody who calls now and then, while somebody else calls as fast as possible."""
    place = directory / "quiet"
    place.mkdir()
    with start_own(place, dedicated=True) as running:
        status, token = call(
            Request(running.request.port, "/api/users/tokens/create", '{"label": "quiet"}', running.request.headers)
        )
        if status != 201:
            raise SystemExit(f"no token: {token!r}")
        headers = dict(running.request.headers or {}) | {"Authorization": f"Bearer {token.decode()}"}
        quiet = Request(running.request.port, running.request.path, running.request.body, headers)
        paced = Shape(connections=1, pace_us=4000, seconds=seconds, warmup_s=0.3)
        alone = loadclient.run(LOAD_BINARY, quiet, paced)
        noise = threading.Thread(
            target=lambda: loadclient.run(LOAD_BINARY, running.request, Shape(connections=32, seconds=seconds + 2))
        )
        noise.start()
        time.sleep(0.5)
        beside = loadclient.run(LOAD_BINARY, quiet, paced)
        noise.join()
    print("\nA quiet token (paced 4 ms) beside one with 32 connections that never pause\n")
    rows = [("alone", *_percentiles(alone)), ("beside the flood", *_percentiles(beside))]
    print(report.table(("", "p50", "p99"), rows))


def main(arguments: Sequence[str]) -> int:
    """Measures and prints."""
    parser = argparse.ArgumentParser(prog="overload.py", description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--seconds", type=float, default=10.0, help="length of each flood (default 10)")
    parser.add_argument("--rounds", type=int, default=3, help="rounds of the intake (default 3)")
    options = parser.parse_args(arguments)
    if not 0.5 <= options.seconds <= 120 or not 1 <= options.rounds <= 10:
        parser.error("--seconds from 0.5 to 120, --rounds from 1 to 10")
    if not LOAD_BINARY.exists():
        print("the load client is missing: make bench-setup", file=sys.stderr)
        return 1
    found = machine.describe()
    print(f"{found.cores} cores, {found.cpu}, {found.kernel}, {found.python}")
    with TemporaryDirectory(prefix="minwebhook-bench-") as temporary:
        directory = Path(temporary)
        intake(directory, min(options.seconds, 5.0), options.rounds)
        full_queue(directory)
        overload(directory, options.seconds, dedicated=False)
        overload(directory, options.seconds, dedicated=True)
        quiet_token(directory, min(options.seconds, 5.0))
    return 0


if __name__ == "__main__":
    try:
        sys.exit(main(sys.argv[1:]))
    except subprocess.SubprocessError as error:
        sys.exit(str(error))
