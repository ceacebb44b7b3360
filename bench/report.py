"""From measured runs to tables and ratios. Pure: no input or output.

A *cell* is one system under one workload, over all rounds. Its percentiles are exact over all requests of all rounds,
so a bad round shows in the tail. Ratios are taken within each round, where both systems met the same minutes of the
machine, and the median over the rounds is reported with its range.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from statistics import median
from typing import Final, Literal

from bench.loadclient import Load

Metric = Literal["p50", "p99", "rps"]


@dataclass(frozen=True, slots=True)
class Run:
    """One measurement: one system under one workload in one round."""

    round: int
    workload: str
    system: str
    load: Load
    latencies_us: Sequence[float]

    def metric(self, name: Metric) -> float | None:
        """The number that ratios are made of; ``None`` when nothing was answered."""
        if self.load.n == 0:
            return None
        return self.load.rps if name == "rps" else self.load.latency_us.get(name)


@dataclass(frozen=True, slots=True)
class Cell:
    """One system under one workload, all rounds together; latencies in microseconds."""

    workload: str
    system: str
    n: int
    errors: int
    rps: float
    p50: float
    p90: float
    p99: float
    p999: float
    max: float
    #: Of each round alone: how far the machine's noise goes.
    p50_by_round: tuple[float, ...]


@dataclass(frozen=True, slots=True)
class RatioRule:
    """A comparison worth a line: ``metric`` of one system divided by that of another, under one workload."""

    label: str
    metric: Metric
    workload: str
    numerator: str
    denominator: str


@dataclass(frozen=True, slots=True)
class Ratio:
    """The outcome of a rule: the median over the rounds, and the range."""

    label: str
    value: float
    low: float
    high: float


def percentile(ordered: Sequence[float], permille: int) -> float:
    """Nearest rank: the smallest value that at least ``permille``/1000 of all values do not exceed.

    ``ordered`` is sorted and not empty. The load client uses the same definition.
    """
    if not ordered:
        raise ValueError("no values")
    rank = -(-len(ordered) * permille // 1000)
    return ordered[max(rank, 1) - 1]


def cells(runs: Iterable[Run]) -> list[Cell]:
    """Put the rounds together; runs without any answer make no cell of their own."""
    groups: dict[tuple[str, str], list[Run]] = {}
    for run in runs:
        groups.setdefault((run.workload, run.system), []).append(run)
    return [
        _cell(workload, system, group) for (workload, system), group in groups.items() if any(r.load.n for r in group)
    ]


def _cell(workload: str, system: str, runs: Sequence[Run]) -> Cell:
    ordered = sorted(latency for run in runs for latency in run.latencies_us)
    elapsed_s = sum(run.load.elapsed_s for run in runs)
    return Cell(
        workload=workload,
        system=system,
        n=len(ordered),
        errors=sum(run.load.errors for run in runs),
        rps=len(ordered) / elapsed_s if elapsed_s else 0.0,
        p50=percentile(ordered, 500),
        p90=percentile(ordered, 900),
        p99=percentile(ordered, 990),
        p999=percentile(ordered, 999),
        max=ordered[-1],
        p50_by_round=tuple(value for run in runs if (value := run.metric("p50")) is not None),
    )


def ratio(rule: RatioRule, runs: Sequence[Run]) -> Ratio | None:
    """Apply a rule; ``None`` when no round has both systems."""
    by_round: dict[int, dict[str, float]] = {}
    for run in runs:
        if run.workload == rule.workload and (value := run.metric(rule.metric)):
            by_round.setdefault(run.round, {})[run.system] = value
    values = [
        found[rule.numerator] / found[rule.denominator]
        for found in by_round.values()
        if rule.numerator in found and rule.denominator in found
    ]
    if not values:
        return None
    return Ratio(rule.label, median(values), min(values), max(values))


# ---- Text ------------------------------------------------------------------------------------------------------------


def duration(microseconds: float) -> str:
    """Three digits and the unit that fits: ``683 µs``, ``2.50 ms``, ``74.8 ms``."""
    if microseconds < 999.5:
        return f"{microseconds:.0f} µs"
    milliseconds = microseconds / 1000
    digits = 2 if milliseconds < 9.995 else 1 if milliseconds < 99.95 else 0
    return f"{milliseconds:.{digits}f} ms"


def table(header: Sequence[str], rows: Iterable[Sequence[str]], *, left: int = 1) -> str:
    """Aligned columns: the first ``left`` to the left, the others to the right."""
    lines = [list(header), *map(list, rows)]
    if any(len(line) != len(header) for line in lines):
        raise ValueError("every row needs as many fields as the header")
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]

    def aligned(line: Sequence[str]) -> str:
        fields = (
            field.ljust(width) if index < left else field.rjust(width)
            for index, (field, width) in enumerate(zip(line, widths, strict=True))
        )
        return "  ".join(fields).rstrip()

    return "\n".join([aligned(lines[0]), "  ".join("-" * width for width in widths), *map(aligned, lines[1:])])


HEADER: Final = ("system", "isolation", "p50", "p90", "p99", "req/s", "n", "errors", "p50 by round")


def workload_table(found: Sequence[Cell], labels: Mapping[str, str], isolation: Mapping[str, str]) -> str:
    """The systems under one workload, in the order of ``labels``."""
    by_system = {cell.system: cell for cell in found}
    rows = []
    for system, label in labels.items():
        if (cell := by_system.get(system)) is None:
            continue
        span = f"{duration(min(cell.p50_by_round))} - {duration(max(cell.p50_by_round))}"
        durations = (duration(value) for value in (cell.p50, cell.p90, cell.p99))
        counts = (f"{cell.rps:.0f}", str(cell.n), str(cell.errors))
        rows.append((label, isolation[system], *durations, *counts, span))
    return table(HEADER, rows, left=2)
