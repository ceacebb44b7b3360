"""Latency of a sync call, this server and its peers side by side.

    python bench/latency.py [--seconds S] [--rounds N] [--only NAME,NAME]

All systems run from the start to the end, and each is measured in every round, one at a time, so that a slow minute of
the machine meets all of them. The order moves on by one system per round. Numbers hold for this machine and this hour;
ratios within one run are what can be compared.

Ends with status 1 when a system did not start or gave a wrong answer, and with 2 on wrong usage; peers that are not
installed are only named.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import signal
import sys
import time
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from tempfile import TemporaryDirectory, gettempdir
from types import FrameType
from typing import Any, Final, NoReturn

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from bench import loadclient, machine, memory, openloop, plots, report
from bench.paths import LOAD_BINARY, RESULTS
from bench.systems import (
    DEDICATED,
    FASTAPI,
    ONE_SHOT,
    SYSTEMS,
    WEBHOOK_BASH,
    WEBHOOK_PYTHON,
    Running,
    StartError,
    System,
)

#: Before each measured window.
WARMUP_S: Final = 0.3
#: Between two runs, so that one does not meet the tidying up after the other.
SETTLE_S: Final = 0.3
#: Between the first right answer of the server and the reading of its memory.
MEMORY_SETTLE_S: Final = 2.0
#: Window of a run that is bounded by count.
COUNTED_SECONDS: Final = 20.0


@dataclass(frozen=True, slots=True)
class Workload:
    """How the requests come."""

    name: str
    label: str
    connections: int
    pace_us: int = 0

    def shape(self, system: System, seconds: float) -> loadclient.Shape:
        """The run of one system: by time, or by count for the slow."""
        counted = system.requests_per_run
        return loadclient.Shape(
            connections=self.connections,
            pace_us=self.pace_us,
            seconds=seconds if counted is None else COUNTED_SECONDS,
            requests=counted,
            warmup_s=WARMUP_S if counted is None else 0.0,
        )


PACED: Final = "paced-4ms"
CLOSED_1: Final = "closed-c1"
CLOSED_8: Final = "closed-c8"

WORKLOADS: Final = (
    Workload(PACED, "Paced: 1 connection, one request, then a pause of 4 ms", 1, 4_000),
    Workload("paced-20ms", "Paced: 1 connection, one request, then a pause of 20 ms", 1, 20_000),
    Workload(CLOSED_1, "Closed loop: 1 connection without a pause", 1),
    Workload(CLOSED_8, "Closed loop: 8 connections without a pause", 8),
)

RATIOS: Final = (
    report.RatioRule("p50 paced 4 ms, minwebhook one-shot / webhook > bash", "p50", PACED, ONE_SHOT, WEBHOOK_BASH),
    report.RatioRule("p50 paced 4 ms, minwebhook one-shot / FastAPI", "p50", PACED, ONE_SHOT, FASTAPI),
    report.RatioRule("p99 paced 4 ms, minwebhook one-shot / FastAPI", "p99", PACED, ONE_SHOT, FASTAPI),
    report.RatioRule("p50 closed c=1, minwebhook dedicated / FastAPI", "p50", CLOSED_1, DEDICATED, FASTAPI),
    report.RatioRule("p50 paced 4 ms, webhook > python / minwebhook one-shot", "p50", PACED, WEBHOOK_PYTHON, ONE_SHOT),
    report.RatioRule("req/s closed c=8, minwebhook dedicated / FastAPI", "rps", CLOSED_8, DEDICATED, FASTAPI),
    report.RatioRule("req/s closed c=8, minwebhook one-shot / webhook > bash", "rps", CLOSED_8, ONE_SHOT, WEBHOOK_BASH),
    report.RatioRule(
        "req/s closed c=8, minwebhook one-shot / webhook > python", "rps", CLOSED_8, ONE_SHOT, WEBHOOK_PYTHON
    ),
)


@dataclass(frozen=True, slots=True)
class Started:
    """The systems that take part, those that do not and why, and our memory before the others started."""

    systems: dict[System, Running]
    left_out: dict[str, str]
    failed: dict[str, str]
    own_memory: memory.TreeMemory | None


def start_all(systems: Sequence[System], directory: Path, stack: ExitStack) -> Started:
    """Start every system that can be; ``stack`` ends them.

    Our own comes first, and its memory is read while it is alone: the peers' Python shares pages with it.
    """
    started = Started({}, {}, {}, None)
    for system in systems:
        if reason := system.missing():
            started.left_out[system.name] = reason
            continue
        say(f"starting {system.name}")
        own_directory = directory / system.name
        own_directory.mkdir()
        try:
            running = stack.enter_context(system.start(own_directory))
        except StartError as error:
            started.failed[system.name] = str(error)
            say(f"{system.name} did not start: {error}")
            continue
        started.systems[system] = running
        if system.name == ONE_SHOT:
            time.sleep(MEMORY_SETTLE_S)
            started = dataclasses.replace(started, own_memory=memory.tree_memory(running.pid))
    return started


def measure_all(systems: dict[System, Running], *, rounds: int, seconds: float, directory: Path) -> list[report.Run]:
    """Every system under every workload in every round."""
    runs = []
    order = list(systems)
    dump = directory / "latencies"
    for number in range(1, rounds + 1):
        for workload in WORKLOADS:
            say(f"round {number} of {rounds}: {workload.name}")
            for system in order:
                time.sleep(SETTLE_S)
                running = systems[system]
                shape = workload.shape(system, seconds)
                load = loadclient.run(LOAD_BINARY, running.request, shape, expect_body=running.expected_body, dump=dump)
                if load.errors:
                    say(f"{system.name}, {workload.name}: {load.errors} errors, the first: {load.first_error}")
                runs.append(report.Run(number, workload.name, system.name, load, loadclient.read_dump(dump)))
        order.append(order.pop(0))
    return runs


# ---- Output ----------------------------------------------------------------------------------------------------------


def say(text: str) -> None:
    """A line on the progress; results go to stdout."""
    print(text, file=sys.stderr, flush=True)


def print_results(runs: Sequence[report.Run], started: Started, facts: dict[str, Any]) -> None:
    """Everything for a reader."""
    cells = report.cells(runs)
    labels = {system.name: system.label for system in SYSTEMS}
    isolation = {system.name: system.isolation for system in SYSTEMS}
    for workload in WORKLOADS:
        of_workload = [cell for cell in cells if cell.workload == workload.name]
        if of_workload:
            print(f"\n{workload.label}\n\n{report.workload_table(of_workload, labels, isolation)}")

    ratios = [ratio for rule in RATIOS if (ratio := report.ratio(rule, runs))]
    if ratios:
        print("\nRatios within a round: median over the rounds, and range\n")
        rows = [(ratio.label, f"{ratio.value:.2f}", f"{ratio.low:.2f} - {ratio.high:.2f}") for ratio in ratios]
        print(report.table(("ratio", "median", "range"), rows))

    if started.own_memory is not None:
        print_memory(started.own_memory)

    print()
    for reasons, what in ((started.left_out, "left out"), (started.failed, "did not start")):
        for name, reason in reasons.items():
            print(f"{what}: {name}: {reason}")
    host = facts["machine"]
    virtual = ", virtual" if host["is_virtual"] else ""
    print(f"machine: {host['cpu']}, {host['cores']} cores, {host['memory_gib']} GiB{virtual}")
    print(f"system: {host['distribution']}, {host['kernel']}, {host['python']}, data on {facts['data_on']}")
    for title, key in (("this server", "own_versions"), ("peers", "peer_versions")):
        print(f"{title}: {', '.join(f'{name} {version}' for name, version in facts[key].items())}")
    before, after = (" ".join(f"{value:.2f}" for value in facts[key]) for key in ("load_before", "load_after"))
    print(f"load average before: {before}; after: {after}; time stolen by the host: {facts['stolen_percent']:.1f} %")


def print_memory(found: memory.TreeMemory) -> None:
    """Our server's processes, one line each, and their sum."""

    def mib(kib: int | None) -> str:
        return "unreadable" if kib is None else f"{kib / 1024:.1f}"

    print("\nIdle memory of minwebhook with its zygotes and waiting children, MiB\n")
    rows = [
        (str(process.pid), process.command[:60], mib(process.pss_kib), mib(process.private_kib), mib(process.rss_kib))
        for process in found.processes
    ]
    rows.append(("", f"together, {len(rows)} processes", mib(found.pss_kib), mib(found.private_kib), ""))
    print(report.table(("pid", "command", "PSS", "private", "RSS"), rows, left=2))
    if found.unreadable:
        print(f"the memory of {found.unreadable} processes could not be read and is missing in the sums")


