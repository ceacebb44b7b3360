"""Requests at fixed rates, from a few to more than each system can answer.

Latencies count from the time a request was due, so that a server that stalls is charged for all who waited meanwhile. A
system is not asked for more once it cannot keep up.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from bench import loadclient, report
from bench.systems import Running, System

RATES: Final = (10, 25, 50, 100, 200, 400, 800, 1600, 3200)
#: As many clients as a busy webhook has senders.
CONNECTIONS: Final = 32
#: A system whose p99 is above this, or that answers less than this share of the rate, does not keep up.
_HOPELESS_US: Final = 500_000.0
_KEPT_UP: Final = 0.9
_SETTLE_S: Final = 0.5


@dataclass(frozen=True, slots=True)
class Point:
    """One system at one rate; latencies in microseconds."""

    system: str
    rate: float
    n: int
    errors: int
    rps: float
    p50: float
    p90: float
    p99: float

    @property
    def keeps_up(self) -> bool:
        """Whether a higher rate is worth a try."""
        return not self.errors and self.p99 < _HOPELESS_US and self.rps >= _KEPT_UP * self.rate


def measure(
    binary: Path, systems: dict[System, Running], *, seconds: float, directory: Path, say: Callable[[str], None]
) -> list[Point]:
    """Every system at every rate that it keeps up with, and the first one that it does not."""
    points: list[Point] = []
    able = dict(systems)
    dump = directory / "latencies"
    for rate in RATES:
        say(f"open loop: {rate} requests per second")
        for system, running in list(able.items()):
            time.sleep(_SETTLE_S)
            shape = loadclient.Shape(connections=CONNECTIONS, rate=rate, seconds=seconds, warmup_s=0.3, timeout_s=3.0)
            load = loadclient.run(binary, running.request, shape, expect_body=running.expected_body, dump=dump)
            ordered = sorted(loadclient.read_dump(dump))
            if not ordered:
                del able[system]
                continue
            p50, p90, p99 = (report.percentile(ordered, permille) for permille in (500, 900, 990))
            point = Point(system.name, rate, load.n, load.errors, load.rps, p50, p90, p99)
            points.append(point)
            if not point.keeps_up:
                del able[system]
    return points


def table(points: list[Point], labels: dict[str, str]) -> str:
    """A row for each rate: p50 and p99 of each system."""
    names = [name for name in labels if any(point.system == name for point in points)]
    found = {(point.system, point.rate): point for point in points}
    rows = []
    for rate in RATES:
        cells = []
        for name in names:
            point = found.get((name, rate))
            cells.append(f"{report.duration(point.p50)} / {report.duration(point.p99)}" if point else "")
        rows.append((f"{rate}", *cells))
    return report.table(("req/s", *(labels[name] for name in names)), rows)