def result_document(
    runs: Sequence[report.Run], points: Sequence[openloop.Point], started: Started, facts: dict[str, Any]
) -> dict[str, Any]:
    """Everything for a program. Latencies in microseconds, memory in KiB."""
    plain_runs = [
        {"round": run.round, "workload": run.workload, "system": run.system} | dataclasses.asdict(run.load)
        for run in runs
    ]
    own = started.own_memory
    return facts | {
        "format": 1,
        "systems": {system.name: {"label": system.label, "isolation": system.isolation} for system in started.systems},
        "left_out": started.left_out,
        "failed": started.failed,
        "workloads": [dataclasses.asdict(workload) for workload in WORKLOADS],
        "cells": [dataclasses.asdict(cell) for cell in report.cells(runs)],
        "ratios": [dataclasses.asdict(found) for rule in RATIOS if (found := report.ratio(rule, runs))],
        "runs": plain_runs,
        "open_loop": [dataclasses.asdict(point) for point in points],
        "paced_latencies_us": paced_latencies(runs),
        "memory": None if own is None else {"pss_kib": own.pss_kib} | dataclasses.asdict(own),
    }


def paced_latencies(runs: Sequence[report.Run]) -> dict[str, list[float]]:
    """Every latency of the paced calls in microseconds, by system."""
    found: dict[str, list[float]] = {}
    for run in runs:
        if run.workload == PACED:
            found.setdefault(run.system, []).extend(run.latencies_us)
    return found


# ---- Command line ----------------------------------------------------------------------------------------------------


def parse_arguments(arguments: Sequence[str]) -> argparse.Namespace:
    """The options; ends with status 2 when they are wrong."""
    names = [system.name for system in SYSTEMS]
    parser = argparse.ArgumentParser(prog="latency.py", description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--seconds", type=float, default=2.0, help="window of each run (default 2)")
    parser.add_argument("--rounds", type=int, default=3, help="rounds (default 3)")
    parser.add_argument("--no-open-loop", action="store_true", help="leave out the requests at fixed rates")
    parser.add_argument("--only", default="", help=f"systems, separated by commas: {', '.join(names)}")
    parser.add_argument("--output", type=Path, default=RESULTS / "latest.json", help="where the JSON goes")
    options = parser.parse_args(arguments)
    if not 0.1 <= options.seconds <= 60:
        parser.error("--seconds: from 0.1 to 60")
    if not 1 <= options.rounds <= 20:
        parser.error("--rounds: from 1 to 20")
    options.only = [name.strip() for name in options.only.split(",") if name.strip()] or names
    if unknown := sorted(set(options.only) - set(names)):
        parser.error(f"--only: unknown {', '.join(unknown)}; known are {', '.join(names)}")
    return options


def _end_on_signal(number: int, _frame: FrameType | None) -> NoReturn:
    """Leave through the ``finally`` blocks that end the servers."""
    sys.exit(128 + number)


def main(arguments: Sequence[str]) -> int:
    """Measure, print, write the JSON."""
    options = parse_arguments(arguments)
    if not LOAD_BINARY.exists():
        say("the load client is missing: run bench/setup_peers.py first (make bench-setup)")
        return 1
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, _end_on_signal)
    facts: dict[str, Any] = {
        "started_at": datetime.now(UTC).isoformat(timespec="seconds"),
        "options": {"seconds": options.seconds, "rounds": options.rounds, "only": options.only},
        "machine": dataclasses.asdict(machine.describe()),
        "own_versions": machine.own_versions(),
        "peer_versions": machine.peer_versions(),
        "data_on": machine.filesystem(Path(gettempdir()).resolve(), Path("/proc/self/mounts").read_text()),
        "load_before": machine.load_average(),
    }
    cpu_before = machine.cpu_times()
    chosen = [system for system in SYSTEMS if system.name in options.only]
    with TemporaryDirectory(prefix="minwebhook-bench-") as temporary, ExitStack() as stack:
        directory = Path(temporary)
        started = start_all(chosen, directory, stack)
        runs = measure_all(started.systems, rounds=options.rounds, seconds=options.seconds, directory=directory)
        points = []
        if not options.no_open_loop:
            points = openloop.measure(
                LOAD_BINARY, started.systems, seconds=options.seconds, directory=directory, say=say
            )
    facts["load_after"] = machine.load_average()
    facts["stolen_percent"] = machine.stolen_percent(cpu_before, machine.cpu_times())

    print_results(runs, started, facts)
    if points:
        print("\nOpen loop: requests at fixed times on 32 connections, latency from the intended start; p50 / p99")
        print(openloop.table(points, {system.name: system.label for system in started.systems}))
    options.output.parent.mkdir(parents=True, exist_ok=True)
    document = result_document(runs, points, started, facts)
    options.output.write_text(json.dumps(document) + "\n")
    say(f"written: {options.output}")
    try:
        for path in plots.draw_all(document, document["paced_latencies_us"], options.output.parent):
            say(f"written: {path}")
    except plots.NoPlots as error:
        say(f"no plots: {error}")
    return 1 if started.failed or any(run.load.errors for run in runs) else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
